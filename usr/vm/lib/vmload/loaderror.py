# SPDX-License-Identifier: MPL-2.0
"""What can go wrong with a load, named for what the caller can do about it."""

from __future__ import annotations

import errno
import os
from typing import Optional


class LoadError(Exception):
    """Something could not be read: keep what you have, show this, try again later.

    `code` is an errno's name (`EACCES`), `PARSE_ERROR`, or None where there is nothing better than the text."""

    def __init__(self, message: str, code: Optional[str] = None):
        super().__init__(message)
        self.code = code


class ZoneGone(LoadError):
    """The platform knows no such zone (any more): drop it, this is no fault."""

    def __init__(self, message: str):
        super().__init__(message, "ENOENT")


class NoVm(ZoneGone):
    """zoneadm knows the zone, but it is no VM, nor was it one."""


class XmlGone(LoadError):
    """zoneadm lists the zone, but its XML is not there: it is being made or unmade, and is no VM meanwhile."""


class CommandFailed(LoadError):
    """A command ended badly: in a moment it may do better."""


class GarbledOutput(CommandFailed):
    """A command ended well, but what it printed is cut short or is not what it prints: believe none of it."""

    def __init__(self, message: str):
        super().__init__(message, "GARBLED")


def from_os_error(error: OSError, path: str) -> LoadError:
    """A LoadError for a file at the node's `path` that could not be read, with the errno's name as its code."""
    code = errno.errorcode.get(error.errno or 0, "READ_FILE")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return LoadError(f"{code}: {reason.lower()}, open '{path}'", code)
