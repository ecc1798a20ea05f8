# SPDX-License-Identifier: MPL-2.0
"""A good payload as the rest of vmadm works with it: typed, complete, in one spelling.

Always: pure but for generated MAC addresses; what goes in has been checked (payload.py) and is not changed;
        in a create, what is not set is absent; in an update, a property that is to go is there with the value None.
Not here: the checks, and what the script makes of the result (zonecfg.py)."""

from __future__ import annotations

from typing import Any, Optional

from jsvalues import numberrule
from vmadm.payload import Payload
from vmadm.payload import nics as nic_rules
from vmadm.payload.memoryrules import ID_LIMITS, with_memory
from vmadm.payload.propertychecks import allowed_part, is_unset, list_of
from vmadm.payload.vmfacts import has_data
from vmload import brands, properties

NOBODY = "00000000-0000-0000-0000-000000000000"
DEFAULTS = {  # of a create, of every brand
    "owner_uuid": NOBODY,
    "billing_id": NOBODY,
    "autoboot": True,
    "cpu_shares": 100,
    "zfs_io_priority": 100,
    "max_lwps": 2000,
    "ram": 256,
}
DEFAULT_BRAND = "joyent"
DEFAULT_POOL = "zones"
DEFAULT_QUOTA = {"bhyve": 1}  # GiB
OTHER_QUOTA = 10
MOST_CPU_SHARES = 65535
RECSIZE = 131072  # bytes; zfs's own default

BHYVE_DEFAULTS = {"com1": "/dev/zconsole", "com2": "socket,/tmp/vm.ttyb"}

IMAGE_ALIASES = ("dataset_uuid", "zone_dataset_uuid")  # deprecated names of image_uuid
POOL_ALIAS = "zfs_storage_pool_name"
MAPS = ("customer_metadata", "internal_metadata", "routes", "tags")
MEMORY = ("ram", "max_physical_memory", "max_locked_memory", "max_swap", "tmpfs", "max_shm_memory", *ID_LIMITS)
TRUE = (True, "true", "1", 1)


def renamed(payload: Payload, brand: str) -> Payload:
    """`payload` with the properties' present names; to be done before it is checked."""
    plain = dict(payload)
    for name in IMAGE_ALIASES:
        facts = properties.table()[name]["payload"]
        if name in plain and "create" in facts["allowed"].get(brand, ()):
            plain.setdefault("image_uuid", plain.pop(name))
    if POOL_ALIAS in plain:
        plain.setdefault("zpool", plain.pop(POOL_ALIAS))
    return plain


def for_create(payload: Payload, brand: str, uuid: str) -> Payload:
    """Everything that a new VM of `brand` is made from. `payload` is good and renamed."""
    facts = brands.facts(brand)
    given = {name: value for name, value in typed(allowed_part(payload, brand, "create")).items() if value is not None}
    defaults: Payload = {
        **DEFAULTS,
        "limit_priv": list(facts["default_limit_priv"]),
        "quota": DEFAULT_QUOTA.get(brand, OTHER_QUOTA),
        "zpool": DEFAULT_POOL,
        "zonename": uuid,
        **dict.fromkeys(MAPS, {}),
    }
    if facts["hvm"]:
        defaults["vcpus"] = 1
    else:
        defaults["dns_domain"] = "local"
    if brand == "bhyve":
        defaults.update(BHYVE_DEFAULTS)
    if "max_physical_memory" in given and not facts["hvm"]:
        del defaults["ram"]  # an OS VM's ram is only another word for it
    vm = {**defaults, **given, "brand": brand, "uuid": uuid}
    vm.update(with_memory({name: vm[name] for name in MEMORY if name in vm}, {}, brand))
    vm["cpu_shares"] = min(vm["cpu_shares"], MOST_CPU_SHARES)
    if not vm["limit_priv"]:
        vm["limit_priv"] = list(facts["default_limit_priv"])
    _follow_docker(vm, brand)
    _follow_root_properties(vm, {"zfs_data_compression": "off", "zfs_data_recsize": RECSIZE})
    vm["nics"] = with_interfaces([nic_rules.completed(nic) for nic in vm.get("nics", [])], [], brand)
    if vm["nics"] and not any(nic.get("primary") for nic in vm["nics"]):
        vm["nics"][0]["primary"] = True
    for name in ("disks", "filesystems", "pci_devices"):
        vm[name] = [typed_members(name, element) for element in vm.get(name, [])]
    return vm


