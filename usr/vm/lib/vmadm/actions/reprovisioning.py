# SPDX-License-Identifier: MPL-2.0
"""`vmadm reprovision`: another image in the place of a VM's own; all else that it has stays.

    stopped -> new root made beside the old one -> swapped by renames -> looked at -> kept -> old root destroyed -> boot

Of an OS zone the root dataset is made anew, of a bhyve VM the first disk (reprovisiondisk.py).
Always: the config lock is held to the end. Until the new root is kept, an error or an interruption brings the old one
        back; from then on it completes what is left. Either way the message says which image the VM has.
After kill -9 the next start, reprovision or delete does so (settling.py)."""

from __future__ import annotations

import json
import time
from typing import Any, Optional

from vmadm.actions import firstboot, lifecycle, settling
from vmadm.actions.deleting import sharing_volumes
from vmadm.actions.failing import FAILED
from vmadm.actions.following import Follower
from vmadm.actions.gathering import check_tags_of
from vmadm.actions.outcome import confirmed, exactly
from vmadm.actions.session import Session
from vmadm.actions.steps import Step, Steps
from vmadm.errors import AlreadyInState, BadPayload, VmadmError, VmNotFound, WrongState
from vmadm.node import hostfiles, zfs, zonecfg
from vmadm.node.rootswap import RootSwap, Swap
from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload import Payload, dockerhost, metadata
from vmadm.payload.standing import standing
from vminfod.clients.plainjson import compact
from vmload import Vm, brands
from vmload.uuids import is_uuid

KEPT = "keep the new one"  # the step that decides
SCRIPTS = {
    "joyent": "/usr/lib/brand/joyent/jinstall",
    "builder": "/usr/lib/brand/joyent/jinstall",
    "joyent-minimal": "/usr/lib/brand/joyent-minimal/jinstall",
    "lx": "/usr/lib/brand/lx/lx_install",
    "bhyve": "/usr/lib/brand/bhyve/binstall",
}
UNINSTALLED = ("configured", "incomplete")
STAYS = (*metadata.MAPS, "quota", "datasets", "zfs_filesystem")  # what an OS zone shows as before


def reprovision(session: Session, uuid: str, payload: Payload) -> Vm:
    """Give the VM the image `image_uuid` of the payload; the VM as it is then. Raises VmadmError."""
    from vmadm.actions.reprovisiondisk import DiskReprovision

    name = f"VM.js reprovision ({uuid})"
    try:
        session.check_known(uuid, name)
        with session.config_lock(uuid):
            vm = session.look(uuid, name)
            image = _image_of(vm, payload)
            vm = settling.settled_vm(session, vm, name)
            kind = DiskReprovision if vm["brand"] == "bhyve" else RootReprovision
            return kind(session, vm, image, name).run()
    except VmadmError as error:
        error.args = (f"Failed to reprovision VM {uuid}: {error}",)
        raise


def _image_of(vm: Vm, payload: Payload) -> str:
    if vm["brand"] not in SCRIPTS:
        raise WrongState(f'brand "{vm["brand"]}" does not yet support reprovision')
    image = payload.get("image_uuid")
    if not image:
        raise BadPayload(["payload is missing image_uuid"])
    if not is_uuid(image):
        raise BadPayload([f"image_uuid is no uuid: {compact(image)}"])
    return str(image)


