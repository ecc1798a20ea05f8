# SPDX-License-Identifier: MPL-2.0
"""Where the node's vmadmd listens: on SmartOS a port of this machine, on a mock node a socket below its root, where
`python3 mockcn vmadmd` puts it. Never the one in place of the other: what has that port on another machine is somebody
else."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

HOST, PORT = "127.0.0.1", 8080
SOCKET = "/var/run/vmadmd.sock"  # below a mock node's root


def socket_of(root: str) -> Optional[str]:
    """The path of the socket, there or not; None for the machine itself (`root` is `/`)."""
    folder = os.path.abspath(root).rstrip("/")
    return folder + SOCKET if folder else None
