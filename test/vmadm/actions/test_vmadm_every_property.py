# SPDX-License-Identifier: MPL-2.0
"""Every property that an update may change: set it, look, take it away in each way there is (null, blank, 0 or false),
look again. Over all brands.

What is looked at is the zone's XML, its datasets and files, read past vmadm and the daemon; expected is what the table
says, by hand. A property of the property table without a row fails the test."""

import base64
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

import pytest

from support.examples import few
from support.writing import BASE_IMAGE, IMAGE, LX_IMAGE
from vmload import brands, properties

pytest_plugins = ["support.writers"]

MIB, GIB = 1 << 20, 1 << 30
OS = ("joyent", "joyent-minimal", "builder", "lx")
HVM = ("kvm", "bhyve")
ALL = (*OS, *HVM)
NIC_MAC = "b2:1e:ba:a5:77:0{}"
ABSENT = None
FORMS = ("null", "blank", "zero or false")


@dataclass
class Row:
    """A property: a value, where it is kept and as what, and what is kept after each form of unsetting it."""

    name: str
    value: object
    place: str
    kept: object
    unset: dict = field(default_factory=dict)  # form -> (value, kept then)
    of: tuple = ALL

    @property
    def shown(self):
        """What a VM object shows once it is set."""
        return ",".join(self.value) if self.name in ("fs_allowed", "limit_priv") else self.value


def text(name, value, of=ALL, *, encoded=False, attr=None):
    kept = base64.b64encode(value.encode()).decode() if encoded else value
    unset = {"null": (None, ABSENT), "blank": ("", ABSENT)}
    return Row(name, value, f"attr {attr or name.replace('_', '-')}", kept, unset, of)


def flag(name, of=ALL):
    return Row(name, True, f"attr {name.replace('_', '-')}", "true", {"zero or false": (False, ABSENT)}, of)


def control(name, value, of=ALL, *, unit=1):
    unset = {"null": (None, ABSENT), "blank": ("", ABSENT), "zero or false": (0, "0")}
    return Row(name, value, f"rctl zone.{name.replace('_', '-')}", str(value * unit), unset, of)


def number(name, value, of=ALL, *, zero=ABSENT):
    unset = {"null": (None, ABSENT), "blank": ("", ABSENT), "zero or false": (0, zero)}
    return Row(name, value, f"attr {name.replace('_', '-')}", str(value), unset, of)


def memory(name, value):
    return Row(name, value, f"rctl zone.{name.replace('_', '-')}", str(value * MIB))


def zfs(name, value, prop, unset, of=ALL, *, below="", kept=None):
    return Row(name, value, f"zfs{below} {prop}", str(value if kept is None else kept), unset, of)


RECSIZE = {"null": (None, "131072"), "blank": ("", "131072"), "zero or false": (0, "131072")}
NO_LIMIT = str(2**64 - 1)
LIMIT = {"null": (None, NO_LIMIT), "blank": ("", NO_LIMIT), "zero or false": (0, "0")}
NO_QUOTA = {"null": (None, "0"), "blank": ("", "0"), "zero or false": (0, "0")}
LEAST_QUOTA = {form: (value, str(GIB)) for form, (value, _) in NO_QUOTA.items()}

