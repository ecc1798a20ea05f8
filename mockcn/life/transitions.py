# SPDX-License-Identifier: MPL-2.0
"""Booting and halting zones over time: the steps of state/zones.py, with the pauses between them that a zone takes.

Always: one who takes a zone through its states holds `zone.busy` from the first step to the last, as zoneadm and
        zoneadmd serialise what is done to one zone; the node's lock is held for a step at a time only.
`reached` is called with each step's name before it is taken (faults; commands/output.py). The steps of a boot are
`initialized`, `ready`, `booting`, `running`, those of a halt `shutting_down`, `init_ended`, `down`, `gone`.
Not here: what zoneadm says (commands/zones/zoneadm.py), what goes on inside a zone (guest.py)."""

import time
from typing import Callable

from mockcn.node import Node
from mockcn.state.zones import Zone, ZoneError

Reached = Callable[[str], None]
BOOT_STEPS = ("initialized", "ready", "booting", "running")
HALT_STEPS = ("shutting_down", "init_ended", "down", "gone")


def unwatched(step: str) -> None:
    """For steps that no fault can strike: those that no tool is waiting for."""


def ready(node: Node, zone: Zone, reached: Reached = unwatched) -> None:
    """Into the kernel; init does not run yet. Raises ZoneError."""
    with zone.busy:
        with node.lock:
            steps = node.zones.boot_steps(zone)
        for name, step in list(zip(BOOT_STEPS, steps, strict=True))[:2]:
            reached(name)
            with node.lock:
                step()


def boot(node: Node, zone: Zone, reached: Reached = unwatched) -> None:
    """To `running`; a zone that is `ready` goes on from there. Raises ZoneError."""
    with zone.busy:
        with node.lock:
            waiting = zone.kernel is not None and zone.kernel.state == "ready"
            steps = node.zones.start_steps(zone) if waiting else node.zones.boot_steps(zone)
        for name, step in zip(BOOT_STEPS[-len(steps) :], steps, strict=True):
            reached(name)
            if name == "running":
                time.sleep(node.pace.boot)
            with node.lock:
                step()


def halt(node: Node, zone: Zone, status: int = -1, reached: Reached = unwatched) -> None:
    """Out of the kernel; init ends with wait status `status` (-1: on request). Raises ZoneError."""
    with zone.busy:
        with node.lock:
            steps = node.zones.halt_steps(zone, status)
        for name, step in zip(HALT_STEPS, steps, strict=True):
            reached(name)
            if name == "down":
                time.sleep(node.pace.halt)
            with node.lock:
                step()


def reboot(node: Node, zone: Zone, reached: Reached = unwatched) -> None:
    """Down and up again, with a new zoneid. Raises ZoneError."""
    with zone.busy:
        with node.lock:
            if zone.kernel is None or zone.kernel.state != "running":
                raise ZoneError(f"zoneadm: zone '{zone.name}': not running")
        halt(node, zone, reached=reached)
        boot(node, zone, reached)
