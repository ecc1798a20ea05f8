# SPDX-License-Identifier: MPL-2.0
"""A root that was just cloned from an image: what it needs for its first boot, and that boot.

    check_image    whether the image's services tell when they are done
    prepare        files in the root: network, marker; the metadata service's time limit
    first_boot     boot, wait until the services have moved the marker away, take the transition away
    see_through    the same of a VM that runs already

Always: a zone whose services do not get done in time is marked `failed`, stopped, and left to be looked at."""

from __future__ import annotations

import time
from typing import Optional

from vmadm.actions import booting, marks
from vmadm.actions.failing import give_up
from vmadm.actions.following import Follower
from vmadm.actions.gathering import check_tags_of
from vmadm.actions.session import Session
from vmadm.errors import NotReached, VmadmError
from vmadm.node import zoneroot
from vmadm.node.machine import Node
from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload.change import Change
from vmadm.payload.unset import said
from vmload import Vm, brands

LIMIT = 300.0  # seconds that the zone's services may take
LOOK_EVERY = 0.1  # seconds between looks whether they are done


class NotProvisioned(NotReached):
    """The zone's own services were not done in time."""

    tells_all = True


def check_image(node: Node, brand: str, pool: str, image: str) -> bool:
    """Whether the image is an old one, whose services want a zoneconfig file. Raises ToolFailed if it is not there,
    VmadmError if its services would never say that they are done."""
    if brand not in ("joyent", "builder", "lx"):
        return False
    mountpoint = node.must("zfs", "get", "-H", "-o", "value", "mountpoint", f"{pool}/{image}").stdout.strip()
    if brand == "lx":
        return False
    support = zoneroot.image_support(ZoneFolder(node, mountpoint))
    if not support:
        raise VmadmError(f"provisioning dataset {image} with brand {brand} is not supported")
    return support == "legacy"


def prepare(session: Session, folder: ZoneFolder, change: Change, *, legacy_image: bool) -> None:
    """Files in the root of the zone whose zonepath is `folder`. Raises NotWritten."""
    zoneroot.prepare(folder, change, legacy_image=legacy_image)
    if brands.facts(change.brand)["mdata_restart"]:
        seconds = said(change.properties.mdata_exec_timeout, zoneroot.MDATA_TIMEOUT)
        session.try_to(
            "set the metadata service's time limit",
            lambda: zoneroot.set_metadata_timeout(session.node, folder, seconds),
            uuid=change.uuid,
        )


def first_boot(session: Session, vm: Vm, expire: float, name: str, *, nowait: bool = False) -> None:
    """Boot the VM and wait until its services are done, until `expire` (seconds since the epoch); with `nowait` only
    until it runs: who asked for that waits for the services, and takes the transition away. Raises VmadmError."""
    uuid = vm["uuid"]
    with Follower(session, vm["zonename"], f"VM.js startZone ({uuid})") as follower:
        check_tags_of(session.node, vm)
        booting.boot(session, vm)
        if nowait:
            follower.until(_runs, booting.START_LIMIT, f"timed out waiting for VM {uuid} to boot")
            return
        _until_done(session, vm, expire, name, follower)


def see_through(session: Session, vm: Vm, name: str) -> None:
    """Wait for a first boot that another command began and did not end. Raises VmadmError."""
    with Follower(session, vm["zonename"], f"VM.js startZone ({vm['uuid']})") as follower:
        _until_done(session, vm, time.time() + LIMIT, name, follower)


def _until_done(session: Session, vm: Vm, expire: float, name: str, follower: Follower) -> None:
    _wait_provisioned(session, vm, expire, name)
    marks.remove_transition(session, vm)
    text = f"timed out waiting for VM {vm['uuid']} to run"
    follower.until(booting.has_run(vm), booting.START_LIMIT, text)


def _wait_provisioned(session: Session, vm: Vm, expire: float, name: str) -> None:
    folder = ZoneFolder(session.node, vm["zonepath"])
    while folder.exists(f"root/{zoneroot.PROVISIONING}"):
        session.check_interrupted()
        if time.time() > expire:
            _fail(session, vm, name)
        time.sleep(LOOK_EVERY)


def _fail(session: Session, vm: Vm, name: str) -> None:
    uuid = vm["uuid"]
    with session.held():
        give_up(session, uuid)
        session.show(vm["zonename"], name)
    raise NotProvisioned(
        f"VM {uuid} is left in state failed: timed out waiting for /var/svc/provisioning to move for {uuid}"
    )


def _runs(vm: Optional[Vm]) -> bool:
    return vm is not None and vm.get("zone_state") == "running"
