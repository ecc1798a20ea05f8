# SPDX-License-Identifier: MPL-2.0
"""What each VM object should say, from the mock node's own state (mockcn/dump.py): a second opinion on the daemon.

Always: nothing of the product is used, neither its parsers nor its tables; what is written here was derived from
        docs/vm-object.md a second time, property by property, for those that operations of a simulation can change.
A property whose value here is ABSENT must not be in the VM object. Pure."""

from __future__ import annotations

import base64
import json
import math
from datetime import datetime, timezone
from typing import Any, Optional
from xml.etree import ElementTree

ABSENT = "(absent)"
MIB, GIB = 1 << 20, 1 << 30
UNLIMITED = 2**64 - 1
HARDWARE = ("bhyve", "kvm")
TEXTS = {
    "billing_id": "billing-id",
    "dns_domain": "dns-domain",
    "hostname": "hostname",
    "image_uuid": "dataset-uuid",
    "owner_uuid": "owner-uuid",
    "package_name": "package-name",
    "package_version": "package-version",
}
NUMBERS = {"ram": "ram", "tmpfs": "tmpfs", "v": "vm-version", "vcpus": "vcpus"}
FLAGS = {
    "archive_on_delete": "archive-on-delete",
    "do_not_inventory": "do-not-inventory",
    "maintain_resolvers": "maintain-resolvers",
}
LIMITS = {
    "cpu_cap": ("zone.cpu-cap", 1),
    "cpu_shares": ("zone.cpu-shares", 1),
    "max_locked_memory": ("zone.max-locked-memory", MIB),
    "max_lwps": ("zone.max-lwps", 1),
    "max_physical_memory": ("zone.max-physical-memory", MIB),
    "max_swap": ("zone.max-swap", MIB),
}
SYSINFO = {"server_uuid": "UUID", "datacenter_name": "Datacenter Name", "platform_buildstamp": "Live Image"}
NAMED_BY = {"disks": "path", "nics": "mac", "snapshots": "name"}

Vm = dict[str, Any]


def mark(vm: Vm) -> Optional[tuple[Any, Any]]:
    """The marks of a VM object, expected or served (holding.py); None where what zfs says of it is not known."""
    if "zfs_filesystem" not in vm:
        return None
    of_xml, of_zfs = vm.get("package_version"), vm.get("zfs_snapshot_limit")
    return (None if of_xml == ABSENT else of_xml, None if of_zfs == ABSENT else of_zfs)


def expected(state: dict[str, Any]) -> tuple[dict[str, Vm], set[str]]:
    """Zone name -> the properties that its VM object must have; and the zones that nothing can be said of, as their
    files cannot be read: they keep the object that they had."""
    vms, unknown = {}, set()
    for zone in state["zones"]:
        if not is_vm(zone) or zone["xml"] is None:
            continue
        xml = _element(zone["xml"])
        if xml is None or any(_is_unreadable(text) for text in zone["files"].values()):
            unknown.add(zone["name"])
        else:
            vms[zone["name"]] = _vm(zone, xml, state)
    return vms, unknown


def differences(state: dict[str, Any], served: list[Vm]) -> list[str]:
    """What is served otherwise than it should be: "zone: what"."""
    vms, unknown = expected(state)
    has = {vm["zonename"]: vm for vm in served}
    found = [f"{name}: not served" for name in vms.keys() - has.keys()]
    found += [f"{name}: served, but is no more" for name in has.keys() - vms.keys() - unknown]
    for name in vms.keys() & has.keys():
        found += [f"{name}: {what}" for what in wrong(vms[name], has[name])]
    if len(served) != len(has):
        found.append("a zone is served twice")
    return sorted(found)


def wrong(should: Vm, vm: Vm) -> list[str]:
    """The properties of `vm` that are not as `should` has them, with both values."""
    return [
        f"{name} is {_short(_known(value, vm.get(name, ABSENT)))}, not {_short(value)}"
        for name, value in should.items()
        if not _fits(value, vm.get(name, ABSENT), NAMED_BY.get(name))
    ]


def _known(should: Any, has: Any) -> Any:
    """`has`, of lists of objects only the members that are known here: those that can be wrong."""
    if not isinstance(should, list) or not isinstance(has, list) or not should or not isinstance(should[0], dict):
        return has
    names = {name for one in should for name in one}
    return [{name: one[name] for name in one if name in names} for one in has]


