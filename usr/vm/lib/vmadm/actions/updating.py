# SPDX-License-Identifier: MPL-2.0
"""`vmadm update`: change properties of a VM.

The order: config lock, a fresh read of the VM, the checks, then metadata files, zonecfg, what is set in a running zone,
zfs, a fresh read that must show all of it, and at last those are told who read the VM through vminfod: the zone's own
services, vmadmd, the firewall. The first read is a fresh one because what vminfod serves can lag behind a change that
somebody made with zfs: `quota=20` must win over it even if 20 was there a moment ago. From the first read to the last
nobody else sees anything of it (atonce.py).
Always: nothing is touched unless the whole payload is good; a change without effect ends as quickly as any other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

from vmadm.actions import afterwards, firewall, vmadmd
from vmadm.actions.atonce import at_once
from vmadm.actions.gathering import gather
from vmadm.actions.outcome import judged, of_update
from vmadm.actions.session import Session
from vmadm.actions.settling import check_whole
from vmadm.actions.steps import Step, Steps
from vmadm.errors import VmadmError, WrongState
from vmadm.node import hostfiles, links, volumes, zfs, zonecfg
from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload import Payload, dockerhost, metadata
from vmadm.payload.change import Change, named
from vmadm.payload.nodefacts import facts_needed
from vmadm.payload.parsing import parse_update
from vmadm.payload.unset import UNSET
from vmload import Vm, brands
from vmload.units import MIB

# Resource controls that a running zone takes at once, and what a unit of the property is.
LIVE_CONTROLS = {
    "cpu_shares": 1,
    "zfs_io_priority": 1,
    "max_lwps": 1,
    "max_msg_ids": 1,
    "max_physical_memory": MIB,
    "max_shm_memory": MIB,
    "max_sem_ids": 1,
    "max_shm_ids": 1,
    "max_locked_memory": MIB,
    "max_swap": MIB,
    "cpu_cap": 1,
}


def update(session: Session, uuid: str, payload: Payload) -> Vm:
    """Change the VM; gives it as it is afterwards. Raises VmadmError."""
    name = f"VM.js update ({uuid})"
    session.check_known(uuid, name)
    with session.config_lock(uuid), at_once(session, uuid, name, "update") as held:
        vm = held.vm
        if not brands.is_supported(str(vm.get("brand"))):
            raise VmadmError(f"Unsupported brand: {vm.get('brand')}")
        check_whole(session, vm)
        change = parse_update(payload, vm, gather(session, facts_needed(payload), name, uuid))
        _check_dataset(change, vm)
        if afterwards.changes_display(change, vm):
            vmadmd.check_there(session, vmadmd.RELOAD)
        steps = Steps(session.check_interrupted)
        try:
            steps.run(_steps(session, change, vm))
        except VmadmError as error:
            shown = held.given_up()
            if "create disks" in steps.done and shown is not None:
                with session.held():
                    _remove_unused(session, change, shown, error)
            raise
        shown = judged(held.outcome(), vm["zonename"], of_update(change, vm), f"VM {uuid} was updated")
        steps.run(afterwards.steps_of_others(session, change, vm))
        firewall.changed(session, change, shown, name)
        return shown


def _check_dataset(change: Change, vm: Vm) -> None:
    """A VM that was never installed has no dataset that could be changed. Raises WrongState."""
    asked = named(change.properties)
    needed = [name for name in ("quota", *zfs.ROOT_PROPERTIES, "indestructible_zoneroot") if asked.get(name)]
    needed += ["add_disks"] if change.disks.add else []
    if needed and "zfs_filesystem" not in vm:
        raise WrongState(f"VM {vm['uuid']} has no dataset, cannot change: {','.join(needed)}")


def _remove_unused(session: Session, change: Change, shown: Vm, error: VmadmError) -> None:
    """Volumes that were made for disks which the zone did not get after all stand in the way of the next try."""
    used = {disk.get("path") for disk in shown.get("disks") or []}
    for disk in change.disks.add:
        if disk.volume is not None and disk.path not in used:
            destroy = partial(zfs.destroy_volume, session.node, disk.volume)
            if session.try_to("remove the volume of a disk", destroy, uuid=shown["uuid"]) is None:
                error.args = (f"{error}; removed again: {disk.volume}",)


def _steps(session: Session, change: Change, vm: Vm) -> list[Step]:
    node, uuid = session.node, vm["uuid"]
    steps: list[Step] = []
    if change.disks.remove:
        steps.append(("destroy disks", lambda: volumes.destroy_removed(node, change.disks.remove, vm)))
    if change.disks.add:
        root = str(vm.get("zfs_filesystem"))
        steps.append(("create disks", lambda: volumes.create_volumes(node, change.disks.add, root, uuid)))
    room = _room_steps(session, change, vm) if "zfs_filesystem" in vm else []
    comes_first = change.brand == "bhyve" or bool(change.request.disks.update)
    steps += room if comes_first else []
    contents = metadata.file_contents(metadata.changed_maps(change.maps, vm), vm)
    if contents:
        steps.append((", ".join(contents), lambda: write_config(session, vm, contents)))
    if _changes_hosts(change, vm):
        files = dockerhost.host_files(change, vm)
        steps.append(("files of the host", lambda: hostfiles.write(ZoneFolder(node, vm["zonepath"]), files)))
    script = zonecfg.update_script(change, vm)
    steps.append(("zonecfg", lambda: session.must_zonecfg(uuid, script=script)))
    if change.nics.update and vm.get("state") == "running":
        steps.append(("links", lambda: links.set_links(node, change, vm["zonename"])))
    steps += [] if comes_first else room
    if "zfs_filesystem" in vm:
        steps += _zfs_steps(session, change, vm)
    settings = named(change.properties)
    if brands.facts(change.brand)["live_rctl_update"]:
        controls = {name: settings[name] for name in LIVE_CONTROLS if settings.get(name) is not None}
        if controls:
            steps.append(("resource controls", lambda: _set_controls(session, vm, controls)))
    if settings.get("tmpfs") and vm.get("tmpfs"):
        steps.append(("size of /tmp", lambda: _remount_tmp(session, vm, settings["tmpfs"])))
    if _needs_touch(change, vm):
        steps.append(("last_modified", lambda: _touch_after(session, vm)))
    return steps


def _changes_hosts(change: Change, vm: Vm) -> bool:
    """Whether a docker container is to know other hosts."""
    new, old = change.maps.internal_metadata.set, vm.get("internal_metadata") or {}
    changed = any(key in new and new[key] != old.get(key) for key in dockerhost.HOST_KEYS)
    return changed and dockerhost.is_docker(change, vm)


def _room_steps(session: Session, change: Change, vm: Vm) -> list[Step]:
    """Quota and volumes. A quota that grows comes before the disks that need it, one that shrinks behind them. With
    disks they come before the zone's configuration, which has their sizes, too: zfs is the one that may refuse."""
    quota: list[Step] = [("quota", lambda: _set_quota(session, change, vm))] if _changes_quota(change, vm) else []
    disks: list[Step] = []
    asked = [disk for disk in change.request.disks.update if volumes.changes_volume(disk)]
    if asked:
        disks.append(("resize disks", lambda: volumes.change_volumes(session.node, asked, vm)))
    grows = any(disk.size is not UNSET and disk.dangerous_allow_shrink is not True for disk in asked)
    return quota + disks if grows else disks + quota


