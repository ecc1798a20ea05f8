# SPDX-License-Identifier: MPL-2.0
"""The zfs operations that create and change: each checks, changes state and files, and tells.

Always: an operation checks everything first; when it raises ZfsError nothing has changed and no event went out.
Always: one history event for each dataset or snapshot really changed, in the words that OpenZFS was recorded to use:
        a rollback is `clone swap` on NAME/%rollback and its `destroy`, an incremental receive runs on NAME/%recv, a
        rename carries the old name and `-> new`, renaming a parent or promoting is one event (docs/platform.md, "ZFS
        history events").
Not here: options of the zfs command and how its errors are printed (commands/)."""

import time
from typing import Any, Iterable, Optional

from mockcn.state.datasets import Dataset, Snapshot, Thing, volume_reservation
from mockcn.state.destroying import Destroying
from mockcn.state.mounts import Files
from mockcn.state.pools import BAD_CHARACTER, NAME_LENGTH, ZfsError, full_name
from mockcn.state.properties import BadValue, Property, Value, event_text, find, parse


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
                dataset.props.setdefault(
                    "refreservation", volume_reservation(volsize, int(dataset.props["volblocksize"]))
                )
        parent.children[dataset.label] = dataset
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
        clone.origin = snapshot
        clone.referenced, clone.written = snapshot.referenced, 0
        snapshot.clones = (snapshot.clones or set()) | {clone}
        parent.children[clone.label] = clone
        self._mounts.make(clone, snapshot.files if files is None else files)
        self._history("clone", clone, f"origin={snapshot.full_name} ({snapshot.dsid})")
        for key, value in (props or {}).items():
            self._history("set", clone, self._setting(key, value))
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
        files: Optional[Files] = None,
    ) -> Snapshot:
        """One snapshot, of a name that is known to be good and new; `files` if they need not be read again."""
        pool = self.pool_of(dataset.name)
        snapshot = Snapshot(
            dataset, name, int(time.time()) if creation is None else creation, pool.next_txg(), pool.next_id()
        )
        snapshot.unique = snapshot.written // 3
        snapshot.props.update(props or {})
        snapshot.files = self._mounts.capture(dataset) if files is None else files
        dataset.snapshots[name] = snapshot
        dataset.written = 0
        dataset.touch()
        self._history("snapshot", snapshot)
        for key, value in (props or {}).items():
            self._history("set", snapshot, f"{key}={value}")
        return snapshot

    def check_set(self, thing: Thing, name: str, text: str) -> tuple[Property, Value]:
        """The row and value that `name=text` sets on `thing`. Raises ZfsError as zfs set would."""
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
            text = str(
                volume_reservation(
                    int(thing.props["volsize"]), int(thing.props["volblocksize"]), int(thing.props.get("copies", 1))
                )
            )
        try:
            value = parse(prop, text)
        except BadValue as err:
            raise ZfsError(where + str(err)) from err
        if isinstance(thing, Dataset):
            used = {"quota": thing.used(), "refquota": thing.referenced}.get(prop.name, 0)
            if used and 0 < int(value) < used:
                raise ZfsError(f"{where}size is less than current used or reserved space")
            if prop.name == "volsize":
                block = int(thing.props.get("volblocksize", 8192))
                if value == 0 or int(value) % block:
                    raise ZfsError(
                        f"{where}'volsize' "
                        + (f"must be a multiple of volume block size ({block})" if value else "cannot be zero")
                    )
        return prop, value

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
            self._remounting(thing, prop, lambda prop=prop, value=value: thing.props.update({prop.name: value}))
            self._history("set", thing, self._setting(prop.name, value))

    def inherit(self, dataset: Dataset, prop: Property) -> None:
        self._remounting(dataset, prop, lambda: dataset.props.pop(prop.name, None))
        value = "" if ":" in prop.name else event_text(prop, dataset.effective(prop))
        self._history("inherit", dataset, f"{prop.name}={value}")

    def _resize(self, volume: Dataset, volsize: int) -> None:
        # A volume that was reserved in full stays so; the size itself makes no event.
        block = int(volume.props["volblocksize"])
        full = volume.props.get("refreservation") == volume_reservation(int(volume.props["volsize"]), block)
        volume.props["volsize"] = volsize
        volume.touch()
        if full:
            volume.props["refreservation"] = volume_reservation(volsize, block)
            self._history("set", volume, f"refreservation={volume.props['refreservation']}")

    def _remounting(self, dataset: Dataset, prop: Property, change: Any) -> None:
        """Do `change`; where it moves mountpoints, the folders move along."""
        moving = prop.name in ("mountpoint", "zoned", "canmount")
        before = [(below, below.mounted_at()) for below in dataset.descendants()] if moving else []
        change()
        dataset.touch(deep=prop.inherits)
        for below, old in before:
            self._mounts.move(old, below.mounted_at())

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
        before = [(below, below.mounted_at()) for below in dataset.descendants()]
        del dataset.parent.children[dataset.label]
        dataset.parent, dataset.label = parent, new.rsplit("/", 1)[1]
        parent.children[dataset.label] = dataset
        dataset.renamed()
        for below, where in before:
            self._mounts.move(where, below.mounted_at())
        self._event("rename", old, f"-> {new}", dataset.dsid)

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
            self._mounts.restore(dataset, snapshot.files)
        self._swap(dataset, "%rollback", snapshot.txg)

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

    def receive(
        self,
        name: str,
        snap: str,
        *,
        written: int = 1 << 20,
        interrupted: bool = False,
        files: Optional[Files] = None,
        props: Optional[dict[str, Value]] = None,
    ) -> Dataset:
        """What `zfs receive` does: a new filesystem `name` with snapshot `snap`, or the next snapshot of one that
        exists, which runs on a hidden clone. `files` are what the stream brings."""
        incremental = self.exists(name)
        if incremental:
            dataset = self.dataset(name)
            hidden = f"{name}/%recv"
            if snap in dataset.snapshots:
                raise ZfsError(f"cannot receive incremental stream: destination '{name}@{snap}' exists")
            number = self.pool_of(name).next_id()
        else:
            self._check_new(name, False)
            pool = self.pool_of(name)
            parent = self._parent(name, False)
            dataset = Dataset(
                parent, name.rsplit("/", 1)[1], "filesystem", int(time.time()), pool.next_txg(), pool.next_id()
            )
            dataset.props.update(props or {})
            parent.children[dataset.label] = dataset
            hidden, number = name, dataset.dsid
        self._event("receive", hidden, " ", number)
        if interrupted:
            return dataset
        dataset.space_written(written)
        self._event("finish receiving", hidden, f"snap={snap}", number)
        if files is not None and incremental:
            self._mounts.restore(dataset, files)
        elif not incremental:
            self._mounts.make(dataset, files)
        taken = Snapshot(dataset, snap, int(time.time()), self.pool_of(name).next_txg(), self.pool_of(name).next_id())
        taken.unique = taken.written // 3
        taken.files = self._mounts.capture(dataset)
        dataset.snapshots[snap] = taken
        dataset.written = 0
        dataset.touch()
        if incremental:
            self._event("clone swap", hidden, f"parent={dataset.label}", number)
        self._history("snapshot", taken)
        if incremental:
            self._event("destroy", hidden, f"(bptree, mintxg={taken.txg})", number)
        return dataset

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
