# SPDX-License-Identifier: MPL-2.0
"""Programs in Python that start by a fork of a process that has their modules loaded: half of what a daemon or a mock
node costs a test is the import of its modules, which are the same each time.

    nursery = Nursery("vminfod.main", [...])      a process, once needed, with the modules loaded and nothing begun
    child = nursery.start(words)                  a process of its own that does what the program would: main(words)
    done = nursery.run(words)                     the same, to its end

Always: the process is a child of this one, as one that was started by subprocess would be, with the descriptors and the
        environment that it was given and none else.
        What Python reads from its environment at its start is the nursery's: who sets PYTHON* variables starts the
        program itself. Those who test how it starts do, too.
Only on Linux: can_fork() says whether it is that."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any, Optional

STREAMS = 3
LENGTH = struct.Struct(">I")
PR_SET_CHILD_SUBREAPER = 36

_adopting = threading.Lock()

# Nursery.run() of the one for vmadm, where that is run to its end without an environment of its own; None: do not fork.
run_vmadm: Optional[Callable[..., subprocess.CompletedProcess[str]]] = None


def can_fork() -> bool:
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


class Forked:
    """A process that a nursery has forked; what subprocess.Popen offers, as far as tests use it."""

    def __init__(self, args: list[str], pid: int, stdout: Optional[IO[Any]], stderr: Optional[IO[Any]]):
        self.args, self.pid, self.stdin, self.stdout, self.stderr = args, pid, None, stdout, stderr
        self.returncode: Optional[int] = None
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> Optional[int]:
        """Its exit status if it has ended; minus the signal that ended it."""
        if self.returncode is None and select.select([self._descriptor], [], [], 0)[0]:
            self._reap()
        return self.returncode

    def wait(self, timeout: Optional[float] = None) -> int:
        """As poll(), when it has ended. subprocess.TimeoutExpired if it does not in time."""
        if self.returncode is None:
            if not select.select([self._descriptor], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self._reap()
        assert self.returncode is not None
        return self.returncode

    def _reap(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        os.close(self._descriptor)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that has the modules loaded. `module`: one with a function main(words) -> exit status, which is found
    along `path`, before all else. `options`: the interpreter's."""

    def __init__(self, module: str, path: list[str], options: tuple[str, ...] = ()):
        self._options = options
        self._words = [module, *path]
        self._socket: Optional[socket.socket] = None
        self._process: subprocess.Popen[bytes]

    def _asked(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            own = os.path.abspath(__file__)
            command = [sys.executable, *self._options, own, str(theirs.fileno()), *self._words]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
            theirs.close()
        return self._socket

    def start(self, words: list[str], *, text: bool = False) -> Forked:
        """Run main(words) in a process of its own, with pipes from its output."""
        null = os.open(os.devnull, os.O_RDONLY)
        (out, theirs_out), (err, theirs_err) = os.pipe(), os.pipe()
        pid = self._fork(words, [null, theirs_out, theirs_err], dict(os.environ))
        for descriptor in (null, theirs_out, theirs_err):
            os.close(descriptor)
        mode, encoding = ("r", "utf-8") if text else ("rb", None)
        return Forked(words, pid, os.fdopen(out, mode, encoding=encoding), os.fdopen(err, mode, encoding=encoding))

    def run(
        self, words: list[str], *, stdin: str, environ: dict[str, str], within: float
    ) -> subprocess.CompletedProcess[str]:
        """Run main(words) to its end, with files in memory for what it reads and prints. subprocess.TimeoutExpired if
        it does not end `within` so many seconds; it is killed then."""
        with contextlib.ExitStack() as files:
            given, out, err = (files.enter_context(os.fdopen(os.memfd_create(name), "w+b")) for name in ("0", "1", "2"))
            given.write(stdin.encode("utf-8", "surrogateescape"))
            given.seek(0)
            child = Forked(words, self._fork(words, [file.fileno() for file in (given, out, err)], environ), None, None)
            try:
                status = child.wait(within)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                raise
            printed = []
            for file in (out, err):
                file.seek(0)
                printed.append(file.read().decode())
        return subprocess.CompletedProcess(words, status, *printed)

    def _fork(self, words: list[str], streams: list[int], environ: dict[str, str]) -> int:
        """The pid of a new child of this process, which has these streams and this environment."""
        request = json.dumps({"words": words, "env": environ, "cwd": os.getcwd()}).encode()
        with _parent_of_orphans():
            connection = self._asked()
            socket.send_fds(connection, [LENGTH.pack(len(request))], streams)
            connection.sendall(request)
            pid: int = LENGTH.unpack(_exactly(connection, LENGTH.size))[0]
        return pid

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._process.wait()


@contextlib.contextmanager
def _parent_of_orphans() -> Iterator[None]:
    """Meanwhile an orphan below this process becomes its child: the one that is being forked. Others' stay init's."""
    libc = ctypes.CDLL(None, use_errno=True)
    with _adopting:
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "cannot become the parent of orphans")
        try:
            yield
        finally:
            libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _exactly(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = connection.recv(size - len(received))
        if not piece:
            raise EOFError("the other side has ended")
        received += piece
    return received


def _next_child(connection: socket.socket) -> list[str]:
    """Fork whenever it is asked for. Returns the arguments, in the child alone; exits when nobody can ask any more."""
    while True:
        head, descriptors, _, _ = socket.recv_fds(connection, LENGTH.size, STREAMS)
        if not head:
            sys.exit(0)
        head += _exactly(connection, LENGTH.size - len(head))
        request = json.loads(_exactly(connection, LENGTH.unpack(head)[0]))
        read, write = os.pipe()
        between = os.fork()
        if between == 0:  # ends at once, so that its child becomes the asker's
            child = os.fork()
            if child != 0:
                os.write(write, LENGTH.pack(child))
                os._exit(0)
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
            for descriptor in (connection.fileno(), read, write, *descriptors):
                os.close(descriptor)
            os.environ.clear()
            os.environ.update(request["env"])
            os.chdir(request["cwd"])
            return list(request["words"])
        os.waitpid(between, 0)
        connection.sendall(os.read(read, LENGTH.size))
        for descriptor in (read, write, *descriptors):
            os.close(descriptor)


def _leave(statuses: list[int]) -> None:
    """The end of a program that has returned its status, when its threads have ended and it has tidied up: the
    interpreter is not taken apart, which would first copy all that is shared."""
    if statuses:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(statuses[0])


if __name__ == "__main__":
    number, name, *path = sys.argv[1:]
    returned: list[int] = []
    atexit.register(_leave, returned)  # what is registered first is called last
    sys.path[:] = [*path, *(folder for folder in sys.path if folder != os.path.dirname(os.path.abspath(__file__)))]
    program = importlib.import_module(name)
    gc.freeze()  # what is loaded stays shared
    connection = socket.socket(fileno=int(number))
    words = _next_child(connection)
    connection.detach()
    sys.argv = [name, *words]
    returned.append(program.main(words))
    sys.exit(returned[0])
