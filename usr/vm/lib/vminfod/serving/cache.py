# SPDX-License-Identifier: MPL-2.0
"""The served VM objects, the records they come from, and the index by which an event finds the VMs it concerns.

Always: Replay: what is served changes together with its event, with no switch between the two, and never without one;
        One writer: only a task on the serial queue calls put() and drop(), and the first load before there are clients;
        what is served is bytes made when the VM changed, not when somebody asks.
Keyed by zone name throughout; a uuid is looked up in a map (a zone's name need not be its uuid)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Optional

from vminfod.diff import Change
from vminfod.log import Log
from vminfod.meters import Meters
from vminfod.serving import jsontext
from vminfod.serving.cause import REFRESH, Cause
from vminfod.serving.hub import Hub
from vminfod.serving.prepared import Prepared, is_large, prepare
from vmload.records import ZoneRecords

LOGGED_PATHS = 20  # of one event; the number of the others is logged with them
LOGGED_LENGTH = 200  # characters of one: a key of a guest's metadata can have megabytes


@dataclass
class Entry:
    """One VM. `body` is `vm` as JSON, `escaped` the same within a JSON string, made when first asked for. `rev` is the
    revision of its last event."""

    records: ZoneRecords
    vm: dict[str, Any]
    body: bytes
    rev: int
    escaped: Optional[bytes] = None


class Put(NamedTuple):
    """What a put() did: the type of the event that it emitted, None for none; the changes of a `modify`."""

    event: Optional[str]
    changes: list[Change]


Preparation = Callable[[], Optional[Prepared]]
Aside = Callable[[Preparation], Optional[Prepared]]  # runs one so that the loop goes on meanwhile: in a thread


def here(work: Preparation) -> Optional[Prepared]:
    """The Aside of who has no loop."""
    return work()


class Cache:
    """The VMs of the node, in the order in which they came. `aside`: where large ones are prepared; `meters`: where
    events are counted."""

    def __init__(self, hub: Hub, log: Log, aside: Aside = here, meters: Optional[Meters] = None):
        self._hub = hub
        self._log = log
        self._aside = aside
        self._meters = meters or Meters()
        self._entries: dict[str, Entry] = {}
        self._by_uuid: dict[str, str] = {}  # uuid -> zone name, for just the VMs in _entries
        # Dataset -> names of the zones that list it as a parent; and each name above such a one -> the same zones.
        self._users: dict[str, set[str]] = {}
        self._users_below: dict[str, set[str]] = {}
        self._joined: Optional[bytes] = None  # the body of /vms; None: make it anew
        self._joined_escaped: Optional[bytes] = None  # the same within a JSON string

    # Reading.

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def zonename(self, key: str) -> Optional[str]:
        """The zone of the VM whose zone name, or else whose uuid, is `key`; None if there is none."""
        return key if key in self._entries else self._by_uuid.get(key)

    def served(self, key: str) -> Optional[Entry]:
        """What is served of the VM with this zone name or uuid; None if there is none. Not to be changed."""
        return self._entries.get(key) or self._entries.get(self._by_uuid.get(key, ""))

    def entries(self) -> Iterable[Entry]:
        """What is served, in the order of vms(). Not to be changed."""
        return self._entries.values()

    def records(self, zonename: str) -> Optional[ZoneRecords]:
        """What the VM was made of; None if it is not served."""
        entry = self._entries.get(zonename)
        return None if entry is None else entry.records

    def differs(self, zonename: str, vm: dict[str, Any]) -> bool:
        """Whether `vm` is not what is served."""
        entry = self._entries.get(zonename)
        return entry is None or entry.vm != vm

    def vms(self) -> bytes:
        """All VMs as a JSON array."""
        if self._joined is None:
            self._joined = as_array([entry.body for entry in self._entries.values()])
        return self._joined

    def vms_escaped(self, names: Optional[frozenset[str]] = None) -> bytes:
        """vms() as it stands between the quotes of a JSON string; with `names`, just the VMs so called."""
        if names is not None:
            return self._escape([e for name, e in self._entries.items() if not names.isdisjoint((name, e.vm["uuid"]))])
        if self._joined_escaped is None:
            self._joined_escaped = self._escape(list(self._entries.values()))
        return self._joined_escaped

    @staticmethod
    def _escape(entries: list[Entry]) -> bytes:
        for entry in entries:
            if entry.escaped is None:
                entry.escaped = jsontext.escaped(entry.body)
        return as_array([entry.escaped or b"" for entry in entries])

    def zones_using(self, dataset: str) -> set[str]:
        """The zones that use a dataset which is `dataset` or lies above it."""
        found: set[str] = set()
        name = dataset
        while name:
            if name in self._users:
                found |= self._users[name]
            name = name.rpartition("/")[0]
        return found

    def is_used(self, dataset: str) -> bool:
        """Whether any zone uses `dataset`, or one above or below it."""
        return bool(self.zones_using_below(dataset) or self.zones_using(dataset))

    def zones_using_below(self, dataset: str) -> set[str]:
        """The zones that use a dataset below `dataset`."""
        return self._users_below.get(dataset, set())

    # Writing.

    def put(self, zonename: str, records: ZoneRecords, vm: dict[str, Any], cause: Optional[Cause]) -> Put:
        """Serve `vm` from now on, emitting `create`, or `modify` if it differs from what was served. A new VM without a
        `cause` makes no event: the first load, before any client can connect.

        A diff knows no positions, yet the order of resolvers or disks matters: if only that changed, the modify has an
        empty list of changes."""
        old = self._entries.get(zonename)
        before, size = (None, 0) if old is None else (old.vm, len(old.body))
        if is_large(vm, size):
            # Other greenlets run meanwhile, but no other task of the queue, and so nothing changes the cache.
            ready = self._aside(partial(prepare, before, size, vm, in_slices=True))
        else:
            ready = prepare(before, size, vm, in_slices=False)
        if ready is None:
            self._reindex(zonename, old.records if old is not None else None, records)
            self._entries[zonename].records = records
            return Put(None, [])
        entry = self._store(zonename, records, vm, ready)
        if old is None:
            if cause is None:
                return Put(None, [])
            entry.rev = self._emit("create", zonename, vm["uuid"], cause, body={"vm": entry.body})
            return Put("create", [])
        body = {"vm": entry.body, "changes": ready.changes_text}
        entry.rev = self._emit(
            "modify", zonename, vm["uuid"], cause, body=body, changes=ready.changes, changed=ready.changed
        )
        return Put("modify", ready.changes)

    def drop(self, zonename: str, cause: Cause) -> bool:
        """Serve the VM no more, emitting `delete`. False if it was not served."""
        entry = self._entries.pop(zonename, None)
        if entry is None:
            return False
        if self._by_uuid.get(entry.vm["uuid"]) == zonename:
            del self._by_uuid[entry.vm["uuid"]]
        self._reindex(zonename, entry.records, None)
        self._joined = self._joined_escaped = None
        self._emit("delete", zonename, entry.vm["uuid"], cause, tail={"last": entry.body})
        return True

    def never_seen(self, zonename: str, cause: Cause) -> None:
        """Emit the `delete` of a VM that could not be read as long as it was there. Its uuid is not known for sure: a
        zone is mostly called by it. There is no `last` object."""
        self._emit("delete", zonename, zonename, cause)

    def _store(self, zonename: str, records: ZoneRecords, vm: dict[str, Any], ready: Prepared) -> Entry:
        """The entry, whose revision is that of the event before until its own is emitted."""
        entry = self._entries.get(zonename)
        self._reindex(zonename, entry.records if entry is not None else None, records)
        if entry is not None:
            if self._by_uuid.get(entry.vm["uuid"]) == zonename:
                del self._by_uuid[entry.vm["uuid"]]
            entry.records, entry.vm, entry.body, entry.escaped = records, vm, ready.body, ready.escaped
        else:
            entry = self._entries[zonename] = Entry(records, vm, ready.body, self._hub.rev, ready.escaped)
        self._by_uuid[vm["uuid"]] = zonename
        self._joined = self._joined_escaped = None
        return entry

    def _emit(
        self,
        kind: str,
        zonename: str,
        uuid: str,
        cause: Optional[Cause],
        *,
        body: Optional[dict[str, bytes]] = None,
        tail: Optional[dict[str, bytes]] = None,
        changes: Optional[list[Change]] = None,
        changed: Optional[frozenset[str]] = None,
    ) -> int:
        """Publish, in the same step in which the entry changed, and log it, without values: they may be secret. The
        event's revision."""
        shown = (cause or REFRESH).shown(time.monotonic_ns())
        tail = {"cause": jsontext.encode(shown), **(tail or {})}
        rev = self._hub.publish(kind, (zonename, uuid), body or {}, tail, changed)
        self._meters.event(kind, shown["source"], shown.get("latency_ms"))
        paths: dict[str, Any] = {}
        if changes is not None:
            paths["paths"] = [change["prettyPath"][:LOGGED_LENGTH] for change in changes[:LOGGED_PATHS]]
            if len(changes) > LOGGED_PATHS:
                paths["morePaths"] = len(changes) - LOGGED_PATHS
        self._log.info(
            f'emitting "{kind}" event, {len(self._entries)} VMs total',
            zonename=zonename,
            rev=rev,
            cause=shown,
            **paths,
        )
        return rev

    def _reindex(self, zonename: str, old: Optional[ZoneRecords], new: Optional[ZoneRecords]) -> None:
        before = set(old.datasets) if old is not None else set()
        after = set(new.datasets) if new is not None else set()
        if before == after:
            return
        for parent in before - after:
            _discard(self._users, parent, zonename)
        for parent in after - before:
            self._users.setdefault(parent, set()).add(zonename)
        for name in _above(before) - _above(after):
            _discard(self._users_below, name, zonename)
        for name in _above(after) - _above(before):
            self._users_below.setdefault(name, set()).add(zonename)


def as_array(texts: list[bytes]) -> bytes:
    """A JSON array of these values. Copied once: it can have tens of megabytes, and the loop waits."""
    if not texts:
        return b"[]"
    pieces = [piece for text in texts for piece in (b",", text)]
    pieces[0] = b"["
    pieces.append(b"]")
    return b"".join(pieces)


def _above(datasets: set[str]) -> set[str]:
    names: set[str] = set()
    for dataset in datasets:
        while dataset := dataset.rpartition("/")[0]:
            names.add(dataset)
    return names


def _discard(index: dict[str, set[str]], key: str, zonename: str) -> None:
    users = index.get(key)
    if users is not None:
        users.discard(zonename)
        if not users:
            del index[key]
