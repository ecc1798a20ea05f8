# SPDX-License-Identifier: MPL-2.0
"""What happens to a dataset while nobody knows yet whose it is: the zone that turns out to use it is asked about it
once more, as what zfs said may be older. The platform and the time are made up, what reads is real (onezone.py)."""

import pytest
from gevent.event import Event

from support.madeuptime import made_up_time
from support.onezone import DISKS, NAME, PATHS, Manner, OneZone
from vmload import parts as part
from vmload.records import Zone
from vmload.zonesources import Source

pytestmark = pytest.mark.pure

ROOT = PATHS[0][1:]


@pytest.fixture
def zone():
    """One that nobody knows yet, is being read, and of which zfs has looked and not answered."""
    with made_up_time() as clock:
        made = OneZone(clock)
        made.truth.zone = Zone(None, NAME, "installed", PATHS[0], "u", "joyent", 1)
        made.truth.xml = (1, DISKS[:1])
        made.behaves(Source.ZFS, Manner(gate=Event(), early=True))
        made.change(Source.ZONEADM, part.ALL, lambda number: None)
        made.tell(1)
        made.settle()
        assert (made.served(), asked(made)) == (None, 1)
        yield made
        made.reloads.stop()
        assert not made.broken


def asked(zone):
    return sum(asking.source is Source.ZFS for asking in zone.askings)


def answers(zone):
    zone.behaves(Source.ZFS, Manner())
    zone.settle()


def test_change_of_its_dataset_that_nobody_knew_as_its_own_is_not_lost(zone):
    zone.change_dataset(ROOT)
    zone.tell(1)
    zone.settle()
    number = zone.truth.datasets[ROOT]
    answers(zone)
    assert zone.served()["quota"] == number
    assert zone.served() == zone.truth.vm()


def test_change_of_its_disk_that_nobody_knew_as_its_own_is_not_lost(zone):
    zone.change_dataset(DISKS[0])
    zone.tell(1)
    zone.settle()
    answers(zone)
    assert zone.served()["disks"][0]["size"] == zone.truth.datasets[DISKS[0]]


@pytest.mark.parametrize("name", [f"{ROOT}/data", "zones"], ids=["below", "above"])
def test_what_lies_below_or_above_its_datasets_counts_too(zone, name):
    zone.change_dataset(name)
    zone.tell(1)
    zone.settle()
    answers(zone)
    assert asked(zone) == 2


@pytest.mark.parametrize("name", [f"{ROOT}b", "tank/other"])
def test_change_of_what_turns_out_to_be_of_others_costs_nothing(zone, name):
    zone.change_dataset(name)
    zone.tell(1)
    zone.settle()
    answers(zone)
    assert (asked(zone), zone.served()) == (1, zone.truth.vm())


def test_what_happened_before_it_was_asked_about_is_known(zone):
    answers(zone)
    assert (asked(zone), zone.served()) == (1, zone.truth.vm())
