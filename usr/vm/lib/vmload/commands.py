# SPDX-License-Identifier: MPL-2.0
"""What zoneadm, kstat and zfs say: of all zones, or of one, which is asked about together with the others that wait
(docs/platform.md).

Always: what is returned is whole. Output that is cut short or garbled raises GarbledOutput, whatever the exit status:
        a list that lacks zones must never look like a node that lost them;
        a command about many that lacks one of them says nothing about any (together.py);
        datasets are asked about together by pool, and each pool has slots of its own: one that hangs holds up no other.
Each method does just what it is asked; loader.py says what is needed."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Optional, Union

from vmload import datasets as zfs
from vmload import kstatlib, zoneadm, zoneinfo
from vmload.datasets import Datasets
from vmload.kstatlib import CannotTell, KstatLibrary
from vmload.loaderror import CommandFailed, LoadError
from vmload.notes import Note, silent
from vmload.records import Zone, ZoneInfo
from vmload.runner import Runner
from vmload.slots import PATIENCE, Slots
from vmload.system import KSTAT, ZFS, ZONEADM, Output, System
from vmload.together import Together
from vmload.zoneinfo import Printed

# Commands of a kind at once, for zfs on each pool: it takes locks there, and more lists would only wait for each other.
# One alone, as in the original, would let a list that hangs hold up all zones; slots.py sees to it that no number does.
_AT_ONCE = 4

# A command about all zones is worth it for this share of them: each that is not asked for itself costs no process, but
# some lines to read.
_WORTH_ALL = 8

# How libkstat is asked: like a file, as it takes moments. Its own patience is far below the limit of such reads.
_KERNEL, _STATISTICS = "the kernel", "the kernel's statistics"

# Seconds more that a command about many has for each of them. Past its time each is asked about by itself.
_FOR_EACH = 0.01

_Told = Union[ZoneInfo, None, CannotTell]  # of a zone, by libkstat; None: it is not in the kernel
_Names = tuple[str, ...]  # what one listing is about: a dataset, a snapshot, or both


class Commands:
    """The commands of one node. Safe to use from several threads at once; `runner` says how the caller waits."""

    def __init__(self, system: System, note: Note = silent):
        self._system = system
        self._note = note
        has_library = system.identity(kstatlib.PATH) is not None
        self._statistics = KstatLibrary(system.path(kstatlib.PATH) if has_library else None, note)
        self._zones_known = 0  # how many zoneadm listed the last time
        zoneadm_slots, kstat_slots = Slots(_AT_ONCE), Slots(_AT_ONCE)
        self._zones = Together(zoneadm_slots, self._one_zone, self._many_zones, self._is_for_all)
        # One look at a time, and the next not before one that hangs has been given up: it knows of that then.
        looks = Slots(1, patience=2 * kstatlib.PATIENCE)
        self._looks: Together[Zone, _Told] = Together(looks, self._look_at_one, self._look_at_many)
        self._zoneinfos = Together(kstat_slots, self._one_zoneinfo, self._many_zoneinfos, self._is_for_all)
        all_pools = Slots(_AT_ONCE)
        self._mountpoints: Together[str, Datasets] = Together(all_pools, self._list_mountpoints, lambda _: {})
        self._zfs_slots: defaultdict[str, Slots] = defaultdict(partial(Slots, _AT_ONCE))  # pool -> its slots
        self._listings: dict[tuple[str, int], Together[_Names, Datasets]] = {}  # pool, depth -> listings of so deep
        self._lock = threading.Lock()

    # zoneadm.

    def zones(self) -> dict[str, Zone]:
        """All VMs that zoneadm knows, by uuid."""
        return self._list_zones(self._system.limits.all)

    def zone(self, key: str, runner: Runner) -> Optional[Zone]:
        """The VM whose uuid, or else whose zone name, is `key`; None for a zone that is no VM. Raises ZoneGone."""
        return self._zones.ask(key, runner.zoneadm, runner.result)

    def _one_zone(self, key: str) -> Optional[Zone]:
        output = self._zoneadm(zoneadm.list_arguments(key), self._system.limits.one)
        zoneadm.check(output.stdout, all_zones=False)
        found = list(zoneadm.parse(output.stdout, self._note).values())
        return found[0] if len(found) == 1 else None

    def _many_zones(self, keys: Sequence[str]) -> Mapping[str, Optional[Zone]]:
        """Of a list of all. That a zone is missing there is no reason to think that it is gone."""
        zones = self._list_zones(self._limit_for(self._zones_known))
        by_name = {zone.zonename: zone for zone in zones.values()}
        found = {key: zones.get(key) or by_name.get(key) for key in keys}
        return {key: zone for key, zone in found.items() if zone is not None}

    def _list_zones(self, limit: float) -> dict[str, Zone]:
        output = self._zoneadm(zoneadm.LIST_ALL, limit)
        zoneadm.check(output.stdout, all_zones=True)
        zones = zoneadm.parse(output.stdout, self._note)
        self._zones_known = len(zones)
        return zones

    def _zoneadm(self, arguments: list[str], limit: float) -> Output:
        output = self._system.run(ZONEADM, arguments, limit)
        if output.status != 0:
            raise zoneadm.failure(output.stderr)
        return output

    def _is_for_all(self, count: int) -> bool:
        """Whether a list of all zones is better than one for each of so many."""
        return count > 1 and count * _WORTH_ALL >= self._zones_known

    # kstat.

    def zoneinfos(self) -> dict[str, ZoneInfo]:
        """The statistics of all zones in the kernel, by zone name: from libkstat where there is one, else from the
        command."""
        try:
            return self._statistics.zones()
        except CannotTell:
            return zoneinfo.by_name(self._print_zoneinfos(self._system.limits.one))

    def zoneinfo(self, zone: Zone, runner: Runner) -> Optional[ZoneInfo]:
        """The statistics of one zone, likewise. None, without a look, for a zone that has none (zoneinfo.has_some());
        for one that must have some not before it was asked for twice."""
        if not zoneinfo.has_some(zone):
            return None
        return self._ask_zoneinfo(zone, runner) or self._ask_zoneinfo(zone, runner)

    def _ask_zoneinfo(self, zone: Zone, runner: Runner) -> Optional[ZoneInfo]:
        told = self._look(zone, runner)
        return self._zoneinfos.ask(zone, runner.kstat, runner.result) if isinstance(told, CannotTell) else told

    def _look(self, zone: Zone, runner: Runner) -> _Told:
        """What libkstat tells of the zone, together with the others that wait for that, and fails for all of them."""
        if not self._statistics.may_tell:
            return CannotTell("libkstat is of no use now")
        try:
            return self._looks.ask(zone, partial(runner.files, _KERNEL, _STATISTICS), runner.result)
        except LoadError as error:
            return CannotTell(f"no thread can ask it: {error}")

    def _look_at_one(self, zone: Zone) -> _Told:
        return self._look_at_many([zone])[zone]

    def _look_at_many(self, zones: Sequence[Zone]) -> dict[Zone, _Told]:
        try:
            return dict(zip(zones, self._statistics.some([(zone.zoneid or 0, zone.zonename) for zone in zones])))
        except CannotTell as error:
            return dict.fromkeys(zones, error)

    def _one_zoneinfo(self, zone: Zone) -> Optional[ZoneInfo]:
        assert zone.zoneid is not None
        arguments = zoneinfo.arguments_for(zone.zoneid)
        output = self._system.run(KSTAT, arguments, self._system.limits.one, about=zone.zonename)
        if not output.stdout and not output.stderr and output.status == 1:
            return None  # kstat's way of saying that nothing matches: the zone has just left the kernel
        return zoneinfo.of_zone(_zoneinfos_of(output), zone)

    def _many_zoneinfos(self, zones: Sequence[Zone]) -> Mapping[Zone, Optional[ZoneInfo]]:
        printed = self._print_zoneinfos(self._limit_for(self._zones_known))
        answers = {zone: zoneinfo.of_zone(printed, zone) for zone in zones}
        return {zone: info for zone, info in answers.items() if info is not None}

    def _print_zoneinfos(self, limit: float) -> Printed:
        return _zoneinfos_of(self._system.run(KSTAT, zoneinfo.ARGUMENTS_FOR_ALL, limit))

    # zfs.

    def all_datasets(self) -> Datasets:
        """What zfs lists of all pools."""
        return self._list((), zfs.DEPTH_OF_ALL, self._system.limits.all)

    def datasets(self, parent: str, depth: int, runner: Runner, snapshot: Optional[str] = None) -> Datasets:
        """What zfs lists at most `depth` below `parent`, a dataset or a snapshot, and of `snapshot`: nothing for one
        that is not there. Both are on one pool."""
        names = (parent,) if snapshot is None else (parent, snapshot)
        return self._listings_on(_pool_of(parent), depth).ask(names, runner.zfs, runner.result)

    def mountpoints(self, runner: Runner) -> Datasets:
        """All filesystems that a VM's root dataset can be, with nothing but where they are mounted."""
        return self._mountpoints.ask("all", runner.zfs, runner.result)

    def _listings_on(self, pool: str, depth: int) -> Together[_Names, Datasets]:
        with self._lock:
            listings = self._listings.get((pool, depth))
            if listings is None:
                one, many = partial(self._one_listing, depth), partial(self._many_listings, depth)
                listings = self._listings[pool, depth] = Together(self._zfs_slots[pool], one, many)
        return listings

    def _one_listing(self, depth: int, names: _Names) -> Datasets:
        return self._list(names, depth, self._system.limits.one)

    def _many_listings(self, depth: int, questions: Sequence[_Names]) -> Mapping[_Names, Datasets]:
        """The share of each; without those that zfs complains of, save that they do not exist."""
        names = list(dict.fromkeys(name for question in questions for name in question))
        output = self._run_zfs(zfs.list_arguments(names, depth), self._limit_for(len(names)))
        said = self._said(output, names)
        if said.of_all or not (said.absent or said.failed):
            self._checked(output)
        found = zfs.parse(output.stdout)
        zfs.check_rows(found, [name for name in names if name not in said.absent and name not in said.failed])
        children = zfs.children_of(found)
        return {
            question: found.listed(question, children, depth)
            for question in questions
            if said.failed.isdisjoint(question)
        }

    def _list_mountpoints(self, _: str) -> Datasets:
        arguments = zfs.list_arguments((), zfs.DEPTH_OF_ALL, zfs.MOUNT_FIELDS, zfs.MOUNT_TYPES)
        output = self._checked(self._run_zfs(arguments, self._system.limits.all))
        return zfs.parse(output.stdout, zfs.MOUNT_FIELDS, never_empty=True)

    def _list(self, names: _Names, depth: int, limit: float) -> Datasets:
        output = self._run_zfs(zfs.list_arguments(names, depth), limit)
        said = self._said(output, names)
        if said.failed or not said.absent:
            self._checked(output)
        there = [name for name in names if name not in said.absent]
        found = zfs.parse(output.stdout, never_empty=bool(there) or not names)
        zfs.check_snapshots(found, there)
        return found

    def _run_zfs(self, arguments: list[str], limit: float) -> Output:
        return self._system.run(ZFS, arguments, limit, c_locale=True)

    def _said(self, output: Output, names: Sequence[str]) -> zfs.Complaints:
        return zfs.complaints(_lines_of(output.stderr), names) if output.status == 1 else zfs.Complaints()

    def _checked(self, output: Output) -> Output:
        if output.status != 0:
            raise CommandFailed(f"zfs exited prematurely with code: {_shown(output.status)}")
        for line in _lines_of(output.stderr):
            self._note("warn", f"zfs: {line}")
        return output

    def _limit_for(self, count: int) -> float:
        """Seconds for a command about so many."""
        return min(self._system.limits.one, PATIENCE + count * _FOR_EACH)


def _zoneinfos_of(output: Output) -> Printed:
    if output.status != 0:
        raise CommandFailed(f"kstat exited prematurely with code: {_shown(output.status)}")
    zoneinfo.check(output.stdout)
    return zoneinfo.parse(output.stdout)


def _pool_of(name: str) -> str:
    return name.partition("/")[0].partition("@")[0]


def _lines_of(stderr: bytes) -> list[str]:
    """Its complete lines only."""
    return stderr.decode("utf-8", "replace").split("\n")[:-1]


def _shown(status: Optional[int]) -> str:
    return "null" if status is None else str(status)
