# SPDX-License-Identifier: MPL-2.0
"""`zfs send` and `zfs receive` with their streams: no limit of time, progress while they run.

Always: an interruption does not wait for the end, which may be hours away: the command is killed, and the error goes on
        up. What a command said on standard error is kept to its end, whatever the length of the stream."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress

from vmadm.errors import VmadmError
from vmadm.node.machine import Node, Result, end_at_once, failure
from vmadm.node.pump import Pump, roomy_pipe

LOOK_EVERY = 0.25  # seconds between looks at how far it is
SAID_LIMIT = 64 << 10  # bytes that are kept of what a command said

Watch = Callable[[int], None]  # gets the bytes of this stream so far


class ReaderGone(VmadmError):
    """Nobody reads the stream any more."""


def send(node: Node, snapshot: str, target: int, watch: Watch) -> None:
    """`zfs send -R` of the snapshot into the descriptor `target`. Raises ToolFailed, ReaderGone."""
    words = ("send", "-R", snapshot)
    read_end, write_end = roomy_pipe()
    try:
        with ExitStack() as stack:
            said = stack.enter_context(tempfile.TemporaryFile())
            try:
                child = stack.enter_context(
                    node.started("zfs", *words, stdin=subprocess.DEVNULL, stdout=write_end, stderr=said)
                )
            finally:
                os.close(write_end)
            with Pump(read_end, target) as pump:
                while not pump.is_done(LOOK_EVERY):
                    watch(pump.moved)
                if pump.error is not None:
                    end_at_once(child)
                child.wait()
            watch(pump.moved)
            if pump.error is not None:
                raise ReaderGone(f"who reads the stream has gone away ({pump.error.strerror})")
            _check(child, said.fileno())
    finally:
        os.close(read_end)


def receive(node: Node, dataset: str, source: int, watch: Callable[[], None]) -> None:
    """`zfs receive` of one stream from the descriptor `source`, which is left just behind it. What was received is not
    mounted: whether it may be is looked at first. Raises ToolFailed."""
    words = ("receive", "-u", "-F", dataset)
    with (
        tempfile.TemporaryFile() as said,
        node.started("zfs", *words, stdin=source, stdout=subprocess.DEVNULL, stderr=said) as child,
    ):
        watch()
        while not _has_ended(child):
            watch()
        _check(child, said.fileno())


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    with suppress(subprocess.TimeoutExpired):
        child.wait(LOOK_EVERY)
    return child.returncode is not None


def _check(child: subprocess.Popen[bytes], said: int) -> None:
    if child.returncode != 0:
        text = os.pread(said, SAID_LIMIT, 0).decode("utf-8", "surrogateescape")
        raise failure("zfs", Result(child.returncode, "", text))
