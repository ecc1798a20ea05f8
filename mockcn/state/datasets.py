# SPDX-License-Identifier: MPL-2.0
"""Datasets and snapshots: the tree in memory, its values, and the rows that `zfs list` prints.

Always: a dataset knows its children and its snapshots by name, so that work on one never looks at all.
Always: `touch()` follows each change of a value, since the printed rows of a dataset with its snapshots are kept.
Space is bookkeeping, not blocks: a dataset has `referenced` and `written` (since its newest snapshot) bytes, a snapshot
`written` (since the one before) and `unique` (what its destruction frees). Destroying one hands the rest of what it
had written to its successor, as zfs accounts it.
Not here: commands, events, errors for people (pools.py and the commands), files (mounts.py)."""

import functools
from typing import Any, Callable, Iterator, Optional, Union

from mockcn.state.properties import PROPERTIES, Property, Value, find, show

FULL_INDIRECT = 131072  # bytes of one indirect block of a volume
POINTERS_PER_BLOCK = 1024  # block pointers in one of those
AUTO = "auto"  # a refreservation that is to follow from the size; never kept as a value


def guid_of(dsid: int, txg: int) -> int:
    return (dsid * 0x9E3779B97F4A7C15 + txg) & 0xFFFFFFFFFFFFFFFF


class Snapshot:
    """A snapshot. `files` are what the dataset held at that time: a filesystem's files (trees.py), a volume's
    extents (volumes.py), None if they were not kept."""

    __slots__ = (
        "clones",
        "creation",
        "deferred",
        "dsid",
        "files",
        "guid",
        "holds",
        "name",
        "parent",
        "props",
        "referenced",
        "txg",
        "unique",
        "volsize",
        "written",
    )

    def __init__(self, parent: "Dataset", name: str, creation: int, txg: int, dsid: int) -> None:
        self.parent = parent
        self.name = name
        self.creation: int = creation
        self.txg: int = txg
        self.dsid: int = dsid
        self.guid: int = guid_of(dsid, txg)  # a received one has its source's
        self.written: int = parent.written
        self.unique: int = 0
        self.referenced: int = parent.referenced
        self.volsize: Optional[Value] = parent.props.get("volsize")
        self.holds: dict[str, int] = {}  # tag -> seconds since the epoch
        self.clones: Optional[set[Dataset]] = None
        self.props: dict[str, str] = {}  # user properties
        self.files: Any = None
        self.deferred: bool = False

    @property
    def full_name(self) -> str:
        return f"{self.parent.name}@{self.name}"


