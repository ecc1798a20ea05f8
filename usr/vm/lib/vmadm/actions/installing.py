# SPDX-License-Identifier: MPL-2.0
"""`vmadm install`: make a VM of what was received.

    receiving, configured --zoneadm install--> receiving, installed --detach, attach--> provisioning --> stopped

Detaching and attaching is what makes the platform take the zone for one that has always been here.
Always: it works for a VM that is being received, or whose installation was cut short, and for no other; each step
        stands what an earlier one has done already, so that an installation that was interrupted is repeated.
Always: nothing is begun while a dataset is missing, or one that was cut short is there."""

from __future__ import annotations

from functools import partial
from typing import Any, Optional

from vmadm.actions import firewall, lifecycle, marks
from vmadm.actions.deleting import RECEIVING, exists, receiving_path
from vmadm.actions.outcome import confirmed, exactly
from vmadm.actions.receiveddatasets import check_plain
from vmadm.actions.sending import SENDING
from vmadm.actions.session import Session
from vmadm.actions.steps import Step, Steps
from vmadm.errors import NotWritten, VmadmError, WrongState
from vmadm.node import zfs, zonecfg, zoneroot
from vmadm.node.machine import INSTALL_LIMIT, failure
from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload import Payload
from vminfod.clients.failures import ParseError
from vminfod.clients.plainjson import parsed
from vmload import Vm, brands

UNDER_WAY = "receiving_dataset"  # in what is kept: the dataset whose stream has begun and was not seen to end


def install(session: Session, uuid: str) -> Vm:
    """Install the VM, and start it if it is to run; gives it as it then is. Raises VmadmError."""
    name = f"VM.js installZone ({uuid})"
    kept_of(session, uuid)
    session.check_known(uuid, name)
    with session.config_lock(uuid):
        kept = kept_of(session, uuid)
        install_received(session, session.look(uuid, name), kept, name)
    return started(session, uuid, kept, name)


def kept_of(session: Session, uuid: str) -> Payload:
    """What receive wrote down of the VM. Raises NotWritten with the system's words if there is none."""
    path = receiving_path(uuid)
    text = session.node.read(path)
    if text is None:
        raise NotWritten(f"ENOENT: no such file or directory, open '{path}'")
    try:
        kept = parsed(text)
    except ParseError as error:
        raise VmadmError(f"cannot read {path}: {error.message}") from error
    if not isinstance(kept, dict):
        raise VmadmError(f"cannot read {path}: it holds no object")
    return kept


def install_received(session: Session, vm: Vm, kept: Payload, name: str) -> None:
    """Everything up to a VM that is stopped, for the holder of its config lock. Raises VmadmError."""
    _check(session, vm, kept)
    Steps(session.check_interrupted, session.step).run(_steps(session, vm, kept, name))


def started(session: Session, uuid: str, kept: Payload, name: str) -> Vm:
    """The VM, booted if it is to run; its services are not waited for. Raises VmadmError."""
    if kept.get("autoboot") is True:
        return lifecycle.start(session, uuid)
    return confirmed(session, _zonename(kept, uuid), [exactly("state", "stopped")], name, f"VM {uuid} was installed")


def _check(session: Session, vm: Vm, kept: Payload) -> None:
    uuid, state = vm["uuid"], vm.get("state")
    cut_short = vm.get("provisioning") is True and state in ("provisioning", "configured")
    if state != RECEIVING and not (cut_short and vm.get("zone_state") in ("installed", "configured")):
        raise WrongState(f'Cannot install vm from state "{state}", must be "{RECEIVING}".')
    if vm.get("zone_state") == "incomplete":
        raise WrongState(
            f"the installation of VM {uuid} was cut short while zoneadm worked: receive it again, or remove it with "
            "vmadm delete"
        )
    missing = missing_of(session, vm)
    if missing:
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in missing.items())
        named = ", ".join(name for names in missing.values() for name in names)
        raise VmadmError(f"Unable to complete install for {uuid} zone is still missing: {counts} ({named})")
    begun = kept.get(UNDER_WAY)
    if isinstance(begun, str) and exists(session.node, begun) and not _is_whole(session, begun):
        raise VmadmError(
            f"Unable to complete install for {uuid}: {begun} was not received to its end. Receive the VM again; or, "
            f"if the dataset has been completed by hand, run zfs snapshot -r {begun}@{SENDING}"
        )


def missing_of(session: Session, vm: Vm) -> dict[str, list[str]]:
    """What the VM still lacks, by kind. Of filesystems, which vminfod lists unchecked, those without a source."""
    shown: dict[str, list[Any]] = vm.get("missing") or {}
    found = {
        "datasets": list(map(str, shown.get("datasets") or [])),
        "filesystems": [str(source) for source in shown.get("filesystems") or [] if not _is_there(session, source)],
        "disks": list(map(str, shown.get("disks") or [])),
    }
    return {kind: names for kind, names in found.items() if names}


