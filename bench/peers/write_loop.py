# SPDX-License-Identifier: MPL-2.0
"""A bare loop that writes the same bytes to every listener: the least that handing out events can cost.

    python3 -IS write_loop.py PORT FILE

Each connection is a listener and gets an HTTP head. Each line on standard input makes one round: every line of FILE
goes to every listener, one after the other, as events come one after the other."""

import select
import socket
import sys

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


def main() -> None:
    with open(sys.argv[2], "rb") as file:
        lines = file.read().splitlines(keepends=True)
    server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=2048)
    listeners: list[socket.socket] = []
    while True:
        ready, _, _ = select.select([server, sys.stdin], [], [])
        if server in ready:
            listener, _ = server.accept()
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.sendall(HEAD)
            listeners.append(listener)
        if sys.stdin in ready:
            if not sys.stdin.buffer.raw.read(1):
                return
            for line in lines:
                for listener in list(listeners):
                    try:
                        listener.sendall(line)
                    except ConnectionError:
                        listeners.remove(listener)


if __name__ == "__main__":
    main()
