# SPDX-License-Identifier: MPL-2.0
"""One process with its pipes, from its start to the moment when nothing is left of it.

Always: the pipes do not block; the process has a session and a group of its own, so that a Ctrl-C in the daemon's
        terminal is not for it, and so that its own children end with it; end() returns in bounded time.
Not here: what it says (child.py), and when to start another.

The standard library's Popen, not gevent's: it uses vfork, so that a start costs the same however big the daemon is. It
runs in the thread pool. gevent.subprocess must not be used beside it: its SIGCHLD handler would take our exit
statuses."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any, Optional

import gevent

TERM_GRACE = 2.0  # seconds between SIGTERM and SIGKILL
KILL_GRACE = 3.0  # seconds that we wait for a killed one; then it is left to the system, as it hangs in the kernel
LOOK_EVERY = 0.01  # seconds, while it is being ended
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # abort() is SIGABRT


class Process:
    """A running process: `pid`, and the descriptors `stdin` (None if it has no pipe), `stdout`, `stderr`."""

    def __init__(self, argv: Sequence[str], *, commands: bool) -> None:
        """Starts `argv` with a pipe for commands, or nothing, on its stdin. OSError if that is not possible."""
        self._popen = _started(list(argv), commands)
        self.pid: int = self._popen.pid
        self.stdin: Optional[int] = self._popen.stdin.fileno() if commands else None
        self.stdout: int = self._popen.stdout.fileno()
        self.stderr: int = self._popen.stderr.fileno()

    def has_exited(self) -> bool:
        """Without reaping it, so that its number, which is its group's too, is not given to another process yet."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def is_stopped(self) -> bool:
        """Whether a signal has stopped it (SIGSTOP): it is there, holds its pipes, and does nothing."""
        try:
            found = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return found is not None and found.si_code == os.CLD_STOPPED

    def end(self) -> str:
        """Makes sure that the process and its group are gone: end of stdin, SIGTERM, SIGKILL. No greenlet may read its
        pipes any more. Returns how it ended, for the log."""
        self._signal(signal.SIGTERM)
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        deadline = time.monotonic() + TERM_GRACE
        while not self.has_exited() and time.monotonic() < deadline:
            gevent.sleep(LOOK_EVERY)
        self._signal(signal.SIGKILL)  # for what is left of the group, before poll() gives its number free
        deadline = time.monotonic() + KILL_GRACE
        while self._popen.poll() is None and time.monotonic() < deadline:
            gevent.sleep(LOOK_EVERY)
        for pipe in (self._popen.stdout, self._popen.stderr):
            pipe.close()
        code = self._popen.returncode
        if code is None:
            return "killed, but does not end"
        return f"signal {-code}" if code < 0 else f"exit status {code}"

    @property
    def was_killed(self) -> bool:
        """After end(): whether a signal ended it that no program sends itself: somebody, or end(), ended it."""
        code = self._popen.returncode
        return code is None or -code in FROM_OUTSIDE

    def _signal(self, number: int) -> None:
        # No process is left: where there is only a zombie, some systems answer the second.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _started(argv: list[str], commands: bool) -> Any:
    """The Popen. A greenlet that is killed while it waits for that leaves no process behind."""
    starting = gevent.get_hub().threadpool.spawn(_start, argv, commands)
    try:
        return starting.get()
    except gevent.GreenletExit:  # the thread goes on and starts it
        with contextlib.suppress(OSError):
            popen = starting.get()
            popen.kill()
            for pipe in (popen.stdin, popen.stdout, popen.stderr):
                if pipe is not None:
                    pipe.close()
            popen.wait()
        raise


def _start(argv: list[str], commands: bool) -> "subprocess.Popen[bytes]":
    """In a thread."""
    popen = subprocess.Popen(
        argv,
        bufsize=0,
        start_new_session=True,
        stdin=subprocess.PIPE if commands else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for pipe in (popen.stdin, popen.stdout, popen.stderr):
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
    return popen
