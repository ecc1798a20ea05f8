# SPDX-License-Identifier: MPL-2.0
"""`vmadm send`, `receive` and `install`: their words, and which descriptor the stream goes through.

Where standard error is a terminal it shows how far the stream is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Optional

from vmadm.actions.session import Session
from vmadm.cli.cmdline import parsed_words, uuid_operand
from vmadm.cli.inputs import opened
from vmadm.cli.optiontable import OPTIONS
from vmadm.cli.progress import ProgressLine, wanted
from vmadm.errors import BadUsage, VmadmError
from vminfod.cli.stdio import STDOUT, on_terminal

Act = Callable[[Session], str]
Show = Callable[[str, int, Optional[int]], None]


def send(word: str, words: list[str]) -> Act:
    """`send <uuid> [target]`; the target has never had a meaning."""
    _, left = parsed_words(words, ())
    uuid = uuid_operand(left, word)

    def act(session: Session) -> str:
        from vmadm.actions import sending

        if on_terminal(STDOUT):
            raise VmadmError("Cannot send VM to a TTY.")
        with _progress(session) as show:
            sending.send(session, uuid, STDOUT, show)
        return f"Successfully sent VM {uuid}"

    return act


def receive(word: str, words: list[str]) -> Act:
    """`receive [-f <file>]`"""
    options, _ = parsed_words(words, OPTIONS["receive"])
    path = options.get("f", "-")
    if path == "-" and (sys.stdin is None or sys.stdin.isatty()):
        raise BadUsage("Will not receive from stdin when stdin is a tty.")

    def act(session: Session) -> str:
        from vmadm.actions import receiving

        with opened(path) as source, _progress(session) as show:
            vm = receiving.receive(session, source, show)
        return f"Successfully received VM {vm['uuid']}"

    return act


def install(word: str, words: list[str]) -> Act:
    """`install <uuid>`"""
    _, left = parsed_words(words, ())
    uuid = uuid_operand(left, word)

    def act(session: Session) -> str:
        from vmadm.actions import installing

        installing.install(session, uuid)
        return f"Successfully installed VM {uuid}"

    return act


@contextmanager
def _progress(session: Session) -> Iterator[Optional[Show]]:
    if not wanted():
        yield None
        return
    with ProgressLine() as progress:
        session.tell, session.step = progress.making_room(session.tell), progress.making_room(session.step)
        yield progress.show
