# SPDX-License-Identifier: MPL-2.0
"""`with VminfodClient().transaction(uuid) as vm`: what it gives, how it ends, what it says when it cannot be had."""

import os
import signal

import pytest

from support.canned_server import CannedServer, answer, plain_answer
from support.oldvminfod import without_socket, without_transactions
from support.running_daemon import eventually
from support.writing import NOBODY, written_node
from vminfod.client import (
    ConnectionFailed,
    HTTPStatusError,
    NoTransactions,
    TransactionOver,
    VmHeld,
    VminfodClient,
    VminfodTimeout,
)

pytest_plugins = ["support.writers"]


@pytest.fixture
def client(cn):
    return VminfodClient("demo", socket=f"{cn.root}/var/run/vminfod.sock")


def set_quota(cn, uuid, gib):
    cn.node.run("zfs", "set", f"quota={gib}G", f"zones/{uuid}", check=True)


def rename(cn, uuid):
    cn.control.set_attr(uuid, "alias", "Y2hhbmdlZA==")


def paths(event):
    return {change["prettyPath"] for change in event["changes"]} - {"last_modified"}


def test_what_is_done_in_it_is_one_event_and_until_then_nobody_sees_it(cn, client, events):
    uuid = cn.add(alias="plain", quota=10)
    before = cn.vm(uuid)
    with client.transaction(uuid, command="resize", req_id="r-1", limit=30) as vm:
        assert (vm, vm["quota"]) == (before, 10)
        set_quota(cn, uuid, 20)
        rename(cn, uuid)
        would_be = vm.fresh()
        assert (would_be["quota"], would_be["alias"]) == (20, "changed")
        assert cn.vm(uuid) == before
    event = cn.event_of(events, uuid)
    assert paths(event) == {"quota", "alias"}
    assert vm.outcome == event["vm"] == cn.vm(uuid)
    assert vm.rev == event["rev"]
    assert vm["quota"] == 10
    cause = {name: value for name, value in event["cause"].items() if name != "latency_ms"}
    assert cause == {
        "source": "vmadm",
        "command": "resize",
        "pid": os.getpid(),
        "uid": os.getuid(),
        "req_id": "r-1",
        "transaction": vm.id,
    }


def test_its_command_is_the_clients_name_unless_another_is_given(cn, client):
    uuid = cn.add()
    with client.transaction(uuid):
        (shown,) = [one for one in cn.daemon.status()["transactions"] if one["uuid"] == uuid]
    assert (shown["command"], shown["limit"], shown["req_id"]) == ("demo", 60, None)


def test_names_that_are_too_long_or_no_text_of_unicode_are_no_reason_to_refuse(cn, client):
    uuid = cn.add()
    with client.transaction(uuid, command="c" * 2000, req_id="r" * 2000):
        (shown,) = [one for one in cn.daemon.status()["transactions"] if one["uuid"] == uuid]
    assert (shown["command"], shown["req_id"]) == ("c" * 1000, "r" * 1000)
    with client.transaction(uuid, command="", req_id="\udcff") as vm:
        set_quota(cn, uuid, 60)
    assert vm.outcome["quota"] == 60
    assert cn.daemon.vm(uuid)["quota"] == 60


def test_exception_passes_on_and_what_is_there_is_published(cn, client, events):
    uuid = cn.add(alias="raising", quota=10)
    with pytest.raises(ZeroDivisionError), client.transaction(uuid):
        set_quota(cn, uuid, 30)
        raise ZeroDivisionError
    event = cn.event_of(events, uuid)
    assert (event["vm"]["quota"], event["cause"]["aborted"]) == (30, True)


def test_vm_that_is_gone_at_the_end_has_no_outcome(cn, client):
    uuid = cn.add()
    with client.transaction(uuid) as vm:
        cn.control.remove_vm(uuid)
        assert vm.fresh() is None
        assert cn.get(uuid) is not None
    assert vm.outcome is None
    assert cn.get(uuid) is None


def test_one_that_changes_nothing_makes_no_event(cn, client, events):
    uuid = cn.add(quota=10)
    rev = cn.daemon.status()["events"]["rev"]
    with client.transaction(uuid) as vm:
        pass
    assert vm.outcome == vm
    assert cn.daemon.status()["events"]["rev"] == rev


def test_unknown_vm_is_a_404(client):
    with pytest.raises(HTTPStatusError, match=f"VM Not Found: {NOBODY}") as caught:
        client.transaction(NOBODY).open()
    assert caught.value.code == 404


def test_vm_that_another_holds_is_waited_for_and_then_the_holder_is_named(cn, client):
    uuid, told = cn.add(), []
    held = f"VM {uuid} is held since .* by pid {os.getpid()}: first"
    with client.transaction(uuid, command="first", req_id="r"), pytest.raises(VmHeld, match=held) as caught:
        client.transaction(uuid, wait=0.05, waiting=told.append).open()
    assert isinstance(caught.value, VminfodTimeout)
    holder = caught.value.holder
    assert (holder["command"], holder["req_id"], holder["pid"]) == ("first", "r", os.getpid())
    assert told == []
    with client.transaction(uuid, wait=0):
        pass


