# SPDX-License-Identifier: MPL-2.0
"""What records lack that must be there by what else they say: a tool's list was cut short, or the node is not as it
should be. Pure.

Always: nothing lacks of a zone in a state in which it need not be there: so a node that is well lacks nothing.
Not here: what zoneadm's list lacks (the index of zones tells), and whether it is there after all (the daemon asks)."""

from __future__ import annotations

from vmload import datasets as zfs
from vmload import parts as part
from vmload import zoneinfo
from vmload.records import ZoneRecords
from vmload.used import mounted_at_zonepath, used_by

_HALF_MADE = frozenset({"configured", "incomplete"})  # states in which a zone may be without its datasets


def lacking(records: ZoneRecords) -> frozenset[str]:
    """The parts in which something lacks: a dataset at the zonepath of a zone that is installed, or one that its XML
    names; the statistics of a zone that is in the kernel."""
    found = set()
    if records.zoneinfo is None and zoneinfo.has_some(records.zone):
        found.add(part.ZONEINFO)
    if records.zone.state not in _HALF_MADE and _lacks_datasets(records):
        found.add(part.DATASETS)
    return frozenset(found)


def _lacks_datasets(records: ZoneRecords) -> bool:
    listed = zfs.union(records.datasets.values()).datasets
    uses = used_by(records)
    if any(name not in listed for name in uses.named):
        return True
    is_there = records.zone.zonepath[1:] in listed
    return not is_there and mounted_at_zonepath(records.zone, records.datasets.values()) is None