def _fits(should: Any, has: Any, named_by: Optional[str] = None) -> bool:
    """Whether `has` is as it should be. Lists of objects are compared by what names their elements, and each element
    by the members that are known here: the order of such lists has tests of its own."""
    if named_by is None:
        return bool(should == has)
    if not isinstance(has, list) or len(has) != len(should):
        return False
    pairs = zip(*(sorted(elements, key=lambda element: str(element.get(named_by))) for elements in (should, has)))
    return all(one.get(name, ABSENT) == value for expected, one in pairs for name, value in expected.items())


def is_vm(zone: dict[str, Any]) -> bool:
    return len(zone["uuid"]) == 36 or [len(part) for part in zone["name"].split("-")] == [8, 4, 4, 4, 12]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 400 else text[:397] + "..."


def _is_unreadable(text: Any) -> bool:
    return isinstance(text, dict)


def _element(text: Any) -> Optional[ElementTree.Element]:
    try:
        return None if _is_unreadable(text) else ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return None


def _vm(zone: dict[str, Any], xml: ElementTree.Element, state: dict[str, Any]) -> Vm:
    vm: Vm = {
        "zonename": zone["name"],
        "uuid": zone["uuid"] if len(zone["uuid"]) == 36 else zone["name"],
        "brand": zone["brand"],
        "zonepath": zone["zonepath"],
        "zone_state": zone["state"],
        "hvm": zone["brand"] in HARDWARE,
        "zonedid": zone["debugid"],
    }
    attrs = {attr.get("name"): attr.get("value", "") for attr in xml.findall("attr")}
    vm |= _from_attrs(attrs) | _from_limits(xml) | _from_files(zone) | _from_kernel(zone)
    vm["state"] = _state(attrs, zone["state"])
    vm["nics"] = [_nic(nic) for nic in xml.findall("network")]
    vm |= {name: state["sysinfo"].get(key, ABSENT) for name, key in SYSINFO.items()}
    vm |= _from_datasets(zone, state["datasets"])
    if zone["brand"] in HARDWARE:
        vm["disks"] = [_disk(device, state["datasets"]) for device in xml.findall("device") if not _is_pci(device)]
    return vm


def _from_attrs(attrs: dict[Any, str]) -> Vm:
    found: Vm = {name: attrs.get(key, ABSENT) for name, key in TEXTS.items()}
    found |= {name: _number(attrs[key]) if key in attrs else ABSENT for name, key in NUMBERS.items()}
    found |= {name: _flag(attrs[key]) if key in attrs else ABSENT for name, key in FLAGS.items()}
    found["firewall_enabled"] = _flag(attrs.get("firewall-enabled", "false"))
    found["resolvers"] = attrs["resolvers"].split(",") if "resolvers" in attrs else []
    alias = attrs.get("alias")
    found["alias"] = ABSENT if alias is None else base64.b64decode(alias).decode("utf-8", "replace")
    found["failed"] = attrs.get("failed", ABSENT)
    transition = attrs.get("transition", "").split(":")
    found["transition_to"] = transition[1] if len(transition) == 3 else ABSENT
    return found


def _flag(text: str) -> Any:
    return {"true": True, "false": False}.get(text, text)


def _number(text: str) -> Any:
    value = float(text)
    return int(value) if value.is_integer() else value


def _from_limits(xml: ElementTree.Element) -> Vm:
    limits = {
        rctl.get("name"): value.get("limit", "") for rctl in xml.findall("rctl") for value in rctl.findall("rctl-value")
    }
    return {name: _number(limits[key]) / unit if key in limits else ABSENT for name, (key, unit) in LIMITS.items()}


def _from_files(zone: dict[str, Any]) -> Vm:
    files = zone["files"]
    if zone["state"] in ("configured", "incomplete"):
        return {}  # no files to be had yet, or on their way
    metadata = _json(files["metadata"])
    metadata = metadata if isinstance(metadata, dict) else {}
    found = {name: metadata.get(name, {}) for name in ("customer_metadata", "internal_metadata")}
    found |= {name: _json(files[name]) for name in ("tags", "routes")}
    found["exit_status"], found["exit_timestamp"] = _exit(zone)
    return found


def _json(text: Optional[str]) -> Any:
    try:
        return json.loads(text) if text is not None else {}
    except ValueError:
        return {}


def _exit(zone: dict[str, Any]) -> tuple[Any, Any]:
    words = (zone["files"]["lastexited"] or "").split()
    if len(words) != 2 or zone["state"] == "running":
        return ABSENT, ABSENT
    status = int(words[1])
    signalled = status & 0xFF
    return 0 if status == -1 else -signalled if signalled else status >> 8, _date(float(words[0]))


