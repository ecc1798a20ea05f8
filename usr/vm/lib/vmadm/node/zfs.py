# SPDX-License-Identifier: MPL-2.0
"""What an update or a create sets on a VM's datasets (docs/platform.md, "zfs that changes").

Always: a value that the VM has already is not set again; `vm` is the VM as a fresh read showed it just before, so that
        a change behind vmadm's back is seen, and set over."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from vmadm.errors import ToolFailed
from vmadm.node.machine import Node, failure
from vmadm.payload.vmfacts import has_data
from vmload import Vm
from vmload.units import GIB, MIB

Settings = Mapping[str, Any]  # a change's properties by name, those that it has
HOLD = "do_not_destroy"  # the tag of the hold that makes a snapshot, and with it the dataset, indestructible
INDESTRUCTIBLE = "indestructible"

# zfs's own defaults, which VM objects leave out.
ROOT_PROPERTIES = {
    "zfs_root_compression": ("compression", "off"),
    "zfs_root_recsize": ("recsize", 131072),
    "zfs_snapshot_limit": ("snapshot_limit", "none"),
    "zfs_filesystem_limit": ("filesystem_limit", "none"),
}
DATA_PROPERTIES = {"zfs_data_compression": ("compression", "off"), "zfs_data_recsize": ("recsize", 131072)}


LEFT_BY_A_CREATE = "if a create that was killed left it, remove it with zfs destroy -r"
NOT_COPIED = frozenset(("mountpoint", "canmount", "zoned"))  # what makes a root the one in its place


def local_settings(node: Node, dataset: str) -> dict[str, str]:
    """What was set on the dataset itself, for another that is to take its place. Raises ToolFailed."""
    rows = node.must("zfs", "get", "-Hp", "-s", "local", "-o", "property,value", "all", dataset).stdout.splitlines()
    found = dict(row.split("\t", 1) for row in rows if "\t" in row)
    return {prop: value for prop, value in found.items() if prop not in NOT_COPIED}


def set_quota(node: Node, dataset: str, quota: int) -> None:
    """`quota` in GiB, 0 for none. Raises ToolFailed."""
    node.must("zfs", "set", f"quota={quota}g" if quota else "quota=none", dataset)


def set_bhyve_quota(node: Node, dataset: str, quota: int, flexible: int) -> None:
    """A bhyve VM's `quota` (GiB, at least 1) covers its own data; what its disks may take comes on top: what they
    reserve, or all of `flexible` MiB, whether disks use it yet or not. Raises ToolFailed; the root has its room as
    before then: zfs sets those of several properties that it can."""
    before = {name: number(node, name, dataset) for name in ("quota", "reservation", "refquota", "refreservation")}
    try:
        _set_bhyve_quota(node, dataset, quota, flexible)
    except ToolFailed:
        words = [f"{name}={amount or 'none'}" for name, amount in before.items()]
        with contextlib.suppress(ToolFailed):
            both = words[:2] if before["quota"] > number(node, "quota", dataset) else words[1::-1]
            node.must("zfs", "set", *both, *words[2:], dataset)
        raise


def _set_bhyve_quota(node: Node, dataset: str, quota: int, flexible: int) -> None:
    own = max(1, quota) * GIB
    node.must("zfs", "set", "refreservation=none", f"refquota={own}", dataset)
    volumes = _numbers(node.must("zfs", "list", "-Hrpt", "volume", "-o", "name,volsize", dataset).stdout)
    for volume in volumes:
        node.must("zfs", "set", "refreservation=auto", volume)
    total = own
    if volumes:
        reserved = node.must("zfs", "list", "-Hpr", "-t", "volume", "-o", "name,refreservation", dataset).stdout
        total += sum(_numbers(reserved).values())
    if flexible:
        total += flexible * MIB - sum(volumes.values())
    text = f"{quota}g" if quota * GIB > total else str(total)
    both = quota_words(text, lowered=number(node, "quota", dataset) > total)
    node.must("zfs", "set", *both, f"refreservation={max(0, own - MIB)}", dataset)


def quota_words(text: str, *, lowered: bool) -> list[str]:
    """A quota that is all reserved, as words for `zfs set`: it is never, even for a moment, below its reservation."""
    words = [f"quota={text}", f"reservation={text}"]
    return words[::-1] if lowered else words


def _numbers(listing: str) -> dict[str, int]:
    """Lines of a name and a number; what is no number is 0."""
    rows = [line.split("\t") for line in listing.splitlines() if "\t" in line]
    return {row[0]: int(row[1]) if row[1].isdigit() else 0 for row in rows}


def number(node: Node, prop: str, dataset: str) -> int:
    """A property in bytes; `-` and `none` are 0. Raises ToolFailed."""
    text = node.must("zfs", "get", "-Hpo", "value", prop, dataset).stdout.strip()
    return int(text) if text.isdigit() else 0


def set_properties(node: Node, change: Settings, vm: Vm) -> None:
    """The zfs properties of the root and the delegated dataset that differ. Raises ToolFailed.

    The delegated dataset comes first, and gets its own value even if it shows it already: it may only inherit it from
    the root, which is about to get another."""
    root = vm["zfs_filesystem"]
    changed = {
        prop
        for name, prop, value in _wanted(ROOT_PROPERTIES, change)
        if value != vm.get(name, ROOT_PROPERTIES[name][1])
    }
    if has_data(vm):
        for name, prop, value in _wanted(DATA_PROPERTIES, change):
            if prop in changed or value != vm.get(name, DATA_PROPERTIES[name][1]):
                node.must("zfs", "set", f"{prop}={value}", f"{root}/data")
    for _, prop, value in _wanted(ROOT_PROPERTIES, change):
        if prop in changed:
            node.must("zfs", "set", f"{prop}={value}", root)


def _wanted(table: dict[str, tuple[str, Any]], change: Settings) -> list[tuple[str, str, Any]]:
    """(VM property, zfs property, value) of what `change` has; unset means zfs's default."""
    return [
        (name, prop, default if change[name] is None else change[name])
        for name, (prop, default) in table.items()
        if name in change
    ]


