# SPDX-License-Identifier: MPL-2.0
"""Writers that hold a VM back while they change it, and what of that may be seen, and since when: the truth of the
guarantee Isolated, which comes from who makes the changes.

What is changed are two *marks* that nothing else in a simulation touches, one in the zone's XML, one in zfs; together
they say which state of which writer a VM object shows.
Always: all that a writer changes was decided by its step; of one that was killed only the moment is chance. Where a
        tool hangs, so that nobody knows what it will still do, the zone is not judged any more."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from typing import Any, Optional

from simulation import truth
from simulation.recording import Mark
from simulation.world import World
from support.running_daemon import SBIN
from support.transacting import Transacting

ALWAYS = float("-inf")
WAIT = 5  # seconds for a writer's turn; there is nobody else
LIMIT, SHORT_LIMIT = 60, 1  # seconds that a transaction may be open
TOOL_WITHIN = 10.0  # seconds for what a writer runs
QUIET_WITHIN = 5.0  # seconds for what a killed writer had started
ATTRIBUTE = re.compile(r'<attr name="package-version"[^>]*/>')


class Writer:
    """One writer on one zone. `old`: the marks that the zone has before."""

    def __init__(self, world: World, zone: dict[str, Any], mark: int):
        self.world, self.zone, self.mark = world, zone, mark
        self.name: str = zone["zonename"]
        self.dataset: str = zone["zonepath"][1:]
        self.old: Optional[Mark] = None
        vm = truth.expected(world.control.dump())[0].get(self.name)
        if vm is not None and self.name not in world.unsure:
            self.old = truth.mark(vm)
            if self.old is not None:
                self.world.record.meant.setdefault(self.name, {}).setdefault(self.old, ALWAYS)

    # The states that are meant: before, in between and after.

    @property
    def half(self) -> Mark:
        assert self.old is not None
        return (str(self.mark), self.old[1])

    @property
    def whole(self) -> Mark:
        return (str(self.mark), self.mark)

    def may_be_seen(self, mark: Mark, since: float) -> None:
        known = self.world.record.meant.setdefault(self.name, {})
        known[mark] = min(since, known.get(mark, since))

    def is_unsure(self) -> str:
        """A tool is still at it: what the zone will be nobody knows."""
        self.world.unsure.add(self.name)
        self.world.record.meant.pop(self.name, None)
        return f"{self.name} is not judged any more"

    # By hand.

    def transaction(self, end: str, pause: float, reading: str) -> str:
        """One of its own: open, change, change; `end`: commit, abort, abort halfway, or let it expire halfway.
        `reading`: why the daemon reads the zone when it is opened or just then: an event, a refresh, or nothing."""
        if reading == "event":
            self.world.control.set_attr(self.name, "billing-id", f"00000000-0000-4000-8000-{self.mark:012d}")
        asked = time.monotonic()
        with contextlib.closing(Transacting(self.world.node.root)) as writer:
            limit = SHORT_LIMIT if end == "expire" else LIMIT
            writer.ask_to_open(self.zone["uuid"], command="simulation", limit=limit, wait=WAIT)
            answer = writer.heard()
            if answer.status != 201:
                return f"not opened: {answer.status}"
            writer.id = answer.json()["transaction"]
            self.world.control.set_attr(self.name, "package-version", str(self.mark))
            if reading == "refresh":
                self.world.daemon.process.send_signal(signal.SIGHUP)
            time.sleep(pause)
            if end == "abort halfway":
                self.may_be_seen(self.half, time.monotonic())
                return self.name
            if end == "expire":
                self.may_be_seen(self.half, asked + limit)
                time.sleep(limit + pause)
                self.may_be_seen(self.whole, time.monotonic())
            is_set = self._set_limit()
            if is_set is None:
                return self.is_unsure()
            time.sleep(pause)
            self.may_be_seen(self.whole if is_set else self.half, time.monotonic())
            if end == "commit" and writer.commit().status == 200:
                self.world.promise("a transaction", self.name)
            return self.name

    def _set_limit(self) -> Optional[bool]:
        """Whether zfs has set the mark; None if it hangs."""
        try:
            done = self.world.node.run("zfs", "set", f"snapshot_limit={self.mark}", self.dataset, timeout=TOOL_WITHIN)
        except subprocess.TimeoutExpired:
            return None
        return done.returncode == 0

    # By a tool of the product, which may be killed.

    def tool(self, which: str, kill: Optional[float]) -> str:
        """`vmadm update`, or `vminfo transaction` with a script; killed after `kill` seconds, if it is."""
        words = self._update() if which == "vmadm" else self._script()
        began = time.monotonic()
        child = subprocess.Popen(
            words,
            env={**os.environ, "VMADM_ROOT": self.world.node.root},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if kill is not None:
                time.sleep(kill)
                killed = time.monotonic()
                for mark in (self.half, (self.old[0] if self.old else None, self.mark)):
                    self.may_be_seen(mark, killed)
                child.kill()
            said, _ = child.communicate(timeout=TOOL_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            return self.is_unsure()
        self.may_be_seen(self.whole, began)
        if child.returncode not in (0, -signal.SIGKILL):  # a tool of the node's has failed in the middle, or before
            self.may_be_seen(self.half, began)
        if not self._is_quiet():
            return self.is_unsure()
        return f"{self.name} {child.returncode} {said.decode(errors='replace').strip()[:200]}"

    def _update(self) -> list[str]:
        vmadm = os.path.join(SBIN, "vmadm")
        return [vmadm, "update", self.zone["uuid"], f"package_version={self.mark}", f"zfs_snapshot_limit={self.mark}"]

    def _script(self) -> list[str]:
        """The XML is replaced, as zonecfg does it, then zfs is run."""
        attribute = f'<attr name="package-version" type="string" value="{self.mark}"/>'
        text = self.world.control.read_xml(self.name)
        text = ATTRIBUTE.sub("", text).replace("</zone>", f"{attribute}</zone>")
        path = self.world.control.real(f"/etc/zones/{self.name}.xml")
        with open(f"{path}.held", "w", encoding="utf-8") as file:
            file.write(text)
        zfs = self.world.node.tool("zfs")
        script = f"mv {path}.held {path} && {zfs} set snapshot_limit={self.mark} {self.dataset}"
        return [os.path.join(SBIN, "vminfo"), "transaction", self.zone["uuid"], "--", "sh", "-c", script]

    def _is_quiet(self) -> bool:
        """What a killed writer had started has ended."""
        until = time.monotonic() + QUIET_WITHIN
        while any(self.name in " ".join(call["argv"]) for call in self.world.control.children("zonecfg")) or any(
            self.dataset in " ".join(call["argv"])
            for call in self.world.control.children("zfs")
            if "set" in call["argv"]
        ):
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True
