# SPDX-License-Identifier: MPL-2.0
"""What a VM object has from ZFS (docs/vm-object.md, "Datasets"): datasets, disks, snapshots, free space, what is
missing."""

import json

import pytest

from support.handmade_node import UNLIMITED, HandmadeNode, U, canonical, device, uuid

A = uuid(0xA)
ROOT = "zones/" + U
RECEIVING = {"transition": "receiving:stopped:1773403317000"}
FROM_ROOT = {
    "indestructible_zoneroot",
    "quota",
    "zfs_root_compression",
    "zfs_root_recsize",
    "zfs_filesystem_limit",
    "zfs_snapshot_limit",
    "zfs_filesystem",
    "zpool",
}


@pytest.fixture
def node(tmp_path):
    return HandmadeNode(tmp_path)


def disk(name):
    return device("/dev/zvol/rdsk/" + name)


# -- root dataset


def test_root_dataset_gives_its_properties(node):
    node.zone(
        root_dataset={
            "quota": 10 << 30,
            "compression": "lz4",
            "recsize": 65536,
            "filesystem_limit": 5,
            "snapshot_limit": 7,
            "creation": 1772800000,
        }
    )
    vm = node.vm()
    assert canonical({key: vm[key] for key in vm if key in FROM_ROOT | {"create_timestamp"}}) == canonical(
        {
            "quota": 10,
            "zfs_root_compression": "lz4",
            "zfs_root_recsize": 65536,
            "zfs_filesystem_limit": 5,
            "zfs_snapshot_limit": 7,
            "zfs_filesystem": ROOT,
            "zpool": "zones",
            "create_timestamp": "2026-03-06T12:26:40.000Z",
        }
    )


def test_compression_off_and_unlimited_limits_are_left_out(node):
    node.zone(root_dataset={"compression": "off", "filesystem_limit": UNLIMITED, "snapshot_limit": UNLIMITED})
    assert {"zfs_root_compression", "zfs_filesystem_limit", "zfs_snapshot_limit"} & set(node.vm()) == set()


def test_limit_of_zero_and_one_below_unlimited_are_limits(node):
    node.zone(root_dataset={"filesystem_limit": 0, "snapshot_limit": "18446744073709551614"})
    vm = node.vm()
    assert (vm["zfs_filesystem_limit"], vm["zfs_snapshot_limit"]) == (0, 18446744073709551614)


@pytest.mark.parametrize(("size", "gib"), [(0, 0), (1 << 30, 1), (3 << 29, 1.5), (1 << 20, 0.0009765625), ("-", None)])
def test_quota_is_in_gib_and_not_rounded(node, size, gib):
    node.zone(root_dataset={"quota": size, "refquota": 99 << 30})
    assert canonical(node.vm()["quota"]) == canonical(gib)


def test_quota_of_bhyve_is_the_refquota(node):
    node.zone(brand="bhyve", root_dataset={"quota": 99 << 30, "refquota": 2 << 30})
    assert canonical(node.vm()["quota"]) == canonical(2)


def test_quota_of_kvm_is_the_quota(node):
    node.zone(brand="kvm", root_dataset={"quota": 3 << 30, "refquota": 2 << 30})
    assert canonical(node.vm()["quota"]) == canonical(3)


def test_create_timestamp_of_the_xml_goes_before_that_of_the_dataset(node):
    node.zone(attrs={"create-timestamp": "2020-02-02T02:02:02.002Z"})
    assert node.vm()["create_timestamp"] == "2020-02-02T02:02:02.002Z"


def test_root_dataset_is_found_by_its_mountpoint_and_not_by_its_name(node):
    node.dataset("tank")
    node.zone(zonepath="/zones/" + U, listed=False)
    node.dataset("tank/place", mountpoint="/zones/" + U)
    node.dataset(ROOT, mountpoint="/elsewhere")
    assert node.vms()[U]["zfs_filesystem"] == "tank/place"
    assert node.vms()[U]["zpool"] == "tank"


def test_root_dataset_on_another_pool(node):
    node.dataset("tank")
    node.zone(zonepath="/tank/" + U)
    vm = node.vm()
    assert (vm["zfs_filesystem"], vm["zpool"]) == ("tank/" + U, "tank")


def test_legacy_mountpoint_counts_as_the_name(node):
    node.zone(root_dataset={"mountpoint": "legacy"})
    assert node.vm()["zfs_filesystem"] == ROOT


def test_without_a_root_dataset_nothing_of_it_is_set_and_snapshots_are_empty(node):
    node.zone(listed=False)
    for vm in (node.vm(), node.vms()[U]):
        assert (FROM_ROOT | {"create_timestamp"}) & set(vm) == set()
        assert vm["snapshots"] == []


