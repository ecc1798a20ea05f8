# SPDX-License-Identifier: MPL-2.0
"""`vmadm info`: what vmadmd knows about a running hardware VM (docs/vmadm.md).

vmadmd is a daemon of its own on this node, not vminfod; vminfod is asked only which brand the VM is and whether it
runs."""

from __future__ import annotations

import os

from vmadm.errors import CommandFailed, VmadmError
from vmadm.node.vmadmdplace import HOST, PORT, socket_of
from vminfod.client import HTTPStatusError, VminfodClient, VminfodError, vm_path
from vminfod.clients.plainjson import parsed_as_spelled
from vmload import brands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Optional

    from vminfod.clients.clientlog import Logger

STATES = ("running", "stopping")


def vmadmd_of(root: str, name: str, timeout: float, log: Optional[Logger] = None) -> Optional[VminfodClient]:
    """A client of the vmadmd of the node at `root`; None for a mock node that has none."""
    path = socket_of(root)
    if path is None:
        return VminfodClient(name, host=HOST, port=PORT, timeout=timeout, log=log)
    if not os.path.exists(path):
        return None
    return VminfodClient(name, socket=path, timeout=timeout, log=log)


def info_of(vm: dict[str, Any], words: Iterable[str], vmadmd: Optional[VminfodClient]) -> Any:
    """What vmadmd says of `vm`. `words` name types, separated by commas or blanks; none means all.

    Raises VmadmError with the whole message."""
    uuid = vm["uuid"]
    types = " ".join(words).replace(",", " ").split() or ["all"]
    try:
        _check(vm, types)
        if vmadmd is None:
            raise CommandFailed("vmadmd is not running on this mock node (python3 mockcn vmadmd --root DIR)")
        path = f"/vm/{vm_path(uuid).rpartition('/')[2]}/info?types={','.join(types)}"
        return vmadmd.get(path, parse=parsed_as_spelled)
    except HTTPStatusError as error:
        message = f"Unable to get info from vmadmd, query returned {error.status_code}."
        raise _failed(uuid, message) from error
    except VminfodError as error:
        raise _failed(uuid, str(error)) from error
    except CommandFailed as error:
        raise _failed(uuid, str(error)) from error


def _check(vm: dict[str, Any], types: list[str]) -> None:
    state, brand = vm.get("state"), str(vm.get("brand"))
    if state not in STATES:
        raise CommandFailed(f'Unable to get info for vm from state "{state}", must be "running" or "stopping".')
    known = brands.info_types(brand)
    if not known:
        raise CommandFailed(f"no info types supported for brand {brand}")
    for kind in types:
        if kind not in known:
            raise CommandFailed(f"unknown info type {kind}")


def _failed(uuid: str, message: str) -> VmadmError:
    return VmadmError(f"Unable to get VM info for VM {uuid}: {message}")
