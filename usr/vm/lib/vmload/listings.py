# SPDX-License-Identifier: MPL-2.0
"""Which datasets of a zone are listed, and what each listing has to be before it is believed.

Always: what is known and was not changed is not listed again;
        what was there before is asked for twice before it is believed to be gone.
Not here: which datasets matter to a VM (used.py), and the commands (commands.py)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Optional

from vmload import datasets as zfs
from vmload.commands import Commands
from vmload.datasets import Datasets
from vmload.records import FileRecords, Zone, ZoneRecords
from vmload.runner import Runner
from vmload.used import mounted_at_zonepath, root_of, used


class Listing(NamedTuple):
    """A list of `parent` that is wanted; see Listings.list(). `before`: what it gave the last time. Without `asks_held`
    the snapshots of the delegated dataset are those of `before`. `named`: datasets that the XML names. `is_changed`: an
    event said that something happened there, so that there may well be less than `before`."""

    parent: str
    is_root: bool
    before: Optional[Datasets] = None
    asks_held: bool = True
    named: tuple[str, ...] = ()
    is_changed: bool = False


Asked = Mapping[str, Optional[Listing]]  # parent -> the list that is wanted; None: what is known of it holds


def to_list(
    zone: Zone,
    files: FileRecords,
    old: Optional[ZoneRecords],
    known: Optional[ZoneRecords],
    changed: Collection[str],
) -> Asked:
    """The datasets that the zone uses, and how each is to be listed. Listed anew are those that `changed`, and those
    that the zone did not use before: they were not followed, and may have been listed as something beside others.
    `known`: the `old` records, if what they say of datasets holds as far as that was not changed."""
    root = root_of(old) if old is not None else None
    uses = used(zone, files, root)
    stale = set(changed)
    if known is not None:
        stale.update(set(uses.named) - set(used(known.zone, known.files, root).named))
    asked: dict[str, Optional[Listing]] = {}
    for parent, is_root in uses.parents().items():
        if known is not None and parent in known.datasets and not _concerns(stale, parent):
            asked[parent] = None
        else:
            before = old.datasets.get(parent) if old is not None else None
            asks_held = known is None or any(zfs.covers(f"{parent}/{zfs.DELEGATED}", name) for name in stale)
            asked[parent] = Listing(parent, is_root, before, asks_held, uses.named, _concerns(changed, parent))
    return asked


class Listings:
    """The listings of one node's zones."""

    def __init__(self, commands: Commands):
        self._commands = commands

    def datasets(self, zone: Zone, asked: Asked, known: Optional[ZoneRecords], runner: Runner) -> dict[str, Datasets]:
        """What zfs says of the datasets that are `asked` for; side by side where they are several."""
        wanted = {parent: listing for parent, listing in asked.items() if listing is not None}
        lists = {parent: partial(self.list, listing, runner) for parent, listing in wanted.items()}
        begun = {parent: runner.beside(step) if len(lists) > 1 else step for parent, step in lists.items()}
        listed = {
            parent: begun[parent]() if parent in begun else known.datasets[parent] if known is not None else Datasets()
            for parent in asked
        }
        if wanted and mounted_at_zonepath(zone, listed.values()) is None:
            # A dataset of another name can be mounted there: a listing of all would have shown it.
            other = mounted_at_zonepath(zone, [self._commands.mountpoints(runner)])
            if other is not None:
                listed[other] = self.list(Listing(other, True), runner)
        return listed

    def list(self, wanted: Listing, runner: Runner) -> Datasets:
        """What can show in a VM object of the dataset `wanted`, and of what lies below it if it is a root.

        One listing, where the XML names the delegated dataset, or it was there before. What was there before, or is not
        known yet, is asked for twice before it is believed to be not there."""
        parent, is_root, before, asks_held, named, _ = wanted
        delegated = f"{parent}/{zfs.DELEGATED}"
        was_there = before is not None and delegated in before.datasets
        keeps_held = was_there and not asks_held
        is_expected = is_root and not keeps_held and (was_there or delegated in named)
        held = zfs.held_snapshot(delegated) if is_expected else None
        depth = zfs.DEPTH_OF_ROOT if is_root else zfs.DEPTH_OF_ONE
        found = self._commands.datasets(parent, depth, runner, held)
        if _is_doubtful(found, wanted, delegated if is_expected else None):
            found = self._commands.datasets(parent, depth, runner, held)
        if not is_root or delegated not in found.datasets:
            return found
        if before is not None and keeps_held:
            kept = {name: snapshots for name, snapshots in before.snapshots.items() if name == delegated}
            return replace(found, snapshots={**found.snapshots, **kept})
        if not is_expected:
            held_alone = self._commands.datasets(zfs.held_snapshot(delegated), zfs.DEPTH_OF_ONE, runner)
            return zfs.union([found, held_alone])
        return found


def _is_doubtful(found: Datasets, wanted: Listing, delegated: Optional[str]) -> bool:
    """Whether a listing lacks what was there before, or may have been, so that it is not believed yet. `delegated`:
    the dataset whose held snapshot it was asked for."""
    before = wanted.before
    of_xml = (name for name in wanted.named if name.rpartition("/")[0] == wanted.parent)
    if any(name not in found.datasets and (before is None or name in before.datasets) for name in of_xml):
        return True
    if before is None:
        return not found.datasets
    if not wanted.is_changed and _rows(found, wanted.parent) < _rows(before, wanted.parent):
        return True
    has_lost_held = delegated in before.snapshots and delegated not in found.snapshots
    return bool(before.datasets) and (not found.datasets or has_lost_held)


def _rows(listed: Datasets, parent: str) -> int:
    """How many datasets there are, and snapshots of the parent: of others not all are listed each time."""
    return len(listed.datasets) + len(listed.snapshots.get(parent, ()))


def _concerns(stale: Collection[str], parent: str) -> bool:
    return any(zfs.covers(name, parent) or zfs.covers(parent, name) for name in stale)
