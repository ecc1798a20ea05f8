# SPDX-License-Identifier: MPL-2.0
"""Fills a mock node: with VMs of every brand, and everything on a real node that is no VM.

Always: the same seed, number of VMs and of snapshots give the same node, dates and ids included (boot times, zone ids,
file dates too; only what happens later carries the time of day).
Always: exactly as many VMs as asked for. A VM is a zone that has a uuid, in whatever state. From 30 on the odd ones
(specials.py) take the place of the last ordinary ones, so that the parts of a VM object that are rare are all there.
Not here: what a VM is made of (vms.py)."""

import random
import time
from typing import Callable

from mockcn.node import Node
from mockcn.population import machine
from mockcn.population.ordinary import ordinary
from mockcn.population.specials import specials
from mockcn.population.vms import Vm, settle

SPECIALS_FROM = 30  # VMs: below that there is no room for the odd ones


def populate(node: Node, vms: int, snapshots: int, progress: Callable[[str], None]) -> None:
    """Fill an empty node. Nothing of this is an event."""
    node.quiet(True)
    try:
        machine.set_up(node)
        descriptions = describe(node.seed, vms)
        said = time.monotonic()
        for number, vm in enumerate(descriptions, 1):
            settle(node, vm)
            if time.monotonic() - said > 1:
                said = time.monotonic()
                progress(f"{number} of {len(descriptions)} VMs are in place")
        if vms >= SPECIALS_FROM:
            machine.add_zones_that_are_no_vms(node)
        spread_snapshots(node, descriptions, snapshots, progress)
    finally:
        node.quiet(False)


def describe(seed: int, count: int) -> list[Vm]:
    """The VMs of a node, in the order of the index."""
    odd = specials(random.Random(seed * 7919 + 13)) if count >= SPECIALS_FROM else []
    others = [ordinary(random.Random(seed * 1_000_003 + number), number) for number in range(count - len(odd))]
    return others + odd


def spread_snapshots(node: Node, vms: list[Vm], count: int, progress: Callable[[str], None]) -> None:
    """`count` more snapshots over the VMs' root datasets, delegated ones and disks, in turns."""
    with node.lock:
        datasets = []
        for vm in vms:
            if vm.state != "configured" and vm.datasets_exist:
                datasets.append(node.pools.dataset(vm.root_dataset))
                datasets += [
                    node.pools.dataset(vm.disk_dataset(place))
                    for place, disk in enumerate(vm.disks)
                    if "match" not in disk
                ]
    if not datasets or not count:
        return
    source, said = random.Random(node.seed + 5), time.monotonic()
    for place, dataset in enumerate(datasets):
        share = count // len(datasets) + (place < count % len(datasets))
        files = node.pools.captured(dataset)
        for number in range(share):
            name = f"vmsnap-auto-{number:04d}" if number % 2 == 0 else f"backup-{number:04d}"
            dataset.written += source.randrange(1 << 22)
            node.pools.take(dataset, name, dataset.creation + 200_000 + 600 * number, files=files)
        if time.monotonic() - said > 1:
            said = time.monotonic()
            progress(f"snapshots are in place on {place + 1} of {len(datasets)} datasets")
