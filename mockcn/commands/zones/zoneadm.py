# SPDX-License-Identifier: MPL-2.0
"""zoneadm: which zone and which subcommand, and `list` in all its forms (docs/platform.md, "zoneadm list").

Not here: the subcommands that change a zone (zoneadm_change.py)."""

import getopt
from typing import Iterable, Optional

from mockcn.commands.output import CommandFailed, Output
from mockcn.commands.zones import zoneadm_change
from mockcn.node import Node
from mockcn.state.zones import NoZone, Zone

USAGE = """usage:\tzoneadm help
\tzoneadm [-z <zone>] [-u <uuid-match>] list [list options]
\tzoneadm {-z <zone>|-u <uuid-match>} <subcommand>, one of
\t    attach boot detach halt install ready reboot shutdown uninstall"""
GLOBAL = ("0", "global", "running", "/", "", "liveimg", "shared", "0")


def main(node: Node, words: list[str], output: Output) -> int:
    try:
        options, rest = getopt.getopt(words, "z:u:R:X")
    except getopt.GetoptError as err:
        raise CommandFailed(f"zoneadm: {err}\n{USAGE}", 2) from err
    given = dict(options)
    name, uuid = given.get("-z"), given.get("-u")
    if not rest or rest[0] == "help":
        output.error(USAGE)
        return 0 if rest else 2
    if rest[0] == "list":
        return _list(node, name, uuid, rest[1:], output)
    if rest[0] not in zoneadm_change.SUBCOMMANDS:
        raise CommandFailed(f"zoneadm: {rest[0]}: unknown subcommand\n{USAGE}", 2)
    return zoneadm_change.change(node, _chosen(node, name, uuid), rest[0], rest[1:], output)


def _chosen(node: Node, name: Optional[str], uuid: Optional[str]) -> Zone:
    """The zone meant by -z and -u: a matching uuid wins over the name."""
    with node.lock:
        zone = node.zones.by_uuid(uuid) if uuid else None
        if zone is not None:
            return zone
        if name is None:
            raise CommandFailed("zoneadm: no zone specified")
        try:
            return node.zones.named(name)
        except NoZone as err:
            raise CommandFailed(str(err)) from err


def _list(node: Node, name: Optional[str], uuid: Optional[str], words: list[str], output: Output) -> int:
    try:
        options, rest = getopt.getopt(words, "cipnvs:")
    except getopt.GetoptError as err:
        raise CommandFailed(f"zoneadm: {err}\n{USAGE}", 2) from err
    flags = {flag for flag, _ in options}
    if rest or ("-p" in flags and "-v" in flags):
        raise CommandFailed(USAGE, 2)
    rows: list[tuple[str, ...]] = []
    with node.lock:
        if name is not None or uuid is not None:
            if flags & {"-c", "-i"}:
                raise CommandFailed("zoneadm: -c and -i cannot be used with a zone", 2)
            rows = [GLOBAL] if name == "global" and not uuid else [_row(_chosen(node, name, uuid))]
        else:
            if "-n" not in flags:
                rows.append(GLOBAL)
            rows += [_row(zone) for zone in _in_order(node) if _wanted(zone, flags)]
    if "-p" in flags:
        for row in rows:
            output.line(":".join(row))
    elif "-v" in flags:
        output.line(_table_row("ID", "NAME", "STATUS", "PATH", "BRAND", "IP"))
        for zoneid, zone, state, path, _, brand, ip, _ in rows:
            output.line(_table_row(zoneid, zone, state, path, brand, ip))
    else:
        for row in rows:
            output.line(row[1])
    return 0


def _in_order(node: Node) -> Iterable[Zone]:
    """Zones in the kernel by their zoneid, then the others as the index has them."""
    zones = list(node.zones.zones.values())
    yield from sorted((zone for zone in zones if zone.kernel), key=Zone.by_zoneid)
    yield from (zone for zone in zones if not zone.kernel)


def _wanted(zone: Zone, flags: set[str]) -> bool:
    if "-c" in flags:
        return True
    if "-i" in flags:
        return zone.state == "installed"
    return zone.kernel is not None and zone.kernel.state == "running"


def _row(zone: Zone) -> tuple[str, ...]:
    return (
        str(zone.kernel.zoneid) if zone.kernel else "-",
        zone.name,
        zone.shown_state,
        zone.zonepath.replace(":", "\\:"),
        zone.uuid,
        zone.brand,
        "shared" if zone.shared_ip else "excl",
        "" if zone.debugid is None else str(zone.debugid),
    )


def _table_row(zoneid: str, name: str, state: str, path: str, brand: str, ip: str) -> str:
    return f"{zoneid:>4} {name:<16} {state:<10} {path:<30} {brand:<8} {ip:<6}".rstrip()
