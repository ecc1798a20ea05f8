# SPDX-License-Identifier: MPL-2.0
"""zlogin: a command in a zone. Shutting down is understood, and curl; anything else succeeds without a word
(docs/platform.md, "The little tools").

zlogin [options] ZONE [command ...]

With -C the answer is where the zone's console is: the tool itself goes there (tools/zlogin.py)."""

import getopt
import os
import shlex
from typing import Optional

from mockcn.commands.output import CommandFailed, Output
from mockcn.commands.zones.curl import curl
from mockcn.life import guest
from mockcn.node import Node

USAGE = "usage: zlogin [ -nQCES ] [ -e cmdchar ] [-l user] zonename [command [args ...] ]"
HALTS = ("halt", "poweroff")
DOWN_LEVELS, REBOOT_LEVELS = ("0", "5"), ("6",)


def main(node: Node, words: list[str], output: Output) -> int:
    try:
        options, rest = getopt.getopt(words, "nNEQSCdie:l:")
    except getopt.GetoptError as err:
        raise CommandFailed(f"zlogin: {err}\n{USAGE}", 2) from err
    if not rest:
        raise CommandFailed(USAGE, 2)
    with node.lock:
        zone = node.zones.zones.get(rest[0])
        if zone is None:
            raise CommandFailed(f"zlogin: zone '{rest[0]}' unknown")
        if zone.kernel is None or zone.kernel.state != "running":
            raise CommandFailed(f"zlogin: login allowed only to running zones ({zone.name} is '{zone.shown_state}').")
    if ("-C", "") in options:
        output.line(node.consoles.zone_console(zone))
        return 0
    command = shlex.split(" ".join(rest[1:]))  # a shell in the zone reads them
    if command and os.path.basename(command[0]) == "curl":
        return curl(command[1:], output)
    again = _boots_again(rest[1:])
    if again is not None:
        guest.ask_to_stop(node, zone, again=again)
    return 0


def _boots_again(command: list[str]) -> Optional[bool]:
    """Whether a command takes the zone down for good (False) or for a reboot (True); None: neither."""
    # A command can come as one word with blanks, or as words.
    words = " ".join(command).split()
    if not words:
        return None
    program = os.path.basename(words[0])
    if program in HALTS:
        return False
    if program == "reboot":
        return True
    level = ""
    if program == "init":
        level = words[1] if len(words) > 1 else ""
    elif program == "shutdown":
        if "-h" in words:
            return False
        if "-r" in words:
            return True
        for place, word in enumerate(words):
            if word.startswith("-i"):
                level = word[2:] or "".join(words[place + 1 : place + 2])
    return False if level in DOWN_LEVELS else True if level in REBOOT_LEVELS else None
