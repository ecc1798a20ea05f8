# SPDX-License-Identifier: MPL-2.0
"""What a VM must look like after a change, and the look whether it does (docs/vmadm.md, "How a write waits").

Always: pure but for confirmed(); nothing here predicts events: only the VM object after a fresh read counts, so that a
        change without effect is confirmed at once.
A difference can mean that somebody else changed the VM in between, which nothing here can show: the message says what
was written and what is shown, and blames no one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Optional

from vmadm.actions.session import Session
from vmadm.errors import OutcomeMissed, VmNotFound
from vmadm.payload import addresses, memoryrules, metadata
from vmadm.payload.change import Change, NicChange, members
from vmadm.payload.macs import full_mac
from vmadm.payload.unset import UNSET
from vmadm.payload.vmfacts import has_data
from vminfod.clients.plainjson import compact
from vmload import Vm, brands, properties

Find = Callable[[Vm], Optional[Vm]]

OF_DATA = ("indestructible_delegated", "zfs_data_compression", "zfs_data_recsize")  # of a delegated dataset
JOINED = ("limit_priv", "fs_allowed")  # lists in payloads, comma-joined text in VM objects
ADDRESS_MEMBERS = ("ip", "netmask", "gateway")  # of a NIC; what they say is shown in `ips` and `gateways`, too

# What a rule may make of a value that was asked: memory and shares have limits, no quota is 0, no record size is zfs's
# own, the flexible space of disks has room for cloud-init's.
SETTLED = frozenset(
    (*memoryrules.MEMORY, "cpu_shares", "quota", "flexible_disk_size", "zfs_root_recsize", "zfs_data_recsize")
)

DOCKERS = ("restart_init", "internal_metadata_namespaces")  # docker puts in what it needs

# What a VM object shows of disks, of what can be said of them.
DISK_MEMBERS = ("boot", "model", "media", "image_uuid", "image_size", "pci_slot", "uuid", "notrim", "guest_block_size")
VOLUME_MEMBERS = ("size", "compression", "refreservation")


@dataclass(frozen=True)
class Expected:
    """One thing to be shown: its name, what was written, and how the VM shows it."""

    name: str
    written: str
    is_shown: Callable[[Vm], bool]
    shown: Callable[[Vm], Any]


def confirmed(session: Session, uuid: str, wanted: list[Expected], name: str, what: str) -> Vm:
    """The VM after a fresh read that shows all that is wanted. Raises OutcomeMissed, VmNotFound, DaemonAway."""
    return judged(session.fresh(uuid, name), uuid, wanted, what)


def judged(vm: Optional[Vm], uuid: str, wanted: list[Expected], what: str) -> Vm:
    """Likewise of a VM that was read anew after the change, None if there was none."""
    if vm is None:
        raise VmNotFound(f"{what}, but VM {uuid} does not exist any more")
    missed = [want for want in wanted if not want.is_shown(vm)]
    if missed:
        found = vm
        differing = "; ".join(
            f"{want.name} is {_text(want.shown(found))}, {want.written} was written" for want in missed
        )
        raise OutcomeMissed(f"{what}, but VM {uuid} does not show all of it: {differing}")
    return vm


def of_update(change: Change, vm: Vm) -> list[Expected]:
    """What the VM `vm` is to show after an update: what the payload's own keys asked, removals included."""
    expected = list(_of_properties(change, has_data(vm)))
    for name, asked in change.maps.items():
        expected.append(exactly(name, asked.applied(vm.get(name) or {})))
    return [*expected, *_of_lists(change)]


def of_create(change: Change) -> list[Expected]:
    """What a new VM is to show: what the payload's own keys asked. Maps are shown whole, also empty ones."""
    expected = list(_of_properties(change, change.properties.delegate_dataset is True))
    for name in metadata.MAPS:
        expected.append(exactly(name, dict(getattr(change.maps, name).set)))
    return [*expected, *_of_lists(change)]


def gone_from(list_name: str, key: str, value: str) -> Expected:
    """No object of the list has this `key`."""
    return _gone(f"{list_name} {value}", _element_with(list_name, key, value))


def _gone_all(list_name: str, key: str, removed: Iterable[str], added: Collection[str]) -> Iterator[Expected]:
    """What is removed and added again, in one payload, is there."""
    return (gone_from(list_name, key, value) for value in removed if value not in added)


def there_in(list_name: str, key: str, value: str) -> Expected:
    """An object of the list has this `key`."""
    return _has(list_name, key, value, {})


def exactly(name: str, value: Any) -> Expected:
    """The property has just this value."""
    return Expected(name, _text(value), lambda vm: _is(vm.get(name), value), lambda vm: vm.get(name))


def _of_lists(change: Change) -> list[Expected]:
    expected = [*_of_nics(change), *_of_disks(change)]
    there = {each.target for each in (*change.filesystems.add, *change.filesystems.update)}
    expected += _gone_all("filesystems", "target", change.request.filesystems.remove, there)
    for filesystem in (*change.request.filesystems.add, *change.request.filesystems.update):
        if filesystem.target in there:
            shown = dict(filesystem.items())
            if not str(filesystem.source).startswith("/"):
                shown = {name: value for name, value in shown.items() if name in ("target", "options")}  # a volume
            expected.append(_has("filesystems", "target", filesystem.target, shown))
    added = {device.path for device in change.pci_devices.add}
    expected += _gone_all("pci_devices", "path", change.request.pci_devices.remove, added)
    for device in (*change.pci_devices.add, *change.pci_devices.update):
        expected.append(_has("pci_devices", "path", device.path, dict(members(device))))
    return expected


