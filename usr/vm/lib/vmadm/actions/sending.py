# SPDX-License-Identifier: MPL-2.0
"""`vmadm send`: stop the VM, and write it as a bundle: its object, then its root dataset with all below it, then each
disk that lies elsewhere.

Always: the VM stays as it is, stopped; the snapshots that were taken for the stream go again, however it ends.
Always: success means that zfs has written all of each dataset and that all of it was taken.
The config lock is held to the end: what is sent is one state of the VM, and no delete comes between."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Optional

from vmadm.actions import finding, stopping
from vmadm.actions.session import Session
from vmadm.actions.settling import check_whole
from vmadm.actions.steps import Step, Steps
from vmadm.errors import AlreadyInState, VmadmError, WrongState
from vmadm.node import bundle, transfer
from vmadm.node.transfer import ReaderGone
from vmadm.node.zonefolder import ZoneFolder
from vminfod.clients.plainjson import pretty
from vmload import Vm

SENDING = "sending"  # the name of the snapshots that are taken for a stream
ATTACHMENTS = ("SUNWattached.xml", "SUNWdetached.xml")  # what zoneadm left in the zonepath is not for the other node

Progress = Callable[[str, int, Optional[int]], None]  # what is under way, its bytes so far, all its bytes if known


def send(session: Session, uuid: str, target: int, progress: Optional[Progress] = None) -> Vm:
    """Send the VM into the descriptor `target`; gives it as it was sent. Raises VmadmError."""
    name = f"VM.js send ({uuid})"
    finding.look_for(session, uuid, name)  # no lock file before vminfod has answered
    with session.config_lock(uuid):
        vm = finding.look_for(session, uuid, name)
        check_whole(session, vm)
        datasets = datasets_of(vm)
        if not datasets:
            raise VmadmError("VM has no datasets.")
        steps: list[Step] = [("stop", lambda: _stop(session, vm))] if vm.get("state") != "stopped" else []
        steps.append(("attachments", lambda: _remove_attachments(session, vm)))
        steps.append(("JSON", lambda: _write(target, bundle.json_chunk(pretty(vm) + "\n"))))
        steps += [(dataset, partial(_send, session, dataset, target, progress)) for dataset in datasets]
        Steps(session.check_interrupted).run(steps, prefix="")
    return vm


def datasets_of(vm: Vm) -> list[str]:
    """The datasets that are sent one by one, the root first; what lies below it goes with it."""
    root = vm.get("zfs_filesystem")
    if not root:
        return []
    volumes = [disk["zfs_filesystem"] for disk in vm.get("disks") or [] if disk.get("zfs_filesystem")]
    return [root, *[volume for volume in volumes if not volume.startswith(f"{root}/")]]


def _stop(session: Session, vm: Vm) -> None:
    try:
        stopping.stop(session, vm["uuid"])
    except AlreadyInState as error:
        raise WrongState(str(error)) from error  # neither stopped nor running: it cannot be sent


def _remove_attachments(session: Session, vm: Vm) -> None:
    folder = ZoneFolder(session.node, vm["zonepath"])
    for file in ATTACHMENTS:
        session.try_to("remove a file of zoneadm's", partial(folder.remove, file), uuid=vm["uuid"])


def _send(session: Session, dataset: str, target: int, progress: Optional[Progress]) -> None:
    node, snapshot = session.node, f"{dataset}@{SENDING}"
    node.run("zfs", "destroy", "-r", "-F", snapshot)  # of a send that was killed
    try:
        node.must("zfs", "snapshot", "-r", snapshot)
        size = _size(session, snapshot) if progress is not None else None
        _write(target, bundle.header(dataset))
        transfer.send(
            node, snapshot, target, lambda moved: progress(dataset, moved, size) if progress is not None else None
        )
    finally:
        with session.held():
            session.try_to("destroy the snapshot", lambda: node.must("zfs", "destroy", "-r", "-F", snapshot))


def _size(session: Session, snapshot: str) -> Optional[int]:
    """How many bytes zfs thinks that the stream will have, if it says so."""
    result = session.node.run("zfs", "send", "-nvP", "-R", snapshot)
    rows = [line.split() for line in (result.stdout + result.stderr).splitlines()]
    return next((int(row[1]) for row in rows if row[:1] == ["size"] and len(row) > 1 and row[1].isdigit()), None)


def _write(target: int, data: bytes) -> None:
    try:
        bundle.write_all(target, data)
    except BrokenPipeError as error:
        raise ReaderGone("who reads the stream has gone away") from error
    except OSError as error:
        raise VmadmError(f"cannot write the stream: {error.strerror}") from error
