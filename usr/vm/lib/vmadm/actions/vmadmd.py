# SPDX-License-Identifier: MPL-2.0
"""What vmadm leaves to vmadmd, the daemon that holds a kvm VM's monitor: graceful stop, reboot, reset, sysrq, and
displays
(docs/platform.md, "vmadmd").

Always: a command that needs vmadmd finds out whether it is there before it changes anything (check_there())."""

from __future__ import annotations

import time
from typing import Optional

from vmadm.actions.session import Session
from vmadm.errors import VmadmError
from vmadm.node import zonecfg
from vmadm.node.machine import failure
from vmadm.node.vmadmdplace import HOST, PORT, socket_of
from vmload import Vm

STOP_LIMIT = 180.0  # seconds that the guest has for shutting down
ANSWER_LIMIT = 30.0  # seconds
ACCEPTED = (200, 202, 204)
STOP = 'post "stop" to vmadmd'  # what vmadmd is needed for, in check_there()
RELOAD = "tell vmadmd to reload the display"


def check_there(session: Session, doing: str) -> None:
    """Raises VmadmError unless vmadmd takes connections; `doing` is what it is needed for, in words."""
    from vmadm.node.vmadmdhttp import connection_to

    connection = connection_to(session.node.root or "/", ANSWER_LIMIT)
    try:
        connection.connect()
    except OSError as error:
        raise VmadmError(f"Unable to {doing}: {_reason(session, error)}; nothing was changed") from error
    finally:
        connection.close()


def stop_kvm(session: Session, vm: Vm, timeout: Optional[float]) -> None:
    """Have vmadmd shut the guest down; the VM shows `stopping` meanwhile. Raises VmadmError."""
    _stop(session, vm, "stopped", STOP_LIMIT if timeout is None else timeout)
    session.try_to(
        "set autoboot", lambda: session.must_zonecfg(vm["uuid"], zonecfg.autoboot(False, "kvm")), uuid=vm["uuid"]
    )


def reboot_kvm(session: Session, vm: Vm) -> None:
    """Have vmadmd stop the VM and start it again. Raises VmadmError."""
    _stop(session, vm, "start", STOP_LIMIT)


def reset_kvm(session: Session, vm: Vm) -> None:
    """Have vmadmd press the guest's reset button: its zone runs on. Raises VmadmError."""
    _post(session, vm, "reset", "action=reset")


def sysrq_kvm(session: Session, vm: Vm, request: str) -> None:
    """Have vmadmd send the guest an NMI (`nmi`), or write what its screen shows (`screenshot`). Raises VmadmError."""
    _post(session, vm, "sysrq", f"action=sysrq&request={request}")


def reload_display(session: Session, vm: Vm) -> None:
    """Have vmadmd open a running VM's display anew, with the port and the password that it has now. Raises
    VmadmError."""
    _post(session, vm, "reload_display", "action=reload_display")


def _stop(session: Session, vm: Vm, to: str, seconds: float) -> None:
    check_there(session, STOP)
    expire = int((time.time() + seconds) * 1000)
    result = session.zonecfg(vm["uuid"], zonecfg.set_transition("stopping", to, expire))
    if result.status != 0:
        raise failure("zonecfg", result)
    try:
        _post(session, vm, "stop", f"action=stop&timeout={seconds:g}")
    except VmadmError:
        # Nothing is going to take the mark away: the VM would show `stopping` for ever.
        session.try_to(
            "remove the transition",
            lambda: session.must_zonecfg(vm["uuid"], zonecfg.REMOVE_TRANSITION),
            uuid=vm["uuid"],
        )
        session.show(vm["zonename"], f"VM.js VM.stop ({vm['uuid']})")
        raise


def _post(session: Session, vm: Vm, what: str, query: str) -> None:
    from vmadm.node.vmadmdhttp import HTTPException, connection_to

    connection = connection_to(session.node.root or "/", ANSWER_LIMIT)
    try:
        connection.request("POST", f"/vm/{vm['uuid']}?{query}")
        response = connection.getresponse()
        status, text = response.status, response.read(1000).decode("utf-8", "replace")
    except (OSError, HTTPException) as error:
        raise VmadmError(f'Unable to post "{what}" to vmadmd: {_reason(session, error)}') from error
    finally:
        connection.close()
    if status not in ACCEPTED:
        raise VmadmError(f'vmadmd refused "{what}": {text or status}')


def _reason(session: Session, error: Exception) -> str:
    where = socket_of(session.node.root or "/") or f"{HOST}:{PORT}"
    return f"{getattr(error, 'strerror', None) or error}: {where}"
