# SPDX-License-Identifier: MPL-2.0
"""What is promised of what is shown of a zone at any moment, by what its sources were asked and have answered.

Always: a source that is late, or fails, is excused: beside it is shown what it said last. All others fit what is shown
        of the zone's state, and are not older than it."""

from __future__ import annotations

from typing import Any, Optional

from support.onezone import NAME, OneZone, shown_versions
from vminfod.freshness.sourcereading import PATIENCE
from vminfod.serving.cause import Cause
from vmload.zonesources import Source


class PromisingZone(OneZone):
    """A zone that looks at all that is shown of it."""

    def promises_of(self, vm: Optional[dict[str, Any]], cause: Optional[Cause]) -> list[str]:
        broken = []
        holder = self.holds.holder(NAME)
        if holder is not None and (cause is None or cause is not holder.cause):
            broken.append("what is held is changed")
        if vm is None:
            return broken
        before = self.served()
        if before is None or before["zonedid"] != vm["zonedid"]:
            broken += self._older(vm)
        return broken + self._unfit(vm)

    def _unfit(self, vm: dict[str, Any]) -> list[str]:
        """What belongs to another zonepath, zoneid or XML."""
        fits = {
            Source.FILES: vm["tags"]["n"] == 0 or (vm["zonepath"], vm["tags"]["n"]) in self.history,
            Source.KSTAT: vm["zone_state"] != "running" or vm.get("pid") in (vm["zoneid"], None),
            Source.ZFS: vm.get("zfs_filesystem") == vm["zonepath"][1:]
            and not any(disk.get("missing") for disk in vm["disks"]),
        }
        return [
            f"{source.name} of something else is shown"
            for source, is_fit in fits.items()
            if not (is_fit or self._is_excused(source))
        ]

    def _older(self, vm: dict[str, Any]) -> list[str]:
        """What is shown beside another record of zoneadm's though it had changed, and that was known, when zoneadm was
        asked for that."""
        asked = [one for one in self.askings if one.source is Source.ZONEADM and one.ended is not None]
        if not asked or asked[-1].has_failed:
            return []
        shown = shown_versions(vm)
        return [
            f"{source.name} is older than zoneadm's record"
            for source in (Source.XML, Source.FILES, Source.KSTAT, Source.ZFS)
            if shown[source] < max(self._known(source, vm, asked[-1].number), default=0)
            and not self._is_excused(source)
        ]

    def _known(self, source: Source, vm: dict[str, Any], moment: int) -> list[int]:
        """The numbers of the changes of which it had been told until that moment, and which such a VM shows."""
        told = [number for when, number in self.marked[source] if when <= moment]
        if source is Source.KSTAT:
            return told if "init_restarts" in vm else []
        place = {Source.FILES: vm["zonepath"], Source.ZFS: vm["zonepath"][1:]}.get(source)
        return told if place is None else [number for number in told if (place, number) in self.history]

    def _is_excused(self, source: Source) -> bool:
        """Whether it is late or was with one of its last two answers, or one of those has failed, or those before."""
        asked = [one for one in self.askings if one.source is source]
        first = max(0, len(asked) - 2)
        while first > 0 and (asked[first - 1].ended is None or asked[first - 1].has_failed):
            first -= 1
        return any(
            one.has_failed or (self.clock.now if one.ended is None else one.ended) - one.began >= PATIENCE
            for one in asked[first:]
        )