def _from_kernel(zone: dict[str, Any]) -> Vm:
    """Statistics are matched by the uuid: a zone that has a name of its own has none of them."""
    kernel = zone["kernel"]
    if kernel is not None and zone["name"] != zone["uuid"] and zone["uuid"]:
        return {"zoneid": kernel["zoneid"], "pid": ABSENT, "init_restarts": ABSENT, "boot_timestamp": ABSENT}
    if kernel is None:
        return {"zoneid": None, "pid": ABSENT, "init_restarts": ABSENT, "boot_timestamp": ABSENT}
    found: Vm = {"zoneid": kernel["zoneid"], "init_restarts": kernel["restarts"]}
    found["boot_timestamp"] = _date(kernel["boot_time"])
    found["pid"] = kernel["pid"] if kernel["pid"] >= 0 else 2**32 - 1
    return found


def _state(attrs: dict[Any, str], zone_state: str) -> str:
    transition = attrs.get("transition", "").split(":")
    state = transition[0] if len(transition) == 3 else "stopped" if zone_state == "installed" else zone_state
    if state == "stopped" and attrs.get("provisioning") == "true":
        state = "provisioning"
    return "failed" if attrs.get("failed") else state


def _nic(network: ElementTree.Element) -> Vm:
    attrs = {attr.get("name"): attr.get("value", "") for attr in network.findall("net-attr")}
    nic: Vm = {"interface": network.get("physical"), "mac": network.get("mac-addr")}
    nic |= {"nic_tag": network.get("global-nic", ABSENT), "ip": attrs.get("ip", ABSENT)}
    nic["ips"] = attrs["ips"].split(",") if "ips" in attrs else ABSENT
    nic["vlan_id"] = _number(network.get("vlan-id", "")) if network.get("vlan-id") else ABSENT
    return nic


def _is_pci(device: ElementTree.Element) -> bool:
    return any(attr.get("name") == "model" and attr.get("value") == "passthru" for attr in device.findall("net-attr"))


def _disk(device: ElementTree.Element, datasets: dict[str, Any]) -> Vm:
    path = device.get("match", "")
    name = path.removeprefix("/dev/zvol/rdsk/")
    volume = datasets.get(name) if path != name else None
    if volume is None or volume["kind"] != "volume":
        return {"path": path, "missing": True}
    return {
        "path": path,
        "missing": ABSENT,
        "zfs_filesystem": name,
        "size": volume["volsize"] / MIB,
        "compression": volume["compression"],
        "refreservation": math.ceil(volume["refreservation"] / MIB),
        "block_size": volume["volblocksize"],
    }


def _from_datasets(zone: dict[str, Any], datasets: dict[str, Any]) -> Vm:
    root = datasets.get(zone["zonepath"][1:])
    if root is None:
        return {"snapshots": []}
    data = datasets.get(zone["zonepath"][1:] + "/data")
    found: Vm = {
        "quota": root["refquota" if zone["brand"] == "bhyve" else "quota"] / GIB,
        "zfs_filesystem": zone["zonepath"][1:],
        "zpool": zone["zonepath"].split("/")[1],
        "zfs_root_compression": _unless(root["compression"], "off"),
        "zfs_root_recsize": root["recordsize"],
        "zfs_filesystem_limit": _unless(root["filesystem_limit"], UNLIMITED),
        "zfs_snapshot_limit": _unless(root["snapshot_limit"], UNLIMITED),
        "zfs_data_compression": _unless(data["compression"], "off") if data else ABSENT,
        "zfs_data_recsize": data["recordsize"] if data else ABSENT,
        "indestructible_zoneroot": _indestructible(root),
        "indestructible_delegated": _indestructible(data),
    }
    snapshots = [
        {
            "name": snapshot["name"].removeprefix("vmsnap-"),
            "size": snapshot["written"] / MIB,
            "created_at": _date(snapshot["creation"]),
        }
        for snapshot in root["snapshots"]
        if snapshot["name"].startswith("vmsnap-") and snapshot["name"] != "vmsnap-"
    ]
    found["snapshots"] = snapshots
    return found


def _unless(value: Any, usual: Any) -> Any:
    return ABSENT if value == usual else value


def _indestructible(dataset: Optional[dict[str, Any]]) -> Any:
    held = dataset and any(
        snapshot["name"] == "indestructible" and snapshot["holds"] for snapshot in dataset["snapshots"]
    )
    return True if held else ABSENT


def _date(seconds: float) -> str:
    when = datetime.fromtimestamp(int(seconds), timezone.utc)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{int(seconds * 1000) % 1000:03d}Z"
