# SPDX-License-Identifier: MPL-2.0
"""Canned event streams: lines as vminfod sends them, and a server that plays them."""

import json
import time

from support.canned_server import HANG, STREAM_HEAD, CannedServer, line
from support.deadlines import SOON

DATE = "2024-03-01T10:00:00.123Z"
LIMIT = SOON


def vm(zonename, **more):
    return {"zonename": zonename, "uuid": zonename, **more}


def ready(*vms, **more):
    """A ready event; with epoch= and rev= as ours, without as the original's."""
    return {"type": "ready", "date": DATE, "uuid": "5f0e", "vms": json.dumps(list(vms)), **more}


def event(kind, zonename, **more):
    made = {"type": kind, "date": DATE, "zonename": zonename, "uuid": zonename}
    if kind != "delete":
        made["vm"] = vm(zonename, **more.pop("vm", {}))
    return {**made, **more}


def stream(*steps):
    """A script: dicts become event lines; other steps are as in canned_server."""
    return [STREAM_HEAD, *[line(step) if isinstance(step, dict) else step for step in steps]]


def serving(*steps):
    """A server with one stream that stays open after its steps."""
    return CannedServer({"/events": stream(*steps, HANG)})


def wait_until(condition, what):
    """For conditions that no object offers to wait on."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
