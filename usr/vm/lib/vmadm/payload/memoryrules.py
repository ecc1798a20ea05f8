# SPDX-License-Identifier: MPL-2.0
"""How a VM's memory properties follow each other when one of them is set.

Always: pure; all sizes in MiB; a property that is given is kept, but for the limits at the end of each function.
Worked: a VM with 256 of everything that gets max_physical_memory 128 has 128 locked, 128 tmpfs and still 256 swap."""

from __future__ import annotations

from typing import Any

from vmadm.payload import Payload
from vmadm.payload.valuerules import as_integer, is_unset
from vmload import brands

MIN_SWAP = 256  # MiB; with less, zones failed to boot
DEFAULT_IDS = 4096  # of max_msg_ids and its like, where nothing is said
ID_LIMITS = ("max_msg_ids", "max_sem_ids", "max_shm_ids")
MEMORY = ("ram", "max_physical_memory", "max_locked_memory", "max_swap", "tmpfs", "max_shm_memory", *ID_LIMITS)
NEVER_UNSET = ("max_locked_memory", "max_swap")  # nothing that a VM could be without


def integers(payload: Payload) -> dict[str, Any]:
    """The memory properties that a payload says well: integers, None for what is unset."""
    given: dict[str, Any] = {}
    for name in MEMORY:
        value = payload.get(name)
        if name in payload and (is_unset(value) or as_integer(value) is not None):
            given[name] = None if is_unset(value) else as_integer(value)
    return given


def bad_nulls(payload: Payload, brand: str) -> list[str]:
    """The names of what would have no value, since it is unset or follows from what is."""
    unset = {name for name in MEMORY if name in payload and is_unset(payload[name])}
    bad = [name for name in NEVER_UNSET if name in unset]
    followers = [*NEVER_UNSET, *(["tmpfs"] if brands.facts(brand)["use_tmpfs"] else [])]
    if "ram" in unset and "max_physical_memory" not in payload:
        followers.insert(0, "max_physical_memory")
    elif "max_physical_memory" not in unset:
        return bad
    return bad + [name for name in followers if name not in payload]


def with_memory(given: dict[str, Any], old: dict[str, Any], brand: str) -> dict[str, Any]:
    """`given` (integers; None is unset, and nothing follows from it) completed by the properties that follow; `old` is
    the VM, empty on create."""
    new = dict(given)
    if new.get("ram") is not None and "max_physical_memory" not in new:
        new["max_physical_memory"] = new["ram"] + brands.facts(brand)["default_memory_overhead_mib"]
    if new.get("max_physical_memory") is not None:
        _follow_physical(new, old, brand)
    _keep_limits(new, old, brand)
    return new


def _follow_physical(new: dict[str, Any], old: dict[str, Any], brand: str) -> None:
    physical, old_physical = new["max_physical_memory"], old.get("max_physical_memory")
    if "max_locked_memory" not in new:
        old_locked = old.get("max_locked_memory")
        if old_physical is None or old_locked is None:
            new["max_locked_memory"] = physical
        else:
            new["max_locked_memory"] = max(0, round(physical - (old_physical - old_locked)))
    if "max_swap" not in new:
        old_swap = old.get("max_swap")
        if old_physical is None or old_swap is None or (old_swap == MIN_SWAP and physical >= MIN_SWAP):
            new["max_swap"] = physical
        else:
            new["max_swap"] = round(physical + (old_swap - old_physical))
    if brands.facts(brand)["use_tmpfs"] and "tmpfs" not in new:
        if old_physical and old.get("tmpfs") is not None:
            new["tmpfs"] = int(old["tmpfs"] / old_physical * physical + 0.5)
        else:
            new["tmpfs"] = physical
    if "max_shm_memory" not in new and "max_shm_memory" not in old:
        new["max_shm_memory"] = physical
    for name in ID_LIMITS:
        if name not in new and name not in old:
            new[name] = DEFAULT_IDS


def _keep_limits(new: dict[str, Any], old: dict[str, Any], brand: str) -> None:
    """What no combination may break, whoever asked for it."""
    facts = brands.facts(brand)
    touched = {"ram", "max_physical_memory", "max_locked_memory"} & new.keys()
    ram = new.get("ram", old.get("ram"))
    if facts["hvm"] and touched and ram is not None:
        least = ram + facts["min_memory_overhead_mib"]
        for name in ("max_physical_memory", "max_locked_memory"):
            if name in new or old.get(name, least) < least:
                new[name] = max(least, new.get(name) or 0)
    physical = new.get("max_physical_memory", old.get("max_physical_memory"))
    if physical is not None:
        if new.get("tmpfs") is not None:
            new["tmpfs"] = min(new["tmpfs"], physical)
        if new.get("max_locked_memory") is not None:
            new["max_locked_memory"] = min(new["max_locked_memory"], physical)
        if new.get("max_swap") is not None:
            new["max_swap"] = max(new["max_swap"], physical)
    if new.get("max_swap") is not None:
        new["max_swap"] = max(new["max_swap"], MIN_SWAP)
