# SPDX-License-Identifier: MPL-2.0
"""What records of a VM lack that must be there, and that nothing lacks where it need not be."""

import pytest

from vmload import parts as part
from vmload.datasets import Datasets
from vmload.lacking import lacking
from vmload.records import FileRecords, Zone, ZoneInfo, ZoneRecords

pytestmark = pytest.mark.pure

U = "5b0e7ae8-9c1a-4b7e-8f63-00000000000a"
ROOT, DISK, SHARE = f"zones/{U}", f"zones/{U}/disk0", "tank/share"
STATISTICS = ZoneInfo("1", "2", "0")


def listed(*names, mountpoint=None):
    rows = {name: {"name": name, "mountpoint": "/" + name} for name in names}
    return Datasets(rows, {mountpoint: names[0]} if mountpoint else {})


def records(state="running", zoneid=7, name=U, statistics=STATISTICS, xml=None, **by_parent):
    zone = Zone(zoneid, name, state, "/" + ROOT, U, "joyent", 0)
    datasets = by_parent.get("datasets", {ROOT: listed(ROOT)})
    return ZoneRecords(zone, FileRecords(xml=xml or {}), statistics, datasets)


def test_vm_that_has_all_lacks_nothing():
    assert lacking(records()) == set()


def test_zone_in_the_kernel_must_have_statistics():
    assert lacking(records(statistics=None)) == {part.ZONEINFO}


@pytest.mark.parametrize("zone", [{"state": "installed", "zoneid": None}, {"name": "web01"}])
def test_zone_outside_of_the_kernel_or_of_another_name_than_its_uuid_has_none(zone):
    assert lacking(records(statistics=None, **zone)) == set()


@pytest.mark.parametrize("state", ["running", "installed", "ready"])
def test_installed_zone_must_have_a_dataset(state):
    assert lacking(records(state, datasets={ROOT: Datasets()})) == {part.DATASETS}


@pytest.mark.parametrize("state", ["configured", "incomplete"])
def test_zone_that_is_half_made_need_not_have_one(state):
    assert lacking(records(state, None, datasets={ROOT: Datasets()}, xml={"datasets": [SHARE]})) == set()


def test_dataset_of_another_name_that_is_mounted_at_the_zonepath_will_do():
    other = {ROOT: Datasets(), "zones/other": listed("zones/other", mountpoint="/" + ROOT)}
    assert lacking(records(datasets=other)) == set()


@pytest.mark.parametrize(
    "xml", [{"datasets": [SHARE]}, {"datasets": [f"{ROOT}/data"]}, {"disks": [{"path": f"/dev/zvol/rdsk/{DISK}"}]}]
)
def test_datasets_that_the_xml_names_must_be_there(xml):
    assert lacking(records(xml=xml)) == {part.DATASETS}
    whole = {ROOT: listed(ROOT, DISK, f"{ROOT}/data"), SHARE: listed(SHARE)}
    assert lacking(records(xml=xml, datasets=whole)) == set()


def test_disk_that_is_no_volume_is_no_dataset():
    assert lacking(records(xml={"disks": [{"path": "/zones/images/cd.iso"}]})) == set()
