# SPDX-License-Identifier: MPL-2.0
"""docs/client.md is true: each program in it is run as it stands, against a daemon whose node changes. So are the
clients in other languages, whose connection is cut and whose daemon goes away meanwhile."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from support.deadlines import SOON
from support.relay import Relay
from support.running_daemon import CHECKOUT, RunningDaemon, eventually

DOCS = Path(CHECKOUT) / "docs"
PAGE = (DOCS / "client.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)

# The library asks the daemon of this machine: here that of the test's node.
PREPARED = """
import sys
sys.path.insert(0, {lib!r})
from vminfod.clients import identity
identity.SOCKET, identity.DEFAULT_PORT = {socket!r}, {port}
"""


class Program:
    """A program that runs. `.lines`: what it has printed."""

    def __init__(self, words, environ=None):
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
        )
        self.lines, self.errors = [], []
        pipes = ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        self._readers = [threading.Thread(target=self._read, args=pipe, daemon=True) for pipe in pipes]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(pipe, into):
        for line in pipe:
            into.append(line.rstrip("\n"))

    def ended(self):
        """How the program ended, when all that it printed has been read."""
        for reader in self._readers:
            reader.join(SOON)
        return self.process.wait(SOON)

    def until(self, text):
        """The first line that has `text`."""
        return eventually(
            f"{text!r} in {self.lines} {self.errors}", lambda: next((line for line in self.lines if text in line), None)
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def run(number, daemon, *words):
    """The program of the page with that number."""
    begin = PREPARED.format(
        lib=os.path.join(CHECKOUT, "usr/vm/lib"), socket=f"{daemon.root}/var/run/vminfod.sock", port=daemon.port
    )
    environ = {**os.environ, "PATH": f"{daemon.root}/usr/sbin:{os.environ['PATH']}"}
    return Program([sys.executable, "-c", begin + PROGRAMS[number], *words], environ)


def a_running_vm(daemon):
    return next(vm for vm in daemon.vms() if vm["state"] == "running" and vm["brand"] == "joyent")


def listening(daemon):
    """How many streams are open."""
    return len(daemon.status()["eventsListeners"])


def test_the_page_has_the_programs_that_are_run_here():
    assert len(PROGRAMS) == 7


@pytest.mark.vms(30)
def test_a_list_and_one_vm(daemon):
    vm = a_running_vm(daemon)
    with run(0, daemon) as program:
        assert program.ended() == 0
    running = {f"{one['uuid']} {one.get('alias', '-')}" for one in daemon.vms() if one["state"] == "running"}
    assert set(program.lines) == running
    with run(1, daemon, vm["uuid"]) as program:
        program.until("running")
    with run(1, daemon, "no-such-vm") as program:
        assert program.ended() == 1
    assert program.errors == ["no-such-vm: bad statusCode: 404"]


def test_what_changes_is_printed(node, daemon):
    vm = a_running_vm(daemon)
    with run(2, daemon) as program:
        eventually("it listens", lambda: listening(daemon) == 1)
        node.run("zfs", "set", "quota=44g", vm["zfs_filesystem"])
        program.until(f"modify {vm['uuid']} ['quota']")


def test_two_changes_are_one_event(node, daemon):
    vm = a_running_vm(daemon)
    events = daemon.events()
    with run(3, daemon, vm["uuid"]) as program:
        program.until("33")
    event = events.next()
    assert {change["prettyPath"] for change in event["changes"]} == {"quota", "zfs_root_recsize"}
    assert event["cause"]["command"] == "resize"


@pytest.mark.parametrize("number", [4, 5, 6], ids=["threads", "gevent", "asyncio"])
def test_programs_of_each_kind_hear_of_a_change(node, daemon, number):
    vm = a_running_vm(daemon)
    with run(number, daemon) as program:
        program.until(f"{len(daemon.vms())} VMs")
        eventually("it listens", lambda: listening(daemon) == 1)
        node.run("zfs", "set", "quota=45g", vm["zfs_filesystem"])
        line = program.until(vm["uuid"])
        assert line in (f"quota of {vm['uuid']} is now 45", f"modify {vm['uuid']}")
        assert program.process.poll() is None


@pytest.mark.parametrize(
    "words",
    [["node", "follow.js"], pytest.param(["bash", "follow.sh"], marks=pytest.mark.more)],  # curl and jq
    ids=["node", "shell"],
)
def test_clients_in_other_languages_miss_nothing(node, words):
    """Not when the connection is cut, and not when the daemon is another one."""
    program, name = words
    with RunningDaemon(node.root).start() as daemon, Relay(daemon.port) as relay:
        vm = a_running_vm(daemon)
        with Program([program, str(DOCS / "examples" / name), "127.0.0.1", str(relay.port)]) as client:
            eventually("it listens", lambda: listening(daemon) == 1)
            client.until("list" if program == "bash" else "create")
            node.run("zfs", "set", "quota=46g", vm["zfs_filesystem"])
            client.until(f"modify {vm['uuid']}")
            heard = len(client.lines)
            for quota in (47, 48, 49):
                relay.cut()
                node.run("zfs", "set", f"quota={quota}g", vm["zfs_filesystem"])
                eventually("it is served", lambda quota=quota: daemon.vm(vm["uuid"])["quota"] == quota)
            eventually("all three", lambda: len(client.lines) == heard + 3)
            assert client.lines[heard:] == [f"modify {vm['uuid']}"] * 3
            daemon.stop()
            node.run("zfs", "set", "quota=50g", vm["zfs_filesystem"])
            with RunningDaemon(node.root, port=daemon.port).start():
                if program == "bash":
                    eventually("a new list", lambda: client.lines[heard + 3 :] == ["list"])
                else:
                    eventually("what was missed", lambda: client.lines[heard + 3 :] == [f"modify {vm['uuid']}"])