class Dataset:
    """A filesystem or volume. `props` are the values set here (`local`); the rest is inherited or default."""

    __slots__ = (
        "aside",
        "children",
        "creation",
        "dsid",
        "kind",
        "label",
        "name",
        "origin",
        "parent",
        "props",
        "referenced",
        "rows",
        "snapshots",
        "txg",
        "unmounted",
        "written",
    )

    def __init__(self, parent: "Optional[Dataset]", label: str, kind: str, creation: int, txg: int, dsid: int) -> None:
        self.parent = parent
        self.label = label  # the last part of the name
        self.name: str = f"{parent.name}/{label}" if parent else label
        self.kind: str = kind  # filesystem or volume
        self.creation: int = creation
        self.txg: int = txg
        self.dsid: int = dsid
        self.props: dict[str, Value] = {}
        self.children: dict[str, Dataset] = {}
        self.snapshots: dict[str, Snapshot] = {}  # oldest first
        self.origin: Optional[Snapshot] = None
        self.referenced: int = 24576 if kind == "filesystem" else 12288
        self.written: int = self.referenced
        self.rows: dict[Any, bytes] = {}  # printed rows by columns and kinds; see Listing
        self.unmounted = False  # by zfs unmount; a new dataset is mounted where its properties say
        self.aside: Optional[str] = None  # where its files are while it is not mounted (mounts.py)

    def touch(self, deep: bool = False) -> None:
        """Forget the printed rows, of all descendants too if `deep` (names and inherited values)."""
        self.rows = {}
        if deep:
            for child in self.children.values():
                child.touch(deep=True)

    def sorted_children(self) -> "list[Dataset]":
        return [self.children[label] for label in sorted(self.children)]

    def descendants(self) -> "Iterator[Dataset]":
        """This dataset and all below, parents first, in the order of zfs list."""
        yield self
        for child in self.sorted_children():
            yield from child.descendants()

    def renamed(self) -> None:
        """Give this dataset and all below the names that follow from label and parent."""
        self.name = f"{self.parent.name}/{self.label}" if self.parent else self.label
        self.rows = {}
        for child in self.children.values():
            child.renamed()

    def effective(self, prop: Property) -> Value:
        """The value of a property that can be set: from here, an ancestor, or the default."""
        if prop.name in self.props:
            return self.props[prop.name]
        if prop.name == "mountpoint":
            above = self.parent.effective(prop) if self.parent else ""
            if above in ("none", "legacy"):
                return above
            return f"{str(above).rstrip('/')}/{self.label}"
        if prop.inherits and self.parent is not None:
            return self.parent.effective(prop)
        return prop.default

    def source(self, prop: Property) -> str:
        """Where a value comes from, as zfs get says it."""
        if prop.readonly:
            return "-"
        if prop.name in self.props:
            return "local"
        above = self.parent
        while prop.inherits and above is not None:
            if prop.name in above.props:
                return f"inherited from {above.name}"
            above = above.parent
        return "default"

    def used_by_snapshots(self) -> int:
        return sum([snapshot.unique for snapshot in self.snapshots.values()])

    def used_by_refreservation(self) -> int:
        return max(0, int(self.props.get("refreservation", 0)) - self.referenced)

    def used_by_children(self) -> int:
        return sum([child.used() for child in self.children.values()])

    def used(self) -> int:
        below = self.used_by_children()
        return self.referenced + self.used_by_snapshots() + self.used_by_refreservation() + below

    def mounted_at(self) -> Optional[str]:
        """The node path where this filesystem is mounted; None for volumes, legacy, none, delegated ones."""
        return None if self.unmounted else self.mountpoint()

    def mountpoint(self) -> Optional[str]:
        """The node path where it is, or would be, mounted."""
        if self.kind != "filesystem" or self.effective(PROPERTIES["zoned"]) == "on":
            return None
        path = str(self.effective(PROPERTIES["mountpoint"]))
        return path if path.startswith("/") and self.effective(PROPERTIES["canmount"]) == "on" else None

    def space_written(self, size: int) -> None:
        """Account `size` bytes of new data. No event reports that."""
        self.referenced += size
        self.written += size
        self.touch()

    def drop_snapshot(self, name: str) -> None:
        """Remove a snapshot; what it had written and does not free is now its successor's."""
        gone = self.snapshots[name]
        names = list(self.snapshots)
        place = names.index(name)
        kept = max(0, gone.written - gone.unique)
        if place + 1 < len(names):
            self.snapshots[names[place + 1]].written += kept
        else:
            self.written += kept
        del self.snapshots[name]
        self.touch()


Thing = Union[Dataset, Snapshot]

# Values that change with other datasets; rows that show them are never kept.
OF_OTHERS = ("available", "used", "usedbychildren", "clones", "origin", "mounted")


def volume_reservation(volsize: int, block: int, copies: int = 1) -> int:
    """Bytes that a full volume can need: its data, and one more copy than of those of the blocks that point to them."""
    blocks = 7  # the object set's own
    level = volsize // block
    while level > 1:
        level = (level + POINTERS_PER_BLOCK - 1) // POINTERS_PER_BLOCK
        blocks += level
    return volsize * copies + min(3, copies + 1) * blocks * FULL_INDIRECT


def value_of(thing: Thing, prop: Property, available: Callable[[Dataset], int]) -> Any:
    """The value of `prop`, None where the thing has no such property; `available` knows the pool's free space."""
    letter = "s" if isinstance(thing, Snapshot) else thing.kind[0]
    if letter not in prop.on:
        return None
    if isinstance(thing, Snapshot):
        return _snapshot_value(thing, prop)
    if prop.name == "volsize":
        return thing.props.get("volsize", 0)
    if prop.name == "available":
        return available(thing)
    if prop.readonly and prop.name != "volblocksize":
        reader = _DATASET_VALUES.get(prop.name)
        return reader(thing) if reader else prop.default
    return thing.effective(prop)


def _snapshot_value(snapshot: Snapshot, prop: Property) -> Any:
    if prop.name == "clones":
        return ",".join(sorted(clone.name for clone in snapshot.clones or ()))
    if ":" in prop.name:
        return snapshot.props.get(prop.name, "-")
    reader = _SNAPSHOT_VALUES.get(prop.name)
    return reader(snapshot) if reader else prop.default


