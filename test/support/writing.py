# SPDX-License-Identifier: MPL-2.0
"""A mock node, the real daemon on it, and vmadm as an operator and as a program use it.

The fixtures that give one are in writers.py."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

from mockcn import process
from support import forking
from support.deadlines import SOON
from support.running_daemon import SBIN, EventLines, RunningDaemon, eventually
from support.settling import settle
from support.tools import WAITING, unhurried
from vmadm import Vmadm

LIMIT = SOON

IMAGE = "01b2c898-945f-11e1-a523-af1afbe22822"  # a zone-dataset, the one of the RFD
BASE_IMAGE = "5b8c4e3a-0f8e-11ee-9f0c-1b6d0c3e2a11"  # a zone-dataset
LX_IMAGE = "63d6e664-3f1f-11e8-aef6-a3120cf8dd9d"
ZVOL_IMAGE = "c193a558-1d63-11e9-97cf-97bb3ee5c14f"
LEGACY_IMAGE = "c02a2044-c1bd-11e4-bd8c-dfc1db8b0182"  # a zone-dataset whose services know no provisioning marker
NOBODY = "ffffffff-0000-4000-8000-00000000000f"  # a uuid that no VM has

QUICK = {"install": 0.08, "boot": 0.05, "halt": 0.02, "shutdown": 0.05, "guest": 0.05}  # seconds


class Done:
    """A command that has ended. `err`: but for what it waited for (unhurried())."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, unhurried(done.stderr)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.code, self.out, self.err))

    def __repr__(self) -> str:
        return f"Done(code={self.code}, out={self.out!r}, err={self.err!r})"


def outcome(err: str) -> str:
    """The same without the last newline."""
    return unhurried(err).removesuffix("\n")


