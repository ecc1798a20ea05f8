# SPDX-License-Identifier: MPL-2.0
"""A payload for create or update becomes a Change, in one pass (docs/vmadm.md, "What a payload may say").

    needed = facts_needed(payload)              nodefacts.py; what to ask the node
    change = parse_create(payload, node, uuid)
    change = parse_update(payload, vm, node)    `vm` as a fresh read shows it

The way: memory properties are settled, then validation looks at the payload (findings.py), what is good of it is typed
(asked.py), and each part is completed and checked by its own rules.
Always: pure but for new uuids and MAC addresses; the payload is not changed; BadPayload has all that is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from vmadm.errors import BadPayload
from vmadm.payload import (
    Payload,
    asked,
    diskrules,
    follow,
    memoryrules,
    nicconflicts,
    nicrules,
    otherlists,
    routerules,
    scalarrules,
)
from vmadm.payload.change import Change, Disk, Elements, Nic, Properties, Request, named
from vmadm.payload.findings import CREATE, UPDATE, Findings, look_through
from vmadm.payload.nodefacts import DEFAULT_POOL, NodeFacts
from vmadm.payload.unset import said
from vmadm.payload.validation import bad_brand
from vmadm.payload.valuerules import is_unset
from vmload import Vm, brands

DEFAULT_BRAND = "joyent"


def brand_of(payload: Payload) -> str:
    """The brand of a VM to be made. Raises BadPayload."""
    brand = payload.get("brand")
    if is_unset(brand):
        return DEFAULT_BRAND
    if bad_brand(brand) is not None:
        raise BadPayload([f'Invalid brand while validating payload: "{brand}"'])
    return str(brand)


def parse_create(payload: Payload, node: NodeFacts, uuid: str) -> Change:
    """`uuid` is the payload's, or a new one. Raises BadPayload."""
    brand = brand_of(payload)
    work = _Work(brand, CREATE, node, follow.renamed({**payload, "brand": brand}, brand))
    request = work.request(given_memory=follow.with_default_ram(work.payload, brand), old={})
    properties = follow.created(request.properties, work.memory, brand, uuid)
    maps = request.maps
    if properties.docker is True:
        properties, maps = follow.docker(properties, maps, {}, uuid, brand)
    drafts = work.drafts(request, [], said(properties.nic_driver, ""))
    for number, draft in enumerate(drafts):
        draft.members["interface"] = f"{brands.facts(brand)['interface_prefix']}{number}"
    if drafts and not any(draft.members.get("primary") is True for draft in drafts):
        drafts[0].members["primary"] = True
    work.check_nics(drafts, [], touched=True)
    texts = work.texts
    zpool, zonename = said(properties.zpool, DEFAULT_POOL), said(properties.zonename, uuid)
    disks = diskrules.new_disks(
        request.disks.add,
        work.objects("add", "disks"),
        brand=brand,
        driver=said(properties.disk_driver, ""),
        place=(place := diskrules.Place(brand, f"{zpool}/{zonename}", zpool, [])),
        old=[],
        node=node,
        texts=texts,
        media=diskrules.DISK,
    )
    properties, maps = follow.images(properties, maps, work.payload, node, brand)
    properties, maps, disks = follow.nocloud(properties, maps, disks, place, brand)
    if not work.has_bad_nics():
        texts += routerules.check(maps.routes.set, {}, [named(draft.whole()) for draft in drafts])
    filesystems = otherlists.filesystems(request.filesystems, work.objects("add", "filesystems"), [], texts)
    devices = otherlists.pci_devices(request.pci_devices, [], texts)
    work.finish(drafts, request, properties)
    return Change(
        brand=brand,
        uuid=uuid,
        zonename=zonename,
        zpool=zpool,
        request=request,
        properties=properties,
        maps=maps,
        nics=Elements(add=tuple(draft.whole() for draft in drafts)),
        disks=Elements(add=disks),
        filesystems=filesystems,
        pci_devices=devices,
        is_new=True,
    )


