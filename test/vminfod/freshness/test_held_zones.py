# SPDX-License-Identifier: MPL-2.0
"""What is read of a zone that a transaction holds, and when: the platform is a stand-in for the sources of VMs, and
everything between them and what is served is real."""

import time

import gevent
import mock
import pytest

from support.deadlines import SOON
from support.recording_log import RecordingLog
from vminfod.freshness.applying import Applying
from vminfod.freshness.datasetevents import DatasetEvents
from vminfod.freshness.filewatches import FileWatches
from vminfod.freshness.reloads import Reloads
from vminfod.freshness.retrying import Retrying
from vminfod.freshness.sysinfo import Sysinfo
from vminfod.freshness.threads import Threads
from vminfod.queue import Queue
from vminfod.serving.cache import Cache
from vminfod.serving.cause import REFRESH, REQUEST, Cause
from vminfod.serving.holds import Holds, Transaction, Writer
from vminfod.serving.hub import Hub
from vmload.filereads import FileReads
from vmload.loader import SysinfoReading
from vmload.loaderror import CommandFailed, ZoneGone
from vmload.records import FileRecords, Zone, ZoneRecords
from vmload.zonesources import Source, ZoneSources

pytestmark = pytest.mark.pure

WITHIN = SOON  # seconds for what takes milliseconds
ZONE = Zone(None, "z", "installed", "/zones/z", "z", "joyent", 0)


class Parts:
    """The zone z, served with alias `first`, and held. `alias`: what the platform says from now on. `sources` and
    `watches` are stand-ins, made from the real classes."""

    def __init__(self):
        log = RecordingLog()
        self.queue, self.holds = Queue(log=log, workers=1, dedup=True), Holds()
        self.hub = Hub(log)
        self.cache = Cache(self.hub, log)
        self.alias = "first"
        self.errors = []  # what the next readings raise
        self.sources = mock.create_autospec(ZoneSources, instance=True)
        self.sources.ask.side_effect = self._ask
        self.sources.find.return_value = ZONE
        watches = mock.create_autospec(FileWatches, instance=True)
        self.sysinfo = Sysinfo()
        retrying = Retrying(log)
        applying = Applying(self.cache, self.holds, self.sysinfo, watches, retrying)
        threads = Threads(FileReads(WITHIN))
        self.reloads = Reloads(
            self.sources, self.cache, self.holds, applying, retrying, DatasetEvents(), self.queue, watches, threads, log
        )
        self.reloads.take("z", self.records(), None, 0)
        self.holder = Transaction("z", "z", Writer("update", None, 7, 0), 60)
        self.holds.take(self.holder, 0)
        self.cause = Cause("vmadm", self.holder.details(), time.monotonic_ns())

    def records(self):
        return ZoneRecords(ZONE, FileRecords(xml={"brand": "joyent", "zonename": "z", "nics": [], "alias": self.alias}))

    def _ask(self, source, *_):
        if source is Source.XML and self.errors:
            raise self.errors.pop(0)
        return lambda records: self.records() if source is Source.XML else records

    def readings(self):
        """How often the zone was read."""
        return self.sources.find.call_count

    def end(self):
        """What ends the transaction, up to the moment before the VM is let go."""
        self.holds.read_for(self.holder, self.cause)
        self.reloads.read_fresh("z", self.cause, WITHIN)

    def served(self):
        entry = self.cache.served("z")
        return None if entry is None else entry.vm

    def until(self, check):
        with gevent.Timeout(WITHIN):
            while not check():
                gevent.sleep(0.001)

    def rest(self):
        """Let everything run that can."""
        for _ in range(50):
            gevent.sleep(0)


def test_zone_that_is_held_is_not_read_whatever_is_marked():
    parts = Parts()
    parts.alias = "second"
    for cause in (REQUEST, REFRESH, Cause("zfs")):
        parts.reloads.mark("z", cause=cause)
        parts.rest()
    assert parts.readings() == 0 and not parts.sources.ask.called
    assert parts.reloads.busy() == [] and parts.reloads.touched_since("z", time.monotonic_ns())
    parts.end()
    assert (parts.served()["alias"], parts.hub.rev) == ("second", 1)
    assert parts.readings() == 1


@pytest.mark.parametrize("is_gone", [False, True])
def test_what_others_have_read_changes_nothing(is_gone):
    parts = Parts()
    parts.alias = "second"
    found = ZoneGone("no such zone") if is_gone else parts.records()
    applied = parts.reloads.take("z", found, REFRESH, time.monotonic_ns())
    assert applied.is_kept_back and applied.event is None
    assert (parts.served()["alias"], parts.hub.rev) == ("first", 0)
    parts.end()
    assert (parts.served()["alias"], parts.hub.rev) == ("second", 1)


def test_what_is_kept_back_behind_the_reading_that_ends_it_is_read_again_when_the_vm_is_free():
    """Sysinfo, for one, whose change is seen in this moment."""
    parts = Parts()
    parts.end()
    parts.sysinfo.take(SysinfoReading({"Datacenter Name": "moved"}), time.monotonic_ns())
    assert parts.reloads.take("z", parts.records(), REQUEST, time.monotonic_ns()).is_kept_back
    count = parts.readings()
    parts.rest()
    assert parts.readings() == count, "it is not read again and again meanwhile"
    assert "datacenter_name" not in parts.served()
    parts.holds.release(parts.holder)
    parts.until(lambda: parts.served().get("datacenter_name") == "moved")
    assert parts.hub.rev == 1


def test_command_that_fails_once_at_the_end_has_another_chance():
    parts = Parts()
    parts.alias = "second"
    parts.errors = [CommandFailed("it fails")]
    parts.end()
    assert (parts.served()["alias"], parts.hub.rev) == ("second", 1)


def test_end_that_cannot_be_read_says_so_and_the_next_one_is_read_for_itself():
    parts = Parts()
    parts.alias = "second"
    parts.errors = [CommandFailed("it fails")] * 2
    with pytest.raises(CommandFailed):
        parts.end()
    parts.holds.release(parts.holder)
    next_one = Transaction("z", "z", Writer("update", None, 8, 0), 60)
    parts.holds.take(next_one, 0)
    parts.rest()
    assert (parts.served()["alias"], parts.hub.rev) == ("first", 0)
    parts.holder, parts.cause = next_one, Cause("vmadm", next_one.details(), time.monotonic_ns())
    parts.alias = "third"
    parts.end()
    assert (parts.served()["alias"], parts.hub.rev) == ("third", 1)
