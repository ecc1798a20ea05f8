# SPDX-License-Identifier: MPL-2.0
"""`vmadm reprovision` of a bhyve VM: another first disk, made from an image, with the old one's size.

Always: the zone's root and the other disks are not touched. While both volumes are there the new one reserves nothing,
        so that the VM's quota has room for it; what it is to reserve it gets when the old one is gone."""

from __future__ import annotations

from vmadm.actions import booting, marks, settling
from vmadm.actions.following import Follower
from vmadm.actions.outcome import Expected, confirmed, exactly
from vmadm.actions.readying import made_ready
from vmadm.actions.reprovisionsteps import KEPT, Reprovision
from vmadm.actions.steps import Step
from vmadm.errors import VmadmError, WrongState
from vmadm.node import zfs
from vmload import Vm
from vmload.units import MIB


class DiskReprovision(Reprovision):
    """One under way."""

    def check(self) -> None:
        vm, place = self.vm, self.swap.place
        if vm.get("indestructible_zoneroot"):
            raise WrongState("indestructible_zoneroot is set, cannot reprovision")
        manifest = self.manifest(["zvol"])
        if not vm.get("disks"):
            raise WrongState("No disks found for bhyve VM")
        disk = settling.first_disk(vm)
        if disk is None or disk.get("zfs_filesystem") != place:
            raise WrongState("disk0 not found for bhyve VM")
        self._size = zfs.number(self.node, "volsize", place)
        needed = manifest.get("image_size")
        if not isinstance(needed, int) or isinstance(needed, bool):
            raise VmadmError("Missing image_size in manifest")
        if needed * MIB > self._size:
            raise WrongState(f"Cannot reprovision: image ({needed} MiB) > disk0 ({self._size // MIB} MiB)")
        self._check_holds()
        if disk.get("boot") is not True:
            raise WrongState(
                "disk0 found but does not have boot property set to true - reprovision requires a bootable disk0"
            )
        self._snapshot = self.swap.image_snapshot(self.image, may_make=False)

    def _check_holds(self) -> None:
        node, held = self.node, []
        for snapshot in node.must("zfs", "list", "-r", "-t", "snapshot", "-Ho", "name", self.swap.place).stdout.split():
            lines = [line.split() for line in node.must("zfs", "holds", "-H", snapshot).stdout.splitlines()]
            tags = [words[1] for words in lines if len(words) > 1]
            if tags:
                held.append(f"  - {snapshot} (holds: {', '.join(tags)})")
        if held:
            text = "Cannot reprovision: disk0 has snapshots with holds that must be released first:"
            raise WrongState("\n".join([text, *held]))

    def steps(self) -> list[Step]:
        swap = self.swap
        steps: list[Step] = [
            ("clone the image", self._clone),
            ("set the old disk aside", swap.set_aside),
            ("put the new disk in its place", swap.put_in),
            ("script of the brand", self.run_script),
            ("look at it", self._look),
            (KEPT, self.keep),
            ("image in the configuration", self.name_image),
            ("destroy the old disk", self.remove_old),
            ("remove the mark", self._unmark),
        ]
        if self.vm.get("autoboot") is True:
            steps.append(("boot", self._boot))
        return steps

    def outcome(self) -> Vm:
        path = str((settling.first_disk(self.vm) or {}).get("path"))
        shown = f"disk {path} with image_uuid {self.image}"
        wanted = Expected("disks", shown, lambda vm: self._image(vm) == self.image, self._image)
        return confirmed(self.session, self.vm["zonename"], [wanted], self.name, f"VM {self.uuid} was reprovisioned")

    def _image(self, vm: Vm) -> object:
        return (settling.first_disk(vm) or {}).get("image_uuid")

    def _clone(self) -> None:
        self.swap.make(self._snapshot, {"volsize": str(self._size), "refreservation": "none"})

    def _look(self) -> None:
        """Before the old disk is given up: the VM shows one of its size."""
        size = self._size_in(self.vm)
        wanted = Expected("size of disk0", str(size), lambda vm: self._size_in(vm) == size, self._size_in)
        confirmed(self.session, self.vm["zonename"], [wanted], self.name, "the new disk is in its place")

    def _size_in(self, vm: Vm) -> object:
        return (settling.first_disk(vm) or {}).get("size")

    def _unmark(self) -> None:
        self.session.try_to(
            "remove the transition", lambda: marks.remove_transition(self.session, self.vm), uuid=self.uuid
        )
        self.show()

    def _boot(self) -> None:
        """A failure is told: the VM has its new image all the same, and is stopped."""
        error = self.session.try_to("start the VM", self._start, uuid=self.uuid)
        if error is not None:
            self.session.tell(f"VM {self.uuid} has its new image, but was not started: {error}")

    def _start(self) -> None:
        before = confirmed(self.session, self.vm["zonename"], [exactly("transition_to", None)], self.name, "it is new")
        before = made_ready(self.session, before)
        with Follower(self.session, self.vm["zonename"], self.name) as follower:
            booting.boot(self.session, before)
            text = f"timed out waiting for VM {self.uuid} to run"
            follower.until(booting.has_run(before), booting.START_LIMIT, text)
