# SPDX-License-Identifier: MPL-2.0
"""The zfs operations that create and change: each checks, changes state and files, and publishes an event.

Always: an operation checks everything first; when it raises ZfsError nothing has changed and no event went out.
Always: one history event for each dataset or snapshot really changed, in the words that OpenZFS was recorded to use:
        a rollback is `clone swap` on NAME/%rollback and its `destroy`, a rename carries the old name and `-> new`,
        renaming a parent or promoting is one event (docs/platform.md, "ZFS history events").
Not here: options of the zfs command and how its errors are printed (commands/), streams (receiving.py)."""

import functools
import time
from typing import Any, Callable, Iterable, Optional

from mockcn.state.datasets import AUTO, Dataset, Snapshot, Thing, volume_reservation
from mockcn.state.destroying import Destroying
from mockcn.state.pools import BAD_CHARACTER, NAME_LENGTH, ZfsError, full_name
from mockcn.state.properties import BadValue, Property, Value, event_text, find, parse
from mockcn.state.trees import Files
from mockcn.state.volumes import Extents


class Operations(Destroying):
    """All that can be done to datasets. Callers hold the node's lock."""

    def create(
        self,
        name: str,
        props: Optional[dict[str, Value]] = None,
        *,
        volsize: Optional[int] = None,
        sparse: bool = False,
        parents: bool = False,
        creation: Optional[int] = None,
    ) -> Dataset:
        """Create a filesystem, or a volume of `volsize` bytes. `props` are values as parse() gives them."""
        self._check_new(name, parents)
        parent = self._parent(name, parents)
        pool = self.pool_of(name)
        dataset = Dataset(
            parent,
            name.rsplit("/", 1)[1],
            "filesystem" if volsize is None else "volume",
            int(time.time()) if creation is None else creation,
            pool.next_txg(),
            pool.next_id(),
        )
        dataset.props.update(props or {})
        if volsize is not None:
            dataset.props["volsize"] = volsize
            dataset.props.setdefault("volblocksize", 8192)
            if not sparse:
                dataset.props.setdefault("refreservation", AUTO)
            self._reserve(dataset)
        parent.children[dataset.label] = dataset
        if dataset.kind == "volume":
            self._volumes.make(dataset, [])
        else:
            self._mounts.make(dataset)
        self._history("create", dataset)
        self._announce_props(dataset)
        return dataset

    def clone(
        self,
        snapshot: Snapshot,
        name: str,
        props: Optional[dict[str, Value]] = None,
        *,
        parents: bool = False,
        files: Optional[Files] = None,
    ) -> Dataset:
        """A writable copy of a snapshot, with its files, or with `files` in place of them."""
        origin = snapshot.parent
        self._check_new(name, parents)
        if self.pool_of(name) is not self.pool_of(origin.name):
            raise ZfsError(f"cannot create '{name}': source and target pools differ")
        parent = self._parent(name, parents)
        pool = self.pool_of(name)
        clone = Dataset(parent, name.rsplit("/", 1)[1], origin.kind, int(time.time()), pool.next_txg(), pool.next_id())
        clone.props.update({key: origin.props[key] for key in ("volsize", "volblocksize") if key in origin.props})
        if snapshot.volsize is not None:
            clone.props["volsize"] = snapshot.volsize
        clone.props.update(props or {})
        self._reserve(clone)
        clone.origin = snapshot
        clone.referenced, clone.written = snapshot.referenced, 0
        snapshot.clones = (snapshot.clones or set()) | {clone}
        parent.children[clone.label] = clone
        if clone.kind == "volume":
            self._volumes.make(clone, snapshot.files or [])
        else:
            self._mounts.make(clone, snapshot.files if files is None else files)
        self._history("clone", clone, f"origin={snapshot.full_name} ({snapshot.dsid})")
        for key in props or {}:
            self._history("set", clone, self._setting(key, clone.props[key]))
        return clone

    def snapshot(
        self,
        names: Iterable[str],
        *,
        recursive: bool = False,
        creation: Optional[int] = None,
        props: Optional[dict[str, str]] = None,
    ) -> list[Snapshot]:
        """Take snapshots DATASET@NAME, all or none."""
        wanted: list[tuple[Dataset, str]] = []
        for full in names:
            name, _, snap = full.partition("@")
            top = self.dataset(name)
            wanted += [(dataset, snap) for dataset in (top.descendants() if recursive else [top])]
        for dataset, snap in wanted:
            full = f"{dataset.name}@{snap}"
            if not snap or "@" in snap or BAD_CHARACTER.search(snap):
                bad = BAD_CHARACTER.search(snap)
                what = f"invalid character '{bad.group()}'" if bad else "empty component or misplaced '@'"
                raise ZfsError(f"cannot create snapshot '{full}': {what} in name")
            if len(full) > NAME_LENGTH:
                raise ZfsError(f"cannot create snapshot '{full}': name is too long")
            if snap in dataset.snapshots:
                raise ZfsError(f"cannot create snapshot '{full}': dataset already exists\nno snapshots were created")
        if len({dataset for dataset, _ in wanted}) < len(wanted):
            raise ZfsError(
                "cannot create snapshots : multiple snapshots of same fs not allowed\nno snapshots were created"
            )
        return [self.take(dataset, snap, creation, props) for dataset, snap in wanted]

    def take(
        self,
        dataset: Dataset,
        name: str,
        creation: Optional[int] = None,
        props: Optional[dict[str, str]] = None,
        files: Any = None,
    ) -> Snapshot:
        """One snapshot, of a name that is known to be good and new; `files` if they need not be read again."""
        pool = self.pool_of(dataset.name)
        snapshot = Snapshot(
            dataset, name, int(time.time()) if creation is None else creation, pool.next_txg(), pool.next_id()
        )
        snapshot.unique = snapshot.written // 3
        snapshot.props.update(props or {})
        snapshot.files = self.captured(dataset) if files is None else files
        dataset.snapshots[name] = snapshot
        dataset.written = 0
        dataset.touch()
        self._history("snapshot", snapshot)
        for key, value in (props or {}).items():
            self._history("set", snapshot, f"{key}={value}")
        return snapshot

    def check_set(self, thing: Thing, name: str, text: str, *, room: bool = True) -> tuple[Property, Value]:
        """The row and value that `name=text` sets on `thing`; without `room` it may need any space. Raises ZfsError."""
        where = f"cannot set property for '{full_name(thing)}': "
        prop = find(name)
        if prop is None:
            raise ZfsError(f"{where}invalid property '{name}'")
        if prop.readonly:
            raise ZfsError(f"{where}'{prop.name}' is readonly")
        letter = "s" if isinstance(thing, Snapshot) else thing.kind[0]
        if letter not in prop.on or (letter == "s" and ":" not in prop.name):
            raise ZfsError(f"{where}'{prop.name}' does not apply to datasets of this type")
        if prop.name == "refreservation" and text == "auto":
            if isinstance(thing, Snapshot) or thing.kind != "volume":
                raise ZfsError(f"{where}'refreservation' can be 'auto' on volumes only")
            text = str(self._full_reservation(thing))
        try:
            value = parse(prop, text)
        except BadValue as err:
            raise ZfsError(where + str(err)) from err
        if isinstance(thing, Dataset) and room:
            reserved = max(thing.used(), int(thing.props.get("reservation", 0)))
            used = {"quota": reserved, "refquota": thing.referenced}.get(prop.name, 0)
            if used and 0 < int(value) < used:
                raise ZfsError(f"{where}size is less than current used or reserved space")
            if prop.name == "volsize":
                block = int(thing.props.get("volblocksize", 8192))
                if value == 0 or int(value) % block:
                    raise ZfsError(
                        f"{where}'volsize' "
                        + (f"must be a multiple of volume block size ({block})" if value else "cannot be zero")
                    )
            self._check_room(thing, prop.name, int(value) if isinstance(value, int) else 0)
        return prop, value

    def _check_room(self, dataset: Dataset, name: str, value: int) -> None:
        """Whether a new reservation, or a volume's new size with the reservation that follows, has room."""
        more = 0
        if name == "refreservation":
            more = max(0, value - dataset.referenced) - dataset.used_by_refreservation()
        elif name == "volsize" and dataset.props.get("refreservation") == self._full_reservation(dataset):
            more = self._full_reservation(dataset, value) - self._full_reservation(dataset)
        elif name == "reservation":
            quota = int(dataset.props.get("quota", 0))
            more = self.available(dataset) + 1 if quota and value > quota else value - dataset.used()
        if more > 0 and more > self.available(dataset):
            raise ZfsError(f"cannot set property for '{dataset.name}': size is greater than available space")

    def _reserve(self, volume: Dataset) -> None:
        """Settle the refreservation of a new volume: `auto` becomes bytes, for which there must be room."""
        if volume.props.get("refreservation") == AUTO:
            volume.props["refreservation"] = self._full_reservation(volume)
        assert volume.parent is not None
        wanted = int(volume.props.get("refreservation", 0)) if volume.kind == "volume" else 0
        if not self.silent and wanted > self.available(volume.parent):
            raise ZfsError(f"cannot create '{volume.name}': out of space")

    def _full_reservation(self, volume: Dataset, volsize: Optional[int] = None) -> int:
        size = int(volume.props["volsize"]) if volsize is None else volsize
        return volume_reservation(size, int(volume.props["volblocksize"]), int(self.value(volume, "copies")))

    def set(self, thing: Thing, settings: list[tuple[Property, Value]]) -> None:
        """Apply checked settings, in order, each with its event."""
        for prop, value in settings:
            if isinstance(thing, Snapshot):
                thing.props[prop.name] = str(value)
                thing.parent.touch()
                self._history("set", thing, f"{prop.name}={value}")
                continue
            if prop.name == "volsize":
                self._resize(thing, int(value))
                continue
            change = functools.partial(thing.props.update, {prop.name: value})
            refused = self._remounting(thing, prop, change)
            self._history("set", thing, self._setting(prop.name, value))
            _say_refused(refused)

    def inherit(self, dataset: Dataset, prop: Property) -> None:
        refused = self._remounting(dataset, prop, lambda: dataset.props.pop(prop.name, None))
        value = "" if ":" in prop.name else event_text(prop, dataset.effective(prop))
        self._history("inherit", dataset, f"{prop.name}={value}")
        _say_refused(refused)

    def _resize(self, volume: Dataset, volsize: int) -> None:
        # A volume that was reserved in full stays so; the size itself makes no event.
        full = volume.props.get("refreservation") == self._full_reservation(volume)
        volume.props["volsize"] = volsize
        self._volumes.resize(volume)
        volume.touch()
        if full:
            volume.props["refreservation"] = self._full_reservation(volume)
            self._history("set", volume, f"refreservation={volume.props['refreservation']}")

    def _remounting(self, dataset: Dataset, prop: Property, change: Callable[[], Any]) -> list[str]:
        """Do `change`; where it moves mountpoints, the folders move along. The mountpoints that were not to be had."""
        refused: list[str] = []
        if prop.name in ("mountpoint", "zoned", "canmount"):
            refused = self._moving(dataset, change)
        else:
            change()
        dataset.touch(deep=prop.inherits)
        return refused

    def _moving(self, dataset: Dataset, change: Callable[[], Any]) -> list[str]:
        """Do `change`; what is mounted elsewhere because of it goes there with its files, as far as it can."""
        everything = [below for below in dataset.descendants() if below.kind == "filesystem"]
        before = [(below, below.mounted_at()) for below in everything]
        change()
        moved = [(below, old) for below, old in before if below.mounted_at() != old]
        for below, old in reversed(moved):
            if old is not None:
                self._mounts.leave(below, old)
        refused = []
        for below, _ in moved:
            new = below.mounted_at()
            if new is not None and not self._mounts.arrive(below, new):
                below.unmounted = True
                refused.append(new)
        return refused

    def captured(self, dataset: Dataset) -> Any:
        """What the dataset holds now, as a snapshot keeps it."""
        return self._volumes.capture(dataset) if dataset.kind == "volume" else self._mounts.capture(dataset)

    def hold(self, snapshots: list[Snapshot], tag: str) -> None:
        for snapshot in snapshots:
            if tag in snapshot.holds:
                raise ZfsError(f"cannot hold snapshot '{snapshot.full_name}': tag already exists on this dataset")
        for snapshot in snapshots:
            snapshot.holds[tag] = int(time.time())
            snapshot.parent.touch()
            self._history("hold", snapshot, f"tag={tag} temp=0 refs={len(snapshot.holds)}")

    def release(self, snapshots: list[Snapshot], tag: str) -> None:
        for snapshot in snapshots:
            if tag not in snapshot.holds:
                raise ZfsError(f"cannot release hold from snapshot '{snapshot.full_name}': no such tag on this dataset")
        for snapshot in snapshots:
            del snapshot.holds[tag]
            snapshot.parent.touch()
            self._history("release", snapshot, f"tag={tag} refs={len(snapshot.holds)}")
            if snapshot.deferred and not snapshot.holds and not snapshot.clones:
                self._drop(snapshot)

    def rename(self, dataset: Dataset, new: str, *, parents: bool = False) -> None:
        old = dataset.name
        if self.pool_of(old) is not self.pools.get(new.split("/")[0]):
            raise ZfsError(f"cannot rename to '{new}': datasets must be within same pool")
        if self.exists(new):
            raise ZfsError(f"cannot rename '{old}': dataset already exists")
        if dataset.parent is None or new.startswith(old + "/"):
            raise ZfsError(f"cannot rename to '{new}': New dataset name cannot be a descendant of current dataset name")
        self._check_new(new, parents)
        parent = self._parent(new, parents)
        above = dataset.parent
        volumes = [(below, below.name) for below in dataset.descendants() if below.kind == "volume"]

        def move() -> None:
            del above.children[dataset.label]
            dataset.parent, dataset.label = parent, new.rsplit("/", 1)[1]
            parent.children[dataset.label] = dataset
            dataset.renamed()
            for volume, was in volumes:
                self._volumes.rename(was, volume.name)

        refused = self._moving(dataset, move)
        self._event("rename", old, f"-> {new}", dataset.dsid)
        _say_refused(refused)

    def rename_snapshot(self, snapshots: list[Snapshot], new: str) -> None:
        for snapshot in snapshots:
            if new in snapshot.parent.snapshots:
                raise ZfsError(f"cannot rename '{snapshot.full_name}': dataset already exists")
        for snapshot in snapshots:
            old, parent = snapshot.full_name, snapshot.parent
            parent.snapshots = {
                new if name == snapshot.name else name: value for name, value in parent.snapshots.items()
            }
            snapshot.name = new
            parent.touch()
            self._event("rename", old, f"-> @{new}", snapshot.dsid)

    def rollback(self, snapshot: Snapshot, *, destroy_newer: bool = False, destroy_clones: bool = False) -> None:
        """Back to `snapshot`; files come back too, without events on the old ones."""
        dataset = snapshot.parent
        names = list(dataset.snapshots)
        newer = [dataset.snapshots[name] for name in names[names.index(snapshot.name) + 1 :]]
        if newer and not destroy_newer:
            listing = "\n".join(snap.full_name for snap in newer)
            raise ZfsError(
                f"cannot rollback to '{snapshot.full_name}': more recent snapshots or bookmarks exist\n"
                f"use '-r' to force deletion of the following snapshots and bookmarks:\n{listing}"
            )
        self.destroy_snapshots(newer, with_clones=destroy_clones)
        dataset.referenced, dataset.written = snapshot.referenced, 0
        if snapshot.volsize is not None:
            dataset.props["volsize"] = snapshot.volsize
        dataset.touch()
        if snapshot.files is not None:
            self._put_back(dataset, snapshot.files)
        self._swap(dataset, "%rollback", snapshot.txg)

    def fill_volume(self, volume: Dataset, content: Extents) -> None:
        """Replace what is on the volume."""
        self._volumes.restore(volume, content)

    def _put_back(self, dataset: Dataset, files: Any) -> None:
        if dataset.kind == "volume":
            self._volumes.restore(dataset, files)
        else:
            self._mounts.restore(dataset, files)

    def promote(self, clone: Dataset) -> None:
        origin = clone.origin
        if origin is None:
            raise ZfsError(f"cannot promote '{clone.name}': not a cloned filesystem")
        old = origin.parent
        names = list(old.snapshots)
        moving = [old.snapshots[name] for name in names[: names.index(origin.name) + 1]]
        for snapshot in moving:
            if snapshot.name in clone.snapshots:
                raise ZfsError(
                    f"cannot promote '{clone.name}': snapshot name '{snapshot.full_name}' "
                    f"from origin \nconflicts with '{clone.name}' from target"
                )
        for snapshot in moving:
            del old.snapshots[snapshot.name]
            snapshot.parent = clone
        clone.snapshots = {**{snapshot.name: snapshot for snapshot in moving}, **clone.snapshots}
        clone.origin, old.origin = old.origin, origin
        assert origin.clones is not None
        origin.clones = (origin.clones - {clone}) | {old}
        clone.touch()
        old.touch()
        self._history("promote", clone)

    def _swap(self, dataset: Dataset, hidden: str, txg: int) -> None:
        number = self.pool_of(dataset.name).next_id()
        self._event("clone swap", f"{dataset.name}/{hidden}", f"parent={dataset.label}", number)
        self._event("destroy", f"{dataset.name}/{hidden}", f"(bptree, mintxg={txg})", number)

    def _announce_props(self, dataset: Dataset) -> None:
        for key, value in dataset.props.items():
            if key not in ("volsize", "volblocksize"):
                self._history("set", dataset, self._setting(key, value))

    def _parent(self, name: str, parents: bool) -> Dataset:
        above = name.rsplit("/", 1)[0]
        if parents and not self.exists(above):
            self.create(above, parents=True)
        return self.dataset(above)


def _say_refused(mountpoints: list[str]) -> None:
    if mountpoints:
        raise ZfsError(f"cannot mount '{mountpoints[0]}': directory is not empty")
