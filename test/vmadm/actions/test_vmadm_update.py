# SPDX-License-Identifier: MPL-2.0
"""`vmadm update`: what it runs, what it writes, what everybody sees afterwards."""

import json
import os
import re

import pytest

from support.examples import few
from support.ports import free_port
from support.running_daemon import RunningDaemon, eventually
from support.writing import BASE_IMAGE, NOBODY, ZVOL_IMAGE, ended
from vmadm import BadPayload, DaemonAway, OutcomeMissed, ToolFailed, Vmadm, VmadmError, VmNotFound

pytest_plugins = ["support.writers"]

NIC = {
    "nic_tag": "external",
    "mac": "b2:1e:ba:a5:6e:71",
    "ip": "10.2.121.70",
    "netmask": "255.255.0.0",
    "gateway": "10.2.121.1",
}


BHYVE = {
    "brand": "bhyve",
    "autoboot": False,
    "ram": 256,
    "flexible_disk_size": 2000,
    "disk_driver": "virtio",
    "disks": [{"size": 1024, "boot": True}],
}
CARD, OTHER_CARD = "/devices/pci@0,0/pci8086,340a@3/pci15d9,a711@0", "/devices/pci@0,0/pci8086,151@1"


@pytest.fixture(scope="module")
def uuid(cn):
    """A running VM that all tests may change; each says what it starts from."""
    return cn.add(brand="joyent-minimal", alias="foo", ram=256, quota=10)


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ({"alias": "bär"}, {"alias": "bär"}),
        ({"alias": ""}, {"alias": None}),
        ({"quota": "20"}, {"quota": 20}),
        ({"quota": 0}, {"quota": 0}),
        (
            {"max_physical_memory": 128},
            {"max_physical_memory": 128, "max_locked_memory": 128, "max_swap": 256, "tmpfs": 128},
        ),
        ({"ram": 512}, {"max_physical_memory": 512, "max_locked_memory": 512, "tmpfs": 512}),
        ({"cpu_cap": 150}, {"cpu_cap": 150}),
        ({"cpu_cap": 0}, {"cpu_cap": None}),
        (
            {"cpu_shares": 50, "zfs_io_priority": 30, "max_lwps": 1000},
            {"cpu_shares": 50, "zfs_io_priority": 30, "max_lwps": 1000},
        ),
        ({"limit_priv": "default,-proc_fork"}, {"limit_priv": "default,-proc_fork"}),
        ({"fs_allowed": ["ufs", "pcfs"]}, {"fs_allowed": "ufs,pcfs"}),
        ({"fs_allowed": ""}, {"fs_allowed": ""}),
        ({"autoboot": "false"}, {"autoboot": False}),
        (
            {"hostname": "web0", "dns_domain": "example.com", "billing_id": "b"},
            {"hostname": "web0", "dns_domain": "example.com"},
        ),
        ({"resolvers": "8.8.8.8,8.8.4.4"}, {"resolvers": ["8.8.8.8", "8.8.4.4"]}),
        ({"resolvers": []}, {"resolvers": []}),
        ({"firewall_enabled": True}, {"firewall_enabled": True}),
        ({"firewall_enabled": False}, {"firewall_enabled": False}),
        ({"maintain_resolvers": 1, "do_not_inventory": "1"}, {"maintain_resolvers": True, "do_not_inventory": True}),
        ({"do_not_inventory": False}, {"do_not_inventory": None}),
        ({"restart_init": False}, {"restart_init": False}),
        ({"restart_init": True}, {"restart_init": None}),
        ({"tmpfs": 0}, {"tmpfs": 0}),
        ({"internal_metadata_namespaces": ["a", "b"]}, {"internal_metadata_namespaces": ["a", "b"]}),
        (
            {"zfs_root_compression": "lz4", "zfs_root_recsize": 8192},
            {"zfs_root_compression": "lz4", "zfs_root_recsize": 8192},
        ),
        (
            {"zfs_root_compression": "off", "zfs_root_recsize": 0},
            {"zfs_root_compression": None, "zfs_root_recsize": 131072},
        ),
        ({"zfs_filesystem_limit": 5, "zfs_snapshot_limit": "7"}, {"zfs_filesystem_limit": 5, "zfs_snapshot_limit": 7}),
        (
            {"zfs_filesystem_limit": "", "zfs_snapshot_limit": None},
            {"zfs_filesystem_limit": None, "zfs_snapshot_limit": None},
        ),
        ({"indestructible_zoneroot": True}, {"indestructible_zoneroot": True}),
        ({"indestructible_zoneroot": True}, {"indestructible_zoneroot": True}),
        ({"indestructible_zoneroot": False}, {"indestructible_zoneroot": None}),
        ({"indestructible_zoneroot": False}, {"indestructible_zoneroot": None}),
        ({"zlog_max_size": 500000}, {"zlog_max_size": 500000}),
        ({"zlog_max_size": 0}, {"zlog_max_size": None}),
    ],
)
def test_property_is_shown_as_soon_as_the_update_has_returned(cn, uuid, payload, shown):
    vm = cn.api.update(uuid, payload)
    assert cn.vm(uuid) == vm
    assert {name: vm.get(name) for name in shown} == shown


