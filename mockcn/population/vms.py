# SPDX-License-Identifier: MPL-2.0
"""What a VM consists of on a node: its zone XML, datasets, config files and state, made from one description.

`Vm` is the description, `settle()` puts it on the node. Used by the population, the importer's kin and by tests through
control.add_vm(). Not here: which VMs a node has (filling.py), what happens to them later."""

import base64
import json
import os
import time
from dataclasses import dataclass, field
from typing import Any, Optional
from xml.etree.ElementTree import Element, SubElement

from mockcn.node import Node
from mockcn.state import zonexml
from mockcn.state.datasets import Dataset
from mockcn.state.properties import Value
from mockcn.state.zones import Zone

MIB = 1 << 20
GIB = 1 << 30
HARDWARE = ("kvm", "bhyve")
HARDWARE_PRIVILEGES = "default,-file_link_any,-net_access,-proc_fork,-proc_info,-proc_session"
NO_OWNER = "00000000-0000-0000-0000-000000000000"


@dataclass
class Vm:
    """One VM. Sizes: ram in MiB, quota in GiB, disks as the net-attrs of their device, and `match` for one
    that is no volume of the VM."""

    uuid: str
    brand: str = "joyent-minimal"
    zonename: str = ""  # empty: the uuid
    index_uuid: Optional[str] = None  # the uuid in the index; None: the VM's
    alias: str = ""
    state: str = "running"  # running, stopped, configured or incomplete
    pool: str = "zones"
    ram: int = 256
    quota: int = 10
    vcpus: int = 1
    cpu_shares: int = 100
    cpu_cap: Optional[int] = None
    created: int = 1767225600  # seconds since the epoch
    autoboot: bool = True
    owner: str = NO_OWNER
    billing: str = NO_OWNER
    package: str = ""
    image: str = ""
    hostname: str = ""
    resolvers: list[str] = field(default_factory=list)
    nics: list[dict[str, str]] = field(default_factory=list)  # see nic_element()
    disks: list[dict[str, str]] = field(default_factory=list)
    pci_devices: list[dict[str, str]] = field(default_factory=list)  # match and net-attrs
    filesystems: list[dict[str, Any]] = field(default_factory=list)  # attributes, and `options`
    delegated: bool = False
    data_children: list[str] = field(default_factory=list)  # below the delegated dataset, with a snapshot each
    attrs: dict[str, str] = field(default_factory=dict)  # further <attr>s, as they stand in the XML
    root_props: dict[str, Value] = field(default_factory=dict)  # zfs properties of the root dataset
    data_props: dict[str, Value] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)  # metadata, tags, routes -> content; absent: no file
    snapshots: list[str] = field(default_factory=list)  # of the root dataset, a day apart
    indestructible: str = ""  # "root", "data" or "root,data"
    last_exit: Optional[int] = None  # wait status in lastexited
    receiving: Optional[dict[str, Any]] = None  # content of UUID-receiving.json
    datasets_exist: bool = True  # false: the zone has no root dataset (yet)

    @property
    def name(self) -> str:
        return self.zonename or self.uuid

    @property
    def root_dataset(self) -> str:
        return f"{self.pool}/{self.name}"

    @property
    def zonepath(self) -> str:
        return "/" + self.root_dataset

    def disk_dataset(self, number: int) -> str:
        """bhyve keeps disks below the root dataset, kvm beside it."""
        between = "-" if self.brand == "kvm" else "/"
        return f"{self.root_dataset}{between}disk{number}"

    def disk_path(self, number: int) -> str:
        """The device of a disk: its own `match`, such as the path of a CD image, else that of its volume."""
        return self.disks[number].get("match") or f"/dev/zvol/rdsk/{self.disk_dataset(number)}"


def settle(node: Node, vm: Vm) -> Zone:
    """Put the VM on the node, in the order that creating one has. Callers hold no lock."""
    with node.lock:
        debugid = node.zones.new_debugid()
        zone = Zone(
            vm.name,
            vm.uuid if vm.index_uuid is None else vm.index_uuid,
            vm.zonepath,
            "configured",
            vm.brand,
            shared_ip=False,
            debugid=debugid,
        )
        xml = zonexml.text(zone_element(vm, debugid)).encode()
        node.zones.add(zone, xml)
        if vm.receiving is not None:
            with open(node.real(f"/etc/zones/{vm.uuid}-receiving.json"), "w", encoding="utf-8") as file:
                json.dump(vm.receiving, file)
        if vm.state == "configured":
            _date_files(node, vm)
            return zone
        if vm.datasets_exist:
            _make_datasets(node, vm)
        else:
            node.make_folder(vm.zonepath)
        node.make_folder(vm.zonepath + "/config")
        node.make_folder(vm.zonepath + "/root/var/svc")
        _write_files(node, vm)
        if vm.last_exit is not None:
            node.zones.write_lastexited(zone, vm.last_exit, vm.created + 86400.052104)
        _date_files(node, vm)
        if vm.datasets_exist:
            _make_snapshots(node, vm)
        node.zones.set_state(zone, "incomplete" if vm.state == "incomplete" else "installed")
    if vm.state == "running":
        node.walk(node.zones.boot_steps(zone, vm.created + 3600 if node.zones.silent else None))
    return zone


