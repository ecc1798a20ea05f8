# SPDX-License-Identifier: MPL-2.0
"""What a VM must look like after a change, and the look whether it does (docs/vmadm.md, "How a write waits").

Always: pure but for confirmed(); nothing here predicts events: only the VM object after a fresh read counts, so that a
        change without effect is confirmed at once.
A difference can mean that somebody else changed the VM in between, which nothing here can show: the message says what
was written and what is shown, and blames no one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

from vmadm.actions.session import Session
from vmadm.errors import OutcomeMissed, VmNotFound
from vmadm.payload.metadata import changed_maps
from vmadm.payload.nics import by_mac
from vmadm.payload.vmfacts import has_data
from vminfod.clients.plainjson import compact
from vmload import Vm, brands, properties

Find = Callable[[Vm], Optional[Vm]]

# Not compared: other members of the table say what they mean, or the VM object does not show them.
JOINED = ("limit_priv", "fs_allowed")  # lists in payloads, comma-joined text in VM objects
ADDRESS_MEMBERS = ("ip", "ips", "netmask", "gateway", "gateways")  # of a NIC; what it has not is to be gone
INDIRECT = frozenset(
    (
        "ram",
        "mdata_exec_timeout",
        "nowait",
        "autoboot",
        "indestructible_zoneroot",
        "indestructible_delegated",
        "zfs_data_compression",
        "zfs_data_recsize",
    )
)


@dataclass(frozen=True)
class Expected:
    """One thing to be shown: its name, what was written, and how the VM shows it."""

    name: str
    written: str
    is_shown: Callable[[Vm], bool]
    shown: Callable[[Vm], Any]


def confirmed(session: Session, uuid: str, wanted: list[Expected], name: str, what: str) -> Vm:
    """The VM after a fresh read that shows all that is wanted. Raises OutcomeMissed, VmNotFound, DaemonAway."""
    vm = session.fresh(uuid, name)
    if vm is None:
        raise VmNotFound(f"{what}, but VM {uuid} does not exist any more")
    missed = [want for want in wanted if not want.is_shown(vm)]
    if missed:
        found = vm
        told = "; ".join(f"{want.name} is {_text(want.shown(found))}, {want.written} was written" for want in missed)
        raise OutcomeMissed(f"{what}, but VM {uuid} does not show all of it: {told}")
    return vm


def of_update(change: Vm, vm: Vm) -> list[Expected]:
    """What an update (normalise.for_update()) makes of the VM `vm`."""
    wanted = [_simple(name, value) for name, value in change.items() if _is_simple(name)]
    wanted += [_exactly(name, value) for name, value in changed_maps(change, vm).items()]
    if change.get("autoboot") is not None:
        wanted.append(_exactly("autoboot", change["autoboot"]))
    if "ram" in change and brands.is_hvm(vm["brand"]):
        wanted.append(_exactly("ram", change["ram"]))
    for name in ("indestructible_zoneroot", "indestructible_delegated"):
        if name in change:
            wanted.append(_simple(name, change[name]))
    if has_data(vm):
        wanted += [
            _simple(name, change[name]) for name in ("zfs_data_compression", "zfs_data_recsize") if name in change
        ]
    wanted += _of_nics(change)
    wanted += _of_members(change, "disks", "path", ("boot", "model", "media", "size", "compression", "refreservation"))
    return wanted + _of_members(change, "filesystems", "target", ("source", "type"))


def gone_from(list_name: str, key: str, value: str) -> Expected:
    """No object of the list has this `key`."""
    return _gone(f"{list_name} {value}", _element_with(list_name, key, value))


def there_in(list_name: str, key: str, value: str) -> Expected:
    """An object of the list has this `key`."""
    return _with_members(f"{list_name} {value}", _element_with(list_name, key, value), {})


def exactly(name: str, value: Any) -> Expected:
    """The property has just this value."""
    return _exactly(name, value)


def _is_simple(name: str) -> bool:
    entry = properties.table().get(name)
    return (
        entry is not None
        and entry["in_vm_object"]
        and entry["payload"] is not None
        and name not in INDIRECT
        and entry["payload"]["type"] != "object-array"
    )


def _simple(name: str, value: Any) -> Expected:
    if name in JOINED and isinstance(value, list):
        value = ",".join(value)
    facts = properties.table()[name]["payload"]
    may_lack = value in (None, "", 0, []) or value == facts.get("default")
    if name in JOINED and not value and name == "limit_priv":
        return Expected(name, "nothing", lambda vm: True, lambda vm: vm.get(name))

    def is_shown(vm: Vm) -> bool:
        if may_lack and vm.get(name) in (None, "", [], facts.get("default"), value):
            return True
        return bool(vm.get(name) == value)

    return Expected(name, _text(value), is_shown, lambda vm: vm.get(name))


def _exactly(name: str, value: Any) -> Expected:
    return Expected(name, _text(value), lambda vm: vm.get(name) == value, lambda vm: vm.get(name))


def _of_nics(change: Vm) -> list[Expected]:
    wanted = [_gone(f"nic {mac}", _nic_with(mac)) for mac in change.get("remove_nics") or []]
    for nic in [*(change.get("add_nics") or []), *(change.get("update_nics") or [])]:
        shown = {**dict.fromkeys(ADDRESS_MEMBERS), **nic}
        shown = {
            name: None if value == [] else value for name, value in shown.items() if name not in ("mac", "primary")
        }
        wanted.append(_with_members(f"nic {nic['mac']}", _nic_with(nic["mac"]), shown))
    if change.get("new_primary"):
        wanted.append(
            _with_members(f"nic {change['new_primary']}", _nic_with(change["new_primary"]), {"primary": True})
        )
    return wanted


def _of_members(change: Vm, list_name: str, key: str, compared: tuple[str, ...]) -> list[Expected]:
    """remove_X, add_X and update_X of a list of objects that are known by their `key`."""
    wanted = [gone_from(list_name, key, value) for value in change.get(f"remove_{list_name}") or []]
    for element in [*(change.get(f"add_{list_name}") or []), *(change.get(f"update_{list_name}") or [])]:
        shown = {name: element[name] for name in compared if name in element and element[name] is not False}
        value = element[key]
        wanted.append(_with_members(f"{list_name} {value}", _element_with(list_name, key, value), shown))
    return wanted


def _gone(name: str, find: Find) -> Expected:
    return Expected(name, "its removal", lambda vm: find(vm) is None, lambda vm: "there")


def _with_members(name: str, find: Find, members: Vm) -> Expected:
    """What `find` finds is there and has these members."""

    def is_shown(vm: Vm) -> bool:
        found = find(vm)
        return found is not None and all(found.get(member) == value for member, value in members.items())

    return Expected(name, compact(members), is_shown, find)


def _nic_with(mac: str) -> Find:
    return lambda vm: by_mac(vm["nics"], mac)


def _element_with(list_name: str, key: str, value: str) -> Find:
    return lambda vm: next((element for element in vm.get(list_name) or [] if element.get(key) == value), None)


def _text(value: Any) -> str:
    return "absent" if value is None else compact(value)
