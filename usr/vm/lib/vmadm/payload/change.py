# SPDX-License-Identifier: MPL-2.0
"""What a create or an update is asked to do, and what it will do: frozen values.

    Request   the payload itself, typed: what is asked, key by key, and nothing else. The look at the outcome starts
              from here (`request.items()`), so that it can see what the rest of vmadm forgot.
    Change    the request together with all that follows from it: defaults of a create, memory properties that follow
              each other, docker's properties, whole NICs with interface names, disks with paths, slots and models.
              zonecfg, zfs and files are written from here (`change.properties`, `change.nics`, ...).

    change = parse_create(payload, node, uuid)          parsing.py; raises BadPayload with all that is wrong
    change = parse_update(payload, vm, node)            `vm` as a fresh read shows it; `node`: nodefacts.py

Always: each number is an int in the unit that its type names; each text can be stored by zonecfg; a required member is
        there (its type has no Unset); UNSET is not None is not False is not 0 (unset.py); nothing here can be changed;
        a Change is good as a whole: for any other its maker raises BadPayload.
A whole element (Nic, Disk, Filesystem, PciDevice) is as the zone is to have it; members that are UNSET are not to be
written. A member that is False was asked to be false, and is written as `false`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Optional, TypeVar, Union

from vmadm.payload.unset import UNSET, Maybe, Nullable
from vmload.units import Bytes, Gib, Mib, Percent, Seconds

Scalar = Union[str, int, float, bool]
Texts = tuple[str, ...]

NOTHING: Mapping[str, Scalar] = MappingProxyType({})

E_co = TypeVar("E_co", covariant=True)


class _Value:
    """What compares and shows all of these. For each class of its own that would be compiled at each start of vmadm,
    which takes as long as the rest of the class."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in members(self))
        return f"{type(self).__name__}({said})"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Properties(_Value):
    """The properties that are neither lists of objects nor maps. None: to be removed, or to get the system's default.
    Lists are never None: an empty one is an empty tuple."""

    # Who and what. `uuid`, `zonename`, `zpool` and `image_uuid` are only in a create.
    uuid: Maybe[str] = UNSET
    zonename: Nullable[str] = UNSET
    zpool: Maybe[str] = UNSET
    image_uuid: Maybe[str] = UNSET
    alias: Nullable[str] = UNSET
    billing_id: Nullable[str] = UNSET
    owner_uuid: Nullable[str] = UNSET
    package_name: Nullable[str] = UNSET
    package_version: Nullable[str] = UNSET
    hostname: Nullable[str] = UNSET
    dns_domain: Nullable[str] = UNSET
    resolvers: Maybe[Texts] = UNSET
    maintain_resolvers: Maybe[bool] = UNSET
    do_not_inventory: Maybe[bool] = UNSET
    archive_on_delete: Maybe[bool] = UNSET
    firewall_enabled: Maybe[bool] = UNSET
    indestructible_zoneroot: Maybe[bool] = UNSET
    indestructible_delegated: Maybe[bool] = UNSET
    internal_metadata_namespaces: Maybe[Texts] = UNSET

    # How it boots.
    autoboot: Maybe[bool] = UNSET
    init_name: Nullable[str] = UNSET
    restart_init: Maybe[bool] = UNSET
    docker: Maybe[bool] = UNSET
    kernel_version: Nullable[str] = UNSET
    boot: Nullable[str] = UNSET
    bootrom: Nullable[str] = UNSET
    nowait: Maybe[bool] = UNSET  # only in a create
    mdata_exec_timeout: Nullable[Seconds] = UNSET  # only in a create

    # Limits.
    ram: Nullable[Mib] = UNSET
    max_physical_memory: Nullable[Mib] = UNSET
    max_locked_memory: Nullable[Mib] = UNSET
    max_swap: Nullable[Mib] = UNSET
    max_shm_memory: Nullable[Mib] = UNSET
    tmpfs: Nullable[Mib] = UNSET
    cpu_cap: Nullable[Percent] = UNSET
    cpu_shares: Nullable[int] = UNSET
    zfs_io_priority: Nullable[int] = UNSET
    max_lwps: Nullable[int] = UNSET
    max_msg_ids: Nullable[int] = UNSET
    max_sem_ids: Nullable[int] = UNSET
    max_shm_ids: Nullable[int] = UNSET
    fs_allowed: Maybe[Texts] = UNSET
    limit_priv: Maybe[Texts] = UNSET
    zlog_max_size: Nullable[Bytes] = UNSET

    # Datasets.
    quota: Nullable[Gib] = UNSET
    delegate_dataset: Maybe[bool] = UNSET  # only in a create
    zfs_root_compression: Nullable[str] = UNSET
    zfs_data_compression: Nullable[str] = UNSET
    zfs_root_recsize: Nullable[Bytes] = UNSET
    zfs_data_recsize: Nullable[Bytes] = UNSET
    zfs_filesystem_limit: Nullable[int] = UNSET
    zfs_snapshot_limit: Nullable[int] = UNSET
    flexible_disk_size: Nullable[Mib] = UNSET

    # Hardware VMs.
    vcpus: Nullable[int] = UNSET
    cpu_type: Nullable[str] = UNSET
    vga: Nullable[str] = UNSET
    disk_driver: Nullable[str] = UNSET
    nic_driver: Nullable[str] = UNSET
    vnc_port: Nullable[int] = UNSET  # -1: no VNC
    vnc_password: Nullable[str] = UNSET
    spice_port: Nullable[int] = UNSET  # -1: no SPICE
    spice_password: Nullable[str] = UNSET
    spice_opts: Nullable[str] = UNSET
    virtio_txtimer: Nullable[int] = UNSET  # ns
    virtio_txburst: Nullable[int] = UNSET  # packets
    qemu_opts: Nullable[str] = UNSET
    qemu_extra_opts: Nullable[str] = UNSET
    bhyve_extra_opts: Nullable[str] = UNSET
    com1: Nullable[str] = UNSET
    com2: Nullable[str] = UNSET

    def items(self) -> Iterator[tuple[str, Any]]:
        """(name, value) of what is said, in the order of this class."""
        return members(self)

    def get(self, name: str) -> Any:
        """The value of a property by its name, UNSET if it is not said. For tables of names, such as zonecfg's."""
        return getattr(self, name)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class NicMembers(_Value):
    """What can be said of a NIC besides its MAC address."""

    nic_tag: Maybe[str] = UNSET
    ip: Nullable[str] = UNSET  # "dhcp" and "addrconf", too
    netmask: Nullable[str] = UNSET
    ips: Maybe[Texts] = UNSET  # "192.0.2.9/24", "dhcp", "addrconf"
    gateway: Nullable[str] = UNSET
    gateways: Maybe[Texts] = UNSET
    allowed_ips: Maybe[Texts] = UNSET
    allowed_dhcp_cids: Maybe[Texts] = UNSET
    vlan_id: Maybe[int] = UNSET
    mtu: Maybe[Bytes] = UNSET
    vrrp_vrid: Maybe[int] = UNSET
    vrrp_primary_ip: Maybe[str] = UNSET
    model: Maybe[str] = UNSET
    network_uuid: Maybe[str] = UNSET
    blocked_outgoing_ports: Maybe[tuple[int, ...]] = UNSET
    primary: Maybe[bool] = UNSET
    dhcp_server: Maybe[bool] = UNSET
    allow_dhcp_spoofing: Maybe[bool] = UNSET
    allow_ip_spoofing: Maybe[bool] = UNSET
    allow_mac_spoofing: Maybe[bool] = UNSET
    allow_restricted_traffic: Maybe[bool] = UNSET
    allow_unfiltered_promisc: Maybe[bool] = UNSET

    def items(self) -> Iterator[tuple[str, Any]]:
        """(member, value) of what is said."""
        return members(self)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class NicChange(NicMembers):
    """A NIC as it is asked for; its `mac` is in full (00:0a:...). An `interface` counts in update_nics only."""

    mac: Maybe[str] = UNSET
    interface: Maybe[str] = UNSET


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Nic(NicMembers):
    """A whole NIC. `ip`, `netmask` and `gateway` follow from `ips` and `gateways`; `primary` is True or UNSET."""

    mac: str  # as the zone is to have it: of a VRRP NIC it follows from the VRID
    interface: str
    old_mac: Optional[str] = None  # of an updated NIC: the address under which the zone has it so far


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DiskMembers(_Value):
    """What can be said of a disk besides its path."""

    size: Maybe[Mib] = UNSET
    block_size: Maybe[Bytes] = UNSET
    boot: Maybe[bool] = UNSET
    compression: Nullable[str] = UNSET
    refreservation: Nullable[Mib] = UNSET
    model: Maybe[str] = UNSET
    media: Maybe[str] = UNSET
    image_uuid: Maybe[str] = UNSET
    image_size: Maybe[Mib] = UNSET
    image_name: Maybe[str] = UNSET
    nocreate: Maybe[bool] = UNSET
    zpool: Maybe[str] = UNSET
    pci_slot: Maybe[str] = UNSET
    uuid: Maybe[str] = UNSET
    notrim: Maybe[bool] = UNSET
    guest_block_size: Maybe[str] = UNSET
    dangerous_allow_shrink: Maybe[bool] = UNSET

    def items(self) -> Iterator[tuple[str, Any]]:
        """(member, value) of what is said."""
        return members(self)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DiskChange(DiskMembers):
    """A disk as it is asked for. A `path` is there in every update_disks."""

    path: Maybe[str] = UNSET


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Disk(DiskMembers):
    """A whole disk. Of a new one `volume` is the volume to make, None if there is none to be made (cdrom, nocreate);
    of an updated one it is the volume that it has."""

    path: str
    volume: Optional[str] = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FilesystemChange(_Value):
    """A filesystem as it is asked for; `target` is the key."""

    target: str
    source: Maybe[str] = UNSET
    type: Maybe[str] = UNSET
    raw: Nullable[str] = UNSET
    options: Maybe[Texts] = UNSET

    def items(self) -> Iterator[tuple[str, Any]]:
        """(member, value) of what is said."""
        return members(self)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Filesystem(_Value):
    """A whole filesystem."""

    target: str
    source: str
    type: str
    raw: Optional[str] = None
    options: Texts = ()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PciChange(_Value):
    """A PCI device as it is asked for; `path` is the key."""

    path: str
    pci_slot: Maybe[str] = UNSET

    def items(self) -> Iterator[tuple[str, Any]]:
        """(member, value) of what is said."""
        return members(self)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PciDevice(_Value):
    """A whole PCI device."""

    path: str
    pci_slot: Maybe[str] = UNSET


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Elements(_Value, Generic[E_co]):
    """The changes of one list of objects: new ones, changed ones, and the keys (MAC, path, target) of those that go."""

    add: tuple[E_co, ...] = ()
    update: tuple[E_co, ...] = ()
    remove: Texts = ()

    def __bool__(self) -> bool:
        return bool(self.add or self.update or self.remove)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MapChange(_Value):
    """set_X and remove_X of a map, or the map of a create (`set`). What is both set and removed is set."""

    set: Mapping[str, Scalar] = field(default_factory=lambda: NOTHING)
    remove: Texts = ()

    def __bool__(self) -> bool:
        return bool(self.set or self.remove)

    def applied(self, old: Mapping[str, Any]) -> dict[str, Any]:
        """What becomes of the map `old`."""
        kept = {key: value for key, value in old.items() if key not in self.remove}
        return {**kept, **self.set}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Maps(_Value):
    """The four maps. Which file holds which: metadata.py."""

    customer_metadata: MapChange = MapChange()
    internal_metadata: MapChange = MapChange()
    routes: MapChange = MapChange()
    tags: MapChange = MapChange()

    def items(self) -> Iterator[tuple[str, MapChange]]:
        """(name, change) of the maps that are to change."""
        return ((name, change) for name, change in members(self) if change)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Request(_Value):
    """The payload, typed. Members that brand and action do not allow are not in here."""

    properties: Properties = Properties()
    nics: Elements[NicChange] = Elements()
    disks: Elements[DiskChange] = Elements()
    filesystems: Elements[FilesystemChange] = Elements()
    pci_devices: Elements[PciChange] = Elements()
    maps: Maps = Maps()

    def items(self) -> Iterator[tuple[str, Any]]:
        """What was asked, by the keys of an update's payload: ("quota", 20), ("update_nics", NicChange), one of these
        for each element; ("remove_nics", MAC); ("set_tags", {...}), ("remove_tags", (key, ...)). A create's `nics`
        are add_nics."""
        yield from self.properties.items()
        for name in ("nics", "disks", "filesystems", "pci_devices"):
            elements: Elements[Any] = getattr(self, name)
            for verb, values in (("add", elements.add), ("update", elements.update), ("remove", elements.remove)):
                for value in values:
                    yield f"{verb}_{name}", value
        for name, change in self.maps.items():
            if change.set:
                yield f"set_{name}", change.set
            if change.remove:
                yield f"remove_{name}", change.remove


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Change(_Value):
    """A create or an update, ready to be carried out.

    `properties` holds what is to be written: of a create all of the VM's, of an update what is asked and what follows
    from it. `nics.remove` has full MAC addresses, `disks.remove` and `pci_devices.remove` paths, `filesystems.remove`
    targets; all of them are there in the VM. `nics.update` and the like are whole elements.
    `new_primary` is the MAC of the NIC that becomes primary; None: nothing changes about that."""

    brand: str
    uuid: str
    zonename: str
    zpool: str
    request: Request
    properties: Properties
    maps: Maps = Maps()
    nics: Elements[Nic] = Elements()
    disks: Elements[Disk] = Elements()
    filesystems: Elements[Filesystem] = Elements()
    pci_devices: Elements[PciDevice] = Elements()
    new_primary: Optional[str] = None
    is_new: bool = False  # of a create


def members(value: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of the fields of a dataclass that are not UNSET, in their order."""
    for each in dataclasses.fields(value):
        found = getattr(value, each.name)
        if found is not UNSET:
            yield each.name, found


def named(value: Any) -> dict[str, Any]:
    """members() as a dict."""
    return dict(members(value))
