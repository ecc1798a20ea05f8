# SPDX-License-Identifier: MPL-2.0
"""How a parser remarks on input that it could not use without failing: it calls a note, and whoever loads decides.

A note is a function of a level ("debug", "warn", "error") and a text. It must not be given values of a VM's
properties: metadata are secrets, and notes end in the log."""

from __future__ import annotations

from typing import Callable

Note = Callable[[str, str], None]


def silent(level: str, text: str) -> None:
    """The note of a caller that does not want to know."""
