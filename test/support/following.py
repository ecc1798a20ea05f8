# SPDX-License-Identifier: MPL-2.0
"""A listener that follows the daemon the way a client does, and checks each event against what is served.

Always: what `ready` and the events give is compared with /vms at the same revision, so that every test that follows is
        a test of replay too;
        that something has no effect is shown by a later change from the same source whose event comes next.
The fixtures that give such a listener are in followers.py."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Optional

from mockcn import process
from support.running_daemon import RunningDaemon
from support.settling import settle

FIRST_TIME = 1767225600  # seconds since the epoch; files that nobody changed yet are older than any test

_numbers = itertools.count(100)


class Follow:
    """`vms`: zone name -> VM object, as ready and the events since give it. `events`: those events."""

    def __init__(self, node: process.MockNode, daemon: RunningDaemon, witness: str, query: str = ""):
        self.node, self.daemon, self.control = node, daemon, node.control
        self.witness = witness
        self.settle()
        self.stream = daemon.events(query)
        self.vms = {vm["zonename"]: vm for vm in self.stream.vms()}
        self.events: list[dict[str, Any]] = []
        self._rev = self.stream.ready["rev"]

    # What comes.

    def next(self) -> dict[str, Any]:
        """The next event. AssertionError if it does not follow from those before, or /vms shows something else."""
        event = self.stream.next()
        zonename = event["zonename"]
        assert event["rev"] == self._rev + 1
        self._rev = event["rev"]
        self.events.append(event)
        if event["type"] == "create":
            assert zonename not in self.vms
            self.vms[zonename] = event["vm"]
        elif event["type"] == "modify":
            assert zonename in self.vms
            self.vms[zonename] = event["vm"]
        else:
            assert event["type"] == "delete"
            assert event["last"] == self.vms.pop(zonename)
        answer = self.daemon.get("/vms")
        if answer.headers["x-vminfod-rev"] == str(self._rev):  # else the next event tells
            assert answer.json() == list(self.vms.values())
        return event

    def modified(self, zonename: str) -> list[tuple[Any, ...]]:
        """The changes of the next event, a modify of that zone; see changes()."""
        event = self.next()
        assert (event["type"], event["zonename"]) == ("modify", zonename), event
        return changes(event)

    def until(self, zonename: str, check: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
        """The events until check(VM object) is true; it gets {} while the zone is not served. Those of other zones
        are an error."""
        came = []
        while not check(self.vms.get(zonename, {})):
            event = self.next()
            assert event["zonename"] == zonename, event
            came.append(event)
        return came

    def settle(self) -> None:
        """Wait until the daemon has read all that the node has told, and has nothing left to do but to try again what
        cannot be read."""
        settle(self.daemon)

    # What does not come.

    def nothing_by_zfs(self) -> None:
        """Whatever zfs told so far has made no event: that of a change made now is the next."""
        old, new = self.vms[self.witness]["quota"], next(_numbers)
        self.zfs("set", f"quota={new}G", f"zones/{self.witness}")
        assert self.modified(self.witness) == [("quota", "changed", old, new)]
        self.settle()

    def nothing_by_files(self) -> None:
        """As nothing_by_zfs(), for file events."""
        new = next(_numbers)
        self.control.write_config(self.witness, "tags", {"witness": new})
        assert self.modified(self.witness)[-1][-1] == new
        self.settle()

    def nothing_by_zones(self) -> None:
        """As nothing_by_zfs(), for zone events."""
        old = self.vms[self.witness].get("init_restarts", 0)
        self.control.init_restart(self.witness)
        assert ("init_restarts", "changed", old, old + 1) in self.modified(self.witness)
        self.settle()

    def nothing(self) -> None:
        """None of the three sources has made an event that was not taken."""
        self.nothing_by_zones()
        self.nothing_by_files()
        self.nothing_by_zfs()

    # What is done.

    def add(self, **values: Any) -> str:
        """A new VM, whose events are taken; its zone name. `values` as for control.add_vm()."""
        values = {"state": "running", "alias": "foo", "created": FIRST_TIME, **values}
        vm = self.control.add_vm(**values)
        zonename: str = vm["zonename"]
        self.bring_up_to_date(zonename)
        assert self.vms[zonename]["uuid"] == vm["uuid"]
        return zonename

    def bring_up_to_date(self, *zonenames: str) -> None:
        """Have the daemon read these VMs anew, and take all events of what was done so far. It would hide lost events:
        only for what a test needs before it begins."""
        for zonename in zonenames:
            assert self.daemon.get(f"/vms/{zonename}?fresh=true").status == 200
        self.settle()
        last = int(self.daemon.get("/ping").headers["x-vminfod-rev"])
        while self._rev < last:
            self.next()

    def deafen(self, zone: str) -> None:
        """From here on the file watcher reports nothing of this zone's files."""
        assert self.control.tell("fswatcher", "deaf", path=zone) == 1
        self.nothing_by_files()  # it reads what it was told before it reads of a file that was changed after

    def lose(self, match: str) -> None:
        """The next event that holds `match` is lost. Those of what was done before are not, and have been read: one
        that is late would have the daemon read what the lost one was to tell."""
        self.nothing()
        self.control.drop_events(match=match)

    def zfs(self, *words: str) -> None:
        """Run zfs on the node. subprocess.CalledProcessError if it fails."""
        self.node.run("zfs", *words, check=True)

    def listed(self) -> list[str]:
        """What zfs was asked to list since control.forget_calls(), the witness aside: of each list the dataset that it
        named first, or "" for all pools."""
        asked = [call["argv"] for call in self.control.calls("zfs") if call["argv"][0] == "list"]
        names = ["".join(argv[argv.index("-d") + 2 :][:1]) for argv in asked]
        return [name for name in names if name != f"zones/{self.witness}"]

    def asked_about(self, zonename: str) -> list[str]:
        """The calls of tools since control.forget_calls() that name the zone, or its number in the kernel."""
        number = next((zone["zoneid"] for zone in self.control.zones() if zone["zonename"] == zonename), None)
        calls = [[call["tool"], *call["argv"]] for call in self.control.calls()]
        of_kernel = [argv for argv in calls if argv[0] == "kstat" and str(number) in argv]
        return [" ".join(argv) for argv in calls if argv in of_kernel or zonename in " ".join(argv)]

    def read(self, tool: str) -> int:
        """How often `tool` was called since control.forget_calls()."""
        return self.control.call_counts().get(tool, 0)

    def close(self) -> None:
        self.stream.close()


def changes(event: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The changes of a modify: (text of the path, "changed", old, new), (..., "added", new) or (..., "removed", old).
    Without last_modified, which depends on the second in which a test runs."""
    found = []
    for change in event["changes"]:
        values = [change[key] for key in ("oldValue", "newValue") if key in change]
        if change["prettyPath"] != "last_modified":
            found.append((change["prettyPath"], change["action"], *values))
    return found


def cause_of(event: dict[str, Any]) -> dict[str, Any]:
    """The cause of an event, without the latency; AssertionError if that is no time."""
    cause = dict(event["cause"])
    latency = cause.pop("latency_ms", None)
    if cause["source"] in ("zone", "zfs", "file"):
        assert isinstance(latency, float) and latency >= 0, event["cause"]
    return cause


def part(vm: Optional[dict[str, Any]], *names: str) -> dict[str, Any]:
    """Those members of a VM object that are there."""
    return {name: vm[name] for name in names if vm is not None and name in vm}