def for_update(payload: Payload, vm: Payload) -> Payload:
    """What is to become of the VM `vm`: property -> value, None to remove it. NIC changes are whole NICs."""
    brand = vm["brand"]
    given = typed(allowed_part(payload, brand, "update"))
    memory = {name: given[name] for name in MEMORY if given.get(name) is not None}
    for name in ("max_physical_memory", "max_locked_memory", "max_swap", "ram"):
        given.pop(name, None)  # unset: nothing a VM could be without
    change = {**given, **with_memory(memory, vm, brand)} if memory else given
    if "quota" in change and change["quota"] is None:
        change["quota"] = 0
    if change.get("docker"):
        _follow_docker(change, brand, vm)
    if has_data(vm):
        present = {
            "zfs_data_compression": vm.get("zfs_data_compression", "off"),
            "zfs_data_recsize": vm.get("zfs_data_recsize", RECSIZE),
        }
        _follow_root_properties(change, present)
    for name in ("zfs_root_recsize", "zfs_data_recsize"):
        if name in change and not change[name]:
            change[name] = RECSIZE
    _complete_nics(change, vm, brand)
    for prefix in ("add_", "update_"):
        for name in ("disks", "filesystems", "pci_devices"):
            if prefix + name in change:
                change[prefix + name] = [typed_members(name, element) for element in change[prefix + name] or []]
    return change


def typed(payload: Payload) -> Payload:
    """Values of their types: int, bool, list, text; None for what is unset."""
    result: Payload = {}
    for name, value in payload.items():
        facts = properties.table()[name]["payload"]
        result[name] = _typed_value(facts["type"], value)
    return result


def typed_members(list_name: str, element: Payload) -> Payload:
    """An object of a list property likewise, without what is unset."""
    result: Payload = {}
    for name, value in element.items():
        facts = (properties.table().get(f"{list_name}.*.{name}") or {}).get("payload")
        value = _typed_value(facts["type"], value) if facts else value
        if value is not None:
            result[name] = value
    return result


def with_interfaces(new: list[Payload], kept: list[Payload], brand: str) -> list[Payload]:
    """`new` NICs, each with the next free interface name."""
    used = [str(nic.get("interface")) for nic in kept]
    named = []
    for nic in new:
        interface = nic_rules.next_interface(used, brand)
        used.append(interface)
        named.append({"interface": interface, **nic})
    return named


def _typed_value(kind: str, value: Any) -> Any:
    if is_unset(value):
        return [] if kind == "list" else None
    if kind == "integer":
        return numberrule.number(value) if isinstance(value, str) else int(value)
    if kind == "boolean":
        return value in TRUE
    if kind == "list":
        return list_of(value) if isinstance(value, str) else [str(element) for element in value]
    return value


def _follow_docker(vm: Payload, brand: str, old: Optional[Payload] = None) -> None:
    """What `docker: true` brings along."""
    if not vm.get("docker"):
        return
    namespaces = vm.get("internal_metadata_namespaces")
    if namespaces is None:
        namespaces = list((old or {}).get("internal_metadata_namespaces", []))
    if "docker" not in namespaces:
        vm["internal_metadata_namespaces"] = [*namespaces, "docker"]
    vm.setdefault("restart_init", False)
    if not (vm.get("init_name") or (old or {}).get("init_name")):
        vm["init_name"] = brands.facts(brand)["docker_init_name"]
    uuid = (old or vm)["uuid"]
    where = "set_internal_metadata" if old is not None else "internal_metadata"
    known = {**(old or {}).get("internal_metadata", {}), **(vm.get(where) or {})}
    if "docker:id" not in known:
        vm[where] = {**(vm.get(where) or {}), "docker:id": (uuid + uuid).replace("-", "")}


def _follow_root_properties(vm: Payload, present: Payload) -> None:
    """The delegated dataset would inherit what its parent gets: it keeps its own value unless told otherwise."""
    for root, data in (("zfs_root_compression", "zfs_data_compression"), ("zfs_root_recsize", "zfs_data_recsize")):
        if root in vm and data not in vm:
            vm[data] = present[data]


def _complete_nics(change: Payload, vm: Payload, brand: str) -> None:
    """add_nics and update_nics as whole NICs, `remove_nics` as full MAC addresses, and who becomes primary."""
    present = [{**nic, "mac": nic_rules.full_mac(str(nic.get("mac")))} for nic in vm.get("nics", [])]
    gone = {nic_rules.full_mac(str(mac)) for mac in change.get("remove_nics") or []}
    kept = [nic for nic in present if nic["mac"] not in gone]
    updated = []
    for nic in change.get("update_nics") or []:
        old = nic_rules.by_mac(present, nic["mac"])
        assert old is not None, "checked before"
        updated.append(nic_rules.overlaid(old, nic))
    added = with_interfaces([nic_rules.completed(nic) for nic in change.get("add_nics") or []], kept, brand)
    macs_updated = {nic["mac"] for nic in updated}
    for name, value in (("add_nics", added), ("update_nics", updated), ("remove_nics", sorted(gone))):
        if name in change:
            change[name] = value
    named = [nic["mac"] for nic in added if nic.get("primary")]
    named += [
        nic["mac"]
        for nic in change.get("update_nics") or []
        if nic.get("primary") and not (nic_rules.by_mac(present, nic["mac"]) or {}).get("primary")
    ]
    if named:
        change["new_primary"] = named[-1]
    elif any(nic.get("primary") for nic in present if nic["mac"] in gone):
        remaining = [*[nic for nic in kept if nic["mac"] not in macs_updated], *updated, *added]
        change["new_primary"] = nic_rules.primary_after_removal(remaining)
    if change.get("new_primary"):
        for nic in (*added, *updated):
            nic.pop("primary", None)
