# SPDX-License-Identifier: MPL-2.0
"""How `state` comes about (docs/vm-object.md, "State"), and what stays beside it."""

import pytest

from support.handmade_node import HandmadeNode, U, canonical

BESIDE = ("state", "transition", "transition_to", "transition_expire", "provisioning", "failed")


@pytest.fixture
def node(tmp_path):
    return HandmadeNode(tmp_path)


def states(node, zone_state, attrs):
    node.zone(state=zone_state, attrs=attrs)
    vm = node.vm()
    assert vm["zone_state"] == zone_state
    return {key: vm[key] for key in BESIDE if key in vm}


@pytest.mark.parametrize(
    "zone_state", ["configured", "incomplete", "ready", "mounted", "running", "shutting_down", "down", "hibernating"]
)
def test_zone_state_passes_through(node, zone_state):
    assert states(node, zone_state, {}) == {"state": zone_state}


def test_installed_zone_is_stopped(node):
    assert states(node, "installed", {}) == {"state": "stopped"}


def test_stopped_vm_that_is_being_provisioned_is_provisioning(node):
    assert states(node, "installed", {"provisioning": "true"}) == {"state": "provisioning", "provisioning": True}


@pytest.mark.parametrize("zone_state", ["running", "configured", "incomplete", "ready", "shutting_down"])
def test_provisioning_shows_only_through_stopped(node, zone_state):
    assert states(node, zone_state, {"provisioning": "true"}) == {"state": zone_state, "provisioning": True}


@pytest.mark.parametrize(
    ("text", "value"), [("false", False), ("TRUE", "TRUE"), ("1", "1"), ("", ""), ("true ", "true ")]
)
def test_provisioning_counts_only_as_the_boolean_true(node, text, value):
    assert canonical(states(node, "installed", {"provisioning": text})) == canonical(
        {"state": "stopped", "provisioning": value}
    )


@pytest.mark.parametrize("text", ["provisioning", "false", "0", " "])
def test_failed_with_any_text_beats_everything(node, text):
    attrs = {"failed": text, "provisioning": "true", "transition": "receiving:stopped:1773403317000"}
    assert states(node, "running", attrs) == {
        "state": "failed",
        "failed": text,
        "provisioning": True,
        "transition_to": "stopped",
        "transition_expire": 1773403317000,
    }


def test_empty_failed_does_not_count(node):
    assert states(node, "installed", {"failed": ""}) == {"state": "stopped", "failed": ""}


def test_failed_covers_provisioning(node):
    assert states(node, "installed", {"failed": "provisioning", "provisioning": "true"})["state"] == "failed"


@pytest.mark.parametrize(
    ("text", "state", "to"),
    [
        ("provisioning:running:1773403317000", "provisioning", "running"),
        ("receiving:stopped:1773403317000", "receiving", "stopped"),
        ("stopping:stopped:1773403317000", "stopping", "stopped"),
        ("stopping:start:1773403317000", "stopping", "start"),
        ("stopping:start:1773403317000 \n", "stopping", "start"),  # right-trimmed
        (" odd: to :1773403317000", " odd", " to "),  # and nothing else
    ],
)
def test_transition_of_three_parts_gives_the_state_whatever_the_zone_does(node, text, state, to):
    assert canonical(states(node, "running", {"transition": text})) == canonical(
        {"state": state, "transition_to": to, "transition_expire": 1773403317000}
    )


@pytest.mark.parametrize(("expire", "value"), [("", 0), ("x", None), ("1.5", 1.5), ("0x10", 16), ("-1", -1)])
def test_transition_expires_by_the_number_rule(node, expire, value):
    assert canonical(states(node, "running", {"transition": f"stopping:stopped:{expire}"})) == canonical(
        {"state": "stopping", "transition_to": "stopped", "transition_expire": value}
    )


@pytest.mark.parametrize("text", ["", "stopping", "stopping:stopped", "stopping:stopped:1:2", "stopping:stopped:1:"])
def test_transition_of_another_shape_stays_as_text_and_does_nothing(node, text):
    assert states(node, "installed", {"transition": text}) == {"state": "stopped", "transition": text}


def test_provisioning_transition_needs_no_provisioning_attribute(node):
    assert states(node, "installed", {"transition": "provisioning:running:1"})["state"] == "provisioning"


def test_each_zone_state_can_be_in_a_full_load(node):
    node.zone(state="installed")
    assert node.vms()[U]["state"] == "stopped"