def _zfs_steps(session: Session, change: Change, vm: Vm) -> list[Step]:
    node, settings = session.node, named(change.properties)
    steps: list[Step] = []
    if settings.keys() & {*zfs.ROOT_PROPERTIES, *zfs.DATA_PROPERTIES}:
        steps.append(("zfs properties", lambda: zfs.set_properties(node, settings, vm)))
    if settings.keys() & {"indestructible_zoneroot", "indestructible_delegated"}:
        steps.append(("indestructible", lambda: zfs.set_indestructible(node, settings, vm)))
    return steps


def _changes_quota(change: Change, vm: Vm) -> bool:
    """With bhyve all of the flexible disk space is in it, too."""
    new = change.properties
    if new.quota is not UNSET and new.quota != vm.get("quota"):
        return True
    flexible = new.flexible_disk_size
    return change.brand == "bhyve" and flexible is not UNSET and (flexible or 0) != (vm.get("flexible_disk_size") or 0)


def _set_quota(session: Session, change: Change, vm: Vm) -> None:
    new, dataset = change.properties, vm["zfs_filesystem"]
    quota = vm.get("quota") or 0 if new.quota is UNSET else new.quota or 0
    if change.brand != "bhyve":
        zfs.set_quota(session.node, dataset, quota)
        return
    flexible = vm.get("flexible_disk_size") if new.flexible_disk_size is UNSET else new.flexible_disk_size
    zfs.set_bhyve_quota(session.node, dataset, quota, flexible or 0)


def write_config(session: Session, vm: Vm, contents: dict[str, str]) -> None:
    """Write files of the VM's config folder. Raises NotWritten."""
    folder = ZoneFolder(session.node, vm["zonepath"])
    for file, text in contents.items():
        folder.write(f"config/{file}", text)


def _touch_after(session: Session, vm: Vm) -> None:
    """Listeners who see each step see the change itself first, and then that the VM was modified."""
    if session.transaction is None:
        session.show(vm["zonename"], f"VM.js update ({vm['uuid']})")
    touch(session, vm)


def touch(session: Session, vm: Vm) -> None:
    """Move the VM's last_modified where a change is in zfs or a file only. Failing is no failure of the change."""
    path = f"/etc/zones/{vm['zonename']}.xml"
    session.try_to("touch the zone's XML", lambda: session.node.touch(path, time.time()), uuid=vm["uuid"])


def _needs_touch(change: Change, vm: Vm) -> bool:
    resized = any(disk.size is not UNSET for disk in change.request.disks.update)
    return resized or bool(change.request.maps.routes) or _changes_quota(change, vm)


def _set_controls(session: Session, vm: Vm, controls: Mapping[str, int]) -> None:
    """Tell a running zone its resource controls. The configuration is written: errors are only logged."""
    for name, amount in controls.items():
        control, value = f"zone.{name.replace('_', '-')}", amount * LIVE_CONTROLS[name]
        session.try_to(
            "set a resource control",
            partial(_prctl, session, vm["zonename"], control, value),
            uuid=vm["uuid"],
            control=control,
        )


def _prctl(session: Session, zonename: str, control: str, value: int) -> None:
    ends = ("-i", "zone", zonename)
    if control == "zone.cpu-cap" and value == 0:
        session.node.must("prctl", "-n", control, "-x", "-t", "privileged", *ends)
        return
    words = ("-n", control, "-v", str(value), "-t", "privileged")
    result = session.node.run("prctl", *words, "-r", *ends)
    if result.status != 0 and "no matching resource control to replace" in result.stderr:
        session.node.must("prctl", *words, "-s", *ends)


def _remount_tmp(session: Session, vm: Vm, size: int) -> None:
    """`size` in MiB. A zone that is not running takes it when it boots: errors are only logged."""
    session.try_to(
        "resize /tmp",
        lambda: session.node.must(
            "zlogin", vm["zonename"], "/usr/sbin/mount", "-F", "tmpfs", "-o", f"remount,size={size}m", "/tmp"
        ),
        uuid=vm["uuid"],
    )
