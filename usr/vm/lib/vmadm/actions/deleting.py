# SPDX-License-Identifier: MPL-2.0
"""`vmadm delete`: take a VM away with all that it has, and taking away what a failed create made.

It works from any state, also from what an interrupted create or delete left behind: each step stands what an earlier
one has done already. So a delete that was interrupted is repeated to finish it."""

from __future__ import annotations

from functools import partial

from vmadm.actions import firewall
from vmadm.actions.archiving import archive
from vmadm.actions.session import Session
from vmadm.actions.settling import swap_of
from vmadm.actions.steps import Steps
from vmadm.errors import OutcomeMissed, VmadmError, VmNotFound, WrongState
from vmadm.node import locks, zfs
from vmadm.node.machine import Node, failure
from vmadm.node.zonefolder import ZoneFolder
from vminfod.clients.plainjson import compact
from vmload import Vm

NOT_INSTALLED = "is already in state 'configured'"
NO_SUCH_ZONE = "No such zone configured"
RECEIVING = "receiving"  # the state of a VM whose datasets are still to come, or have come and are not installed


def receiving_path(uuid: str) -> str:
    """Where what is known of a VM that is being received is kept."""
    return f"/etc/zones/{uuid}-receiving.json"


def delete(session: Session, uuid: str) -> None:
    """Delete the VM. Raises VmadmError."""
    name = f"VM.js deleteZone ({uuid})"
    try:
        _check_known(session, uuid, name)
        with session.config_lock(uuid):
            vm = session.look_or_last_known(uuid, name)
            _check(session, vm, name)
            take_away(session, vm, name)
            firewall.went(session, vm, name)
            locks.forget(session.node.real(locks.config_lock(uuid)))
    except VmadmError as error:
        error.args = (f"Failed to delete VM {uuid}: {error}",)
        raise


def _check_known(session: Session, uuid: str, name: str) -> None:
    """Raises VmNotFound, which names datasets that may be a VM's that was never made whole, and DaemonAway."""
    try:
        session.check_known(uuid, name)
    except VmNotFound as error:
        left: list[str] = []
        session.try_to("look for its datasets", lambda: left.extend(_left_behind(session.node, uuid)), uuid=uuid)
        if left:
            error.args = (f"{error}, but there is {', '.join(left)}: {zfs.LEFT_BY_A_CREATE}",)
        raise


def _check(session: Session, vm: Vm, name: str) -> None:
    for member in ("indestructible_zoneroot", "indestructible_delegated"):
        if vm.get(member):
            raise WrongState(f"{member} is set, cannot delete")
    sharing = [other["uuid"] for other in sharing_volumes(session, vm, name)]
    if sharing:
        raise WrongState(
            f"Unable to delete VM {vm['uuid']} the following VMs are sharing its volumes: {compact(sharing)}"
        )


def sharing_volumes(session: Session, vm: Vm, name: str) -> list[Vm]:
    """The other VMs that mount a volume of this one. Raises DaemonAway."""
    volumes = f"{vm['zonepath']}/volumes/"
    return [
        other
        for other in session.vms(name)
        if other.get("uuid") != vm["uuid"]
        and any(str(filesystem.get("source", "")).startswith(volumes) for filesystem in other.get("filesystems") or [])
    ]


def take_away(session: Session, vm: Vm, name: str) -> None:
    """All of the VM, from whatever state; for the holder of its config lock. Raises VmadmError."""
    uuid, node = vm["uuid"], session.node
    steps = Steps(session.check_interrupted, session.step)
    try:
        steps.run(
            [
                ("halt", lambda: _halt(session, vm)),
                ("archive", lambda: _archive(session, vm)),
                ("uninstall", lambda: _uninstall(session, vm, name)),
                ("disks", lambda: _destroy_disks(node, vm)),
                ("roots of a reprovision", lambda: _remove_leftovers(session, vm)),
                ("zonecfg", lambda: session.must_zonecfg(uuid, "delete", "-F")),
                ("leftovers", lambda: node.remove(receiving_path(uuid))),
            ]
        )
    except VmadmError:
        session.show(uuid, name)
        raise
    if session.fresh(vm["zonename"], name) is not None:
        raise OutcomeMissed("it was deleted, but somebody else created it again meanwhile")


def _halt(session: Session, vm: Vm) -> None:
    session.try_to("set autoboot", lambda: session.must_zonecfg(vm["uuid"], "set autoboot=false"), uuid=vm["uuid"])
    session.try_to(
        "halt the zone", lambda: session.node.must("zoneadm", "-u", vm["uuid"], "halt", "-X"), uuid=vm["uuid"]
    )


