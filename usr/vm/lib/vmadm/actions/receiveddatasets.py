# SPDX-License-Identifier: MPL-2.0
"""One dataset of a bundle: it is received, looked at, and only then mounted.

Who sent it is not known. zfs keeps what a stream holds below the name that it is received under, but takes its
properties as they come, and a mountpoint is one of them; and links below the zonepath can have come, too.
Always: each filesystem is mounted at the place that its name says, with no link on the way, or not at all;
        a delegated one (`zoned`) is its zone's business, and is not mounted here;
        device files that came in one are none, as in the root that a create makes: they would be the node's devices.
Always: what did not come whole, or is not as it should be, is destroyed."""

from __future__ import annotations

from collections.abc import Callable

from vmadm.actions.deleting import exists
from vmadm.actions.sending import SENDING
from vmadm.actions.session import Session
from vmadm.errors import VmadmError
from vmadm.node import transfer
from vmadm.node.machine import Node
from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload.arriving import Arrival

UNMOUNTED = ("none", "legacy")  # mountpoints of what is not mounted
PLAIN = ("root", "config", "cores")  # of the zonepath: what the platform mounts there, or boots from
LOOKED_AT = "type,mountpoint,zoned,canmount,devices"

Facts = dict[str, str]


def receive_dataset(
    session: Session, arrival: Arrival, dataset: str, stream: int, watch: Callable[[str], None]
) -> None:
    """Receive `dataset`, which is not there yet, from the descriptor `stream`; `watch(dataset)` is called meanwhile.
    Raises VmadmError."""
    node = session.node
    try:
        transfer.receive(node, dataset, stream, lambda: watch(dataset))
        came = _received(node, dataset)
        mounted = [name for name, facts in came.items() if _is_mounted(name, facts, dataset, arrival)]
        _disarm(node, came)
        _mount(node, mounted, arrival.root)
    except BaseException:
        with session.held():
            session.try_to("destroy what was received in part", lambda: _destroy(node, dataset))
        raise
    session.try_to("destroy the snapshot", lambda: node.must("zfs", "destroy", "-r", "-F", f"{dataset}@{SENDING}"))


def check_plain(folder: ZoneFolder) -> None:
    """What the platform works on below the zonepath is no link to somewhere else. Raises NotWritten."""
    for inside in PLAIN:
        folder.check_no_link(inside)


def _received(node: Node, dataset: str) -> dict[str, Facts]:
    """Name -> properties of what is there now, parents first."""
    fields = ("-t", "filesystem,volume", "-o", "name,property,value", LOOKED_AT)
    found: dict[str, Facts] = {}
    for line in node.must("zfs", "get", "-Hpr", *fields, dataset).stdout.splitlines():
        name, prop, value = line.split("\t")
        found.setdefault(name, {})[prop] = value
    return found


def _is_mounted(name: str, facts: Facts, dataset: str, arrival: Arrival) -> bool:
    """Whether what came as `name` with `dataset` is to be mounted. Raises VmadmError if it must not be here at all."""
    is_root, mountpoint = name == arrival.root, facts["mountpoint"]
    if any(label in (".", "..") for label in name.split("/")):
        raise VmadmError(f"the stream has a dataset with a bad name: {name}")
    if facts["type"] == "volume" and not is_root:
        return False
    if facts["type"] == "volume" or dataset != arrival.root:
        raise VmadmError(f"the stream has a {facts['type']} for {name}")
    if not is_root and (facts["zoned"] == "on" or mountpoint in UNMOUNTED):
        return False
    if mountpoint != f"/{name}" or facts["zoned"] == "on":
        raise VmadmError(f"the stream would have {name} mounted at {mountpoint}, which is not its place")
    return is_root or facts["canmount"] == "on"


def _disarm(node: Node, came: dict[str, Facts]) -> None:
    """Whoever is root in the zone may open what its root has of device files."""
    for name, facts in came.items():
        if facts["type"] == "filesystem" and facts["zoned"] != "on" and facts["devices"] != "off":
            node.must("zfs", "set", "devices=off", name)


def _mount(node: Node, names: list[str], root: str) -> None:
    folder = ZoneFolder(node, f"/{root}")
    for name in names:
        if name != root:
            folder.check_no_link(name.removeprefix(f"{root}/"))
        node.must("zfs", "mount", name)
        if name == root:
            check_plain(folder)


def _destroy(node: Node, dataset: str) -> None:
    if exists(node, dataset):
        node.must("zfs", "destroy", "-rF", dataset)
