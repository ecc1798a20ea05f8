# SPDX-License-Identifier: MPL-2.0
"""How memory properties follow each other. All sizes in MiB."""

import pytest

from vmadm.payload.memoryrules import with_memory

pytestmark = pytest.mark.pure

OLD = {
    "max_physical_memory": 256,
    "max_locked_memory": 256,
    "max_swap": 256,
    "tmpfs": 256,
    "max_shm_memory": 256,
    "max_msg_ids": 4096,
    "max_sem_ids": 4096,
    "max_shm_ids": 4096,
}
IDS = {"max_msg_ids": 4096, "max_sem_ids": 4096, "max_shm_ids": 4096}


def old(**values):
    return {**OLD, **values}


def memory(physical, locked, swap, **more):
    return {"max_physical_memory": physical, "max_locked_memory": locked, "max_swap": swap, **more}


@pytest.mark.parametrize(
    ("given", "vm", "result"),
    [
        # The example of the RFD: 256 of everything, cut in half; swap is never below 256.
        ({"max_physical_memory": 128}, OLD, memory(128, 128, 256, tmpfs=128)),
        ({"ram": 128}, OLD, memory(128, 128, 256, tmpfs=128, ram=128)),
        ({"ram": 128, "max_physical_memory": 200}, OLD, memory(200, 200, 256, tmpfs=200, ram=128)),
        # Distances to the physical memory are kept.
        (
            {"max_physical_memory": 1024},
            old(max_physical_memory=512, max_locked_memory=256, max_swap=1024, tmpfs=512),
            memory(1024, 768, 1536, tmpfs=1024),
        ),
        # Swap of exactly 256 is a floor and no wish: with more memory it follows.
        ({"max_physical_memory": 512}, OLD, memory(512, 512, 512, tmpfs=512)),
        (
            {"max_physical_memory": 256},
            old(max_physical_memory=64, max_locked_memory=64, tmpfs=64),
            memory(256, 256, 256, tmpfs=256),
        ),
        # tmpfs keeps its share, rounded.
        ({"max_physical_memory": 100}, old(tmpfs=85), memory(100, 100, 256, tmpfs=33)),
        ({"max_physical_memory": 512}, old(tmpfs=0), memory(512, 512, 512, tmpfs=0)),
        # A VM that lacks it gets all.
        (
            {"max_physical_memory": 512},
            {k: v for k, v in OLD.items() if k != "tmpfs"},
            memory(512, 512, 512, tmpfs=512),
        ),
        # What is given is kept within the limits.
        ({"tmpfs": 1000}, OLD, {"tmpfs": 256}),
        ({"tmpfs": 100}, OLD, {"tmpfs": 100}),
        ({"max_physical_memory": 512, "tmpfs": 1000}, OLD, memory(512, 512, 512, tmpfs=512)),
        ({"max_locked_memory": 1000}, OLD, {"max_locked_memory": 256}),
        ({"max_physical_memory": 512, "max_locked_memory": 1000}, OLD, memory(512, 512, 512, tmpfs=512)),
        ({"max_swap": 300}, OLD, {"max_swap": 300}),
        ({"max_swap": 300}, old(max_physical_memory=512), {"max_swap": 512}),
        ({"max_physical_memory": 512, "max_swap": 300}, OLD, memory(512, 512, 512, tmpfs=512)),
        # Nothing about the physical memory: nothing follows.
        ({"max_msg_ids": 9}, OLD, {"max_msg_ids": 9}),
        # Shared memory follows only where there was none.
        (
            {"max_physical_memory": 512},
            {k: v for k, v in OLD.items() if k not in ("max_shm_memory", *IDS)},
            memory(512, 512, 512, tmpfs=512, max_shm_memory=512, **IDS),
        ),
        (
            {"max_physical_memory": 512, "max_shm_memory": 64},
            {k: v for k, v in OLD.items() if k != "max_shm_memory"},
            memory(512, 512, 512, tmpfs=512, max_shm_memory=64),
        ),
    ],
)
def test_update_of_an_os_vm(given, vm, result):
    assert with_memory(given, vm, "joyent-minimal") == result


@pytest.mark.parametrize("brand", ["joyent", "joyent-minimal", "builder", "lx"])
def test_new_os_vm_has_the_same_of_everything(brand):
    assert with_memory({"ram": 256}, {}, brand) == memory(256, 256, 256, ram=256, tmpfs=256, max_shm_memory=256, **IDS)


def test_new_small_vm_still_has_swap():
    assert with_memory({"ram": 64}, {}, "lx") == memory(64, 64, 256, ram=64, tmpfs=64, max_shm_memory=64, **IDS)


@pytest.mark.parametrize(("brand", "physical"), [("kvm", 2048), ("bhyve", 2304)])
def test_new_hardware_vm_gets_room_for_its_hypervisor(brand, physical):
    assert with_memory({"ram": 1024}, {}, brand) == memory(
        physical, physical, physical, ram=1024, max_shm_memory=physical, **IDS
    )


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ({"max_physical_memory": 100}, memory(1280, 1280, 1280)),
        ({"ram": 2048, "max_physical_memory": 2048}, memory(2304, 2304, 2304, ram=2048)),
        ({"ram": 512}, memory(1536, 1536, 1536, ram=512)),
        ({"max_locked_memory": 10}, {"max_locked_memory": 1280}),
    ],
)
def test_hardware_vm_never_has_less_than_its_ram_and_256(given, result):
    vm = {"ram": 1024, **memory(2048, 2048, 2048, max_shm_memory=2048, **IDS)}
    assert with_memory(given, vm, "kvm") == result


def test_what_goes_in_is_not_changed():
    given, vm = {"max_physical_memory": 128}, dict(OLD)
    with_memory(given, vm, "joyent")
    assert given == {"max_physical_memory": 128}
    assert vm == OLD
