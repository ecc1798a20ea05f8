#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""How long /ping takes while a full refresh loads and compares a large node, against how long it takes when nothing
happens, in the same run of the same daemon on a mock node.

    bench/ping_during_refresh.py [--vms 1000] [--snapshots 50000] [--refreshes 3]

Prints the time to start, the pings of both sorts (median, 99 %, worst), the ratio of the two medians and of the two
worst, and the memory. The bound of the worst ping during a refresh is 100 ms."""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [CHECKOUT, os.path.join(CHECKOUT, "test"), os.path.join(CHECKOUT, "usr", "vm", "lib")]

from mockcn import process  # noqa: E402
from support.running_daemon import RunningDaemon  # noqa: E402

EVERY = 0.002  # seconds between two pings
IDLE_PINGS = 1500


class Pinger:
    """Pings on one kept-alive connection."""

    def __init__(self, port: int):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ping(self) -> float:
        """Seconds that one took."""
        began = time.perf_counter()
        self._socket.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b'{"ping":"pong"}'):
            answer += self._socket.recv(4096)
        return time.perf_counter() - began


def count(daemon: RunningDaemon, what: str) -> int:
    """How many refreshes have started, or ended, without a request of our own to the daemon."""
    return daemon.raw_log().count(f'"msg":"full refresh {what}"'.encode())


def shown(name: str, times: list[float]) -> str:
    ordered = sorted(times)
    percent = ordered[int(len(ordered) * 0.99)]
    return (
        f"{name:16} {len(times):6} pings   median {statistics.median(times) * 1000:7.2f} ms"
        f"   99 % {percent * 1000:7.2f} ms   worst {ordered[-1] * 1000:7.2f} ms"
    )


def measure(vms: int, snapshots: int, refreshes: int) -> None:
    folder = tempfile.mkdtemp(prefix="cn-")
    try:
        with process.start(os.path.join(folder, "node"), vms=vms, snapshots=snapshots) as node:
            began = time.monotonic()
            with RunningDaemon(node.root, "--refresh-interval", "5").start() as daemon:
                print(
                    f"start            {time.monotonic() - began:.2f} s until it answers, {vms} VMs, "
                    f"{snapshots} snapshots"
                )
                print(f"memory           {daemon.status(full=False)['memory']['rss'] >> 20} MiB after the start")
                pinger = Pinger(daemon.port)
                idle: list[float] = []
                during: list[float] = []
                ends = refreshes + count(daemon, "ended")
                while (done := count(daemon, "ended")) < ends or len(idle) < IDLE_PINGS:
                    loads = count(daemon, "starts") > done
                    seconds = pinger.ping()
                    # One during which a refresh began or ended counts as one of that refresh.
                    loads = loads or count(daemon, "starts") > done
                    (during if loads else idle).append(seconds)
                    time.sleep(EVERY)
                print(shown("idle", idle))
                print(shown("during refresh", during))
                print(
                    f"ratio            median {statistics.median(during) / statistics.median(idle):.1f}, "
                    f"worst {max(during) / max(idle):.1f}"
                )
                took = [record["took"] for record in daemon.logged("full refresh ended")]
                print(f"refreshes        {len(took)}, each {', '.join(took)}")
                print(f"memory           {daemon.status(full=False)['memory']['rss'] >> 20} MiB after {len(took)}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--vms", type=int, default=1000)
    parser.add_argument("--snapshots", type=int, default=50_000)
    parser.add_argument("--refreshes", type=int, default=3)
    options = parser.parse_args()
    measure(options.vms, options.snapshots, options.refreshes)


if __name__ == "__main__":
    main()
