# SPDX-License-Identifier: MPL-2.0
"""The scripts that zonecfg reads on its standard input (docs/platform.md, "zonecfg").

Always: pure; one statement a line, except where the original joins them by `;`; the order is the original's, which
        tests and operators' eyes know. Values have been checked to hold nothing that ends a quoted text (asked.py).
Not here: NICs, disks and filesystems, which have blocks of their own (zonecfg_blocks.py), and running zonecfg."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Optional

from vmadm.node import zonecfg_blocks as blocks
from vmadm.payload.change import Change, named
from vmadm.payload.dockerhost import log_mode
from vmadm.payload.unset import UNSET
from vmload import Vm, brands, properties
from vmload.units import MIB

LIMITS = (
    "cpu_shares",
    "limit_priv",
    "max_lwps",
    "max_msg_ids",
    "max_sem_ids",
    "max_shm_ids",
    "max_shm_memory",
    "zfs_io_priority",
)
CAPPED_MEMORY = (("max_physical_memory", "physical"), ("max_locked_memory", "locked"), ("max_swap", "swap"))

# In the order in which they are written. All are <attr>s named like the property with `-` for `_`.
ATTRS = (
    "billing_id",
    "owner_uuid",
    "package_name",
    "package_version",
    "tmpfs",
    "hostname",
    "dns_domain",
    "do_not_inventory",
    "docker",
    "archive_on_delete",
    "firewall_enabled",
    "restart_init",
    "init_name",
    "disk_driver",
    "nic_driver",
    "maintain_resolvers",
    "kernel_version",
    "zlog_max_size",
    "resolvers",
    "internal_metadata_namespaces",
)
HVM_ATTRS = (
    "vcpus",
    "boot",
    "cpu_type",
    "vga",
    "vnc_port",
    "spice_port",
    "virtio_txtimer",
    "virtio_txburst",
    "flexible_disk_size",
    "vnc_password",
    "spice_password",
    "spice_opts",
    "qemu_opts",
    "qemu_extra_opts",
)
BHYVE_ATTRS = ("com1", "com2", "bootrom", "bhyve_extra_opts")
ZLOG = {"zlog-mode": "g--", "zlog-name": "platform.log"}  # of every bhyve zone

Settings = Mapping[str, Any]  # a change's properties by name, those that it has


def create_script(
    change: Change,
    *,
    created: str,
    transition_expire: Optional[int],
    arrives: bool = False,
    version: int = 1,
    datasets: Iterable[str] = (),
) -> str:
    """The zone of a new VM, or of one that `arrives` from another node with its `version` and delegated `datasets`.
    `created` is an ISO date; `transition_expire` (ms since the epoch) only if the VM is to boot, or arrives."""
    new = named(change.properties)
    kvm = brands.facts(change.brand)["use_vm_autoboot"]
    lines = [
        "create -b",
        f"set zonepath=/{change.zpool}/{change.zonename}",
        f"set brand={change.brand}",
        f"set uuid={change.uuid}",
        "set ip-type=exclusive",
        'add attr; set name="provisioning"; set type=string; set value=true;end',
        _add_attr("vm-version", str(version)),
        _add_attr("create-timestamp", created),
    ]
    if transition_expire is not None:
        states = ("receiving", "stopped") if arrives else ("provisioning", "running")
        lines.append(set_transition(*states, transition_expire))
    if new.get("image_uuid"):
        lines.append(_add_attr("dataset-uuid", new["image_uuid"]))
    if kvm:
        lines.append("set autoboot=false")
    lines += _limit_lines(new, {})
    if not kvm:
        lines.append(f"set autoboot={_text(new['autoboot'])}")
    lines += _capped_lines(new, {})
    lines += _attr_lines(new, {}, change)
    lines += blocks.disk_lines(change.disks.add)
    lines += _fs_allowed_lines(new, {})
    lines += blocks.filesystem_lines(change.filesystems.add)
    lines += [f'add dataset; set name="{name}"; end' for name in datasets]
    for nic in change.nics.add:
        lines += blocks.nic_lines(replace(nic, primary=UNSET))
    lines += [blocks.make_primary(nic.mac) for nic in change.nics.add if nic.primary is True]
    lines += blocks.pci_lines(change.pci_devices.add)
    return "\n".join(lines) + "\n"


def update_script(change: Change, vm: Vm) -> str:
    """What makes of the VM `vm` what `change` says; empty if the zone stays as it is."""
    new = named(change.properties)
    lines = _limit_lines(new, vm)
    if "autoboot" in new:
        lines.append(autoboot(new["autoboot"], change.brand))
    lines += _capped_lines(new, vm)
    lines += _attr_lines(new, vm, change)
    lines += blocks.changed_disk_lines(change)
    lines += _fs_allowed_lines(new, vm)
    lines += blocks.changed_filesystem_lines(change)
    lines += blocks.changed_nic_lines(change, vm)
    lines += blocks.changed_pci_lines(change)
    return "\n".join(lines) + ("\n" if lines else "")


def autoboot(on: bool, brand: str) -> str:
    """Whether the zone boots with the node: a property, or with kvm, which vmadmd boots, an <attr>."""
    if brands.facts(brand)["use_vm_autoboot"]:
        return f"select attr name=vm-autoboot; set value={_text(on)}; end"
    return f"set autoboot={_text(on)}"


def set_transition(state: str, to: str, expire: int) -> str:
    """The marker by which the VM shows `state` until it becomes `to`; `expire` in ms since the epoch."""
    return f'add attr; set name=transition; set value="{state}:{to}:{expire}"; set type=string; end'


def add_dataset(name: str) -> str:
    return f"add dataset; set name={name}; end"


def set_image(image: str, *, is_there: bool) -> str:
    """The image of the zone's root; `is_there`: the zone names one already."""
    return _select_attr("dataset-uuid", image) if is_there else _add_attr("dataset-uuid", image)


