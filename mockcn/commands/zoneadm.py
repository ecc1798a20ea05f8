# SPDX-License-Identifier: MPL-2.0
"""zoneadm: `list` in all its forms, and the few subcommands that change what the kernel runs.

Options and texts: spec/platform.md 1. Not here: install, uninstall, attach, detach."""

import getopt
from typing import Iterable, Optional

from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node
from mockcn.state.zones import NoZone, Zone, ZoneError

USAGE = """usage:\tzoneadm help
\tzoneadm [-z <zone>] [-u <uuid-match>] list [list options]
\tzoneadm {-z <zone>|-u <uuid-match>} <boot|halt|ready|reboot>"""
GLOBAL = ("0", "global", "running", "/", "", "liveimg", "shared", "0")


def main(node: Node, words: list[str], output: Output) -> int:
    try:
        options, rest = getopt.getopt(words, "z:u:R:")
    except getopt.GetoptError as err:
        raise CommandFailed(f"zoneadm: {err}\n{USAGE}", 2) from err
    given = dict(options)
    name, uuid = given.get("-z"), given.get("-u")
    if not rest or rest[0] == "help":
        output.error(USAGE)
        return 0 if rest else 2
    if rest[0] == "list":
        return _list(node, name, uuid, rest[1:], output)
    return _change(node, _chosen(node, name, uuid), rest[0], rest[1:], output)


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
    return (str(zone.kernel.zoneid) if zone.kernel else "-", zone.name, zone.shown_state,
            zone.zonepath.replace(":", "\\:"), zone.uuid, zone.brand, "shared" if zone.shared_ip else "excl",
            "" if zone.debugid is None else str(zone.debugid))


def _table_row(zoneid: str, name: str, state: str, path: str, brand: str, ip: str) -> str:
    return f"{zoneid:>4} {name:<16} {state:<10} {path:<30} {brand:<8} {ip:<6}".rstrip()


def _change(node: Node, zone: Zone, subcommand: str, words: list[str], output: Output) -> int:
    zones = node.zones
    try:
        with node.lock:
            if subcommand == "boot":
                steps = zones.boot_steps(zone)
            elif subcommand == "ready":
                steps = zones.ready_steps(zone)
            elif subcommand == "halt" and zone.kernel is None:
                output.error(f"zoneadm: zone '{zone.name}': zone is already halted")
                return 0
            elif subcommand == "halt":
                steps = zones.halt_steps(zone)
            elif subcommand == "reboot" and zone.kernel is None:
                raise ZoneError(f"zoneadm: zone '{zone.name}': not running")
            elif subcommand == "reboot":
                steps = zones.halt_steps(zone)
            else:
                raise CommandFailed(f"zoneadm: {subcommand}: unknown subcommand\n{USAGE}", 2)
        node.walk(steps)
        if subcommand == "reboot":
            node.walk(zones.boot_steps(zone))
    except ZoneError as err:
        raise CommandFailed(str(err)) from err
    return 0
