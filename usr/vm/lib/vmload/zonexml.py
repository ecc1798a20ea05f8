# SPDX-License-Identifier: MPL-2.0
"""Zone XML: the text of /etc/zones/ZONENAME.xml to the part of the VM object that it gives (docs/vm-object.md, "The
zone XML"). Pure.

The document is walked once. Each element of a known shape yields paths such as `zone.attr.alias` with a text, and the
property table says which property a path sets. A document without its end is an error (docs/platform.md, "The zone XML
file"): zonecfg replaces the file, but other writers may not, and half of a VM must not be served meanwhile."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, Optional
from xml.parsers import expat

from jsvalues.numberrule import WHITE_SPACE, number
from vmload import brands, properties
from vmload.loaderror import LoadError
from vmload.notes import Note, silent
from vmload.sharing import shared

_NO_ELEMENTS = expat.errors.codes[expat.errors.XML_ERROR_NO_ELEMENTS]
_NAMED, _LONGEST_NAMED = 3, 100  # unknown elements and properties that a note names, and the characters of each
_DISK_NUMBER = re.compile(r"[-/]disk([0-9]+)\Z")
_NET_NUMBER = re.compile(r"\Anet([0-9]+)\Z")


def parse(data: bytes, note: Note = silent) -> dict[str, Any]:
    """The VM object part in `data`, after defaults, transition and sorting (3.3 to 3.5); the keys in the XML's order.

    Raises LoadError: with the code PARSE_ERROR and expat's bare message for ill-formed text, without a code for a
    zone that has no brand."""
    walk = _Walk(note)
    walk.run(data)
    walk.note_unknown()
    vm = walk.vm
    brand = vm.get("brand")
    if not brand:
        raise LoadError("the zone XML gives no brand")
    if not brands.is_supported(brand):
        note("warn", f"unsupported brand: {brand}")
    vm.setdefault("nics", [])
    if brands.facts(brand)["disks_in_every_vm_object"]:
        vm.setdefault("disks", [])
    if brands.is_supported(brand) and brands.facts(brand)["use_vm_autoboot"]:
        _take_vm_autoboot(vm)
    _split_transition(vm)
    for name, member, index in _SORTED:
        if name in vm:
            vm[name].sort(key=lambda item, member=member, index=index: index(item.get(member)))
    return vm


class _Walk:
    """One pass over the document. `_shapes` has `zone.device` and the like for each open element that is known; `vm`
    grows as they close."""

    def __init__(self, note: Note):
        self.vm: dict[str, Any] = {}
        self._note = note
        self._targets = properties.xml_targets()
        self._shapes: list[str] = []
        self._object: dict[str, Any] = {}  # the open device, filesystem or network
        self._rctl = ""  # the name of the open rctl
        self._unknowns: dict[str, None] = {}  # "element zone.x" and the like, in the document's order
        self._unknown = 0  # open elements from the outermost unknown one on: they can be nested without end

    def run(self, data: bytes) -> None:
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            if error.code == _NO_ELEMENTS and not (self._shapes or self._unknown):
                return  # nothing that could be half a zone
            raise LoadError(expat.ErrorString(error.code), "PARSE_ERROR") from error
        except (LookupError, ValueError) as error:  # of Python's codecs: the document names an encoding of its own
            raise LoadError(f"the zone XML has an encoding that cannot be read: {error}", "PARSE_ERROR") from error

    def note_unknown(self) -> None:
        """One note on all that is not known, however long and how many the names are."""
        if not self._unknowns:
            return
        names = [name[:_LONGEST_NAMED] for name in islice(self._unknowns, _NAMED)]
        more = f" and {len(self._unknowns) - _NAMED} more" if len(self._unknowns) > _NAMED else ""
        what = ", ".join(names) + more
        if any(name.startswith("element ") for name in self._unknowns):
            self._note("error", f"unknown in the zone XML: {what}")
        else:
            self._note("warn", f"unknown in the zone XML: {what}")

    def _start(self, element: str, attributes: dict[str, str]) -> None:
        if self._unknown:
            self._unknown += 1
            return
        shape = f"{self._shapes[-1]}.{element}" if self._shapes else element
        handler = _ELEMENTS.get(shape)
        if handler is None:
            self._unknown = 1
            self._unknowns[f"element {shape}"] = None
            return
        self._shapes.append(shape)
        handler(self, attributes)

    def _end(self, element: str) -> None:
        if self._unknown:
            self._unknown -= 1
        elif self._shapes.pop() == "zone.device":
            self._close_device()

    def _set(self, into: dict[str, Any], path: str, text: Optional[str]) -> None:
        try:
            target = self._targets[path]
        except KeyError:
            self._unknowns[f"property {path}"] = None
            return
        if target is not None and text is not None:
            into[target.member] = target.translate(text)

    # What each element gives. Attributes are in the document's order.

    def zone(self, attributes: dict[str, str]) -> None:
        for name, text in attributes.items():
            self._set(self.vm, f"zone.{name}", text)

    def attr(self, attributes: dict[str, str]) -> None:
        self._set(self.vm, f"zone.attr.{attributes.get('name')}", attributes.get("value"))

    def dataset(self, attributes: dict[str, str]) -> None:
        name = attributes.get("name")
        if name is not None:
            self.vm.setdefault("datasets", []).append(name)

    def device(self, attributes: dict[str, str]) -> None:
        self.vm["device"] = None  # stays in every VM object whose XML has a device, and users see it (quirk 1)
        self._open(attributes)

    def filesystem(self, attributes: dict[str, str]) -> None:
        self._open(attributes)
        self.vm.setdefault("filesystems", []).append(self._object)

    def network(self, attributes: dict[str, str]) -> None:
        self._open(attributes)
        self.vm.setdefault("nics", []).append(self._object)

    def _open(self, attributes: dict[str, str]) -> None:
        self._object = {}
        for name, text in attributes.items():
            self._set(self._object, f"{self._shapes[-1]}.{name}", text)

    def net_attr(self, attributes: dict[str, str]) -> None:
        self._set(self._object, f"{self._shapes[-1]}.{attributes.get('name')}", attributes.get("value"))

    def fsoption(self, attributes: dict[str, str]) -> None:
        name = attributes.get("name")
        if name is not None:
            self._object.setdefault("options", []).append(shared(name))

    def rctl(self, attributes: dict[str, str]) -> None:
        self._rctl = attributes.get("name", "")

    def rctl_value(self, attributes: dict[str, str]) -> None:
        if not self._rctl.startswith("zone."):
            return
        path = f"zone.rctl.{self._rctl}.{attributes.get('priv')}.{attributes.get('action')}"
        self._set(self.vm, path, attributes.get("limit"))

    def _close_device(self) -> None:
        """Only now is it known whether the device is a disk (docs/vm-object.md, "Devices")."""
        kind = "pci_devices" if self._object.get("model") == "passthru" else "disks"
        self.vm.setdefault(kind, []).append(self._object)


_ELEMENTS = {
    "zone": _Walk.zone,
    "zone.attr": _Walk.attr,
    "zone.dataset": _Walk.dataset,
    "zone.device": _Walk.device,
    "zone.device.net-attr": _Walk.net_attr,
    "zone.filesystem": _Walk.filesystem,
    "zone.filesystem.fsoption": _Walk.fsoption,
    "zone.network": _Walk.network,
    "zone.network.net-attr": _Walk.net_attr,
    "zone.rctl": _Walk.rctl,
    "zone.rctl.rctl-value": _Walk.rctl_value,
}


def _take_vm_autoboot(vm: dict[str, Any]) -> None:
    """kvm keeps autoboot in an attribute of its own; without it the VM has none, whatever the zone says (quirk 9)."""
    if "vm_autoboot" in vm:
        vm["autoboot"] = vm.pop("vm_autoboot")
    else:
        vm.pop("autoboot", None)


def _split_transition(vm: dict[str, Any]) -> None:
    """`STATE:TO:EXPIRE` becomes three properties; any other text stays as it is (docs/vm-object.md, "State")."""
    parts = vm.get("transition", "").rstrip(WHITE_SPACE).split(":")
    if len(parts) == 3:
        del vm["transition"]
        vm["state"], vm["transition_to"], vm["transition_expire"] = parts[0], parts[1], number(parts[2])


def _by_digits(pattern: re.Pattern[str], text: Optional[str]) -> int:
    match = pattern.search(text or "")
    return int(match.group(1)[:300]) if match else 0


_SORTED = (
    ("disks", "path", lambda path: _by_digits(_DISK_NUMBER, path)),
    ("nics", "interface", lambda interface: _by_digits(_NET_NUMBER, interface)),
    ("filesystems", "target", lambda target: number(target or "") or 0),
)


def fresh_copy(xml: dict[str, Any]) -> dict[str, Any]:
    """A copy of what parse() gave that an assembly may add to, and to its disks. All else in it is shared: it is not
    changed, and is most of what there is to a VM."""
    vm = dict(xml)
    if vm.get("disks"):
        vm["disks"] = [dict(disk) for disk in vm["disks"]]
    return vm
