# SPDX-License-Identifier: MPL-2.0
"""The quirks of docs/vm-object.md, "Quirks", one test or more each, in their order, on a node from end to end. Users
see them."""

import pytest

from support.handmade_node import HandmadeNode, U, attr, canonical, device, nic, rctl, uuid, zone_xml
from vmload.loaderror import LoadError

A = uuid(0xA)
ROOT = "zones/" + U
RECEIVING = {"transition": "receiving:stopped:1773403317000"}


@pytest.fixture
def node(tmp_path):
    return HandmadeNode(tmp_path)


def test_what_every_vm_has_and_nothing_else(node):
    # docs/vm-object.md, "From records to an object", for the dullest of zones
    node.zone()
    assert canonical(node.vm()) == canonical(
        {
            "zonename": U,
            "autoboot": True,
            "brand": "joyent",
            "limit_priv": "default",
            "nics": [],
            "uuid": U,
            "zone_state": "running",
            "zonepath": "/" + ROOT,
            "hvm": False,
            "zoneid": 7,
            "zonedid": 41,
            "last_modified": "2026-03-13T12:01:57.000Z",
            "resolvers": [],
            "firewall_enabled": False,
            "server_uuid": "44454c4c-3300-1052-8050-b7c04f4d4232",
            "platform_buildstamp": "20260312T000000Z",
            "state": "running",
            "customer_metadata": {},
            "internal_metadata": {},
            "routes": {},
            "tags": {},
            "quota": 0,
            "create_timestamp": "2026-01-01T00:00:00.000Z",
            "zfs_root_recsize": 131072,
            "zfs_filesystem": ROOT,
            "zpool": "zones",
            "snapshots": [],
        }
    )


@pytest.mark.parametrize(
    ("brand", "hvm"),
    [
        ("joyent", False),
        ("joyent-minimal", False),
        ("lx", False),
        ("builder", False),
        ("kvm", True),
        ("bhyve", True),
        ("strange", False),
    ],
)
def test_hvm_is_true_for_bhyve_and_kvm(node, brand, hvm):
    node.zone(brand=brand)
    assert node.vm()["hvm"] is hvm


def test_brand_name_and_path_of_zoneadm_go_over_those_of_the_xml(node):
    # docs/vm-object.md, "From records to an object"; the defaults follow the brand in the XML
    text = zone_xml("other-name", "joyent", "/other", attrs={"vm-autoboot": "false"})
    node.zone(A, name="web01", brand="kvm", xml=text)
    vm = node.vm(A)
    assert (vm["brand"], vm["hvm"], vm["zonename"], vm["zonepath"]) == ("kvm", True, "web01", "/zones/web01")
    assert (vm["autoboot"], vm["vm_autoboot"], "disks" in vm) == (True, False, False)


def test_resolvers_and_firewall_of_the_xml_go_before_their_defaults(node):
    node.zone(attrs={"resolvers": "8.8.8.8", "firewall-enabled": "1"})
    vm = node.vm()
    assert (vm["resolvers"], vm["firewall_enabled"]) == (["8.8.8.8"], "1")


def test_quirk_01_device_is_null_in_every_vm_with_a_device(node):
    node.zone(brand="kvm", inner=device("/dev/zvol/rdsk/x"))
    vm = node.vm()
    assert "device" in vm
    assert vm["device"] is None


def test_quirk_02_zoneid_is_an_integer_or_null_and_unknown_zonedid_is_0(node):
    node.zone(A, zonedid="")
    node.zone(U, state="installed", zonedid="-")
    vms = node.vms()
    assert canonical([vms[A]["zoneid"], vms[A]["zonedid"]]) == canonical([7, 0])
    assert canonical([vms[U]["zoneid"], vms[U]["zonedid"]]) == canonical([None, None])


