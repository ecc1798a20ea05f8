# SPDX-License-Identifier: MPL-2.0
"""Bytes between an operator and a VM's serial line: all of them, in both directions, however they are cut; and what
ends it."""

import os
import socket
import threading

import pytest

from support.deadlines import SOON
from vmadm.node.serialline import MOST_WAITING, relay


class Line:
    """A relay that runs: `vm` is the VM's end; type() and shown() are the operator's hands and eyes."""

    def __init__(self):
        ours, self.vm = socket.socketpair()
        self.vm.settimeout(SOON)
        source, self._hands = os.pipe()
        self._eyes, sink = os.pipe()
        self._left = None

        def run():
            self._left = relay(ours, source, sink)
            for descriptor in (source, sink):
                os.close(descriptor)
            ours.close()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def type(self, keys):
        view = memoryview(keys)
        while view:
            view = view[os.write(self._hands, view) :]

    def end_input(self):
        os.close(self._hands)

    def shown(self):
        """All that is written to the sink until it is closed."""
        pieces = []
        while piece := os.read(self._eyes, 65536):
            pieces.append(piece)
        return b"".join(pieces)

    def reaches_vm(self):
        pieces = []
        while piece := self.vm.recv(65536):
            pieces.append(piece)
        return b"".join(pieces)

    def left(self):
        """Whether the operator left it; False: the VM ended it."""
        self._thread.join(SOON)
        assert not self._thread.is_alive()
        return self._left


TYPED = b"ls\r\x03\x00\xff\x1b[A\r\n"


@pytest.mark.parametrize("size", [1, 3, len(TYPED)])
def test_keys_reach_the_vm_as_they_are_however_they_come(size):
    line = Line()
    for at in range(0, len(TYPED), size):
        line.type(TYPED[at : at + size])
    line.type(b"\x1d")
    assert line.left() is True
    assert line.reaches_vm() == TYPED


def test_what_is_typed_before_the_escape_is_sent_and_nothing_behind_it():
    line = Line()
    line.type(b"before\x1dbehind")
    assert line.left() is True
    assert line.reaches_vm() == b"before"


def test_much_goes_both_ways_at_once():
    line = Line()
    typed, said = os.urandom(1 << 20).replace(b"\x1d", b"]"), os.urandom(1 << 20)
    received = []
    workers = [
        threading.Thread(target=lambda: (line.type(typed), line.end_input()), daemon=True),
        threading.Thread(target=lambda: line.vm.sendall(said), daemon=True),
        threading.Thread(target=lambda: received.append(line.reaches_vm()), daemon=True),
    ]
    for worker in workers:
        worker.start()
    shown = b""
    while len(shown) < len(said):
        shown += os.read(line._eyes, 65536)
    for worker in workers:
        worker.join(SOON)
    assert shown == said
    assert received == [typed]
    line.vm.close()
    assert line.left() is False


def test_end_of_the_input_is_told_and_what_the_vm_still_says_is_shown():
    line = Line()
    line.type(b"last")
    line.end_input()
    assert line.reaches_vm() == b"last"
    line.vm.sendall(b"answer")
    line.vm.close()
    assert line.shown() == b"answer"
    assert line.left() is False


def test_vm_that_has_gone_ends_it():
    line = Line()
    line.vm.sendall(b"bye")
    line.vm.close()
    assert line.shown() == b"bye"
    assert line.left() is False


def test_operator_can_leave_a_vm_that_takes_nothing():
    line = Line()
    line.type(b"x" * (MOST_WAITING // 2))  # and nobody reads at the other end
    line.type(b"\x1d")
    assert line.left() is True


def test_sink_that_is_closed_is_an_error():
    ours, vm = socket.socketpair()
    source, hands = os.pipe()
    eyes, sink = os.pipe()
    os.close(eyes)
    vm.sendall(b"x")
    with pytest.raises(BrokenPipeError):
        relay(ours, source, sink)
    for descriptor in (source, hands, sink):
        os.close(descriptor)
