# SPDX-License-Identifier: MPL-2.0
"""Reading with the library: load, lookup, events, info, wait_for; and mark_failed."""

import threading
from urllib.parse import parse_qs

import pytest

from support.deadlines import SOON
from support.running_daemon import eventually
from support.writing import NOBODY
from vmadm import DaemonAway, NotReached, Vmadm, VmadmError, VmNotFound, WrongState

pytest_plugins = ["support.writers"]
LOG_LEVEL = "debug"  # requests are counted in the log


@pytest.fixture
def up(cn):
    return cn.add(alias="library-up")


def test_load_gives_what_get_prints(cn, up):
    assert cn.api.load(up) == cn.vm(up)
    assert cn.api.load(up, fresh=True)["uuid"] == up
    assert cn.api.load(up, fields=["alias", "uuid", "bogus"]).keys() == {"alias", "uuid"}


@pytest.mark.parametrize("fresh", [False, True])
def test_load_of_an_unknown_vm(cn, fresh):
    with pytest.raises(VmNotFound, match=NOBODY):
        cn.api.load(NOBODY, fresh=fresh)


def test_lookup_gives_uuids_objects_or_fields(cn, up):
    search = {"uuid": up, "state": "running", "alias": "~^LIBRARY"}
    assert cn.api.lookup(search) == [up]
    assert cn.api.lookup(search, fields=["alias", "bogus"]) == [{"alias": "library-up"}]
    (vm,) = cn.api.lookup(search, full=True)
    assert (vm["type"], vm["ram"]) == ("OS", vm["max_physical_memory"])
    assert up in cn.api.lookup()
    assert cn.api.lookup({"uuid": NOBODY}) == []


def test_lookup_asks_for_no_more_than_it_gives(cn, up):
    """What it asks for stands in the daemon's log."""
    before = len(cn.daemon.logged("request"))
    assert cn.api.lookup({"uuid": up, "alias": "library-up", "type": "OS"}) == [up]
    assert cn.api.lookup({"uuid": up}, fields=iter(["ram", "alias"])) == [
        {"alias": "library-up", "ram": cn.vm(up)["max_physical_memory"]}
    ]
    assert [vm["uuid"] for vm in cn.api.lookup({"uuid": up}, full=True)] == [up]
    urls = [record["req"]["url"] for record in cn.daemon.logged("request")[before:]]
    asked = [parse_qs(url.partition("?")[2]) for url in urls if url.startswith("/vms?")]
    assert [(question.get("alias"), question.get("uuid")) for question in asked] == [
        (["library-up"], [up]),
        (None, [up]),
        (None, [up]),
    ]
    less, fields, everything = (question.get("fields") for question in asked)
    assert less is not None and "customer_metadata" not in less[0]
    assert fields is not None and "customer_metadata" not in fields[0]
    assert everything is None


@pytest.mark.parametrize("search", [{"bogus": "x"}, {"alias": "~("}])
def test_lookup_refuses_bad_searches(cn, search):
    with pytest.raises(VmadmError):
        cn.api.lookup(search)


def test_events_of_one_vm(cn, up):
    other = cn.add(alias="library-other")
    with cn.api.events(up, name="a test") as stream:
        assert up in stream.wait_ready(SOON)["vms"]
        cn.api.update(other, alias="library-other-2")
        cn.api.update(up, alias="library-up-2")
        event = stream.read(SOON)
        assert (event["type"], event["uuid"]) == ("modify", up)


def test_info_of_a_vm_that_no_hypervisor_runs(cn, up):
    with pytest.raises(VmadmError, match="no info types supported for brand"):
        cn.api.info(up)


def test_wait_for_a_state_that_is_there_and_one_that_comes(cn, up):
    assert cn.api.wait_for(up, "running", timeout=SOON)["uuid"] == up
    stopper = threading.Thread(target=cn.api.stop, args=(up,))
    stopper.start()
    try:
        vm = cn.api.wait_for(up, "stopped", zone_state="installed", timeout=SOON)
    finally:
        stopper.join(SOON)
    assert (vm["state"], vm["zone_state"]) == ("stopped", "installed")


def test_wait_that_is_in_vain(cn, up):
    with pytest.raises(NotReached, match=f"timed out waiting for state stopped of VM {up}"):
        cn.api.wait_for(up, "stopped", timeout=0.2)
    with pytest.raises(VmNotFound):
        cn.api.wait_for(NOBODY, "stopped")
    with pytest.raises(TypeError):
        cn.api.wait_for(up)


def test_vm_that_is_given_up_is_failed_and_halted_and_ends_a_wait(cn, up):
    waited = []

    def wait():
        try:
            waited.append(cn.api.wait_for(up, "stopped", timeout=SOON))
        except VmadmError as error:
            waited.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    vm = cn.api.mark_failed(up)
    assert vm["state"] == "failed"
    eventually("the zone is halted", lambda: cn.api.load(up, fresh=True)["zone_state"] == "installed")
    waiter.join(SOON)
    assert isinstance(waited[0], WrongState)


def test_mark_failed_of_an_unknown_vm(cn):
    with pytest.raises(VmNotFound):
        cn.api.mark_failed(NOBODY)


def test_reads_without_a_daemon_say_so():
    away = Vmadm(port=1)
    for read in (lambda: away.load(NOBODY), away.lookup, lambda: away.wait_for(NOBODY, "running")):
        with pytest.raises(DaemonAway):
            read()