class Reprovision:
    """One reprovision under way; what both kinds have in common."""

    def __init__(self, session: Session, vm: Vm, image: str, name: str) -> None:
        self.session, self.node, self.vm, self.image, self.name = session, session.node, vm, image, name
        self.uuid: str = vm["uuid"]
        self.swap = self.place()
        self.expire = 0.0
        self._steps = Steps(session.check_interrupted, session.step)

    def place(self) -> Swap:
        return settling.swap_of(self.node, self.vm)

    def run(self) -> Vm:
        """Check, swap, boot; the VM as it is then. Raises VmadmError."""
        self._check_dataset()
        self.check()
        try:
            self._steps.run([*self._stop_steps(), *self.steps()])
        except (VmadmError, KeyboardInterrupt) as error:
            raise self._put_in_order(error) from error
        return self.outcome()

    # What each kind does.

    def check(self) -> None:
        """Before anything is touched. Raises VmadmError."""
        raise NotImplementedError

    def steps(self) -> list[Step]:
        """From the stopped VM to the end."""
        raise NotImplementedError

    def outcome(self) -> Vm:
        """The VM when all is done. Raises OutcomeMissed, DaemonAway."""
        raise NotImplementedError

    # What both do.

    def _check_dataset(self) -> None:
        vm, root = self.vm, self.vm["zonepath"].lstrip("/")
        if vm.get("zone_state") in UNINSTALLED or vm.get("zfs_filesystem") != root:
            raise WrongState(f"VM {self.uuid} has no root dataset {root} (zone_state: {vm.get('zone_state')})")

    def manifest(self, types: list[str]) -> dict[str, Any]:
        """The image's, which is of one of these types. Raises VmadmError."""
        pool = self.vm["zpool"]
        text = self.node.must("imgadm", "get", "-P", pool, self.image).stdout
        try:
            found = json.loads(text).get("manifest")
        except (ValueError, AttributeError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise VmadmError(f"cannot find 'manifest' for image {self.image}")
        if found.get("type") not in types:
            raise VmadmError(f"image {self.image} is type {found.get('type')}, but must be one of: {compact(types)}")
        return found

    def _stop_steps(self) -> list[Step]:
        steps: list[Step] = []
        if self.vm.get("zone_state") != "installed":
            steps.append(("stop", self._stop))
        return [*steps, ("mark the VM as provisioning", self._mark)]

    def _stop(self) -> None:
        """As `vmadm stop` does; a zone that is in the kernel without running is halted."""
        try:
            lifecycle.stop(self.session, self.uuid)
        except AlreadyInState:
            with Follower(self.session, self.vm["zonename"], self.name) as follower:
                self.node.must("zoneadm", "-z", self.vm["zonename"], "halt")
                text = f"timed out waiting for VM {self.uuid} to halt"
                follower.until(lifecycle.is_halted(self.vm), lifecycle.HALT_LIMIT, text)

    def _mark(self) -> None:
        if self.vm.get("transition_to"):
            lifecycle.remove_transition(self.session, self.vm)
        self.expire = time.time() + firstboot.LIMIT
        script = zonecfg.set_transition("provisioning", "running", int(self.expire * 1000))
        self.session.must_zonecfg(self.uuid, script)
        self.show()

    def show(self) -> None:
        """Those who follow events see the steps one by one."""
        self.session.show(self.vm["zonename"], self.name)

    def run_script(self) -> None:
        script = SCRIPTS[self.vm["brand"]]
        result = self.node.run(script, "-r", "-R", self.vm["zonepath"], "-z", self.vm["zonename"])
        if result.status != 0:
            said = result.stderr.strip() or f"status {result.status}"
            raise VmadmError(f"Error running brand install script {script}: {said}")

    def keep(self) -> None:
        self.swap.keep()

    def name_image(self) -> None:
        settling.configure_image(self.session, self.vm, self.image)
        self.show()

    def remove_old(self) -> None:
        settling.remove_old(self.session, self.vm, self.swap)
        self.show()

    def _put_in_order(self, error: BaseException) -> VmadmError:
        """The error to raise, when the VM is whole again, or cannot be made so."""
        raised = error if isinstance(error, VmadmError) else VmadmError("interrupted")
        trouble: list[Exception] = []
        found: list[Optional[settling.Settled]] = []
        with self.session.held():
            for what, act in (
                ("settle the reprovision", lambda: found.append(settling.settle(self.session, self.vm))),
                ("remove the transition", lambda: lifecycle.remove_transition(self.session, self.vm)),
            ):
                problem = self.session.try_to(what, act, uuid=self.uuid)
                trouble += [problem] if problem is not None else []
            is_new = found[0].is_new if found and found[0] is not None else KEPT in self._steps.done
            if not is_new and self.vm.get("autoboot") is True:
                lifecycle.set_autoboot(self.session, self.vm, True)
            shown = self.session.show(self.vm["zonename"], self.name) or self.vm
        raised.args = (f"{raised}; {self._state(is_new, shown, trouble)}",)
        return raised

    def _state(self, is_new: bool, shown: Vm, trouble: list[Exception]) -> str:
        if trouble:
            why = "; ".join(str(each) for each in trouble)
            return f"VM {self.uuid} could not be put in order ({why}): repeat it, or start or delete the VM"
        which = f"its new image {self.image}" if is_new else f"its old image {settling.image_in_use(self.vm)}"
        state = shown.get("state")
        hint = "" if state in ("running", FAILED) else f": start it with vmadm start {self.uuid}"
        return f"VM {self.uuid} is whole, with {which}, and is {state}{hint}"


class RootReprovision(Reprovision):
    """Of an OS zone: another root dataset, with the old one's settings, and all that lies below it."""

    swap: RootSwap

    def check(self) -> None:
        vm = self.vm
        if vm.get("indestructible_zoneroot"):
            raise WrongState("indestructible_zoneroot is set, cannot reprovision")
        datasets = vm.get("datasets") or []
        if len(datasets) > 1:
            raise WrongState("cannot support reprovision with multiple delegated datasets")
        if datasets and datasets[0] != f"{self.swap.place}/data":
            raise WrongState(f'cannot support reprovision with non-standard "{datasets[0]}" dataset')
        sharing = [each["uuid"] for each in sharing_volumes(self.session, vm, self.name) if each.get("zoneid")]
        if sharing:
            raise WrongState(f"the following running VMs are sharing its volumes: {compact(sharing)}")
        self.manifest(brands.facts(vm["brand"])["zoneroot_image_types"])
        self._legacy_image = firstboot.check_image(self.node, vm["brand"], vm["zpool"], self.image)
        self._change = standing(vm)
        self._host_files = dockerhost.host_files(self._change, vm) if vm.get("docker") else {}
        check_tags_of(self.node, vm)

    def steps(self) -> list[Step]:
        swap, delegates = self.swap, bool(self.vm.get("datasets"))
        steps: list[Step] = [
            ("clone the image", self._clone),
            ("config files", self._copy_config),
            ("files in the zone", self._prepare),
            ("unmount the cores", swap.unmount_cores),
            *([("take the delegated dataset back", swap.release_data)] if delegates else []),
            ("set the old root aside", swap.set_aside),
            ("put the new root in its place", swap.put_in),
            ("move the datasets below it", swap.carry_over),
            *([("delegate the dataset again", swap.delegate_data)] if delegates else []),
            ("mount the cores", swap.mount_cores),
            ("script of the brand", self.run_script),
            ("look at it", self._look),
            (KEPT, self.keep),
            ("image in the configuration", self.name_image),
            ("destroy the old root", self.remove_old),
            ("boot", self._boot),
        ]
        return steps

    def outcome(self) -> Vm:
        wanted = [exactly("image_uuid", self.image), exactly("transition_to", None)]
        return confirmed(self.session, self.vm["zonename"], wanted, self.name, f"VM {self.uuid} was reprovisioned")

    def _folder(self, dataset: str) -> ZoneFolder:
        return ZoneFolder(self.node, f"/{dataset}")

    def _clone(self) -> None:
        """With all that was set on the old root: quota, limits, compression and so on."""
        settings = {**zfs.local_settings(self.node, self.swap.place), "devices": "off"}
        self.swap.make(self.swap.image_snapshot(self.image, may_make=True), settings)

    def _copy_config(self) -> None:
        """All of the config folder, with the files of the firewall's filter; an image can have brought its own."""
        old, new = self._folder(self.swap.place), self._folder(self.swap.new)
        new.remove_folder("config")
        new.make_folder("config")
        for file in metadata.FILES:
            new.write(f"config/{file}", metadata.EMPTY_FILE)
        names = old.names("config")
        if names:
            paths = [old.path(f"config/{each}") for each in names]
            self.node.must("cp", "-pPR", *paths, new.path("config/"))

    def _prepare(self) -> None:
        new, source = self._folder(self.swap.new), f"{self.vm['zonepath']}/config/"
        if self._host_files:
            hostfiles.write(new, self._host_files)
        mounted = [each for each in self.vm.get("filesystems") or [] if str(each.get("source")).startswith(source)]
        hostfiles.make_files(new, [each["target"] for each in mounted])
        firstboot.prepare(self.session, new, self._change, legacy_image=self._legacy_image)

    def _look(self) -> None:
        """Before the old root is given up: what is to stay is there."""
        wanted = [exactly(name, self.vm.get(name)) for name in STAYS]
        confirmed(self.session, self.vm["zonename"], wanted, self.name, "the new root is in its place")

    def _boot(self) -> None:
        before = self.session.fresh(self.vm["zonename"], self.name)
        if before is None:
            raise VmNotFound(f"VM {self.uuid} was deleted meanwhile")
        self.expire = time.time() + firstboot.LIMIT
        firstboot.first_boot(self.session, before, self.expire, self.name)