def test_command_line_and_its_success_line(cn, uuid):
    assert cn.ok("update", uuid, "alias=a=b", "quota=11") == f"Successfully updated VM {uuid}"
    assert {key: cn.vm(uuid)[key] for key in ("alias", "quota")} == {"alias": "a=b", "quota": 11}
    assert cn.ok("update", uuid, payload={"alias": "two"}) == f"Successfully updated VM {uuid}"
    assert cn.vm(uuid)["alias"] == "two"


def test_payload_in_a_file_and_words_win_over_it(cn, uuid, tmp_path):
    (tmp_path / "u.json").write_text('{"alias": "from the file"}')
    cn.ok("update", "-f", str(tmp_path / "u.json"), uuid)
    assert cn.vm(uuid)["alias"] == "from the file"
    cn.ok("update", "-f", str(tmp_path / "u.json"), uuid, "alias=from the words")
    assert cn.vm(uuid)["alias"] == "from the words"


def test_commands_of_a_memory_update_in_their_order(cn):
    uuid = cn.add(alias="order", ram=256)
    cn.forget_commands()
    cn.api.update(uuid, max_physical_memory=128)
    mib = 1 << 20
    assert cn.commands() == [
        f"zonecfg -u {uuid}",
        f"prctl -n zone.max-physical-memory -v {128 * mib} -t privileged -r -i zone {uuid}",
        f"prctl -n zone.max-locked-memory -v {128 * mib} -t privileged -r -i zone {uuid}",
        f"prctl -n zone.max-swap -v {256 * mib} -t privileged -r -i zone {uuid}",
        f"zlogin {uuid} /usr/sbin/mount -F tmpfs -o remount,size=128m /tmp",
        # Last, since it asks for what vminfod serves.
        f"zlogin {uuid} /usr/sbin/svcadm disable -st svc:/smartdc/mdata:fetch",
        f"zlogin {uuid} /usr/sbin/svcadm enable -s svc:/smartdc/mdata:fetch",
    ]


def test_commands_of_a_quota(cn):
    uuid = cn.add(alias="quota", quota=10)
    cn.forget_commands()
    cn.api.update(uuid, quota=20)
    assert cn.commands() == [f"zonecfg -u {uuid}", f"zfs set quota=20g zones/{uuid}"]
    cn.forget_commands()
    cn.api.update(uuid, quota=0)
    assert cn.commands() == [f"zonecfg -u {uuid}", f"zfs set quota=none zones/{uuid}"]


def test_quota_moves_last_modified(cn):
    uuid = cn.add(alias="touch", quota=10)
    os.utime(f"{cn.root}/etc/zones/{uuid}.xml", (10**9, 10**9))
    os.utime(f"{cn.root}/zones/{uuid}/lastexited", (10**9, 10**9)) if os.path.exists(
        f"{cn.root}/zones/{uuid}/lastexited"
    ) else None
    assert cn.api.update(uuid, quota=20)["last_modified"] > "2020"


def test_link_properties_of_a_running_vm_follow_its_nic(cn):
    uuid = cn.add(alias="links")
    cn.api.update(uuid, add_nics=[{**NIC, "mac": "b2:1e:ba:a5:6e:80", "ip": "10.2.121.80"}])
    cn.forget_commands()
    cn.api.update(uuid, update_nics=[{"mac": "b2:1e:ba:a5:6e:80", "allow_mac_spoofing": True, "ip": "10.2.121.81"}])
    assert [command for command in cn.commands() if command.startswith("dladm")] == [
        f"dladm show-vnic -z {uuid} -o link -p",
        f"dladm set-linkprop -t -z {uuid} -p protection=ip-nospoof,dhcp-nospoof,restricted net0",
        f"dladm set-linkprop -t -z {uuid} -p allowed-ips=10.2.121.81 net0",
        f"dladm reset-linkprop -t -z {uuid} -p dynamic-methods net0",
    ]


def link_properties(cn, uuid, link, *names):
    """What the running zone's link was told last."""
    shown = ("show-linkprop", "-z", uuid, "-c", "-o", "value", "-p")
    return [cn.node.run("dladm", *shown, name, link, check=True).stdout.rstrip("\n") for name in names]


def test_links_are_told_who_may_serve_dhcp_and_where_addresses_come_from(cn):
    uuid = cn.add(alias="dhcp")
    mac = "b2:1e:ba:a5:6e:82"
    cn.api.update(uuid, add_nics=[{**NIC, "mac": mac, "ip": "10.2.121.82"}])
    names = ("protection", "allowed-ips", "dynamic-methods")
    for asked, protection in (
        ({"dhcp_server": True}, "mac-nospoof,dhcp-nospoof,restricted"),
        ({"dhcp_server": False}, "ip-nospoof,mac-nospoof,dhcp-nospoof,restricted"),
        ({"allow_dhcp_spoofing": True}, "mac-nospoof,restricted"),
        ({"allow_dhcp_spoofing": False, "allow_restricted_traffic": True}, "ip-nospoof,mac-nospoof,dhcp-nospoof"),
    ):
        cn.api.update(uuid, update_nics=[{"mac": mac, **asked}])
        assert link_properties(cn, uuid, "net0", "protection") == [protection]
    cn.api.update(uuid, update_nics=[{"mac": mac, "ips": ["dhcp", "addrconf"], "allowed_ips": ["10.9.9.9"]}])
    assert link_properties(cn, uuid, "net0", *names[1:]) == ["10.9.9.9", "dhcpv4,addrconf"]
    cn.api.update(uuid, update_nics=[{"mac": mac, "ips": ["10.2.121.83/24"], "allowed_ips": []}])
    assert link_properties(cn, uuid, "net0", *names[1:]) == ["10.2.121.83", ""]
    cn.api.update(uuid, update_nics=[{"mac": mac, "allow_ip_spoofing": True}])
    assert link_properties(cn, uuid, "net0", "allowed-ips") == [""]
    cn.api.update(uuid, remove_nics=[mac])


