# SPDX-License-Identifier: MPL-2.0
"""What vmadm leaves to vmadmd, the daemon that holds a kvm VM's monitor: graceful stop, reboot, reset
(docs/platform.md, "vmadmd").

A mock node has no vmadmd, and what listens on its port there is somebody else: we do not ask."""

from __future__ import annotations

import time
from typing import Optional

from vmadm.actions.session import Session
from vmadm.errors import VmadmError
from vmadm.node import zonecfg
from vmadm.node.machine import failure
from vmload import Vm

HOST, PORT = "127.0.0.1", 8080
STOP_LIMIT = 180.0  # seconds that the guest has for shutting down
ANSWER_LIMIT = 30.0  # seconds


def stop_kvm(session: Session, vm: Vm, timeout: Optional[float]) -> None:
    """Have vmadmd shut the guest down; the VM shows `stopping` meanwhile. Raises VmadmError."""
    _stop(session, vm, "stopped", STOP_LIMIT if timeout is None else timeout)
    session.try_to(
        "set autoboot", lambda: session.must_zonecfg(vm["uuid"], zonecfg.autoboot(False, "kvm")), uuid=vm["uuid"]
    )


def reboot_kvm(session: Session, vm: Vm, *, force: bool) -> None:
    """Have vmadmd reset the VM, or stop it and start it again. Raises VmadmError."""
    if force:
        _post(session, vm, "action=reset")
    else:
        _stop(session, vm, "start", STOP_LIMIT)


def _stop(session: Session, vm: Vm, to: str, seconds: float) -> None:
    _check_there(session)
    expire = int((time.time() + seconds) * 1000)
    result = session.zonecfg(vm["uuid"], zonecfg.set_transition("stopping", to, expire))
    if result.status != 0:
        raise failure("zonecfg", result)
    _post(session, vm, f"action=stop&timeout={seconds:g}")


def _check_there(session: Session) -> None:
    if session.node.is_mock:
        raise VmadmError("kvm VMs are stopped and reset by vmadmd, which is not on a mock node; use stop -F")


def _post(session: Session, vm: Vm, query: str) -> None:
    import http.client

    _check_there(session)
    connection = http.client.HTTPConnection(HOST, PORT, timeout=ANSWER_LIMIT)
    try:
        connection.request("POST", f"/vm/{vm['uuid']}?{query}")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise VmadmError(f"vmadmd does not answer: {error}") from error
    finally:
        connection.close()
    if status not in (200, 202, 204):
        raise VmadmError(f"vmadmd refused: status {status}")
