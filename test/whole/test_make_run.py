# SPDX-License-Identifier: MPL-2.0
"""`make run`, as a newcomer sees it: a node, a daemon, a list, changes, and nothing left behind."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading

import pytest

from support.deadlines import SOON
from support.ports import free_port
from support.running_daemon import CHECKOUT, RunningDaemon, eventually


class Demo:
    """A running demo: lines() hands out what it prints."""

    def __init__(self, *options):
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(CHECKOUT, "mockcn", "demo.py"), "--port", str(self.port), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=CHECKOUT,
        )
        self.lines = queue.Queue()
        self._reader = threading.Thread(
            target=lambda: [self.lines.put(line) for line in self.process.stdout], daemon=True
        )
        self._reader.start()
        self.seen = []

    def until(self, pattern):
        """The first line that matches."""
        while True:
            line = self.lines.get(timeout=SOON)
            self.seen.append(line.rstrip("\n"))
            if found := re.search(pattern, line):
                return found

    def rest(self):
        self.process.wait(SOON)
        self._reader.join(SOON)
        while not self.lines.empty():
            self.seen.append(self.lines.get().rstrip("\n"))
        return self.seen


@pytest.fixture
def demo():
    demo = Demo("--vms", "12")
    yield demo
    if demo.process.poll() is None:
        demo.process.send_signal(signal.SIGTERM)
        demo.process.wait(SOON)


def processes_in(folder):
    """Command lines of the processes that have to do with this folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(folder in word for word in words):
            found.append(words)
    return found


def test_run_shows_the_list_then_changes_and_leaves_nothing_behind(demo):
    root = demo.until(r"a mock compute node with 12 VMs, in (\S+)")[1]
    folder = os.path.dirname(root)
    demo.until("UUID +TYPE +RAM +STATE +ALIAS")
    command = demo.until(r"^  (\S+/zfs set quota=77g zones/\S+)")[1].split()
    demo.until("Changes as they happen")
    listed = [line for line in demo.seen if re.match(r"[0-9a-f-]{36}  ", line)]
    assert len(listed) == 12
    # The printed commands are for a second terminal, and work there. Its stream is open once it is in the list.
    daemon = RunningDaemon(root, port=demo.port)
    eventually("the demo listens", lambda: daemon.status()["eventsListeners"])
    subprocess.run(command, check=True)
    demo.until(r"modify: quota changed :: \d+ -> 77")
    demo.process.send_signal(signal.SIGINT)
    assert demo.rest()[-1] == "everything is taken down"
    assert demo.process.returncode == 0
    assert not os.path.exists(folder)
    assert processes_in(folder) == []


README = os.path.join(CHECKOUT, "README.md")


def as_pattern(shown, root):
    """A line of the README: ROOT is the node's folder, `...` whatever."""
    return ".*".join(re.escape(part) for part in re.sub(r"\bROOT\b", root, shown).split("..."))


def test_the_first_minute_of_the_readme_goes_as_it_says(demo):
    """What is typed in the second terminal, what that prints, and what the first one shows then."""
    with open(README) as text:
        first, second, shown = re.findall(r"^```console\n(.*?)^```$", text.read(), re.M | re.S)[:3]
    root = demo.until(r"a mock compute node with 12 VMs, in (\S+)")[1]
    demo.until("Changes as they happen")
    begun = "\n".join(demo.seen)
    for line in first.splitlines()[1:]:
        line = line.replace("9090", str(demo.port))
        assert line == "..." or re.search(rf"^{as_pattern(line, root)}$", begun, re.M), line
    eventually("the demo listens", lambda: RunningDaemon(root, port=demo.port).status()["eventsListeners"])
    environ = {**os.environ, "VMADM_ROOT": root}
    for command, printed in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", second, re.M):
        words = re.sub(r"\bROOT\b", root, command)
        done = subprocess.run(
            words, shell=True, env=environ, cwd=CHECKOUT, capture_output=True, text=True, timeout=SOON
        )
        assert re.fullmatch(as_pattern(printed, root), done.stdout + done.stderr), f"{command}\n{done}"
    for line in shown.splitlines():
        demo.until(rf"^{as_pattern(line, root)}$")


def test_run_that_is_terminated_leaves_nothing_behind_either(demo):
    folder = os.path.dirname(demo.until(r"VMs, in (\S+)")[1])
    demo.until("logging to")
    demo.process.send_signal(signal.SIGTERM)
    assert demo.rest()[-1] == "everything is taken down"
    assert not os.path.exists(folder)
    assert processes_in(folder) == []


def test_port_that_is_taken_is_said_in_one_line(quiet_daemon):
    demo = Demo("--vms", "3", "--port", str(quiet_daemon.port))
    said = demo.rest()
    assert demo.process.returncode == 1
    assert said[0].startswith(f"make run: port {quiet_daemon.port} cannot be had")
    assert said[1:] == ["everything is taken down"]


def test_zone_xml_of_a_real_node_is_imported_and_served(vectors):
    demo = Demo("--vms", "2", "--import", str(vectors / "vmload-xml"))
    root = demo.until(r"VMs, in (\S+)")[1]
    demo.until("Changes as they happen")
    try:
        vms = {vm["zonename"]: vm for vm in RunningDaemon(root, port=demo.port).vms()}
        texts = [path.read_text() for path in (vectors / "vmload-xml").glob("*.xml")]
        names = [re.search(r'<zone name="([^"]+)"', text) for text in texts]
        assert {name[1] for name in names if name} <= set(vms)
        assert vms["e9f6d7c2-49c5-4b54-9414-ca1405663e4f"]["alias"] == "the works"
    finally:
        demo.process.send_signal(signal.SIGINT)
        demo.rest()