ROWS = [
    text("alias", 'wéb "1"', encoded=True),
    text("billing_id", "b-2"),
    text("owner_uuid", "930896af-bf8c-48d4-885c-6573a94b1853"),
    text("package_name", "p2"),
    text("package_version", "2.0"),
    text("hostname", "web0"),
    text("dns_domain", "bar.org"),
    text("init_name", "/sbin/i", OS),
    text("kernel_version", "4.10", ("lx",)),
    text("boot", "order=dc", HVM),
    text("bootrom", "bios", ("bhyve",)),
    text("cpu_type", "host", ("kvm",)),
    text("disk_driver", "virtio", HVM),
    text("nic_driver", "virtio", HVM),
    text("vnc_password", "secret", HVM, encoded=True),
    text("spice_password", "secret", ("kvm",), encoded=True),
    text("spice_opts", "x", ("kvm",), encoded=True),
    text("qemu_opts", "-a", ("kvm",), encoded=True),
    text("qemu_extra_opts", "-b", ("kvm",), encoded=True),
    text("bhyve_extra_opts", "-w", ("bhyve",)),
    text("com1", "none", ("bhyve",)),
    text("com2", "none", ("bhyve",)),
    Row("vga", "qxl", "attr vga", "qxl", {}, ("kvm",)),
    Row(
        "resolvers",
        ["8.8.8.8", "8.8.4.4"],
        "attr resolvers",
        "8.8.8.8,8.8.4.4",
        {"blank": ("", ABSENT), "zero or false": ([], ABSENT)},
    ),
    Row(
        "internal_metadata_namespaces", ["a", "b"], "attr internal-metadata-namespaces", "a,b", {"blank": ("", ABSENT)}
    ),
    flag("maintain_resolvers"),
    flag("do_not_inventory"),
    flag("archive_on_delete"),
    flag("firewall_enabled"),
    Row("docker", True, "attr docker", "true", {"zero or false": (False, ABSENT)}, ("joyent-minimal", "lx")),
    Row("restart_init", False, "attr restart-init", "false", {"zero or false": (True, ABSENT)}),
    Row("autoboot", True, "zone autoboot", "true", {"zero or false": (False, "false")}, (*OS, "bhyve")),
    Row("autoboot", True, "attr vm-autoboot", "true", {"zero or false": (False, "false")}, ("kvm",)),
    Row("indestructible_zoneroot", True, "snapshot ", True, {"zero or false": (False, False)}),
    Row("indestructible_delegated", True, "snapshot /data", True, {"zero or false": (False, False)}, OS),
    memory("max_physical_memory", 2048),
    memory("max_locked_memory", 1500),
    memory("max_swap", 3000),
    control("max_shm_memory", 100, unit=MIB),
    control("cpu_shares", 50),
    control("zfs_io_priority", 20),
    control("max_lwps", 900),
    control("max_msg_ids", 100),
    control("max_sem_ids", 101),
    control("max_shm_ids", 102),
    Row(
        "cpu_cap",
        150,
        "rctl zone.cpu-cap",
        "150",
        {"null": (None, ABSENT), "blank": ("", ABSENT), "zero or false": (0, ABSENT)},
    ),
    Row("fs_allowed", ["ufs", "pcfs"], "zone fs-allowed", "ufs,pcfs", {"blank": ("", "")}),
    Row("limit_priv", ["default", "dtrace_user"], "zone limitpriv", "default,dtrace_user", {"blank": ("", "")}),
    number("tmpfs", 100, OS, zero="0"),
    number("zlog_max_size", 20000),
    number("vcpus", 4, HVM),
    number("vnc_port", 5990, HVM),
    number("spice_port", 5991, ("kvm",)),
    number("virtio_txtimer", 100, ("kvm",)),
    number("virtio_txburst", 200, ("kvm",)),
    number("flexible_disk_size", 4096, ("bhyve",)),
    Row("ram", 700, "attr ram", "700", {}, HVM),
    zfs("quota", 20, "quota", NO_QUOTA, (*OS, "kvm"), kept=20 * GIB),
    zfs("quota", 20, "refquota", LEAST_QUOTA, ("bhyve",), kept=20 * GIB),
    zfs("zfs_root_compression", "lz4", "compression", {}),
    zfs("zfs_root_recsize", 4096, "recordsize", RECSIZE),
    zfs("zfs_filesystem_limit", 10, "filesystem_limit", LIMIT),
    zfs("zfs_snapshot_limit", 11, "snapshot_limit", LIMIT),
    zfs("zfs_data_compression", "gzip", "compression", {}, OS, below="/data"),
    zfs("zfs_data_recsize", 8192, "recordsize", RECSIZE, OS, below="/data"),
]
ONLY_ZERO = {"vcpus"}  # 0 is below its least value
LISTS = ("nics", "disks", "filesystems", "pci_devices")
MAPS = ("tags", "routes", "customer_metadata", "internal_metadata")
NOT_HERE = {  # by other rows of this file or of others
    *(f"{verb}_{name}" for verb in ("add", "update", "remove") for name in LISTS),
    *(f"{verb}_{name}" for verb in ("set", "remove") for name in MAPS),
    "pci_devices",
    "ram",  # of an OS VM: another word for max_physical_memory
    "indestructible_delegated",  # of a hardware VM, which can have no delegated dataset here
    "docker",
}


