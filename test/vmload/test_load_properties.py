# SPDX-License-Identifier: MPL-2.0
"""Every property that a VM object can have, from its input to its value (docs/vm-object.md, "Every property").

Five VMs between them show all: `works`, a joyent zone that has everything an XML can give; `guest`, a bhyve VM with
disks; `stopped`, which has exited; `receiving`, which waits for its datasets; `odd`, whose transition is malformed. The
table below was written by hand from the specification. That it is complete is a test of its own."""

import json
import os
from pathlib import Path

import pytest

from support.handmade_node import CHANGED, SERVER, HandmadeNode, canonical, device, nic, rctl, uuid

CHECKOUT = Path(__file__).resolve().parents[2]
SPEC = CHECKOUT.parent / "shared" / "spec"
PACKAGE = CHECKOUT / "usr" / "vm" / "lib" / "vmload"

WORKS, GUEST, STOPPED, RECEIVING, ODD = (uuid(n) for n in (1, 2, 3, 4, 5))

# property: <attr> name, its text, the value in the object. All on `works`.
ATTRS = {
    "alias": ("alias", "dGhlIHdvcmtz", "the works"),
    "app_svc_dependent": ("app-svc-dependent", "true", True),
    "archive_on_delete": ("archive-on-delete", "false", False),
    "bhyve_extra_opts": ("bhyve-extra-opts", "-s 31,lpc", "-s 31,lpc"),
    "billing_id": ("billing-id", "dfd227bc-e285-449f-8898-ee817a1d7196", "dfd227bc-e285-449f-8898-ee817a1d7196"),
    "boot": ("boot", "order=cd,once=d", "order=cd,once=d"),
    "bootrom": ("bootrom", "uefi", "uefi"),
    "com1": ("com1", "/dev/zconsole", "/dev/zconsole"),
    "com2": ("com2", "socket,/tmp/vm.ttyb", "socket,/tmp/vm.ttyb"),
    "cpu_type": ("cpu-type", "host", "host"),
    "create_timestamp": ("create-timestamp", "2014-02-17T10:17:28.739Z", "2014-02-17T10:17:28.739Z"),
    "default_gateway": ("default-gateway", "10.10.10.1", "10.10.10.1"),
    "disk_driver": ("disk-driver", "virtio", "virtio"),
    "dns_domain": ("dns-domain", "example.com", "example.com"),
    "do_not_inventory": ("do-not-inventory", "true", True),
    "docker": ("docker", "true", True),
    "failed": ("failed", "provisioning", "provisioning"),
    "firewall_enabled": ("firewall-enabled", "true", True),
    "flexible_disk_size": ("flexible-disk-size", "20480", 20480),
    "hostname": ("hostname", "maximum", "maximum"),
    "image_uuid": ("dataset-uuid", "01b2c898-945f-11e1-a523-af1afbe22822", "01b2c898-945f-11e1-a523-af1afbe22822"),
    "init_name": ("init-name", "/sbin/init", "/sbin/init"),
    "internal_metadata_namespaces": ("internal-metadata-namespaces", "sdc,docker", ["sdc", "docker"]),
    "kernel_version": ("kernel-version", "2.6", "2.6"),
    "maintain_resolvers": ("maintain-resolvers", "true", True),
    "nic_driver": ("nic-driver", "virtio", "virtio"),
    "owner_uuid": ("owner-uuid", "a829a6ce-b4a9-40dd-81a2-6a1ca66fe723", "a829a6ce-b4a9-40dd-81a2-6a1ca66fe723"),
    "package_name": ("package-name", "g6", "g6"),
    "package_version": ("package-version", "1.0.0", "1.0.0"),
    "provisioning": ("provisioning", "true", True),
    "qemu_extra_opts": ("qemu-extra-opts", "LXNtcCAy", "-smp 2"),
    "qemu_opts": ("qemu-opts", "LXggJyc=", "-x ''"),
    "ram": ("ram", "1024", 1024),
    "resolvers": ("resolvers", "4.2.2.1,4.2.2.2", ["4.2.2.1", "4.2.2.2"]),
    "restart_init": ("restart-init", "false", False),
    "spice_opts": ("spice-opts", "YWJj", "abc"),
    "spice_password": ("spice-password", "czNjcmV0", "s3cret"),
    "spice_port": ("spice-port", "5930", 5930),
    "tmpfs": ("tmpfs", "256", 256),
    "v": ("vm-version", "1", 1),
    "vcpus": ("vcpus", "2", 2),
    "vga": ("vga", "std", "std"),
    "virtio_txburst": ("virtio-txburst", "128", 128),
    "virtio_txtimer": ("virtio-txtimer", "200000", 200000),
    "vm_autoboot": ("vm-autoboot", "false", False),
    "vnc_password": ("vnc-password", "aHVudGVyMg==", "hunter2"),
    "vnc_port": ("vnc-port", "-1", -1),
    "zlog_max_size": ("zlog-max-size", "9223372036854775807", 9223372036854775807),
    "zlog_mode": ("zlog-mode", "g--", "g--"),
    "zlog_name": ("zlog-name", "platform.log", "platform.log"),
}
# property: control, action, its limit, the value. All privileged.
RCTLS = {
    "cpu_cap": ("zone.cpu-cap", "deny", "800", 800),
    "cpu_shares": ("zone.cpu-shares", "none", "100", 100),
    "max_locked_memory": ("zone.max-locked-memory", "deny", "268435456", 256),
    "max_lwps": ("zone.max-lwps", "deny", "2000", 2000),
    "max_msg_ids": ("zone.max-msg-ids", "deny", "4096", 4096),
    "max_physical_memory": ("zone.max-physical-memory", "deny", "536870912", 512),
    "max_sem_ids": ("zone.max-sem-ids", "deny", "4097", 4097),
    "max_shm_ids": ("zone.max-shm-ids", "deny", "4098", 4098),
    "max_shm_memory": ("zone.max-shm-memory", "deny", "1610612736", 1536),
    "max_swap": ("zone.max-swap", "deny", "1572864", 1.5),
    "zfs_io_priority": ("zone.zfs-io-priority", "none", "50", 50),
}
# member of the single nic: net-attr, or attribute of <network>; its text; the value
NIC_ATTRIBUTES = {
    "interface": ("physical", "net0", "net0"),
    "mac": ("mac-addr", "2:8:20:a1:b2:c3", "2:8:20:a1:b2:c3"),
    "nic_tag": ("global-nic", "external", "external"),
    "vlan_id": ("vlan-id", "1337", 1337),
}
NIC_NET_ATTRS = {
    "allow_dhcp_spoofing": ("true", True),
    "allow_ip_spoofing": ("true", True),
    "allow_mac_spoofing": ("false", False),
    "allow_restricted_traffic": ("true", True),
    "allow_unfiltered_promisc": ("true", True),
    "allowed_dhcp_cids": ("0x01,0x0203", ["0x01", "0x0203"]),
    "allowed_ips": ("10.0.0.3,10.0.0.4", ["10.0.0.3", "10.0.0.4"]),
    "blocked_outgoing_ports": ("25,587", [25, 587]),
    "dhcp_server": ("true", True),
    "gateway": ("10.0.0.1", "10.0.0.1"),
    "gateways": ("10.0.0.1,10.0.0.2", ["10.0.0.1", "10.0.0.2"]),
    "ip": ("10.0.0.5", "10.0.0.5"),
    "ips": ("10.0.0.5/24,addrconf", ["10.0.0.5/24", "addrconf"]),
    "model": ("virtio", "virtio"),
    "mtu": ("9000", 9000),
    "netmask": ("255.255.255.0", "255.255.255.0"),
    "network_uuid": ("298ec546-4b2c-41b4-ba58-6034b1fa8e02", "298ec546-4b2c-41b4-ba58-6034b1fa8e02"),
    "primary": ("true", True),
    "vrrp_primary_ip": ("10.0.0.6", "10.0.0.6"),
    "vrrp_vrid": ("7", 7),
}
DISK_NET_ATTRS = {
    "boot": ("boot", "true", True),
    "guest_block_size": ("guest-block-size", "512/4096", "512/4096"),
    "image_size": ("image-size", "10240", 10240),
    "media": ("media", "disk", "disk"),
    "model": ("model", "nvme", "nvme"),
    "image_uuid": ("image-uuid", "cf6b54f9-2952-4213-ba84-b6f64a7ec229", "cf6b54f9-2952-4213-ba84-b6f64a7ec229"),
    "notrim": ("notrim", "true", True),
    "pci_slot": ("pci-slot", "0:4:0", "0:4:0"),
    "uuid": ("uuid", "11adf075-d948-6518-eaa7-fab9fcadb934", "11adf075-d948-6518-eaa7-fab9fcadb934"),
}
# In the XML and dropped: property, and the key under which a careless reader would serve it.
IGNORED = {
    "allowed_address": (WORKS, "allowed_address"),
    "debug_id": (WORKS, "debug_id"),
    "ip_type": (WORKS, "ip_type"),
    "disks.*.image_name": (GUEST, "image_name"),
    "disks.*.zonexml_size": (GUEST, "zonexml_size"),
    "zonepath": (WORKS, None),  # dropped from the XML, taken from zoneadm: EXPECTED has it
}