def test_link_that_is_not_told_fails_the_update_and_says_what_was_done(cn):
    uuid = cn.add(alias="links2")
    mac = "b2:1e:ba:a5:6e:84"
    cn.api.update(uuid, add_nics=[{**NIC, "mac": mac, "ip": "10.2.121.84"}])
    cn.control.fault("dladm", "fail", match="set-linkprop", stderr="dladm: no\n")
    said = cn.fails("update", uuid, payload={"update_nics": [{"mac": mac, "allow_mac_spoofing": True}]})
    assert said.endswith("dladm: no (done: zonecfg; not done: links)")
    cn.api.update(uuid, remove_nics=[mac])


# Metadata, tags, routes.


def test_maps_are_set_and_removed(cn):
    uuid = cn.add(
        alias="maps",
        files={
            "tags": {"a": 1, "b": "two"},
            "metadata": {"customer_metadata": {"script": "x"}, "internal_metadata": {"pw": "secret"}},
        },
    )
    vm = cn.api.update(
        uuid,
        {
            "set_tags": {"b": True, "c": 0.5},
            "remove_tags": ["a", "nothing"],
            "set_customer_metadata": {"é": "ü"},
            "remove_customer_metadata": "script",
            "set_routes": {"10.0.0.0/8": "10.0.0.1"},
        },
    )
    assert vm["tags"] == {"b": True, "c": 0.5}
    assert vm["customer_metadata"] == {"é": "ü"}
    assert vm["internal_metadata"] == {"pw": "secret"}
    assert vm["routes"] == {"10.0.0.0/8": "10.0.0.1"}
    assert cn.config(uuid, "metadata") == (
        '{\n  "internal_metadata": {\n    "pw": "secret"\n  },\n  "customer_metadata": {\n    "é": "ü"\n  }\n}'
    )
    assert cn.config(uuid, "tags") == '{\n  "b": true,\n  "c": 0.5\n}'


def test_only_files_that_differ_are_written(cn):
    uuid = cn.add(alias="files", files={"tags": {"a": 1}, "routes": {}})
    folder = f"{cn.root}/zones/{uuid}/config"
    before = os.stat(f"{folder}/tags.json").st_ino
    cn.api.update(uuid, {"set_tags": {"a": 1}, "remove_tags": ["b"]})
    assert os.stat(f"{folder}/tags.json").st_ino == before
    cn.api.update(uuid, {"set_tags": {"a": 2}})
    assert os.stat(f"{folder}/tags.json").st_ino != before
    assert sorted(os.listdir(folder)) == ["routes.json", "tags.json"]


# NICs.


def test_nic_is_added_changed_and_removed(cn):
    uuid = cn.add(alias="nics", brand="joyent")
    nic = cn.api.update(uuid, add_nics=[NIC])["nics"][0]
    assert nic == {
        "interface": "net0",
        "mac": NIC["mac"],
        "nic_tag": "external",
        "gateway": "10.2.121.1",
        "gateways": ["10.2.121.1"],
        "netmask": "255.255.0.0",
        "ip": "10.2.121.70",
        "ips": ["10.2.121.70/16"],
    }
    nic = cn.api.update(uuid, update_nics=[{"mac": NIC["mac"], "ip": ""}])["nics"][0]
    assert not nic.keys() & {"ip", "ips", "netmask"}
    cn.api.update(uuid, update_nics=[{"mac": NIC["mac"], "ip": "10.2.121.70", "netmask": "255.255.0.0"}])
    nic = cn.api.update(uuid, update_nics=[{"mac": NIC["mac"], "ip": "10.2.121.71", "gateways": []}])["nics"][0]
    assert (nic["ip"], nic["ips"], nic.get("gateway"), nic.get("gateways")) == (
        "10.2.121.71",
        ["10.2.121.71/16"],
        None,
        None,
    )
    assert cn.api.update(uuid, remove_nics=[NIC["mac"]])["nics"] == []


def test_primary_moves(cn):
    uuid = cn.add(alias="primary")
    first, second = (
        {"nic_tag": "external", "mac": "b2:0:0:0:1:1", "primary": True},
        {"nic_tag": "internal", "mac": "b2:0:0:0:1:2"},
    )
    vm = cn.api.update(uuid, add_nics=[first, second])
    assert [nic.get("primary") for nic in vm["nics"]] == [True, None]
    vm = cn.api.update(uuid, update_nics=[{"mac": "b2:0:0:0:1:2", "primary": True}])
    assert [nic.get("primary") for nic in vm["nics"]] == [None, True]
    vm = cn.api.update(
        uuid, add_nics=[{**NIC, "mac": "b2:0:0:0:1:3", "ip": "10.2.121.99"}], remove_nics=["b2:0:0:0:1:2"]
    )
    assert [(nic["mac"], nic.get("primary")) for nic in vm["nics"]] == [
        ("b2:00:00:00:01:01", None),
        ("b2:00:00:00:01:03", True),
    ]


