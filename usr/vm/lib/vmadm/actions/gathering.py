# SPDX-License-Identifier: MPL-2.0
"""Asking the node for what a payload's rules need to know (payload/nodefacts.py): pools, images, NIC tags, other VMs.

Always: nothing is changed, and only what is needed is asked. An image that imgadm cannot show, for whatever reason, is
        not there: why imgadm said no is in the log."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Optional

from vmadm.actions.session import Session
from vmadm.errors import VmadmError
from vmadm.node.machine import Node
from vmadm.payload.nicconflicts import with_tags
from vmadm.payload.nodefacts import FactsNeeded, Image, NicTag, NodeFacts, image_of
from vmload import Vm
from vmload.reader import SYSINFO

BHYVE_CAPABLE = "Bhyve Capable"


def gather(session: Session, needed: FactsNeeded, name: str, uuid: Optional[str] = None) -> NodeFacts:
    """What is `needed`; other VMs are all but `uuid`. Raises ToolFailed, DaemonAway."""
    node = session.node
    pools = node.must("zpool", "list", "-H", "-p", "-o", "name").stdout.split() if needed.pools else ()
    found = {key: _image(node, *key) for key in needed.images}
    others = [vm for vm in session.vms(name) if vm.get("uuid") != uuid] if needed.others else ()
    return NodeFacts(
        pools=frozenset(pools),
        images={key: image for key, image in found.items() if image is not None},
        nic_tags=nic_tags(node, needed.nic_tags),
        others=tuple(others),
    )


def nic_tags(node: Node, names: Iterable[str]) -> dict[str, NicTag]:
    """Those of the tags that there are. Raises ToolFailed, VmadmError."""
    wanted = list(names)
    if not wanted:
        return {}
    missing: set[str] = set()
    exists = node.run("nictagadm", "exists", "-l", *wanted)
    if exists.status != 0:
        said = {line.strip() for line in exists.stderr.splitlines()}
        missing = said & set(wanted) or set(wanted)
    try:
        listed = node.must("nictagadm", "list", "-p", "-d", ",").stdout
    except VmadmError as error:
        raise VmadmError(f"Error validating nic tags: {error}") from error
    rows = {row[0]: row for line in listed.splitlines() if len(row := line.split(",")) >= 4}
    return {tag: _tag(rows.get(tag)) for tag in wanted if tag not in missing}


def check_hypervisor(node: Node, brand: str) -> None:
    """Whether the machine's processor can run VMs of that brand. Raises NotWritten, VmadmError."""
    if brand != "bhyve":
        return
    try:
        is_capable = json.loads(node.read(SYSINFO) or "")[BHYVE_CAPABLE]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise VmadmError(f'sysinfo does not have "{BHYVE_CAPABLE}" property') from error
    if not is_capable:
        raise VmadmError("Bhyve not supported")


def check_tags_of(node: Node, vm: Vm, prefix: str = "") -> None:
    """The NIC tags of a VM that is about to boot. Raises VmadmError."""
    nics = [nic for nic in vm.get("nics") or [] if nic.get("nic_tag")]
    texts = with_tags(nics, nic_tags(node, dict.fromkeys(str(nic["nic_tag"]) for nic in nics)))
    if texts:
        raise VmadmError(prefix + "; ".join(texts))


def _tag(row: Optional[list[str]]) -> NicTag:
    """A line of `nictagadm list`: tag, MAC, link, type; a platform that lists the MTU does so in a fifth column. An
    overlay's tag, such as sdc_overlay/7, has no line."""
    if row is None:
        return NicTag(type="overlay")
    return NicTag(type=row[3], mtu=int(row[4]) if len(row) > 4 and row[4].isdigit() else None)


def _image(node: Node, pool: str, image: str) -> Optional[Image]:
    """None if there is none such, or imgadm says nothing sensible."""
    try:
        result = node.run("imgadm", "get", "-P", pool, image)
        found = json.loads(result.stdout)["manifest"] if result.status == 0 else None
    except (VmadmError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return image_of(found)