def make_indestructible(node: Node, dataset: str) -> None:
    """A held snapshot, which keeps the dataset from being destroyed. What is there already is fine."""
    snapshot = f"{dataset}@{INDESTRUCTIBLE}"
    for words, fine in (
        (("snapshot", snapshot), "dataset already exists"),
        (("hold", HOLD, snapshot), "tag already exists"),
    ):
        result = node.run("zfs", *words)
        if result.status != 0 and fine not in result.stderr:
            raise failure("zfs", result)


def make_destructible(node: Node, dataset: str) -> None:
    """Release all holds of that snapshot and destroy it; none is fine."""
    snapshot = f"{dataset}@{INDESTRUCTIBLE}"
    holds = node.run("zfs", "holds", snapshot)
    if holds.status != 0:
        if "does not exist" in holds.stderr:
            return
        raise failure("zfs", holds)
    for tag in [
        line.split()[1]
        for line in holds.stdout.splitlines()
        if line.startswith(f"{snapshot}\t") or line.split()[:1] == [snapshot]
    ]:
        node.must("zfs", "release", tag, snapshot)
    destroyed = node.run("zfs", "destroy", snapshot)
    if (
        destroyed.status != 0
        and "could not find any snapshots" not in destroyed.stderr
        and "does not exist" not in destroyed.stderr
    ):
        raise failure("zfs", destroyed)


def set_indestructible(node: Node, change: Settings, vm: Vm) -> None:
    """Both properties of an update or a create. Raises ToolFailed."""
    for name, dataset in (
        ("indestructible_zoneroot", vm["zfs_filesystem"]),
        ("indestructible_delegated", f"{vm['zfs_filesystem']}/data"),
    ):
        if name not in change or (name == "indestructible_delegated" and not has_data(vm)):
            continue
        if change[name]:
            make_indestructible(node, dataset)
        else:
            make_destructible(node, dataset)


def destroy_volume(node: Node, volume: str) -> None:
    """A disk's volume, and the image's snapshot that it was cloned from if that was made for it. Raises ToolFailed."""
    origin = node.must("zfs", "get", "-Ho", "value", "origin", volume).stdout.strip()
    node.must("zfs", "destroy", "-rF", volume)
    if origin != "-" and not origin.endswith("@final"):
        node.must("zfs", "destroy", "-rF", origin)
