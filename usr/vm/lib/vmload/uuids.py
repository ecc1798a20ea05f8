# SPDX-License-Identifier: MPL-2.0
"""What a UUID looks like wherever the platform or a payload has one: lower case (docs/platform.md, "Numbers and
names"); an upper-case one is none."""

from __future__ import annotations

import re

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_uuid(value: object) -> bool:
    """Whether `value` is text and the whole of it a UUID."""
    return isinstance(value, str) and UUID.fullmatch(value) is not None