FLAGS = (
    "allow_dhcp_spoofing",
    "allow_ip_spoofing",
    "allow_mac_spoofing",
    "allow_restricted_traffic",
    "dhcp_server",
)


def flag_in_xml(cn, uuid, flag):
    """The values of a NIC's flag in the zone's XML, read past vmadm and the daemon."""
    return re.findall(f'name="{flag}" value="([^"]*)"', cn.control.read_xml(uuid))


@pytest.mark.parametrize(
    ("brand", "flag"),
    [
        *few([(brand, flag) for brand in ("joyent", "lx", "bhyve") for flag in FLAGS], 3),
        ("bhyve", "allow_unfiltered_promisc"),  # for bhyve only; other brands drop it from a payload
    ],
)
def test_flag_of_a_nic_can_be_switched_on_and_off_again(cn, switched, brand, flag):
    uuid, mac = switched[brand]
    for wanted in (True, False, True):
        cn.api.update(uuid, update_nics=[{"mac": mac, flag: wanted}])
        assert flag_in_xml(cn, uuid, flag) == ["true" if wanted else "false"]


@pytest.fixture(scope="module")
def switched(cn):
    """A VM with a NIC for each brand."""
    found = {}
    for number, brand in enumerate(("joyent", "lx", "bhyve")):
        uuid, mac = cn.add(alias=f"flags-{brand}", brand=brand), f"b2:1e:ba:a5:6f:0{number}"
        nic = {**NIC, "mac": mac, "ip": f"10.2.121.{190 + number}"}
        if brand == "bhyve":
            nic["model"] = "virtio"
        cn.api.update(uuid, add_nics=[nic], remove_nics=[old["mac"] for old in cn.vm(uuid)["nics"]])
        found[brand] = (uuid, mac)
    return found


def test_nic_with_dhcp_becomes_primary_when_the_primary_goes(cn):
    uuid = cn.add(alias="dhcp-next", brand="joyent")
    first = {**NIC, "mac": "b2:0:0:0:2:1", "ip": "10.2.121.180", "primary": True}
    vm = cn.api.update(uuid, add_nics=[first, {"nic_tag": "external", "mac": "b2:0:0:0:2:2", "ips": ["dhcp"]}])
    assert [nic.get("primary") for nic in vm["nics"]] == [True, None]
    vm = cn.api.update(uuid, remove_nics=["b2:0:0:0:2:1"])
    assert [(nic["mac"], nic.get("primary")) for nic in vm["nics"]] == [("b2:00:00:00:02:02", True)]


def test_new_nic_that_says_it_is_not_primary_is_added(cn):
    uuid = cn.add(alias="not-primary", brand="joyent")
    vm = cn.api.update(uuid, add_nics=[{**NIC, "mac": "b2:0:0:0:2:3", "ip": "10.2.121.181", "primary": False}])
    assert [nic["mac"] for nic in vm["nics"]] == ["b2:00:00:00:02:03"]


def test_size_of_tmp_can_be_none_and_then_change_again(cn):
    uuid = cn.add(alias="no-tmp", brand="joyent-minimal")
    for size in (0, 0, 50, 0):
        assert cn.api.update(uuid, tmpfs=size)["tmpfs"] == size
        assert re.findall('attr name="tmpfs" type="string" value="([^"]*)"', cn.control.read_xml(uuid)) == [str(size)]


def test_no_nic_no_nictagadm(cn, uuid):
    cn.forget_commands()
    cn.api.update(uuid, alias="quiet")
    assert not [command for command in cn.commands() if command.startswith("nictagadm")]


@pytest.mark.parametrize(
    ("nic", "text"),
    [
        ({"nic_tag": "nosuch"}, 'Invalid nic tag "nosuch"'),
        ({"mac": "x"}, "Invalid value(s) for: nics.*.mac"),
        (
            {"mac": "b2:0:0:0:9:9"},
            'invalid or missing .nic_tag option for NIC: {"mac":"b2:0:0:0:9:9","ips":[]}',
        ),
    ],
)
def test_bad_nics(cn, uuid, nic, text):
    assert cn.fails("update", uuid, payload={"add_nics": [nic]}) == text


def test_address_of_another_vm_is_refused(cn, uuid):
    other = cn.add(alias="other")
    cn.api.update(other, add_nics=[{**NIC, "mac": "b2:0:0:0:2:1", "ip": "10.2.121.200"}])
    text = "Conflict detected with another vm, please check the MAC, IP, and VRID"
    assert cn.fails("update", uuid, payload={"add_nics": [{"nic_tag": "admin", "mac": "b2:0:0:0:2:1"}]}) == text
    taken = {**NIC, "mac": "b2:0:0:0:2:9", "ip": "10.2.121.200"}
    assert cn.fails("update", uuid, payload={"add_nics": [taken]}) == text


