# SPDX-License-Identifier: MPL-2.0
"""One reprovision under way: what those of a root dataset and of a disk have in common.

    stopped -> marked -> new one made beside the old one -> swapped by renames -> looked at -> kept -> old one destroyed

Always: until the step KEPT an error or an interruption brings the old one back; from then on what is left is done.
        Either way the message says which image the VM has.
Not here: which steps there are in between (reprovisionroot.py, reprovisiondisk.py), and how a VM is put in order
(settling.py)."""

from __future__ import annotations

import json
import time
from typing import Any, Optional

from vmadm.actions import firstboot, marks, settling, stopping
from vmadm.actions.failing import FAILED
from vmadm.actions.following import Follower
from vmadm.actions.session import Session
from vmadm.actions.steps import Step, Steps
from vmadm.errors import AlreadyInState, VmadmError, WrongState
from vmadm.node import zonecfg
from vmadm.node.rootswap import Swap
from vminfod.clients.plainjson import compact
from vmload import Vm

KEPT = "keep the new one"  # the step that decides
SCRIPTS = {
    "joyent": "/usr/lib/brand/joyent/jinstall",
    "builder": "/usr/lib/brand/joyent/jinstall",
    "joyent-minimal": "/usr/lib/brand/joyent-minimal/jinstall",
    "lx": "/usr/lib/brand/lx/lx_install",
    "bhyve": "/usr/lib/brand/bhyve/binstall",
}
UNINSTALLED = ("configured", "incomplete")


class Reprovision:
    """See the head of the module; run() is all that is called."""

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
            stopping.stop(self.session, self.uuid)
        except AlreadyInState:
            with Follower(self.session, self.vm["zonename"], self.name) as follower:
                self.node.must("zoneadm", "-z", self.vm["zonename"], "halt")
                text = f"timed out waiting for VM {self.uuid} to halt"
                follower.until(stopping.is_halted(self.vm), stopping.HALT_LIMIT, text)

    def _mark(self) -> None:
        if self.vm.get("transition_to"):
            marks.remove_transition(self.session, self.vm)
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
                ("remove the transition", lambda: marks.remove_transition(self.session, self.vm)),
            ):
                problem = self.session.try_to(what, act, uuid=self.uuid)
                trouble += [problem] if problem is not None else []
            is_new = found[0].is_new if found and found[0] is not None else KEPT in self._steps.done
            if not is_new and self.vm.get("autoboot") is True:
                marks.set_autoboot(self.session, self.vm, True)
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