def ended(child: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code and outcome() of a command of start_vmadm(), at its end."""
    _, err = child.communicate(timeout=LIMIT)
    return child.returncode, outcome(err)


def next_said(child: subprocess.Popen[str]) -> str:
    """The next line that it says, but for those about what it waits for of vminfod."""
    assert child.stderr is not None
    while (line := child.stderr.readline()).startswith(WAITING):
        pass
    return line


class WrittenNode:
    """`.node`, `.daemon`, `.control` (the mock's orders), `.api` (vmadm as a library)."""

    def __init__(self, node: process.MockNode, daemon: RunningDaemon) -> None:
        self.node, self.daemon, self.control, self.root = node, daemon, node.control, node.root
        self.api = Vmadm(root=node.root, port=daemon.port)
        self._added: dict[str, int] = {}  # VMs of add(), and the revision at which all of their making was served

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "VMINFOD_PORT": str(self.daemon.port), "VMADM_ROOT": self.root}

    def vmadm(self, *words: str, payload: Any = None, stdin: str = "", **environ: str) -> Done:
        """Run the command; `payload` goes to its standard input as JSON."""
        text = stdin if payload is None else json.dumps(payload)
        if forking.run_vmadm is not None and not environ:
            return Done(forking.run_vmadm(list(words), stdin=text, environ=self.environ, within=LIMIT))
        return Done(
            subprocess.run(
                [os.path.join(SBIN, "vmadm"), *words],
                input=text,
                capture_output=True,
                text=True,
                timeout=LIMIT,
                env={**self.environ, **environ},
                check=False,
            )
        )

    def kill_in_midst(self, child: subprocess.Popen[str], tool: str, match: str = "") -> None:
        """kill -9 of a vmadm whose `tool` is held by a fault, and of that; and no more faults."""
        child.kill()
        child.communicate(timeout=SOON)
        self.control.kill_child(tool, match=match)
        eventually("the command has ended", lambda: not self.control.children(tool))
        self.control.clear_faults()

    def start_vmadm(self, *words: str, payload: Any = None) -> subprocess.Popen[str]:
        """The same, running on; the caller ends it. The interpreter itself, so that signals reach it."""
        child = subprocess.Popen(
            [sys.executable, "-IS", "-X", "utf8", os.path.join(SBIN, "vmadm"), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environ,
        )
        assert child.stdin is not None
        if payload is not None:
            child.stdin.write(json.dumps(payload))
        child.stdin.close()
        child.stdin = None
        return child

    def ok(self, *words: str, payload: Any = None) -> str:
        """A command that succeeds; its line."""
        done = self.vmadm(*words, payload=payload)
        assert (done.code, done.out) == (0, ""), done
        return outcome(done.err)

    def fails(self, *words: str, payload: Any = None) -> str:
        """A command that fails with exit code 1; its line."""
        done = self.vmadm(*words, payload=payload)
        assert (done.code, done.out) == (1, ""), done
        return outcome(done.err)

    def get(self, uuid: str) -> Optional[dict[str, Any]]:
        """What any reader sees at this moment."""
        return self.daemon.vm(uuid)

    def vm(self, uuid: str) -> dict[str, Any]:
        vm = self.get(uuid)
        assert vm is not None, f"there is no VM {uuid}"
        return vm

    def add(self, **fields: Any) -> str:
        """A VM that vmadm had no part in; its uuid, once the daemon serves all of it and has nothing left to do for
        it. Its making can be several events: event_of() passes them over."""
        fields.setdefault("image", IMAGE)
        uuid: str = self.control.add_vm(**fields)["uuid"]
        self.daemon.get(f"/vms/{uuid}?fresh=true")
        state = fields.get("state", "running")
        shown = {"running": "running", "stopped": "installed"}.get(state, state)
        eventually("the new VM is served", lambda: (self.get(uuid) or {}).get("zone_state") == shown)
        settle(self.daemon)
        self._added[uuid] = int(self.daemon.get("/ping").headers["x-vminfod-rev"])
        return uuid

    def event_of(self, events: EventLines, uuid: str, kind: str = "modify") -> dict[str, Any]:
        """The next event of that type about the VM, but for those of its making by add()."""
        made = self._added.get(uuid, 0)
        return events.until(lambda event: (event["zonename"], event["type"]) == (uuid, kind) and event["rev"] > made)

    def create(self, **payload: Any) -> dict[str, Any]:
        """A VM made with the library; stopped unless asked otherwise."""
        return self.api.create({"brand": "joyent-minimal", "image_uuid": IMAGE, "autoboot": False, **payload})

    def commands(self) -> list[str]:
        """The commands that were run since forget_commands(), by the time they were started, without the daemon's."""
        lines = [" ".join([call["tool"], *call["argv"]]) for call in self.control.calls()]
        daemons = re.compile(r"kstat|sysevent|fswatcher|zfs list -H -p|zoneadm .*\blist -p")
        return [line for line in lines if daemons.match(line) is None]

    def forget_commands(self) -> None:
        self.control.forget_calls()

    def zone_xml(self, uuid: str) -> str:
        return self.node.read(f"/etc/zones/{uuid}.xml")

    def config(self, uuid: str, file: str) -> str:
        return self.node.read(f"/zones/{uuid}/config/{file}.json")

    def is_gone(self, uuid: str) -> bool:
        """Nothing is left of the VM: no zone, no dataset, no folder, nothing served."""
        return (
            self.get(uuid) is None
            and uuid not in self.node.read("/etc/zones/index")
            and not os.path.exists(f"{self.root}/etc/zones/{uuid}.xml")
            and [name for name in self.control.datasets() if uuid in name] == []
            and not os.path.exists(f"{self.root}/zones/{uuid}")
        )


@contextmanager
def written_node(vms: int = 2, seconds: Optional[dict[str, float]] = None, *options: str) -> Iterator[WrittenNode]:
    folder = tempfile.mkdtemp(prefix="cn-")
    try:
        with (
            process.start(os.path.join(folder, "node"), vms=vms, seconds=seconds or QUICK) as node,
            RunningDaemon(node.root, *options).start() as daemon,
        ):
            yield WrittenNode(node, daemon)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
