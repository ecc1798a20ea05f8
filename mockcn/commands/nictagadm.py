# SPDX-License-Identifier: MPL-2.0
"""nictagadm: `add`, `update`, `delete`, `list` and `exists` of the node's NIC tags.

A tag is a name for the network card with a MAC address; an etherstub (-l) is a switch without a card. Overlay tags such
as `sdc_overlay/1234` are there if what stands before the slash is."""

import getopt
import re

from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node

USAGE = """Usage:
\tnictagadm add [-p prop=value,...] <name> [mac]
\tnictagadm add -l <name>
\tnictagadm update -p prop=value,... <name>
\tnictagadm delete [-f] <name>
\tnictagadm exists [-l] <name> ...
\tnictagadm list [-l | -L] [-p] [-d delimiter]"""
NAME = re.compile(r"[A-Za-z0-9_]{1,31}")
MAC = re.compile(r"[0-9a-fA-F]{1,2}(?::[0-9a-fA-F]{1,2}){5}")
NORMAL, STUB = "normal", "etherstub"


def main(node: Node, words: list[str], output: Output) -> int:
    if not words:
        raise CommandFailed(USAGE, 2)
    try:
        options, rest = getopt.getopt(words[1:], "lLvfd:p:" if words[0] in ("add", "update") else "pLlvfd:")
    except getopt.GetoptError as err:
        raise CommandFailed(f"nictagadm: {err}\n{USAGE}", 2) from err
    given = dict(options)
    with node.lock:
        if words[0] == "list" and not rest:
            return _list(node, given, output)
        if words[0] == "exists" and rest:
            return _exists(node, given, rest, output)
        if words[0] == "add" and rest:
            return _add(node, given, rest)
        if words[0] == "update" and len(rest) == 1:
            return _update(node, given, rest[0])
        if words[0] == "delete" and len(rest) == 1:
            return _delete(node, given, rest[0])
    raise CommandFailed(USAGE, 2)


def _list(node: Node, given: dict[str, str], output: Output) -> int:
    if "-p" not in given:
        output.line(f"{'NAME':<14} {'MACADDRESS':<18} {'LINK':<14} TYPE")
    for tag in node.nic_tags:
        if ("-l" in given and tag[3] != STUB) or ("-L" in given and tag[3] == STUB):
            continue
        output.line(
            given.get("-d", ":").join(tag) if "-p" in given else f"{tag[0]:<14} {tag[1]:<18} {tag[2]:<14} {tag[3]}"
        )
    return 0


def _exists(node: Node, given: dict[str, str], names: list[str], output: Output) -> int:
    known = {tag[0] for tag in node.nic_tags}
    missing = [name for name in names if name.split("/")[0] not in known]
    for name in missing if "-l" in given else ():
        output.error(name)
    return 1 if missing else 0


def _add(node: Node, given: dict[str, str], rest: list[str]) -> int:
    name = rest[0]
    if NAME.fullmatch(name) is None:
        raise CommandFailed("nictagadm: nic tag name must be 31 characters or less, of letters, digits and '_'", 2)
    if name in [tag[0] for tag in node.nic_tags]:
        raise CommandFailed(f"nictagadm: nic tag '{name}' already exists")
    if "-l" in given:
        node.nic_tags.append([name, "-", "-", STUB])
        return 0
    mac = _properties(given).get("mac") or (rest[1] if len(rest) > 1 else "")
    node.nic_tags.append([name, *_card(node, mac)])
    return 0


def _update(node: Node, given: dict[str, str], name: str) -> int:
    tag = _known(node, name)
    mac = _properties(given).get("mac")
    if mac:
        tag[1:] = _card(node, mac)
    return 0


def _delete(node: Node, given: dict[str, str], name: str) -> int:
    tag = _known(node, name)
    users = [
        zone.name
        for zone in node.zones.zones.values()
        if zone.is_vm and _uses(node, zone.xml_path, name) and "-f" not in given
    ]
    if users:
        raise CommandFailed(
            f"nictagadm: nic tag '{name}' is in use by VMs:\n" + "\n".join(f"    {user}" for user in users)
        )
    node.nic_tags.remove(tag)
    return 0


def _known(node: Node, name: str) -> list[str]:
    for tag in node.nic_tags:
        if tag[0] == name:
            return tag
    raise CommandFailed(f"nictagadm: nic tag '{name}' does not exist")


def _card(node: Node, mac: str) -> list[str]:
    """MAC, link and type of the card; one that is not known yet is the node's next."""
    if not mac:
        raise CommandFailed(USAGE, 2)
    if MAC.fullmatch(mac) is None:
        raise CommandFailed(f"nictagadm: MAC address '{mac}' is invalid")
    mac = ":".join(part.zfill(2) for part in mac.lower().split(":"))
    for tag in node.nic_tags:
        if tag[1] == mac:
            return [mac, tag[2], NORMAL]
    return [mac, f"e1000g{len({tag[2] for tag in node.nic_tags if tag[3] == NORMAL})}", NORMAL]


def _properties(given: dict[str, str]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in given.get("-p", "").split(",") if "=" in pair)


def _uses(node: Node, path: str, name: str) -> bool:
    try:
        with open(node.real(path), encoding="utf-8", errors="replace") as file:
            return f'global-nic="{name}"' in file.read()
    except OSError:
        return False
