# SPDX-License-Identifier: MPL-2.0
"""The client library's mirror of all VMs, as an agent would keep it over all that happens to the daemon: what it tells
its agent is noted, and at each calm it must show what is served.

The only place here where the product's client is used: everything else judges the daemon by the wire."""

from __future__ import annotations

import logging
import time
from typing import Any

from vminfod.client import VminfodError, VminfodWatcher

SILENT = logging.getLogger("simulation")  # that the daemon goes is no news here
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False


class Mirror:
    """`told`: (when, event) of each event that the agent got."""

    def __init__(self, port: int):
        self.told: list[tuple[float, dict[str, Any]]] = []
        self._watcher = VminfodWatcher("simulation", port=port, log=SILENT, callbacks={"event": self._note})

    def _note(self, event: dict[str, Any]) -> None:
        self.told.append((time.monotonic(), event))

    def differences(self, epoch: str, rev: int, served: list[dict[str, Any]], within: float) -> list[str]:
        """What it shows otherwise than was served at that revision, once it has come to it."""
        try:
            self._watcher.wait_for_rev(rev, within, epoch=epoch)
        except VminfodError as error:
            return [f"the client's mirror has not come to revision {rev}: {error}"]
        shown, should = self._watcher.vms(), {vm["zonename"]: vm for vm in served}
        names = sorted(name for name in shown.keys() | should.keys() if shown.get(name) != should.get(name))
        return [f"the client's mirror shows {name} otherwise than it is served" for name in names]

    def turn(self) -> list[tuple[float, dict[str, Any]]]:
        told, self.told = self.told, []
        return told

    def stop(self) -> None:
        self._watcher.stop()
