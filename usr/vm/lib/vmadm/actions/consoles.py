# SPDX-License-Identifier: MPL-2.0
"""`vmadm console`: the operator's terminal on a VM's console.

    zones                zlogin -C, which has the terminal itself; Ctrl-] and a dot at the start of a line leave
    kvm                  the socket of its first serial line; Ctrl-] leaves
    bhyve                its com1: the zone's console, or a socket in the zone (`socket,/tmp/vm.com1`)

Always: the terminal is afterwards as it was (node/terminal.py); nothing of the VM is changed."""

from __future__ import annotations

import subprocess
from contextlib import closing
from typing import Optional

from vmadm.actions.finding import known
from vmadm.actions.session import Session
from vmadm.errors import VmadmError, WrongState
from vmadm.node.serialline import relay
from vmadm.node.terminal import kept
from vmadm.node.zonefolder import ZoneFolder
from vmload import Vm, brands

ESCAPE = "\\035"  # Ctrl-], in zlogin's spelling
KVM_SERIAL = "/tmp/vm.console"  # where startvm.py has qemu put it
SOCKET = "socket,"  # how a bhyve VM's com1 names a socket of its zone
END_LIMIT = 5.0  # seconds that zlogin has to end when it is asked to


def console(session: Session, uuid: str, *, serial: bool = False, stdin: int = 0, stdout: int = 1) -> None:
    """Connect the descriptors to the VM's console until the operator leaves, or it ends. `serial`: only of a
    hardware VM. Raises WrongState, and other VmadmErrors."""
    vm = known(session, uuid, f"VM.js console ({uuid})")
    if vm.get("state") != "running":
        raise WrongState(f'cannot connect to console when state is "{vm.get("state")}" must be "running".')
    brand = str(vm["brand"])
    if not brands.is_supported(brand):
        raise VmadmError(f"Cannot get console for brand: {brand}")
    if serial and not brands.is_hvm(brand):
        raise VmadmError(f"VM {uuid} has no serial line: its brand is {brand}")
    path = serial_socket(vm)
    if path is None:
        _zone_console(session, vm["zonename"], stdin, stdout)
    else:
        _serial_line(session, vm, path, stdin, stdout)


def serial_socket(vm: Vm) -> Optional[str]:
    """The path in the VM's zone of its serial line's socket; None if the zone's console takes its place."""
    if vm["brand"] == "kvm":
        return KVM_SERIAL
    com1 = str(vm.get("com1") or "")
    return com1.removeprefix(SOCKET) if vm["brand"] == "bhyve" and com1.startswith(SOCKET) else None


def _zone_console(session: Session, zonename: str, stdin: int, stdout: int) -> None:
    """zlogin sets the terminal raw, and gets its signals and sizes, since it is of our process group. How it ends says
    nothing: it also fails when the zone halts."""
    with kept(stdin) as terminal:
        child = session.node.start(
            "zlogin", "-C", "-e", ESCAPE, zonename, own_session=False, stdin=stdin, stdout=stdout
        )
        if terminal is not None:
            terminal.shared_with(child.pid)
        try:
            child.wait()
        except BaseException:
            with session.held():
                _end(child)
            raise


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(END_LIMIT)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _serial_line(session: Session, vm: Vm, path: str, stdin: int, stdout: int) -> None:
    line = ZoneFolder(session.node, vm["zonepath"]).connection(path)
    with closing(line), kept(stdin) as terminal:
        if terminal is not None:
            session.tell(f"Connected to the serial line of VM {vm['uuid']}; Ctrl-] leaves it.")
            terminal.set_raw()
        left = relay(line, stdin, stdout)
    if terminal is not None and not left:
        session.tell(f"VM {vm['uuid']} has closed its serial line.")