def rows_of(brand):
    rows = [row for row in ROWS if brand in row.of and is_updatable(row.name, brand)]
    # docker brings other properties along, each of which has a row.
    return [row for row in rows if row.name != "docker"]


def is_updatable(name, brand):
    return "update" in properties.table()[name]["payload"]["allowed"].get(brand, ())


@pytest.mark.pure
@pytest.mark.parametrize("brand", sorted(brands.table()["brands"]))
def test_each_property_that_an_update_may_change_has_a_row(brand):
    table = properties.table()
    names = {name for name in table if ".*." not in name and table[name]["payload"] and is_updatable(name, brand)}
    assert names - NOT_HERE == {row.name for row in rows_of(brand)} - NOT_HERE


@pytest.fixture(scope="module")
def made(cn):
    """A stopped VM for each brand."""
    found = {}
    for number_, brand in enumerate(ALL):
        payload = {"brand": brand, "autoboot": False, "ram": 512, "quota": 5}
        nic = {"nic_tag": "external", "mac": NIC_MAC.format(number_), "ip": f"10.2.122.{number_ + 5}"}
        payload["nics"] = [{**nic, "netmask": "255.255.255.0"}]
        if brand in HVM:
            payload["nics"][0]["model"] = "virtio"
        else:
            image = {"lx": LX_IMAGE, "joyent-minimal": IMAGE}.get(brand, BASE_IMAGE)
            payload = {**payload, "image_uuid": image, "delegate_dataset": True}
        if brand == "lx":
            payload["kernel_version"] = "4.3.0"
        found[brand] = cn.api.create(payload)["uuid"]
    return found


def kept(cn, uuid, place):
    """What the node keeps at a place."""
    kind, _, name = place.partition(" ")
    zone = ElementTree.fromstring(cn.zone_xml(uuid).partition('.dtd.1">')[2])
    if kind == "attr":
        found = [attr.get("value") for attr in zone.iter("attr") if attr.get("name") == name]
    elif kind == "rctl":
        found = [rctl.find("rctl-value").get("limit") for rctl in zone.iter("rctl") if rctl.get("name") == name]
    elif kind == "zone":
        found = [zone.get(name)]
    elif kind == "snapshot":
        return cn.node.run("zfs", "list", "-H", f"zones/{uuid}{name}@indestructible").returncode == 0
    else:
        dataset = f"zones/{uuid}{kind.removeprefix('zfs')}"
        found = [cn.node.run("zfs", "get", "-Hpo", "value", name, dataset, check=True).stdout.strip()]
    assert len(found) < 2, f"{place} is there {len(found)} times"
    return found[0] if found else ABSENT


@pytest.mark.parametrize(("brand", "form"), few([(brand, form) for brand in ALL for form in FORMS], 4))
def test_every_property_is_set_and_taken_away(cn, made, brand, form):
    uuid, rows = made[brand], rows_of(brand)
    wanted = {row.name: row.value for row in rows}
    vm = cn.api.update(uuid, wanted)
    wrong = [f"{row.name}: {found!r}" for row in rows if (found := kept(cn, uuid, row.place)) != row.kept]
    assert wrong == []
    assert {row.name: vm.get(row.name) for row in rows} == {row.name: row.shown for row in rows}
    assert cn.vm(uuid) == vm

    gone = [row for row in rows if form in row.unset and not (form == "zero or false" and row.name in ONLY_ZERO)]
    vm = cn.api.update(uuid, {row.name: row.unset[form][0] for row in gone})
    wrong = [f"{row.name}: {found!r}" for row in gone if (found := kept(cn, uuid, row.place)) != row.unset[form][1]]
    assert wrong == []
    assert [row.name for row in gone if vm.get(row.name) == row.shown and row.shown is not False] == []
    stays = [row for row in rows if row not in gone]
    assert [row.name for row in stays if kept(cn, uuid, row.place) != row.kept] == []


