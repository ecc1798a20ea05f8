# SPDX-License-Identifier: MPL-2.0
"""What others see of a vmadm write while it works, and how it comes to them: as one event (docs/vmadm.md, "What a read
shows meanwhile")."""

import contextlib
import json
import os
import re
import signal
import subprocess

import pytest

from support.deadlines import SOON
from support.examples import few
from support.oldvminfod import without_socket, without_transactions
from support.running_daemon import SBIN, eventually
from support.writing import ended
from vmadm import VmadmError
from vminfod.client import VminfodClient

pytest_plugins = ["support.writers"]
LOG_LEVEL = "debug"  # requests are counted in the log

TOOLS = ("zfs", "zonecfg", "zoneadm", "zlogin")


@pytest.fixture
def client(cn):
    return VminfodClient("somebody", socket=f"{cn.root}/var/run/vminfod.sock")


def paths(event):
    return {change["prettyPath"] for change in event["changes"]} - {"last_modified"}


def held_at(cn, tool, match):
    """From now on that call waits until cn.control.step(tool)."""
    cn.forget_commands()
    cn.control.fault(tool, "hold", match=match)


def wait_for(cn, text):
    eventually(f"the command {text}", lambda: [line for line in cn.commands() if text in line])


def quiet(cn):
    """What a killed vmadm had started has ended."""
    eventually("the node is quiet", lambda: not [call for call in cn.control.children() if call["tool"] in TOOLS])


