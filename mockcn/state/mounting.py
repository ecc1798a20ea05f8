# SPDX-License-Identifier: MPL-2.0
"""Mounting and unmounting filesystems by name, and what must not be taken away because it is in use.

In use are: the root filesystem of a zone in the kernel, its delegated datasets and its disks; a filesystem below whose
mountpoint another one, or something that the mount command mounted, is in place.
Always: what is refused has changed nothing. (The platform finds out when a dataset's snapshots are already gone.)"""

from typing import Callable, Optional

from mockcn.state.datasets import Dataset
from mockcn.state.pools import Pools, ZfsError


class Mounting(Pools):
    in_use: Callable[[Dataset], bool] = staticmethod(lambda dataset: False)
    """Whether a zone in the kernel holds the dataset; the node puts its own rule here."""

    def check_not_busy(self, top: Dataset, *, force: bool = False) -> None:
        """Whether `top` with all below it can be unmounted or taken away. Raises ZfsError.

        `force` unmounts what is mounted below; a zone's own datasets it does not free."""
        everything = list(top.descendants())
        for dataset in everything:
            if self.in_use(dataset):
                where = dataset.mounted_at()
                raise ZfsError(
                    f"cannot destroy '{dataset.name}': dataset is busy"
                    if where is None
                    else f"cannot unmount '{where}': Device busy"
                )
        for dataset in everything:
            where = dataset.mounted_at()
            if where is None or where == "/":
                continue
            others = [other for other in self._mounts.points_below(where).values() if other not in everything]
            if (others or self._mounts.covered_below(where)) and not force:
                raise ZfsError(f"cannot unmount '{where}': Device busy")
            for other in sorted(others, key=lambda other: -len(str(other.mounted_at()))):
                self._unmount_one(other)

    def mount(self, dataset: Dataset) -> None:
        """zfs mount. Raises ZfsError."""
        name, where = dataset.name, dataset.mountpoint()
        if dataset.kind != "filesystem":
            raise ZfsError(f"cannot open '{name}': operation not applicable to datasets of this type")
        if where is None:
            raise ZfsError(f"cannot mount '{name}': {self._why_not(dataset)}")
        if not dataset.unmounted:
            raise ZfsError(f"cannot mount '{name}': filesystem already mounted")
        if not self._mounts.arrive(dataset, where):
            raise ZfsError(f"cannot mount '{where}': directory is not empty")
        dataset.unmounted = False
        dataset.touch()

    def unmount(self, dataset: Dataset, *, force: bool = False) -> None:
        """zfs unmount of a filesystem with all below it. Raises ZfsError."""
        if dataset.kind != "filesystem":
            raise ZfsError(f"cannot open '{dataset.name}': operation not applicable to datasets of this type")
        if dataset.mounted_at() is None:
            raise ZfsError(f"cannot unmount '{dataset.name}': not currently mounted")
        self.check_not_busy(dataset, force=force)
        for below in reversed(list(dataset.descendants())):
            if below.mounted_at() is not None:
                self._unmount_one(below)

    def mounted_at(self, path: str) -> Optional[Dataset]:
        """The filesystem whose mountpoint is `path`."""
        return self._mounts.at(path.rstrip("/"))

    def _unmount_one(self, dataset: Dataset) -> None:
        where = dataset.mounted_at()
        if where is not None:
            self._mounts.leave(dataset, where, empty_folder=True)
            dataset.unmounted = True
            dataset.touch()

    def _why_not(self, dataset: Dataset) -> str:
        if self.value(dataset, "zoned") == "on":
            return "dataset is exported to a local zone"
        if self.value(dataset, "canmount") == "off":
            return "'canmount' property is set to 'off'"
        return "legacy mountpoint" if self.value(dataset, "mountpoint") == "legacy" else "no mountpoint set"
