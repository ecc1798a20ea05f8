# SPDX-License-Identifier: MPL-2.0
"""Runs the command-line tools as an operator does: as programs, with the system's own python3."""

import contextlib
import os
import pty
import subprocess

from support.deadlines import SOON

SBIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "usr", "vm", "sbin")
LIMIT = SOON


WAITING = "waiting for vminfod to answer "


def unhurried(err):
    """What a command said, but for the lines about what it waits for: a busy machine brings them forth."""
    return "".join(line for line in err.splitlines(keepends=True) if not line.startswith(WAITING))


class Result:
    """What a tool left behind; `out` and `err` are text, the latter without what it waited for (unhurried()); `waited`
    are these lines."""

    def __init__(self, done):
        self.code = done.returncode
        self.out = done.stdout.decode()
        err = done.stderr.decode()
        self.err = unhurried(err)
        self.waited = [line for line in err.splitlines() if line.startswith(WAITING)]

    def __iter__(self):
        return iter((self.code, self.out, self.err))

    def __repr__(self):
        return f"Result(code={self.code}, out={self.out!r}, err={self.err!r})"


def tool_path(name):
    return os.path.join(SBIN, name)


def environment(port=None, **more):
    """The caller's environment without anything that would turn a tool elsewhere, and without colours."""
    left = {key: value for key, value in os.environ.items() if not key.startswith(("VMINFO", "VMADM"))}
    if port is not None:
        left["VMINFOD_PORT"] = str(port)
    return {**left, "NO_COLOR": "1", **more}


def run_tool(name, *args, port=None, **more):
    done = subprocess.run(
        [tool_path(name), *args],
        env=environment(port, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    return Result(done)


def start_tool(name, *args, port=None, **more):
    """A tool that runs on, with pipes; the caller ends it."""
    return subprocess.Popen(
        [tool_path(name), *args],
        env=environment(port, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run_on_terminal(name, *args, port=None, shown="stdout", **more):
    """As run_tool(), with stdout or stderr (`shown`) on a terminal of its own, whose \r\n become \n."""
    ours, theirs = pty.openpty()
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [tool_path(name), *args],
        env=environment(port, **more),
        stdin=subprocess.DEVNULL,
        stdout=theirs if shown == "stdout" else pipe,
        stderr=theirs if shown == "stderr" else pipe,
    ) as tool:
        os.close(theirs)
        terminal = b""
        with open(ours, "rb", buffering=0) as screen, contextlib.suppress(OSError):  # EIO: the other end is closed
            while piece := screen.read(65536):
                terminal += piece
        out, err = tool.communicate(timeout=LIMIT)
    screen_bytes = terminal.replace(b"\r\n", b"\n")
    done = subprocess.CompletedProcess(args, tool.returncode, out, err)
    done.stdout, done.stderr = (screen_bytes, err) if shown == "stdout" else (out, screen_bytes)
    return Result(done)