def test_update_of_two_properties_is_one_event_that_says_who_made_it(cn, events):
    uuid = cn.add(alias="two", quota=10)
    child = subprocess.Popen(
        [os.path.join(SBIN, "vmadm"), "update", uuid, "alias=x", "quota=20"],
        env={**cn.environ, "REQ_ID": "0f3e-req"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ended(child) == (0, f"Successfully updated VM {uuid}")
    assert cn.daemon.get("/ping").status == 200
    event = cn.event_of(events, uuid)
    assert paths(event) == {"alias", "quota"}
    assert event["vm"] == cn.vm(uuid)
    assert cn.daemon.status()["events"]["rev"] == event["rev"]
    cause = event["cause"]
    assert (cause["source"], cause["command"], cause["pid"], cause["uid"], cause["req_id"]) == (
        "vmadm",
        "update",
        child.pid,
        os.getuid(),
        "0f3e-req",
    )
    assert "aborted" not in cause


def test_nobody_sees_an_update_before_it_has_returned(cn):
    uuid = cn.add(alias="before", quota=10)
    before = cn.vm(uuid)
    held_at(cn, "zfs", "set quota")
    child = cn.start_vmadm("update", uuid, payload={"alias": "after", "quota": 20, "set_tags": {"a": 1}})
    wait_for(cn, "zfs set quota")
    assert json.loads(cn.vmadm("get", uuid).out) == before
    assert [vm for vm in cn.daemon.vms() if vm["uuid"] == uuid] == [before]
    with contextlib.closing(cn.daemon.events()) as late:
        assert [vm for vm in late.vms() if vm["uuid"] == uuid] == [before]
    other = cn.add(alias="another")  # others flow
    assert cn.ok("update", other, "alias=flows") == f"Successfully updated VM {other}"
    assert cn.vm(uuid) == before
    cn.control.step("zfs")
    assert ended(child) == (0, f"Successfully updated VM {uuid}")
    vm = cn.vm(uuid)
    assert (vm["alias"], vm["quota"], vm["tags"]) == ("after", 20, {"a": 1})


def reading_requests(cn, uuid):
    """The requests of vmadm that have the VM read from the node, as the daemon logged them."""
    urls = [record["req"]["url"] for record in cn.daemon.log() if "req" in record]
    return [
        url
        for url in urls
        if re.fullmatch(rf"/vms/{uuid}\?.*fresh=true.*|/transactions/[^/]+/(vm|commit)\b.*", url) is not None
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("update", "alias=x", "quota=20"),
        ("update", "quota=30"),
        ("update", "quota=10"),
        ("create-snapshot", "counted"),
        ("delete-snapshot", "counted"),
    ],
    ids=" ".join,
)
def test_vm_is_read_twice_for_a_write_at_most(cn, words):
    uuid = cn.add(alias="counting", quota=10)
    if words[0] == "delete-snapshot":
        cn.ok("create-snapshot", uuid, *words[1:])
    before = len(reading_requests(cn, uuid))
    cn.ok(words[0], uuid, *words[1:])
    assert 1 <= len(reading_requests(cn, uuid)) - before <= 2


def test_snapshots_are_one_event_each(cn, events):
    uuid = cn.add(alias="snapshots", quota=10)
    for words, command, changed in (
        (("create-snapshot", uuid, "first"), "create-snapshot", "snapshots.*"),
        (("update", uuid, "quota=11"), "update", "quota"),
        (("rollback-snapshot", uuid, "first"), "rollback-snapshot", "zoneid"),
        (("delete-snapshot", uuid, "first"), "delete-snapshot", "snapshots.*"),
    ):
        cn.ok(*words)
        event = cn.event_of(events, uuid)
        assert (event["cause"].get("command"), changed in paths(event)) == (command, True), event
        assert event["vm"] == cn.vm(uuid)
        assert event["vm"]["state"] == "running"


def test_rollback_of_a_container_that_counts_its_restarts_starts_it(cn):
    """Its start sets the count back, which is an update within the rollback."""
    uuid = cn.add(
        alias="docker", attrs={"docker": "true"}, files={"metadata": {"internal_metadata": {"docker:restartcount": 3}}}
    )
    cn.ok("create-snapshot", uuid, "s")
    cn.ok("rollback-snapshot", uuid, "s")
    vm = cn.vm(uuid)
    assert (vm["state"], vm["internal_metadata"]["docker:restartcount"]) == ("running", 0)


def test_update_that_fails_halfway_is_shown_when_it_has_returned(cn, events):
    uuid = cn.add(alias="half", quota=10)
    cn.control.fault("zfs", "fail", match="set quota")
    text = cn.fails("update", uuid, "alias=done", "quota=20")
    assert "(done: zonecfg; not done: quota, last_modified)" in text
    vm = cn.vm(uuid)
    assert (vm["alias"], vm["quota"]) == ("done", 10)
    event = cn.event_of(events, uuid)
    assert (paths(event), event["cause"]["aborted"], event["vm"]) == ({"alias"}, True, vm)


def test_payload_that_is_refused_holds_nothing_and_changes_nothing(cn):
    uuid = cn.add(alias="refused")
    rev = cn.daemon.status()["events"]["rev"]
    cn.fails("update", uuid, "quota=-1")
    eventually("nothing is held", lambda: cn.daemon.status()["transactions"] == [])
    assert cn.daemon.status()["events"]["rev"] == rev


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_vmadm_that_is_stopped_in_the_middle_leaves_what_is_really_there(cn, events, number):
    uuid = cn.add(alias="stopped", quota=10)
    held_at(cn, "zfs", "set quota")
    child = cn.start_vmadm("update", uuid, payload={"alias": f"by-{number}", "quota": 20})
    wait_for(cn, "zfs set quota")
    assert cn.vm(uuid)["alias"] == "stopped"
    child.send_signal(number)
    if number == signal.SIGKILL:
        event = cn.event_of(events, uuid)
        assert (paths(event), event["cause"]["aborted"], event["vm"]["quota"]) == ({"alias"}, True, 10)
        cn.control.step("zfs")  # it goes on without its parent
        assert child.wait(SOON) == -number
        eventually("what it had begun is shown, too", lambda: cn.vm(uuid)["quota"] == 20)
    else:
        cn.control.step("zfs")  # it is let finish
        assert ended(child) == (130, "interrupted by SIGINT (done: zonecfg, quota; not done: last_modified)")
        assert (cn.vm(uuid)["alias"], cn.vm(uuid)["quota"]) == ("by-2", 20)
        event = cn.event_of(events, uuid)
        assert (paths(event), event["cause"]["aborted"]) == ({"alias", "quota"}, True)
    quiet(cn)
    assert cn.daemon.status()["transactions"] == []


def test_update_waits_for_anothers_transaction_and_says_whose(cn, client):
    uuid = cn.add(alias="waits", quota=10)
    with client.transaction(uuid, command="by hand"):
        child = cn.start_vmadm("update", uuid, "alias=waited")
        line = next(line for line in child.stderr if " is held by " in line)
        assert f": VM {uuid} is held by `by hand`, pid {os.getpid()}, for " in line
        cn.node.run("zfs", "set", "quota=77G", f"zones/{uuid}", check=True)
    assert ended(child) == (0, f"Successfully updated VM {uuid}")
    assert (cn.vm(uuid)["alias"], cn.vm(uuid)["quota"]) == ("waited", 77)


def test_interrupted_while_it_waits_it_has_changed_nothing(cn, client):
    uuid = cn.add(alias="waits", quota=10)
    cn.forget_commands()
    with client.transaction(uuid):
        child = cn.start_vmadm("update", uuid, "alias=never")
        waits = lambda: len([one for one in cn.daemon.status()["transactions"] if one["uuid"] == uuid]) == 2  # noqa: E731
        eventually("it waits", waits)
        child.send_signal(signal.SIGINT)
        assert ended(child) == (130, "interrupted by SIGINT")
    assert cn.vm(uuid)["alias"] == "waits"
    assert cn.commands() == []


def test_updates_of_many_writers_at_once_are_one_event_each(cn, events):
    uuid = cn.add(alias="many", quota=10, files={"tags": {}})
    before = cn.daemon.status()["events"]["rev"]
    payloads = [{"set_tags": {f"t{number}": True}, "quota": 20 + number} for number in range(4)]
    children = [cn.start_vmadm("update", uuid, payload=payload) for payload in payloads]
    assert [ended(child)[0] for child in children] == [0] * 4
    mark = cn.add(alias="mark")
    events.until(lambda event: event["zonename"] == mark)
    of_it = [event for event in events.seen if event["zonename"] == uuid and event["rev"] > before]
    assert len(of_it) == 4
    for event in of_it:
        assert len([path for path in paths(event) if path.startswith("tags")]) == 1
        added = next(path for path in paths(event) if path.startswith("tags"))
        assert event["vm"]["quota"] == 20 + int(added.removeprefix("tags.t"))


def test_what_reads_the_vm_through_vminfod_is_told_after_it_is_shown(cn):
    uuid = cn.add(alias="services", ram=256)
    held_at(cn, "zlogin", "svcadm disable")
    child = cn.start_vmadm("update", uuid, "max_physical_memory=128")
    wait_for(cn, "svcadm disable")
    assert (cn.vm(uuid)["max_physical_memory"], cn.vm(uuid)["tmpfs"]) == (128, 128)
    cn.control.step("zlogin")
    assert ended(child) == (0, f"Successfully updated VM {uuid}")


OLD = {
    "the original": lambda root: without_transactions(root),
    "unknown path": lambda root: without_transactions(root, "404 Not Found", b"Unsupported URL Path"),
    "unknown method": lambda root: without_transactions(root, "405 Method Not Allowed"),
    "no socket": without_socket,
}


@pytest.mark.parametrize("old", few([pytest.param(old, id=name) for name, old in OLD.items()], 1))
def test_with_an_older_vminfod_each_step_is_seen_and_all_works(cn, events, old):
    uuid = cn.add(alias="old", quota=10)
    with old(cn.root):
        assert cn.ok("update", uuid, "alias=new", "quota=20") == f"Successfully updated VM {uuid}"
        vm = cn.vm(uuid)
        assert (vm["alias"], vm["quota"]) == ("new", 20)
        assert cn.ok("create-snapshot", uuid, "s") == f"Created snapshot s for VM {uuid}"
        assert cn.ok("rollback-snapshot", uuid, "s") == f"Rolled back snapshot s for VM {uuid}"
        assert cn.ok("delete-snapshot", uuid, "s") == f"Deleted snapshot s for VM {uuid}"
        assert cn.vm(uuid)["snapshots"] == []
        assert cn.api.update(uuid, alias="library")["alias"] == "library"
        assert cn.fails("update", uuid, "quota=-1") != ""
    mark = cn.add(alias="mark")
    events.until(lambda event: event["zonename"] == mark)
    assert not [event for event in events.seen if "transaction" in event.get("cause", {})]


def test_write_of_somebody_who_knows_no_transactions_is_as_ever(cn):
    """An older vmadm: it changes, then asks for a fresh read."""
    uuid = cn.add(alias="plain", quota=10)
    cn.node.run("zfs", "set", "quota=33G", f"zones/{uuid}", check=True)
    assert cn.daemon.get(f"/vms/{uuid}?fresh=true&timeout=60").json()["quota"] == 33
    assert cn.vm(uuid)["quota"] == 33


def test_vmadm_within_a_transaction_on_its_vm_says_so_at_once(cn):
    uuid, other = cn.add(alias="held"), cn.add(alias="other")
    script = f"{SBIN}/vmadm update {uuid} alias=no; {SBIN}/vmadm update {other} alias=yes"
    done = subprocess.run(
        [os.path.join(SBIN, "vminfo"), "transaction", uuid, "--", "sh", "-c", script],
        env=cn.environ,
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )
    first, second = done.stderr.splitlines()
    assert first.startswith(f"VM {uuid} is held by the transaction in which this command runs (`vminfo transaction sh`")
    assert (second, done.returncode) == (f"Successfully updated VM {other}", 0)
    assert (cn.vm(uuid)["alias"], cn.vm(other)["alias"]) == ("held", "yes")


def test_transaction_that_ends_early_costs_the_update_nothing(cn):
    """vminfod is killed in the middle: what was done is served by the new one."""
    uuid = cn.add(alias="early", quota=10)
    held_at(cn, "zfs", "set quota")
    child = cn.start_vmadm("update", uuid, payload={"alias": "late", "quota": 20})
    wait_for(cn, "zfs set quota")
    cn.daemon.stop(signal.SIGKILL)
    cn.daemon.start()
    cn.control.step("zfs")
    assert ended(child) == (0, f"Successfully updated VM {uuid}")
    assert (cn.vm(uuid)["alias"], cn.vm(uuid)["quota"]) == ("late", 20)


def test_marking_a_vm_failed_is_one_event(cn, events):
    uuid = cn.add(alias="gives-up")
    vm = cn.api.mark_failed(uuid)
    assert (vm["state"], vm["zone_state"]) == ("failed", "installed")
    event = cn.event_of(events, uuid)
    assert (event["vm"], event["cause"]["command"]) == (vm, "mark-failed")


def test_library_says_by_whose_request(cn, events):
    from vmadm import Vmadm

    uuid = cn.add(alias="library")
    Vmadm(root=cn.root, req_id="r-5").update(uuid, alias="by-request")
    event = cn.event_of(events, uuid)
    assert (event["cause"]["req_id"], event["cause"]["command"]) == ("r-5", "update")
    with pytest.raises(VmadmError):
        Vmadm(root=cn.root).update(uuid, quota=-1)
