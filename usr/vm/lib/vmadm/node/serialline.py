# SPDX-License-Identifier: MPL-2.0
"""A VM's serial line, on the operator's terminal: bytes both ways until one side has had enough.

Always: nothing is changed on the way; Ctrl-] leaves, also where the VM takes nothing any more.
The end of the input (a file, a pipe) is told to the VM, and what it still says is waited for."""

from __future__ import annotations

import os
import select
import socket
from typing import Any

ESCAPE = b"\x1d"  # Ctrl-]
PIECE = 65536  # bytes
MOST_WAITING = 1 << 16  # bytes that are kept for a VM that takes none; past it the input has to wait
GONE = (ConnectionResetError, BrokenPipeError)


def relay(line: socket.socket, source: int, sink: int) -> bool:
    """Copy `source` to the line and the line to `sink`; True if the escape character ended it, False if the VM did.

    Raises OSError if the sink takes nothing any more."""
    line.setblocking(False)
    waiting = bytearray()
    is_open, is_told = True, False  # the input; whether the VM knows of its end
    while True:
        sources: list[Any] = [source] if is_open and len(waiting) < MOST_WAITING else []
        readable, _, _ = select.select([line, *sources], [line] if waiting else [], [])
        if source in readable:
            typed = _typed(source)
            keys, escape, _ = typed.partition(ESCAPE)
            waiting += keys
            is_open = bool(typed)
            if escape:
                _send(line, waiting)
                return True
        if not _send(line, waiting):
            return False
        if not is_open and not waiting and not is_told:
            is_told = True
            _tell_end(line)
        if line in readable and not _show(line, sink):
            return False


def _typed(source: int) -> bytes:
    try:
        return os.read(source, PIECE)
    except OSError:  # the terminal has been hung up
        return b""


def _send(line: socket.socket, waiting: bytearray) -> bool:
    """Send what the line takes now, and drop it from `waiting`. False if there is nobody any more."""
    try:
        while waiting:
            del waiting[: line.send(waiting)]
    except BlockingIOError:
        return True
    except GONE:
        return False
    return True


def _tell_end(line: socket.socket) -> None:
    try:
        line.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the VM was faster; its end is read next


def _show(line: socket.socket, sink: int) -> bool:
    """Write what the line says. False at its end."""
    try:
        said = line.recv(PIECE)
    except BlockingIOError:
        return True
    except GONE:
        return False
    left = memoryview(said)
    while left:
        try:
            left = left[os.write(sink, left) :]
        except BlockingIOError:  # whoever started us made it non-blocking
            select.select([], [sink], [])
    return bool(said)
