# SPDX-License-Identifier: MPL-2.0
"""`vmadm validate`."""

import json

import pytest

from support.writing import BASE_IMAGE, IMAGE, LX_IMAGE

pytest_plugins = ["support.writers"]


def test_good_payloads(cn):
    done = cn.vmadm("validate", "create", payload={"brand": "joyent", "image_uuid": BASE_IMAGE})
    assert tuple(done) == (0, "", "VALID 'create' payload for joyent brand VMs.\n")
    done = cn.vmadm("validate", "update", "lx", payload={"alias": "x"})
    assert tuple(done) == (0, "", "VALID 'update' payload for lx brand VMs.\n")


@pytest.mark.parametrize(
    ("words", "payload", "found"),
    [
        (
            ["create"],
            {"brand": "lx", "image_uuid": IMAGE, "quota": "x", "vcpus": 1},
            {
                "bad_values": ["quota", "image_uuid"],
                "bad_properties": ["vcpus"],
                "missing_properties": ["kernel_version"],
            },
        ),
        (
            ["create"],
            {"brand": "joyent", "image_uuid": LX_IMAGE},
            {"bad_values": ["image_uuid"], "bad_properties": [], "missing_properties": []},
        ),
        (
            ["create"],
            {"brand": "joyent"},
            {"bad_values": [], "bad_properties": [], "missing_properties": ["image_uuid"]},
        ),
        (
            ["update", "kvm"],
            {"uuid": IMAGE, "add_nics": [{"nonsense": 1, "vlan_id": 5000}]},
            {
                "bad_values": ["nics.*.vlan_id"],
                "bad_properties": ["uuid", "nics.*.nonsense"],
                "missing_properties": [],
            },
        ),
        (["create"], {}, {"bad_brand": "undefined"}),
        (["create"], {"brand": "sol10"}, {"bad_brand": "sol10"}),
        (["update", "sol10"], {}, {"bad_brand": "sol10"}),
    ],
)
def test_what_is_found_is_printed_as_json(cn, words, payload, found):
    done = cn.vmadm("validate", *words, payload=payload)
    assert (done.code, done.out) == (1, "")
    assert json.loads(done.err) == found
    assert done.err == json.dumps(found, indent=2) + "\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "Will not validate without a valid action."),
        (["delete"], "Will not validate without a valid action."),
        (["update"], "Will not validate without a valid action and brand."),
    ],
)
def test_wrong_words(cn, words, text):
    done = cn.vmadm("validate", *words, payload={})
    assert (done.code, done.err.splitlines()[0]) == (2, text)


def test_nothing_is_changed_and_vminfod_is_not_needed(own_cn):
    own_cn.daemon.stop()
    index = own_cn.node.read("/etc/zones/index")
    own_cn.ok("validate", "create", payload={"brand": "joyent", "image_uuid": BASE_IMAGE})
    assert own_cn.node.read("/etc/zones/index") == index
