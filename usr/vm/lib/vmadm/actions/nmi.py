# SPDX-License-Identifier: MPL-2.0
"""`vmadm sysrq`: an NMI for a hardware VM, or a screenshot of it, for whoever finds out why its guest hangs.

Always: nothing of the node changes; bhyve is asked with bhyvectl, kvm by way of vmadmd."""

from __future__ import annotations

from vmadm.actions.finding import known
from vmadm.actions.session import Session
from vmadm.actions.vmadmd import sysrq_kvm
from vmadm.errors import VmadmError, WrongState
from vmload import Vm

REQUESTS = {"bhyve": ("nmi",), "kvm": ("nmi", "screenshot")}
ALL_REQUESTS = REQUESTS["kvm"]
STATES = ("running", "stopping")


def sysrq(session: Session, uuid: str, request: str) -> Vm:
    """Send the request, `nmi` or `screenshot`; gives the VM as it was. A screenshot is `/tmp/vm.ppm` in its zone.

    Raises VmadmError: WrongState, or the brand has no such request, or who was asked did not answer."""
    vm = known(session, uuid, f"VM.js sysrq ({uuid})")
    state, brand = vm.get("state"), vm["brand"]
    if state not in STATES:
        raise WrongState(f'Unable to send request to vm from state "{state}", must be "running" or "stopping".')
    if brand not in REQUESTS:
        raise VmadmError('The sysrq command is only supported for VMs  with brand "bhyve" or "kvm".')
    if request not in REQUESTS[brand]:
        valid = ",".join([f'"{each}"' for each in REQUESTS[brand]])
        raise VmadmError(f'Invalid sysrq "{request}" valid values: {valid}.')
    if brand == "bhyve":
        session.node.must("bhyvectl", f"--vm=SYSbhyve-{vm['zonedid']}", "--inject-nmi")
    else:
        sysrq_kvm(session, vm, request)
    return vm
