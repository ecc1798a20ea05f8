# SPDX-License-Identifier: MPL-2.0
"""Which zones of the first load are read once more: those whose files were read before they were watched."""

from unittest.mock import create_autospec

import pytest

from support.recording_log import RecordingLog
from vminfod.freshness.activity import Activity
from vminfod.freshness.doubts import Doubts
from vminfod.freshness.filewatches import FileWatcher, FileWatches, watched_for
from vminfod.freshness.firstload import FirstLoad
from vminfod.freshness.reloads import Reloads
from vminfod.freshness.sysinfo import Sysinfo
from vminfod.serving.cause import REFRESH
from vmload import parts as part
from vmload.loader import Loader, NodeRecords, SysinfoReading
from vmload.records import FileRecords, Zone, ZoneRecords

pytestmark = pytest.mark.pure


def zone(name):
    return Zone(None, name, "installed", f"/zones/{name}", name, "joyent", 0)


class Threads:
    """`node`: what the load finds; `listed`: the zones when the watches were set."""

    def __init__(self, node, listed):
        self._node, self._listed = node, listed

    def beside(self, step):
        return step

    def zoneadm(self, _step):
        return self._listed

    def node(self, _step, *words):
        if words == (self._listed, watched_for):
            return {}, {}
        return self._node


def test_zone_that_appeared_since_the_watches_were_set_is_read_once_more(monkeypatch):
    monkeypatch.setattr(Doubts, "put_right", lambda _self, node, _listed: node)
    old, new = zone("old"), zone("new")
    node = NodeRecords({one.zonename: ZoneRecords(one, FileRecords()) for one in (old, new)}, {}, SysinfoReading({}))
    reloads, log = create_autospec(Reloads, instance=True), RecordingLog()
    watches = FileWatches(create_autospec(FileWatcher, instance=True), log)
    threads, loader = Threads(node, [old]), create_autospec(Loader, instance=True)
    FirstLoad(loader, watches, Sysinfo(), reloads, threads, Activity(log), log).run()
    assert [one.args[0] for one in reloads.take.call_args_list] == ["old", "new"]
    reloads.mark.assert_called_once_with("new", part.OF_FILES, cause=REFRESH)
