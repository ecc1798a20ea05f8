# SPDX-License-Identifier: MPL-2.0
"""What follows from a VM object alone."""

from __future__ import annotations

from vmload import Vm


def has_data(vm: Vm) -> bool:
    """Whether a dataset is delegated to the VM."""
    return f"{vm.get('zfs_filesystem')}/data" in (vm.get("datasets") or [])
