# SPDX-License-Identifier: MPL-2.0
"""HTTP to vmadmd, over whichever way there is to it (vmadmdplace.py).

Imported by those who are about to ask it alone: http.client takes longer to import than all else of a command."""

from __future__ import annotations

import socket
from http.client import HTTPConnection, HTTPException

from vmadm.node.vmadmdplace import HOST, PORT, socket_of

__all__ = ["HTTPException", "connection_to"]


def connection_to(root: str, timeout: float) -> HTTPConnection:
    """A connection, not open yet, to the vmadmd of the node at `root`; each of its steps may take `timeout` seconds."""
    path = socket_of(root)
    return HTTPConnection(HOST, PORT, timeout=timeout) if path is None else _Local(path, timeout)


class _Local(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
