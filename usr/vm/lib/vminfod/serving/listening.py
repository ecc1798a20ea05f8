# SPDX-License-Identifier: MPL-2.0
"""Sockets that are listened on: TCP addresses, and the Unix socket below the node's root with its pid file.

Always: a daemon that restarts takes its port, its socket and its pid file back at once; one that runs shares none of
        them and loses none: the pid file is locked for as long as its daemon lives, and whoever does not have the lock,
        or finds somebody listening on the socket, leaves both alone;
        the Unix socket is never there with a mode other than 0600, and never before somebody listens on it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from typing import Optional

FOLDER = "/var/run"  # below the node's root
SOCKET = "vminfod.sock"
PID_FILE = "vminfod.pid"

_WAITING = 1024  # connections that the kernel keeps for us


def bound(address: tuple[str, int]) -> socket.socket:
    """A listening TCP socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_WAITING)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def why_not(error: OSError, ip: str, port: int) -> str:
    """One line for the operator: why the address could not be had."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {ip} is in use: another vminfod runs, or choose one with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine has no address {ip}: choose another with --ip"
    return f"cannot listen on {ip} port {port}: {error.strerror or error}"


class RunFiles:
    """The pid file and the Unix socket of the one daemon of a node."""

    def __init__(self, root: str):
        self._folder = root.rstrip("/") + FOLDER
        self.socket_path = os.path.join(self._folder, SOCKET)
        self._pid_path = os.path.join(self._folder, PID_FILE)
        self._lock: Optional[int] = None  # descriptor of the pid file, as long as it is ours
        self._has_socket = False

    def take(self) -> Optional[str]:
        """Write the pid file; why it cannot be had, else None."""
        try:
            os.makedirs(self._folder, mode=0o755, exist_ok=True)
            while self._lock is None:
                self._lock = self._locked()
            os.truncate(self._lock, 0)
            os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)
        except BlockingIOError:
            return f"another vminfod of this node runs, and holds {self._pid_path}"
        except OSError as error:
            return f"cannot write {self._pid_path}: {error.strerror}"
        return None

    def _locked(self) -> Optional[int]:
        """The pid file, locked; None if it was removed in this moment. BlockingIOError if another daemon has it."""
        fd = os.open(self._pid_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(self._pid_path).st_ino == os.fstat(fd).st_ino:
                fd, locked = -1, fd
                return locked
        except FileNotFoundError:
            return None
        finally:
            if fd >= 0:
                os.close(fd)
        return None

    def listen(self) -> socket.socket:
        """The listening Unix socket, in the place of one that a dead daemon left. Raises OSError."""
        if self._lock is None:  # so nobody knows whose socket there is
            raise OSError(errno.ENOLCK, f"{self._pid_path} is not ours")
        if self._is_answered():
            raise OSError(errno.EADDRINUSE, "another daemon listens there")
        new_path = f"{self.socket_path}.{os.getpid()}"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if os.path.lexists(new_path):
                os.unlink(new_path)
            sock.bind(new_path)
            os.chmod(new_path, 0o600)
            sock.listen(_WAITING)
            os.rename(new_path, self.socket_path)
        except OSError:
            sock.close()
            if os.path.lexists(new_path):
                os.unlink(new_path)
            raise
        sock.setblocking(False)
        self._has_socket = True
        return sock

    def _is_answered(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)  # one that has too many waiting says EAGAIN: somebody is there
            try:
                probe.connect(self.socket_path)
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            except BlockingIOError:
                return True
        return True

    def release(self) -> None:
        """Remove what is ours: the daemon stops."""
        if self._has_socket and os.path.lexists(self.socket_path):
            os.unlink(self.socket_path)
        self._has_socket = False
        if self._lock is not None:
            if os.path.lexists(self._pid_path):
                os.unlink(self._pid_path)
            os.close(self._lock)  # and the lock with it
            self._lock = None