def unsettle(node: Node, zone: Zone) -> None:
    """Take a zone away with its datasets: halt, destroy, delete, as `vmadm delete` does."""
    with node.lock:
        steps = node.zones.halt_steps(zone) if zone.kernel else []
    node.walk(steps)
    with node.lock:
        root = zone.zonepath.lstrip("/")
        beside = []
        parent, _, label = root.rpartition("/")
        if node.pools.exists(parent):
            beside = [
                child.name
                for child in node.pools.dataset(parent).children.values()
                if child.label.startswith(f"{label}-disk")
            ]
        for name in [root, *beside, f"{root.split('/')[0]}/cores/{label}"]:
            if node.pools.exists(name):
                dataset = node.pools.dataset(name)
                for below in dataset.descendants():
                    for snapshot in below.snapshots.values():
                        for tag in list(snapshot.holds):
                            node.pools.release([snapshot], tag)
                node.pools.destroy(dataset, recursive=True, with_clones=True)
        if zone.state != "configured":
            node.zones.set_state(zone, "configured")
        node.mounts.remove(zone.zonepath)
        node.zones.remove(zone)


# -- the XML -----------------------------------------------------------------------------------------------------------


def zone_element(vm: Vm, debugid: int) -> Element:
    zone = Element(
        "zone",
        {
            "name": vm.name,
            "zonepath": vm.zonepath,
            "autoboot": "true" if vm.autoboot and vm.brand != "kvm" else "false",
            "brand": vm.brand,
            "ip-type": "exclusive",
            "limitpriv": HARDWARE_PRIVILEGES if vm.brand in HARDWARE else "default",
            "debugid": str(debugid),
        },
    )
    created = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(vm.created))
    zonexml.set_attr(zone, "vm-version", "1")
    zonexml.set_attr(zone, "create-timestamp", f"{created}.{vm.created % 997:03d}Z")
    if vm.image and vm.brand != "bhyve":
        zonexml.set_attr(zone, "dataset-uuid", vm.image)
    _limits(zone, vm)
    zonexml.set_attr(zone, "billing-id", vm.billing)
    zonexml.set_attr(zone, "owner-uuid", vm.owner)
    for name, value in _plain_attrs(vm).items():
        zonexml.set_attr(zone, name, value)
    for number, disk in enumerate(vm.disks):
        zone.append(_device(vm.disk_path(number), disk))
    for device in vm.pci_devices:
        zone.append(_device(device["match"], device))
    for nic in vm.nics:
        zone.append(nic_element(nic))
    if vm.delegated:
        SubElement(zone, "dataset", {"name": f"{vm.root_dataset}/data"})
    for filesystem in vm.filesystems:
        element = SubElement(
            zone,
            "filesystem",
            {key: filesystem[key] for key in ("special", "raw", "directory", "type") if key in filesystem},
        )
        for option in filesystem.get("options", ()):
            SubElement(element, "fsoption", {"name": option})
    for name, value in vm.attrs.items():
        zonexml.set_attr(zone, name, value)
    return zone


def _limits(zone: Element, vm: Vm) -> None:
    memory = vm.ram + (1024 if vm.brand == "kvm" else 1280 if vm.brand == "bhyve" else 0)
    limits = {
        "zone.cpu-shares": vm.cpu_shares,
        "zone.max-lwps": 2000,
        "zone.max-msg-ids": 4096,
        "zone.max-sem-ids": 4096,
        "zone.max-shm-ids": 4096,
        "zone.max-shm-memory": memory * MIB,
        "zone.zfs-io-priority": 100,
        "zone.max-physical-memory": memory * MIB,
        "zone.max-locked-memory": memory * MIB,
        "zone.max-swap": max(256, memory) * MIB,
    }
    for name, limit in limits.items():
        zonexml.set_rctl(zone, name, limit)
    if vm.cpu_cap is not None:
        zonexml.set_rctl(zone, "zone.cpu-cap", vm.cpu_cap)


