# SPDX-License-Identifier: MPL-2.0
"""Destroying datasets and snapshots.

Always: everything is checked first; when ZfsError is raised nothing has changed and no event went out.
Always: one event for each dataset and snapshot that went, children before parents; a volume first gives up its
        reservation.
Not here: whether it is in use (mounting.py), which the zfs command asks first."""

from typing import Callable

from mockcn.state.datasets import Dataset, Snapshot
from mockcn.state.mounting import Mounting
from mockcn.state.pools import ZfsError


class Destroying(Mounting):
    def destroy(
        self,
        dataset: Dataset,
        *,
        recursive: bool = False,
        with_clones: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Destroy a dataset; children and snapshots too if `recursive`, clones elsewhere too if `with_clones`. The last
        thing before anything goes is `check()`, which may raise ZfsError."""
        everything = list(dataset.descendants())
        if dataset.parent is None:
            raise ZfsError(
                f"cannot destroy '{dataset.name}': operation does not apply to pools\n"
                f"use 'zfs destroy -r {dataset.name}' to destroy all datasets in the pool\n"
                f"use 'zpool destroy {dataset.name}' to destroy the pool itself"
            )
        snapshots = [snapshot for below in everything for snapshot in below.snapshots.values()]
        if (snapshots or len(everything) > 1) and not (recursive or with_clones):
            listing = [below.name for below in everything[1:]] + [snap.full_name for snap in snapshots]
            raise ZfsError(
                f"cannot destroy '{dataset.name}': {dataset.kind} has children\n"
                "use '-r' to destroy the following datasets:\n" + "\n".join(sorted(listing))
            )
        outside = sorted(
            {
                clone.name
                for snap in snapshots
                for clone in snap.clones or ()
                if not (clone.name + "/").startswith(dataset.name + "/")
            }
        )
        if outside and not with_clones:
            raise ZfsError(
                f"cannot destroy '{dataset.name}': {dataset.kind} has dependent clones\n"
                "use '-R' to destroy the following datasets:\n" + "\n".join(outside)
            )
        self._check_held(snapshots)
        check()
        for name in outside:
            if self.exists(name):
                self.destroy(self.dataset(name), with_clones=True)
        for below in reversed(everything):
            self._drop_clones_within(below)
            for snapshot in list(below.snapshots.values()):
                self._drop(snapshot)
            if self.exists(below.name):
                self._remove(below)

    def _drop_clones_within(self, dataset: Dataset) -> None:
        """Clones go before the snapshots that they were made of."""
        for snapshot in dataset.snapshots.values():
            for clone in list(snapshot.clones or ()):
                if self.exists(clone.name) and self.dataset(clone.name) is clone:
                    self.destroy(clone, with_clones=True)

    def destroy_snapshots(self, snapshots: list[Snapshot], *, with_clones: bool = False, defer: bool = False) -> None:
        """Destroy snapshots, all or none; a deferred one that is held or cloned goes when the last of those goes."""
        if not defer:
            self._check_held(snapshots)
        clones = sorted({clone.name for snapshot in snapshots for clone in snapshot.clones or ()})
        if clones and not with_clones and not defer:
            raise ZfsError(
                f"cannot destroy '{snapshots[0].full_name}': snapshot has dependent clones\n"
                "use '-R' to destroy the following datasets:\n" + "\n".join(clones)
            )
        for name in clones if with_clones else ():
            if self.exists(name):
                self.destroy(self.dataset(name), with_clones=True)
        for snapshot in snapshots:
            if defer and (snapshot.holds or snapshot.clones):
                snapshot.deferred = True
                snapshot.parent.touch()
                self._history("defer_destroy", snapshot)
            else:
                self._drop(snapshot)

    def _check_held(self, snapshots: list[Snapshot]) -> None:
        for snapshot in snapshots:
            if snapshot.holds:
                raise ZfsError(f"cannot destroy snapshot {snapshot.full_name}: dataset is busy")

    def _drop(self, snapshot: Snapshot) -> None:
        if snapshot.parent.snapshots.get(snapshot.name) is snapshot:
            snapshot.parent.drop_snapshot(snapshot.name)
            self._history("destroy", snapshot)

    def _remove(self, dataset: Dataset) -> None:
        where = dataset.mounted_at()
        if dataset.kind == "volume" and dataset.props.get("refreservation"):
            dataset.props["refreservation"] = 0
            self._history("set", dataset, "refreservation=0")
        origin = dataset.origin
        if origin is not None and origin.clones:
            origin.clones = origin.clones - {dataset}
        assert dataset.parent is not None
        del dataset.parent.children[dataset.label]
        if dataset.kind == "volume":
            self._volumes.remove(dataset.name)
        else:
            self._mounts.destroyed(dataset, where)
        self._history("destroy", dataset, f"(bptree, mintxg={origin.txg if origin else 1})")
        if origin is not None and origin.deferred and not origin.holds and not origin.clones:
            self._drop(origin)