def parse_update(payload: Payload, vm: Vm, node: NodeFacts) -> Change:
    """An update of the VM `vm`, whose brand is a supported one. Raises BadPayload."""
    brand, uuid = str(vm["brand"]), str(vm["uuid"])
    work = _Work(brand, UPDATE, node, payload)
    request = work.request(given_memory=memoryrules.integers(payload), old=vm)
    properties = follow.updated(request.properties, work.memory, vm, brand)
    maps = request.maps
    if properties.docker is True:
        properties, maps = follow.docker(properties, maps, vm, uuid, brand)
    properties, maps = follow.images(properties, maps, work.payload, node, brand)
    nics, nics_after, new_primary, drafts = _updated_nics(work, request, vm)
    disks = _updated_disks(work, request, vm)
    if request.maps.routes or request.nics:
        kept = {
            destination: gateway
            for destination, gateway in (vm.get("routes") or {}).items()
            if destination not in maps.routes.remove and destination not in maps.routes.set
        }
        if not work.has_bad_nics():
            work.texts += routerules.check(maps.routes.set, kept if request.nics else {}, nics_after)
    filesystems = otherlists.filesystems(
        request.filesystems, work.objects("add", "filesystems"), vm.get("filesystems") or [], work.texts
    )
    work.texts += otherlists.check_pci_state(request.pci_devices, vm)
    devices = otherlists.pci_devices(request.pci_devices, vm.get("pci_devices") or [], work.texts)
    work.finish(drafts, request, properties)
    return Change(
        brand=brand,
        uuid=uuid,
        zonename=str(vm.get("zonename") or uuid),
        zpool=str(vm.get("zpool") or DEFAULT_POOL),
        request=request,
        properties=properties,
        maps=maps,
        nics=nics,
        disks=disks,
        filesystems=filesystems,
        pci_devices=devices,
        new_primary=new_primary,
    )


@dataclass
class _Work:
    """One payload under way: what was found wrong so far."""

    brand: str
    action: str
    node: NodeFacts
    payload: Payload
    found: Findings = field(default_factory=Findings)
    texts: list[str] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)

    def request(self, given_memory: dict[str, Any], old: Mapping[str, Any]) -> Request:
        """What is asked, typed, as far as it is good. Memory that is given is first brought within its limits."""
        brand, action = self.brand, self.action
        given = {name: value for name, value in given_memory.items() if asked.is_allowed(name, brand, action)}
        bad = memoryrules.bad_nulls(self.payload, brand)
        self.memory = memoryrules.with_memory(given, dict(old), brand) if given and not bad else given
        settled = {**self.payload, **{name: self.memory[name] for name in given if name in self.payload}}
        self.found = look_through(settled, brand, action, self.node)
        self.found.missing_properties += otherlists.missing_members(self.payload, brand, action)
        for name in [*bad, *asked.not_storable(self.payload, brand, action)]:
            if name not in self.found.bad_values:
                self.found.bad_values.append(name)
        for name in [name for name in self.found.bad_values if name.endswith(".image_uuid")]:
            size = name.removesuffix("image_uuid") + "image_size"  # the image would have told it
            self.found.missing_properties = [each for each in self.found.missing_properties if each != size]
        self.texts = self.found.texts() + asked.both_forms(self.payload)
        return asked.request_of(self.payload, brand, action, self.found)

    def objects(self, verb: str, name: str) -> list[Payload]:
        """The good objects of a list as they were given, in the order of the request's."""
        return asked.good_objects(self.payload, verb, name, self.brand, self.action, self.found)

    def has_bad_nics(self) -> bool:
        """Whether a NIC was left out because something of it is bad."""
        wrong = [*self.found.bad_values, *self.found.missing_properties]
        return any(name.split(".")[0] in ("nics", "add_nics", "update_nics", "remove_nics") for name in wrong)

    def drafts(self, request: Request, old: list[dict[str, Any]], model: Optional[str]) -> list[nicrules.Draft]:
        """New NICs, then updated ones."""
        drafts = [
            nicrules.new_draft(nic, shown, model, self.brand, self.texts)
            for nic, shown in zip(request.nics.add, self.objects("add", "nics"))
        ]
        for nic, shown in zip(request.nics.update, self.objects("update", "nics")):
            draft = nicrules.updated_draft(nic, shown, old, self.texts)
            if draft is not None:
                drafts.append(draft)
        return drafts

    def check_nics(self, drafts: list[nicrules.Draft], kept: list[dict[str, Any]], *, touched: bool) -> None:
        """`kept` are the VM's NICs that stay as they are."""
        before = len(self.texts)
        nicrules.check_each(drafts, kept, self.brand, self.texts)
        if touched and len(self.texts) == before and not self.has_bad_nics():
            nicrules.check_vrrp([*kept, *(draft.members for draft in drafts)], self.texts)

    def finish(self, drafts: list[nicrules.Draft], request: Request, properties: Properties) -> None:
        """The checks of single values, and of the node. Raises BadPayload if anything was wrong."""
        self.texts += scalarrules.check(request.properties, self.brand)
        self.texts += nicconflicts.with_others(drafts, said(request.properties.vnc_port, 0), self.node.others)
        tagged = [draft.members for draft in drafts if "nic_tag" in draft.given and _has_tag(draft)]
        self.texts += nicconflicts.with_tags(tagged, self.node.nic_tags)
        if self.texts:
            raise BadPayload(list(dict.fromkeys(self.texts)))


