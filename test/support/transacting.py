# SPDX-License-Identifier: MPL-2.0
"""A writer that opens transactions: a connection to the daemon's Unix socket, spoken to by hand."""

from __future__ import annotations

import json
import os
import socket
from typing import Any, Optional

from support.deadlines import SOON
from support.running_daemon import Answer, RawConnection


class Transacting(RawConnection):
    """A connection to the socket of the daemon of the node at `root`. `.id`: of the transaction that it opened last."""

    def __init__(self, root: str, timeout: float = SOON):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(os.path.join(root, "var/run/vminfod.sock"))
        self._file = self.sock.makefile("rb")
        self.id = ""

    def ask(self, method: str, path: str, body: Optional[bytes] = None) -> None:
        """Send a request."""
        head = f"{method} {path} HTTP/1.1\r\n"
        if body is not None:
            head += f"Content-Length: {len(body)}\r\n"
        self.send(head.encode() + b"\r\n" + (body or b""))

    def heard(self) -> Answer:
        """The answer to what was asked before; AssertionError if the connection was closed instead."""
        answer = self.answer()
        assert answer is not None, "the connection was closed"
        return answer

    def request(self, method: str, path: str, body: Optional[bytes] = None) -> Answer:
        self.ask(method, path, body)
        return self.heard()

    def ask_to_open(self, uuid: str, **more: Any) -> None:
        """Ask for a transaction; its answer is opened()."""
        asked = {"uuid": uuid, "command": "update", "req_id": None, **more}
        self.ask("POST", "/transactions", json.dumps(asked).encode())

    def opened(self) -> dict[str, Any]:
        """The answer to ask_to_open(): the transaction is open."""
        answer = self.heard()
        assert answer.status == 201, answer.body
        self.id = answer.json()["transaction"]
        return dict(answer.json())

    def open(self, uuid: str, **more: Any) -> dict[str, Any]:
        self.ask_to_open(uuid, **more)
        return self.opened()

    def vm(self, query: str = "") -> Answer:
        """The VM as it would be."""
        return self.request("GET", f"/transactions/{self.id}/vm{query}")

    def ask_to_commit(self, query: str = "") -> None:
        self.ask("POST", f"/transactions/{self.id}/commit{query}")

    def commit(self, query: str = "") -> Answer:
        self.ask_to_commit(query)
        return self.heard()

    def end_sending(self) -> None:
        """Say that no more will come, and still listen."""
        self.sock.shutdown(socket.SHUT_WR)
