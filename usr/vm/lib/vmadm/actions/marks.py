# SPDX-License-Identifier: MPL-2.0
"""The marks in a zone's configuration that say what is under way and what the node does with the zone: the transition,
and whether it boots with the node."""

from __future__ import annotations

from vmadm.actions.session import Session
from vmadm.node import zonecfg
from vmadm.node.machine import failure
from vmload import Vm


def set_autoboot(session: Session, vm: Vm, on: bool) -> None:
    """Whether the VM boots with the node; failing is no failure of the start or stop."""
    statement = zonecfg.autoboot(on, vm["brand"])
    session.try_to("set autoboot", lambda: session.must_zonecfg(vm["uuid"], statement), uuid=vm["uuid"])


def remove_transition(session: Session, vm: Vm) -> None:
    """Take the transition marker away; none is fine. Raises ToolFailed."""
    result = session.zonecfg(vm["uuid"], zonecfg.REMOVE_TRANSITION)
    if result.status != 0 and zonecfg.ATTR_GONE not in result.stderr:
        raise failure("zonecfg", result)
