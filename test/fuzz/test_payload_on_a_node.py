# SPDX-License-Identifier: MPL-2.0
"""Payloads of every shape on a real node: each is refused and nothing has changed, or it is done and shown, or a
command of the node failed. Fewer than in test_payload_parsing.py, which throws the same at the parsing alone."""

import json

import pytest
from hypothesis import given, settings

from fuzz.test_payload_parsing import DISK, UUID, payloads
from support.examples import examples, in_turn, more
from support.writing import IMAGE
from vmadm import BadPayload, OutcomeMissed, VmadmError

pytest_plugins = ["support.writers"]

EXAMPLES = examples(24)


def own(payload, uuid):
    """The payload about this VM: the strategies name another one's disks."""
    return json.loads(json.dumps(payload).replace(UUID, uuid))


@pytest.fixture(scope="module")
def vms(cn):
    """A VM of each kind that may become whatever the payloads make of it."""
    nics = [{"nic_tag": "external", "mac": "b2:1e:ba:a5:6e:71", "ips": ["10.77.0.5/24"], "model": "virtio"}]
    disks = [{"size": 64, "model": "virtio"}]
    bhyve = {"brand": "bhyve", "autoboot": False, "nics": nics, "disks": disks, "flexible_disk_size": 4096}
    return {
        "joyent-minimal": cn.create(delegate_dataset=True)["uuid"],
        "bhyve": cn.api.create(bhyve)["uuid"],
    }


@pytest.mark.long
@pytest.mark.parametrize("brand", ["bhyve", *more("joyent-minimal")])
def test_update_is_refused_or_done_or_says_what_failed(cn, vms, brand):
    uuid = vms[brand]

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    @given(payload=payloads())
    def attempt(payload):
        payload = own(payload, uuid)
        before = cn.zone_xml(uuid)
        try:
            vm = cn.api.update(uuid, payload)
        except BadPayload as error:
            assert error.errors
            assert cn.zone_xml(uuid) == before
        except OutcomeMissed:
            raise  # done, and not shown
        except VmadmError as error:
            assert str(error)
        else:
            assert cn.vm(uuid) == vm

    attempt()


@pytest.mark.long
def test_create_is_refused_or_done_or_leaves_nothing(cn):
    @settings(max_examples=max(2, EXAMPLES // 2), deadline=None, derandomize=True, database=None)
    @given(payload=payloads())
    def attempt(payload):
        index = cn.node.read("/etc/zones/index")
        payload = {"image_uuid": IMAGE, "brand": "joyent-minimal", **payload, "autoboot": False}
        try:
            vm = cn.api.create(payload)
        except OutcomeMissed:
            raise
        except VmadmError as error:
            assert str(error)
            assert cn.node.read("/etc/zones/index") == index
        else:
            assert cn.vm(vm["uuid"]) == vm
            held = [name for name in ("indestructible_zoneroot", "indestructible_delegated") if vm.get(name)]
            cn.api.update(vm["uuid"], dict.fromkeys(held, False))
            cn.api.delete(vm["uuid"])

    attempt()


@pytest.mark.parametrize(
    ("payload", "brand"),
    in_turn(
        [
            {"zfs_root_recsize": "1e3"},
            {"add_nics": [{"vlan_id": "1e1", "vrrp_vrid": "0x10", "nic_tag": "external"}]},
            {"add_filesystems": [{"target": "/x", "type": "lofs"}]},
            {"add_pci_devices": [{"pci_slot": "8:0:0"}]},
            {"update_disks": [{"path": DISK, "size": "0x10"}, None]},
            {"set_tags": {"a": "\ud800"}},
            {"alias": "\ud800"},
            {"\ud800": 1},
            {"tmpfs": 1e400},
            {"nics": {"0": {}}},
        ],
        ["joyent-minimal", "bhyve"],
    ),
)
def test_command_ends_with_one_line(cn, vms, brand, payload):
    done = cn.vmadm("update", vms[brand], stdin=json.dumps(payload))
    assert done.code in (0, 1)
    assert (done.out, done.err.count("\n")) == ("", 1)
    assert "Traceback" not in done.err
    assert "unexpected" not in done.err
