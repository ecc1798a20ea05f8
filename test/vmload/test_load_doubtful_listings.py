# SPDX-License-Identifier: MPL-2.0
"""What zfs once says is not there, of what was there before, is asked for again before it is believed. The commands
are a stand-in that gives what a test wants, one listing after the other."""

import mock
import pytest

from vmload import parts as part
from vmload.commands import Commands
from vmload.datasets import Datasets
from vmload.listings import Listings
from vmload.reader import Reader
from vmload.records import FileRecords, Zone, ZoneRecords
from vmload.runner import DIRECTLY
from vmload.system import System
from vmload.zonesources import Asked, Source, ZoneSources

pytestmark = pytest.mark.pure

U = "5b0e7ae8-9c1a-4b7e-8f63-00000000000a"
ROOT, DATA = f"zones/{U}", f"zones/{U}/data"
HELD = {DATA: [("indestructible", 1, 1, 1)]}
ROWS = {ROOT: {"name": ROOT, "mountpoint": "/" + ROOT, "type": "filesystem"}, DATA: {"name": DATA, "mountpoint": "-"}}
WHOLE = Datasets(ROWS, {"/" + ROOT: ROOT}, HELD)
WITHOUT_HOLD = Datasets(ROWS, {"/" + ROOT: ROOT})


def read_again(tmp_path, *listings):
    """The records of a VM that had the WHOLE, read anew, and how often zfs was asked for its root dataset."""
    zone = Zone(None, U, "installed", "/" + ROOT, U, "joyent", 0)
    old = ZoneRecords(zone, FileRecords(xml={"datasets": [DATA]}), None, {ROOT: WHOLE})
    commands = mock.create_autospec(Commands, instance=True)
    commands.datasets.side_effect = listings
    commands.mountpoints.return_value = Datasets()
    sources = ZoneSources(System(str(tmp_path)), Reader(System(str(tmp_path))), commands, Listings(commands))
    records = sources.ask(Source.ZFS, Asked(old, old, {part.DATASETS}), DIRECTLY)(old)
    for call in commands.datasets.call_args_list:
        assert call == mock.call(ROOT, 1, DIRECTLY, f"{DATA}@indestructible")
    return records.datasets[ROOT], commands.datasets.call_count


def test_listing_that_has_all_is_believed(tmp_path):
    assert read_again(tmp_path, WHOLE) == (WHOLE, 1)


@pytest.mark.parametrize("first", [WITHOUT_HOLD, Datasets()])
def test_one_that_lacks_something_is_asked_for_again(tmp_path, first):
    assert read_again(tmp_path, first, WHOLE) == (WHOLE, 2)


@pytest.mark.parametrize("gone", [WITHOUT_HOLD, Datasets()])
def test_what_is_twice_not_there_is_gone(tmp_path, gone):
    assert read_again(tmp_path, gone, gone) == (gone, 2)
