# SPDX-License-Identifier: MPL-2.0
"""A TCP relay between a client and the daemon, whose connections a test can break: the network at its worst."""

import contextlib
import select
import socket
import struct
import threading
import time

from support.deadlines import SOON

STEP_LIMIT = SOON  # seconds that it stays muted before a forgotten unmute() fails the test instead of hanging it


class Relay:
    """Listens on `.port` and passes everything on to `target`. `.requests`: the first line of each request, in order.

    `cuts`: after so many bytes to the client the first connection is reset, the second one after the next number, ...;
    None lets one be, and so do those beyond the list."""

    def __init__(self, target, cuts=()):
        self.target = target
        self.requests = []
        self._loud = threading.Event()
        self._loud.set()
        self._cuts = list(cuts)
        self._open = set()  # of pairs (client, daemon)
        self._lock = threading.Lock()
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name="relay").start()

    def mute(self):
        """From now on nothing is passed on; connections stay open."""
        self._loud.clear()

    def unmute(self):
        """Go on where it stopped."""
        self._loud.set()

    def cut(self):
        """Reset every connection that is open."""
        with self._lock:
            pairs = list(self._open)
        for client, daemon in pairs:
            self._end(client, daemon)

    def close(self):
        self._closing = True
        self._loud.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _accept(self):
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            limit = self._cuts.pop(0) if self._cuts else None
            threading.Thread(target=self._pass, args=[client, limit], daemon=True, name="relay").start()

    def _pass(self, client, limit):
        try:
            daemon = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        with self._lock:
            self._open.add((client, daemon))
        with contextlib.suppress(OSError, ValueError):  # broken, by us or by them: that is what it is for
            self._ask(daemon, client.recv(65536))
            sent = 0
            while limit is None or sent < limit:
                for ready in select.select([client, daemon], [], [])[0]:
                    self._wait_until_loud(client, daemon)
                    data = ready.recv(65536 if limit is None else min(65536, limit - sent))
                    if not data:
                        raise ConnectionResetError
                    if ready is client:  # which keeps the connection for its next request
                        self._ask(daemon, data)
                        continue
                    client.sendall(data)
                    sent += len(data)
                    if sent == limit:
                        break
        self._end(client, daemon)
        # By this thread alone: a select() whose descriptors another closes can wait for ever, and keeps them open.
        client.close()
        daemon.close()

    def _wait_until_loud(self, client, daemon):
        until = time.monotonic() + STEP_LIMIT
        while not self._loud.wait(0.02):
            with self._lock:
                if (client, daemon) not in self._open:
                    raise ConnectionResetError
            if time.monotonic() > until:
                raise TimeoutError

    def _ask(self, daemon, request):
        self.requests.append(request.split(b"\r\n")[0].decode())
        daemon.sendall(request)

    def _end(self, client, daemon):
        """Have the thread of that connection reset it."""
        with self._lock:
            if (client, daemon) not in self._open:
                return
            self._open.remove((client, daemon))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() resets
        for end in (client, daemon):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RD if end is client else socket.SHUT_RDWR)  # wakes who waits for it
