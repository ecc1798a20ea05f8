# SPDX-License-Identifier: MPL-2.0
"""vmadm for Python programs: change a VM and get back the object that everybody sees from then on.

    from vmadm import Vmadm, update

    vm = update(uuid, quota=20)                             # this node
    vm = Vmadm(root="/tmp/node", port=9191).update(uuid, quota=20)      # a mock node

Every method blocks until the change is visible to all readers, and raises a VmadmError whose text is the command's
(vmadm.errors). Safe to use from several threads: each call is a command of its own, with the same locks. Signals are
left alone: a KeyboardInterrupt ends a call between two commands of the node at best, in the midst of one at worst."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from vmadm.actions import creating, deleting, lifecycle, snapshots, updating, validating
from vmadm.actions.session import Session, nobody

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vminfod.clients.clientlog import Log

Vm = dict[str, Any]


class Vmadm:
    """A node and the vminfod that serves it. `tell` gets lines for an operator, such as which lock is waited for;
    `log` is a logger in the manner of the standard library's."""

    def __init__(
        self,
        *,
        root: str = "/",
        host: Optional[str] = None,
        port: Optional[int] = None,
        tell: Callable[[str], None] = nobody,
        log: Optional[Log] = None,
    ) -> None:
        self._root, self._host, self._port, self._tell, self._log = root, host, port, tell, log

    def create(self, payload: Vm) -> Vm:
        """Make a VM, boot it unless `autoboot` is false, and wait until it is provisioned; gives the VM object."""
        return creating.create(self._session("create"), payload)

    def update(self, uuid: str, payload: Optional[Vm] = None, /, **properties: Any) -> Vm:
        """Change properties, given as a payload, by name, or both; gives the VM object as it is then."""
        return updating.update(self._session(f"update {uuid}"), uuid, {**(payload or {}), **properties})

    def start(self, uuid: str) -> Vm:
        """Boot the VM and wait until it runs. AlreadyInState if it does."""
        return lifecycle.start(self._session(f"start {uuid}"), uuid)

    def stop(self, uuid: str, *, force: bool = False, timeout: Optional[float] = None) -> Vm:
        """Stop the VM. `timeout` in seconds, for docker, bhyve and kvm only. AlreadyInState if it does not run."""
        return lifecycle.stop(self._session(f"stop {uuid}"), uuid, force=force, timeout=timeout)

    def reboot(self, uuid: str, *, force: bool = False) -> Vm:
        """Reboot the VM and wait until it runs again."""
        return lifecycle.reboot(self._session(f"reboot {uuid}"), uuid, force=force)

    def kill(self, uuid: str, signal: str = "SIGTERM") -> Vm:
        """Send a signal to the first process of the VM; gives the VM object as it was then. Waits for nothing."""
        return lifecycle.kill(self._session(f"kill {uuid}"), uuid, signal)

    def delete(self, uuid: str) -> None:
        """Take the VM away, whatever state it is in."""
        deleting.delete(self._session(f"delete {uuid}"), uuid)

    def create_snapshot(self, uuid: str, name: str) -> Vm:
        """Take a snapshot of the VM's root; gives the VM object."""
        return snapshots.create_snapshot(self._session(f"create-snapshot {uuid}"), uuid, name)

    def delete_snapshot(self, uuid: str, name: str) -> Vm:
        """Destroy a snapshot; gives the VM object."""
        return snapshots.delete_snapshot(self._session(f"delete-snapshot {uuid}"), uuid, name)

    def rollback_snapshot(self, uuid: str, name: str) -> Vm:
        """Put the VM's root back to a snapshot, and start the VM; gives the VM object."""
        return snapshots.rollback_snapshot(self._session(f"rollback-snapshot {uuid}"), uuid, name)

    def validate(self, action: str, payload: Vm, brand: Optional[str] = None) -> None:
        """Raise NotValid unless `payload` is good for `action` (create, or update of a VM of `brand`)."""
        named = payload.get("brand") if action == "create" else brand
        validating.validate(self._session("validate"), action, named, payload)

    def _session(self, what: str) -> Session:
        return Session(
            root=self._root, host=self._host, port=self._port, command=f"vmadm.{what}", tell=self._tell, log=self._log
        )


_here = Vmadm()
create, update, delete, validate = _here.create, _here.update, _here.delete, _here.validate
start, stop, reboot, kill = _here.start, _here.stop, _here.reboot, _here.kill
create_snapshot, delete_snapshot = _here.create_snapshot, _here.delete_snapshot
rollback_snapshot = _here.rollback_snapshot
