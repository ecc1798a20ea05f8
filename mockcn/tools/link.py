# SPDX-License-Identifier: MPL-2.0
"""The tools' side of the wire between a tool in the node's root and the mock node's process.

A tool is installed as a stub, `ROOT/usr/sbin/zfs` and so on: a shebang line, this folder put on `sys.path`, then one
call in here. `installed(__file__)` remembers where the stub lies; the node's root is the nearest folder above it that
holds `.mockcn/socket`, a file whose one line is the path of the node's unix socket.

Two sorts of tools:

  thin (zoneadm, zonecfg, zfs, kstat, sysevent, ...): `run(tool, argv)` sends the words and copies back what the node
  answers; a node that wants the tool's standard input, or so many bytes of it, asks for it. link.c does the
  same, where it can be compiled.
  with work of their own (fswatcher): the stub calls `fswatcher.main(argv) -> exit status`, and main does

        fault = link.hello("fswatcher", argv)      # before anything is printed
        ...
        select([stdin, inotify, link.fileno()])    # link.fileno() readable: an order has come
        fault = link.order()                       # one fault that takes effect now

    Both return a dict of text to text, `{}` for no fault. `kind` names the fault. The generic ones have been applied
    when the call returns (or it does not return):

        fail     write `stderr` to standard error, exit with `exit` (1)
        hang     never return; signals still work as usual (SIGTERM kills)
        slow     sleep `seconds`, then return
        garbage  write `bytes` (latin-1 text) to standard output and flush; then exit with `exit` if that is given
        die      end by signal `signal` (9) at once, or after `seconds` if that is given
        gone     (order only) the node has ended: a clear line on standard error, exit 1

    Any other kind comes back untouched, for the tool to make something of. fswatcher's own: `refuse`, `deaf`,
    `lost`, `abort`, `stuck` (its head says what they do); they only last as long as the process.

Always: no connection, no node, a node that dies midway: one line on standard error and exit status 1.
Always: paths that a tool is given or prints are the node's (`/zones/U`); `real(path)` puts the root in front.
Few imports, because a slow tool would hide what is measured: `_socket` and `_signal` are the C halves of the modules.
Not here: what a tool does, and which fault applies (the node's process decides both)."""

from __future__ import annotations

import _socket
import os
import sys
import time

TYPE_CHECKING = False  # not from typing, whose import costs as much as the interpreter's start
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import NoReturn, Optional
else:
    import _signal

POINTER = ".mockcn/socket"
HEADER = 5  # bytes: one for the kind of frame, four for its length
CONNECT_TRIES = 50  # of 10 ms each: the node's listen queue may be full for a moment

_root: Optional[str] = None
_connection: Optional[_socket.socket] = None
_pending = bytearray()  # received, not yet taken as frames


def installed(stub: str) -> None:
    """Remember the node's root from the place of the tool's file `stub`. Exits with a clear line if there is none."""
    global _root
    folder = os.path.dirname(os.path.realpath(stub))
    while not os.path.exists(os.path.join(folder, POINTER)):
        above = os.path.dirname(folder)
        if above == folder:
            _die(f"{stub} does not lie in the root of a mock compute node")
        folder = above
    _root = folder


def root() -> str:
    """The node's root folder, an absolute path without a slash at the end."""
    if _root is None:
        installed(sys.argv[0])
    return str(_root)


def real(path: str) -> str:
    """Where the node's file `path` (absolute, as the node sees it) really lies."""
    return root() + path


def hello(tool: str, argv: list[str]) -> dict[str, str]:
    """Say that `tool` has started with the words `argv` (without its own name); the fault that applies, or {}."""
    _connect()
    _send("hello", tool, argv)
    return order()


def fileno() -> int:
    """File descriptor that becomes readable when order() has something to return. Only after hello()."""
    assert _connection is not None
    return _connection.fileno()


def order() -> dict[str, str]:
    """Read one order of the node and apply it if it is a generic one; blocks if none has come. {} is no fault."""
    kind, payload = _frame()
    if kind == b"":
        _die("the mock compute node has ended")
    words = payload.decode("utf-8", "surrogateescape").split("\0") if payload else []
    fault = dict(zip(words[0::2], words[1::2], strict=True))
    apply(fault)
    return fault


