# SPDX-License-Identifier: MPL-2.0
"""The client library in a program that gevent has patched: the same calls, other greenlets running meanwhile."""

import os
import subprocess
import sys

import vminfod
from support.canned_server import HANG, CannedServer, answer
from support.streams import LIMIT, event, ready, stream

LIB = os.path.dirname(os.path.dirname(vminfod.__file__))

PROGRAM = """
from gevent import monkey
monkey.patch_all()
import gevent, sys
from vminfod.client import VminfodClient, VminfodEventStream, VminfodTimeout, VminfodWatcher

port = int(sys.argv[1])
ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.001)
gevent.spawn(tick)

client = VminfodClient("demo", port=port, timeout=120)
assert [job.get() for job in [gevent.spawn(client.ping) for _ in range(5)]] == [{"ping": "pong"}] * 5
with VminfodEventStream("demo", port=port) as stream:
    stream.wait_ready(120)
    watch = stream.watch_for_event({"zonename": "z1"}, timeout=120)
    assert watch.wait(120)["type"] == "create"
    try:
        stream.watch_for_event({"zonename": "never"}, timeout=0.05).wait(120)
    except VminfodTimeout:
        print("timed out")
    assert stream.read(120)["zonename"] == "z1"
with VminfodWatcher("demo", port=port) as watcher:
    watcher.wait_ready(120)
    watcher.wait_for_rev(1, timeout=120)
    assert watcher.vm("z1")["zonename"] == "z1"
seen = len(ticks)
try:
    VminfodClient("demo", port=port, timeout=0.05).get("/hang")
except VminfodTimeout:
    print("others ran" if len(ticks) > seen else "others stood still")
"""


def test_client_works_under_monkey_patching_and_lets_others_run():
    script = stream(ready(epoch="e", rev=0), event("create", "z1", epoch="e", rev=1), HANG)
    with CannedServer({"/ping": answer({"ping": "pong"}), "/events": script, "/hang": [HANG]}) as server:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(server.port)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": LIB},
            timeout=3 * LIMIT,
            check=False,
        )
    assert (done.stdout, done.returncode) == ("timed out\nothers ran\n", 0), done.stderr
