# SPDX-License-Identifier: MPL-2.0
"""What the callers of the original's library find here: each call that docs/vmadm.md names is there, and the ways of
those callers (vmadmd, metadata agent, fwadm, vm-agent) are played with the library alone."""

import ast
import inspect
import re
import time
from pathlib import Path

import pytest

from support.deadlines import SOON
from support.writing import NOBODY
from vmadm import AlreadyInState, NotReached, Vmadm, VmNotFound
from vminfod.client import VminfodClient

pytest_plugins = ["support.writers"]

DOCS = Path(__file__).resolve().parents[2] / "docs" / "vmadm.md"


def documented_calls():
    """The calls in the last column of the tables: (owner, text)."""
    section = DOCS.read_text().partition("### Reading")[2].partition("\n## ")[0]
    reading, _, callers = section.partition("### For callers")
    calls = [
        (Vmadm, call) for line in reading.splitlines() if line.startswith("| `") for call in _calls(line.split("|")[1])
    ]
    for line in callers.splitlines():
        if line.startswith("|") and "---" not in line:
            found = _calls(line.rsplit("|", 2)[1])
            calls += [(VminfodClient if "get_vmobj" in call else Vmadm, call) for call in found]
    return calls


def _calls(text):
    return [call for call in re.findall(r"`([^`]+)`", text) if re.fullmatch(r"[\w.()]*\w+\(.*\)", call)]


@pytest.mark.pure
@pytest.mark.parametrize(("owner", "text"), documented_calls())
def test_each_call_of_the_docs_is_there_with_these_arguments(owner, text):
    call = ast.parse(text.lstrip(".").replace("{...}", "{}"), mode="eval").body
    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id
    method = getattr(owner, name)
    keywords = [each.arg for each in call.keywords]
    inspect.signature(method).bind(None, *call.args, **dict.fromkeys(keywords))


@pytest.mark.pure
def test_docs_name_the_calls_of_every_caller():
    assert len(documented_calls()) >= 20
    lines = DOCS.read_text().partition("### For callers")[2].splitlines()
    assert {"vmadmd", "metadata agent", "fwadm", "vm-agent"} <= {
        line.split("|")[1].strip() for line in lines if "|" in line
    }


# vmadmd.


def transition(cn, uuid, to, seconds=600.0):
    value = f"stopping:{to}:{int((time.time() + seconds) * 1000)}"
    cn.control.set_attr(uuid, "transition", value)
    assert cn.api.wait_for(uuid, "stopping", timeout=SOON)["transition_to"] == to


def test_vmadmd_sees_a_stop_through(cn):
    uuid = cn.add(alias="seen-through")
    assert uuid in [vm["uuid"] for vm in cn.api.lookup(full=True)]
    transition(cn, uuid, "stopped")
    cn.control.halt(uuid)
    cn.api.wait_for(uuid, zone_state="installed", timeout=SOON)
    vm = cn.api.unset_transition(uuid)
    assert (vm["state"], "transition_to" in vm) == ("stopped", False)
    assert cn.api.unset_transition(uuid)["state"] == "stopped"


def test_vmadmd_starts_what_is_to_be_started_again(cn):
    uuid = cn.add(alias="again")
    before = cn.vm(uuid)
    transition(cn, uuid, "start")
    cn.control.halt(uuid)
    cn.api.wait_for(uuid, zone_state="installed", timeout=SOON)
    vm = cn.api.unset_transition(uuid)
    assert vm["state"] == "running" and vm["zoneid"] != before["zoneid"]


def test_vmadmd_gives_up_a_vm_that_is_not_provisioned_in_time(cn):
    uuid = cn.add(alias="late")
    cn.control.set_attr(uuid, "transition", f"provisioning:running:{int((time.time() + 600) * 1000)}")
    cn.api.wait_for(uuid, "provisioning", timeout=SOON)
    with pytest.raises(NotReached):
        cn.api.wait_for(uuid, "running", timeout=0.2)
    assert cn.api.mark_failed(uuid)["state"] == "failed"


def test_states_that_are_there_already_are_told_apart(cn):
    uuid = cn.add(alias="there")
    with pytest.raises(AlreadyInState):
        cn.api.start(uuid)
    cn.api.stop(uuid, force=True)
    with pytest.raises(AlreadyInState):
        cn.api.stop(uuid)
    with pytest.raises(VmNotFound):
        cn.api.unset_transition(NOBODY)


# The metadata agent, fwadm, vm-agent.


def test_metadata_agent_stores_a_guests_value_and_hears_of_it(cn):
    uuid = cn.add(alias="guest")
    with cn.api.events(name="metadata agent") as stream:
        stream.wait_ready(SOON)
        cn.api.update(uuid, {"set_internal_metadata": {"operator:x": "1"}, "set_customer_metadata": {"user": "2"}})
        event = stream.read(SOON)
        while event["uuid"] != uuid:
            event = stream.read(SOON)
    assert event["vm"]["internal_metadata"] == {"operator:x": "1"} or event["vm"]["customer_metadata"] == {"user": "2"}
    vm = cn.api.load(uuid)
    assert (vm["internal_metadata"], vm["customer_metadata"]) == ({"operator:x": "1"}, {"user": "2"})


def test_fwadm_gets_what_its_rules_are_about_and_sees_its_switch_at_once(cn):
    uuid = cn.add(alias="walled")
    fields = ["uuid", "firewall_enabled", "nics", "owner_uuid", "state", "tags"]
    cn.api.update(uuid, firewall_enabled=True, set_tags={"role": "web"})
    (vm,) = [vm for vm in cn.api.lookup(fields=fields) if vm["uuid"] == uuid]
    assert (vm["firewall_enabled"], vm["tags"]) == (True, {"role": "web"})
    assert vm.keys() <= set(fields)


def test_vm_agent_gets_all_vms_and_follows_them(cn):
    uuid = cn.add(alias="agent")
    with cn.api.events() as stream:
        listed = stream.wait_ready(SOON)["vms"]
        assert listed.keys() == {vm["zonename"] for vm in cn.daemon.vms()}
        cn.api.delete(uuid)
        while stream.read(SOON)["type"] != "delete":
            continue
    assert uuid not in cn.api.lookup()
