# SPDX-License-Identifier: MPL-2.0
"""How many examples a test makes up: a quarter of them in the suite that is run all the time; all where
VMINFOD_EXAMPLES is `all`, as in `make test-all` (docs/testing.md)."""

from __future__ import annotations

import os


def examples(number: int) -> int:
    """Of `number` examples, those that this run makes."""
    return number if os.environ.get("VMINFOD_EXAMPLES") == "all" else -(-number // 4)
