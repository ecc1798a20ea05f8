# SPDX-License-Identifier: MPL-2.0
"""Is a payload good? Every property of it against the property table (docs/vm-object.md, "Payloads").

A *bad value* fails its type's check, a *bad property* is not allowed for this brand and action, a *missing property*
is required. All of them are found in one pass: an operator should not learn of them one at a time.
Always: pure; the payload is not changed. What is not allowed is not looked into, since it will be dropped.
Not here: checks that look at several properties, at the VM or at the node (crosschecks.py, nics.py, images.py)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Optional

from jsvalues import numberrule
from vmadm.payload.findings import Findings, member_action, payload_facts, required
from vmadm.payload.valuerules import ZONENAME, passes
from vmload import properties
from vmload.uuids import is_uuid

# What would end a quoted value in a zonecfg script, or a line of it: such text cannot be stored as it is.
UNSTORABLE = re.compile(r'["\x00-\x1f\x7f]')


def look_through(payload: dict[str, Any], brand: str, action: str, pools: Collection[str]) -> Findings:
    """Check a payload for a VM of a supported `brand`; `action` is create or update; `pools` are the node's."""
    findings = Findings()
    for name, value in payload.items():
        facts = payload_facts(name)
        if facts is None or action not in facts["allowed"].get(brand, ()):
            findings.bad_properties.append(name)
        elif not _is_good(name, facts, value, pools):
            _note_bad(findings, name, facts, value)
        elif facts["type"] == "object-array":
            _look_into(findings, name, facts, value, brand, pools)
    findings.missing_properties += [name for name in required(brand, action) if is_unset(payload.get(name))]
    return findings


def allowed_part(payload: dict[str, Any], brand: str, action: str) -> dict[str, Any]:
    """`payload` without what is not allowed for brand and action, inside lists of objects too."""
    kept: dict[str, Any] = {}
    for name, value in payload.items():
        facts = payload_facts(name)
        if facts is None or action not in facts["allowed"].get(brand, ()):
            continue
        if facts["type"] == "object-array" and isinstance(value, list):
            value = [
                {key: member for key, member in element.items() if _member_facts(name, facts, key, brand)}
                if isinstance(element, dict)
                else element
                for element in value
            ]
        kept[name] = value
    return kept


def is_unset(value: Any) -> bool:
    """Absent, null and blank text are the same: no value."""
    return value is None or (isinstance(value, str) and not value.strip())


def _member_facts(name: str, facts: dict[str, Any], key: str, brand: str) -> Optional[dict[str, Any]]:
    """The facts of a member of a list's objects, if it is allowed there."""
    member = payload_facts(f"{facts.get('check_as') or name}.*.{key}")
    return member if member is not None and member_action(name) in member["allowed"].get(brand, ()) else None


def _look_into(
    findings: Findings, name: str, facts: dict[str, Any], elements: list[Any], brand: str, pools: Collection[str]
) -> None:
    for index, element in enumerate(elements):
        for key, value in element.items():
            where = f"{name}.{index}.{key}"
            member = _member_facts(name, facts, key, brand)
            if member is None:
                findings.bad_properties.append(where)
            elif not _is_good(f"{facts.get('check_as') or name}.*.{key}", member, value, pools):
                _note_bad(findings, where, member, value)


def _note_bad(findings: Findings, name: str, facts: dict[str, Any], value: Any) -> None:
    findings.bad_values.append(name)
    if facts["type"] == "integer" and "." not in name and isinstance(value, str) and numberrule.number(value) is None:
        findings.not_numbers.append(name)
    is_array = facts["type"] == "object-array" or (facts["type"] == "list" and name.startswith("remove_"))
    if is_array and not isinstance(value, list):
        findings.not_arrays.append(name)


def _is_good(name: str, facts: dict[str, Any], value: Any, pools: Collection[str]) -> bool:
    kind = facts["type"]
    if kind == "uuid":
        return is_uuid(value)
    if kind == "boolean":
        return (
            value in (True, "true", "false", "1")
            if not isinstance(value, (int, float))
            else value in (0, 1) and (isinstance(value, bool) or value == 1)
        )
    if kind == "string":
        return is_unset(value) or (isinstance(value, str) and _is_good_text(name, facts, value))
    if kind == "integer":
        return _is_good_integer(facts, value)
    if kind == "zpool":
        return isinstance(value, str) and value in pools
    if kind == "flat-object":
        return isinstance(value, dict) and all(isinstance(member, (str, int, float)) for member in value.values())
    if kind == "list":
        return _is_good_list(facts, value)
    if kind == "object-array":
        return isinstance(value, list) and all(isinstance(element, dict) for element in value)
    raise AssertionError(f"the property table has a payload type {kind} that is not known here")


def _is_good_text(name: str, facts: dict[str, Any], text: str) -> bool:
    if name == "zonename":
        return ZONENAME.fullmatch(text) is not None
    if properties.table()[name]["translator"] == "base64":
        return True
    return UNSTORABLE.search(text) is None and passes(facts.get("validator"), text)


def _is_good_integer(facts: dict[str, Any], value: Any) -> bool:
    if is_unset(value):
        return True
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return False
    if isinstance(value, float) and not value.is_integer():
        return False
    number = numberrule.number(value) if isinstance(value, str) else int(value)
    if not isinstance(number, int):
        return False
    least, most = facts.get("min"), facts.get("max")
    return (least is None or number >= least) and (most is None or number <= most)


def _is_good_list(facts: dict[str, Any], value: Any) -> bool:
    if isinstance(value, str):
        value = list_of(value)
    elif value is None:
        return True
    if not isinstance(value, list):
        return False
    for element in value:
        if isinstance(element, bool) or not isinstance(element, (str, int, float)) or "," in str(element):
            return False
        if UNSTORABLE.search(str(element)) or not passes(facts.get("validator"), str(element)):
            return False
    return True


def list_of(text: str) -> list[str]:
    """Comma-joined text as a list, empty parts dropped."""
    return [part for part in text.split(",") if part]