@pytest.mark.parametrize("zoned", ["on", "off"])
def test_delegated_dataset_with_the_zonepath_as_mountpoint_is_not_the_root_dataset(node, zoned):
    node.zone(root_dataset={"recsize": 1})
    node.dataset(ROOT + "/data", mountpoint="/zones/" + U, zoned=zoned, recsize=2)
    assert node.vm()["zfs_root_recsize"] == 1


def test_hold_on_the_indestructible_snapshot_makes_the_zoneroot_indestructible(node):
    node.zone()
    node.snapshot(ROOT + "@indestructible", userrefs=1)
    assert node.vm()["indestructible_zoneroot"] is True


@pytest.mark.parametrize(
    ("name", "userrefs"), [("@indestructible", 0), ("@indestructible2", 1), ("@vmsnap-indestructible", 1)]
)
def test_without_the_held_snapshot_indestructible_zoneroot_is_absent(node, name, userrefs):
    node.zone()
    node.snapshot(ROOT + name, userrefs=userrefs)
    assert "indestructible_zoneroot" not in node.vm()


# -- delegated dataset


@pytest.mark.parametrize("inner", ["", f'<dataset name="{ROOT}/data"/>'])
def test_delegated_dataset_is_found_by_name_whether_the_xml_lists_it_or_not(node, inner):
    node.zone(inner=inner)
    node.dataset(ROOT + "/data", zoned="on", mountpoint="/anything", compression="gzip", recsize=8192)
    vm = node.vm()
    assert (vm["zfs_data_compression"], vm["zfs_data_recsize"]) == ("gzip", 8192)
    assert "indestructible_delegated" not in vm


def test_compression_off_of_the_delegated_dataset_is_left_out(node):
    node.zone()
    node.dataset(ROOT + "/data", zoned="on")
    vm = node.vm()
    assert "zfs_data_compression" not in vm
    assert vm["zfs_data_recsize"] == 131072


@pytest.mark.parametrize("inner", ["", f'<dataset name="{ROOT}/data"/>'])
@pytest.mark.parametrize(("userrefs", "value"), [(1, True), (2, True), (0, None)])
def test_hold_on_the_indestructible_snapshot_of_the_delegated_dataset(node, inner, userrefs, value):
    node.zone(inner=inner)
    node.dataset(ROOT + "/data", zoned="on")
    node.snapshot(ROOT + "/data@indestructible", userrefs=userrefs)
    assert [vm.get("indestructible_delegated") for vm in (node.vm(), node.vms()[U])] == [value, value]


def test_delegated_dataset_of_a_receiving_vm_follows_its_payload(node):
    node.zone(state="configured", attrs=RECEIVING, listed=False, inner='<dataset name="zones/other/data"/>')
    node.file(f"etc/zones/{U}-receiving.json", json.dumps({"zfs_filesystem": "zones/other"}))
    node.dataset("zones/other", mountpoint="none")
    node.dataset("zones/other/data", zoned="on", recsize=8192)
    vm = node.vm()
    assert vm["zfs_data_recsize"] == 8192
    assert FROM_ROOT & set(vm) == {"zfs_filesystem"}


def test_dataset_called_data_of_another_vm_is_not_mine(node):
    node.zone()
    node.zone(A)
    node.dataset(f"zones/{A}/data", zoned="on", recsize=8192)
    assert "zfs_data_recsize" not in node.vms()[U]


# -- disks


def test_zvol_gives_a_disk_its_sizes(node):
    node.zone(brand="bhyve", inner=disk(ROOT + "/disk0"))
    node.volume(ROOT + "/disk0", 10737418240, refreservation=11075584000, volblocksize=8192, compression="off")
    assert canonical(node.vm()["disks"]) == canonical(
        [
            {
                "path": f"/dev/zvol/rdsk/{ROOT}/disk0",
                "zfs_filesystem": ROOT + "/disk0",
                "zpool": "zones",
                "size": 10240,
                "compression": "off",
                "refreservation": 10563,
                "block_size": 8192,
            }
        ]
    )


@pytest.mark.parametrize(("size", "mib"), [(0, 0), (1, 1), (1048576, 1), (1048577, 2), (555745280, 530)])
def test_refreservation_is_rounded_up_to_whole_mib(node, size, mib):
    node.zone(brand="bhyve", inner=disk(ROOT + "/disk0"))
    node.volume(ROOT + "/disk0", 1 << 30, refreservation=size)
    assert canonical(node.vm()["disks"][0]["refreservation"]) == canonical(mib)


def test_disk_size_is_not_rounded(node):
    node.zone(brand="bhyve", inner=disk(ROOT + "/disk0"))
    node.volume(ROOT + "/disk0", 1572864)
    assert node.vm()["disks"][0]["size"] == 1.5


