# SPDX-License-Identifier: MPL-2.0
"""Giving a VM up: it is marked `failed`, its transition is taken away, its zone is halted. It stays, to be looked at.

Each step is tried whatever became of the one before: a VM that cannot be halted is still marked."""

from __future__ import annotations

from vmadm.actions import marks
from vmadm.actions.atonce import at_once
from vmadm.actions.session import Session
from vmadm.errors import OutcomeMissed
from vmadm.node import zonecfg
from vmload import Vm

FAILED = "failed"


def mark_failed(session: Session, uuid: str) -> Vm:
    """Give the VM up; the object as it is then. Raises VmNotFound, DaemonAway, OutcomeMissed."""
    name = f"VM.js markVMFailure ({uuid})"
    with at_once(session, uuid, name, "mark-failed") as held:
        errors = give_up(session, uuid)
        shown = held.outcome()
    if shown is None or shown.get("state") != FAILED:
        why = "; ".join([str(error) for error in errors]) or f"its state is {shown and shown.get('state')}"
        raise OutcomeMissed(f"VM {uuid} is not in state failed: {why}")
    return shown


def give_up(session: Session, uuid: str) -> list[Exception]:
    """The three steps; what failed, which is logged too."""
    with session.held():
        tried = [
            session.try_to(what, act, uuid=uuid)
            for what, act in (
                ("mark the VM failed", lambda: session.must_zonecfg(uuid, zonecfg.MARK_FAILED)),
                ("remove the transition", lambda: marks.remove_transition(session, {"uuid": uuid})),
                ("halt the zone", lambda: session.node.must("zoneadm", "-u", uuid, "halt", "-X")),
            )
        ]
    return [error for error in tried if error is not None]
