# SPDX-License-Identifier: MPL-2.0
"""Copying a stream: every byte arrives, whatever is at both ends, and the copying ends when it should."""

import os
import socket
import threading

import pytest

from support.deadlines import SOON
from vmadm.node.pump import PIECE, Pump, roomy_pipe

DATA = bytes(range(256)) * (3 * PIECE // 256) + b"and the rest"


def feed(descriptor, data):
    def run():
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        except BrokenPipeError:
            pass
        os.close(descriptor)

    threading.Thread(target=run, daemon=True).start()


def drained(descriptor):
    found = bytearray()
    while piece := os.read(descriptor, PIECE):
        found += piece
    os.close(descriptor)
    return bytes(found)


@pytest.fixture(params=["pipe", "file", "socket"])
def source(request, tmp_path):
    if request.param == "file":
        (tmp_path / "source").write_bytes(DATA)
        descriptor = os.open(tmp_path / "source", os.O_RDONLY)
    elif request.param == "pipe":
        descriptor, write_end = os.pipe()
        feed(write_end, DATA)
    else:
        ours, theirs = socket.socketpair()
        descriptor = ours.detach()
        feed(theirs.detach(), DATA)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("splices", [True, False])
def test_every_byte_arrives_and_is_counted(source, splices):
    read_end, write_end = roomy_pipe()
    pump = Pump(source, write_end, close_target=True)
    pump._splices = splices and hasattr(os, "splice")
    with pump:
        assert drained(read_end) == DATA
        assert pump.is_done(SOON)
    assert (pump.moved, pump.error) == (len(DATA), None)


def test_file_that_is_appended_to_is_a_target_too(source, tmp_path):
    """No system call can splice into one."""
    target = os.open(tmp_path / "target", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with Pump(source, target, close_target=True) as pump:
        assert pump.is_done(SOON)
    assert (tmp_path / "target").read_bytes() == DATA


@pytest.mark.parametrize("splices", [True, False])
def test_target_that_is_gone_is_an_error_to_be_asked_for(source, splices):
    read_end, write_end = os.pipe()
    pump = Pump(source, write_end, close_target=True)
    pump._splices = splices and hasattr(os, "splice")
    with pump:
        os.read(read_end, 1)
        os.close(read_end)
        assert pump.is_done(SOON)
    assert isinstance(pump.error, BrokenPipeError)


def test_non_blocking_ends_are_waited_for():
    from_end, to_us = os.pipe()
    out_end, out = os.pipe()
    for descriptor in (from_end, out):
        os.set_blocking(descriptor, False)
    feed(to_us, DATA)
    with Pump(from_end, out, close_target=True) as pump:
        assert drained(out_end) == DATA
        assert pump.is_done(SOON)
    os.close(from_end)


def test_pump_that_waits_for_more_ends_with_its_block():
    from_end, to_us = os.pipe()
    out_end, out = os.pipe()
    with Pump(from_end, out, close_target=True) as pump:
        os.write(to_us, b"a beginning")
        assert os.read(out_end, 100) == b"a beginning"
    assert drained(out_end) == b""
    assert not pump._thread.is_alive()
    for descriptor in (from_end, to_us):
        os.close(descriptor)


def test_pump_whose_target_is_full_ends_with_its_block():
    from_end, to_us = os.pipe()
    out_end, out = os.pipe()
    feed(to_us, DATA)
    with Pump(from_end, out) as pump:
        os.read(out_end, 1)  # it has begun
    assert not pump._thread.is_alive()
    for descriptor in (from_end, out, out_end):
        os.close(descriptor)