# Datasets and disks.


def test_delegated_dataset_keeps_its_own_properties(cn):
    uuid = cn.add(alias="data", delegated=True)
    vm = cn.api.update(uuid, zfs_root_compression="lz4", zfs_root_recsize=4096)
    assert (vm["zfs_root_compression"], vm["zfs_root_recsize"]) == ("lz4", 4096)
    vm = cn.api.update(uuid, zfs_data_compression="gzip", zfs_data_recsize=1024, indestructible_delegated=True)
    assert (vm["zfs_data_compression"], vm["zfs_data_recsize"]) == ("gzip", 1024)
    assert vm["indestructible_delegated"] is True
    assert "indestructible_delegated" not in cn.api.update(uuid, indestructible_delegated=False)


def test_filesystems_are_added_changed_and_removed(cn):
    uuid = cn.add(alias="fs", state="stopped")
    vm = cn.api.update(uuid, add_filesystems=[{"source": "/a", "target": "/b", "type": "lofs", "options": ["ro"]}])
    assert vm["filesystems"] == [{"source": "/a", "target": "/b", "type": "lofs", "options": ["ro"]}]
    vm = cn.api.update(uuid, update_filesystems=[{"source": "/c", "target": "/b"}])
    assert vm["filesystems"] == [{"source": "/c", "target": "/b", "type": "lofs", "options": ["ro"]}]
    vm = cn.api.update(uuid, update_filesystems=[{"target": "/b", "options": ["rw", "nodevices"]}])
    assert vm["filesystems"] == [{"source": "/c", "target": "/b", "type": "lofs", "options": ["rw", "nodevices"]}]
    assert "filesystems" not in cn.api.update(uuid, remove_filesystems=["/b"])


def test_disks_of_a_stopped_kvm(cn):
    uuid = cn.add(
        alias="disks", brand="kvm", state="stopped", ram=1024, image="", disks=[{"size": "1024", "model": "virtio"}]
    )
    vm = cn.api.update(uuid, add_disks=[{"size": 512, "model": "virtio"}])
    assert [disk["size"] for disk in vm["disks"]] == [1024, 512]
    path = vm["disks"][1]["path"]
    assert path == f"/dev/zvol/rdsk/zones/{uuid}-disk1"
    vm = cn.api.update(uuid, update_disks=[{"path": path, "compression": "lz4", "boot": True}])
    assert (vm["disks"][1]["compression"], vm["disks"][1]["boot"]) == ("lz4", True)
    vm = cn.api.update(uuid, remove_disks=[path])
    assert [disk["size"] for disk in vm["disks"]] == [1024]
    assert f"zones/{uuid}-disk1" not in cn.control.datasets()


def test_disk_and_quota_of_a_stopped_bhyve(cn):
    uuid = cn.add(
        alias="bh",
        brand="bhyve",
        state="stopped",
        ram=1024,
        image="",
        quota=1,
        disks=[{"size": "1024", "model": "virtio"}],
    )
    path = cn.vm(uuid)["disks"][0]["path"]
    assert cn.api.update(uuid, update_disks=[{"path": path, "size": 2048}])["disks"][0]["size"] == 2048
    assert cn.api.update(uuid, quota=3)["quota"] == 3
    cloned = {"image_uuid": ZVOL_IMAGE, "refreservation": 0}  # all of it reserved would not fit into the quota
    vm = cn.api.update(uuid, add_disks=[cloned])
    assert (vm["disks"][1]["image_size"], vm["disks"][1]["model"], vm["bootrom"]) == (10240, "virtio", "uefi")
    assert (vm["disks"][1]["image_uuid"], vm["disks"][1]["size"]) == (ZVOL_IMAGE, 10240)
    assert (
        cn.fails("update", uuid, payload={"update_disks": [{"path": path, "size": 1024}]})
        == "cannot resize disk: new size must be greater than current size. (2048 > 1024)"
    )


def test_image_of_the_wrong_type_is_a_bad_value(cn):
    uuid = cn.add(alias="img", brand="kvm", state="stopped", ram=1024, image="")
    payload = {"add_disks": [{"image_uuid": BASE_IMAGE, "model": "virtio"}]}
    assert cn.fails("update", uuid, payload=payload) == "Invalid value(s) for: add_disks.0.image_uuid"


# Nothing to do.


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"nonsense": 1},
        {"cpu_cap": 0},
        {"set_tags": {}},
        {"remove_tags": ["none"]},
        {"image_uuid": BASE_IMAGE},
        {"state": "stopped", "create_timestamp": "2020-01-01T00:00:00.000Z", "zone_state": "down"},
        {"nics": []},
        {"resolvers": []},
        {"docker": False},
        {"hostname": ""},
        {"zfs_data_recsize": 512},
    ],
)
def test_update_without_effect_succeeds(cn, payload):
    uuid = cn.add(alias="same", cpu_cap=None)
    before = cn.vm(uuid)
    cn.ok("update", uuid, payload=payload)
    assert cn.vm(uuid) == before


def test_whole_object_can_be_fed_back(cn):
    uuid = cn.add(alias="again", quota=7, files={"tags": {"a": 1}})
    before = cn.vm(uuid)
    after = cn.api.update(uuid, before)
    assert {**after, "last_modified": 0} == {**before, "last_modified": 0}


