# SPDX-License-Identifier: MPL-2.0
"""dladm: the links of zones in the kernel, and what is set on them (docs/platform.md, "Link properties").

    show-vnic -z ZONE -o link -p                        names, one a line
    set-linkprop -t -z ZONE -p NAME=VALUE[,...] LINK    reset-linkprop -t -z ZONE -p NAME LINK
    show-linkprop -z ZONE -c -o value -p NAME LINK      what was set last; empty if nothing was

A zone has a link for each of its NICs while it is in the kernel; with it goes what was set."""

import getopt

from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node
from mockcn.state import zonexml
from mockcn.state.zones import Kernel, Zone

SETS = ("set-linkprop", "reset-linkprop")
SHOWS = ("show-vnic", "show-linkprop")


def main(node: Node, words: list[str], output: Output) -> int:
    """Other subcommands succeed without a word."""
    subcommand, rest = (words[0], words[1:]) if words else ("", [])
    if subcommand not in (*SETS, *SHOWS):
        return 0
    try:
        options, names = getopt.getopt(rest, "tz:p:" if subcommand in SETS else _letters(subcommand))
    except getopt.GetoptError as err:
        raise CommandFailed(f"dladm: invalid option '-{err.opt}'") from err
    given = dict(options)
    with node.lock:
        zone = node.zones.zones.get(given.get("-z", ""))
        if zone is None or zone.kernel is None:
            raise CommandFailed(f"dladm: invalid zone '{given.get('-z', '')}'")
        links = _links(node, zone)
        if subcommand == "show-vnic":
            for link in links:
                output.line(link)
            return 0
        if len(names) != 1 or names[0] not in links:
            raise CommandFailed(f"dladm: invalid link '{' '.join(names)}': object not found")
        _property(zone.kernel, subcommand, names[0], given.get("-p", ""), output)
    return 0


def _letters(subcommand: str) -> str:
    return "z:o:p" if subcommand == "show-vnic" else "cz:o:p:"


def _links(node: Node, zone: Zone) -> list[str]:
    try:
        element = zonexml.parse(node.zones.read_xml(zone))
    except (OSError, zonexml.NotXml):
        return []
    return [network.get("physical", "") for network in element.findall("network")]


def _property(kernel: Kernel, subcommand: str, link: str, setting: str, output: Output) -> None:
    name, equals, value = setting.partition("=")
    if subcommand == "show-linkprop":
        output.line(kernel.links.get((link, name), ""))
    elif subcommand == "set-linkprop" and equals:
        kernel.links[link, name] = value
    elif subcommand == "reset-linkprop" and not equals:
        kernel.links.pop((link, name), None)
    else:
        raise CommandFailed("dladm: link property must be specified")
