# SPDX-License-Identifier: MPL-2.0
"""What a simulation runs on: a mock node, the real daemon on it as a process, listeners, a reader, and what is known of
the node by who changes it.

Always: the daemon runs as an operator would run it, but with refreshes so rare that none comes by itself, small limits
        for what hangs and for what a listener may leave unread, and a wall clock that can be moved.
A node of another sort (real OpenZFS below the mock's zones) has to give: `root`, `control`, `stop()`. Nothing here
decides what happens (generator.py) or whether it went well (guarantees.py)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from typing import Any, Optional

from mockcn import process
from mockcn.control import NodeGone, OrderRefused
from simulation import truth
from simulation.listeners import Follower, Reader, ask
from simulation.measuring import BACKLOG, Measuring
from simulation.mirroring import Mirror
from simulation.recording import Choice, Promise, Read, Round
from support.convergence import differences
from support.running_daemon import RunningDaemon, eventually

SYSINFO = "/tmp/.sysinfo.json"
INSIDE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inside")
OPTIONS = ["--refresh-interval", "86400", "--listener-backlog-bytes", str(BACKLOG)]
LIMITS = {"zone": 2.0, "node": 20.0, "child": 5.0}  # seconds
CANNOT_START = 1  # its exit status, docs/operations.md, "Running it"
START_WITHIN = 90.0  # seconds, on a machine that does much else

CHOICES = {
    "whole": Choice(),
    "resuming": Choice(),
    "choosing": Choice(
        types=frozenset(["modify", "delete"]), fields=frozenset(["alias", "tags", "snapshots", "state"])
    ),
}

# Words of log records that no fault from outside can be the cause of.
OURS = ("escaped a greenlet", "unexpectedly", "task failed", "task was killed", "timeout exceeded", "does not end")


class World:
    """Enter it, then let acting.py change it. `patience`: seconds that anything may take to become right. `log`: a file
    for all that the daemon logs, which is more then."""

    def __init__(self, vms: int, patience: float = 90.0, log: str = ""):
        self.patience = patience
        self._log = log
        self.record = Round()
        self._seen: set[str] = set()  # zones that were there before or after a step
        self.folder = tempfile.mkdtemp(prefix="cn-")
        self.clock = 0.0
        self._clock_file, greenlets_file = (os.path.join(self.folder, name) for name in ("clock", "greenlets"))
        self.node = process.start(os.path.join(self.folder, "node"), vms=vms, kernel_mounts=False)
        self.control = self.node.control
        self.daemon: RunningDaemon
        self.is_up = False
        self.needs_refresh = False  # something was lost without a sign
        self.frozen: set[int] = set()  # pids of stopped children
        self.broken: dict[str, bytes] = {}  # path of a file that was broken -> what it said
        self.unsure: set[str] = set()  # zones of which nobody knows what a hanging writer will still do
        self.large: set[str] = set()  # zones whose metadata are large now
        self.tools_fail = self.tools_lie = False  # since the last calm
        environ = {
            "PYTHONPATH": INSIDE,
            "SIMULATION_CLOCK": self._clock_file,
            "SIMULATION_GREENLETS": greenlets_file,
        }
        limits = [word for name, seconds in LIMITS.items() for word in (f"--{name}-limit", str(seconds))]
        level = ["--log-level", "debug" if log else "info"]
        self.daemon = RunningDaemon(self.node.root, *OPTIONS, *level, *limits, environ=environ)
        self.measuring = Measuring(self.daemon, greenlets_file)
        self.start_daemon()
        self.reader = Reader(self.daemon.port)
        self.reader.expect(True)
        self.mirror = Mirror(self.daemon.port)
        self.followers = {name: Follower(name, self.daemon.port, choice) for name, choice in CHOICES.items()}

    # The daemon.

    def start_daemon(self) -> None:
        """Start it, and again if it says that it cannot (a tool fails), as the platform would."""
        self.daemon.start(wait=False)
        eventually("the daemon answers", self._started, START_WITHIN)
        self.is_up = True

    def _started(self) -> bool:
        try:
            return self.daemon.answers()
        except AssertionError:
            if self.daemon.process.poll() != CANNOT_START:
                raise
            self.daemon.start(wait=False)
            return False

    def end_daemon(self, number: int) -> None:
        """End it by a signal; listeners lose their streams."""
        self.reader.expect(False)
        self.is_up = False
        self.daemon.stop(number, within=START_WITHIN)

    def now_up(self) -> None:
        """It is up again: from now on it has to answer."""
        self.reader.expect(True)

    def move_clock(self, seconds: float) -> None:
        """The daemon's wall clock jumps by so much."""
        self.clock += seconds
        with open(self._clock_file + ".new", "w", encoding="ascii") as file:
            file.write(str(self.clock))
        os.replace(self._clock_file + ".new", self._clock_file)

    # What is on the node.

    def zones(self) -> list[dict[str, Any]]:
        """The VMs, in an order that is the same for the same steps."""
        return self.control.vms()

    def names(self) -> set[str]:
        return {zone["zonename"] for zone in self.control.zones()}

    def noting_what_goes(self, before: set[str], since: float) -> None:
        """Zones that were there before and are not now may be deleted by the daemon since `since`."""
        after = self.names()
        self._seen |= before | after
        for name in before - after:
            self.record.gone.setdefault(name, since)

    # Promises.

    def promise(self, what: str, zonename: str, *answers: Read) -> None:
        """A write or a fresh read of the zone was confirmed: what it is now has to be in all that is read later. Unless
        the daemon was lied to, which nobody can see through."""
        vms, unknown = truth.expected(self.control.dump())
        if zonename in unknown or self.tools_lie or not self.is_up:
            return
        should = vms.get(zonename)
        if should is not None and SYSINFO in self.broken:
            should = {name: value for name, value in should.items() if name not in truth.SYSINFO}
        reads = list(answers)
        with contextlib.suppress(OSError, ValueError):
            reads.append(ask(self.daemon.port, f"/vms/{zonename}")[0])
            reads.append(ask(self.daemon.port, "/vms")[0])
        self.record.promises.append(Promise(what, zonename, should, tuple(reads)))

    # Calm.

    def settle(self) -> None:
        """Wait until what is served is what the node is, and the daemon has nothing left to do. What is still different
        when patience ends goes into the record."""
        until = time.monotonic() + self.patience
        while True:
            try:
                different = self._not_right()
            except (OSError, ValueError, AssertionError, OrderRefused, NodeGone) as error:
                different = [f"cannot be told: {type(error).__name__}: {error}"]
            if not different:
                break
            if time.monotonic() > until:
                self.record.differences = [*different, self._what_a_load_says()]
                break
            time.sleep(0.05)
        self._catch_up()

    def _what_a_load_says(self) -> str:
        """Whether the tools themselves give what is served: then the node, or truth.py, is to be looked at."""
        try:
            found = differences(self.daemon)
        except Exception as error:  # noqa: BLE001 boundary: it is only for who looks for the reason
            return f"a fresh load fails: {error}"
        return f"a fresh load has it otherwise than what is served: {found}" if found else "a fresh load has it, too"

    def _not_right(self) -> list[str]:
        status, node = self.daemon.status(full=False), self.control.dump()
        queue = status["queue"]["vasync_queue"]
        # What was broken and is whole again, or is no more, has an error until it is looked at once more.
        broken = truth.expected(node)[1] | {zone["name"] for zone in node["zones"] if zone["xml"] is None}
        busy = sorted(set(status["reloading"]) - broken)
        found = [f"{name}: still being read" for name in busy]
        found += [f"{name} is {child['state']}" for name, child in status["children"].items() if child["state"] != "up"]
        if status["status"] != "working" or queue["npending"] + queue["nqueued"]:
            found.append(f"the daemon is {status['state']}, {status['status']}, {queue['nqueued']} tasks wait")
        found = found or truth.differences(node, self.daemon.vms())
        return found or differences(self.daemon)

    def _catch_up(self) -> None:
        """Wait until all listeners have what was emitted so far."""
        try:
            last = ask(self.daemon.port, "/vms")[0]
        except (OSError, ValueError) as error:
            self.record.trouble.append(f"no answer when all is calm: {error}")
            return
        self.record.final = (last.epoch, last.rev)
        self.record.reads.append(last)
        until = time.monotonic() + min(self.patience, 30.0)
        while not all(one.caught_up(last.epoch, last.rev) for one in self.followers.values()):
            if time.monotonic() > until:
                break  # guarantees.py says who lacks what
            time.sleep(0.02)
        self.record.differences += self.mirror.differences(last.epoch, last.rev, last.body, min(self.patience, 30.0))

    def refresh(self) -> int:
        """Ask the daemon for a full refresh, and wait until it has ended; how many events it made."""
        before = self.daemon.status(full=False)
        self.daemon.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + self.patience
        while time.monotonic() < until:
            now = self.daemon.status(full=False)
            if _seconds(now["lastRefresh"]) < _seconds(before["lastRefresh"]) and now["status"] == "working":
                break
            before["lastRefresh"] = now["lastRefresh"]
            time.sleep(0.02)
        return int(now["events"]["rev"]) - int(before["events"]["rev"])

    def measure(self, *, calm: bool) -> None:
        """Note what the daemon uses now."""
        resumed = any(follower.resumed for follower in self.followers.values())
        sample = self.measuring.sample(calm=calm, resumed=resumed)
        if sample is not None:
            self.record.samples.append(sample)

    # Rounds.

    def turn(self) -> Round:
        """The record of the round that ends now; a new one begins."""
        done = self.record
        done.reads += self.reader.turn()
        done.reads.sort(key=lambda read: read.began)
        done.chains = {name: follower.turn() for name, follower in self.followers.items()}
        done.mirrored = self.mirror.turn()
        for source in (self.reader, *self.followers.values()):
            done.trouble += source.trouble
            source.trouble = []
        done.trouble += self._complaints()
        done.gone.update(dict.fromkeys(_deleted(done) - self._seen, 0.0))  # they came and went within one step
        self.record = Round()
        here = self.names()
        self.record.gone = {name: since for name, since in done.gone.items() if name not in here}
        self.record.meant = {name: dict(marks) for name, marks in done.meant.items() if name in here}
        served = done.reads[-1].body if done.reads and done.reads[-1].status == 200 else []
        self.record.lasting = frozenset(vm["zonename"] for vm in served if vm["zonename"] in here)
        return done

    def _complaints(self) -> list[str]:
        found = []
        if self.is_up and self.daemon.process.poll() is not None:
            found.append(f"the daemon ended by itself with {self.daemon.process.returncode}")
        for record in self._logged():
            if record["level"] >= 50 and any(words in record["msg"] for words in OURS):
                found.append(f"logged: {record['msg']}: {record.get('err', record.get('task'))}")
        return found

    def _logged(self) -> list[dict[str, Any]]:
        records = self.daemon.take_log()
        if self._log:
            with open(self._log, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(record) + "\n" for record in records)
        return records

    def close(self) -> None:
        self.reader.expect(False)
        self.mirror.stop()
        for follower in self.followers.values():
            follower.stop()
        self.reader.stop()
        for pid in self.frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if self.daemon.process.poll() is None:
            with contextlib.suppress(Exception):
                self.daemon.stop(within=20.0)
        self.node.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _deleted(record: Round) -> set[str]:
    """The zones of which an end was heard."""
    heard = [segment.events for chain in record.chains.values() for segment in chain.segments]
    return {
        event["zonename"] for events in (*heard, record.mirrored) for _, event in events if event["type"] == "delete"
    }


def _seconds(duration: Optional[str]) -> float:
    return float("inf") if duration is None else float(duration.split("s")[0])
