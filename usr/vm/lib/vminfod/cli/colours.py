# SPDX-License-Identifier: MPL-2.0
"""Colours for people: on a terminal, and not where NO_COLOR is set (no-color.org) or the terminal has none.

Always: what is painted was escaped before; what goes into a file or a pipe never has a colour."""

from __future__ import annotations

from vminfod.cli.stdio import STDOUT, on_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

GREEN, RED, YELLOW, FAINT = "32", "31", "33", "2"

# State of a VM -> its colour; those that come and go by themselves are yellow.
OF_STATE = {
    "running": GREEN,
    "failed": RED,
    "stopped": FAINT,
    "provisioning": YELLOW,
    "receiving": YELLOW,
    "stopping": YELLOW,
    "incomplete": RED,
}


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether standard output is to have colours."""
    return on_terminal(STDOUT) and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"


def painted(text: str, colour: str) -> str:
    """`text` in that colour; as it is without one."""
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


def first_line(text: str, colour: str) -> str:
    """`text` with its first line in that colour."""
    line, newline, rest = text.partition("\n")
    return painted(line, colour) + newline + rest
