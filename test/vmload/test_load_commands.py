# SPDX-License-Identifier: MPL-2.0
"""How vmload runs the node's commands: with limits on time, output and number, whatever they do."""

import threading
import time

import pytest

from support.deadlines import SOON
from support.processes import gone
from vmload import system
from vmload.loaderror import LoadError
from vmload.slots import Slots
from vmload.system import System


@pytest.fixture
def shell(tmp_path):
    """A node whose `zfs` runs a shell script: shell(text) gives the System."""

    def make(script):
        tool = tmp_path / "usr/sbin/zfs"
        tool.parent.mkdir(parents=True, exist_ok=True)
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        return System(str(tmp_path))

    return make


def run(node, limit=20.0, arguments=("list",)):
    return node.run(system.ZFS, list(arguments), limit)


def test_both_outputs_and_the_status_are_returned(shell):
    output = run(shell("echo out; echo err >&2; exit 3"))
    assert (output.stdout, output.stderr, output.status) == (b"out\n", b"err\n", 3)


def test_command_that_ends_after_its_output_has_its_status(shell):
    output = run(shell("echo out; exec >&- 2>&-; sleep 0.02; exit 3"))
    assert (output.stdout, output.status) == (b"out\n", 3)


def test_command_that_closes_its_output_and_goes_on_has_its_limit(shell):
    with pytest.raises(LoadError) as caught:
        run(shell("echo out; exec >&- 2>&-; sleep 60"), limit=0.2)
    assert caught.value.code == "ETIMEDOUT"


def test_output_that_fills_the_pipes_is_read_whole(shell):
    output = run(shell("head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2"))
    assert (len(output.stdout), len(output.stderr), output.status) == (3_000_000, 2_000_000, 0)


def test_command_that_a_signal_ended_has_no_status(shell):
    assert run(shell("kill -9 $$")).status is None


def test_command_with_its_children_is_killed_at_its_limit(shell, tmp_path):
    node = shell(f"sleep 600 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(LoadError, match="zfs did not end within 0.3 s and was killed") as caught:
        run(node, 0.3)
    assert caught.value.code == "ETIMEDOUT"
    pid = int((tmp_path / "pid").read_text())
    assert gone([pid])


def test_limit_holds_while_the_command_goes_on_printing(shell):
    with pytest.raises(LoadError, match="did not end"):
        run(shell("while :; do echo more; sleep 0.05; done"), 0.3)


def test_limit_holds_when_the_command_has_closed_its_output(shell):
    with pytest.raises(LoadError, match="did not end"):
        run(shell("exec >&- 2>&-; sleep 600"), 0.3)


def test_command_that_prints_without_end_is_killed(shell, monkeypatch):
    monkeypatch.setattr(system, "LARGEST_OUTPUT", 1 << 20)
    with pytest.raises(LoadError, match="zfs printed more than 1 MiB and was killed") as caught:
        run(shell("exec yes some endless text"))
    assert caught.value.code == "EFBIG"


def test_command_that_cannot_be_killed_is_left_alone_and_not_asked_again(shell, monkeypatch):
    """As zfs on a sick pool, which hangs in the kernel. Here the kill is what does not work."""
    monkeypatch.setattr(system, "KILL_GRACE", 0.1)
    stuck = []
    monkeypatch.setattr(system, "_kill_group", stuck.append)
    node = shell('[ "$1" = list ] && exec sleep 600; echo ok')
    with pytest.raises(LoadError, match="did not end"):
        run(node, 0.1)
    with pytest.raises(LoadError, match="hangs since it was asked the same before") as caught:
        run(node)
    assert caught.value.code == "EBUSY"
    assert len(stuck) == 1, "no second one was started"
    assert run(node, arguments=["get"]).stdout == b"ok\n", "other questions are asked"
    stuck[0].kill()
    stuck[0].wait()
    shell("echo healed")
    assert run(node).stdout == b"healed\n"


def test_stop_ends_what_runs_and_what_comes(shell):
    node = shell("exec sleep 600")
    errors = []

    def wait_for_it():
        try:
            errors.append(run(node, 100).status)
        except LoadError as error:
            errors.append(error)

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    wait_until(lambda: node._running)
    node.stop()
    thread.join(SOON)
    assert errors == [None]
    assert run(node, 100).status is None


def wait_until(check, within=10.0):
    until = time.monotonic() + within
    while not check():
        assert time.monotonic() < until
        time.sleep(0.01)


class Crowd:
    """Threads that take a slot and keep it until they are let go."""

    def __init__(self, slots, count):
        self.inside = []
        self.leave = threading.Event()
        self._slots = slots
        self.threads = [threading.Thread(target=self._go, args=[number], daemon=True) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def _go(self, number):
        with self._slots:
            self.inside.append(number)
            self.leave.wait(SOON)

    def end(self):
        self.leave.set()
        for thread in self.threads:
            thread.join(SOON)


@pytest.mark.pure
def test_no_more_than_that_many_have_a_slot():
    slots = Slots(2, patience=60)
    crowd = Crowd(slots, 5)
    wait_until(lambda: len(crowd.inside) == 2)
    assert not Crowd(slots, 1).inside
    crowd.end()
    assert sorted(crowd.inside) == [0, 1, 2, 3, 4]


@pytest.mark.pure
def test_those_that_hang_keep_no_other_out():
    slots = Slots(2, patience=0.05)
    hanging = Crowd(slots, 7)
    wait_until(lambda: len(hanging.inside) == 7)
    with slots:
        pass
    hanging.end()


@pytest.mark.pure
def test_slot_is_free_again_after_an_error():
    slots = Slots(1, patience=60)
    for _ in range(3):
        with pytest.raises(KeyError), slots:
            raise KeyError
    with slots:
        pass
