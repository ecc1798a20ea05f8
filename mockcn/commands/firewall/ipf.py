# SPDX-License-Identifier: MPL-2.0
"""ipf and ipfstat: the packet filter of a running zone.

ipf -G -E -I -Fa -f FILE [-6 -Fa -f FILE6] [-sy] ZONE    switch it on, with the lines of the files
ipf -GD ZONE                                             switch it off
ipfstat -io -G ZONE                                      its lines; `filter is off` if it is"""

import getopt

from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node
from mockcn.state.zones import Kernel

LETTERS = "6AdDEf:F:GIl:noPrRsT:vVyzZ"


def ipf(node: Node, words: list[str], output: Output) -> int:
    given, rest = _parsed("ipf", words, LETTERS)
    with node.lock:
        kernel = _running(node, rest)
        files = [value for letter, value in given if letter == "-f"]
        if ("-D", "") in given:
            kernel.filter = None
            return 0
        lines: list[str] = [] if ("-F", "a") in given else list(kernel.filter or [])
        for path in files[:1]:  # the other one is for IPv6, of which the mock has no addresses
            try:
                with open(node.real(path), encoding="utf-8") as file:
                    lines += [line for line in file.read().splitlines() if line and not line.startswith("#")]
            except OSError as err:
                raise CommandFailed(f"open file {path}: {err.strerror}") from err
        if ("-E", "") in given or kernel.filter is not None:
            kernel.filter = lines
    return 0


def ipfstat(node: Node, words: list[str], output: Output) -> int:
    _, rest = _parsed("ipfstat", words, "6aGhiIlnovz")
    with node.lock:
        kernel = _running(node, rest)
        lines = list(kernel.filter) if kernel.filter is not None else ["filter is off"]
    for line in lines:
        output.line(line)
    return 0


def _parsed(tool: str, words: list[str], letters: str) -> tuple[list[tuple[str, str]], list[str]]:
    try:
        return getopt.getopt(words, letters)
    except getopt.GetoptError as err:
        raise CommandFailed(f"{tool}: {err}") from err


def _running(node: Node, rest: list[str]) -> Kernel:
    name = rest[0] if rest else ""
    zone = node.zones.zones.get(name)
    if zone is None or zone.kernel is None:
        raise CommandFailed(f"Could not find running zone: {name}")
    return zone.kernel
