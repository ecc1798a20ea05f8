# SPDX-License-Identifier: MPL-2.0
"""Another dataset in the place of one that a VM has: its root, or the first disk of a bhyve VM (docs/vmadm.md,
"Reprovision").

    PLACE                       what the VM has
    PLACE-reprovisioning-new    a clone of the image, until it is put in the place
    PLACE-reprovisioning-root   what was in the place, as long as it can come back
    PLACE-reprovisioned-root    the same once the new one is kept: it is to be destroyed

    new made -> old aside -> new in place -> (old is renamed once more: the new one is kept) -> old destroyed

Always: each step is one command of zfs that is done or not done; the names that are there say how far it came. Until
        that last rename take_back() puts the old one back, whatever step was the last; each of its own steps can be the
        last, too, and it is repeated then. The clone goes last, so that its name says that there is work to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vmadm.errors import ToolFailed
from vmadm.node.machine import Node, failure

NOT_THERE = "dataset does not exist"
FINAL = "@final"


class Swap:
    """One place. `place` is a dataset's name; `mark` names snapshots of images that are made for this VM: its uuid."""

    def __init__(self, node: Node, place: str, mark: str) -> None:
        self.node, self.place, self._mark = node, place, mark
        self.new = f"{place}-reprovisioning-new"
        self.old = f"{place}-reprovisioning-root"
        self.kept_for_removal = f"{place}-reprovisioned-root"

    def leftovers(self) -> set[str]:
        """Those of the three other names that are there. Raises ToolFailed."""
        names = (self.new, self.old, self.kept_for_removal)
        return existing(self.node, names)

    def image_snapshot(self, image: str, *, may_make: bool) -> str:
        """The snapshot of the image that a clone is made of; one is made where it has none, if that may be. Raises
        ToolFailed."""
        dataset = f"{self.place.partition('/')[0]}/{image}"
        own = f"{dataset}@{self._mark}"
        for snapshot in (dataset + FINAL, own):
            found = self.node.run("zfs", "get", "-Ho", "value", "type", snapshot)
            if found.status == 0:
                return snapshot
            if NOT_THERE not in found.stderr:
                raise failure("zfs", found)
        if not may_make:
            raise ToolFailed(f"Image {image} not found in zpool {dataset.partition('/')[0]}", tool="zfs", stderr="")
        self.node.must("zfs", "snapshot", own)
        return own

    def make(self, snapshot: str, settings: Mapping[str, str]) -> None:
        """Clone the new one, with these properties. Raises ToolFailed."""
        options = [word for prop, value in settings.items() for word in ("-o", f"{prop}={value}")]
        self.node.must("zfs", "clone", *options, snapshot, self.new)

    def set_aside(self) -> None:
        self._rename(self.place, self.old)

    def put_in(self) -> None:
        self._rename(self.new, self.place)

    def keep(self) -> None:
        """From here on the new one is the VM's."""
        self._rename(self.old, self.kept_for_removal)

    def remove_old(self) -> None:
        """Destroy what is not kept, with its snapshots. Raises ToolFailed."""
        self._destroy(self.kept_for_removal)

    def take_back(self, leftovers: set[str]) -> None:
        """The old one is the VM's again, from whatever step on. Raises ToolFailed."""
        if self.old in leftovers:
            if existing(self.node, [self.place]):
                self._before_going()
                self._rename(self.place, self.new)
            self._rename(self.old, self.place)
        self._after_coming()
        if existing(self.node, [self.new]):
            self._destroy(self.new)

    def image_of(self, dataset: str) -> str:
        """The image that a dataset is a clone of; empty if it is none. Raises ToolFailed."""
        origin = self._origin(dataset)
        return "" if origin == "-" else origin.partition("@")[0].rpartition("/")[2]

    def _before_going(self) -> None:
        """What the new one has that is the VM's goes back to the old one."""

    def _after_coming(self) -> None:
        """What the old one needs besides its name."""

    def _rename(self, old: str, new: str) -> None:
        self.node.must("zfs", "rename", "-f", old, new)

    def _origin(self, dataset: str) -> str:
        return self.node.must("zfs", "get", "-Ho", "value", "origin", dataset).stdout.strip()

    def _destroy(self, dataset: str) -> None:
        """With the snapshot of the image that was made for it; another clone of that keeps it."""
        origin = self._origin(dataset)
        self.node.must("zfs", "destroy", "-r", dataset)
        if origin.endswith(f"@{self._mark}"):
            self.node.run("zfs", "destroy", origin)


class RootSwap(Swap):
    """The root of an OS zone, with what lies below it or is mounted in it: `cores` is the dataset of its core files.
    `delegates`: whether PLACE/data is the zone's own."""

    def __init__(self, node: Node, place: str, mark: str, *, cores: str, delegates: bool) -> None:
        super().__init__(node, place, mark)
        self._cores, self._delegates = cores, delegates

    def unmount_cores(self) -> None:
        """They are mounted in the root, which cannot be renamed so. Raises ToolFailed."""
        result = self.node.run("zfs", "umount", f"/{self.place}/cores")
        if result.status != 0 and not result.stderr.rstrip().endswith("not a mountpoint"):
            raise failure("zfs", result)

    def mount_cores(self) -> None:
        """Again. Mounted already, or none at all, is fine. Raises ToolFailed."""
        result = self.node.run("zfs", "mount", self._cores)
        if result.status != 0 and NOT_THERE not in result.stderr and "already mounted" not in result.stderr:
            raise failure("zfs", result)

    def release_data(self) -> None:
        """A dataset that belongs to a zone cannot be renamed, nor can what it lies in. Raises ToolFailed."""
        self._set_zoned("off")

    def delegate_data(self) -> None:
        self._set_zoned("on")

    def carry_over(self) -> None:
        """The datasets below the old root, the delegated one and volumes, lie below the new one. Raises ToolFailed."""
        self._carry(self.old, self.place)

    def _before_going(self) -> None:
        self.unmount_cores()
        if self._delegates and existing(self.node, [f"{self.place}/data"]):
            self.release_data()
        self._carry(self.place, self.old)

    def _after_coming(self) -> None:
        if self._delegates:
            self.delegate_data()
        self.mount_cores()

    def _set_zoned(self, value: str) -> None:
        self.node.must("zfs", "set", f"zoned={value}", f"{self.place}/data")

    def _carry(self, above: str, to: str) -> None:
        words = ("zfs", "list", "-H", "-o", "name", "-d", "1", "-t", "filesystem,volume", above)
        for name in self.node.must(*words).stdout.split():
            if name != above:
                self._rename(name, to + name[len(above) :])


def existing(node: Node, names: Iterable[str]) -> set[str]:
    """Those of the datasets that are there. Raises ToolFailed."""
    result = node.run("zfs", "list", "-H", "-o", "name", *names)
    strange = [line for line in result.stderr.splitlines() if line.strip() and NOT_THERE not in line]
    if strange or (result.status != 0 and not result.stderr.strip()):
        raise failure("zfs", result)
    return set(result.stdout.split())
