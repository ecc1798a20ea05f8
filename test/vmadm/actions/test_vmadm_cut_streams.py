# SPDX-License-Identifier: MPL-2.0
"""A VM is sent over a pipe that is cut, or whose receiver is killed, at random places: it never looks installed, and
each time it can be received again or deleted.

VMADM_CUTS=100 cuts more often; VMADM_SEED makes it other places."""

import os
import random
import subprocess

import pytest

from support.examples import examples, more
from support.moving import ON_DISK, VMADM, hardware_vm, os_vm, split
from support.running_daemon import eventually
from support.writing import LIMIT

pytest_plugins = ["support.movers"]

CUTS = int(os.environ.get("VMADM_CUTS", examples(16)))
SEED = int(os.environ.get("VMADM_SEED", "1"))


def random_place(bundle, chunks, choice):
    """A place within the bundle: each chunk is as likely as the other, whatever its size."""
    ends = [len(bundle) - sum(512 + len(stream) for _, stream in chunks)]
    for _, stream in chunks:
        ends.append(ends[-1] + 512 + len(stream))
    number = choice.randrange(len(ends))
    return choice.randrange(ends[number - 1] if number else 0, ends[number])


def is_quiet(two):
    tools = ("zfs", "zoneadm", "zonecfg")
    return not [call for call in two.other.control.children() if call["tool"] in tools]


@pytest.mark.parametrize("kind", ["kvm", *more("joyent-minimal")])
def test_vm_over_a_pipe_that_is_cut_at_random_places(two, kind):
    uuid = os_vm(two) if kind != "kvm" else hardware_vm(two, kind)
    bundle, choice = two.bundle(uuid), random.Random(f"{SEED} {kind}")
    _, chunks = split(bundle)
    for number in range(CUTS // 2):
        place = random_place(bundle, chunks, choice)
        told = f"VMADM_SEED={SEED}, number {number}, byte {place} of {len(bundle)}"
        child = two.start_receive()
        killed = choice.random() < 0.5
        try:
            child.stdin.write(bundle[:place])
            child.stdin.flush()
        except BrokenPipeError:
            pytest.fail(f"{told}: {child.stderr.read()}")
        if killed:
            child.kill()
        said = child.communicate(timeout=LIMIT)[1].decode()
        eventually("the node is quiet", lambda: is_quiet(two))
        vm = two.is_served(uuid)
        assert vm is None or (vm["state"], vm["zone_state"]) == ("receiving", "configured"), told
        if not killed:
            assert child.returncode == 1 and "Traceback" not in said, (told, said)
            assert two.datasets(uuid) == [] or kind == "kvm", (told, two.datasets(uuid))
        if vm is not None:
            assert two.other.vmadm("install", uuid).code == 1, told
            assert two.is_served(uuid)["state"] == "receiving", told
            if choice.random() < 0.5:
                two.other.api.delete(uuid)
                assert two.other.is_gone(uuid), told
    _arrives_whole(two, uuid, kind)


def _arrives_whole(two, uuid, kind):
    if kind != "kvm":
        two.one.api.start(uuid)
    sender = subprocess.Popen([VMADM, "send", uuid], stdout=subprocess.PIPE, env=two.one.environ)
    receiver = subprocess.Popen([VMADM, "receive"], stdin=sender.stdout, env=two.other.environ)
    sender.stdout.close()
    assert (receiver.wait(LIMIT), sender.wait(LIMIT)) == (0, 0)
    vm = two.other.vm(uuid)
    if kind == "kvm":
        with open(two.other.root + vm["disks"][1]["path"], "rb") as disk:
            disk.seek(1 << 20)
            assert disk.read(len(ON_DISK)) == ON_DISK
        vm = two.other.api.start(uuid)
    assert vm["state"] == "running"
    assert len(two.datasets(uuid)) == (3 if kind == "kvm" else 2)
