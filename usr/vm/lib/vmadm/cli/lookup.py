# SPDX-License-Identifier: MPL-2.0
"""`vmadm lookup`: which VMs match, as uuids or as JSON, in vminfod's order (docs/vmadm.md)."""

from __future__ import annotations

from vmadm.errors import CommandFailed
from vminfod.clients.plainjson import pretty
from vminfod.clients.vmfilter import trimmed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional


class NotUnique(CommandFailed):
    """A lookup that should find exactly one VM found another number of them."""

    def __init__(self, found: int) -> None:
        super().__init__(f"Requested unique lookup but found {found} results.")


def found_text(vms: list[dict[str, Any]], *, as_json: bool, keys: Optional[list[str]], unique: bool) -> str:
    """What is printed for the VMs that matched. `keys`: only these top-level ones, and VMs left empty by that are
    not counted. Raises NotUnique."""
    if keys is not None:
        vms = trimmed(vms, keys)
    if unique and len(vms) != 1:
        raise NotUnique(len(vms))
    if as_json:
        return pretty(vms) + "\n"
    return "".join([f"{vm.get('uuid', '-')}\n" for vm in vms])
