# SPDX-License-Identifier: MPL-2.0
"""What the node says to people while it works."""

import sys


def say(line: str) -> None:
    """Progress for people, on standard error."""
    print(f"mockcn: {line}", file=sys.stderr, flush=True)
