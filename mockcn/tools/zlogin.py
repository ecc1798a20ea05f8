# SPDX-License-Identifier: MPL-2.0
"""zlogin of a mock node: `-C`, the zone's console on this terminal, is this program's own work; the node does the rest.

    zlogin -C [-e CHARACTER] ZONE       CHARACTER as it is, or as a backslash and three octal digits; ~ without it

Always: the terminal is raw meanwhile, and set back at the end, also by SIGTERM (but not by SIGKILL, as with the real
        one). The escape character and a dot, at the start of a line, leave. The end of standard input leaves, too."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import termios
import tty

import link

LINE_ENDS = (b"\r", b"\n")


def main(words: list[str]) -> int:
    if not words or words[0] != "-C":
        link.run("zlogin", words)
    status, said = link.asked("zlogin", words)
    if status:
        return status
    escape = _character(words[words.index("-e") + 1]) if "-e" in words else b"~"
    zonename = words[-1]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    before = termios.tcgetattr(0) if os.isatty(0) else None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as console:
        folder, name = os.path.split(said.decode().rstrip("\n"))
        os.chdir(folder)  # a socket's path has to be short
        console.connect(name)
        os.write(1, f"[Connected to zone '{zonename}' console]\r\n".encode())
        try:
            if before is not None:
                tty.setraw(0, termios.TCSANOW)
            _talk(console, escape)
        finally:
            if before is not None:
                termios.tcsetattr(0, termios.TCSANOW, before)
    os.write(1, f"\n[Connection to zone '{zonename}' console closed]\n".encode())
    return 0


def _talk(console: socket.socket, escape: bytes) -> None:
    at_start, escaped = True, False
    while True:
        ready, _, _ = select.select([0, console], [], [])
        if console in ready:
            said = console.recv(65536)
            if not said:
                return
            os.write(1, said)
        if 0 not in ready:
            continue
        typed = os.read(0, 4096)
        if not typed:
            return
        for key in [typed[at : at + 1] for at in range(len(typed))]:
            if escaped and key == b".":
                return
            if at_start and not escaped and key == escape:
                escaped = True
                continue
            console.sendall((escape if escaped and key != escape else b"") + key)
            at_start, escaped = key in LINE_ENDS, False


def _character(word: str) -> bytes:
    if word.startswith("\\") and word[1:].isdigit():
        return bytes([int(word[1:], 8)])
    return word[:1].encode()
