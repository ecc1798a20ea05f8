# SPDX-License-Identifier: MPL-2.0
"""vmadm: read and change the VMs of a node. The `vmadm` command and the Python library behind it.

    from vmadm import Vmadm, VmadmError, update         # library.py has the whole of it

This file imports nothing: each `vmadm get` would pay for it. The library's names are found when they are first used;
no module of the package may have the name of one of them, or it would hide it."""

from __future__ import annotations

_API = frozenset(
    (
        "Vmadm",
        "console",
        "create",
        "create_snapshot",
        "delete",
        "delete_snapshot",
        "events",
        "info",
        "install",
        "kill",
        "load",
        "lookup",
        "mark_failed",
        "reboot",
        "receive",
        "reprovision",
        "rollback_snapshot",
        "send",
        "start",
        "stop",
        "sysrq",
        "unset_transition",
        "update",
        "validate",
        "wait_for",
    )
)
_ERRORS = frozenset(
    (
        "AlreadyInState",
        "BadPayload",
        "CannotRead",
        "DaemonAway",
        "Interrupted",
        "NotReached",
        "NotWritten",
        "OutcomeMissed",
        "ToolFailed",
        "VmNotFound",
        "VmadmError",
        "WrongState",
    )
)


def __getattr__(name: str) -> object:
    if name in _API:
        from vmadm import library

        return getattr(library, name)
    if name in _ERRORS:
        from vmadm import errors

        return getattr(errors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
