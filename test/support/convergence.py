# SPDX-License-Identifier: MPL-2.0
"""Whether the daemon serves what the node is, and tells each step on the way: the two promises that every test of
faults ends with.

Always: what a node is, is said by a load in the test's own process, which knows nothing of events;
        an event's order and content are judged only by its revision and by what /vms shows at that revision."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from support.deadlines import SOON
from support.loading import Loads
from support.running_daemon import EventLines, RunningDaemon, eventually
from support.settling import is_idle

Vms = dict[str, dict[str, Any]]  # by zone name


def fresh_load(root: str) -> Vms:
    """The VMs of the node, loaded by nobody who follows it."""
    return Loads(root).load_all().vms


def served(daemon: RunningDaemon) -> Vms:
    return {vm["zonename"]: vm for vm in daemon.vms()}


def differences(daemon: RunningDaemon) -> list[str]:
    """What /vms shows otherwise than a fresh load: "zone: property", or "zone: not served" and "zone: is no more"."""
    has, should_have = served(daemon), fresh_load(daemon.root)
    found = [f"{name}: not served" for name in should_have.keys() - has.keys()]
    found += [f"{name}: is no more" for name in has.keys() - should_have.keys()]
    for name in should_have.keys() & has.keys():
        keys = should_have[name].keys() | has[name].keys()
        found += [f"{name}: {key}" for key in keys if should_have[name].get(key, ...) != has[name].get(key, ...)]
    return sorted(found)


def refreshes(daemon: RunningDaemon) -> int:
    """How many full refreshes have ended, well or not."""
    return len(daemon.logged("full refresh ended"))


def await_refresh(daemon: RunningDaemon) -> None:
    """Wait until a refresh has ended that began after now."""
    begun = len(daemon.logged("full refresh starts"))
    eventually("another refresh began and ended", lambda: refreshes(daemon) > begun, 2 * SOON)


def assert_converges(daemon: RunningDaemon, broken: Iterable[str] = (), within: float = SOON) -> None:
    """What is served becomes what a fresh load gives: the newest events may still be on their way to the daemon."""
    deadline = time.monotonic() + within
    _await_idle(daemon, broken)
    while different := differences(daemon):
        assert time.monotonic() < deadline, f"{len(different)} differences: {different[:20]}"
        time.sleep(0.05)
        _await_idle(daemon, broken)


def _await_idle(daemon: RunningDaemon, broken: Iterable[str]) -> None:
    """Not settle(): its mark would end a line that a fault has begun."""
    eventually("the daemon has nothing to do", lambda: is_idle(daemon, broken))


class Listener:
    """Replays a stream in a thread of its own: ready, then each event applied in order.

    `error` says what was wrong with the stream, None if nothing was."""

    def __init__(self, daemon: RunningDaemon, query: str = "", start: Vms | None = None):
        self._stream: EventLines = daemon.events(query)
        self.vms: Vms = dict(start) if start is not None else {vm["zonename"]: vm for vm in self._stream.vms()}
        self.first = self.rev = int(self._stream.ready["rev"])
        if start is not None:
            self.first = self.rev = int(query.rpartition(":")[2])
        self.epoch = self._stream.ready["epoch"]
        self.at: dict[int, Vms] = {self.rev: dict(self.vms)}  # revision -> the VMs then
        self.error: BaseException | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._follow, name="listener", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            while not self._stopping:
                self.apply(self._stream.next(within=120.0))
        except (OSError, ValueError) as error:
            if not self._stopping:
                self.error = error
        except AssertionError as error:
            self.error = error

    def apply(self, event: dict[str, Any]) -> None:
        """Take one event. AssertionError if it cannot follow what came before."""
        name = event["zonename"]
        assert event["epoch"] == self.epoch
        assert event["rev"] == self.rev + 1, f"revision {event['rev']} came after {self.rev}"
        if event["type"] == "create":
            assert name not in self.vms, f"create of {name}, which is there"
            self.vms[name] = event["vm"]
        elif event["type"] == "modify":
            assert name in self.vms, f"modify of {name}, which is not there"
            assert self.vms[name] != event["vm"], f"modify of {name} that modifies nothing"
            self.vms[name] = event["vm"]
        else:
            assert event["type"] == "delete", event
            assert event["last"] == self.vms.pop(name), f"delete of {name} with another last object"
        self.rev = event["rev"]
        self.at[self.rev] = dict(self.vms)

    def caught_up(self, rev: int) -> None:
        """Wait until revision `rev` was applied. AssertionError if the stream was wrong before."""
        eventually(f"revision {rev} is on the stream", lambda: self.rev >= rev or self.error)
        assert self.error is None, self.error

    def close(self) -> None:
        self._stopping = True
        self._stream.connection.sock.shutdown(2)
        self._thread.join(SOON)
        self._stream.close()
