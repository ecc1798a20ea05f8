# SPDX-License-Identifier: MPL-2.0
"""What is measured: a mock node with vminfod on it, peers as child processes, and what a process has used so far.

Always: what is started here ends with its `with` block, whatever happens in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

from mockcn import process
from mockcn.process import MockNode
from support import scratch
from support.running_daemon import RunningDaemon

_TICKS = os.sysconf("SC_CLK_TCK")
_SOON = 30.0  # seconds for a peer to listen


@dataclass(frozen=True)
class Ground:
    """A mock node and the daemon that serves it."""

    node: MockNode
    daemon: RunningDaemon

    @property
    def pid(self) -> int:
        return self.daemon.process.pid


@contextlib.contextmanager
def mock_node(vms: int, snapshots: int = 0) -> Iterator[MockNode]:
    """A node in a folder of its own; in memory, where the machine has room: a disk would measure itself."""
    folder = tempfile.mkdtemp(prefix="cn-", dir=scratch.folder())
    try:
        with process.start(os.path.join(folder, "node"), vms=vms, snapshots=snapshots) as node:
            yield node
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def ground(vms: int, snapshots: int = 0, *options: str) -> Iterator[Ground]:
    """A node and vminfod on it, answering, with the log level that a node in production has."""
    with mock_node(vms, snapshots) as node, RunningDaemon(node.root, *options).start() as daemon:
        yield Ground(node, daemon)


@contextlib.contextmanager
def peer(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A peer that listens on `port` once the block begins."""
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        _wait_for(port, child)
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _wait_for(port: int, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _SOON
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError as error:
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the peer {child.args!r} does not listen on {port}") from error
            time.sleep(0.01)


def cpu_seconds(pid: int) -> float:
    """Processor time that the process itself has used, without its children."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mb(pid: int) -> float:
    """Memory of the process that is in RAM, 10^6 bytes."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) * 1024 / 1e6
