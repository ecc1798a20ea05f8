# SPDX-License-Identifier: MPL-2.0
"""The typed change has a place for all that a payload may say; what is not said is neither null, false nor 0."""

import dataclasses

import pytest

from vmadm.payload import change
from vmadm.payload.unset import UNSET, said
from vmload import properties

pytestmark = pytest.mark.pure

# In the property table, and not in Properties: spoken of otherwise, under another name, or of no VM of ours.
ELSEWHERE = {"brand", "dataset_uuid", "zone_dataset_uuid", "zfs_storage_pool_name"}


def allowed_names(of_list=None):
    for name, entry in properties.table().items():
        allowed = (entry["payload"] or {}).get("allowed", {})
        if not {"create", "update", "add"} & {action for actions in allowed.values() for action in actions}:
            continue
        owner, _, member = name.partition(".*.")
        if of_list is None and not member and entry["payload"]["type"] not in ("object-array", "flat-object"):
            if not name.startswith("remove_"):
                yield name
        elif member and owner == of_list:
            yield member


def test_each_property_that_a_payload_may_have_has_a_field():
    fields = {each.name for each in dataclasses.fields(change.Properties)}
    assert set(allowed_names()) - ELSEWHERE == fields


@pytest.mark.parametrize(
    ("kind", "name", "dropped"),
    [
        (change.NicChange, "nics", set()),
        (change.DiskChange, "disks", set()),
        (change.FilesystemChange, "filesystems", set()),
        (change.PciChange, "pci_devices", set()),
    ],
)
def test_each_member_of_a_list_has_a_field(kind, name, dropped):
    fields = {each.name for each in dataclasses.fields(kind)}
    assert set(allowed_names(name)) - dropped == fields


def test_what_is_said_is_told_from_what_is_not():
    asked = change.Properties(quota=0, alias=None, autoboot=False, resolvers=())
    assert dict(asked.items()) == {"quota": 0, "alias": None, "autoboot": False, "resolvers": ()}
    assert asked.ram is UNSET


def test_unset_has_no_truth_value():
    with pytest.raises(TypeError):
        bool(UNSET)


def test_said_takes_the_default_for_no_value_only():
    assert [said(value, 7) for value in (UNSET, None, 0, 3)] == [7, 7, 0, 3]


def test_a_request_tells_what_was_asked_by_the_payloads_keys():
    request = change.Request(
        properties=change.Properties(quota=20),
        nics=change.Elements(add=(change.NicChange(nic_tag="a"),), remove=("00:00:00:00:00:01",)),
        maps=change.Maps(tags=change.MapChange(set={"a": 1}, remove=("b",))),
    )
    assert list(request.items()) == [
        ("quota", 20),
        ("add_nics", change.NicChange(nic_tag="a")),
        ("remove_nics", "00:00:00:00:00:01"),
        ("set_tags", {"a": 1}),
        ("remove_tags", ("b",)),
    ]


def test_a_map_change_sets_what_it_both_sets_and_removes():
    asked = change.MapChange(set={"a": 1}, remove=("a", "b"))
    assert asked.applied({"a": 0, "b": 0, "c": 0}) == {"c": 0, "a": 1}
