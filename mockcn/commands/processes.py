# SPDX-License-Identifier: MPL-2.0
"""kill, pwait and ptree, which on this node know one process of each zone: its init; and bhyvectl.

Pids of the node are numbers of its own, not processes of the machine it runs on."""

import signal

from mockcn.commands.output import CommandFailed, Output
from mockcn.life import guest
from mockcn.node import Node

LOOK_EVERY = 0.02  # seconds between looks whether a process has ended
NUMBERS = {**{name[3:]: int(number) for name, number in signal.Signals.__members__.items()}, "0": 0}


def kill(node: Node, words: list[str], output: Output) -> int:
    """`kill [-s SIGNAL | -SIGNAL] PID ...`; SIGTERM if none is given."""
    name, rest = "TERM", list(words)
    if rest[:1] == ["-s"] and len(rest) > 1:
        name, rest = rest[1], rest[2:]
    elif rest and rest[0].startswith("-") and rest[0] != "--":
        name, rest = rest[0][1:], rest[1:]
    name = name.upper().removeprefix("SIG")
    number = int(name) if name.isdigit() else NUMBERS.get(name)
    rest = [word for word in rest if word != "--"]
    if number is None or not rest:
        why = f"kill: {name}: bad signal\n" if number is None else ""
        raise CommandFailed(f"{why}usage: kill [ [ -sig ] id ... | -l ]", 2)
    status = 0
    for word in rest:
        zone = guest.with_init(node, int(word)) if word.isdigit() else None
        if zone is None:
            output.error(f"kill: {word}: no such process")
            status = 1
        else:
            guest.signalled(node, zone, number)
    return status


def pwait(node: Node, words: list[str], output: Output) -> int:
    """Wait until all of the processes have ended."""
    pids = [word for word in words if not word.startswith("-")]
    if not pids:
        raise CommandFailed("usage: pwait [-v] pid ...", 2)
    for word in pids:
        if not word.isdigit() or guest.with_init(node, int(word)) is None:
            output.error(f"pwait: no such process: {word}")
            continue
        while guest.with_init(node, int(word)) is not None and not output.gone.wait(LOOK_EVERY):
            pass
    return 0


def bhyvectl(node: Node, words: list[str], output: Output) -> int:
    """`bhyvectl --vm=SYSbhyve-ZONEDID --inject-nmi`"""
    given = dict(word.partition("=")[::2] for word in words)
    name = given.get("--vm", "")
    if not name or "--inject-nmi" not in given:
        raise CommandFailed("Usage: bhyvectl --vm=<vmname> [--inject-nmi]")
    with node.lock:
        zone = next(
            (
                zone
                for zone in node.zones.zones.values()
                if zone.brand == "bhyve" and name == f"SYSbhyve-{zone.debugid}" and zone.kernel is not None
            ),
            None,
        )
    if zone is None:
        raise CommandFailed("VM:" + name + " is not created.")
    guest.got_nmi(node, zone)
    return 0


def ptree(node: Node, words: list[str], output: Output) -> int:
    """The init of a zone, found by -z ZONE or by pid."""
    zones = []
    with node.lock:
        if words[:1] == ["-z"] and len(words) > 1:
            zones = [zone for zone in node.zones.zones.values() if zone.name == words[1] and zone.kernel]
    zones += [zone for word in words if word.isdigit() for zone in [guest.with_init(node, int(word))] if zone]
    for zone in zones:
        if zone.kernel is not None and zone.kernel.init_pid > 0:
            output.line(f"{zone.kernel.init_pid:<5}  /sbin/init")
    return 0
