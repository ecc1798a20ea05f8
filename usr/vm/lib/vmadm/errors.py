# SPDX-License-Identifier: MPL-2.0
"""How a vmadm command can end badly, named for the exit code (spec/vmadm.md 0.1)."""

from __future__ import annotations


class CommandFailed(Exception):
    """The work cannot be done; the text is the whole message on stderr. Exit code 1."""


class BadUsage(Exception):
    """Wrong words; the text, possibly empty, stands above the usage on stderr. Exit code 2."""


class CannotRunHere(Exception):
    """vmadm works in the global zone, as root; the text is the reason. Exit code 2."""