GUEST_DISK = f"zones/{GUEST}/disk0"
# property: the VM that shows it, its value there. What the tables above do not say.
EXPECTED = {
    **{name: (WORKS, value) for name, (_, _, value) in ATTRS.items()},
    **{name: (WORKS, value) for name, (_, _, _, value) in RCTLS.items()},
    **{"nics.*." + name: (WORKS, value) for name, (_, _, value) in NIC_ATTRIBUTES.items()},
    **{"nics.*." + name: (WORKS, value) for name, (_, value) in NIC_NET_ATTRS.items()},
    **{"disks.*." + name: (GUEST, value) for name, (_, _, value) in DISK_NET_ATTRS.items()},
    "zonename": (WORKS, WORKS),
    "uuid": (WORKS, WORKS),
    "brand": (WORKS, "joyent"),
    "zonepath": (WORKS, "/zones/" + WORKS),
    "zone_state": (WORKS, "running"),
    "zoneid": (WORKS, 7),
    "zonedid": (WORKS, 41),
    "hvm": (GUEST, True),
    "autoboot": (WORKS, True),
    "limit_priv": (WORKS, "default,-file_link_any"),
    "fs_allowed": (WORKS, "ufs,pcfs"),
    "state": (WORKS, "failed"),
    "last_modified": (WORKS, "2026-03-13T12:01:57.000Z"),
    "datasets": (WORKS, [f"zones/{WORKS}/data"]),
    "filesystems": (
        WORKS,
        [{"source": "/var/tmp", "raw": "/dev/x", "target": "/gz", "type": "lofs", "options": ["ro"]}],
    ),
    "filesystems.*.source": (WORKS, "/var/tmp"),
    "filesystems.*.raw": (WORKS, "/dev/x"),
    "filesystems.*.target": (WORKS, "/gz"),
    "filesystems.*.type": (WORKS, "lofs"),
    "filesystems.*.options": (WORKS, ["ro"]),
    "nics": (GUEST, [{"interface": "net0"}]),
    "device": (GUEST, None),
    "pci_devices": (GUEST, [{"path": "/devices/pci0", "pci_slot": "8:0", "model": "passthru"}]),
    "pci_devices.*.path": (GUEST, "/devices/pci0"),
    "pci_devices.*.pci_slot": (GUEST, "8:0"),
    "pci_devices.*.model": (GUEST, "passthru"),
    "disks": (
        GUEST,
        [
            {
                "path": "/dev/zvol/rdsk/" + GUEST_DISK,
                "zfs_filesystem": GUEST_DISK,
                "zpool": "zones",
                "size": 10240,
                "compression": "lz4",
                "refreservation": 10563,
                "block_size": 16384,
                **{name: value for name, (_, _, value) in DISK_NET_ATTRS.items()},
            }
        ],
    ),
    "disks.*.path": (GUEST, "/dev/zvol/rdsk/" + GUEST_DISK),
    "disks.*.zfs_filesystem": (GUEST, GUEST_DISK),
    "disks.*.zpool": (GUEST, "zones"),
    "disks.*.size": (GUEST, 10240),
    "disks.*.compression": (GUEST, "lz4"),
    "disks.*.refreservation": (GUEST, 10563),
    "disks.*.block_size": (GUEST, 16384),
    "free_space": (GUEST, 10238),  # 20480 - 10240 - 1.5, rounded down
    "boot_timestamp": (WORKS, "2026-03-13T12:00:00.000Z"),
    "pid": (WORKS, 20417),
    "init_restarts": (WORKS, 3),
    "server_uuid": (WORKS, SERVER),
    "platform_buildstamp": (WORKS, "20260312T000000Z"),
    "datacenter_name": (WORKS, "emy-10"),
    "headnode_id": (WORKS, 3),
    "customer_metadata": (WORKS, {"a": "b"}),
    "internal_metadata": (WORKS, {"c": 1}),
    "tags": (WORKS, {"role": "db"}),
    "routes": (WORKS, {"10.0.0.0/8": "192.0.2.1"}),
    "exit_status": (STOPPED, 13),
    "exit_timestamp": (STOPPED, "2026-03-13T12:01:57.521Z"),
    "transition": (ODD, "stopping"),
    "transition_to": (RECEIVING, "stopped"),
    "transition_expire": (RECEIVING, 1773403317000),
    "missing": (RECEIVING, {"datasets": ["zones/" + RECEIVING], "disks": [], "filesystems": []}),
    "quota": (WORKS, 10),
    "zfs_filesystem": (WORKS, "zones/" + WORKS),
    "zpool": (WORKS, "zones"),
    "zfs_root_compression": (WORKS, "lz4"),
    "zfs_root_recsize": (WORKS, 65536),
    "zfs_filesystem_limit": (WORKS, 5),
    "zfs_snapshot_limit": (WORKS, 7),
    "zfs_data_compression": (WORKS, "gzip"),
    "zfs_data_recsize": (WORKS, 8192),
    "indestructible_zoneroot": (WORKS, True),
    "indestructible_delegated": (WORKS, True),
    "snapshots": (WORKS, [{"name": "monday", "size": 1.5, "created_at": "2026-03-06T12:26:40.000Z"}]),
}


