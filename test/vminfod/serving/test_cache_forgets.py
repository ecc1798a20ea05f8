# SPDX-License-Identifier: MPL-2.0
"""What the cache knows of a VM goes with the VM: its datasets, its names, its text."""

import gc
import tracemalloc

import pytest

from support.recording_log import RecordingLog
from vminfod.serving.cache import Cache
from vminfod.serving.cause import REQUEST
from vminfod.serving.hub import Hub, Limits
from vmload.datasets import Datasets
from vmload.records import FileRecords, Zone, ZoneRecords

pytestmark = pytest.mark.pure


def records(name, *datasets):
    zone = Zone(None, name, "installed", f"/zones/{name}", name, "joyent", 0)
    return ZoneRecords(zone, FileRecords(), None, {dataset: Datasets() for dataset in datasets})


def vm(name, **values):
    return {"zonename": name, "uuid": name, **values}


@pytest.fixture
def log():
    return RecordingLog()


@pytest.fixture
def cache(log):
    return Cache(Hub(log, Limits(ring_events=1)), log)


def put(cache, name, *datasets):
    cache.put(name, records(name, *datasets), vm(name), REQUEST)


def test_datasets_of_a_deleted_vm_are_used_by_none(cache):
    put(cache, "one", "zones/one", "tank/disks/one")
    put(cache, "two", "zones/two")
    assert cache.zones_using("zones/one/data") == {"one"}
    assert cache.zones_using_below("tank/disks") == cache.zones_using_below("tank") == {"one"}
    assert cache.zones_using_below("zones") == {"one", "two"}

    assert cache.drop("one", REQUEST)
    assert cache.zones_using("zones/one/data") == cache.zones_using("tank/disks/one") == set()
    assert cache.zones_using_below("tank/disks") == cache.zones_using_below("tank") == set()
    assert cache.zones_using_below("zones") == {"two"}


def test_dataset_that_a_vm_no_longer_uses_is_used_by_none(cache):
    put(cache, "one", "zones/one", "tank/disks/one")
    put(cache, "one", "zones/one")
    assert cache.zones_using("tank/disks/one") == set()
    assert cache.zones_using_below("tank") == set()
    assert cache.zones_using("zones/one") == {"one"}


def test_vms_that_came_and_went_leave_nothing_behind(cache, log):
    def come_and_go(count):
        for number in range(count):
            name = f"vm{number}"
            put(cache, name, f"zones/{name}", f"tank{number}/disks/{name}")
            cache.drop(name, REQUEST)
        log.records.clear()
        gc.collect()
        return len(gc.get_objects())

    few = come_and_go(10)
    assert come_and_go(500) < few + 50
    assert len(cache) == 0
    assert cache.zonename("vm7") is None
    assert cache.vms() == b"[]"


def test_vm_that_changes_very_often_costs_no_more_than_one_that_has_changed_a_few_times(cache, log):
    """No event and no object of before is kept, but for those to resume over."""
    kept = []

    def change(first, last):
        for number in range(first, last):
            cache.put("one", records("one", "zones/one"), vm("one", alias=f"{number}" * 200), REQUEST)
            log.records.clear()
        gc.collect()
        kept.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        change(1000, 1100)
        change(1100, 3000)
    finally:
        tracemalloc.stop()
    assert kept[1] - kept[0] < 100_000, "each change has some 1,600 bytes"