# Conflicts with others.


def test_last_writer_wins_over_a_change_behind_its_back(own_cn):
    """The RFD's rule: zfs sets 10g, vmadm sets 20g, and 20 is what everybody sees."""
    uuid = own_cn.add(alias="rule", quota=20)
    own_cn.control.drop_events(None)  # vminfod does not hear of it
    own_cn.node.run("zfs", "set", "quota=10g", f"zones/{uuid}", check=True)
    own_cn.ok("update", uuid, "quota=20")
    assert own_cn.vm(uuid)["quota"] == 20
    assert own_cn.node.run("zfs", "get", "-Hpo", "value", "quota", f"zones/{uuid}").stdout == f"{20 << 30}\n"


def test_change_by_another_in_between_is_reported_and_not_a_timeout(cn):
    uuid = cn.add(alias="race", quota=10)
    # The tool says that it worked, and did nothing: as if another one had set it back at once.
    cn.control.fault("zfs", "fail", match="set quota=30g", exit=0)
    with pytest.raises(OutcomeMissed) as raised:
        cn.api.update(uuid, quota=30)
    assert str(raised.value) == (
        f"VM {uuid} was updated, but VM {uuid} does not show all of it: quota is 10, 30 was written"
    )


# Errors.


def test_unknown_vm(cn):
    assert cn.fails("update", NOBODY, "alias=x") == f"VM {NOBODY} not found"
    with pytest.raises(VmNotFound):
        cn.api.update(NOBODY, alias="x")


def test_bad_payload_touches_nothing_and_reports_all_errors(cn, uuid):
    before = cn.zone_xml(uuid)
    cn.forget_commands()
    with pytest.raises(BadPayload) as raised:
        cn.api.update(
            uuid,
            {
                "alias": "new",
                "quota": "x",
                "set_tags": "y",
                "zfs_root_recsize": 5,
                "set_routes": {"z": "w"},
                "add_nics": [{"ip": "dhcp", "mac": "b2:0:0:0:9:9"}],
            },
        )
    assert raised.value.errors == [
        "Invalid value for quota: null:number",
        "Invalid value(s) for: set_tags",
        'invalid or missing .nic_tag option for NIC: {"mac":"b2:0:0:0:9:9","ips":["dhcp"]}',
        'Invalid route destination: "z" (must be IP address or CIDR)',
        'Invalid route gateway: "w" (must be IP address, MAC address, or nic)',
        "invalid zfs_root_recsize (5), must be 512-131072 and a power of 2. (0 to disable)",
    ]
    assert cn.zone_xml(uuid) == before
    assert cn.commands() == []


def test_failing_zonecfg_fails_the_update(cn, uuid):
    cn.control.fault("zonecfg", "fail", stderr="zonecfg: out of luck\n")
    assert cn.fails("update", uuid, "alias=never") == "first of 1 error: Command failed: zonecfg: out of luck"
    assert cn.vm(uuid).get("alias") != "never"


def test_what_was_done_before_a_failure_is_reported_and_shown(cn):
    uuid = cn.add(alias="half", quota=10)
    cn.control.fault("zfs", "fail", match="set quota", stderr="cannot set property: out of space\n")
    assert cn.fails("update", uuid, payload={"alias": "done", "quota": 20, "set_tags": {"a": 1}}) == (
        "first of 1 error: Command failed: cannot set property: out of space "
        "(done: tags.json, zonecfg; not done: quota, last_modified)"
    )
    vm = cn.vm(uuid)
    assert (vm["alias"], vm["quota"], vm["tags"]) == ("done", 10, {"a": 1})
    cn.ok("update", uuid, payload={"alias": "done", "quota": 20, "set_tags": {"a": 1}})
    assert cn.vm(uuid)["quota"] == 20


@pytest.mark.parametrize("tool", ["prctl", "zlogin"])
def test_what_a_running_zone_does_not_take_is_no_failure(cn, tool):
    uuid = cn.add(alias="live")
    cn.api.update(uuid, add_nics=[{"nic_tag": "external", "mac": "b2:0:0:0:3:1"}])
    cn.control.fault(tool, "fail", times=None, stderr="no\n")
    vm = cn.api.update(uuid, max_physical_memory=128, update_nics=[{"mac": "b2:0:0:0:3:1", "ip": "dhcp"}])
    cn.control.clear_faults()
    assert vm["max_physical_memory"] == 128
    cn.api.update(uuid, remove_nics=["b2:0:0:0:3:1"])


def test_control_that_is_not_there_yet_is_set_anew(cn):
    uuid = cn.add(alias="ctl")
    cn.control.fault("prctl", "fail", match="-r -i zone", stderr="prctl: no matching resource control to replace\n")
    cn.forget_commands()
    cn.api.update(uuid, cpu_cap=100)
    assert cn.commands()[1:] == [
        f"prctl -n zone.cpu-cap -v 100 -t privileged -r -i zone {uuid}",
        f"prctl -n zone.cpu-cap -v 100 -t privileged -s -i zone {uuid}",
    ]
    cn.forget_commands()
    cn.api.update(uuid, cpu_cap=0)
    assert cn.commands()[1:] == [f"prctl -n zone.cpu-cap -x -t privileged -i zone {uuid}"]


