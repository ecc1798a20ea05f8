# SPDX-License-Identifier: MPL-2.0
"""All that can be wrong with a payload, found before anything is touched and told together.

A property whose own value is bad takes no part in the checks that look at several: one mistake, one text.
Always: nothing is changed; the node is only asked (pools, images, NIC tags) where the payload makes it matter."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Optional

from vmadm.actions import conflicts, images
from vmadm.actions.session import Session
from vmadm.errors import BadPayload, VmadmError
from vmadm.payload import Payload, crosschecks, nics
from vmadm.payload.findings import Findings
from vmadm.payload.normalise import DEFAULT_POOL
from vmadm.payload.propertychecks import allowed_part, is_unset, look_through
from vmload import brands

CREATE, UPDATE = "create", "update"


def check_create(session: Session, payload: Payload, brand: str, present: Optional[Payload], name: str) -> None:
    """`payload` is renamed; `present` is the VM that has the uuid already, if any. Raises BadPayload."""
    findings = look_through(payload, brand, CREATE, pools(session))
    good = _good_part(payload, findings, brand, CREATE)
    findings.bad_values += images.bad_ones(session.node, good, brand, DEFAULT_POOL)
    texts = [] if present is None else [f"VM with UUID {payload['uuid']} already exists"]
    texts += findings.texts() + crosschecks.both_forms(payload) + crosschecks.of_values(good)
    new = good.get("nics") or []
    for nic in new:
        texts += nics.check_new(nic, brand)
    texts += nics.check_together(new, [], [])
    texts += crosschecks.of_new_disks(good.get("disks") or [], brand)
    texts += _check_node(session, new, good.get("vnc_port"), payload.get("uuid"), name)
    if texts:
        raise BadPayload(texts)


def check_update(session: Session, payload: Payload, vm: Payload, name: str) -> None:
    """An update of the VM `vm`. Raises BadPayload."""
    brand = vm["brand"]
    findings = look_through(payload, brand, UPDATE, ())
    good = _good_part(payload, findings, brand, UPDATE)
    findings.bad_values += images.bad_ones(session.node, good, brand, vm.get("zpool") or DEFAULT_POOL)
    texts = findings.texts() + crosschecks.both_forms(payload) + crosschecks.of_values(good)
    added, updated = good.get("add_nics") or [], good.get("update_nics") or []
    for nic in added:
        texts += nics.check_new(nic, brand)
    for nic in updated:
        texts += nics.check_update(nic, vm.get("nics") or [])
    texts += nics.check_together(added, [nic for nic in updated if nic.get("mac")], _kept_nics(good, vm))
    texts += crosschecks.of_new_disks(good.get("add_disks") or [], brand)
    texts += crosschecks.of_disk_changes(good, vm)
    texts += _check_node(session, [*added, *updated], good.get("vnc_port"), vm["uuid"], name)
    if texts:
        raise BadPayload(texts)


def findings_of(session: Session, payload: Payload, brand: str, action: str) -> Findings:
    """What `vmadm validate` looks at: types, allowed, required, images."""
    findings = look_through(payload, brand, action, pools(session))
    good = _good_part(payload, findings, brand, action)
    findings.bad_values += images.bad_ones(session.node, good, brand, DEFAULT_POOL)
    return findings


def check_brand(brand: Any) -> str:
    """A brand that a payload names. Raises BadPayload."""
    if not isinstance(brand, str) or not brands.is_supported(brand):
        raise BadPayload([f'Invalid brand while validating payload: "{brand}"'])
    return brand


def check_brand_of(vm: Payload) -> None:
    """The brand of a VM that is to be changed. Raises VmadmError."""
    if not brands.is_supported(str(vm.get("brand"))):
        raise VmadmError(f"Unsupported brand: {vm.get('brand')}")


def pools(session: Session) -> Collection[str]:
    """The node's pools. Raises ToolFailed."""
    return session.node.must("zpool", "list", "-H", "-p", "-o", "name").stdout.split()


def _good_part(payload: Payload, findings: Findings, brand: str, action: str) -> Payload:
    """What is allowed, without bad values and without the elements that hold one."""
    bad = set(findings.bad_values)
    good = {name: value for name, value in allowed_part(payload, brand, action).items() if name not in bad}
    for name, value in good.items():
        if isinstance(value, list):
            good[name] = [
                element
                for index, element in enumerate(value)
                if not any(where.startswith(f"{name}.{index}.") for where in bad)
            ]
    return good


def _kept_nics(payload: Payload, vm: Payload) -> list[Payload]:
    removed = payload.get("remove_nics") or []
    gone = {nics.full_mac(str(mac)) for mac in (removed.split(",") if isinstance(removed, str) else removed)}
    return [nic for nic in vm.get("nics") or [] if nics.full_mac(str(nic.get("mac"))) not in gone]


def _check_node(session: Session, new: list[Payload], vnc_port: Any, uuid: Any, name: str) -> list[str]:
    texts = []
    if new or not is_unset(vnc_port):
        texts = conflicts.with_others(new, vnc_port, [vm for vm in session.vms(name) if vm.get("uuid") != uuid])
    return texts + conflicts.with_nic_tags(session.node, new)