def test_quirk_03_vm_of_an_unsupported_brand_is_served(node):
    node.zone(brand="sn1", attrs={"vm-autoboot": "false"})
    vm = node.vm()
    assert (vm["brand"], vm["hvm"], vm["autoboot"], vm["vm_autoboot"]) == ("sn1", False, True, False)
    assert "disks" not in vm


def test_quirk_04_zone_whose_name_is_not_its_uuid(node):
    node.zone(A, name="web01", zonepath="/zones/place", attrs={"hostname": "h"})
    node.config("tags.json", '{"a": 1}', "/zones/place")
    node.stats("web01", boot_time=1, init_pid=2, init_restarts=3)
    vm = node.vm(A)
    assert (vm["uuid"], vm["zonename"], vm["hostname"], vm["tags"]) == (A, "web01", "h", {"a": 1})
    assert {"pid", "boot_timestamp", "init_restarts"} & set(vm) == set()
    with pytest.raises(LoadError) as caught:
        node.vm("web01")
    assert caught.value.code == "ENOENT"


def test_quirk_05_zone_without_uuid_takes_a_uuid_name_and_is_invisible_otherwise(node):
    node.zone_line(f"-:{A}:installed:/zones/{A}::joyent:excl:5")
    node.file(f"etc/zones/{A}.xml", zone_xml(A))
    node.zone_line("-:buildbox:installed:/zones/buildbox::joyent:excl:6")
    node.file("etc/zones/buildbox.xml", zone_xml("buildbox"))
    assert {name: vm["uuid"] for name, vm in node.vms().items()} == {A: A}
    assert node.vm(A)["uuid"] == A


def test_quirk_06_only_the_transition_makes_a_vm_receiving(node):
    node.file(f"etc/zones/{U}-receiving.json", '{"zfs_filesystem": "zones/x"}')
    node.zone(state="configured", listed=False)
    vm = node.vm()
    assert vm["state"] == "configured"
    assert {"zfs_filesystem", "missing"} & set(vm) == set()


@pytest.mark.parametrize("attrs", [{**RECEIVING, "failed": "x"}, {"transition": "receiving:stopped"}])
def test_quirk_06_failed_and_a_broken_transition_hide_receiving(node, attrs):
    node.zone(state="configured", attrs=attrs, listed=False)
    vm = node.vm()
    assert vm["state"] in ("failed", "configured")
    assert "missing" not in vm


@pytest.mark.parametrize("state", ["configured", "incomplete"])
def test_quirk_07_configured_and_incomplete_zones_are_vms_like_others(node, state):
    node.zone(state=state, attrs={"hostname": "h"})
    node.config("tags.json", '{"a": 1}')
    vm = node.vm()
    assert (vm["state"], vm["hostname"], vm["tags"], vm["zfs_filesystem"]) == (state, "h", {"a": 1}, ROOT)


def test_quirk_07_only_an_incomplete_zone_tolerates_unreadable_files(node):
    node.zone(state="configured")
    node.unreadable(ROOT + "/config/tags.json")
    with pytest.raises(LoadError):
        node.vm()


def test_quirk_08_create_timestamp_follows_the_dataset_if_the_xml_has_none(node):
    node.zone(root_dataset={"creation": 1772800000})
    assert node.vm()["create_timestamp"] == "2026-03-06T12:26:40.000Z"


def test_quirk_09_kvm_without_vm_autoboot_has_no_autoboot(node):
    node.zone(brand="kvm", top={"autoboot": "true"})
    assert {"autoboot", "vm_autoboot"} & set(node.vm()) == set()


@pytest.mark.parametrize("text", ["TRUE", "1", ""])
def test_quirk_10_boolean_look_alikes_stay_text(node, text):
    node.zone(attrs={"docker": text}, inner=nic("net0", primary=text))
    vm = node.vm()
    assert canonical([vm["docker"], vm["nics"][0]["primary"]]) == canonical([text, text])


def test_quirk_11_empty_number_is_0_and_empty_list_has_one_empty_text(node):
    node.zone(attrs={"ram": "", "resolvers": "", "alias": "", "hostname": ""})
    vm = node.vm()
    assert canonical([vm["ram"], vm["resolvers"], vm["alias"], vm["hostname"]]) == canonical([0, [""], "", ""])