def apply(fault: dict[str, str]) -> None:
    """Do what a generic fault asks for (see the head); a fault of another kind is left alone."""
    kind = fault.get("kind")
    if kind == "fail":
        sys.stderr.write(fault.get("stderr", ""))
        sys.stderr.flush()
        os._exit(int(fault.get("exit", "1")))
    elif kind == "hang":
        while True:
            time.sleep(3600)
    elif kind == "slow":
        time.sleep(float(fault.get("seconds", "1")))
    elif kind == "garbage":
        _write(1, fault.get("bytes", "").encode("latin-1"))
        if "exit" in fault:
            os._exit(int(fault["exit"]))
    elif kind == "die":
        number = int(fault.get("signal", "9"))
        if "seconds" in fault:
            _signal.signal(_signal.SIGALRM, lambda *_: os.kill(os.getpid(), number))
            _signal.setitimer(_signal.ITIMER_REAL, float(fault["seconds"]))
        else:
            os.kill(os.getpid(), number)


def run(tool: str, argv: list[str]) -> NoReturn:
    """A thin tool from start to end: ask the node, copy its answer to stdout and stderr, exit with its status."""
    os._exit(_answered(tool, argv, lambda piece: _write(1, piece)))


def asked(tool: str, argv: list[str]) -> tuple[int, bytes]:
    """(status, standard output) of the node's part of a tool that then goes on by itself."""
    said = bytearray()
    return _answered(tool, argv, said.extend), bytes(said)


def _answered(tool: str, argv: list[str], show: Callable[[bytes], None]) -> int:
    _connect()
    _send("run", tool, argv)
    while True:
        kind, payload = _frame()
        if kind == b"o":
            show(payload)
        elif kind == b"e":
            _write(2, payload)
        elif kind == b"i":
            _send_input()
        elif kind == b"r":
            _send_input(int.from_bytes(payload, "big"))
        elif kind == b"x":
            return int(payload)
        elif kind == b"k":
            os.kill(os.getpid(), int(payload))
        else:
            _die("the mock compute node has ended" if kind == b"" else f"unknown answer {kind!r} of the node")


def _send_input(wanted: Optional[int] = None) -> None:
    """Standard input to its end, or just `wanted` bytes of it, as one message."""
    assert _connection is not None
    text = bytearray()
    try:
        while wanted is None or len(text) < wanted:
            piece = os.read(0, 65536 if wanted is None else wanted - len(text))
            if not piece:
                break
            text += piece
        _connection.sendall(len(text).to_bytes(4, "big") + text)
    except OSError as err:
        _die(f"cannot hand standard input to the mock compute node ({err.strerror})")


def _write(descriptor: int, text: bytes) -> None:
    """Write all of `text`. A reader that has gone ends the tool by SIGPIPE, as it ends the real ones."""
    if descriptor == 1:
        sys.stdout.flush()
    view = memoryview(text)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except BrokenPipeError:
        _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
        os.kill(os.getpid(), _signal.SIGPIPE)


def _connect() -> None:
    global _connection
    try:
        with open(os.path.join(root(), POINTER), encoding="utf-8") as pointer:
            where = pointer.readline().rstrip("\n")
        for attempt in range(CONNECT_TRIES):
            _connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            try:
                return _connection.connect(where)
            except BlockingIOError:
                _connection.close()
                if attempt == CONNECT_TRIES - 1:
                    raise
                time.sleep(0.01)
    except OSError as err:
        _die(f"no mock compute node is running at {root()} ({err.strerror})")


def _send(verb: str, tool: str, argv: list[str]) -> None:
    assert _connection is not None
    words = [verb, tool, str(os.getpid()), *argv]
    message = "\0".join(words).encode("utf-8", "surrogateescape")
    try:
        _connection.sendall(len(message).to_bytes(4, "big") + message)
    except OSError as err:
        _die(f"the mock compute node has gone away ({err.strerror})")


def _frame() -> tuple[bytes, bytes]:
    """The next frame (kind, payload) from the node; (b"", b"") when it has closed the connection."""
    assert _connection is not None
    size = HEADER
    while True:
        if len(_pending) >= HEADER:
            size = HEADER + int.from_bytes(_pending[1:HEADER], "big")
        if len(_pending) >= size:
            frame = bytes(_pending[:size])
            del _pending[:size]
            return frame[:1], frame[HEADER:]
        try:
            more = _connection.recv(size - len(_pending))  # no more: who waits for fileno() would not see the next
        except OSError:
            more = b""
        if not more:
            return b"", b""
        _pending.extend(more)


def _die(why: str) -> NoReturn:
    sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {why}\n")
    sys.stderr.flush()
    os._exit(1)