_DATASET_VALUES: dict[str, Callable[[Dataset], Any]] = {
    "name": lambda ds: ds.name,
    "type": lambda ds: ds.kind,
    "creation": lambda ds: ds.creation,
    "createtxg": lambda ds: ds.txg,
    "guid": lambda ds: guid_of(ds.dsid, ds.txg),
    "used": Dataset.used,
    "referenced": lambda ds: ds.referenced,
    "written": lambda ds: ds.written,
    "usedbysnapshots": Dataset.used_by_snapshots,
    "usedbydataset": lambda ds: ds.referenced,
    "usedbychildren": Dataset.used_by_children,
    "usedbyrefreservation": Dataset.used_by_refreservation,
    "origin": lambda ds: ds.origin.full_name if ds.origin else "-",
    "mounted": lambda ds: "yes" if ds.mounted_at() else "no",
}
_SNAPSHOT_VALUES: dict[str, Callable[[Snapshot], Any]] = {
    "name": lambda snap: snap.full_name,
    "type": lambda snap: "snapshot",
    "creation": lambda snap: snap.creation,
    "createtxg": lambda snap: snap.txg,
    "guid": lambda snap: snap.guid,
    "used": lambda snap: snap.unique,
    "referenced": lambda snap: snap.referenced,
    "written": lambda snap: snap.written,
    "userrefs": lambda snap: len(snap.holds),
    "volsize": lambda snap: "-" if snap.volsize is None else snap.volsize,
    "defer_destroy": lambda snap: "on" if snap.deferred else "off",
}


class Listing:
    """How to print rows for one set of columns and kinds. `block()` gives a dataset's own row and its snapshots'."""

    def __init__(
        self, columns: list[str], kinds: frozenset[str], parsable: bool, available: Callable[[Dataset], int]
    ) -> None:
        self.columns: list[Property] = []
        for name in columns:
            prop = find(name)
            assert prop is not None
            self.columns.append(prop)
        self.kinds = kinds
        self.parsable = parsable
        self._available = available
        self._key = (tuple(columns), parsable)
        self._keep = not any(prop.name in OF_OTHERS for prop in self.columns)
        self._template, self._varying = self._snapshot_template()

    def own_row(self, dataset: Dataset) -> bytes:
        return self._kept(dataset, "own", lambda: self.row(dataset))

    def snapshot_rows(self, dataset: Dataset) -> bytes:
        if not dataset.snapshots:
            return b""
        return self._kept(dataset, "snapshots", lambda: self._all_snapshots(dataset))

    def cells(self, thing: Thing) -> list[str]:
        return [show(prop, value_of(thing, prop, self._available), self.parsable) for prop in self.columns]

    def row(self, thing: Thing) -> bytes:
        return "\t".join(self.cells(thing)).encode("utf-8", "surrogateescape") + b"\n"

    def _kept(self, dataset: Dataset, what: str, make: Callable[[], bytes]) -> bytes:
        if not self._keep:
            return make()
        key = (what, self._key)
        rows = dataset.rows.get(key)
        if rows is None:
            rows = dataset.rows[key] = make()
        return rows

    def _snapshot_template(self) -> tuple[str, list[tuple[Property, Callable[[Snapshot], Any]]]]:
        # Snapshots come by the hundred thousand and most of their columns are "-": those are text of the template.
        parts: list[str] = []
        varying: list[tuple[Property, Callable[[Snapshot], Any]]] = []
        for prop in self.columns:
            reader = _SNAPSHOT_VALUES.get(prop.name) if "s" in prop.on else None
            if "s" not in prop.on:
                parts.append("-")
            elif reader is None:
                parts.append("%s")
                varying.append((prop, functools.partial(_snapshot_value, prop=prop)))
            else:
                parts.append("%s")
                varying.append((prop, reader))
        return "\t".join(parts) + "\n", varying

    def _all_snapshots(self, dataset: Dataset) -> bytes:
        template, varying = self._template, self._varying
        if self.parsable:
            readers = [reader for _, reader in varying]
            text = "".join(
                [template % tuple([reader(snap) for reader in readers]) for snap in dataset.snapshots.values()]
            )
        else:
            text = "".join(
                [
                    template % tuple([show(prop, reader(snap), False) for prop, reader in varying])
                    for snap in dataset.snapshots.values()
                ]
            )
        return text.encode("utf-8", "surrogateescape")
