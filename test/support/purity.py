# SPDX-License-Identifier: MPL-2.0
"""What a test that is marked `pure` promises, and the watch over it: no process, no socket, no file of a node.

Always: Python's own audit events are asked, so that no library gets around it, however it is called;
        nothing is prevented: what happened is noted, and the test fails with it when it ends;
        the interpreter's and the checkout's own files may be read, as imports and tables of expected values are.
A node lives in a temporary folder, so a file in one is taken for a node's."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PROCESSES = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec", "pty.spawn")
SOCKETS = ("socket.__new__",)
FILES = ("open", "os.mkdir", "os.rename", "os.remove")
OWN = tuple(
    os.path.realpath(folder) + os.sep
    for folder in (os.path.join(os.path.dirname(__file__), "..", ".."), sys.prefix, sys.base_prefix)
)

# A list for each watch that is on, and the threads that are not watched: those of what ran before, such as one that
# answers a tool that outlives its test.
_noted: list[tuple[list[str], frozenset[int]]] = []
_hooked = False


def impure(event: str, arguments: tuple[Any, ...]) -> str:
    """What is not pure about an audit event; empty if nothing is."""
    if event in PROCESSES:
        return f"it starts a process: {event} {arguments[:2]!r}"
    if event in SOCKETS:
        return "it opens a socket"
    if event in FILES and arguments and isinstance(arguments[0], (str, bytes)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path.startswith(os.path.realpath(tempfile.gettempdir()) + os.sep) and not path.startswith(OWN):
            return f"it touches a file as a node has them: {path}"
    return ""


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _noted and event in (*PROCESSES, *SOCKETS, *FILES):
        what = impure(event, arguments)
        if what:
            for notes, others in list(_noted):
                if threading.get_ident() not in others:
                    notes.append(what)


@contextmanager
def watch() -> Iterator[list[str]]:
    """The list to which each thing that is not pure is added while the block runs, in this thread and those that are
    started meanwhile."""
    global _hooked
    if not _hooked:  # an audit hook cannot be taken away
        sys.addaudithook(_hook)
        _hooked = True
    notes: list[str] = []
    others = frozenset(thread.ident or 0 for thread in threading.enumerate()) - {threading.get_ident()}
    entry = (notes, others)
    _noted.append(entry)
    try:
        yield notes
    finally:
        _noted.remove(entry)
