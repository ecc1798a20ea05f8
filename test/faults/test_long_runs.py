# SPDX-License-Identifier: MPL-2.0
"""What a daemon holds after it has seen very many events is what it held before them."""

import json

from mockcn import process
from support.deadlines import SOON
from support.running_daemon import RunningDaemon, eventually

WARM, LONG, BATCH = 3_000, 20_000, 500  # events
GROWTH_MOST = 6 << 20  # bytes; attributes that are kept are more than 1 KB an event, 20 MB in all


def zone_line(zonename, number):
    """A VM changes its state, of which there is more to say than usual."""
    data = {
        "zonename": zonename,
        "newstate": f"state-{number}-" + "x" * 500,
        "oldstate": "ready",
        "when": str(number),
        "zoneid": "7",
    }
    message = {
        "type": "event",
        "date": "2026-03-01T10:00:00.000Z",
        "vendor": "SUNW",
        "publisher": "zone",
        "class": "status",
    }
    return json.dumps({**message, "subclass": "change", "pid": 1, "channel": "zones:status", "data": data})


def zfs_line(zonename, number):
    """A snapshot is made that no VM shows, of a VM's dataset or of another; its text is as long as real ones are."""
    data = {
        "pool_name": "zones",
        "pool_guid": str(number),
        "history_dsname": f"zones/{zonename}@backup-{number}" if number % 4 == 1 else f"zones/copies@{number}",
        "history_internal_str": f"({number}) " * 100,
        "history_internal_name": "snapshot",
        "history_dsid": "77",
        "history_txg": str(number),
        "history_time": 1_700_000_000 + number,
        "history_hostname": "cn0",
    }
    message = {
        "type": "event",
        "date": "2026-03-01T10:00:00.000Z",
        "vendor": "SUNW",
        "publisher": "zfs",
        "class": "EC_zfs",
    }
    return json.dumps({**message, "subclass": "ESC_ZFS_history_event", "pid": 0, "data": data})


def test_memory_is_flat_over_a_long_run_of_events(root):
    with process.start(root, vms=3) as node, RunningDaemon(node.root, "--log-level", "warn").start() as daemon:
        zone = daemon.vms()[0]["zonename"]
        stream = daemon.events("?vms=false")

        def run(start, count):
            """`count` events of both sorts; returns when those of the VM behind them are through."""
            for first in range(start, start + count, BATCH):
                numbers = range(first, first + BATCH)
                zone_lines = [zone_line(zone, n) + "\n" for n in numbers[::2]]
                zfs_lines = [zfs_line(zone, n) + "\n" for n in numbers[1::2]]
                assert node.control.raw_line("".join(zone_lines), "zones") == 1
                assert node.control.raw_line("".join(zfs_lines), "zfs") == 1
            node.run("zfs", "set", f"quota={start + 1}G", f"zones/{zone}", check=True)
            stream.until(lambda event: event["zonename"] == zone and event["vm"].get("quota") == start + 1, within=SOON)
            node.control.init_restart(running)
            stream.until(lambda event: event["zonename"] == running, within=SOON)
            eventually("the daemon has nothing left to do", lambda: not daemon.status(full=False)["reloading"])
            return daemon.status(full=False)["memory"]["rss"]

        running = next(vm["zonename"] for vm in daemon.vms() if vm["state"] == "running")
        before = run(0, WARM)
        after = run(WARM, LONG)
        assert after - before < GROWTH_MOST
        children = daemon.status()["children"]
        assert not any(child["restarts"] or child["skippedLines"] for child in children.values()), children
