# SPDX-License-Identifier: MPL-2.0
"""Are a payload's properties good, allowed and complete? What `vmadm validate` says, and the first half of what create
and update ask (docs/vmadm.md).

A *bad value* fails its type's check, a *bad property* is not allowed for brand and action, a *missing property* is
required. A value is judged even where its property is not allowed. A member of a list of objects is reported once for
all elements (`nics.*.mac`); what an element lacks or has too much, with its index (`disks.0.size`).
Always: pure; the payload is not changed; all is found in one pass, in the order of the payload's keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from vmadm.payload import diskfindings, pcifindings, valuerules
from vmadm.payload.nodefacts import DEFAULT_POOL, NodeFacts
from vmload import brands, properties

CREATE, UPDATE = "create", "update"
BLANK_IS_MISSING = ("kernel_version",)
NO_BRAND = "undefined"

# Where the table says nothing of a brand's images, any zone image will do.
OTHER_ZONE_IMAGES = ("zone-dataset",)


@dataclass
class Findings:
    """What is wrong, by the names under which the payload has it, each once."""

    bad_values: list[str] = field(default_factory=list)
    bad_properties: list[str] = field(default_factory=list)
    missing_properties: list[str] = field(default_factory=list)
    not_numbers: list[str] = field(default_factory=list)  # of the bad values: text where a number should be

    def texts(self) -> list[str]:
        """The lines that create and update print; bad properties are dropped without a word."""
        lines = [f"Invalid value for {name}: null:number" for name in self.not_numbers]
        others = [name for name in self.bad_values if name not in self.not_numbers]
        if others:
            lines.append(f"Invalid value(s) for: {','.join(others)}")
        if self.missing_properties:
            lines.append(f"Missing required properties: {','.join(self.missing_properties)}")
        return lines

    def lists(self) -> dict[str, list[str]]:
        """The three lists as `vmadm validate` prints them."""
        return {
            "bad_values": self.bad_values,
            "bad_properties": self.bad_properties,
            "missing_properties": self.missing_properties,
        }


def bad_brand(brand: Any) -> Optional[Any]:
    """What `vmadm validate` shows as the bad brand; None if VMs of the brand can be made and changed."""
    if isinstance(brand, str) and brands.is_supported(brand):
        return None
    return brand if brand or isinstance(brand, (list, dict)) else NO_BRAND


def look_through(payload: Mapping[str, Any], brand: str, action: str, node: NodeFacts) -> Findings:
    """Check a payload for a VM of a supported `brand`; `action` is create or update."""
    findings = Findings()
    for name, value in payload.items():
        facts = payload_facts(name)
        if facts is None or action not in facts["allowed"].get(brand, ()):
            _note(findings.bad_properties, name)
        if facts is not None:
            _judge(findings, name, facts, value, brand, node)
    diskfindings.look_at_sources(payload, brand, node, findings)
    pcifindings.look_into(payload, brand, findings.bad_values, findings.missing_properties)
    _look_at_image(findings, payload, brand, node)
    diskfindings.look_at_images(payload, node, findings)
    for name in required(brand, action):
        if name not in payload or _is_blank(name, payload[name]):
            _note(findings.missing_properties, name)
    return findings


def payload_facts(name: str) -> Optional[dict[str, Any]]:
    """The table's facts about a property or member in payloads; None for one that has none."""
    entry = properties.table().get(name)
    return None if entry is None else entry["payload"]


def required(brand: str, action: str) -> Iterator[str]:
    """The properties that must be there."""
    for name, entry in properties.table().items():
        if entry["payload"] and action in entry["payload"]["required"].get(brand, ()):
            yield name


def member_action(name: str) -> str:
    """How the members of a list property are used: `update_nics` changes, all others add."""
    return "update" if name.startswith("update_") else "add"


def _is_blank(name: str, value: Any) -> bool:
    """A text that says nothing is missing, too. What is of another type has been reported as a bad value."""
    return name in BLANK_IS_MISSING and valuerules.is_unset(value)


def _judge(findings: Findings, name: str, facts: dict[str, Any], value: Any, brand: str, node: NodeFacts) -> None:
    if not valuerules.is_good(facts, value, node.pools):
        _note(findings.bad_values, name)
        if facts["type"] == "integer" and isinstance(value, str) and valuerules.as_integer(value) is None:
            findings.not_numbers.append(name)
    elif facts["type"] == "object-array":
        action = member_action(name)
        for element in value:
            _judge_members(findings, facts.get("check_as") or name, action, element, brand, node)


def _judge_members(
    findings: Findings, list_name: str, action: str, element: dict[str, Any], brand: str, node: NodeFacts
) -> None:
    for key, value in element.items():
        where = f"{list_name}.*.{key}"
        facts = payload_facts(where)
        if facts is None or action not in facts["allowed"].get(brand, ()):
            _note(findings.bad_properties, where)
        if facts is not None and not valuerules.is_good(facts, value, node.pools):
            _note(findings.bad_values, where)


def _look_at_image(findings: Findings, payload: Mapping[str, Any], brand: str, node: NodeFacts) -> None:
    image, pool = payload.get("image_uuid"), payload.get("zpool") or DEFAULT_POOL
    if "image_uuid" not in payload or not isinstance(pool, str):
        return
    types = brands.facts(brand)["zoneroot_image_types"] or OTHER_ZONE_IMAGES
    found = node.image(pool, image)
    if found is None or found.type not in types:
        _note(findings.bad_values, "image_uuid")


def _note(names: list[str], name: str) -> None:
    if name not in names:
        names.append(name)
