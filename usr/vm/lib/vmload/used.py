# SPDX-License-Identifier: MPL-2.0
"""Which datasets matter to a VM, and what of them its object shows (docs/platform.md, "Which datasets are listed").
Pure.

Always: what no property shows is neither listed nor a reason to list: the snapshots of a delegated dataset are its
        zone's affair and can be many thousands, and so is whatever a zone makes below its own datasets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from vmload import datasets as zfs
from vmload.datasets import Datasets
from vmload.records import FileRecords, Zone, ZoneRecords


@dataclass(frozen=True)
class Used:
    """`roots`: datasets that are the zoneroot, or may become it. `delegated` and `disks`: those that the XML names,
    wherever they are."""

    roots: tuple[str, ...]
    delegated: tuple[str, ...]
    disks: tuple[str, ...]

    @property
    def named(self) -> tuple[str, ...]:
        """Those that the XML names."""
        return (*self.delegated, *self.disks)

    def parents(self) -> dict[str, bool]:
        """The datasets to list: name -> whether it is a root, and so listed with what lies right below it. What that
        shows is not listed twice."""
        parents = dict.fromkeys(self.roots, True)
        for name in self.named:
            if name.rpartition("/")[0] not in self.roots:
                parents.setdefault(name, False)
        return parents

    def shown(self, dataset: str, snapshot: Optional[str], *, is_gone: bool = False) -> bool:
        """Whether a change of the dataset, or of just that snapshot of it, can change the VM object. `is_gone`: it was
        destroyed. What a snapshot had written is the next one's then, whose size may show."""
        if dataset in self.disks:
            return True  # its snapshots too: they take its space
        if dataset in self.roots:
            return snapshot is None or is_gone or zfs.is_shown_of_root(snapshot)
        above, _, last = dataset.rpartition("/")
        if above in self.roots and last == zfs.DELEGATED:
            return snapshot is None or zfs.is_shown_of_delegated(snapshot)
        return dataset in self.delegated and snapshot is None


def used_by(records: ZoneRecords) -> Used:
    """What the VM of these records uses."""
    return used(records.zone, records.files, root_of(records))


def used(zone: Zone, files: FileRecords, root: Optional[str] = None) -> Used:
    """What a VM uses. Its roots are the dataset called like its zonepath, `root` if that is known to be mounted there
    instead, and the dataset that is being received. A disk that is no zvol (a CD image) needs nothing: it counts as
    missing either way."""
    zoneroot = zone.zonepath[1:]
    roots = [zoneroot, root, (files.receive_payload or {}).get("zfs_filesystem")]
    xml = files.xml or {}
    disks = [zfs.zvol_of(disk.get("path", "")) for disk in xml.get("disks", ())]
    return Used(_names(roots), _names(xml.get("datasets", ())), _names(disks))


def root_of(records: ZoneRecords) -> Optional[str]:
    """The dataset that is mounted at the zonepath, as far as these records tell."""
    return mounted_at_zonepath(records.zone, records.datasets.values())


def mounted_at_zonepath(zone: Zone, listed: Iterable[Datasets]) -> Optional[str]:
    """The dataset that is mounted at the zonepath, by what was `listed`, the later before the earlier; of several the
    one of that name, since a copy of the zone in a backup pool claims the same mountpoint."""
    name, newest = zone.zonepath[1:], list(listed)[::-1]
    for part in newest:
        if name in part.datasets:
            if part.datasets[name]["mountpoint"] == zone.zonepath:
                return name
            break
    return next((part.mountpoints[zone.zonepath] for part in newest if zone.zonepath in part.mountpoints), None)


def _names(candidates: Iterable[Optional[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in candidates if isinstance(name, str) and name))
