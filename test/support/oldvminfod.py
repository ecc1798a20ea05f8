# SPDX-License-Identifier: MPL-2.0
"""A vminfod that has no transactions: the real one behind its Unix socket, where POST gets the answer of another."""

import contextlib
import os
import socket
import threading

from support.deadlines import SOON

STEP_LIMIT = SOON  # seconds for a thread to end


@contextlib.contextmanager
def without_transactions(root, status="400 Bad Request", body=b""):
    """The daemon of the node at `root` answers so to every POST meanwhile. Gives the list of those that came."""
    path = os.path.join(root, "var/run/vminfod.sock")
    os.rename(path, f"{path}.real")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    answer = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    posts, threads = [], []

    def accept():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=[client], daemon=True))
            threads[-1].start()

    def serve(client):
        """One request after another: each is passed on, and the answer back, but for a POST."""
        with client, socket.socket(socket.AF_UNIX) as daemon, contextlib.suppress(OSError):
            daemon.connect(f"{path}.real")
            back = threading.Thread(target=pump, args=[daemon, client], daemon=True)
            back.start()
            while data := client.recv(65536):  # a request of the tools comes in one piece
                if data.startswith(b"POST "):
                    posts.append(data)
                    client.sendall(answer)
                else:
                    daemon.sendall(data)
            daemon.shutdown(socket.SHUT_WR)
            back.join(STEP_LIMIT)

    def pump(daemon, client):
        with contextlib.suppress(OSError):
            while data := daemon.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield posts
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *threads):
            thread.join(STEP_LIMIT)
        os.rename(f"{path}.real", path)


@contextlib.contextmanager
def without_socket(root):
    """The daemon of the node at `root` can be asked over TCP only."""
    path = os.path.join(root, "var/run/vminfod.sock")
    os.rename(path, f"{path}.real")
    try:
        yield
    finally:
        os.rename(f"{path}.real", path)
