# SPDX-License-Identifier: MPL-2.0
"""What goes on inside a zone: its services at boot, requests to shut down, signals to its init.

    running --pace.guest--> /var/svc/provisioning is renamed to provision_success
    asked to shut down --pace.shutdown--> the zone halts, or reboots

Always: what a guest does happens after the call that asked for it has returned, in a thread that gives up when the zone
        has meanwhile been halted or booted anew.
Init of a docker container, of a zone with restart-init=false and of a hardware VM ends its zone when it ends; any other
init is started anew by the kernel (docs/platform.md, "The little tools" and "zoneadm that changes")."""

import os
import signal
import threading
from typing import Callable, Optional

from mockcn.life import consoles, transitions
from mockcn.node import Node
from mockcn.state import zonexml
from mockcn.state.zones import Kernel, Zone, ZoneError

PROVISIONING = "/root/var/svc/provisioning"  # below the zonepath
PROVISIONED = "/root/var/svc/provision_success"
STARTVM = "/root/startvm"
HARDWARE = ("bhyve", "kvm")


def check_bootable(node: Node, zone: Zone) -> None:
    """A kvm zone boots by a script that whoever starts it has written. Raises ZoneError."""
    if zone.brand == "kvm" and not os.access(node.real(zone.zonepath + STARTVM), os.X_OK):
        raise ZoneError(f"zoneadm: zone '{zone.name}': unable to exec /startvm: No such file or directory")


def booted(node: Node, zone: Zone) -> None:
    """The zone runs now: its serial line is there, and in a while its services are done with provisioning."""
    if zone.brand in HARDWARE:
        node.consoles.booted(zone, _attrs(node, zone).get("com1", ""))
    kernel, seconds = zone.kernel, node.pace.guest
    if kernel is None or seconds is None or not os.path.lexists(node.real(zone.zonepath + PROVISIONING)):
        return
    _later(seconds, f"guest of {zone.name}", lambda: _provisioned(node, zone, kernel))


def _provisioned(node: Node, zone: Zone, kernel: Kernel) -> None:
    with node.lock:
        marker = node.real(zone.zonepath + PROVISIONING)
        if zone.kernel is kernel and os.path.lexists(marker):
            os.rename(marker, node.real(zone.zonepath + PROVISIONED))


def got_nmi(node: Node, zone: Zone) -> None:
    """A kernel that gets an NMI says so on its console."""
    node.consoles.say(zone, consoles.NMI)


def ask_to_stop(node: Node, zone: Zone, *, again: bool) -> None:
    """Shut down, and with `again` boot once more; returns at once."""
    kernel = zone.kernel

    def stop() -> None:
        with zone.busy:
            if kernel is None or zone.kernel is not kernel or kernel.state != "running":
                return
            if again:
                transitions.reboot(node, zone)
                booted(node, zone)
            else:
                transitions.halt(node, zone)

    _later(node.pace.shutdown, f"shutdown of {zone.name}", stop)


def signalled(node: Node, zone: Zone, number: int) -> None:
    """Init got a signal; returns at once."""
    kernel = zone.kernel
    if kernel is None or kernel.state != "running" or number == 0:
        return
    attrs = _attrs(node, zone)
    hardware = zone.brand in HARDWARE
    if not hardware and attrs.get("docker") != "true" and attrs.get("restart-init") != "false":
        if number == signal.SIGKILL:
            with node.lock:
                node.zones.init_restart(zone)
        return  # init of a whole system takes no notice of the others

    def end(status: int) -> None:
        with zone.busy:
            if zone.kernel is kernel and kernel.state == "running":
                transitions.halt(node, zone, status)

    if number == signal.SIGKILL:
        _later(0, f"end of {zone.name}", lambda: end(number))
    elif number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        # A hardware VM takes it as the power button and ends well.
        _later(node.pace.shutdown, f"end of {zone.name}", lambda: end(0 if hardware else number))


def with_init(node: Node, pid: int) -> Optional[Zone]:
    """The zone whose init has that pid."""
    with node.lock:
        return next(
            (
                zone
                for zone in node.zones.zones.values()
                if zone.kernel is not None and pid > 0 and zone.kernel.init_pid == pid
            ),
            None,
        )


def _attrs(node: Node, zone: Zone) -> dict[str, str]:
    try:
        with node.lock:
            element = zonexml.parse(node.zones.read_xml(zone))
    except (OSError, zonexml.NotXml):
        return {}  # it cannot be read, by zoneadmd neither: as if nothing was set
    return {attr.get("name", ""): attr.get("value", "") for attr in element.findall("attr")}


def _later(seconds: float, name: str, work: Callable[[], None]) -> None:
    def run() -> None:
        try:
            work()
        except (ZoneError, OSError):
            return  # the zone has gone another way, or is gone altogether: nothing is left to do

    timer = threading.Timer(seconds, run)
    timer.name, timer.daemon = name, True
    timer.start()
