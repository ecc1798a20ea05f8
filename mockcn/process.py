# SPDX-License-Identifier: MPL-2.0
"""A mock node as a child process, for tests and benchmarks.

    with process.start(root, vms=30) as node:
        node.run("zfs", "list", "-H", "-o", "name")
        node.control.boot(uuid)

Always: start() returns when the node answers, or raises NotStarted with what it said; stop() leaves no process and, in
the root, no file."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Any, Callable, Iterable, Iterator, Optional

from mockcn.control import Control
from mockcn.layout import THIN_TOOLS

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
READY_WITHIN = (
    300  # seconds; 1,000 VMs with 100,000 snapshots take a few, and many more where others keep the cores busy
)
STOPPED_WITHIN = 60  # seconds, most of them for removing the files
TOOL_WITHIN = 60  # seconds that run() waits for a tool
TOOLS = {**THIN_TOOLS, "fswatcher": "usr/vm/sbin"}


def by_itself(words: list[str]) -> "subprocess.Popen[str]":
    """The program mockcn with these words, with pipes of text."""
    return subprocess.Popen(
        [sys.executable, os.path.join(CHECKOUT, "mockcn"), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# How the process of a node, or of its vmadmd, is got. Who starts hundreds can put something here that does it for less.
launch: Callable[[list[str]], Any] = by_itself


class NotStarted(Exception):
    """The node did not get ready; the message has what it wrote on standard error."""


class MockNode:
    """A running node: `.root`, `.control`, `.ready` (the ready line's members), `.pid`."""

    def __init__(self, root: str, child: "subprocess.Popen[str]", stderr: list[str]) -> None:
        self.root = os.path.abspath(root)
        self.control = Control(root)
        self.child = child
        self.pid = child.pid
        self.ready: dict[str, Any] = {}
        self._stderr = stderr

    def tool(self, name: str) -> str:
        """The path of an executable of the node."""
        return os.path.join(self.root, TOOLS[name], name)

    def run(
        self, name: str, *words: str, timeout: float = TOOL_WITHIN, check: bool = False, stdin: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        """Run a tool to its end: `.returncode`, `.stdout`, `.stderr`. check: CalledProcessError unless it is 0."""
        return subprocess.run(
            [self.tool(name), *words],
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=timeout,
            check=check,
        )

    def popen(self, name: str, *words: str, **options: Any) -> "subprocess.Popen[bytes]":
        """Start a tool that goes on, with pipes in binary; the caller ends it."""
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen([self.tool(name), *words], **options)

    def read(self, path: str) -> str:
        """The node's file `path`."""
        with open(self.root + path, encoding="utf-8") as file:
            return file.read()

    @contextlib.contextmanager
    def vmadmd(self) -> Iterator[Any]:
        """The node's vmadmd, a process that answers on its socket while the block runs."""
        child = launch(["vmadmd", "--root", self.root])
        try:
            if not child.stdout.readline():
                raise NotStarted(f"vmadmd did not start: {child.stderr.read().strip()}")
            yield child
        finally:
            child.terminate()
            child.wait(STOPPED_WITHIN)
            child.stdout.close()
            child.stderr.close()

    def said(self) -> str:
        """What the node has written on standard error so far."""
        return "".join(self._stderr)

    def stop(self) -> None:
        """End the node and wait until its files are gone. May be called again."""
        if self.child.poll() is None:
            self.child.terminate()
        try:
            self.child.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise

    def __enter__(self) -> "MockNode":
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], err: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()


def start(
    root: Any,
    *,
    vms: int = 30,
    snapshots: int = 0,
    seed: int = 1,
    imports: Iterable[Any] = (),
    seconds: Optional[dict[str, float]] = None,
    keep: bool = False,
    kernel_mounts: bool = True,
    timeout: float = READY_WITHIN,
) -> MockNode:
    """Start a node in `root` (empty or not there yet) and wait until it is ready. Raises NotStarted.

    `seconds`: how long zones take, by the names of pace.py, such as {"boot": 0}."""
    words = [
        "--root",
        str(root),
        "--vms",
        str(vms),
        "--snapshots",
        str(snapshots),
        "--seed",
        str(seed),
        "--with-parent",
        str(os.getpid()),
    ]
    for folder in imports:
        words += ["--import", str(folder)]
    if not kernel_mounts:
        words.append("--no-kernel-mounts")
    for name, value in (seconds or {}).items():
        words += [f"--{name}-seconds", str(value)]
    child = launch([*words, *(["--keep"] if keep else [])])
    stderr: list[str] = []
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_pump, args=[child.stdout, lines.put], name="node's stdout", daemon=True).start()
    reader = threading.Thread(target=_pump, args=[child.stderr, stderr.append], name="node's stderr", daemon=True)
    reader.start()
    node = MockNode(str(root), child, stderr)
    deadline = time.monotonic() + timeout
    try:
        line = lines.get(timeout=timeout)
        node.ready = json.loads(line)
    except (queue.Empty, ValueError) as err:
        node.stop()
        reader.join(STOPPED_WITHIN)  # it has ended, but its words may still be on their way
        why = "in time" if time.monotonic() >= deadline else f"and ended with {child.returncode}"
        raise NotStarted(f"the mock node did not get ready {why}: {node.said().strip()}") from err
    return node


def _pump(stream: Any, take: Any) -> None:
    """Hand on each line; the end of the stream is the empty line."""
    for line in stream:
        take(line)
    stream.close()
    take("")
