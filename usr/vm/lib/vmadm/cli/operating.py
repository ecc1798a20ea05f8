# SPDX-License-Identifier: MPL-2.0
"""`vmadm console` and `sysrq`: the words of what an operator does with a VM that runs."""

from __future__ import annotations

from collections.abc import Callable

from vmadm.actions.session import Session
from vmadm.cli.cmdline import parsed_words, uuid_operand
from vmadm.cli.optiontable import OPTIONS
from vmadm.errors import BadUsage, VmadmError
from vminfod.cli.stdio import STDOUT, put

SYSRQS = {"nmi": "Sent NMI", "screenshot": "Sent screenshot sysrq"}
STDIN = 0
VMADMD_LIMIT = 60.0  # seconds that vmadmd may take to say where a display is

Act = Callable[[Session], str]


def console(word: str, words: list[str]) -> Act:
    """`console [--vnc|--serial] <uuid>`; it ends without a line."""
    options, left = parsed_words(words, OPTIONS["console"])
    uuid = uuid_operand(left, word)
    if len(left) > 1:
        raise BadUsage(f'Wrong number of parameters to "{word}"')
    if len(options) > 1:
        raise BadUsage("Only one of --vnc and --serial can be had.")

    def act(session: Session) -> str:
        from vmadm.actions import consoles

        if "vnc" in options:
            put(_display(session, uuid) + "\n")
        else:
            consoles.console(session, uuid, serial="serial" in options, stdin=STDIN, stdout=STDOUT)
        return ""

    return act


def _display(session: Session, uuid: str) -> str:
    """Where a VNC viewer finds the VM's display: HOST:PORT. Raises VmadmError."""
    from vmadm.actions.finding import known
    from vmadm.cli.info import info_of, vmadmd_of

    name = f"VM.js console ({uuid})"
    vm = known(session, uuid, name)
    vmadmd = vmadmd_of(session.node.root or "/", name, VMADMD_LIMIT, session.log)
    display = info_of(vm, ["vnc"], vmadmd).get("vnc")
    if not display:
        raise VmadmError(f"VM {uuid} has no VNC display")
    return f"{display.get('host')}:{display.get('port')}"


def sysrq(word: str, words: list[str]) -> Act:
    """`sysrq <uuid> nmi|screenshot`"""
    _, left = parsed_words(words, ())
    uuid = uuid_operand(left, word)
    if len(left) != 2:
        raise BadUsage(f'Wrong number of parameters to "{word}"')
    request = left[1]
    if request not in SYSRQS:
        raise BadUsage(f"Invalid sysrq type: {request}")

    def act(session: Session) -> str:
        from vmadm.actions import nmi

        nmi.sysrq(session, uuid, request)
        return f"{SYSRQS[request]} to VM {uuid}"

    return act