def everything(tmp_path):
    node = HandmadeNode(tmp_path)
    node.sysinfo({"UUID": SERVER, "Live Image": "20260312T000000Z", "Datacenter Name": "emy-10", "Headnode ID": 3})
    network = " ".join(f'{name}="{text}"' for name, text, _ in NIC_ATTRIBUTES.values() if name != "physical")
    options = {name: text for name, (text, _) in NIC_NET_ATTRS.items()}
    inner = (
        "".join(rctl(name, limit, action) for name, action, limit, _ in RCTLS.values())
        + nic("net0", network + ' allowed-address="10.0.0.9"', **options)
        + f'<dataset name="zones/{WORKS}/data"/><filesystem special="/var/tmp" raw="/dev/x" directory="/gz"'
        ' type="lofs"><fsoption name="ro"/></filesystem>'
    )
    node.zone(
        WORKS,
        attrs={name: text for name, text, _ in ATTRS.values()},
        top={"limitpriv": "default,-file_link_any", "fs-allowed": "ufs,pcfs", "zonepath": "/from/the/xml"},
        inner=inner,
        root_dataset={
            "quota": 10 << 30,
            "compression": "lz4",
            "recsize": 65536,
            "filesystem_limit": 5,
            "snapshot_limit": 7,
        },
    )
    node.dataset(f"zones/{WORKS}/data", zoned="on", compression="gzip", recsize=8192)
    node.snapshot(f"zones/{WORKS}@indestructible", userrefs=1)
    node.snapshot(f"zones/{WORKS}/data@indestructible", userrefs=1)
    node.snapshot(f"zones/{WORKS}@vmsnap-monday", creation=1772800000, written=1572864)
    node.stats(WORKS, boot_time=1773403200, init_pid=20417, init_restarts=3)
    node.config("metadata.json", '{"customer_metadata": {"a": "b"}, "internal_metadata": {"c": 1}}', "/zones/" + WORKS)
    node.config("tags.json", '{"role": "db"}', "/zones/" + WORKS)
    node.config("routes.json", '{"10.0.0.0/8": "192.0.2.1"}', "/zones/" + WORKS)
    net_attrs = {name.replace("-", "_"): text for name, text, _ in DISK_NET_ATTRS.values()}
    node.zone(
        GUEST,
        brand="bhyve",
        state="installed",
        attrs={"flexible-disk-size": "20480"},
        inner=nic("net0")
        + device("/dev/zvol/rdsk/" + GUEST_DISK, size="1", image_name="old", **net_attrs)
        + device("/devices/pci0", pci_slot="8:0", model="passthru"),
    )
    node.volume(
        GUEST_DISK,
        10737418240,
        compression="lz4",
        refreservation=11075584000,
        volblocksize=16384,
        usedbysnapshots=1572864,
    )
    node.zone(STOPPED, state="installed")
    node.last_exited("1773403317.52104 3328\n", "/zones/" + STOPPED, mtime=CHANGED)
    node.zone(RECEIVING, state="configured", attrs={"transition": "receiving:stopped:1773403317000"}, listed=False)
    node.zone(ODD, state="installed", attrs={"transition": "stopping"})
    return node