def _plain_attrs(vm: Vm) -> dict[str, str]:
    attrs: dict[str, str] = {}
    if vm.brand in HARDWARE:
        attrs["ram"] = str(vm.ram)
        attrs["vcpus"] = str(vm.vcpus)
    else:
        attrs["tmpfs"] = str(vm.ram)
    if vm.brand == "bhyve":
        attrs.update(
            {"com1": "/dev/zconsole", "com2": "socket,/tmp/vm.ttyb", "zlog-mode": "g--", "zlog-name": "platform.log"}
        )
    if vm.brand == "kvm":
        attrs["vm-autoboot"] = "true" if vm.autoboot else "false"
    if vm.hostname:
        attrs["hostname"] = vm.hostname
        attrs["dns-domain"] = "local"
    if vm.resolvers:
        attrs["resolvers"] = ",".join(vm.resolvers)
    if vm.alias:
        attrs["alias"] = base64.b64encode(vm.alias.encode()).decode()
    if vm.package:
        attrs["package-name"] = vm.package
        attrs["package-version"] = "1.0.0"
    return attrs


def _device(match: str, values: dict[str, str]) -> Element:
    device = Element("device", {"match": match})
    zonexml.add_net_attrs(device, {key: value for key, value in values.items() if key != "match"})
    return device


def nic_element(nic: dict[str, str]) -> Element:
    """A network element: `interface`, `mac`, `vlan_id`, `nic_tag` and `allowed_address` are attributes of it, the rest
    net-attrs by their own names."""
    attributes = {
        "allowed_address": "allowed-address",
        "interface": "physical",
        "mac": "mac-addr",
        "vlan_id": "vlan-id",
        "nic_tag": "global-nic",
    }
    network = Element("network", {attributes[key]: nic[key] for key in attributes if key in nic})
    zonexml.add_net_attrs(network, {key: value for key, value in nic.items() if key not in attributes})
    return network


# -- datasets and files ------------------------------------------------------------------------------------------------


def _make_datasets(node: Node, vm: Vm) -> None:
    pools = node.pools
    root_props: dict[str, Value] = {("refquota" if vm.brand == "bhyve" else "quota"): vm.quota * GIB, **vm.root_props}
    image = f"{vm.pool}/{vm.image}@final"
    if vm.image and vm.brand not in HARDWARE and pools.exists(image):
        root = pools.clone(pools.snapshot_named(image), vm.root_dataset, root_props, files={})
        root.creation = vm.created
    else:
        root = pools.create(vm.root_dataset, root_props, creation=vm.created)
    root.space_written(90 * MIB + vm.created % (64 * MIB))
    if not pools.exists(f"{vm.pool}/cores"):
        pools.create(f"{vm.pool}/cores", {"mountpoint": f"/{vm.pool}/global/cores"}, creation=vm.created)
    pools.create(
        f"{vm.pool}/cores/{vm.name}", {"quota": 100 * GIB, "mountpoint": f"{vm.zonepath}/cores"}, creation=vm.created
    )
    for number, disk in enumerate(vm.disks):
        if "match" in disk:
            continue
        size = int(disk.get("size", disk.get("image-size", "1024"))) * MIB
        volume = pools.create(vm.disk_dataset(number), {"volblocksize": 8192}, volsize=size, creation=vm.created + 1)
        volume.space_written(min(size, 22 * MIB) // 8192 * 8192 // (number + 1))
    if vm.delegated:
        data = pools.create(f"{vm.root_dataset}/data", {"zoned": "on", **vm.data_props}, creation=vm.created + 2)
        data.space_written(5 * MIB)
        for child in vm.data_children:
            below = pools.create(f"{data.name}/{child}", {"mountpoint": f"/{child}"}, creation=vm.created + 7200)
            below.space_written(MIB)
            pools.take(below, "daily-0", vm.created + 90000, files={})


def _make_snapshots(node: Node, vm: Vm) -> None:
    pools = node.pools
    root = pools.dataset(vm.root_dataset)
    files = node.pools.captured(root)
    for number, name in enumerate(vm.snapshots):
        root.space_written(MIB + 7919 * number)
        pools.take(root, name, vm.created + 86400 * (number + 1), files=files)
    for where in filter(None, vm.indestructible.split(",")):
        dataset: Dataset = root if where == "root" else pools.dataset(f"{root.name}/data")
        held = files if where == "root" else {}
        pools.hold([pools.take(dataset, "indestructible", vm.created + 60, files=held)], "do_not_destroy")


def _write_files(node: Node, vm: Vm) -> None:
    for name, content in vm.files.items():
        with open(node.real(f"{vm.zonepath}/config/{name}.json"), "w", encoding="utf-8") as file:
            file.write(content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False))


def _date_files(node: Node, vm: Vm) -> None:
    """While the node is being populated, files are as old as the VM, so that the same seed gives the same dates."""
    if not node.zones.silent:
        return
    when = vm.created + 90_000
    for path in (
        f"/etc/zones/{vm.name}.xml",
        f"{vm.zonepath}/lastexited",
        *(f"{vm.zonepath}/config/{name}.json" for name in vm.files),
    ):
        if os.path.exists(node.real(path)):
            os.utime(node.real(path), (when, when))
