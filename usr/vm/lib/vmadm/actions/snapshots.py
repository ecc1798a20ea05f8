# SPDX-License-Identifier: MPL-2.0
"""`vmadm create-snapshot`, `delete-snapshot` and `rollback-snapshot`.

A snapshot NAME of a VM is the snapshot `@vmsnap-NAME` of its root dataset; of a bhyve VM that of its disks, too, which
lie below the root. A running OS zone sees it, read-only, at /checkpoints/NAME.
Always: the config lock is held; the VM's XML is touched afterwards, so that last_modified moves."""

from __future__ import annotations

import re
from typing import Optional

from vmadm.actions import finding, lifecycle, stopping
from vmadm.actions.atonce import at_once
from vmadm.actions.outcome import Expected, gone_from, judged, there_in
from vmadm.actions.session import Session
from vmadm.actions.settling import check_whole
from vmadm.actions.steps import Step, Steps
from vmadm.actions.updating import touch
from vmadm.errors import AlreadyInState, VmadmError, WrongState
from vmadm.node.machine import FIRST, failure
from vmadm.node.zonefolder import ZoneFolder
from vmload import Vm

NOT_MOUNTED = (" not mounted", " no such file or directory")  # in what umount says when there is nothing to do
NO_FOLDER = (".", "..")  # names of snapshots that no folder can have: there is no checkpoint of them
SNAPSHOT_NAME = re.compile(r"[A-Za-z0-9_.:%-]{1,64}")


def create_snapshot(session: Session, uuid: str, snapshot: str) -> Vm:
    """Take a snapshot. Raises VmadmError."""
    name = f"VM.js create_snapshot ({uuid})"
    _check_name(snapshot)
    session.check_known(uuid, name)
    with session.config_lock(uuid), at_once(session, uuid, name, "create-snapshot") as held:
        vm = held.vm
        _check_brand(vm)
        check_whole(session, vm)
        if vm.get("datasets"):
            raise WrongState("Cannot currently snapshot zones that have datasets")
        if _find(vm, snapshot) is not None:
            raise WrongState(f'snapshot with name "{snapshot}" already exists.')
        words = ["snapshot", *_recursive(vm), _full_name(vm, snapshot)]
        steps: list[Step] = [("zfs snapshot", lambda: session.node.must("zfs", *words))]
        if vm.get("state") == "running" and vm["brand"] != "bhyve" and snapshot not in NO_FOLDER:
            steps.append(("mount", lambda: _mount(session, vm, snapshot)))
        _run(session, held, [*steps, ("last_modified", lambda: touch(session, vm))])
        wanted = [there_in("snapshots", "name", snapshot)]
        return judged(held.outcome(), vm["zonename"], wanted, f"snapshot {snapshot} was created")


def delete_snapshot(session: Session, uuid: str, snapshot: str) -> Vm:
    """Destroy a snapshot. Raises VmadmError."""
    name = f"VM.js delete_snapshot ({uuid})"
    _check_name(snapshot)
    session.check_known(uuid, name)
    with session.config_lock(uuid), at_once(session, uuid, name, "delete-snapshot") as held:
        vm = held.vm
        _check_brand(vm)
        check_whole(session, vm)
        if _find(vm, snapshot) is None:
            raise VmadmError(f'No snapshot named "{snapshot}" for {uuid}')
        words = ["destroy", *_recursive(vm), _full_name(vm, snapshot)]
        mounted = snapshot not in NO_FOLDER
        _run(
            session,
            held,
            [
                *([("umount", lambda: _unmount(session, vm, snapshot))] if mounted else []),
                ("zfs destroy", lambda: session.node.must("zfs", *words)),
                ("last_modified", lambda: touch(session, vm)),
            ],
        )
        wanted = [gone_from("snapshots", "name", snapshot)]
        return judged(held.outcome(), vm["zonename"], wanted, f"snapshot {snapshot} was deleted")


def rollback_snapshot(session: Session, uuid: str, snapshot: str) -> Vm:
    """Stop the VM, put its root, and a bhyve VM's disks, back to the snapshot, and start it; newer snapshots are gone
    then. Disks that came after the snapshot stay as they are. Raises VmadmError."""
    name = f"VM.js rollback_snapshot ({uuid})"
    _check_name(snapshot)
    with finding.not_found_as_ever(uuid):
        session.check_known(uuid, name)
    with (
        session.config_lock(uuid),
        finding.not_found_as_ever(uuid),
        at_once(session, uuid, name, "rollback-snapshot") as held,
    ):
        vm = held.vm
        _check_brand(vm)
        check_whole(session, vm)
        if _find(vm, snapshot) is None:
            raise VmadmError(f'No snapshot named "{snapshot}" for {uuid}')
        stops = vm.get("state") != "stopped"
        _run(
            session,
            held,
            [
                *([("stop", lambda: _halt(session, uuid))] if stops else []),
                ("zfs rollback", lambda: _roll_back(session, vm, snapshot)),
                ("start", lambda: lifecycle.start(session, uuid)),
            ],
            prefix="",
        )
        wanted = [_only_up_to(vm, snapshot)]
        return judged(held.outcome(), vm["zonename"], wanted, f"VM {uuid} was rolled back to {snapshot}")


