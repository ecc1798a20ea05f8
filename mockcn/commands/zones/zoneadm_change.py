# SPDX-License-Identifier: MPL-2.0
"""zoneadm's subcommands that change a zone's state: their options, and what they say (docs/platform.md, "zoneadm that
changes").

Installing and uninstalling is the work of zoneadm itself, so a tool that is killed leaves it half done. Booting and
halting is done by the zone's zoneadmd, which goes on without its caller."""

import getopt
from typing import Callable

from mockcn.commands.output import CommandFailed, Output
from mockcn.life import guest, installing, transitions
from mockcn.node import Node
from mockcn.state.pools import ZfsError
from mockcn.state.zones import Zone, ZoneError

USAGE = "usage:\tzoneadm {-z <zone>|-u <uuid-match>} "


def change(node: Node, zone: Zone, subcommand: str, words: list[str], output: Output) -> int:
    try:
        return SUBCOMMANDS[subcommand](node, zone, words, output)
    except (ZoneError, ZfsError) as err:
        raise CommandFailed(str(err)) from err


def _given(subcommand: str, words: list[str], letters: str) -> dict[str, str]:
    try:
        options, _ = getopt.getopt(words, letters)
    except getopt.GetoptError as err:
        raise CommandFailed(f"zoneadm: {err}\n{USAGE}{subcommand}", 2) from err
    return dict(options)


def _install(node: Node, zone: Zone, words: list[str], output: Output) -> int:
    given = _given("install -q <quota> [-t <image>] [-x nodataset]", words, "q:t:x:U:b:")
    quota = given.get("-q")
    if quota is not None and not quota.isdigit():
        raise CommandFailed(f"zoneadm: zone '{zone.name}': the quota '{quota}' is no number of gigabytes")
    installing.install(
        node, zone, installing.Wanted(None if quota is None else int(quota), given.get("-t", "")), output.reached
    )
    return 0


def _uninstall(node: Node, zone: Zone, words: list[str], output: Output) -> int:
    if "-F" not in _given("uninstall [-F]", words, "F"):
        raise CommandFailed("Input not from terminal and -F not specified: uninstall command ignored, exiting.")
    installing.uninstall(node, zone, output.reached)
    return 0


def _ready(node: Node, zone: Zone, words: list[str], output: Output) -> int:
    transitions.ready(node, zone, _alone(output))
    return 0


def _boot(node: Node, zone: Zone, words: list[str], output: Output) -> int:
    _given("boot [-X] [-- boot arguments]", words, "Xfi:m:s")
    guest.check_bootable(node, zone)
    transitions.boot(node, zone, _alone(output))
    guest.booted(node, zone)
    return 0


def _halt(node: Node, zone: Zone, words: list[str], output: Output) -> int:
    _given("halt [-X]", words, "X")
    with zone.busy:
        if zone.kernel is None:
            output.error(f"zoneadm: zone '{zone.name}': zone is already halted")
            return 0
        transitions.halt(node, zone, reached=_alone(output))
    return 0


def _reboot(node: Node, zone: Zone, words: list[str], output: Output) -> int:
    _given("reboot [-X] [-- boot arguments]", words, "X")
    guest.check_bootable(node, zone)
    transitions.reboot(node, zone, _alone(output))
    guest.booted(node, zone)
    return 0


def _shutdown(node: Node, zone: Zone, words: list[str], output: Output) -> int:
    if "-r" in _given("shutdown [-r]", words, "r"):
        return _reboot(node, zone, [], output)
    if zone.kernel is None:
        raise ZoneError(f"zoneadm: zone '{zone.name}': not running")
    return _halt(node, zone, [], output)


def _detach(node: Node, zone: Zone, words: list[str], output: Output) -> int:
    _given("detach [-n]", words, "nF")
    installing.detach(node, zone)
    return 0


def _attach(node: Node, zone: Zone, words: list[str], output: Output) -> int:
    _given("attach [-F]", words, "Fnu")
    installing.attach(node, zone)
    return 0


def _alone(output: Output) -> Callable[[str], None]:
    return lambda step: output.reached(step, alone=True)


Subcommand = Callable[[Node, Zone, "list[str]", Output], int]
SUBCOMMANDS: dict[str, Subcommand] = {
    "install": _install,
    "uninstall": _uninstall,
    "ready": _ready,
    "boot": _boot,
    "halt": _halt,
    "reboot": _reboot,
    "shutdown": _shutdown,
    "detach": _detach,
    "attach": _attach,
}
