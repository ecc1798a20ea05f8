# SPDX-License-Identifier: MPL-2.0
"""Whether a VM can boot with the options that `vmadm start` was given: looked at before anything is changed.

Nobody but kvm makes use of them, as ever. bhyve's are checked all the same, others' are not."""

from __future__ import annotations

from vmadm.actions.session import Session
from vmadm.errors import VmadmError
from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload.bootoptions import BootOptions, bad_model
from vmload import Vm, brands


def check_options(session: Session, vm: Vm, options: BootOptions) -> None:
    """Each drive is one of the VM's disks, or in its zone, and its model one of its brand's. Raises VmadmError."""
    if not options:
        return
    if vm["brand"] != "kvm":
        session.step(f"boot options have no effect on a {vm['brand']} VM")
    if not brands.is_hvm(vm["brand"]):
        return
    folder = ZoneFolder(session.node, vm["zonepath"])
    disks = [disk.get("path") for disk in vm.get("disks") or []]
    for drive in options.drives:
        if drive.path not in disks and not folder.has_file_of_zone(drive.path):
            raise VmadmError(f"Cannot find disk: {drive.path}")
        wrong = bad_model(drive, vm["brand"])
        if wrong is not None:
            raise VmadmError(wrong)