def test_dash_in_a_numeric_column_becomes_null_in_arithmetic(node):
    node.zone(brand="bhyve", inner=disk(ROOT + "/disk0"))
    node.volume(ROOT + "/disk0", "-", refreservation="-")
    found = node.vm()["disks"][0]
    assert (found["size"], found["refreservation"]) == (None, None)


@pytest.mark.parametrize("path", [f"/dev/zvol/rdsk/{ROOT}/gone", f"/dev/zvol/dsk/{ROOT}/disk0", "/zones/images/cd.iso"])
def test_disk_that_is_no_known_zvol_is_missing(node, path):
    node.zone(brand="bhyve", inner=device(path, media="cdrom"))
    node.volume(ROOT + "/disk0", 1 << 30)
    for vm in (node.vm(), node.vms()[U]):
        assert vm["disks"] == [{"path": path, "media": "cdrom", "missing": True}]


def test_device_without_a_path_is_left_alone(node):
    node.zone(brand="bhyve", inner='<device><net-attr name="media" value="disk"/></device>')
    assert node.vm()["disks"] == [{"media": "disk"}]


@pytest.mark.parametrize("brand", ["joyent", "lx", "kvm"])
def test_device_of_any_brand_follows_the_same_rule(node, brand):
    node.zone(brand=brand, inner=disk("zones/vol") + device("/dev/fuse"))
    node.volume("zones/vol", 1 << 20)
    disks = node.vm()["disks"]
    assert (disks[0]["size"], disks[1]["missing"]) == (1, True)


def test_pci_device_has_nothing_from_zfs(node):
    node.zone(brand="bhyve", inner=device(f"/dev/zvol/rdsk/{ROOT}/disk0", model="passthru"))
    node.volume(ROOT + "/disk0", 1 << 30)
    assert node.vm()["pci_devices"] == [{"path": f"/dev/zvol/rdsk/{ROOT}/disk0", "model": "passthru"}]


def test_kvm_disk_beside_the_root_dataset_and_disk_on_another_pool_are_found(node):
    node.dataset("tank")
    node.zone(brand="kvm", inner=disk(ROOT + "-disk0") + disk("tank/vols/disk1"))
    node.volume(ROOT + "-disk0", 1 << 20)
    node.dataset("tank/vols")
    node.volume("tank/vols/disk1", 2 << 20)
    for vm in (node.vm(), node.vms()[U]):
        assert [(item["size"], item["zpool"]) for item in vm["disks"]] == [(1, "zones"), (2, "tank")]


# -- snapshots


def test_snapshots_are_those_of_the_root_dataset_named_vmsnap(node):
    node.zone(inner=disk(ROOT + "/disk0"))
    node.snapshot(ROOT + "@vmsnap-monday", creation=1772800000, written=52428)
    node.snapshot(ROOT + "@vmsnap-", creation=1)
    node.snapshot(ROOT + "@other", creation=2)
    node.snapshot(ROOT + "@xvmsnap-a", creation=2)
    node.snapshot(ROOT + "@vmsnap-vmsnap-x", creation=0, written=1 << 20)
    node.volume(ROOT + "/disk0", 1 << 20)
    node.snapshot(ROOT + "/disk0@vmsnap-disk", creation=3)
    node.dataset(ROOT + "/data", zoned="on")
    node.snapshot(ROOT + "/data@vmsnap-data", creation=3)
    wanted = [
        {"name": "monday", "size": 0.049999237060546875, "created_at": "2026-03-06T12:26:40.000Z"},
        {"name": "vmsnap-x", "size": 1, "created_at": "1970-01-01T00:00:00.000Z"},
    ]
    assert canonical(node.vm()["snapshots"]) == canonical(wanted)
    assert canonical(node.vms()[U]["snapshots"]) == canonical(wanted)


def test_name_that_snapshots_of_all_vms_have_is_held_once(node):
    """A scheduler gives them the same one in all VMs: with 50 in each of 1,000 that is megabytes."""
    for zone in (U, A):
        node.zone(zone)
        node.snapshot(f"zones/{zone}@vmsnap-daily-2026-01-01T00:00")
    loaded = node.loader().load_all()
    [[one], [other]] = [vm["snapshots"] for vm in loaded.vms.values()]
    assert one["name"] == "daily-2026-01-01T00:00"
    assert one["name"] is other["name"]


def test_snapshots_are_newest_first_and_equal_ones_in_the_order_of_the_listing(node):
    node.zone()
    for name, creation in [("b", 20), ("a", 20), ("old", 10), ("c", 20), ("new", 30)]:
        node.snapshot(f"{ROOT}@vmsnap-{name}", creation=creation)
    assert [snapshot["name"] for snapshot in node.vm()["snapshots"]] == ["new", "b", "a", "c", "old"]


# -- free space