REMOVE_PROVISIONING = "remove attr name=provisioning"
REMOVE_TRANSITION = "remove attr name=transition"
UNMARK_FAILED = "remove -F attr name=failed"
MARK_FAILED = 'remove -F attr name=failed; add attr; set name=failed; set value="provisioning"; set type=string; end'
ATTR_GONE = "remove attr: No such resource with that id"  # on stderr, where there is no such mark to remove


def ncpus(cpu_cap: int) -> str:
    """`cpu_cap`, in percent of a CPU, as a decimal number of CPUs: 150 is 1.5, 7 is 0.07."""
    whole, hundredths = divmod(cpu_cap, 100)
    return f"{whole}.{hundredths:02d}".rstrip("0").rstrip(".")


def _limit_lines(new: Settings, old: Vm) -> list[str]:
    lines = []
    for name in LIMITS:
        if name not in new:
            continue
        value = new[name]
        if name == "limit_priv":
            joined = ",".join(value)
            if joined != old.get(name):
                lines.append(f'set limitpriv="{joined}"')
        elif value is None:
            lines += [f"clear {name.replace('_', '-')}"] if name in old else []
        elif value != old.get(name):
            size = value * MIB if name == "max_shm_memory" else value
            lines.append(f"set {name.replace('_', '-')}={size}")
    return lines


def _capped_lines(new: Settings, old: Vm) -> list[str]:
    lines = []
    settings = [f"set {word}={new[name]}m;" for name, word in CAPPED_MEMORY if new.get(name) is not None]
    if settings:
        verb = "select" if any(name in old for name, _ in CAPPED_MEMORY) else "add"
        lines.append(f"{verb} capped-memory; {' '.join(settings)} end")
    if "cpu_cap" in new:
        if new["cpu_cap"]:
            verb = "select" if old.get("cpu_cap") else "add"
            lines.append(f"{verb} capped-cpu; set ncpus={ncpus(new['cpu_cap'])}; end")
        elif old.get("cpu_cap"):
            lines.append("remove capped-cpu")
    return lines


def _fs_allowed_lines(new: Settings, old: Vm) -> list[str]:
    """An empty list is one that allows nothing: it is written, too."""
    if "fs_allowed" not in new:
        return []
    joined = ",".join(new["fs_allowed"])
    return [f'set fs-allowed="{joined}"'] if joined != old.get("fs_allowed") else []


def _log_lines(change: Change, old: Vm) -> list[str]:
    """How a docker VM's output is logged, where that changes."""
    mode = log_mode(change, old)
    if mode is None or mode.text == old.get("zlog_mode"):
        return []
    wanted = {"zlog-mode": mode.text, "app-svc-dependent": "true" if mode.has_service else None}
    lines = []
    for name, value in wanted.items():
        if old.get(name.replace("-", "_")):
            lines.append(f"remove -F attr name={name};")
        if value is not None:
            lines.append(_add_attr(name, value))
    return lines


def _attr_lines(new: Settings, old: Vm, change: Change) -> list[str]:
    """Attributes in their order; `old` is empty for a new zone."""
    brand, facts = change.brand, brands.facts(change.brand)
    lines = [line for name in ATTRS for line in _attr_change(name, new, old)]
    lines += _log_lines(change, old)
    lines += _attr_change("alias", new, old)
    if not old and facts["use_vm_autoboot"]:
        lines.append(_add_attr("vm-autoboot", _text(new["autoboot"])))
    if not facts["hvm"]:
        return lines
    lines += _attr_change("ram", new, old)
    if brand == "bhyve":
        lines += [line for name in BHYVE_ATTRS for line in _attr_change(name, new, old)]
        lines += [
            _select_attr(name, value) if name.replace("-", "_") in old else _add_attr(name, value)
            for name, value in ZLOG.items()
        ]
    return lines + [line for name in HVM_ATTRS for line in _attr_change(name, new, old)]


def _attr_change(name: str, new: Settings, old: Vm) -> list[str]:
    if name not in new:
        return []
    attr, text = name.replace("_", "-"), stored_text(name, new[name])
    # A VM object shows false for some attributes that are not there; 0 is there (and would equal False).
    shown = old.get(name)
    is_there = not (shown is None or shown is False or shown == []) or (name == "restart_init" and shown is False)
    if text is None:
        return [f"remove -F attr name={attr};"] if is_there else []
    return [_select_attr(attr, text) if is_there else _add_attr(attr, text)]


def stored_text(name: str, value: Any) -> Optional[str]:
    """The text of an <attr> for a property's value; None if the attribute is to be absent."""
    entry = properties.table()[name]
    facts = entry["payload"]
    if value is None or value == "" or value == () or value == facts.get("default"):
        return None
    if facts["type"] == "integer" and value == 0 and not facts["keep_zero"]:
        return None
    if isinstance(value, tuple):
        return ",".join(value)
    if entry["translator"] == "base64":
        return base64.b64encode(str(value).encode("utf-8", "surrogatepass")).decode("ascii")
    return _text(value)


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _add_attr(name: str, value: str) -> str:
    return f'add attr; set name="{name}"; set type=string; set value="{value}"; end'


def _select_attr(name: str, value: str) -> str:
    return f'select attr name={name}; set value="{value}"; end'
