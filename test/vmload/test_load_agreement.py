# SPDX-License-Identifier: MPL-2.0
"""A load of all VMs gives each the object that a load of it alone gives (docs/vm-object.md, "Quirks", docs/platform.md,
"Which datasets are listed"), and its work is bounded: no command per VM."""

import json

import pytest

from support.handmade_node import HandmadeNode, canonical, device, nic, uuid

A, B, C, D, E, F, G, H, I, J, K, L = (uuid(n) for n in range(0xA, 0xA + 12))
RECEIVING = {"transition": "receiving:stopped:1773403317000"}


@pytest.fixture
def node(tmp_path):
    return HandmadeNode(tmp_path)


def zvol(name):
    return device("/dev/zvol/rdsk/" + name)


def population(node):
    """VMs of every sort for which the two ways of loading could differ."""
    node.dataset("tank")
    node.dataset("zones/images")
    # an OS zone, snapshots of several datasets, an indestructible delegated dataset that it lists
    node.zone(A, inner=f'<dataset name="zones/{A}/data"/>' + nic("net0"))
    node.snapshot(f"zones/{A}@vmsnap-x", written=5)
    node.dataset(f"zones/{A}/data", zoned="on", compression="gzip")
    node.snapshot(f"zones/{A}/data@indestructible", userrefs=1)
    node.stats(A, boot_time=1773403200, init_pid=20417, init_restarts=0)
    # one that it does not list
    node.zone(B)
    node.dataset(f"zones/{B}/data", zoned="on", recsize=8192)
    node.snapshot(f"zones/{B}/data@indestructible", userrefs=2)
    node.snapshot(f"zones/{B}@vmsnap-z", creation=5)
    # a CD image beside zvols, snapshots at every level
    node.zone(
        C, brand="bhyve", attrs={"flexible-disk-size": "100"}, inner=zvol(f"zones/{C}/disk0") + device("/iso/cd.iso")
    )
    node.volume(f"zones/{C}/disk0", 10 << 20, usedbysnapshots=5)
    node.snapshot(f"zones/{C}@vmsnap-c", creation=7)
    node.snapshot(f"zones/{C}/disk0@vmsnap-c", creation=7)
    # disks and datasets of another pool, near and deep
    node.zone(
        D,
        brand="kvm",
        inner=zvol(f"zones/{D}-disk0")
        + zvol("tank/vols/one")
        + zvol("tank/vols/deep/two")
        + zvol("tank/vols/deep/er/three")
        + '<dataset name="tank/share"/>',
    )
    node.volume(f"zones/{D}-disk0", 1 << 20)
    for name in ("tank/vols", "tank/vols/deep", "tank/vols/deep/er", "tank/share"):
        node.dataset(name)
    node.volume("tank/vols/one", 2 << 20)
    node.volume("tank/vols/deep/two", 3 << 20)
    node.volume("tank/vols/deep/er/three", 4 << 20)
    # receiving, with datasets deep in the other pool; with a payload that names a dataset elsewhere
    node.zone(
        E,
        state="configured",
        attrs=RECEIVING,
        listed=False,
        inner='<dataset name="tank/vols/deep"/><dataset name="tank/vols/deep/er"/><dataset name="tank/no/such"/>',
    )
    node.zone(F, state="configured", attrs=RECEIVING, listed=False)
    node.file(f"etc/zones/{F}-receiving.json", json.dumps({"zfs_filesystem": "tank/elsewhere"}))
    node.dataset("tank/elsewhere", mountpoint="none")
    node.dataset("tank/elsewhere/data", zoned="on", recsize=4096)
    node.snapshot("tank/elsewhere/data@indestructible", userrefs=1)
    # on another pool as a whole, and not called by its uuid
    node.zone(G, name="web01", zonepath="/tank/web01", state="installed")
    node.last_exited("1773403317.52104 -1\n", "/tank/web01")
    node.snapshot("tank/web01@vmsnap-g", creation=9)
    # no dataset at all; all disks are no zvols
    node.zone(H, state="installed", listed=False)
    node.zone(I, brand="bhyve", inner=device("/iso/cd.iso"), attrs={"flexible-disk-size": "100"})
    node.snapshot(f"zones/{I}@vmsnap-i", creation=3)
    node.snapshot(f"zones/{I}@indestructible", userrefs=1)
    # a copy in a backup pool has kept the mountpoint, and is listed after it
    node.zone(J)
    node.snapshot(f"zones/{J}@vmsnap-j", creation=3)
    node.dataset("zonesbackup", mountpoint="none")
    node.dataset(f"zonesbackup/{J}", mountpoint=f"/zones/{J}")
    # a dataset of another name is mounted at the zonepath: there is none of that name; there is one, elsewhere
    for key in (K, L):
        node.zone(key, listed=False)
        node.dataset(f"tank/home-{key}", mountpoint=f"/zones/{key}", compression="lz4")
        node.snapshot(f"tank/home-{key}@vmsnap-k", creation=3)
        node.dataset(f"tank/home-{key}/data", zoned="on", recsize=8192)
        node.snapshot(f"tank/home-{key}/data@indestructible", userrefs=1)
    node.dataset(f"zones/{L}", mountpoint="/elsewhere")


ALL = {"A": A, "B": B, "C": C, "D": D, "E": E, "F": F, "G": G, "H": H, "I": I, "J": J, "K": K, "L": L}


@pytest.fixture(scope="module")
def populated(tmp_path_factory):
    node = HandmadeNode(tmp_path_factory.mktemp("population"))
    population(node)
    return node, {vm["uuid"]: vm for vm in node.vms().values()}


