# SPDX-License-Identifier: MPL-2.0
"""What is asked for: a payload as text, checked and made into a typed change. Pure: no process, no file, no daemon."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Payload = dict[str, "Any"]  # the JSON object that an operator or agent gave, or a part of it