def _roll_back(session: Session, vm: Vm, snapshot: str) -> None:
    """The root first. Where one fails those before it are back already: repeating the rollback does them again, and
    the others. Raises ToolFailed."""
    full = _full_name(vm, snapshot)
    found = [full]
    if vm["brand"] == "bhyve":
        root, _, label = full.partition("@")
        listed = session.node.must("zfs", "list", "-o", "name", "-H", "-t", "snapshot", "-r", root).stdout.split()
        found += sorted(name for name in listed if name != full and name.partition("@")[2] == label)
    for name in found:
        session.node.must("zfs", "rollback", "-r", name)


def _halt(session: Session, uuid: str) -> None:
    try:
        stopping.halt(session, uuid)
    except AlreadyInState:
        return  # it was no longer running: good


def _run(session: Session, held: at_once, steps: list[Step], prefix: str = FIRST) -> None:
    try:
        Steps(session.check_interrupted, session.step).run(steps, prefix)
    except VmadmError:
        held.given_up()
        raise


def _check_name(snapshot: str) -> None:
    if SNAPSHOT_NAME.fullmatch(snapshot) is None:
        raise VmadmError("Invalid snapshot name")


def _check_brand(vm: Vm) -> None:
    if vm["brand"] == "kvm":
        raise WrongState("snapshots for kvm VMs currently unsupported")


def _find(vm: Vm, snapshot: str) -> Optional[Vm]:
    return next((found for found in vm.get("snapshots") or [] if found.get("name") == snapshot), None)


def _full_name(vm: Vm, snapshot: str) -> str:
    if "zfs_filesystem" not in vm:
        raise WrongState(f"VM {vm['uuid']} has no dataset")
    return f"{vm['zfs_filesystem']}@vmsnap-{snapshot}"


def _recursive(vm: Vm) -> list[str]:
    """A bhyve VM's disks lie below its root dataset, and are part of the snapshot."""
    return ["-r"] if vm["brand"] == "bhyve" else []


def _only_up_to(vm: Vm, snapshot: str) -> Expected:
    """The snapshots that were newer than this one are gone; `snapshots` has the newest first."""
    names = [found["name"] for found in vm["snapshots"]]
    newer = set(names[: names.index(snapshot)])

    def left(shown: Vm) -> list[str]:
        return [found["name"] for found in shown.get("snapshots") or [] if found["name"] in newer]

    return Expected("snapshots", f"a rollback to {snapshot}", lambda shown: not left(shown), left)


def _mount(session: Session, vm: Vm, snapshot: str) -> None:
    """Show the snapshot in the zone; failing is no failure of the snapshot."""
    folder, target = _checkpoint(session, vm, snapshot)
    source = f"{vm['zonepath']}/.zfs/snapshot/vmsnap-{snapshot}/root"

    def mount() -> None:
        folder.make_folder(target)
        session.node.must("mount", "-F", "lofs", "-o", "ro,setuid,nodevices", source, folder.path(target))

    session.try_to("mount the snapshot", mount, uuid=vm["uuid"])


def _unmount(session: Session, vm: Vm, snapshot: str) -> None:
    """Where the tenant has put a link in the way nothing of ours is mounted, and what it leads to is left alone: the
    snapshot goes without."""
    folder, target = _checkpoint(session, vm, snapshot)
    if session.try_to("look for the checkpoint", lambda: folder.check_no_link(target), uuid=vm["uuid"]) is not None:
        return
    result = session.node.run("umount", folder.path(target))
    if result.status != 0 and not any(text in result.stderr.lower() for text in NOT_MOUNTED):
        raise failure("umount", result)
    session.try_to("remove the checkpoint", lambda: folder.remove_empty(target), uuid=vm["uuid"])


def _checkpoint(session: Session, vm: Vm, snapshot: str) -> tuple[ZoneFolder, str]:
    return ZoneFolder(session.node, vm["zonepath"]), f"root/checkpoints/{snapshot}"
