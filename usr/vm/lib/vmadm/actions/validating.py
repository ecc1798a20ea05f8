# SPDX-License-Identifier: MPL-2.0
"""`vmadm validate`: are a payload's properties good, allowed and complete?

Nothing is changed, and vminfod is not asked: only the node's pools and images are looked at."""

from __future__ import annotations

from typing import Any

from vmadm.actions import checks
from vmadm.actions.session import Session
from vmadm.errors import VmadmError
from vmadm.payload.normalise import renamed
from vminfod.clients.plainjson import pretty
from vmload import brands


class NotValid(VmadmError):
    """The text is JSON: what is wrong, in lists."""


def validate(session: Session, action: str, brand: Any, payload: dict[str, Any]) -> None:
    """`brand` as the payload or the operator named it. Raises NotValid."""
    if not isinstance(brand, str) or not brands.is_supported(brand):
        raise NotValid(pretty({"bad_brand": "undefined" if brand is None else str(brand)}))
    given = renamed(payload, brand) if action == checks.CREATE else payload
    findings = checks.findings_of(session, given, brand, action)
    lists = {
        "bad_values": findings.bad_values,
        "bad_properties": findings.bad_properties,
        "missing_properties": findings.missing_properties,
    }
    if any(lists.values()):
        raise NotValid(pretty(lists))