@pytest.fixture(scope="module")
def vms(tmp_path_factory):
    return everything(tmp_path_factory.mktemp("everything")).vms()


@pytest.mark.parametrize("name", EXPECTED)
def test_property_has_the_value_that_its_source_says(vms, name):
    which, value = EXPECTED[name]
    listed, _, member = name.partition(".*.")
    found = vms[which][listed]
    assert canonical(found[0][member] if member else found) == canonical(value)


@pytest.mark.pure
@pytest.mark.parametrize("name", IGNORED)
def test_property_that_is_ignored_is_in_no_object(vms, name):
    which, key = IGNORED[name]
    if key is None:
        assert vms[which]["zonepath"] == "/zones/" + which
    else:
        places = [vms[which], *vms[which].get("disks", []), *vms[which]["nics"]]
        assert [place for place in places if {key, key.replace("_", "-")} & set(place)] == []


@pytest.mark.pure
def test_objects_have_no_property_beyond_the_table(vms):
    for vm in vms.values():
        names = set(vm)
        for listed in ("nics", "disks", "pci_devices", "filesystems"):
            names |= {f"{listed}.*.{member}" for item in vm.get(listed, []) for member in item}
        assert names - set(EXPECTED) == set()


@pytest.mark.pure
def test_size_of_a_disk_in_the_xml_does_not_pass_for_the_size_of_its_zvol(vms):
    assert vms[GUEST]["disks"][0]["size"] == 10240


