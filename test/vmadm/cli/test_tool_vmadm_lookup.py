# SPDX-License-Identifier: MPL-2.0
"""`vmadm lookup` as a program."""

import json

import pytest

from support.canned_server import CannedServer, answer
from support.tools import run_tool

A = "aaaaaaaa-0000-4000-8000-000000000001"
B = "bbbbbbbb-0000-4000-8000-000000000002"
C = "cccccccc-0000-4000-8000-000000000003"

VMS = [
    {"zonename": C, "uuid": C, "brand": "joyent", "alias": "web", "max_physical_memory": 1024, "tags": {"é": "ü"}},
    {"zonename": A, "uuid": A, "brand": "kvm", "ram": 512, "max_physical_memory": 1536, "do_not_inventory": True},
    {"zonename": B, "uuid": B, "brand": "future-brand", "alias": "db", "max_physical_memory": 64, "ram": 5},
]


@pytest.fixture(scope="module")
def node():
    with CannedServer({"/vms": answer(VMS)}) as server:
        yield server


def lookup(node, *arguments):
    return tuple(run_tool("vmadm", "lookup", *arguments, port=node.port))


def test_uuids_in_the_order_of_the_daemon(node):
    assert lookup(node) == (0, f"{C}\n{A}\n{B}\n", "")
    assert lookup(node, "alias=~.") == (0, f"{C}\n{B}\n", "")
    assert lookup(node, "alias=nobody") == (0, "", "")
    assert lookup(node, "do_not_inventory=true") == (0, f"{A}\n", "")


def test_json_has_the_whole_objects_with_type_and_ram(node):
    expected = [
        {**VMS[0], "type": "OS", "ram": 1024},
        {**VMS[1], "type": "KVM"},
        {**VMS[2], "ram": 64, "type": "OS"},
    ]
    code, out, err = lookup(node, "-j")
    assert (code, err) == (0, "")
    assert json.loads(out) == expected
    assert '    "tags": {\n      "é": "ü"\n    },\n' in out
    assert lookup(node, "-j", "alias=nobody") == (0, "[]\n", "")


def test_chosen_keys_are_not_checked_and_empty_objects_are_dropped(node):
    assert lookup(node, "-j", "-o", "alias,bogus,tags.é") == (
        0,
        '[\n  {\n    "alias": "web"\n  },\n  {\n    "alias": "db"\n  }\n]\n',
        "",
    )
    assert lookup(node, "-j", "--output=bogus") == (0, "[]\n", "")


def test_chosen_keys_need_json(node):
    assert lookup(node, "-o", "uuid") == (1, "", "Cannot specify -o without -j\n")


def test_unique_lookup(node):
    assert lookup(node, "-1", "alias=web") == (0, f"{C}\n", "")
    assert lookup(node, "-1") == (1, "", "Requested unique lookup but found 3 results.\n")
    assert lookup(node, "--unique", "alias=x") == (1, "", "Requested unique lookup but found 0 results.\n")
    assert lookup(node, "-1j", "-o", "uuid", "alias=web") == (0, f'[\n  {{\n    "uuid": "{C}"\n  }}\n]\n', "")


def test_unique_counts_after_empty_objects_are_dropped(node):
    printed = '[\n  {\n    "do_not_inventory": true\n  }\n]\n'
    assert lookup(node, "-1", "-j", "-o", "do_not_inventory") == (0, printed, "")


@pytest.mark.parametrize("key", ["server_uuid", "nics.0.ips", "routes.x", "bogus"])
def test_unknown_lookup_key(node, key):
    assert lookup(node, f"{key}=1") == (1, "", f'Invalid lookup key: "{key}"\n')


def test_bad_regular_expression_needs_no_daemon():
    code, out, err = run_tool("vmadm", "lookup", "alias=~(", port=1)
    assert (code, out) == (1, "")
    assert err.startswith('Invalid regular expression "(": ')


def test_type_and_ram_can_be_looked_up(node):
    assert lookup(node, "type=OS", "ram=64") == (0, f"{B}\n", "")
    assert lookup(node, "ram=512") == (0, f"{A}\n", "")
    assert lookup(node, "ram=5") == (0, "", "")


def test_chosen_keys_keep_the_order_of_the_vm(node):
    code, out, _ = lookup(node, "-j", "-o", "type,alias,uuid", "alias=web")
    assert list(json.loads(out)[0]) == ["uuid", "alias", "type"]


def test_patterns_are_javascript_and_nothing_is_said_on_stderr(node):
    assert lookup(node, "alias=~[[:alpha:]]") == (0, "", "")
    assert lookup(node, "alias=~^(?<first>w)[^]") == (0, f"{C}\n", "")
    assert lookup(node, "alias=~(?i)web")[0] == 1
    code, out, err = lookup(node, "alias=~(?<=ba*)b")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith('Invalid regular expression "(?<=ba*)b": ')


def test_pattern_that_would_run_for_ever_is_refused():
    vm = {"zonename": A, "uuid": A, "alias": "a" * 60 + "!"}
    with CannedServer({"/vms": answer([vm])}) as server:
        code, out, err = lookup(server, "alias=~^(a+)+$")
    assert (code, out) == (1, "")
    assert err.startswith('Invalid regular expression "^(a+)+$": it takes more than ')
    assert err.count("\n") == 1


def test_a_flag_can_be_switched_off(node):
    assert lookup(node, "--json=false", "alias=web") == (0, f"{C}\n", "")
    assert lookup(node, "-j", "--no-json", "alias=web") == (0, f"{C}\n", "")
    assert lookup(node, "-o", "uuid", "--no-json") == (1, "", "Cannot specify -o without -j\n")