def _has_tag(draft: nicrules.Draft) -> bool:
    """A tag that is badly written has been reported already."""
    tag = draft.shown.get("nic_tag")
    pattern = nicrules.NEW_TAG if draft.old is None else nicrules.KEPT_TAG
    return isinstance(tag, str) and pattern.fullmatch(tag) is not None


def _updated_nics(
    work: _Work, request: Request, vm: Vm
) -> tuple[Elements[Nic], list[Mapping[str, Any]], Optional[str], list[nicrules.Draft]]:
    """The changes of NICs, the NICs that there will be, who becomes primary, and all drafts."""
    old = nicrules.present(vm)
    gone = tuple(dict.fromkeys(mac for mac in request.nics.remove if any(nic["mac"] == mac for nic in old)))
    model = vm.get("nic_driver") or next((nic["model"] for nic in old if nic.get("model")), None)
    drafts = work.drafts(request, old, said(request.properties.nic_driver, "") or model)
    used = [str(nic.get("interface")) for nic in old]
    for draft in drafts:
        if draft.old is None:
            draft.members["interface"] = nicrules.next_interface(used, work.brand)
        used.append(str(draft.members.get("interface")))
    changed = {str(draft.old["mac"]): draft for draft in drafts if draft.old is not None}
    for mac in gone:
        if mac in changed or any(draft.mac == mac for draft in drafts):
            work.texts.append(f"Cannot both remove and add or update the NIC with MAC {mac}")
    if len(changed) < sum(1 for draft in drafts if draft.old is not None):
        work.texts.append("Cannot update a NIC more than once")
    kept = [nic for nic in old if nic["mac"] not in gone and nic["mac"] not in changed]
    work.check_nics(drafts, kept, touched=bool(request.nics))
    added = [draft for draft in drafts if draft.old is None]
    staying = [
        {**changed[nic["mac"]].members} if nic["mac"] in changed else nic for nic in old if nic["mac"] not in gone
    ]
    new_primary = _new_primary(drafts, old, gone, staying, [draft.members for draft in added])
    if new_primary is not None:
        for draft in drafts:
            draft.members.pop("primary", None)
    whole = Elements(
        add=tuple(draft.whole() for draft in added),
        update=tuple(draft.whole() for draft in drafts if draft.old is not None and _says_more(draft)),
        remove=gone,
    )
    return whole, [*staying, *(draft.members for draft in added)], new_primary, drafts


def _says_more(draft: nicrules.Draft) -> bool:
    """Whether the payload says anything of the NIC besides which one it is."""
    return bool(draft.given - {"mac"})


def _new_primary(
    drafts: Iterable[nicrules.Draft],
    old: list[dict[str, Any]],
    gone: tuple[str, ...],
    staying: list[Any],
    added: list[dict[str, Any]],
) -> Optional[str]:
    """The MAC of the NIC that becomes primary: the one that says so, or one in place of a primary that goes."""
    for draft in drafts:
        was = draft.old is not None and draft.old.get("primary")
        if "primary" in draft.given and draft.members.get("primary") is True and not was:
            return draft.mac
    if any(nic.get("primary") for nic in old if nic["mac"] in gone):
        return nicrules.nominated(staying) or nicrules.nominated(added)
    return None


def _updated_disks(work: _Work, request: Request, vm: Vm) -> Elements[Disk]:
    asked_disks, texts, brand = request.disks, work.texts, work.brand
    if not asked_disks and not work.objects("update", "disks"):
        return Elements()
    texts += diskrules.check_state(work.payload, asked_disks, vm)
    texts += diskrules.check_removed(asked_disks.remove, vm)
    old = vm.get("disks") or []
    driver = said(request.properties.disk_driver, "") or vm.get("disk_driver")
    root = str(vm.get("zfs_filesystem") or f"{vm.get('zpool')}/{vm.get('zonename')}")
    added = diskrules.new_disks(
        asked_disks.add,
        work.objects("add", "disks"),
        brand=brand,
        driver=driver or next((disk["model"] for disk in old if disk.get("model")), None),
        place=diskrules.Place(brand, root, str(vm.get("zpool")), [str(disk.get("path")) for disk in old]),
        old=old,
        node=work.node,
        texts=texts,
    )
    updated = diskrules.updated_disks(asked_disks.update, work.objects("update", "disks"), vm, brand, texts)
    for disk in updated:
        if disk.path in asked_disks.remove:
            texts.append(f"Cannot both remove and update the disk {disk.path}")
    texts += diskrules.check_moved(updated, asked_disks.remove, asked_disks, vm)
    return Elements(add=added, update=updated, remove=asked_disks.remove)