def test_unsupported_brand(cn):
    uuid = cn.add(alias="odd", brand="exotic", state="stopped")
    assert cn.fails("update", uuid, "alias=x") == "Unsupported brand: exotic"


def test_vm_that_was_never_installed_has_no_dataset_to_change(cn):
    uuid = cn.add(state="configured")
    assert cn.fails("update", uuid, "quota=5", "alias=x") == f"VM {uuid} has no dataset, cannot change: quota"
    cn.ok("update", uuid, "alias=x")
    assert cn.vm(uuid)["alias"] == "x"


def test_config_files_are_not_written_through_a_link_left_in_their_place(cn, tmp_path):
    uuid = cn.add(alias="link", files={"tags": {}})
    target = tmp_path / "target"
    target.write_text("keep")
    os.symlink(target, f"{cn.root}/zones/{uuid}/config/tags.json.new")
    cn.api.update(uuid, set_tags={"a": 1})
    assert target.read_text() == "keep"
    assert json.loads(cn.config(uuid, "tags")) == {"a": 1}


# Words.


@pytest.mark.parametrize(
    ("stdin", "text"),
    [
        ("{", "Invalid JSON payload: "),
        ("", "Invalid JSON payload: "),
        ("[]", "Invalid JSON payload: "),
    ],
)
def test_bad_json(cn, uuid, stdin, text):
    done = cn.vmadm("update", uuid, stdin=stdin)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(text)
    assert done.err.count("\n") == 1


def test_missing_file(cn, uuid):
    assert cn.fails("update", uuid, "-f", "/no/such") == "File: /no/such does not exist."
    assert cn.fails("update", uuid, "-f", "/").startswith('Error reading: / {"code":')


