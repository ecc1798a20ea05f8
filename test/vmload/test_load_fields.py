# SPDX-License-Identifier: MPL-2.0
"""Loads that are limited to some fields (docs/vm-object.md, "Loads of some properties"): what they yield, and what they
leave unread."""

import pytest

from support.handmade_node import HandmadeNode, U, attr, canonical, device, rctl

ROOT = "zones/" + U
RECEIVING = {"transition": "receiving:stopped:1773403317000"}


@pytest.fixture
def node(tmp_path):
    return HandmadeNode(tmp_path)


def test_state_keeps_the_properties_it_depends_on(node):
    node.zone()
    assert node.vm(fields=["state"]) == {"zone_state": "running", "state": "running"}


def test_state_keeps_failed_and_provisioning_where_they_are_set(node):
    node.zone(state="installed", attrs={"provisioning": "true", "failed": "x", "alias": "YQ=="})
    assert node.vm(fields=["state"]) == {
        "zone_state": "installed",
        "state": "failed",
        "provisioning": True,
        "failed": "x",
    }


def test_state_by_a_transition_leaves_its_other_parts_out(node):
    node.zone(attrs=RECEIVING)
    assert node.vm(fields=["state"]) == {"zone_state": "running", "state": "receiving"}


@pytest.mark.parametrize(
    ("inner", "added"),
    [
        (attr("ram", "512") + rctl("zone.max-physical-memory", "536870912"), {"ram": 512, "max_physical_memory": 512}),
        (rctl("zone.max-physical-memory", "536870912"), {"max_physical_memory": 512}),
        ("", {}),
    ],
)
def test_ram_and_type_keep_brand_and_physical_memory(node, inner, added):
    node.zone(inner=inner)
    assert canonical(node.vm(fields=["hvm", "type", "ram"])) == canonical({"brand": "joyent", "hvm": False, **added})


def test_datasets_alone_yields_nothing_since_the_xml_is_not_read(node):
    node.zone(inner='<dataset name="zones/x"/>')
    assert node.vm(fields=["datasets"]) == {}


def test_datasets_beside_a_property_of_the_xml_is_there(node):
    node.zone(inner='<dataset name="zones/x"/>', attrs={"hostname": "h"})
    assert node.vm(fields=["datasets", "hostname"]) == {"datasets": ["zones/x"], "hostname": "h"}


def test_indestructible_delegated_alone_yields_nothing_for_one_vm(node):
    # the XML is not read, so that the delegated dataset is no parent and its snapshot is out of depth
    node.zone(inner=f'<dataset name="{ROOT}/data"/>')
    node.dataset(ROOT + "/data", zoned="on")
    node.snapshot(ROOT + "/data@indestructible", userrefs=1)
    assert node.vm(fields=["indestructible_delegated"]) == {}


def test_missing_alone_sees_no_transition(node):
    node.zone(state="configured", attrs=RECEIVING, listed=False)
    assert node.vm(fields=["missing"]) == {"state": "configured"}


def test_missing_with_transition_works(node):
    node.zone(state="configured", attrs=RECEIVING, listed=False, brand="bhyve", inner=device("/dev/zvol/rdsk/zones/x"))
    assert node.vm(fields=["missing", "transition"]) == {
        "state": "receiving",
        "missing": {"datasets": [ROOT], "disks": ["/dev/zvol/rdsk/zones/x"], "filesystems": []},
    }


def test_free_space_keeps_the_flexible_disk_size(node):
    node.zone(brand="bhyve", attrs={"flexible-disk-size": "100"}, inner=device(f"/dev/zvol/rdsk/{ROOT}/disk0"))
    node.volume(ROOT + "/disk0", 10 << 20, usedbysnapshots=1)
    assert canonical(node.vm(fields=["free_space"])) == canonical({"flexible_disk_size": 100, "free_space": 89})


def test_transition_to_without_a_transition_yields_nothing(node):
    node.zone()
    assert node.vm(fields=["transition_to"]) == {}


