# SPDX-License-Identifier: MPL-2.0
"""The commands that change a VM: their words, what they call, what they say.

Always: success is one line on stderr, which agents read; all that can be wrong with the words is said before anything
        is asked or touched.
Where: on SmartOS as root in the global zone; elsewhere only on a mock node, whose folder VMADM_ROOT names."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Optional

from vmadm.actions.atonce import check_not_within
from vmadm.actions.session import Session, silently
from vmadm.cli import moving, operating
from vmadm.cli.cmdline import is_uuid, parsed_words, uuid_operand
from vmadm.cli.inputs import STDIN_PATH, read_payload
from vmadm.cli.matching import operands as pairs
from vmadm.cli.optiontable import OPTIONS
from vmadm.errors import BadUsage, CannotRunHere, VmadmError
from vmadm.node import logfile
from vmadm.node.interrupts import Interrupts
from vmadm.payload import Payload, bootoptions
from vminfod.cli.stdio import complain
from vminfod.clients.address import address_from_environment
from vminfod.clients.clientlog import StderrLog
from vminfod.clients.plainjson import compact
from vminfod.clients.transaction import WITHIN
from vmload import uuids

DEFAULT_SIGNAL = "SIGTERM"


def write(command: str, word: str, words: list[str], environ: Mapping[str, str], debug: StderrLog) -> int:
    """Run one command, `word` as typed; gives the exit code. Raises BadUsage, CannotRunHere."""
    act = COMMANDS[command](word, words)
    root = environ.get("VMADM_ROOT") or "/"
    check_place(root)
    host, port, socket = address_from_environment(environ)
    log = logfile.opened(root, debug, environ)
    with Interrupts() as interrupts:
        uuids_named = [each for each in words if is_uuid(each)]
        # Only uuids of the words: others can be secrets, and this is for everybody to read.
        named = " ".join(["vmadm", word, *uuids_named])
        session = Session(
            root=root,
            host=host,
            port=port,
            socket=socket,
            command=named,
            req_id=environ.get("REQ_ID") or environ.get("req_id"),
            tell=complain,
            step=_timed() if _is_terminal() else silently,
            log=log,
            interrupts=interrupts,
        )
        log.info("begin", extra={"command": session.command})
        try:
            if environ.get(WITHIN):
                check_not_within(session, environ, uuids_named)
            line = act(session)
        except VmadmError as error:
            log.error("failed", extra={"err": str(error)})
            complain(str(error))
            return error.exit_code
        log.info("done")
    if line:
        complain(line)  # last of all: agents take the last line on stderr for the message
    return 0


def check_place(root: str) -> None:
    """Raises CannotRunHere where a write would be on no node. cli.py has looked for root and the global zone."""
    if os.path.abspath(root) == "/" and sys.platform != "sunos5":
        raise CannotRunHere("this is not SmartOS (VMADM_ROOT names the folder of a mock node)")


# Each function takes the word as typed and the words after it, and gives what is to be done with a session; that gives
# the line to print, if there is one.


def _create(word: str, words: list[str]) -> Any:
    options, left = parsed_words(words, OPTIONS["create"])
    path = _file(options, "create")

    def act(session: Session) -> str:
        from vmadm.actions.creating import create

        return f"Successfully created VM {create(session, read_payload(path))['uuid']}"

    return act


def _update(word: str, words: list[str]) -> Any:
    options, left = parsed_words(words, OPTIONS["update"])
    uuid = uuid_operand(left, word)
    given: Optional[Payload] = dict(pairs(left[1:])) if left[1:] else None
    path = _file(options, "update") if given is None else ""

    def act(session: Session) -> str:
        from vmadm.actions.updating import update

        update(session, uuid, given if given is not None else read_payload(path))
        return f"Successfully updated VM {uuid}"

    return act


def _start(word: str, words: list[str]) -> Any:
    _, left = parsed_words(words, ())
    uuid = uuid_operand(left, word)
    try:
        options = bootoptions.from_words(left[1:])
    except bootoptions.BadBootOptions as error:
        raise BadUsage(str(error)) from error

    def act(session: Session) -> str:
        from vmadm.actions.lifecycle import start

        start(session, uuid, options=options)
        return f"Successfully started VM {uuid}"

    return act


def _stop(word: str, words: list[str]) -> Any:
    options, left = parsed_words(words, OPTIONS["stop"])
    uuid = uuid_operand(left, word)
    timeout = _seconds(options)

    def act(session: Session) -> str:
        from vmadm.actions.stopping import stop

        stop(session, uuid, force="F" in options, timeout=timeout)
        return f"Successfully completed stop for VM {uuid}"

    return act


def _reboot(word: str, words: list[str]) -> Any:
    options, left = parsed_words(words, OPTIONS["reboot"])
    uuid = uuid_operand(left, word)
    _seconds(options)

    def act(session: Session) -> str:
        from vmadm.actions.lifecycle import reboot

        reboot(session, uuid, force="F" in options)
        return f"Successfully completed reboot for VM {uuid}"

    return act


def _kill(word: str, words: list[str]) -> Any:
    if (
        words
        and words[0].startswith("-")
        and words[0] not in ("-s", "--signal", "-v", "-d", "--")
        and not words[0].startswith(("-s=", "--s"))
    ):
        signal, left = words[0][1:], words[1:]
        if len(left) > 1:
            raise BadUsage("Too many arguments.")
    else:
        options, left = parsed_words(words, OPTIONS["kill"])
        signal = options.get("s", DEFAULT_SIGNAL)
        if len(left) > 1:
            raise BadUsage(f"Unexpected args: {compact(left[1:])}")
    if not left or not uuids.is_uuid(left[0]):
        raise BadUsage("Invalid or missing argument UUID")

    def act(session: Session) -> str:
        from vmadm.actions.lifecycle import kill

        kill(session, left[0], signal)
        return f'Sent signal "{signal}" to init process for VM {left[0]}'

    return act


def _reprovision(word: str, words: list[str]) -> Any:
    options, left = parsed_words(words, OPTIONS["reprovision"])
    uuid = uuid_operand(left, word)
    path = _file(options, "reprovision")

    def act(session: Session) -> str:
        from vmadm.actions.reprovisioning import reprovision

        reprovision(session, uuid, read_payload(path))
        return f"Successfully reprovisioned VM {uuid}"

    return act


def _delete(word: str, words: list[str]) -> Any:
    _, left = parsed_words(words, ())
    uuid = uuid_operand(left, word)

    def act(session: Session) -> str:
        from vmadm.actions.deleting import delete

        delete(session, uuid)
        return f"Successfully deleted VM {uuid}"

    return act


def _snapshot(word: str, words: list[str]) -> Any:
    _, left = parsed_words(words, ())
    uuid = uuid_operand(left, word)
    if len(left) != 2:
        raise BadUsage(f'Wrong number of parameters to "{word}"')
    done = {"create-snapshot": "Created", "delete-snapshot": "Deleted", "rollback-snapshot": "Rolled back"}[word]

    def act(session: Session) -> str:
        from vmadm.actions import snapshots

        {
            "create-snapshot": snapshots.create_snapshot,
            "delete-snapshot": snapshots.delete_snapshot,
            "rollback-snapshot": snapshots.rollback_snapshot,
        }[word](session, uuid, left[1])
        return f"{done} snapshot {left[1]} for VM {uuid}"

    return act


def _validate(word: str, words: list[str]) -> Any:
    options, left = parsed_words(words, OPTIONS["validate"])
    action = left[0] if left else ""
    if action not in ("create", "update"):
        raise BadUsage("Will not validate without a valid action.")
    if action == "update" and len(left) < 2:
        raise BadUsage("Will not validate without a valid action and brand.")
    path = _file(options, "validate")

    def act(session: Session) -> str:
        from vmadm.actions.validating import validate

        payload = read_payload(path)
        brand = payload.get("brand") if action == "create" else left[1]
        validate(session, action, brand, payload)
        return f"VALID '{action}' payload for {brand} brand VMs."

    return act


COMMANDS = {
    "create": _create,
    "update": _update,
    "start": _start,
    "stop": _stop,
    "reboot": _reboot,
    "kill": _kill,
    "reprovision": _reprovision,
    "delete": _delete,
    "create-snapshot": _snapshot,
    "delete-snapshot": _snapshot,
    "rollback-snapshot": _snapshot,
    "validate": _validate,
    "console": operating.console,
    "sysrq": operating.sysrq,
    "send": moving.send,
    "receive": moving.receive,
    "install": moving.install,
}


def _file(options: dict[str, str], doing: str) -> str:
    """Where the payload comes from. Raises BadUsage if that would be a terminal."""
    path = options.get("f", "-")
    if path != "-":
        return path
    if sys.stdin is not None and sys.stdin.isatty():
        raise BadUsage(f"Will not {doing} from stdin when stdin is a tty.")
    return STDIN_PATH


def _is_terminal() -> bool:
    """Whether somebody watches: programs take each line on standard error for a message."""
    return sys.stderr is not None and sys.stderr.isatty()


def _timed() -> Callable[[str], None]:
    """Says each step to who watches, and how long the command has been at it."""
    began = time.monotonic()

    def say(text: str) -> None:
        complain(f"[{time.monotonic() - began:5.1f} s] {text}")

    return say


def _seconds(options: dict[str, str]) -> Optional[float]:
    text = options.get("t")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BadUsage(f"Invalid timeout: {text}")
    return float(text)
