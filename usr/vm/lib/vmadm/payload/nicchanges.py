# SPDX-License-Identifier: MPL-2.0
"""All NICs of a payload together: new ones, changed ones, those that go, and who is primary afterwards
(docs/vmadm.md, "NICs").

Always: pure but for new MAC addresses; each NIC by itself, and what is wrong with it, is nicrules.py's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from vmadm.payload import nicconflicts, nicrules
from vmadm.payload.change import Elements, Nic, Request
from vmadm.payload.nicrules import Draft
from vmadm.payload.underway import Underway
from vmadm.payload.unset import said
from vmload import Vm, brands

NicMapping = Mapping[str, Any]


@dataclass(frozen=True)
class NicChanges:
    """`after`: the NICs that the VM will have, in their order."""

    elements: Elements[Nic]
    after: Sequence[NicMapping]
    drafts: Sequence[Draft]
    new_primary: Optional[str] = None


def created(work: Underway, request: Request, driver: Optional[str]) -> NicChanges:
    """The NICs of a new VM; the first one is primary unless another says that it is."""
    drafts = _drafts(work, request, [], driver)
    for number, draft in enumerate(drafts):
        draft.members["interface"] = f"{brands.facts(work.brand)['interface_prefix']}{number}"
    if drafts and not any(draft.members.get("primary") is True for draft in drafts):
        drafts[0].members["primary"] = True
    _check(work, drafts, [])
    elements = Elements(add=tuple(draft.whole() for draft in drafts))
    return NicChanges(elements, [draft.members for draft in drafts], drafts)


def updated(work: Underway, request: Request, vm: Vm) -> NicChanges:
    """What becomes of the VM's NICs. Removing one that is not there is fine: it is gone."""
    old = nicrules.present(vm)
    gone = tuple(dict.fromkeys(mac for mac in request.nics.remove if any(nic["mac"] == mac for nic in old)))
    model = vm.get("nic_driver") or next((nic["model"] for nic in old if nic.get("model")), None)
    drafts = _drafts(work, request, old, said(request.properties.nic_driver, "") or model)
    added = [draft for draft in drafts if draft.old is None]
    changed = {str(draft.old["mac"]): draft for draft in drafts if draft.old is not None}
    _name_interfaces(added, [*old, *(draft.members for draft in changed.values())], work.brand)
    _check_once(gone, changed, drafts, work.texts)
    kept = [nic for nic in old if nic["mac"] not in gone and nic["mac"] not in changed]
    if request.nics:
        _check(work, drafts, kept)
    staying: list[NicMapping] = [
        changed[nic["mac"]].members if nic["mac"] in changed else nic for nic in old if nic["mac"] not in gone
    ]
    after = [*staying, *(draft.members for draft in added)]
    new_primary = _new_primary(drafts, [nic for nic in old if nic["mac"] in gone], staying, after)
    if new_primary is not None:
        for draft in drafts:
            draft.members.pop("primary", None)
    elements = Elements(
        add=tuple(draft.whole() for draft in added),
        update=tuple(draft.whole() for draft in changed.values() if draft.given - {"mac"}),
        remove=gone,
    )
    return NicChanges(elements, after, drafts, new_primary)


def check_node(work: Underway, nics: NicChanges, vnc_port: Optional[int]) -> None:
    """What other VMs and the node's NIC tags object to. A tag that is badly written has been reported already."""
    work.texts += nicconflicts.with_others(nics.drafts, vnc_port, work.node.others)
    tagged = [draft.members for draft in nics.drafts if nicrules.has_good_tag(draft)]
    work.texts += nicconflicts.with_tags(tagged, work.node.nic_tags)


def _drafts(work: Underway, request: Request, old: list[dict[str, Any]], model: Optional[str]) -> list[Draft]:
    """New NICs, then updated ones."""
    drafts = [
        nicrules.new_draft(nic, shown, model, work.brand, work.texts)
        for nic, shown in zip(request.nics.add, work.objects("add", "nics"))
    ]
    for nic, shown in zip(request.nics.update, work.objects("update", "nics")):
        draft = nicrules.updated_draft(nic, shown, old, work.texts)
        if draft is not None:
            drafts.append(draft)
    return drafts


def _name_interfaces(added: list[Draft], others: Iterable[NicMapping], brand: str) -> None:
    used = [str(nic.get("interface")) for nic in others]
    for draft in added:
        draft.members["interface"] = nicrules.next_interface(used, brand)
        used.append(draft.members["interface"])


def _check_once(gone: Iterable[str], changed: Mapping[str, Draft], drafts: Sequence[Draft], texts: list[str]) -> None:
    """No NIC is spoken of twice."""
    for mac in gone:
        if mac in changed or any(draft.mac == mac for draft in drafts):
            texts.append(f"Cannot both remove and add or update the NIC with MAC {mac}")
    if len(changed) < sum(1 for draft in drafts if draft.old is not None):
        texts.append("Cannot update a NIC more than once")


def _check(work: Underway, drafts: Sequence[Draft], kept: Sequence[NicMapping]) -> None:
    """`kept` are the VM's NICs that stay as they are. All together are only looked at where each is good by itself."""
    before = len(work.texts)
    nicrules.check_each(drafts, kept, work.brand, work.texts)
    if len(work.texts) == before and not work.has_bad_nics():
        nicrules.check_vrrp([*kept, *(draft.members for draft in drafts)], work.texts)


def _new_primary(
    drafts: Iterable[Draft], gone: Iterable[NicMapping], staying: Iterable[NicMapping], after: Iterable[NicMapping]
) -> Optional[str]:
    """The MAC of the NIC that becomes primary: the one that says so, or one in place of a primary that goes."""
    for draft in drafts:
        was = draft.old is not None and draft.old.get("primary")
        if "primary" in draft.given and draft.members.get("primary") is True and not was:
            return draft.mac
    if any(nic.get("primary") for nic in gone):
        return nicrules.nominated(staying) or nicrules.nominated(after)
    return None