def free_space(node, size, volumes, inner=None, brand="bhyve"):
    node.zone(
        brand=brand,
        attrs={} if size is None else {"flexible-disk-size": size},
        inner="".join(disk(name) for name in volumes) if inner is None else inner,
    )
    for name, (volsize, used) in volumes.items():
        node.volume(name, volsize, usedbysnapshots=used)
    return canonical(node.vm().get("free_space", "absent"))


def test_free_space_is_what_disks_and_their_snapshots_leave_rounded_down(node):
    # 20480 - (10240 + 512) - 5000000 / 2^20 = 9728 - 4.768... = 9723.23...
    volumes = {ROOT + "/disk0": (10737418240, 5000000), ROOT + "/disk1": (536870912, 0)}
    assert free_space(node, "20480", volumes) == "9723"


def test_free_space_is_rounded_down_below_zero_too(node):
    # 1 - 1 - 1 / 2^20
    assert free_space(node, "1", {ROOT + "/disk0": (1048576, 1)}) == "-1"


def test_free_space_without_disks_is_the_flexible_disk_size(node):
    assert free_space(node, "20480", {}) == "20480"


def test_free_space_of_a_flexible_disk_size_of_zero_is_there(node):
    assert free_space(node, "0", {ROOT + "/disk0": (1048576, 0)}) == "-1"


def test_free_space_is_null_where_the_flexible_disk_size_is_no_number(node):
    assert free_space(node, "much", {ROOT + "/disk0": (1048576, 0)}) == "null"


def test_no_free_space_without_flexible_disk_size(node):
    assert free_space(node, None, {ROOT + "/disk0": (1048576, 0)}) == '"absent"'


def test_no_free_space_with_one_unknown_disk(node):
    inner = disk(ROOT + "/disk0") + device("/cd.iso")
    assert free_space(node, "20480", {ROOT + "/disk0": (1048576, 0)}, inner) == '"absent"'


@pytest.mark.parametrize("brand", ["kvm", "joyent"])
def test_no_free_space_for_other_brands(node, brand):
    assert free_space(node, "20480", {}, brand=brand) == '"absent"'


# -- missing


def missing(node):
    both = [vm.get("missing", "absent") for vm in (node.vm(), node.vms()[U])]
    assert canonical(both[0]) == canonical(both[1])
    return both[0]


def payload(node, name):
    node.file(f"etc/zones/{U}-receiving.json", json.dumps({"zfs_filesystem": name}))


def test_receiving_vm_shows_what_is_still_missing(node):
    inner = (
        disk(ROOT + "/disk0") + disk("tank/disk1") + f'<dataset name="{ROOT}/data"/><dataset name="tank/x"/>'
        '<filesystem special="/etc" directory="/a" type="lofs"/><filesystem special="/no" directory="/b"/>'
        '<filesystem directory="/c" type="tmpfs"/>'
    )
    node.zone(brand="bhyve", state="configured", attrs=RECEIVING, listed=False, inner=inner)
    node.dataset("tank")
    node.dataset("tank/x")
    node.volume("tank/disk1", 1 << 20)
    payload(node, ROOT)
    assert missing(node) == {
        "datasets": [ROOT, ROOT + "/data"],
        "disks": [f"/dev/zvol/rdsk/{ROOT}/disk0"],
        "filesystems": ["/etc", "/no"],
    }


def test_receiving_vm_that_has_everything_misses_nothing(node):
    node.zone(state="configured", attrs=RECEIVING)
    assert missing(node) == {"datasets": [], "disks": [], "filesystems": []}


def test_payloads_dataset_that_exists_but_is_not_mounted_is_not_missing(node):
    node.zone(state="configured", attrs=RECEIVING, root_dataset={"mountpoint": "/elsewhere"})
    payload(node, ROOT)
    assert missing(node)["datasets"] == []


def test_without_a_known_dataset_the_zonepath_is_named_without_any_check(node):
    node.zone(state="configured", attrs=RECEIVING, root_dataset={"mountpoint": "/elsewhere"})
    assert missing(node)["datasets"] == [ROOT]


def test_deep_dataset_that_exists_is_not_missing(node):
    node.dataset("tank")
    for name in ("tank/a", "tank/a/b", "tank/a/b/c", "tank/a/b/c/d"):
        node.dataset(name)
    node.zone(state="configured", attrs=RECEIVING, inner='<dataset name="tank/a/b/c"/><dataset name="tank/a/b/c/d"/>')
    assert missing(node)["datasets"] == []


@pytest.mark.parametrize("attrs", [{}, {"failed": "x", **RECEIVING}, {"transition": "provisioning:running:1"}])
def test_vm_in_any_other_state_has_no_missing(node, attrs):
    node.zone(state="configured", attrs=attrs, listed=False)
    assert missing(node) == "absent"