@pytest.mark.parametrize("words", [["update"], ["update", "alias=x"], ["update", "not-a-uuid", "alias=x"]])
def test_missing_uuid(cn, words):
    done = cn.vmadm(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Invalid or missing UUID for update\nUsage: vmadm")


# The daemon.


def test_without_the_daemon_nothing_is_touched(own_cn):
    uuid = own_cn.add(alias="safe")
    before = own_cn.zone_xml(uuid)
    own_cn.daemon.stop()
    own_cn.forget_commands()
    text = f"cannot reach vminfod: connect ECONNREFUSED 127.0.0.1:{own_cn.daemon.port}; nothing was changed"
    assert own_cn.fails("update", uuid, "alias=x") == text
    with pytest.raises(DaemonAway):
        own_cn.api.update(uuid, alias="x")
    assert own_cn.zone_xml(uuid) == before
    assert own_cn.commands() == []


def test_daemon_that_restarts_meanwhile_is_waited_for(own_cn):
    uuid = own_cn.add(alias="patient")
    own_cn.control.fault("zonecfg", "hold")
    child = own_cn.start_vmadm("update", uuid, "alias=later")
    eventually("zonecfg is held", lambda: own_cn.control.held("zonecfg"))
    own_cn.daemon.stop()
    own_cn.control.step("zonecfg")
    with RunningDaemon(own_cn.root, port=own_cn.daemon.port).start() as again:
        assert ended(child) == (0, f"Successfully updated VM {uuid}")
        assert again.vm(uuid)["alias"] == "later"


def test_daemon_on_another_port_is_said_to_be_away():
    with pytest.raises(VmadmError, match="nothing was changed"):
        Vmadm(root="/nonexistent", port=free_port()).update(NOBODY, alias="x")


def test_missing_tool_is_a_failure_and_no_crash(own_cn):
    uuid = own_cn.add(alias="tool")
    os.unlink(own_cn.node.tool("zonecfg"))
    with pytest.raises(ToolFailed, match="cannot run zonecfg: No such file or directory"):
        own_cn.api.update(uuid, alias="x")


def test_disk_that_cannot_be_resized_leaves_the_zones_configuration_as_it_was(cn):
    disks = [{"size": 64, "model": "virtio", "boot": True}]
    room = {"flexible_disk_size": 1024, "autoboot": False}
    uuid = cn.api.create({"brand": "bhyve", "ram": 256, "vcpus": 1, "disks": disks, **room})["uuid"]
    path = cn.vm(uuid)["disks"][0]["path"]
    before = cn.zone_xml(uuid)
    cn.control.fault("zfs", "fail", match="volsize=", stderr="cannot set property: out of space\n")
    payload = {"update_disks": [{"path": path, "size": 128, "boot": False}], "alias": "larger"}
    said = cn.fails("update", uuid, payload=payload)
    cn.control.clear_faults()
    assert "out of space" in said
    assert cn.zone_xml(uuid) == before
    assert (cn.vm(uuid)["disks"][0]["size"], cn.vm(uuid).get("alias")) == (64, None)
    cn.ok("update", uuid, payload=payload)
    vm = cn.vm(uuid)
    assert (vm["disks"][0]["size"], vm["disks"][0]["boot"], vm["alias"]) == (128, False, "larger")
    cn.api.delete(uuid)


def volumes_of(cn, uuid):
    listed = cn.node.run("zfs", "list", "-Hro", "name", "-t", "volume", f"zones/{uuid}", check=True).stdout
    return [name.rpartition("/")[2] for name in listed.split()]


def test_volume_of_a_disk_that_the_zone_did_not_get_is_removed_so_that_the_update_can_be_repeated(cn):
    uuid = cn.api.create(BHYVE)["uuid"]
    cn.control.fault("zonecfg", "fail", match=uuid, stderr="zonecfg: out of luck\n")
    error = cn.fails("update", uuid, payload={"add_disks": [{"size": 64}]})
    assert "zonecfg: out of luck" in error
    assert error.endswith(f"removed again: zones/{uuid}/disk1")
    assert volumes_of(cn, uuid) == ["disk0"]
    cn.ok("update", uuid, payload={"add_disks": [{"size": 64}]})
    assert volumes_of(cn, uuid) == ["disk0", "disk1"]


def test_volume_of_a_disk_that_the_zone_got_stays_whatever_fails_then(cn):
    uuid = cn.api.create(BHYVE)["uuid"]
    cn.control.fault("zfs", "fail", match="compression=lz4", stderr="zfs: out of luck\n")
    cn.fails("update", uuid, payload={"add_disks": [{"size": 64}], "zfs_root_compression": "lz4"})
    assert volumes_of(cn, uuid) == ["disk0", "disk1"]
    assert [disk["path"].rpartition("/")[2] for disk in cn.vm(uuid)["disks"]] == ["disk0", "disk1"]


def test_flexible_disk_size_that_zfs_refuses_leaves_the_vms_room_as_it_was(cn):
    uuid = cn.api.create(BHYVE)["uuid"]

    def room():
        words = ("-Hpo", "property,value", "quota,reservation,refquota,refreservation", f"zones/{uuid}")
        return cn.node.run("zfs", "get", *words, check=True).stdout

    before = room()
    assert "cannot set property for" in cn.fails("update", uuid, payload={"flexible_disk_size": 100})
    assert room() == before
    cn.control.fault("zfs", "fail", match="refreservation=2146435072", stderr="zfs: out of luck\n")
    cn.fails("update", uuid, payload={"quota": 2})
    assert room() == before


@pytest.mark.parametrize("gone", [[CARD], CARD, f"{CARD},{OTHER_CARD}", [CARD, "/devices/none"]])
def test_pci_device_is_removed_though_its_path_has_commas(cn, gone):
    uuid = cn.add(brand="bhyve", state="stopped", image="")
    cards = [{"path": path, "pci_slot": slot} for path, slot in ((CARD, "8:0"), (OTHER_CARD, "8:1"))]
    cn.ok("update", uuid, payload={"add_pci_devices": cards})
    cn.ok("update", uuid, payload={"remove_pci_devices": gone})
    left = [OTHER_CARD] if OTHER_CARD not in gone else []
    assert [device["path"] for device in cn.vm(uuid).get("pci_devices", [])] == left


def test_what_is_removed_and_added_again_in_one_payload_is_replaced(cn):
    uuid = cn.add(brand="bhyve", state="stopped", image="")
    cn.ok("update", uuid, payload={"add_pci_devices": [{"path": CARD, "pci_slot": "8:0"}]})
    again = [{"path": CARD, "pci_slot": "9:0"}]
    cn.ok("update", uuid, payload={"remove_pci_devices": [CARD], "add_pci_devices": again})
    assert [(device["path"], device["pci_slot"]) for device in cn.vm(uuid)["pci_devices"]] == [(CARD, "9:0")]
    uuid = cn.add(brand="joyent-minimal")
    old, new = ({"source": source, "target": "/mnt/x", "type": "lofs"} for source in ("/old", "/new"))
    cn.ok("update", uuid, payload={"add_filesystems": [old]})
    cn.ok("update", uuid, payload={"remove_filesystems": ["/mnt/x"], "add_filesystems": [new]})
    assert cn.vm(uuid)["filesystems"] == [new]


def test_disk_that_is_updated_twice_is_refused_with_that_reason(cn):
    uuid = cn.api.create(BHYVE)["uuid"]
    path = f"/dev/zvol/rdsk/zones/{uuid}/disk0"
    twice = [{"path": path, "model": model} for model in ("nvme", "ahci")]
    assert cn.fails("update", uuid, payload={"update_disks": twice}) == f"Cannot update the disk {path} more than once"


@pytest.mark.parametrize(
    "maps",
    [
        {"customer_metadata": {"a": "x" * (5 << 20)}},
        {"tags": {str(number): number for number in range(31_000)}},
    ],
    ids=["too large", "too many"],
)
def test_more_than_can_be_read_again_is_refused_before_anything_is_touched(cn, uuid, maps):
    """vminfod does not read such a file: the VM would keep its old object for ever."""
    before = cn.vm(uuid)
    cn.forget_commands()
    [(name, value)] = maps.items()
    with pytest.raises(BadPayload, match="tags|customer_metadata"):
        cn.api.update(uuid, {f"set_{name}": value, "alias": "other"})
    with pytest.raises(BadPayload, match="tags|customer_metadata"):
        cn.create(**{name: value})
    assert cn.vm(uuid) == before
    assert [line for line in cn.commands() if line.startswith(("zfs create", "zfs set", "zonecfg"))] == []
