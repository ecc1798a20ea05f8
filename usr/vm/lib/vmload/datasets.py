# SPDX-License-Identifier: MPL-2.0
"""`zfs list -H -p`: its text to datasets, mountpoints and snapshots (docs/platform.md, "zfs list"). Pure.

Always: a Datasets is consistent in itself: every path in `mountpoints` names a dataset in `datasets`. It is not changed
        once it is built, so readers need no lock.
A node can hold 100,000 snapshots and a few thousand datasets. So only snapshots are kept that can show in a VM object,
and of their 17 columns the four that are needed for it; and rows are read in slices, since Python lets no other thread
run while it splits a text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

from jsvalues.numberrule import WHITE_SPACE, Number, number
from vmload.loaderror import GarbledOutput
from vmload.sharing import shared

# All that a whole VM object needs, in the order in which zfs prints them: sorted by name (docs/platform.md, "zfs
# list").
FIELDS = (
    "compression",
    "creation",
    "filesystem_limit",
    "mountpoint",
    "name",
    "quota",
    "recsize",
    "refquota",
    "refreservation",
    "snapshot_limit",
    "type",
    "usedbysnapshots",
    "userrefs",
    "volblocksize",
    "volsize",
    "written",
    "zoned",
)
TYPES = ("filesystem", "snapshot", "volume")

# From a pool's root dataset down: zones/U is 1 deep, zones/U/data 2, and zones/U/data@indestructible 3. The original
# asks for 2 and so loses indestructible_delegated at each full load (docs/platform.md, "Which datasets are listed").
DEPTH_OF_ALL = 3
# From a VM's root dataset down to those right below it, and to its own snapshots.
DEPTH_OF_ROOT = 1
# Any other dataset of a VM: nothing below it shows.
DEPTH_OF_ONE = 0

# Enough to know what is mounted where.
MOUNT_FIELDS = ("mountpoint", "name", "type", "zoned")
MOUNT_TYPES = ("filesystem",)

DELEGATED = "data"  # the last component of the name of the dataset that vmadm delegates, below the root dataset
_INDESTRUCTIBLE = "indestructible"
_MADE_BY_VMADM = "vmsnap-"
_NOT_THERE = "dataset does not exist"

_NUMERIC = frozenset(
    "available avail copies creation filesystem_limit quota recordsize recsize refer referenced refquota refreserv "
    "refreservation reserv reservation snapshot_limit used usedbychildren usedbydataset usedbyrefreservation "
    "usedbysnapshots userrefs utf8only version volblock volblocksize volsize written".split()
)

_SLICE = 64 << 10  # bytes of rows that are decoded and split at once

_ZVOL_PREFIXES = ("/dev/zvol/rdsk/", "/dev/zvol/dsk/")


Children = dict[str, list[str]]


# One snapshot of the dataset under which it is kept: its name, when it was created (seconds since the epoch), the bytes
# written since the one before, its holds; None: that column was not asked for. A plain tuple, and no class of its own:
# Python's garbage collector stops the whole daemon while it looks through all objects, but not at such tuples.
Snapshot = tuple[str, Any, Any, Number]


@dataclass(frozen=True, slots=True)
class Datasets:
    """What zfs said of some datasets, or of all.

    `datasets`: name -> the row's columns, for filesystems and volumes; numeric columns as numbers, `-` as it is.
    `mountpoints`: path -> dataset name. `snapshots`: dataset name -> its snapshots that can show in the
    object of a VM, in the order of the listing."""

    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    mountpoints: dict[str, str] = field(default_factory=dict)
    snapshots: dict[str, list[Snapshot]] = field(default_factory=dict)

    def holds_indestructible(self, dataset: str) -> bool:
        """Whether `dataset` has a snapshot named `indestructible` that somebody holds (docs/vm-object.md, "Root
        dataset" and "Delegated dataset")."""
        return any(name == _INDESTRUCTIBLE and holds > 0 for name, _, _, holds in self.snapshots.get(dataset, ()))

    def listed(self, names: Iterable[str], children: Children, depth: int) -> Datasets:
        """What a listing of just `names`, at most `depth` (0 or 1) below each, would have given; this is one of these
        names and others, and `children` is children_of() it."""
        found = Datasets()
        for name in names:
            dataset, at, snapname = name.partition("@")
            if at:
                mine = [snapshot for snapshot in self.snapshots.get(dataset, ()) if snapshot[0] == snapname]
                found.snapshots.update({dataset: mine[:1]} if mine else {})
            elif dataset in self.datasets:
                for each in (dataset, *(children.get(dataset, ()) if depth else ())):
                    found.datasets[each] = self.datasets[each]
                if depth and dataset in self.snapshots:
                    found.snapshots[dataset] = self.snapshots[dataset]
        _index_mountpoints(found)
        return found

    def cut(self, children: Children, parent: str, *, is_root: bool) -> Datasets:
        """What listings of `parent` alone would give (loader.py); `children` is children_of() this."""
        found = Datasets()
        if parent in self.datasets:
            for name in (parent, *(children.get(parent, ()) if is_root else ())):
                found.datasets[name] = self.datasets[name]
            if is_root and parent in self.snapshots:
                found.snapshots[parent] = self.snapshots[parent]
        delegated = f"{parent}/{DELEGATED}"
        if is_root and delegated in found.datasets:
            held = [snapshot for snapshot in self.snapshots.get(delegated, ()) if is_shown_of_delegated(snapshot[0])]
            if held:
                found.snapshots[delegated] = held
        _index_mountpoints(found)
        return found


def is_shown_of_root(snapname: str) -> bool:
    """Whether a snapshot of that name can show in the object of the VM whose root dataset it is of. Of other datasets
    none can that is not among these."""
    return snapname == _INDESTRUCTIBLE or snapname.startswith(_MADE_BY_VMADM)


def is_shown_of_delegated(snapname: str) -> bool:
    """The same, of a delegated dataset."""
    return snapname == _INDESTRUCTIBLE


def held_snapshot(dataset: str) -> str:
    """The name of the only snapshot of a delegated dataset that shows in a VM object."""
    return f"{dataset}@{_INDESTRUCTIBLE}"


def union(parts: Iterable[Datasets]) -> Datasets:
    """All of `parts` in one; a later row of the same name replaces an earlier one."""
    found = Datasets()
    for part in parts:
        found.datasets.update(part.datasets)
        found.mountpoints.update(part.mountpoints)
        found.snapshots.update(part.snapshots)
    return found


def children_of(datasets: Datasets) -> Children:
    """Dataset name -> the names one level below it, in the order of the listing."""
    children: Children = {}
    for name in datasets.datasets:
        children.setdefault(name.rpartition("/")[0], []).append(name)
    return children


def covers(dataset: str, other: str) -> bool:
    """Whether `other` is `dataset` or lies below it."""
    return other == dataset or other.startswith(dataset + "/")


def list_arguments(
    names: Sequence[str], depth: int, fields: Sequence[str] = FIELDS, types: Sequence[str] = TYPES
) -> list[str]:
    """The arguments of `zfs` that list `names` (none: all pools) and what is at most `depth` below each
    (docs/platform.md, "zfs list")."""
    return ["list", "-H", "-p", "-t", ",".join(types), "-o", ",".join(fields), "-d", str(depth), *names]


class Complaints(NamedTuple):
    """What a zfs that ended with status 1 says of the names that it was to list (docs/platform.md, "Failures of zfs").

    `absent`: they do not exist. `failed`: it says something else of them. `of_all`: it complained of something that is
    none of them, so that what it says may be about any."""

    absent: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    of_all: bool = False


def complaints(lines: Iterable[str], names: Collection[str]) -> Complaints:
    """What the complete `lines` of standard error say of `names`.

    What lies below one that is not there is not there either, and a complaint that names none is about all."""
    absent: set[str] = set()
    failed: set[str] = set()
    of_all = False
    for line in lines:
        if _NOT_THERE in line or line.startswith("cannot "):
            quoted = line.partition("'")[2].partition("'")[0]
            meant = [name for name in names if quoted and covers(quoted, name)]
            of_all = of_all or not meant
            (absent if _NOT_THERE in line else failed).update(meant or names)
    return Complaints(frozenset(absent), frozenset(failed), of_all)


def check_rows(found: Datasets, names: Collection[str]) -> None:
    """Raises GarbledOutput if one of `names`, datasets and snapshots that zfs does not miss, has no row in what it
    printed."""
    for name in names:
        if "@" not in name and name not in found.datasets:
            raise GarbledOutput(f"zfs: the output has no row for {name}")
    check_snapshots(found, names)


def check_snapshots(found: Datasets, names: Iterable[str]) -> None:
    """The same, of just the snapshots among `names`: the row of a dataset may be one that cannot be read."""
    for name in names:
        dataset, at, snapname = name.partition("@")
        if at and all(each != snapname for each, *_ in found.snapshots.get(dataset, ())):
            raise GarbledOutput(f"zfs: the output has no row for {name}")


def zvol_of(path: str) -> Optional[str]:
    """The dataset behind a disk's `path`, or None if that is no zvol path (docs/platform.md, "Which datasets are
    listed")."""
    for prefix in _ZVOL_PREFIXES:
        if path.startswith(prefix):
            return path[len(prefix) :]
    return None


def parse(data: bytes, fields: Sequence[str] = FIELDS, *, never_empty: bool = False) -> Datasets:
    """What the rows in `data` say, whose columns are `fields`; a row of another width is dropped.

    Raises GarbledOutput if `data` cannot be the whole of what zfs prints. A row of another width is not proof: a
    mountpoint can hold a tab or a newline. But each row of the right width has a known type; and a list of all pools is
    not empty on a node that has zones, nor is one below a dataset that exists, as that is in it (`never_empty`)."""
    if data and not data.endswith(b"\n"):
        raise GarbledOutput("zfs: the output ends in the middle of a row")
    found = Datasets()
    columns = {name: at for at, name in enumerate(fields)}
    name_at, type_at, is_empty = columns["name"], columns["type"], True
    for row in _rows(data, len(fields)):
        is_empty = False
        if row[type_at] not in TYPES:
            raise GarbledOutput("zfs: the output has a row whose type is not one that was asked for")
        if row[type_at] == "snapshot":
            _add_snapshot(found.snapshots, row, columns)
        else:
            found.datasets[row[name_at]] = _columns(row, fields)
    if is_empty and (never_empty or data.strip()):
        raise GarbledOutput("zfs: the output has no row in it")
    _index_mountpoints(found)
    return found


def _rows(data: bytes, width: int) -> Iterable[list[str]]:
    for lines in _slices(data):
        for line in lines.decode("utf-8", "replace").split("\n"):
            row = line.strip(WHITE_SPACE).split("\t")
            if len(row) == width:
                yield row


def _slices(data: bytes) -> Iterable[bytes]:
    """`data` in pieces of whole lines: to split all of it at once would hold the interpreter for its whole length."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + _SLICE) + 1 or data.find(b"\n", start + _SLICE) + 1 or len(data)
        yield data[start:end]
        start = end


def _index_mountpoints(found: Datasets) -> None:
    for name, row in found.datasets.items():
        if _is_mounted_for_us(name, row):
            found.mountpoints[row["mountpoint"]] = name


def _columns(row: list[str], fields: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in zip(fields, row):
        values[name] = number(text) if name in _NUMERIC and text != "-" else shared(text)
    if values["type"] == "volume":
        values["mountpoint"] = "/dev/zvol/rdsk/" + values["name"]
    elif values["mountpoint"] in ("-", "legacy"):
        values["mountpoint"] = "/" + values["name"]
    return values


def _add_snapshot(snapshots: dict[str, list[Snapshot]], row: list[str], columns: dict[str, int]) -> None:
    dataset, at, snapname = row[columns["name"]].partition("@")
    if not at or not is_shown_of_root(snapname) or "@" in snapname:
        return

    def value(column: str) -> Any:
        if column not in columns:
            return None
        text = row[columns[column]]
        return text if text == "-" else number(text)

    holds = value("userrefs")
    snapshots.setdefault(dataset, []).append(
        (shared(snapname), value("creation"), value("written"), holds if isinstance(holds, (int, float)) else 0)
    )


def _is_mounted_for_us(name: str, row: dict[str, Any]) -> bool:
    """Whether `row` may stand in the mountpoints (docs/platform.md, "Mountpoints and datasets"): what a zone can mount
    where it likes must not."""
    is_delegated = name.split("/")[2:3] == ["data"]  # before its first boot `zoned` is still off
    return row["mountpoint"].startswith("/") and row.get("zoned") != "on" and not is_delegated
