# SPDX-License-Identifier: MPL-2.0
"""What others do with a VM once an update of it is served: the zone's metadata service fetches its configuration anew,
vmadmd opens a display anew.

Always: after the outcome, since they ask vminfod for the VM.
Not here: the firewall, which has a module of its own (firewall.py)."""

from __future__ import annotations

from functools import partial

from vmadm.actions import vmadmd
from vmadm.actions.session import Session
from vmadm.actions.steps import Step
from vmadm.payload.change import Change, named
from vmload import Vm, brands

MDATA_RESTART_LIMIT = 60.0  # seconds for each of the two calls
DISPLAY = ("vnc_password", "vnc_port", "spice_password", "spice_port")  # what a display is opened with


def steps_of_others(session: Session, change: Change, vm: Vm) -> list[Step]:
    """For an update that is served by now; `vm` as it was before."""
    steps: list[Step] = []
    if _wants_mdata_restart(change, vm):
        steps.append(("restart the metadata service", lambda: _restart_mdata(session, vm)))
    if changes_display(change, vm):
        steps.append(("display", lambda: vmadmd.reload_display(session, vm)))
    return steps


def changes_display(change: Change, vm: Vm) -> bool:
    """Whether vmadmd has to open the display of a running VM anew."""
    if not brands.is_hvm(change.brand) or vm.get("state") != "running":
        return False
    asked = named(change.request.properties)
    return any(name in asked and (asked[name] or None) != (vm.get(name) or None) for name in DISPLAY)


def _wants_mdata_restart(change: Change, vm: Vm) -> bool:
    if not brands.facts(vm["brand"])["mdata_restart"] or vm.get("state") != "running":
        return False
    new = named(change.properties)
    if "maintain_resolvers" in new or "tmpfs" in new or change.request.maps.routes:
        return True
    return "resolvers" in new and bool(vm.get("maintain_resolvers"))


def _restart_mdata(session: Session, vm: Vm) -> None:
    """Have the zone fetch its configuration anew. It may have no such service: errors are only logged."""
    for words in (("disable", "-st"), ("enable", "-s")):
        session.try_to(
            "restart the metadata service",
            partial(
                session.node.must,
                "zlogin",
                vm["zonename"],
                "/usr/sbin/svcadm",
                *words,
                "svc:/smartdc/mdata:fetch",
                limit=MDATA_RESTART_LIMIT,
            ),
            uuid=vm["uuid"],
        )
