# SPDX-License-Identifier: MPL-2.0
"""Tools of a node that a test answers itself: what is run is the mock node's thin client (mockcn/stubs.py), and what it
prints comes from a function in the test's own process. A tool that is an interpreter would cost twenty times as much.

    server = tool_server.shared()
    server.install(path_of_root, "zfs", "usr/sbin/zfs", answer)     # answer(words) -> Answer

Always: one call is answered at a time, in a thread of this process; a call whose answer raises prints the error and
        ends with 99, so that whoever ran the tool fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from mockcn import stubs

POINTER = ".mockcn/socket"  # below the root of the node: where the client finds whom to ask
LENGTH = 4  # bytes before a message of the client
PATIENCE = 60.0  # seconds for a client that has connected to say what it wants


@dataclass(frozen=True)
class Answer:
    """What a tool prints, and how it ends: by `signal`, or else with `status`."""

    stdout: bytes = b""
    stderr: bytes = b""
    status: int = 0
    signal: Optional[int] = None


class ToolServer:
    """See the head of the module."""

    def __init__(self) -> None:
        self._answers: dict[str, Callable[[list[str]], Answer]] = {}
        self._folder = tempfile.mkdtemp(prefix="tools-")
        self._client = stubs.compiled_client()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(os.path.join(self._folder, "socket"))
        self._socket.listen(64)
        threading.Thread(target=self._serve, name="tools", daemon=True).start()

    def install(self, root: Path, tool: str, inside: str, answer: Callable[[list[str]], Answer]) -> None:
        """Put the tool at `inside` of the node at `root`. It lasts as long as this server."""
        pointer = root / POINTER
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.write_text(self._socket.getsockname() + "\n")
        key = f"{tool}/{len(self._answers)}"
        self._answers[key] = answer
        path = root / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(stubs.thin(key, self._client))
        path.chmod(0o755)

    def close(self) -> None:
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            with connection, contextlib.suppress(OSError):  # a client that was killed meanwhile
                connection.settimeout(PATIENCE)
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as said:
            message = said.read(int.from_bytes(said.read(LENGTH), "big"))
        _, key, _, *words = message.decode("utf-8", "surrogateescape").split("\0")
        try:
            answer = self._answers[key](words)
        except Exception:  # noqa: BLE001 boundary: it is the tool that fails, and the test with it
            answer = Answer(stderr=traceback.format_exc().encode(), status=99)
        end = _frame(b"x", b"%d" % answer.status) if answer.signal is None else _frame(b"k", b"%d" % answer.signal)
        connection.sendall(_frame(b"o", answer.stdout) + _frame(b"e", answer.stderr) + end)


def _frame(kind: bytes, payload: bytes) -> bytes:
    return kind + len(payload).to_bytes(4, "big") + payload


_shared: Optional[ToolServer] = None


def shared() -> ToolServer:
    """The one of this process, which is started when it is first wanted."""
    global _shared
    if _shared is None:
        _shared = ToolServer()
    return _shared


def close() -> None:
    """End the shared one, if there is one."""
    global _shared
    if _shared is not None:
        _shared.close()
        _shared = None
