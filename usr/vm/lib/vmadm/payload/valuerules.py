# SPDX-License-Identifier: MPL-2.0
"""Is one value of a payload good for its property, by the property's type and validator (docs/vmadm.md)?

Always: pure, and any value that JSON can hold gets an answer.
An odd type that cannot have been meant is bad: a list where a text or a number should be, a list or null where an
object should be, a number too large to be one. Here vmadm is stricter than the original on purpose.
Not here: whether the property is allowed (findings.py), what several values say together (the modules of each list)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import Any, Optional

from jsvalues import numberrule
from vmload.uuids import is_uuid

# The physical path of a device has commas of its own: /devices/pci@0,0/pci8086,340a@3.
DEVICES = "/devices/"
_BETWEEN_DEVICES = re.compile(f",(?={DEVICES})")

ZONENAME = re.compile(r"[a-zA-Z0-9][-_.a-zA-Z0-9]{0,62}")

TRUE = (True, "true", "1", 1)
FALSE = (False, "false")
_VALIDATORS = {
    "attr-token": re.compile(r"[a-zA-Z0-9._-]+"),
    "bhyve-sector-size": re.compile(r"[0-9]{1,9}(/[0-9]{1,9})?"),
    "dhcp-client-id": re.compile(r"0x(?=.{2,510}\Z)([0-9a-fA-F]{2})+"),
    "mac-address": re.compile(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}|[0-9a-fA-F]{12}"),
}


def is_good(facts: dict[str, Any], value: Any, pools: Collection[str]) -> bool:
    """`facts` are the property table's about payloads; `pools` the node's."""
    kind = facts["type"]
    if kind == "uuid":
        return is_uuid(value)
    if kind == "boolean":
        return as_boolean(value) is not None
    if kind == "string":
        return is_unset(value) or (isinstance(value, str) and passes(facts.get("validator"), value))
    if kind == "integer":
        return is_unset(value) or _is_within(as_integer(value), facts.get("min"), facts.get("max"))
    if kind == "zpool":
        return isinstance(value, str) and value in pools
    if kind == "flat-object":
        return value is None or (isinstance(value, dict) and all(_is_flat(member) for member in value.values()))
    if kind == "list":
        return _is_good_list(facts.get("validator"), value)
    if kind == "object-array":
        return isinstance(value, list) and all(isinstance(element, dict) for element in value)
    raise AssertionError(f"the property table has a payload type {kind} that is not known here")


def is_unset(value: Any) -> bool:
    """Absent, null and blank text are the same: no value."""
    return value is None or (isinstance(value, str) and not value.strip(numberrule.WHITE_SPACE))


def as_boolean(value: Any) -> Optional[bool]:
    """True, false, their texts; 1 and "1" are true. None for all else, 0 included."""
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False}.get(value)
    if isinstance(value, bool):
        return value
    return True if isinstance(value, (int, float)) and value == 1 else None


def as_integer(value: Any) -> Optional[int]:
    """A whole number, or text that is one by the number rule; None for all else. A boolean is no number."""
    if isinstance(value, str):
        found = numberrule.number(value)
        return found if isinstance(found, int) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_list(value: Any) -> tuple[str, ...]:
    """The elements of a good list: comma-joined text is split and loses empty parts. Paths of devices stay whole."""
    if isinstance(value, str):
        parts = _BETWEEN_DEVICES.split(value) if value.startswith(DEVICES) else value.split(",")
        return tuple(part for part in parts if part)
    return tuple(text_of(element) for element in value)


def text_of(value: Any) -> str:
    """A text or a number as text: 5.0 is `5`."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def is_ip(text: str) -> bool:
    """An IPv4 or IPv6 address, without prefix length."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_within(number: Optional[int], least: Optional[int], most: Optional[int]) -> bool:
    return number is not None and (least is None or number >= least) and (most is None or number <= most)


def _is_flat(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _is_good_list(validator: Optional[str], value: Any) -> bool:
    if not isinstance(value, (str, list)):
        return False
    if isinstance(value, list):
        for element in value:
            if isinstance(element, bool) or not isinstance(element, (str, int, float)):
                return False
            if "," in text_of(element) and not text_of(element).startswith(DEVICES):
                return False
    return all(passes(validator, element) for element in as_list(value))


def passes(validator: Optional[str], text: str) -> bool:
    """Whether `text` satisfies a validator of the property table; None accepts everything."""
    if validator is None:
        return True
    if validator == "ip-address":
        return is_ip(text)
    if _VALIDATORS[validator].fullmatch(text) is None:
        return False
    return validator != "bhyve-sector-size" or all(_is_power_of_two(int(size)) for size in text.split("/"))


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0
