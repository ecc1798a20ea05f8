# SPDX-License-Identifier: MPL-2.0
"""Memory of hardware VMs: what is asked for is `ram`, what is limited has room for the hypervisor as well. A write that
waited for other values than those would never end (TRITON-826, TRITON-1910)."""

import pytest

pytest_plugins = ["support.writers"]

# MiB that a VM of the brand gets beside its ram unless told otherwise, and what it always has.
OVERHEAD = {"bhyve": 1280, "kvm": 1024}
LEAST_OVERHEAD = 256


@pytest.fixture(params=["bhyve", "kvm"])
def brand(request):
    return request.param


@pytest.fixture
def uuid(cn, brand):
    return cn.add(alias="hw", brand=brand, state="stopped", ram=1024, image="")


def shown(cn, uuid, *names):
    vm = cn.vm(uuid)
    assert vm["hvm"] is True
    return [vm[name] for name in names]


def test_update_of_ram_alone_ends_with_the_overhead_of_the_brand(cn, uuid, brand):
    assert cn.ok("update", uuid, "ram=2048") == f"Successfully updated VM {uuid}"
    assert shown(cn, uuid, "ram", "max_physical_memory") == [2048, 2048 + OVERHEAD[brand]]


def test_update_of_two_memory_properties_ends_with_what_both_give(cn, uuid):
    assert cn.ok("update", uuid, "ram=2048", "max_physical_memory=5000") == f"Successfully updated VM {uuid}"
    assert shown(cn, uuid, "ram", "max_physical_memory") == [2048, 5000]
    assert shown(cn, uuid, "max_locked_memory")[0] <= 5000


def test_limit_that_leaves_the_hypervisor_no_room_is_raised_and_not_waited_for(cn, uuid):
    assert cn.ok("update", uuid, "ram=2048", "max_physical_memory=2048") == f"Successfully updated VM {uuid}"
    assert shown(cn, uuid, "ram", "max_physical_memory") == [2048, 2048 + LEAST_OVERHEAD]
    assert cn.ok("update", uuid, "ram=3000", "max_locked_memory=100") == f"Successfully updated VM {uuid}"
    assert shown(cn, uuid, "ram", "max_locked_memory") == [3000, 3000 + LEAST_OVERHEAD]


def test_update_to_the_present_ram_ends_too(cn, uuid):
    for _ in range(2):
        assert cn.ok("update", uuid, "ram=3000") == f"Successfully updated VM {uuid}"
    assert shown(cn, uuid, "ram") == [3000]
