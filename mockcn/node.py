# SPDX-License-Identifier: MPL-2.0
"""The mock compute node: its parts put together, and the lock that orders them.

Always: what reads or changes zones, datasets or files holds `lock`, for a step at a time; nothing slow is done
        under it, so that a long listing does not stop the node.
Not here: sockets (server.py), what a VM is made of (vms.py), who lives on the node (population/)."""

import json
import os
import threading
import time
from typing import Any

from mockcn.layout import Layout
from mockcn.life.consoles import Consoles
from mockcn.life.pace import Pace
from mockcn.state.events import EventBus
from mockcn.state.faults import Faults
from mockcn.state.mounts import Mounts, write_atomically
from mockcn.state.overlays import Overlays
from mockcn.state.receiving import Receiving
from mockcn.state.volumes import Volumes
from mockcn.state.zones import Step, Zone, Zones

HOSTNAME = "headnode"
MAIN_POOL_GUID = 14466837440529934112
SYSINFO = "/tmp/.sysinfo.json"
NIC_TAGS = (
    ("admin", "00:50:56:34:60:4c", "e1000g0", "normal"),
    ("external", "00:50:56:3d:a7:95", "e1000g1", "normal"),
    ("internal", "00:50:56:3d:a7:96", "e1000g2", "normal"),
    ("storage", "00:50:56:3d:a7:97", "e1000g3", "normal"),
    ("stub0", "-", "-", "etherstub"),
)


class Node:
    def __init__(self, layout: Layout, seed: int, *, kernel_mounts: bool = True) -> None:
        self.layout = layout
        self.root = layout.root
        self.seed = seed
        self.lock = threading.RLock()
        self.events = EventBus(seed)
        self.faults = Faults()
        self.overlays = Overlays(layout.root, layout.aside, kernel=kernel_mounts)
        self.mounts = Mounts(layout.root, layout.aside, self.overlays)
        self.pools = Receiving(self.events, self.mounts, Volumes(layout.root), HOSTNAME)
        self.zones = Zones(self.events, layout.root)
        self.pools.in_use = lambda dataset: self.zones.holds(
            dataset.name, zoned=self.pools.value(dataset, "zoned") == "on"
        )
        self.zones.halted = self._halted
        self.sysinfo: dict[str, Any] = {}
        self.started = int(time.time())
        self.pace = Pace()
        self.consoles = Consoles(layout.root)
        self.nic_tags: list[list[str]] = [list(tag) for tag in NIC_TAGS]

    def real(self, path: str) -> str:
        """Where the node's file `path` really lies."""
        return self.root + path

    def _halted(self, zone: Zone) -> None:
        self.overlays.drop_below(zone.zonepath + "/root")
        self.consoles.halted(zone)

    def quiet(self, silent: bool) -> None:
        """No events and no writing of the index while the node is being populated."""
        self.pools.silent = self.zones.silent = silent
        if not silent:
            self.zones.write_index()

    def walk(self, steps: list[Step], pace: float = 0) -> None:
        """Take steps one by one, `pace` seconds apart, each under the lock."""
        for number, step in enumerate(steps):
            if number and pace:
                time.sleep(pace)
            with self.lock:
                step()

    def write_sysinfo(self, values: dict[str, Any]) -> None:
        self.sysinfo = values
        write_atomically(self.real(SYSINFO), json.dumps(values, indent=2).encode() + b"\n")

    def vm_count(self) -> int:
        return sum(zone.is_vm for zone in self.zones.zones.values())

    def make_folder(self, path: str, mode: int = 0o755) -> None:
        os.makedirs(self.real(path), mode, exist_ok=True)