def test_past_its_limit_the_vm_is_published_and_the_end_says_so(cn, client, events):
    uuid = cn.add(alias="late", quota=10)
    with pytest.raises(TransactionOver, match="longer than its limit of 1 s"), client.transaction(uuid, limit=1):
        set_quota(cn, uuid, 40)
        event = cn.event_of(events, uuid)
        assert (event["vm"]["quota"], event["cause"]["expired"]) == (40, True)
    with pytest.raises(TransactionOver), client.transaction(uuid, limit=1) as vm:
        eventually("it has expired", lambda: cn.daemon.status()["transactions"][0]["state"] == "expired")
        vm.fresh()


def test_vminfod_that_goes_in_the_middle_is_a_failed_connection(client):
    with written_node() as own:
        uuid = own.add(quota=10)
        asking = VminfodClient("demo", socket=f"{own.root}/var/run/vminfod.sock")
        with pytest.raises(ConnectionFailed), asking.transaction(uuid) as vm:
            set_quota(own, uuid, 50)
            own.daemon.stop(signal.SIGKILL)
        with pytest.raises(TransactionOver):
            vm.fresh()
        own.daemon.start()
        assert own.vm(uuid)["quota"] == 50


def test_vm_that_cannot_be_read_keeps_the_transaction_open(cn, client):
    uuid = cn.add(alias="broken")
    path = f"{cn.root}/etc/zones/{uuid}.xml"
    with open(path) as file:
        good = file.read()
    with client.transaction(uuid) as vm:
        with open(path, "w") as file:
            file.write(good[: len(good) // 2])
        with pytest.raises(HTTPStatusError, match="cannot be read") as caught:
            vm.fresh()
        assert caught.value.code == 504
        with open(path, "w") as file:
            file.write(good)
        assert vm.fresh()["alias"] == "broken"


@pytest.mark.parametrize(
    "status", ["400 Bad Request", "404 Not Found", "405 Method Not Allowed", "501 Not Implemented"]
)
def test_older_vminfod_is_named_for_what_it_is(cn, client, status):
    with without_transactions(cn.root, status) as posts:
        with pytest.raises(NoTransactions, match="older one, which knows none") as caught:
            client.transaction(cn.add()).open()
        assert len(posts) == 1
    assert caught.value.code == "ENOTSUP"


def test_without_the_socket_there_are_none(cn, client):
    uuid = cn.add()
    with without_socket(cn.root), pytest.raises(NoTransactions, match=f"{cn.root}/var/run/vminfod.sock .*ENOENT"):
        client.transaction(uuid).open()
    with pytest.raises(NoTransactions, match="cannot be opened"):
        VminfodClient(socket="/x" * 100).transaction(uuid).open()


def test_who_names_a_port_gets_that_vminfods_socket_and_no_other(cn):
    uuid = cn.add()
    socket = f"{cn.root}/var/run/vminfod.sock"
    with VminfodClient(port=cn.daemon.port, socket=socket).transaction(uuid) as vm:
        assert vm["uuid"] == uuid
    with (
        CannedServer({"/ping": answer({"ping": "pong"})}) as other,
        pytest.raises(NoTransactions, match=f"is not of the vminfod at 127.0.0.1:{other.port}"),
    ):
        VminfodClient(port=other.port, socket=socket).transaction(uuid).open()


def test_answer_that_is_no_transaction_is_an_error_of_the_client(root):
    os.makedirs(f"{root}/var/run")
    for script in (plain_answer(201, "[]"), plain_answer(201, "what"), plain_answer(500, "oops")):
        path = f"{root}/var/run/{len(os.listdir(f'{root}/var/run'))}.sock"
        with CannedServer({"/transactions": script}, socket_path=path), pytest.raises((HTTPStatusError, ValueError)):
            VminfodClient(socket=path).transaction(NOBODY).open()


@pytest.mark.pure
@pytest.mark.parametrize(
    "more, error",
    [
        ({"limit": 0.5}, ValueError),
        ({"limit": 601}, ValueError),
        ({"limit": float("nan")}, ValueError),
        ({"limit": "60"}, TypeError),
        ({"limit": True}, TypeError),
        ({"wait": -1}, ValueError),
        ({"wait": 601}, ValueError),
        ({"wait": None, "limit": []}, TypeError),
    ],
)
def test_seconds_that_make_no_sense_are_refused_before_anything_is_asked(more, error):
    with pytest.raises(error):
        VminfodClient().transaction(NOBODY, **more)


@pytest.mark.pure
def test_one_that_was_never_opened_says_so():
    with pytest.raises(TransactionOver, match="never opened"):
        VminfodClient().transaction(NOBODY).commit()