def _of_properties(change: Change, has_dataset: bool) -> Iterator[Expected]:
    for name, asked in change.request.properties.items():
        if not properties.table()[name]["in_vm_object"] or (name in OF_DATA and not has_dataset):
            continue
        if name == "ram" and not brands.is_hvm(change.brand):
            continue
        settled = change.properties.get(name)
        if settled is not UNSET:  # what makes no sense for this VM has been dropped, such as SPICE without an image
            is_settled = name in SETTLED or (name in DOCKERS and change.properties.docker is True)
            yield _property(name, settled if is_settled else asked)


def _property(name: str, asked: Any) -> Expected:
    facts = properties.table()[name]["payload"]
    value = ",".join(asked) if name in JOINED else list(asked) if isinstance(asked, tuple) else asked
    fitting = [value]
    if value in (None, "", []) or _is(value, facts.get("default")):
        fitting += [None, "", [], facts.get("default")]
    elif value is False or (_is(value, 0) and not facts["keep_zero"]):
        fitting.append(None)

    def is_shown(vm: Vm) -> bool:
        return any(_is(vm.get(name), each) for each in fitting)

    return Expected(name, _text(value), is_shown, lambda vm: vm.get(name))


def _of_nics(change: Change) -> Iterator[Expected]:
    for mac in change.request.nics.remove:
        yield _gone(f"nic {mac}", _nic_with(mac))
    whole = {nic.old_mac or nic.mac: nic for nic in change.nics.update}
    updated = [(asked, whole[str(asked.mac)]) for asked in change.request.nics.update if asked.mac in whole]
    for asked, nic in (*zip(change.request.nics.add, change.nics.add), *updated):
        said = dict(asked.items())
        for name in ("mac", "primary", *(["interface"] if nic.old_mac is None else [])):
            said.pop(name, None)
        yield _with_members(f"nic {nic.mac}", _nic_with(nic.mac), _addresses_of(asked, said))
    if change.new_primary is not None:
        yield _with_members(f"nic {change.new_primary}", _nic_with(change.new_primary), {"primary": True})


def _addresses_of(asked: NicChange, said: dict[str, Any]) -> dict[str, Any]:
    """What a NIC is to show: the short forms count only where the long ones are not said."""
    shown = {name: value for name, value in said.items() if name not in ADDRESS_MEMBERS}
    if asked.ips is UNSET:
        if asked.ip in addresses.AUTOMATIC:
            shown["ips"] = (asked.ip,)
        elif asked.ip is None:
            shown["ips"] = ()
        elif asked.ip is not UNSET:
            shown["ip"] = asked.ip
        if isinstance(asked.netmask, str) and asked.ip not in (*addresses.AUTOMATIC, None):
            shown["netmask"] = asked.netmask
    if asked.gateways is UNSET and isinstance(asked.gateway, str):
        shown["gateways"] = (asked.gateway,)
    return shown


def _of_disks(change: Change) -> Iterator[Expected]:
    yield from _gone_all("disks", "path", change.request.disks.remove, {disk.path for disk in change.disks.add})
    settles_all = change.is_new or bool(
        {"quota", "flexible_disk_size"} & dict(change.request.properties.items()).keys()
    )
    whole = {disk.path: disk for disk in change.disks.update}
    updated = [(asked, whole[str(asked.path)]) for asked in change.request.disks.update if asked.path in whole]
    for asked, disk in (*zip(change.request.disks.add, change.disks.add), *updated):
        looked_at = (*DISK_MEMBERS, *(VOLUME_MEMBERS if disk.volume is not None else ()))
        said = {name: value for name, value in asked.items() if name in looked_at}
        if settles_all and change.brand == "bhyve":
            said.pop("refreservation", None)  # a change of the quota sets all of them anew
        if asked.image_uuid is UNSET and asked.path is UNSET:
            said.pop("image_size", None)
        yield _has("disks", "path", disk.path, said)


def _gone(name: str, find: Find) -> Expected:
    return Expected(name, "its removal", lambda vm: find(vm) is None, lambda vm: "there")


def _has(list_name: str, key: str, value: str, said: dict[str, Any]) -> Expected:
    return _with_members(f"{list_name} {value}", _element_with(list_name, key, value), said)


def _with_members(name: str, find: Find, said: dict[str, Any]) -> Expected:
    """What `find` finds is there and has these members; one that is false, or an empty list, may be left out."""
    wanted = {member: list(value) if isinstance(value, tuple) else value for member, value in said.items()}

    def is_shown(vm: Vm) -> bool:
        found = find(vm)
        if found is None:
            return False
        return all(
            _is(found.get(member), value) or _is_left_out(found, member, value) for member, value in wanted.items()
        )

    return Expected(name, compact(wanted), is_shown, find)


def _is_left_out(found: Vm, member: str, value: Any) -> bool:
    return member not in found and value in (False, None, [], "") and not _is(value, 0)


def _nic_with(mac: str) -> Find:
    return lambda vm: next((nic for nic in vm.get("nics") or [] if full_mac(str(nic.get("mac"))) == mac), None)


def _element_with(list_name: str, key: str, value: str) -> Find:
    return lambda vm: next((element for element in vm.get(list_name) or [] if element.get(key) == value), None)


def _is(one: Any, other: Any) -> bool:
    """Equal, and of the same type, also within a map: 0 is not false, 1 not true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is(one[key], other[key]) for key in one)
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _text(value: Any) -> str:
    return "absent" if value is None else compact(value)