@pytest.mark.parametrize("name", ["tags", "customer_metadata", "internal_metadata", "routes"])
@pytest.mark.parametrize("brand", few(["joyent", "kvm"], 1))
def test_every_map_is_set_and_taken_away(cn, made, brand, name):
    uuid = made[brand]
    keys = ("10.1.0.0/16", "10.2.0.0/16") if name == "routes" else ("a.b", "c")
    values = ("10.2.122.1", "nics[0]") if name == "routes" else (0, False)

    def in_file():
        content = json.loads(cn.config(uuid, "metadata" if name.endswith("metadata") else name))
        return content[name] if name.endswith("metadata") else content

    for given, there in (
        ({f"set_{name}": dict(zip(keys, values))}, dict(zip(keys, values))),
        ({f"set_{name}": None}, dict(zip(keys, values))),
        ({f"set_{name}": {}, f"remove_{name}": []}, dict(zip(keys, values))),
        ({f"set_{name}": {keys[0]: values[0]}, f"remove_{name}": [keys[0], keys[1]]}, {keys[0]: values[0]}),
        ({f"remove_{name}": keys[0]}, {}),
    ):
        vm = cn.api.update(uuid, given)
        assert json.dumps(in_file()) == json.dumps(there) == json.dumps(vm[name])


# Of a NIC: member -> (value, as it is kept), and what is kept after it was taken away.
NIC_ROWS = [
    ("allow_dhcp_spoofing", True, "true", False, "false"),
    ("allow_ip_spoofing", "true", "true", "false", "false"),
    ("allow_mac_spoofing", 1, "true", False, "false"),
    ("allow_restricted_traffic", "1", "true", False, "false"),
    ("dhcp_server", True, "true", False, "false"),
    ("allowed_ips", ["10.2.122.99", "10.9.0.0/24"], "10.2.122.99,10.9.0.0/24", [], ABSENT),
    ("allowed_dhcp_cids", ["0x1234"], "0x1234", [], ABSENT),
    ("blocked_outgoing_ports", [25, 143], "25,143", [], ABSENT),
    ("gateways", ["10.2.122.1", "10.2.122.2"], "10.2.122.1,10.2.122.2", [], ABSENT),
    ("ips", ["10.2.122.55/24", "dhcp"], "10.2.122.55/24,dhcp", [], ABSENT),
    ("mtu", 9000, "9000", 1500, "1500"),
    ("vlan_id", "0x10", "16", 0, "0"),
    ("network_uuid", "6f2a1a7e-0000-4000-8000-0000000000aa", "6f2a1a7e-0000-4000-8000-0000000000aa", None, None),
]


@pytest.mark.parametrize("brand", ALL)
def test_every_member_of_a_nic_is_set_and_taken_away(cn, made, brand):
    uuid = made[brand]
    mac = cn.vm(uuid)["nics"][0]["mac"]
    rows = [row for row in NIC_ROWS if row[0] != "allowed_dhcp_cids" or brand != "bhyve"]  # which has no such thing

    def in_xml(member):
        zone = ElementTree.fromstring(cn.zone_xml(uuid).partition('.dtd.1">')[2])
        network = zone.find("network")
        if member == "vlan_id":
            return network.get("vlan-id")
        return next((attr.get("value") for attr in network.iter("net-attr") if attr.get("name") == member), ABSENT)

    cn.api.update(uuid, update_nics=[{"mac": mac.upper(), **{member: value for member, value, *_ in rows}}])
    assert {row[0]: in_xml(row[0]) for row in rows} == {row[0]: row[2] for row in rows}
    away = [row for row in rows if row[3] is not None]
    cn.api.update(uuid, update_nics=[{"mac": mac, **{row[0]: row[3] for row in away}}])
    assert {row[0]: in_xml(row[0]) for row in away} == {row[0]: row[4] for row in away}
    assert in_xml("network_uuid") == NIC_ROWS[-1][2]
    assert in_xml("ip") is ABSENT