def test_transition_to_with_a_transition_is_there(node):
    node.zone(attrs=RECEIVING)
    assert node.vm(fields=["transition_to"]) == {"transition_to": "stopped"}


@pytest.mark.parametrize(
    ("userrefs", "wanted"),
    [(1, {"indestructible_zoneroot": True, "zfs_filesystem": ROOT}), (0, {"zfs_filesystem": ROOT})],
)
def test_indestructible_zoneroot_keeps_the_dataset(node, userrefs, wanted):
    node.zone()
    node.snapshot(ROOT + "@indestructible", userrefs=userrefs)
    assert node.vm(fields=["indestructible_zoneroot"]) == wanted


@pytest.mark.parametrize("fields", [["disks.*.size"], ["nics.0.ip"], ["nonsense"], ["allowed_address"], ["add_nics"]])
def test_names_that_are_no_key_of_an_object_match_nothing(node, fields):
    node.zone(brand="bhyve", inner=device(f"/dev/zvol/rdsk/{ROOT}/disk0"))
    assert node.vm(fields=fields) == {}


def test_the_dependencies_of_a_dependency_do_not_count(node):
    # missing depends on state, state on zone_state: asking for missing gives no zone_state
    node.zone()
    assert node.vm(fields=["missing"]) == {"state": "running"}


@pytest.mark.parametrize("fields", [None, []])
def test_no_fields_means_all(node, fields):
    node.zone()
    assert {"nics", "tags", "quota", "state", "server_uuid", "last_modified"} <= set(node.vm(fields=fields))


@pytest.mark.parametrize(
    "name",
    [
        "uuid",
        "zonename",
        "brand",
        "zone_state",
        "zonepath",
        "hvm",
        "zoneid",
        "zonedid",
        "last_modified",
        "resolvers",
        "firewall_enabled",
        "server_uuid",
        "platform_buildstamp",
        "boot_timestamp",
        "init_restarts",
        "pid",
        "tags",
        "routes",
        "customer_metadata",
        "nics",
        "alias",
        "autoboot",
        "quota",
        "zfs_filesystem",
        "zpool",
        "create_timestamp",
        "exit_status",
        "exit_timestamp",
    ],
)
def test_a_single_field_has_the_value_that_the_whole_object_has(node, name):
    node.zone(state="ready", attrs={"alias": "YQ=="})
    node.last_exited("1773403317.5 0\n")
    node.stats(U, boot_time=1773403200, init_pid=20417, init_restarts=0)
    whole = node.vm()
    assert canonical(node.vm(fields=[name])) == canonical({name: whole[name]})


def test_limited_load_of_all_gives_each_vm_its_limited_object(node):
    node.zone()
    assert node.vms(fields=["alias", "uuid"]) == {U: {"uuid": U}}


def ran(node):
    return sorted({call["tool"] for call in node.calls()})


@pytest.mark.parametrize(
    ("fields", "tools"),
    [
        (["uuid"], ["zoneadm"]),
        (["alias"], ["zoneadm"]),
        (["tags"], ["zoneadm"]),
        (["server_uuid"], ["zoneadm"]),
        (["last_modified"], ["zoneadm"]),
        (["exit_status"], ["zoneadm"]),
        (["state"], ["zoneadm"]),
        (["pid"], ["kstat", "zoneadm"]),
        (["quota"], ["zfs", "zoneadm"]),
    ],
)
def test_only_the_tools_that_a_wanted_field_needs_are_run(node, fields, tools):
    node.zone()
    node.vm(fields=fields)
    assert ran(node) == tools
    node.forget_calls()
    node.vms(fields=fields)
    assert ran(node) == tools


def test_files_that_no_wanted_field_needs_are_not_read(node):
    # each of them would fail the VM
    node.zone(xml="GARBAGE")
    node.unreadable(ROOT + "/config/tags.json")
    assert node.vm(fields=["uuid", "pid", "hvm"]) == {"uuid": U, "hvm": False}
