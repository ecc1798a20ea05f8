# SPDX-License-Identifier: MPL-2.0
"""What `zfs receive` does to the node, part by part of a stream.

    begin_part: everything is checked, `receive` is published        apply_part: the content is there, all of it appears

Always: of a part that does not come whole nothing is left but what was there before, as with a receive that cannot be
        resumed; the parts before it stay.
Always: an incremental part, and a full one over a dataset that is there (-F), run on the hidden clone NAME/%recv."""

import time
from typing import Any, Optional

from mockcn.state.datasets import AUTO, Dataset, Snapshot
from mockcn.state.operations import Operations
from mockcn.state.pools import ZfsError
from mockcn.state.properties import Value
from mockcn.state.streams import Part
from mockcn.state.trees import Files

NOT_TAKEN = ("volsize", "volblocksize")  # of a stream's properties: they come with the volume itself


class Receiving(Operations):
    """Callers hold the node's lock for each call."""

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
        """A stream out of nowhere: a new filesystem `name` with snapshot `snap`, or the next one of a filesystem that
        is there. `files` are what it brings. An interrupted one begins, and no more."""
        is_there = self.exists(name)
        if is_there and snap in self.dataset(name).snapshots:
            raise ZfsError(f"cannot receive incremental stream: destination '{name}@{snap}' exists")
        dataset = self.dataset(name) if is_there else self._new(name, "filesystem", dict(props or {}), 0)
        number = self._begin(name, dataset, hidden=is_there)
        if not interrupted:
            self._finish(dataset, snap, number, written, files, hidden=is_there)
        return dataset

    def begin_part(self, name: str, part: Part, *, force: bool, replication: bool) -> None:
        """Whether `part` can become `name`. With `force` its snapshots that the stream does not build on go. Raises
        ZfsError."""
        if part.base is not None:
            self._check_base(name, part, force)
        elif self.exists(name):
            self._check_overwritten(name, force, replication)
        else:
            self._check_new_for_stream(name)
        self._begin(name, self.dataset(name) if self.exists(name) else None, hidden=self.exists(name))

    def apply_part(self, name: str, part: Part, content: Any, *, mounted: bool) -> None:
        """The part has come whole. Raises ZfsError."""
        hidden = self.exists(name)
        props = {key: value for key, value in part.props.items() if key not in NOT_TAKEN}
        if not hidden:
            settings = dict(part.props) if part.kind == "volume" else props
            dataset = self._new(name, part.kind, settings, part.referenced)
            dataset.unmounted = not mounted and part.kind == "filesystem"
        else:
            dataset = self.dataset(name)
            if part.kind == "volume":
                props["volsize"] = part.props["volsize"]
            self._take_over(dataset, props)
        if part.base is not None and part.kind == "filesystem":
            kept = list(dataset.snapshots.values())[-1].files or {}
            content = {path: entry for path, entry in {**kept, **content}.items() if path not in part.removed}
        number = self.pool_of(name).next_id() if hidden else dataset.dsid
        taken = self._finish(dataset, part.snap, number, part.written, content, hidden=hidden)
        taken.guid, taken.creation = part.guid, part.creation
        dataset.referenced = taken.referenced = part.referenced
        dataset.touch()

    def forget_unsent(self, top: str, datasets: list[str]) -> None:
        """After a replication with -F: what is below `top` and was not in the stream goes."""
        wanted = {top + below for below in datasets}
        for dataset in list(self.dataset(top).descendants()):
            if dataset.name not in wanted and self.exists(dataset.name):
                self.destroy(dataset, recursive=True)

    def _check_new_for_stream(self, name: str) -> None:
        try:
            self._check_new(name, False)
        except ZfsError as err:
            why = str(err).partition(": ")[2]
            if why == "parent does not exist":
                above = name.rpartition("/")[0]
                why = f"unable to restore to destination\ncannot open '{above}': dataset does not exist"
            raise ZfsError(f"cannot receive new filesystem stream: {why}") from err

    def _check_overwritten(self, name: str, force: bool, replication: bool) -> None:
        where = "cannot receive new filesystem stream: destination "
        dataset = self.dataset(name)
        if not force:
            raise ZfsError(f"{where}'{name}' exists\nmust specify -F to overwrite it")
        snapshots = list(dataset.snapshots.values())
        if snapshots and not replication:
            raise ZfsError(f"{where}has snapshots (eg. {snapshots[0].full_name})\nmust destroy them to overwrite it")
        self.check_not_busy(dataset)
        self.destroy_snapshots(snapshots)

    def _check_base(self, name: str, part: Part, force: bool) -> None:
        where = "cannot receive incremental stream: "
        if not self.exists(name):
            raise ZfsError(f"{where}destination '{name}' does not exist")
        dataset = self.dataset(name)
        if part.snap in dataset.snapshots:
            raise ZfsError(f"{where}destination '{name}@{part.snap}' exists")
        snapshots = list(dataset.snapshots.values())
        place = next((number for number, snap in enumerate(snapshots) if snap.guid == part.base), None)
        if place is None or (place + 1 < len(snapshots) and not force):
            raise ZfsError(f"{where}most recent snapshot of {name} does not\nmatch incremental source")
        self.destroy_snapshots(snapshots[place + 1 :])
        if not force and self.captured(dataset) != snapshots[place].files:
            raise ZfsError(f"{where}destination {name} has been modified\nsince most recent snapshot")

    def _begin(self, name: str, dataset: Optional[Dataset], *, hidden: bool) -> int:
        number = self.pool_of(name).next_id() if hidden or dataset is None else dataset.dsid
        self._event("receive", f"{name}/%recv" if hidden else name, " ", number)
        return number

    def _new(self, name: str, kind: str, props: dict[str, Value], referenced: int) -> Dataset:
        self._check_new_for_stream(name)
        pool, parent = self.pool_of(name), self._parent(name, False)
        reserved = props.get("refreservation", 0)
        needed = max(referenced, 0 if reserved == AUTO else int(reserved))
        if needed > self.available(parent):
            raise ZfsError("cannot receive new filesystem stream: out of space")
        dataset = Dataset(parent, name.rsplit("/", 1)[1], kind, int(time.time()), pool.next_txg(), pool.next_id())
        dataset.props.update(props)
        parent.children[dataset.label] = dataset
        return dataset

    def _take_over(self, dataset: Dataset, props: dict[str, Value]) -> None:
        """The properties of the stream, in the place of those that were set here."""

        def change() -> None:
            kept = {key: dataset.props[key] for key in NOT_TAKEN if key in dataset.props}
            dataset.props = {**kept, **props}

        self._moving(dataset, change)
        dataset.touch(deep=True)

    def _finish(
        self, dataset: Dataset, snap: str, number: int, written: int, content: Any, *, hidden: bool
    ) -> Snapshot:
        name = dataset.name
        place = f"{name}/%recv" if hidden else name
        dataset.space_written(written)
        self._event("finish receiving", place, f"snap={snap}", number)
        if hidden:
            if content is not None:
                self._put_back(dataset, content)
        elif dataset.kind == "volume":
            self._volumes.make(dataset, content)
        else:
            self._mounts.make(dataset, content)
        pool = self.pool_of(name)
        taken = Snapshot(dataset, snap, int(time.time()), pool.next_txg(), pool.next_id())
        taken.unique = taken.written // 3
        taken.files = self.captured(dataset)
        dataset.snapshots[snap] = taken
        dataset.written = 0
        dataset.touch()
        if hidden:
            self._event("clone swap", place, f"parent={dataset.label}", number)
        self._history("snapshot", taken)
        if hidden:
            self._event("destroy", place, f"(bptree, mintxg={taken.txg})", number)
        return taken