# -- the table itself


def table(name):
    """The specification's table, or where that is not at hand the package's copy."""
    path = SPEC / name if (SPEC / name).exists() else PACKAGE / name
    return json.loads(path.read_text())


@pytest.mark.pure
def test_every_property_that_can_be_in_an_object_is_tested_here():
    properties = table("vm-properties.json")["properties"]
    assert {name for name, entry in properties.items() if entry["in_vm_object"]} == set(EXPECTED)


@pytest.mark.pure
def test_every_property_that_is_ignored_is_tested_here():
    properties = table("vm-properties.json")["properties"]
    assert {name for name, entry in properties.items() if entry["ignore"]} == set(IGNORED)


@pytest.mark.pure
def test_xml_paths_and_files_of_this_test_are_those_of_the_table():
    properties = table("vm-properties.json")["properties"]

    def path(name):
        return [source["path"] for source in properties[name]["sources"] if source["kind"] == "zonexml"][0]

    paths = {name: path(name) for name in (*ATTRS, *RCTLS)}
    assert paths == {
        **{name: "zone.attr." + given for name, (given, _, _) in ATTRS.items()},
        **{name: f"zone.rctl.{row[0]}.privileged.{row[1]}" for name, row in RCTLS.items()},
    }
    assert {name: path("nics.*." + name) for name in NIC_NET_ATTRS} == {
        name: "zone.network.net-attr." + name for name in NIC_NET_ATTRS
    }
    assert {name: path("disks.*." + name) for name in DISK_NET_ATTRS} == {
        name: "zone.device.net-attr." + given for name, (given, _, _) in DISK_NET_ATTRS.items()
    }


@pytest.mark.pure
@pytest.mark.parametrize("name", ["vm-properties.json", "brands.json"])
def test_package_has_the_table_unchanged(name):
    if not (SPEC / name).exists():
        pytest.skip(f"the specification's {name} is not here to compare with")
    wanted = table(name)
    found = json.loads((PACKAGE / name).read_text())
    wanted.pop("about")  # words for people
    found.pop("about", None)
    assert found == wanted


@pytest.mark.pure
def test_table_is_data_that_is_installed_with_the_package():
    assert os.path.exists(PACKAGE / "vm-properties.json")
