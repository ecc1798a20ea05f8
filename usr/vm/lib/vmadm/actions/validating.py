# SPDX-License-Identifier: MPL-2.0
"""`vmadm validate`: are a payload's properties good, allowed and complete (docs/vmadm.md)?

Nothing is changed, and vminfod is not asked: only the node's pools and images are looked at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vmadm.actions.gathering import gather
from vmadm.actions.session import Session
from vmadm.errors import VmadmError
from vmadm.payload.findings import bad_brand, look_through
from vmadm.payload.nodefacts import facts_needed
from vminfod.clients.plainjson import pretty


class NotValid(VmadmError):
    """The text is JSON: what is wrong, in lists."""


def validate(session: Session, action: str, brand: Any, payload: dict[str, Any]) -> None:
    """`brand` as the payload or the operator named it. Raises NotValid."""
    shown = bad_brand(brand)
    if shown is not None:
        raise NotValid(pretty({"bad_brand": shown}))
    needed = replace(facts_needed(payload), nic_tags=(), others=False)
    lists = look_through(payload, brand, action, gather(session, needed, "VM.js validate")).lists()
    if any(lists.values()):
        raise NotValid(pretty(lists))