def _archive(session: Session, vm: Vm) -> None:
    """Keep what an operator may want to look at, if the VM asks for that; failing does not stop the deletion."""
    if not vm.get("archive_on_delete"):
        return
    session.try_to("archive the VM", lambda: archive(session, vm), uuid=vm["uuid"])


def _uninstall(session: Session, vm: Vm, name: str) -> None:
    """Destroy the zone's datasets. Where that fails the work goes on, as it always did, and says so."""
    result = session.node.run("zoneadm", "-u", vm["uuid"], "uninstall", "-F")
    if result.status != 0:
        if NOT_INSTALLED in result.stderr:
            _destroy_received(session, vm)
        else:
            session.log.warning("could not uninstall", extra={"uuid": vm["uuid"], "err": result.stderr})
            if vm.get("zfs_filesystem"):
                session.tell(f"{failure('zoneadm', result)}; dataset {vm['zfs_filesystem']} may be left")
        return
    session.show(vm["zonename"], name)  # listeners see the zone configured before it goes


def _destroy_received(session: Session, vm: Vm) -> None:
    """A VM that is being received has datasets before its zone is installed: zoneadm does not know of them."""
    uuid, root = vm["uuid"], str(vm["zonepath"]).lstrip("/")
    if vm.get("state") == RECEIVING or session.node.exists(receiving_path(uuid)):
        _destroy(session.node, root)


def _destroy_disks(node: Node, vm: Vm) -> None:
    for disk in vm.get("disks") or []:
        volume = disk.get("zfs_filesystem")
        if volume and exists(node, volume):
            zfs.destroy_volume(node, volume)


def _remove_leftovers(session: Session, vm: Vm) -> None:
    """What commands that were killed have left beside the VM's own: roots of a reprovision."""
    for dataset in sorted(swap_of(session.node, vm).leftovers()):
        session.node.must("zfs", "destroy", "-r", dataset)


def _left_behind(node: Node, uuid: str) -> list[str]:
    """Datasets that are named after a VM that does not exist: a create that was killed before it made the zone left
    them, or somebody else keeps something there, which nothing here can tell. Raises ToolFailed."""
    pools = node.must("zpool", "list", "-H", "-p", "-o", "name").stdout.split()
    words = ("list", "-H", "-o", "name", "-d", "1", "-t", "filesystem,volume")
    names = node.must("zfs", *words, *pools).stdout.split()
    return [name for name in names if name.partition("/")[2].startswith(uuid)]


def exists(node: Node, dataset: str) -> bool:
    """Whether there is such a dataset. Raises ToolFailed if zfs does not tell."""
    result = node.run("zfs", "list", "-o", "name", "-H", dataset)
    if result.status != 0 and "dataset does not exist" not in result.stderr:
        raise failure("zfs", result)
    return result.status == 0


def clean_up(session: Session, vm: Vm, made: list[str], name: str) -> list[str]:
    """Take away what a create that failed has made: `made` has "zone" if its configuration is there, and the datasets
    that are its own. What could not be taken away, in words; empty if nothing is left."""
    node, uuid, left = session.node, vm["uuid"], []
    with session.held():
        if "zone" in made:
            session.try_to("halt the zone", lambda: node.must("zoneadm", "-u", uuid, "halt", "-X"), uuid=uuid)
            session.try_to("uninstall", lambda: node.must("zoneadm", "-u", uuid, "uninstall", "-F"), uuid=uuid)
        for dataset in [dataset for dataset in made if dataset != "zone"]:
            error = session.try_to("destroy a dataset", partial(_destroy, node, dataset), uuid=uuid)
            if error is not None:
                left.append(f"dataset {dataset}: {error}")
        if "zone" in made:
            error = session.try_to("delete the zone", lambda: _delete_zone(session, uuid), uuid=uuid)
            if error is not None:
                left.append(f"zone {vm['zonename']}: {error}")
            elif not left:
                pool = ZoneFolder(node, f"/{vm['zpool']}")
                session.try_to("remove the zonepath", lambda: pool.remove_folder(vm["zonename"]), uuid=uuid)
        session.show(vm["zonename"], name)
    return left


def _destroy(node: Node, dataset: str) -> None:
    if exists(node, dataset):
        # A hold that the create itself took must not keep its dataset.
        zfs.make_destructible(node, dataset)
        if exists(node, f"{dataset}/data"):
            zfs.make_destructible(node, f"{dataset}/data")
        node.must("zfs", "destroy", "-rF", dataset)


def _delete_zone(session: Session, uuid: str) -> None:
    result = session.zonecfg(uuid, "delete", "-F")
    if result.status != 0 and NO_SUCH_ZONE not in result.stderr:
        raise failure("zonecfg", result)
