# SPDX-License-Identifier: MPL-2.0
"""A zone that exists but cannot be read is not taken for deleted: by the watcher, by lists, by `vmadm`."""

import json

import pytest

from support.canned_server import HANG, CannedServer
from support.streams import LIMIT, event, ready, serving, stream, vm, wait_until
from support.tools import run_tool
from vminfod.client import VminfodClient, VminfodWatcher
from vminfod.clients import watcher as watcher_module

E1, E2 = {"epoch": "epoch-1"}, {"epoch": "epoch-2"}
A = "aaaaaaaa-0000-4000-8000-000000000001"
B = "bbbbbbbb-0000-4000-8000-000000000002"
VM = {"zonename": A, "uuid": A, "brand": "joyent", "state": "running", "max_physical_memory": 5, "alias": "web"}
INCOMPLETE = f"the list is not complete, {B}, pagila cannot be read: see `vminfo status -j`, zoneErrors\n"


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch):
    monkeypatch.setattr(watcher_module, "BACKOFF_FIRST", 0.01)
    monkeypatch.setattr(watcher_module, "BACKOFF_MOST", 0.05)


def followed(*lists):
    """(what a watcher's callbacks got, its VMs, its ready event) after these streams and a mark behind the last one."""
    heard = []
    at = next(one for one in reversed(lists[-1]) if "rev" in one)
    mark = event("create", "mark", rev=at["rev"] + 1, epoch=at["epoch"])
    scripts = [*[stream(*one) for one in lists[:-1]], stream(*lists[-1], mark, HANG)]
    with (
        CannedServer({"/events": scripts}) as server,
        VminfodWatcher("demo", port=server.port, callbacks={"event": heard.append}) as watcher,
    ):
        wait_until(lambda: heard and heard[-1]["zonename"] == "mark", "the mark did not come")
        vms, told = watcher.vms(), watcher.wait_ready(LIMIT)
    del vms["mark"]
    return [(one["type"], one["zonename"]) for one in heard[:-1]], vms, told


BEFORE = [ready(vm("z1", quota=1), vm("z2"), vm("z3"), rev=3, **E1)]
# The daemon starts anew and cannot read z1; z3 is gone.
RESTARTED = ready(vm("z2"), rev=0, unreadable=["z1"], **E2)


def test_watcher_keeps_a_vm_that_a_new_run_of_the_daemon_cannot_read():
    heard, vms, told = followed(BEFORE, [RESTARTED, event("create", "z4", rev=1, **E2)])
    assert heard == [("delete", "z3"), ("create", "z4")]
    assert vms == {"z1": vm("z1", quota=1), "z2": vm("z2"), "z4": vm("z4")}
    assert told["unreadable"] == ["z1"]
    assert "z1" in told["vms"]


def test_kept_vm_that_can_be_read_again_is_modified_and_not_created():
    heard, vms, told = followed(BEFORE, [RESTARTED, event("create", "z1", vm={"quota": 2}, rev=1, **E2)])
    assert heard == [("delete", "z3"), ("modify", "z1")]
    assert vms["z1"] == vm("z1", quota=2)
    assert "unreadable" not in told


def test_kept_vm_that_comes_back_as_it_was_is_no_event():
    heard, _, told = followed(BEFORE, [RESTARTED, event("create", "z1", vm={"quota": 1}, rev=1, **E2)])
    assert heard == [("delete", "z3")]
    assert "unreadable" not in told


def test_kept_vm_is_deleted_by_an_event():
    heard, vms, _ = followed(BEFORE, [RESTARTED, event("delete", "z1", rev=1, **E2)])
    assert heard == [("delete", "z3"), ("delete", "z1")]
    assert set(vms) == {"z2"}


def test_kept_vm_is_deleted_by_the_next_list_that_does_not_name_it():
    heard, vms, _ = followed(BEFORE, [RESTARTED], [ready(vm("z2"), rev=5, epoch="epoch-3")])
    assert heard == [("delete", "z3"), ("delete", "z1")]
    assert set(vms) == {"z2"}


def test_zone_that_was_never_seen_is_named_and_created_later():
    first = ready(vm("z2"), rev=0, unreadable=["z1"], **E2)
    with serving(first, event("create", "z1", rev=1, **E2)) as server:
        created = []
        with VminfodWatcher("demo", port=server.port, callbacks={"create": created.append}) as watcher:
            watcher.wait_for_rev(1, LIMIT)
            assert "unreadable" not in watcher.wait_ready(LIMIT)
            wait_until(lambda: created, "no create event")
            assert created[0]["zonename"] == "z1"


@pytest.mark.parametrize("garbage", [7, "z1", None, [1], {"z1": 1}])
def test_odd_member_means_none(garbage):
    again = ready(vm("z1", quota=1), vm("z2"), rev=1, unreadable=garbage, **E2)
    assert followed(BEFORE, [again])[0] == [("delete", "z3")]


@pytest.fixture(scope="module")
def node():
    body = json.dumps([VM]).encode()
    head = f"HTTP/1.1 200 OK\r\nX-Vminfod-Unreadable: {B},pagila\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with CannedServer({"/vms": [head + body]}) as server:
        yield server


def test_client_names_what_a_list_lacks(node):
    assert VminfodClient("demo", port=node.port).vms_and_unreadable() == ([VM], [B, "pagila"])


def test_vmadm_says_that_a_list_is_not_complete(node):
    assert tuple(run_tool("vmadm", "list", "-p", "-o", "alias", port=node.port)) == (0, "web\n", INCOMPLETE)
    assert tuple(run_tool("vmadm", "lookup", "alias=web", port=node.port)) == (0, f"{A}\n", INCOMPLETE)


def test_vmadm_get_of_a_vm_that_cannot_be_read_does_not_say_that_there_is_none(node):
    message = f"VM {B} exists but cannot be read: see `vminfo status -j`, zoneErrors\n"
    assert tuple(run_tool("vmadm", "get", B, port=node.port)) == (1, "", message)
    assert (
        run_tool("vmadm", "get", A[:-1] + "9", port=node.port).err == f"zoneadm: {A[:-1]}9: No such zone configured\n"
    )
