# SPDX-License-Identifier: MPL-2.0
"""What a libkstat that fails or hangs costs zones that change together: a moment, and the command in its place."""

import errno
import gc
import threading

import gevent
import pytest

from support.deadlines import SOON
from support.handmade_node import HandmadeNode, uuid
from support.libkstat import LibKstat, zone
from support.running_daemon import eventually
from vminfod.freshness.threads import Threads
from vmload.commands import Commands
from vmload.filereads import FileReads
from vmload.system import System

ZONES = range(1, 21)  # their zoneids
KERNEL = [*zone(1, 0, "global", init_pid=1), *(line for at in ZONES for line in zone(at + 1, at, uuid(at)))]


@pytest.fixture
def node(tmp_path):
    node = HandmadeNode(tmp_path)
    for at in ZONES:
        node.zone(uuid(at), name=uuid(at), zoneid=str(at))
        node.stats(uuid(at), instance=at, boot_time=5, init_pid=6, init_restarts=0)
    return node


def pids_of_all_at_once(node, limit=SOON):
    """The pid of each zone's init, all asked for at the same moment; a read may take `limit` seconds."""
    commands, runs = Commands(System(str(node.root))), Threads(FileReads(limit))
    zones = commands.zones().values()
    asking = [gevent.spawn(commands.zoneinfo, each, runs) for each in zones]
    gevent.joinall(asking, timeout=SOON, raise_error=True)
    return [one.get().init_pid for one in asking]


def test_library_that_fails_is_asked_once_for_all_and_so_is_the_command(node, compiled_libkstat):
    library = LibKstat(node.root, compiled_libkstat)
    library.kernel(*KERNEL, f"fail kstat_read {errno.EIO} 1000000")
    assert pids_of_all_at_once(node) == ["6"] * len(ZONES)
    assert library.calls().count("kstat_open") <= 4
    assert len(node.calls("kstat")) <= 4


@pytest.mark.parametrize("limit", [0.5, SOON])
def test_library_that_hangs_is_made_up_for_by_the_command_however_long_reads_may_take(node, compiled_libkstat, limit):
    library, before = LibKstat(node.root, compiled_libkstat), set(threading.enumerate())
    library.kernel(*KERNEL, "hang kstat_read")
    assert pids_of_all_at_once(node, limit) == ["6"] * len(ZONES)
    assert library.calls().count("kstat_read") == 1
    library.kernel(*KERNEL)
    eventually("no look hangs", lambda: gc.collect() >= 0 and set(threading.enumerate()) <= before)
