# SPDX-License-Identifier: MPL-2.0
"""zonecfg: which zone, where the script comes from, and the exit status (docs/platform.md, "zonecfg").

    zonecfg -z ZONE [words of one line]     zonecfg -u UUID ...     zonecfg -z ZONE -f FILE

Without words and file the script is standard input. Steps for faults: `commit` before the XML is replaced, `delete`
before it is removed."""

import getopt
import re

from mockcn.commands.output import CommandFailed, Output
from mockcn.commands.zones.zonecfg_session import Session
from mockcn.commands.zones.zonecfg_words import BadStatement, read, split
from mockcn.node import Node
from mockcn.state.zones import looks_like_uuid

USAGE = """usage:\tzonecfg help
\tzonecfg -z <zone>\t\t(interactive, or a script on standard input)
\tzonecfg {-z <zone>|-u <uuid>} <command>
\tzonecfg {-z <zone>|-u <uuid>} -f <command-file>"""
ZONE_NAME = re.compile(r"[a-zA-Z0-9][-_.a-zA-Z0-9]{0,62}")


def main(node: Node, words: list[str], output: Output) -> int:
    try:
        options, rest = getopt.getopt(words, "z:u:f:R:r")
    except getopt.GetoptError as err:
        raise CommandFailed(f"zonecfg: {err}\n{USAGE}", 2) from err
    given = dict(options)
    if rest == ["help"] or (not given and not rest):
        output.error(USAGE)
        return 0 if rest else 2
    session = Session(node, _chosen(node, given), output)
    for text in split(_script(given, rest, output)):
        try:
            session.carry_out(read(text))
        except BadStatement as err:
            session.failed = True
            output.error(str(err))
        if session.over:
            break
    left = session.unfinished()
    if left is not None:
        session.failed = True
        output.error(f"The resource {left} was not ended; it is left out.")
    try:
        session.close()
    except BadStatement as err:
        session.failed = True
        output.error(str(err))
    return 1 if session.failed else 0


def _script(given: dict[str, str], rest: list[str], output: Output) -> str:
    if rest:
        return " ".join(rest)
    if given.get("-f", "-") == "-":
        return output.input()
    try:
        with open(given["-f"], encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as err:
        raise CommandFailed(f"could not open file {given['-f']}: {err.strerror}") from err


def _chosen(node: Node, given: dict[str, str]) -> str:
    """The name of the zone that -z or -u mean; -z may name one that is not there yet."""
    if "-u" in given:
        with node.lock:
            zone = node.zones.by_uuid(given["-u"])
        if zone is None or not looks_like_uuid(given["-u"]):
            raise CommandFailed(f"zonecfg: {given['-u']}: No such zone configured\n{USAGE}", 2)
        return zone.name
    if "-z" not in given:
        raise CommandFailed(USAGE, 2)
    if not ZONE_NAME.fullmatch(given["-z"]):
        raise CommandFailed(f"{given['-z']}: Bogus zone name\n{USAGE}", 2)
    return given["-z"]
