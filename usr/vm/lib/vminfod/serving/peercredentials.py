# SPDX-License-Identifier: MPL-2.0
"""Which process is at the other end of a Unix socket, by the kernel's word: as it was when it connected.

Linux: SO_PEERCRED (unix(7)). illumos: getpeerucred(3C), through ctypes. Elsewhere, and where the kernel does not say,
nothing is known, which is no reason to refuse anybody: the socket's mode is what keeps others out."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from typing import Any, NamedTuple, Optional

_UCRED = struct.Struct("3i")  # pid, uid, gid: Linux's struct ucred


class Peer(NamedTuple):
    """None: not known."""

    pid: Optional[int] = None
    uid: Optional[int] = None


def of(sock: socket.socket) -> Peer:
    """Who is connected to this socket."""
    try:
        if hasattr(socket, "SO_PEERCRED"):
            pid, uid, _gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            return Peer(pid or None, uid)  # 0: of another pid namespace
        if sys.platform.startswith("sunos"):
            return _by_ucred(ctypes.CDLL(None, use_errno=True), sock.fileno())
    except (OSError, AttributeError):
        pass  # no such function, or the peer is gone: then it is not known
    return Peer()


def _by_ucred(libc: Any, fd: int) -> Peer:
    """As getpeerucred(3C) has it; its ids are -1 where they are not to be had."""
    libc.ucred_getpid.argtypes = libc.ucred_geteuid.argtypes = libc.ucred_free.argtypes = [ctypes.c_void_p]
    credentials = ctypes.c_void_p()
    if libc.getpeerucred(fd, ctypes.byref(credentials)) != 0:
        return Peer()
    try:
        pid, uid = libc.ucred_getpid(credentials), libc.ucred_geteuid(credentials)
    finally:
        libc.ucred_free(credentials)
    return Peer(pid if pid > 0 else None, uid if uid >= 0 else None)
