# SPDX-License-Identifier: MPL-2.0
"""What a command that changes a VM reads: a payload, or a stream through a descriptor. And the texts that vmadm always
had for a file that cannot be read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vmadm.errors import VmadmError
from vmadm.payload import Payload
from vminfod.clients.failures import ParseError
from vminfod.clients.plainjson import compact, parsed

STDIN_PATH = "/dev/stdin"
STDIN = 0


def read_payload(path: str) -> Payload:
    """The JSON object in a file. Raises VmadmError."""
    with _told(path):
        if path == STDIN_PATH:
            data = sys.stdin.buffer.read() if sys.stdin is not None else b""
        else:
            with open(path, "rb") as file:
                data = file.read()
    try:
        payload = parsed(data)
    except ParseError as error:
        raise VmadmError(f"Invalid JSON payload: {error.message}") from error
    if not isinstance(payload, dict):
        raise VmadmError("Invalid JSON payload: an object is expected")
    return payload


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor to read the file from; standard input for `-`. Raises VmadmError."""
    if path == "-":
        yield STDIN
        return
    with _told(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise VmadmError(f"File: {path} does not exist.") from error
    except OSError as error:
        why = compact({"code": error.errno, "message": error.strerror})
        raise VmadmError(f"Error reading: {path} {why}") from error
