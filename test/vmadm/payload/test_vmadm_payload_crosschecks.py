# SPDX-License-Identifier: MPL-2.0
"""Checks beyond the types: record sizes, compression, routes, disks."""

import pytest

from vmadm.payload import crosschecks

pytestmark = pytest.mark.pure

ALL = "on, off, gzip, gzip-1, gzip-2, gzip-3, gzip-4, gzip-5, gzip-6, gzip-7, gzip-8, gzip-9, lz4, lzjb, zle"
DISK = "/dev/zvol/rdsk/zones/u/disk0"


@pytest.mark.parametrize(
    ("payload", "texts"),
    [
        ({"zfs_root_recsize": 4096, "zfs_data_recsize": "0", "zfs_root_compression": "gzip-3"}, []),
        ({"zfs_root_recsize": ""}, []),
        (
            {"zfs_root_recsize": 1000},
            ["invalid zfs_root_recsize (1000), must be 512-131072 and a power of 2. (0 to disable)"],
        ),
        (
            {"zfs_data_recsize": 262144},
            ["invalid zfs_data_recsize (262144), must be 512-131072 and a power of 2. (0 to disable)"],
        ),
        (
            {"zfs_root_recsize": 256},
            ["invalid zfs_root_recsize (256), must be 512-131072 and a power of 2. (0 to disable)"],
        ),
        ({"zfs_root_compression": "zip"}, [f"invalid compression type for zip, must be one of: {ALL}"]),
        ({"routes": {"10.0.0.0/8": "10.0.0.1", "192.0.2.1": "nics[0]", "172.16.0.0/12": "macs[2:8:20:1:2:3]"}}, []),
        (
            {"set_routes": {"nowhere": "10.0.0.1"}},
            ['Invalid route destination: "nowhere" (must be IP address or CIDR)'],
        ),
        (
            {"set_routes": {"10.0.0.0/8": "nics0"}},
            ['Invalid route gateway: "nics0" (must be IPv4 address, nics[N] or macs[M])'],
        ),
        ({"vnc_password": "12345678"}, []),
        ({"vnc_password": "123456789"}, ["VNC password is too long: 8 characters at most"]),
    ],
)
def test_single_values(payload, texts):
    assert crosschecks.of_values(payload) == texts


def test_both_forms_of_a_list_in_one_payload():
    assert crosschecks.both_forms({"nics": [], "add_nics": [], "disks": []}) == [
        'Cannot specify both "nics" and "add_nics"'
    ]


def test_new_disk_needs_a_model():
    assert crosschecks.of_new_disks([{"size": 1}], "kvm") == ['missing .model option for disk: {"size":1}']
    assert crosschecks.of_new_disks([{"size": 1, "model": "virtio"}], "bhyve") == []


@pytest.mark.parametrize(
    ("payload", "state", "texts"),
    [
        ({"add_disks": [{"size": 1}]}, "stopped", []),
        (
            {"add_disks": [{"size": 1}]},
            "running",
            ['updates to disks are only allowed when state is "stopped", currently: running (running)'],
        ),
        (
            {"remove_disks": [DISK]},
            "running",
            ['updates to disks are only allowed when state is "stopped", currently: running (running)'],
        ),
        (
            {"update_disks": [{"path": DISK, "size": 2048}]},
            "running",
            ['updates to disks are only allowed when state is "stopped", currently: running (running)'],
        ),
        ({"update_disks": [{"path": DISK, "compression": "lz4", "refreservation": 10}]}, "running", []),
        ({"update_disks": [{"path": DISK, "size": 2048}]}, "stopped", []),
        (
            {"update_disks": [{"path": DISK, "size": 512}]},
            "stopped",
            ["cannot resize disk: new size must be greater than current size. (1024 > 512)"],
        ),
        ({"update_disks": [{"path": DISK, "size": 512, "dangerous_allow_shrink": True}]}, "stopped", []),
        ({"update_disks": [{"path": "/dev/none"}]}, "stopped", ['disk not found: {"path":"/dev/none"}']),
    ],
)
def test_changes_of_disks(payload, state, texts):
    vm = {"state": state, "zone_state": state, "disks": [{"path": DISK, "size": 1024}]}
    assert crosschecks.of_disk_changes(payload, vm) == texts
