# SPDX-License-Identifier: MPL-2.0
"""The mock node's tools without a process for each call: their side of the wire (mockcn/tools/link.py), spoken here.

A tool is an interpreter that starts, sends its words to the node and copies back the answer. Where thousands of
commands are run to compare what becomes of a VM, nearly all of the time goes into those starts. Here vmadm's and
vminfod's own ways to run a command are replaced by the same conversation; what the node does is the same.
As a program this is vminfod, so replaced: `python test/support/direct_tools.py --root ROOT --port PORT`."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "usr" / "vm" / "lib"))

from vmadm.node import machine
from vmload import system

HEADER = 5  # bytes: the kind of a frame, and its length


def call(root: str, tool: str, words: tuple[str, ...], stdin: bytes, limit: float) -> tuple[int, bytes, bytes]:
    """(status, stdout, stderr) of a tool of the node at `root`; a status below zero is a signal. `limit` in seconds.

    Raises OSError, TimeoutError among them."""
    where = Path(root, ".mockcn", "socket").read_text().rstrip("\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(limit)
        connection.connect(where)
        _send(connection, "\0".join(["run", tool, str(os.getpid()), *words]).encode("utf-8", "surrogateescape"))
        printed = {b"o": bytearray(), b"e": bytearray()}
        with connection.makefile("rb") as answers:
            while True:
                head = answers.read(HEADER)
                if len(head) < HEADER:
                    raise ConnectionError(f"the mock node ended while it ran {tool}")
                kind, payload = head[:1], answers.read(int.from_bytes(head[1:], "big"))
                if kind == b"i":
                    _send(connection, stdin)
                elif kind in printed:
                    printed[kind] += payload
                else:
                    status = int(payload) if kind == b"x" else -int(payload)
                    return status, bytes(printed[b"o"]), bytes(printed[b"e"])


def _send(connection: socket.socket, message: bytes) -> None:
    connection.sendall(len(message).to_bytes(4, "big") + message)


def _run_for_vmadm(
    self: machine.Node,
    tool: str,
    *words: str,
    stdin: Optional[str] = None,
    limit: float = machine.LIMIT,
    environ: Optional[dict[str, str]] = None,
) -> machine.Result:
    """machine.Node.run()"""
    try:
        text = (stdin or "").encode("utf-8", "surrogateescape")
        status, stdout, stderr = call(self.root, tool, words, text, limit)
    except OSError as error:
        raise machine.ToolFailed(f"cannot run {tool}: {error}", tool=tool, stderr="") from error
    decoded = (each.decode("utf-8", "surrogateescape") for each in (stdout, stderr))
    return machine.Result(status, *decoded)


def _run_for_vmload(
    self: system.System,
    program: str,
    arguments: list[str],
    limit: float,
    *,
    c_locale: bool = False,
    about: str | None = None,
) -> system.Output:
    """system.System.run()"""
    name = os.path.basename(program)
    try:
        status, stdout, stderr = call(self.root, name, tuple(arguments), b"", limit)
    except TimeoutError as error:
        raise system.LoadError(f"{name} did not end within {limit:g} s", "ETIMEDOUT") from error
    except OSError as error:
        raise system.LoadError(f"cannot run {name}: {error}", "ENOENT") from error
    return system.Output(status if status >= 0 else None, stdout, stderr)


@contextmanager
def for_vmadm() -> Iterator[None]:
    """Within this, vmadm as a library runs the node's commands without processes, in all threads."""
    machine_class: Any = machine.Node
    before = machine_class.run
    machine_class.run = _run_for_vmadm
    try:
        yield
    finally:
        machine_class.run = before


if __name__ == "__main__":
    from vminfod.main import main

    system_class: Any = system.System
    system_class.run = _run_for_vmload
    sys.exit(main(sys.argv[1:]))