@pytest.mark.parametrize("which", ALL)
def test_load_of_all_equals_the_single_load(populated, which):
    node, vms = populated
    assert canonical(node.vm(ALL[which])) == canonical(vms[ALL[which]])


def test_load_of_all_keeps_the_order_of_keys_of_the_single_load(populated):
    node, vms = populated
    assert {key: list(vms[key]) for key in ALL.values()} == {key: list(node.vm(key)) for key in ALL.values()}


# What that one object is, where the two ways of the original differ.


@pytest.mark.pure
def test_indestructible_delegated_is_seen_whether_the_dataset_is_listed_or_not(populated):
    assert [populated[1][key].get("indestructible_delegated") for key in (A, B)] == [True, True]


@pytest.mark.pure
def test_vm_with_a_cd_image_keeps_its_snapshots_and_child_zvols(populated):
    vm = populated[1][C]
    assert [snapshot["name"] for snapshot in vm["snapshots"]] == ["c"]
    assert {disk["path"]: disk.get("size", "missing") for disk in vm["disks"]} == {
        f"/dev/zvol/rdsk/zones/{C}/disk0": 10,
        "/iso/cd.iso": "missing",
    }


@pytest.mark.pure
def test_vm_whose_only_disk_is_a_cd_image_keeps_its_snapshots(populated):
    vm = populated[1][I]
    assert [snapshot["name"] for snapshot in vm["snapshots"]] == ["i"]
    assert vm["indestructible_zoneroot"] is True


@pytest.mark.pure
def test_disks_at_any_depth_of_another_pool_are_found(populated):
    sizes = {disk["path"].rsplit("/", 1)[1]: disk.get("size", "missing") for disk in populated[1][D]["disks"]}
    assert sizes == {f"{D}-disk0": 1, "one": 2, "two": 3, "three": 4}


@pytest.mark.pure
def test_dataset_is_missing_only_where_it_does_not_exist(populated):
    assert populated[1][E]["missing"]["datasets"] == ["zones/" + E, "tank/no/such"]


@pytest.mark.pure
def test_dataset_that_a_payload_names_is_looked_for_where_it_is(populated):
    vm = populated[1][F]
    assert (vm["zfs_filesystem"], vm["missing"]["datasets"], vm["zfs_data_recsize"]) == ("tank/elsewhere", [], 4096)
    assert vm["indestructible_delegated"] is True


@pytest.mark.pure
def test_copy_of_a_zone_in_a_backup_pool_is_not_its_root_dataset(populated):
    # a single load asks for the zonepath's dataset alone, which is the root dataset's name (docs/platform.md, "Which
    # datasets are listed")
    vm = populated[1][J]
    assert (vm["zfs_filesystem"], [snapshot["name"] for snapshot in vm["snapshots"]]) == ("zones/" + J, ["j"])


@pytest.mark.pure
@pytest.mark.parametrize("which", ["K", "L"])
def test_dataset_of_another_name_at_the_zonepath_is_the_root_dataset(populated, which):
    vm = populated[1][ALL[which]]
    assert (vm["zfs_filesystem"], vm["zfs_root_compression"]) == (f"tank/home-{ALL[which]}", "lz4")
    assert ([snapshot["name"] for snapshot in vm["snapshots"]], vm["zfs_data_recsize"]) == (["k"], 8192)
    assert vm["indestructible_delegated"] is True


# -- bounded work


def commands(tmp_path, count):
    node = HandmadeNode(tmp_path)
    for n in range(count):
        key = uuid(n)
        if n % 3 == 0:
            node.zone(key, inner=f'<dataset name="zones/{key}/data"/>')
            node.dataset(f"zones/{key}/data", zoned="on")
            node.snapshot(f"zones/{key}/data@indestructible", userrefs=1)
        elif n % 3 == 1:
            node.zone(key, brand="bhyve", inner=zvol(f"zones/{key}/disk0") + device("/iso/cd.iso"))
            node.volume(f"zones/{key}/disk0", 1 << 20)
        else:
            node.zone(key, state="configured", attrs=RECEIVING, listed=False)
    assert len(node.vms()) == count
    return [call["tool"] for call in node.calls()]


def test_number_of_commands_of_a_full_load_does_not_grow_with_the_vms(tmp_path):
    (tmp_path / "few").mkdir()
    (tmp_path / "many").mkdir()
    few, many = commands(tmp_path / "few", 3), commands(tmp_path / "many", 60)
    assert sorted(many) == sorted(few)
    assert (many.count("zoneadm"), many.count("kstat")) == (1, 1)


def test_snapshots_of_a_delegated_dataset_are_not_listed_but_for_the_one_that_shows(node):
    node.zone(A, inner=f'<dataset name="zones/{A}/data"/><dataset name="tank/share"/>')
    node.dataset("tank")
    for name in (f"zones/{A}/data", "tank/share"):
        node.dataset(name, zoned="on")
        node.snapshot(f"{name}@hourly-1")
    node.snapshot(f"zones/{A}/data@indestructible", userrefs=1)
    assert node.vm(A)["indestructible_delegated"] is True
    asked = [call["args"][8:] for call in node.calls("zfs")]
    assert asked == [["1", f"zones/{A}", f"zones/{A}/data@indestructible"], ["0", "tank/share"]]


def test_ordinary_vm_costs_one_call_of_each_tool(node):
    node.zone(A, zoneid="7")
    node.stats(A, 7, boot_time=1, init_pid=2, init_restarts=3)
    node.vm(A)
    assert sorted(call["tool"] for call in node.calls()) == ["kstat", "zfs", "zoneadm"]