def test_quirk_12_failed_is_text(node):
    node.zone(attrs={"failed": "provisioning"})
    vm = node.vm()
    assert (vm["failed"], vm["state"]) == ("provisioning", "failed")


def test_quirk_13_provisioning_is_a_boolean_only_for_true_to_the_letter(node):
    node.zone(state="installed", attrs={"provisioning": "True"})
    vm = node.vm()
    assert (vm["provisioning"], vm["state"]) == ("True", "stopped")


def test_quirk_14_exit_status_keeps_the_core_dump_bit(node):
    node.zone(state="installed")
    node.last_exited("1773403317.5 139\n")
    assert node.vm()["exit_status"] == -139


def test_quirk_14_exit_properties_come_back_with_the_old_values(tmp_path):
    seen = []
    for state in ("installed", "running", "installed"):
        (tmp_path / str(len(seen))).mkdir()
        node = HandmadeNode(tmp_path / str(len(seen)))
        node.zone(state=state)
        node.last_exited("1773403317.5 9\n")
        seen.append(node.vm().get("exit_status"))
    assert seen == [-9, None, -9]


def test_quirk_15_last_modified_has_whole_seconds_and_zfs_does_not_move_it(node):
    node.zone(root_dataset={"creation": 4000000000})
    node.config("tags.json", "{}", mtime=1773403317.75)
    assert node.vm()["last_modified"] == "2026-03-13T12:01:57.000Z"


def test_quirk_16_fractions_are_not_rounded(node):
    node.zone(inner=rctl("zone.max-swap", "1572864"), root_dataset={"quota": 1 << 29})
    node.snapshot(ROOT + "@vmsnap-a", written=1)
    vm = node.vm()
    assert (vm["max_swap"], vm["quota"], vm["snapshots"][0]["size"]) == (1.5, 0.5, 9.5367431640625e-07)


def test_quirk_17_disks_of_an_os_zone_appear_only_with_devices(node):
    node.zone(A)
    node.zone(U, inner=device("/dev/fuse"))
    vms = node.vms()
    assert "disks" not in vms[A]
    assert vms[U]["disks"] == [{"path": "/dev/fuse", "missing": True}]


@pytest.mark.parametrize("mac", ["2:8:20:a:b:c", "02:08:20:0A:0b:0c", "no mac", ""])
def test_quirk_18_mac_addresses_are_as_the_xml_has_them(node, mac):
    node.zone(inner=nic("net0", f'mac-addr="{mac}"'))
    assert node.vm()["nics"][0]["mac"] == mac


def test_quirk_19_limit_priv_and_fs_allowed_are_text(node):
    node.zone(top={"limitpriv": "default,-x", "fs-allowed": ""})
    vm = node.vm()
    assert (vm["limit_priv"], vm["fs_allowed"]) == ("default,-x", "")


def test_quirk_20_snapshots_is_an_empty_list_without_a_root_dataset(node):
    node.zone(listed=False)
    assert node.vm()["snapshots"] == []


def test_quirk_21_missing_filesystems_lists_sources_that_exist(node):
    node.zone(state="configured", attrs=RECEIVING, inner='<filesystem special="/" directory="/a" type="lofs"/>')
    assert node.vm()["missing"]["filesystems"] == ["/"]


def test_quirk_22_truncated_xml_is_an_error(node):
    """The original gives the object without its tail."""
    whole = zone_xml(U, inner=attr("hostname", "h") + attr("billing-id", "b") + nic("net0"))
    node.zone(xml=whole[: whole.index('  <attr name="billing')])
    with pytest.raises(LoadError) as caught:
        node.vm()
    assert caught.value.code == "PARSE_ERROR"


# Quirk 23, that a load of all agrees with a single load, has a file of its own: test_load_agreement.py.
