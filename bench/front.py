# SPDX-License-Identifier: MPL-2.0
"""The HTTP front: /ping, /vms/:uuid and /vms, against a plain Node server that has the same bodies ready as strings.

/vms also against nginx with the same file, where nginx is installed. The rate is the client's view, which it limits
itself when a server is fast; the server's processor time for an answer is not limited by the client. `--realtime 1`: on
a machine that does other work, too, client and server come first for the moments in which they are measured (root)."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator

from bench import PEERS, ground, measuring
from bench.measuring import Report
from bench.requests import Load, ahead_of_others, load
from support.ports import free_port

CONNECTIONS = 8
_NGINX = """daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
events {{}} http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000000;
default_type application/json;
client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
scgi_temp_path {folder}; server {{ listen 127.0.0.1:{port}; root {folder}; }} }}
"""


@contextlib.contextmanager
def node_server(bodies: dict[str, str]) -> Iterator[tuple[int, int]]:
    """(port, pid) of a plain Node server with these answers."""
    port = free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(bodies, file)
        file.flush()
        with ground.peer(["node", os.path.join(PEERS, "plain_server.js"), str(port), file.name], port) as child:
            yield port, child.pid


@contextlib.contextmanager
def nginx(body: str) -> Iterator[tuple[int, int]]:
    """(port, pid) of an nginx, one process, that has `body` as /vms."""
    port, folder = free_port(), tempfile.mkdtemp(prefix="nginx-")
    try:
        os.chmod(folder, 0o755)
        for name, text in (("vms", body), ("conf", _NGINX.format(folder=folder, port=port))):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
        with ground.peer(["nginx", "-c", os.path.join(folder, "conf")], port) as child:
            yield port, child.pid
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(report: Report, options: argparse.Namespace) -> None:
    seconds = options.milliseconds / 1000
    with ground.ground(options.vms, 0, "--log-level", "info") as here:
        vm = here.daemon.vms()[options.vms // 2]
        one = f"/vms/{vm['uuid']}"
        bodies = {path: here.daemon.get(path).body.decode() for path in ("/ping", one, "/vms")}
        if shutil.which("node") is None:
            report.skip("requests", "there is no node to compare with")
        else:
            with node_server(bodies) as (port, pid):
                for path, name in (("/ping", "/ping"), (one, "/vms/:uuid"), ("/vms", "/vms")):
                    for keep in (True, False):
                        how = "kept alive" if keep else "a connection each"
                        ask = _asking(path, seconds, keep, bool(options.realtime))
                        _compare(report, f"{name}, {how}", ask, (here.daemon.port, here.pid), "node", (port, pid))
        if shutil.which("nginx") is None:
            report.skip("/vms against nginx", "nginx is not installed")
        else:
            with nginx(bodies["/vms"]) as there:
                ask = _asking("/vms", seconds, True, bool(options.realtime))
                _compare(report, "/vms, kept alive", ask, (here.daemon.port, here.pid), "nginx", there)


class _asking:
    """One sort of request. Called with a server's port and pid, it gives the load."""

    def __init__(self, path: str, seconds: float, keep: bool, realtime: bool):
        self.path, self.seconds, self.keep, self.realtime = path, seconds, keep, realtime

    def __call__(self, port: int, pid: int) -> Load:
        with ahead_of_others(pid) if self.realtime else contextlib.nullcontext():
            found = load(port, pid, self.path, seconds=self.seconds, connections=CONNECTIONS, keep=self.keep)
        if self.realtime:
            time.sleep(self.seconds / 2)  # for those who had to wait
        return found


def _compare(
    report: Report, name: str, ask: _asking, ours: tuple[int, int], peer: str, theirs: tuple[int, int]
) -> None:
    """Rate, 99th percentile and processor time from the same rounds."""
    mine: list[Load] = []
    others: list[Load] = []
    for number in range(report.rounds):
        for where, found in ((ours, mine), (theirs, others))[:: 1 if number % 2 == 0 else -1]:
            found.append(ask(*where))
    for what, unit, figure in (
        ("", "requests/s", lambda one: one.rate),
        (", 99 %", "ms", lambda one: one.p99 * 1000),
        (", server", "us of CPU each", lambda one: one.cpu_us),
    ):
        report.put(name + what, unit, [figure(one) for one in mine], peer, [figure(one) for one in others])


SIZES = {"vms": (1000, 10), "milliseconds": (2000, 100), "realtime": (0, 0)}

if __name__ == "__main__":
    sys.exit(measuring.main("front", __doc__, SIZES, measure))
