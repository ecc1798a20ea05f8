# SPDX-License-Identifier: MPL-2.0
"""The pools of the node: what is there under which name, how much room is left, and telling the world of changes.

Always: work on one dataset finds it by walking its name down the tree; nothing looks at all of them.
Not here: the operations (destroying.py, operations.py), and how zfs prints errors (commands/)."""

import re
import time
from typing import Any, Optional

from mockcn.state.datasets import Dataset, Snapshot, Thing
from mockcn.state.events import Event, EventBus
from mockcn.state.mounts import Mounts
from mockcn.state.properties import Value, event_text, find
from mockcn.state.volumes import Volumes

POOL_SIZE = 4 << 40  # bytes. A common size for one node
NAME_LENGTH = 255  # characters of a dataset's name, the snapshot's included
BAD_CHARACTER = re.compile(r"[^-A-Za-z0-9_.: ]")


class ZfsError(Exception):
    """An operation that was refused; the message is what zfs prints. Nothing has changed."""


class NoDataset(ZfsError):
    """The name is unknown (`dataset does not exist`)."""

    def __init__(self, name: str) -> None:
        super().__init__(f"cannot open '{name}': dataset does not exist")


class Pool:
    def __init__(self, name: str, guid: int) -> None:
        self.name = name
        self.guid = guid
        self.txg = 1000
        self.objects = 50  # numbers given to datasets and snapshots
        self.exported = False
        self.vdev, self.ashift = "mirror", 12  # what it is made of: mirror, raidz; sectors of 1 << ashift bytes
        self.root: Dataset

    def next_id(self) -> int:
        self.objects += 3
        return self.objects

    def next_txg(self) -> int:
        self.txg += 5
        return self.txg


class Pools:
    """All pools. Callers hold the node's lock."""

    def __init__(self, events: EventBus, mounts: Mounts, volumes: Volumes, hostname: str) -> None:
        self._events = events
        self._mounts = mounts
        self._volumes = volumes
        self._hostname = hostname
        self.pools: dict[str, Pool] = {}
        self.silent = False  # while the node is being populated: no events, as there is no listener

    # -- finding ---------------------------------------------------------------------------------------------------

    def roots(self) -> list[Dataset]:
        return [self.pools[name].root for name in sorted(self.pools) if not self.pools[name].exported]

    def pool_of(self, name: str) -> Pool:
        pool = self.pools.get(re.split("[/@]", name, maxsplit=1)[0])
        if pool is None or pool.exported:
            raise NoDataset(name)
        return pool

    def dataset(self, name: str) -> Dataset:
        """The filesystem or volume of that name. Raises NoDataset, or ZfsError for a malformed name."""
        if not name or name.startswith("/") or name.endswith("/") or "//" in name:
            what = (
                "leading slash"
                if name.startswith("/")
                else "trailing slash"
                if name.endswith("/")
                else "empty component or misplaced '@' or '#' delimiter"
            )
            raise ZfsError(f"cannot open '{name}': {what} in name")
        found: Optional[Dataset] = self.pool_of(name).root
        for label in name.split("/")[1:]:
            found = found.children.get(label) if found else None
        if found is None:
            raise NoDataset(name)
        return found

    def snapshot_named(self, name: str) -> Snapshot:
        dataset, _, snap = name.partition("@")
        try:
            found = self.dataset(dataset).snapshots.get(snap)
        except NoDataset:
            found = None
        if found is None:
            raise NoDataset(name)
        return found

    def thing(self, name: str) -> Thing:
        return self.snapshot_named(name) if "@" in name else self.dataset(name)

    def exists(self, name: str) -> bool:
        try:
            self.thing(name)
        except ZfsError:
            return False
        return True

    def value(self, dataset: Dataset, name: str) -> Value:
        """The effective value of a property that can be set."""
        prop = find(name)
        assert prop is not None
        return dataset.effective(prop)

    def available(self, dataset: Dataset) -> int:
        """Free bytes: what the pool has left, less where a quota on the way up allows less."""
        root = self.pool_of(dataset.name).root
        free = POOL_SIZE - root.used()
        step: Optional[Dataset] = dataset
        while step is not None:
            quota = int(step.props.get("quota", 0))
            if quota:
                free = min(free, quota - step.used())
            step = step.parent
        return max(0, free)

    def add_pool(self, name: str, guid: int, mountpoint: Optional[str] = None) -> Pool:
        pool = self.pools[name] = Pool(name, guid)
        pool.root = Dataset(None, name, "filesystem", int(time.time()), 1, 21)
        if mountpoint is not None:
            pool.root.props["mountpoint"] = mountpoint
        self._mounts.make(pool.root)
        return pool

    def pool_event(self, pool: str, action: str, text: str) -> None:
        """A history event about the pool as a whole: it names no dataset."""
        known = self.pools[pool]
        self._publish(
            known, {"history_internal_name": action, "history_hostname": self._hostname, "history_internal_str": text}
        )

    def scrub(self, pool: str) -> None:
        self.pool_event(pool, "scan setup", "func=1 mintxg=0 maxtxg=482244")
        self.pool_event(pool, "scan done", "errors=0")

    def _setting(self, key: str, value: Value) -> str:
        prop = find(key)
        return f"{key}={event_text(prop, value) if prop else value}"

    def _history(self, action: str, thing: Thing, text: str = " ") -> None:
        self._event(action, full_name(thing), text, thing.dsid)

    def _event(self, action: str, name: str, text: str, number: int) -> None:
        if not self.silent:
            self._publish(
                self.pool_of(name),
                {
                    "history_internal_name": action,
                    "history_hostname": self._hostname,
                    "history_dsname": name,
                    "history_internal_str": text,
                    "history_dsid": number,
                },
            )

    def _publish(self, pool: Pool, data: dict[str, Any]) -> None:
        if self.silent:
            return
        self._events.publish(
            Event(
                "SUNW",
                "zfs",
                "EC_zfs",
                "ESC_ZFS_history_event",
                0,
                {
                    "pool_name": pool.name,
                    "pool_guid": pool.guid,
                    **data,
                    "history_txg": pool.next_txg(),
                    "history_time": int(time.time()),
                },
            )
        )

    def _check_new(self, name: str, parents: bool) -> None:
        where = f"cannot create '{name}': "
        for label in name.split("/"):
            bad = BAD_CHARACTER.search(label)
            if bad is not None:
                raise ZfsError(f"{where}invalid character {bad.group()} in name")
            if not label:
                raise ZfsError(f"{where}empty component in name")
        if len(name) > NAME_LENGTH:
            raise ZfsError(f"{where}name is too long")
        if self.exists(name):
            raise ZfsError(f"{where}dataset already exists")
        if "/" not in name or name.split("/")[0] not in self.pools:
            raise ZfsError(
                f"{where}no such pool '{name.split('/')[0]}'" if "/" in name else f"{where}missing dataset name"
            )
        above = name.rsplit("/", 1)[0]
        if not parents and not self.exists(above):
            raise ZfsError(f"{where}parent does not exist")
        if self.exists(above) and self.dataset(above).kind != "filesystem":
            raise ZfsError(f"{where}parent is not a filesystem")


def full_name(thing: Thing) -> str:
    """The name of a dataset, or DATASET@SNAPSHOT."""
    return thing.full_name if isinstance(thing, Snapshot) else thing.name