def _is_there(session: Session, source: Any) -> bool:
    return not str(source).startswith("/") or session.node.exists(str(source))


def _is_whole(session: Session, dataset: str) -> bool:
    """Whether all of the dataset has the last snapshot of a stream."""
    words = ("list", "-H", "-r", "-t", "filesystem,volume,snapshot", "-o", "name", dataset)
    names = set(session.node.must("zfs", *words).stdout.split("\n"))
    return all("@" in name or f"{name}@{SENDING}" in names for name in names if name)


def _steps(session: Session, vm: Vm, kept: Payload, name: str) -> list[Step]:
    node, uuid, root = session.node, vm["uuid"], str(vm["zonepath"]).lstrip("/")
    folder = ZoneFolder(node, vm["zonepath"])
    configured = vm.get("zone_state") == "configured"
    steps: list[Step] = [("check the zonepath", lambda: check_plain(folder))]
    if vm.get("state") == RECEIVING and vm.get("zone_state") != "installed":
        steps.append(("install", lambda: _install(session, vm, kept, name)))
        configured = False
    steps += [
        ("zfs properties", lambda: _set_properties(session, kept, root, name)),
        ("remove the transition", lambda: marks.remove_transition(session, vm)),
    ]
    if not configured:
        steps.append(("detach", lambda: node.must("zoneadm", "-u", uuid, "detach")))
    steps += [
        ("attach", lambda: _attach(session, vm, name)),
        ("files in the zone", lambda: _prepare_root(session, folder, kept)),
        ("firewall", lambda: firewall.came(session, vm, name)),
        ("remove the provisioning mark", lambda: _unmark(session, vm, name)),
    ]
    return steps


def _install(session: Session, vm: Vm, kept: Payload, name: str) -> None:
    quota = kept.get("quota", 0)
    words = ["-z", vm["zonename"], "install", "-q", str(quota) if isinstance(quota, int) else "0"]
    if vm["brand"] == "bhyve":
        words += ["-x", "nodataset"]
    elif kept.get("image_uuid"):
        words += ["-t", str(kept["image_uuid"]), "-x", "nodataset"]
    session.node.must("zoneadm", *words, limit=INSTALL_LIMIT)
    _confirmed(session, vm, name, zone_state="installed")


def _set_properties(session: Session, kept: Payload, root: str, name: str) -> None:
    wanted = {prop: kept[prop] for prop in zfs.ROOT_PROPERTIES if isinstance(kept.get(prop), (int, str))}
    vm: Optional[Vm] = session.show(str(kept.get("zonename") or kept.get("uuid")), name)
    zfs.set_properties(session.node, wanted, {**(vm or {}), "zfs_filesystem": root})
    for member, dataset in (("indestructible_zoneroot", root), ("indestructible_delegated", f"{root}/data")):
        if kept.get(member) is True:
            zfs.make_indestructible(session.node, dataset)


def _attach(session: Session, vm: Vm, name: str) -> None:
    session.node.must("zoneadm", "-u", vm["uuid"], "attach", limit=INSTALL_LIMIT)
    _confirmed(session, vm, name, zone_state="installed")


def _prepare_root(session: Session, folder: ZoneFolder, kept: Payload) -> None:
    facts = brands.facts(str(kept.get("brand")))
    folder.remove(f"root/{zoneroot.METADATA_SOCKET}")
    if facts["write_zone_netfiles"] and kept.get("tmpfs") == 0:
        zoneroot.drop_tmpfs(folder)
    if facts["mdata_restart"]:
        session.try_to(
            "set the metadata service's time limit",
            partial(zoneroot.set_metadata_timeout, session.node, folder, zoneroot.MDATA_TIMEOUT),
            uuid=kept.get("uuid"),
        )


def _unmark(session: Session, vm: Vm, name: str) -> None:
    result = session.zonecfg(vm["uuid"], zonecfg.REMOVE_PROVISIONING)
    if result.status != 0 and zonecfg.ATTR_GONE not in result.stderr:
        raise failure("zonecfg", result)
    _confirmed(session, vm, name, provisioning=None, transition_to=None, state="stopped")


def _confirmed(session: Session, vm: Vm, name: str, **shown: Any) -> None:
    wanted = [exactly(key, value) for key, value in shown.items()]
    confirmed(session, vm["zonename"], wanted, name, f"VM {vm['uuid']} was installed")


def _zonename(kept: Payload, uuid: str) -> str:
    return str(kept.get("zonename") or uuid)
