# SPDX-License-Identifier: MPL-2.0
"""Where somebody can sit down at a VM: the sockets of the node's consoles, and the guest that answers there.

    ZONEPATH/root/tmp/vm.console        a kvm VM's first serial line, there while it runs
    ZONEPATH/root/PATH                  a bhyve VM's, where its com1 is `socket,PATH`
    /var/run/zones/ZONE.console_sock    a zone's console, as zoneadmd has one; there from the first `zlogin -C` on

Always: a guest says who it is, and then says again what is typed, each Return as a new line; what happens to it
        (an NMI, its end) is said to all who sit there. When the VM goes down its lines are closed.
A VM that ran when the node was laid out has no serial line before its next boot: nobody but a hypervisor makes one."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import Optional

from mockcn.state.zones import Zone

ZONE_CONSOLES = "/var/run/zones"
KVM_SERIAL = "/tmp/vm.console"
SOCKET = "socket,"  # in a bhyve VM's com1
NMI = "NMI received"
PIECE = 65536  # bytes


class Console:
    """One console that listens at `path`, a path of this machine."""

    def __init__(self, path: str, greeting: str) -> None:
        self._path, self._greeting = path, greeting
        self._lock = threading.Lock()
        self._sitting: set[socket.socket] = set()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder, name = os.path.split(path)
        os.makedirs(folder, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._listening.bind(f"/proc/self/fd/{descriptor}/{name}")  # a socket's path has to be short
        finally:
            os.close(descriptor)
        self._listening.listen()
        threading.Thread(target=self._accept, name=f"console {path}", daemon=True).start()

    def say(self, text: str) -> None:
        """To all who sit there."""
        with self._lock:
            for line in self._sitting:
                with contextlib.suppress(OSError):  # it has just left, or does not read: the node waits for nobody
                    line.send(f"\r\n{text}\r\n".encode(), socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Nobody sits there any more, and nobody can."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listening.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        with self._lock:
            for line in self._sitting:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listening.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=[line], name="console guest", daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with line, contextlib.suppress(OSError):
            line.sendall(f"{self._greeting} login: ".encode())
            with self._lock:
                self._sitting.add(line)
            try:
                while typed := line.recv(PIECE):
                    line.sendall(typed.replace(b"\r", b"\r\n"))
            finally:
                with self._lock:
                    self._sitting.discard(line)


class Consoles:
    """All consoles that are open of the node at `root`."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._open: dict[tuple[str, bool], Console] = {}  # (zone, whether it is a serial line) -> its console

    def zone_console(self, zone: Zone) -> str:
        """The real path of the zone's console, which is there from now on. Raises OSError."""
        path = f"{self._root}{ZONE_CONSOLES}/{zone.name}.console_sock"
        with self._lock:
            if (zone.name, False) not in self._open:
                self._open[zone.name, False] = Console(path, zone.name)
        return path

    def booted(self, zone: Zone, com1: str) -> None:
        """A hypervisor opens its VM's serial line; `com1` is what a bhyve VM's is said to be."""
        path = _serial_path(zone, com1)
        if path is None:
            return
        with self._lock, contextlib.suppress(OSError):  # as a hypervisor that cannot make it: it goes on without
            before = self._open.pop((zone.name, True), None)
            if before is not None:
                before.close()
            self._open[zone.name, True] = Console(f"{self._root}{zone.zonepath}/root{path}", zone.name)

    def halted(self, zone: Zone) -> None:
        with self._lock:
            found = [self._open.pop((zone.name, kind), None) for kind in (True, False)]
        for console in found:
            if console is not None:
                console.say(f"[NOTICE: {zone.name} halted]")
                console.close()

    def say(self, zone: Zone, text: str) -> None:
        """What the guest says on all of its consoles."""
        with self._lock:
            found = [self._open.get((zone.name, kind)) for kind in (True, False)]
        for console in found:
            if console is not None:
                console.say(text)


def _serial_path(zone: Zone, com1: str) -> Optional[str]:
    if zone.brand == "kvm":
        return KVM_SERIAL
    path = com1.removeprefix(SOCKET)
    is_one = zone.brand == "bhyve" and com1.startswith(SOCKET + "/") and ".." not in path
    return path if is_one else None
