# SPDX-License-Identifier: MPL-2.0
"""Files that really hang, as on a sick pool: whoever opens them waits in the kernel. It costs the VM whose files they
are, and no other."""

import json
import os

import pytest

from support import hangingfolder
from support.convergence import assert_converges
from support.hangingfolder import HangingFolder
from support.running_daemon import RunningDaemon, eventually

pytest_plugins = ["support.onenode"]

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not hangingfolder.available(), reason="needs FUSE, and root's right to mount"),
]

SHORT = "3"  # seconds that files of one zone have; those that are well need less, also where all cores are busy


@pytest.fixture
def node(one_node):
    """One for all tests of this file."""
    return one_node


@pytest.fixture
def sick(node):
    """A VM, and its config folder, whose files hang when they are told to."""
    uuid = sorted(zone["uuid"] for zone in node.control.vms() if zone["state"] == "running")[0]
    node.control.write_config(uuid, "tags", {})
    path = node.control.real(f"/zones/{uuid}/config")
    files = {name: b"{}" for name in os.listdir(path) if name.endswith(".json")}
    with HangingFolder(path, {**files, "tags.json": b'{"pool":"well"}'}) as folder:
        yield uuid, folder


def others(node, uuid):
    return sorted(zone["uuid"] for zone in node.control.vms() if zone["uuid"] != uuid and zone["state"] == "running")


def said(daemon, words):
    return any(reason.startswith(words) for reason in json.loads(daemon.get("/health").body)["reasons"])


def test_files_that_hang_cost_their_vm_and_no_other(node, sick):
    uuid, folder = sick
    with RunningDaemon(node.root, "--zone-limit", SHORT).start() as daemon:
        assert daemon.vm(uuid)["tags"] == {"pool": "well"}
        folder.hold()
        folder.files["tags.json"] = b'{"pool":"well again"}'
        answer = daemon.get(f"/vms/{uuid}?fresh=true&timeout=60")
        assert folder.asked.is_set()
        assert (
            answer.status,
            f"the files of zone {uuid} could not be read within {SHORT} s" in answer.body.decode(),
        ) == (
            504,
            True,
        )
        again = daemon.get(f"/vms/{uuid}?fresh=true&timeout=60").body.decode()
        assert f"the files of zone {uuid} hangs since it was read before" in again, "it is not asked for beside itself"
        for other in others(node, uuid)[:3]:
            node.control.write_config(other, "tags", {"seen": other})
            eventually(other, lambda other=other: daemon.vm(other)["tags"] == {"seen": other})
        assert daemon.vm(uuid)["tags"] == {"pool": "well"}, "what was read last is served"
        eventually("it is named", lambda: said(daemon, f"1 VM unreadable: {uuid}"))
        eventually("and what hangs", lambda: said(daemon, f"reading the files of zone {uuid} runs "))
        folder.heal()
        eventually("it is read again", lambda: daemon.vm(uuid)["tags"] == {"pool": "well again"})
        eventually("all is well", lambda: daemon.get("/health").status == 200)
        assert_converges(daemon)


def test_daemon_starts_beside_files_that_hang_and_has_them_when_they_do_no_more(node, sick):
    uuid, folder = sick
    folder.hold()
    with RunningDaemon(node.root, "--zone-limit", SHORT, "--child-limit", SHORT).start() as daemon:
        assert {vm["uuid"] for vm in daemon.vms()} >= set(others(node, uuid))
        assert uuid not in {vm["uuid"] for vm in daemon.vms()}
        assert uuid in daemon.get("/vms").headers["x-vminfod-unreadable"]
        folder.heal()
        eventually("it is read", lambda: daemon.get(f"/vms/{uuid}").status == 200)
        assert daemon.vm(uuid)["tags"] == {"pool": "well"}


def test_refresh_goes_on_beside_files_that_hang(node, sick):
    uuid, folder = sick
    with RunningDaemon(node.root, "--zone-limit", SHORT, "--refresh-interval", "0.5").start() as daemon:
        folder.hold()
        other = others(node, uuid)[0]
        node.control.tell("fswatcher", "deaf", path=other)
        node.control.write_config(other, "tags", {"found": "by a refresh"}, in_place=True)
        eventually("it is found", lambda: daemon.vm(other)["tags"] == {"found": "by a refresh"})
        assert folder.asked.is_set()
        assert daemon.vm(uuid)["tags"] == {"pool": "well"}
        folder.heal()
        eventually("all is well", lambda: daemon.get("/health").status == 200)
