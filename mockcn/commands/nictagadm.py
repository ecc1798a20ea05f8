# SPDX-License-Identifier: MPL-2.0
"""nictagadm: `list` and `exists` of the node's NIC tags (docs/platform.md, "The little tools").

Overlay tags such as `sdc_overlay/1234` are there if what stands before the slash is."""

import getopt

from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node

USAGE = "Usage:\n\tnictagadm list [-p] [-d delimiter]\n\tnictagadm exists [-l] <name> ..."


def main(node: Node, words: list[str], output: Output) -> int:
    if not words:
        raise CommandFailed(USAGE, 2)
    try:
        options, rest = getopt.getopt(words[1:], "pLlvd:")
    except getopt.GetoptError as err:
        raise CommandFailed(f"nictagadm: {err}\n{USAGE}", 2) from err
    given = dict(options)
    if words[0] == "list":
        if "-p" not in given:
            output.line(f"{'NAME':<14} {'MACADDRESS':<18} {'LINK':<14} TYPE")
        for tag in node.nic_tags:
            output.line(
                given.get("-d", ":").join(tag) if "-p" in given else f"{tag[0]:<14} {tag[1]:<18} {tag[2]:<14} {tag[3]}"
            )
        return 0
    if words[0] != "exists" or not rest:
        raise CommandFailed(USAGE, 2)
    known = {tag[0] for tag in node.nic_tags}
    missing = [name for name in rest if name.split("/")[0] not in known]
    for name in missing if "-l" in given else ():
        output.error(name)
    return 1 if missing else 0
