# SPDX-License-Identifier: MPL-2.0
"""Bundles that are cut, put in another order, lie about lengths and names, or are garbage: each is refused in words,
and what it leaves is at most a VM that is `receiving`. Nothing of another VM is ever touched.

First the parsing alone, with anything; then fewer of them on a real node."""

import copy
import json
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from support.examples import examples
from support.moving import hardware_vm, head, joined, pouring, split
from vmadm import VmadmError
from vmadm.errors import BadPayload
from vmadm.node import bundle, zonecfg
from vmadm.node.bundle import BadBundle
from vmadm.payload.arriving import parse_arrival
from vmadm.payload.nodefacts import Image, NodeFacts

pytest_plugins = ["support.movers"]

UUID = "5f0c0c52-6a1e-4d0b-9a57-0a4b1f2d7e33"
OTHER = "54aa5b0e-9a2f-4c3e-8c41-7d1f2a6b9e10"  # a VM that must not be touched
IMAGE, DISK_IMAGE = "01b2c898-945f-11e1-a523-af1afbe22822", "c193a558-1d63-11e9-97cf-97bb3ee5c14f"
FACTS = NodeFacts(
    pools=frozenset(("zones", "tank")),
    images={("zones", IMAGE): Image("zone-dataset"), ("zones", DISK_IMAGE): Image("zvol", image_size=1024)},
)
EXAMPLES = int(os.environ.get("VMADM_BUNDLES", examples(24)))  # on the node

OS_VM = {
    "uuid": UUID,
    "zonename": UUID,
    "brand": "joyent-minimal",
    "zonepath": f"/zones/{UUID}",
    "zfs_filesystem": f"zones/{UUID}",
    "zpool": "zones",
    "image_uuid": IMAGE,
    "datasets": [f"zones/{UUID}/data"],
    "create_timestamp": "2018-04-11T17:19:02.755Z",
    "v": 1,
    "quota": 10,
    "autoboot": True,
    "tags": {"a": 1},
    "nics": [],
}
KVM = {
    **{key: OS_VM[key] for key in OS_VM if key not in ("image_uuid", "datasets", "brand")},
    "brand": "kvm",
    "ram": 512,
    "vcpus": 1,
    "disks": [
        {"path": f"/dev/zvol/rdsk/zones/{UUID}-disk{number}", "boot": number == 0, "model": "virtio", "size": 10}
        for number in range(2)
    ],
}

HOSTILE_NAMES = [
    f"zones/{OTHER}",
    f"zones/{OTHER}/data",
    f"zones/{OTHER}-disk0",
    f"zones/{UUID}/../{OTHER}",
    f"zones/{UUID}/data/..",
    f"zones/{UUID}@sending",
    f"{UUID}/../../etc",
    "zones",
    "zones/cores",
    "tank/x",
    "/etc",
    "..",
    "",
    'zones/x"; set zonepath=/; "',
    "a\nb",
    "-F",
]
hostile = some.one_of(
    some.sampled_from(HOSTILE_NAMES),
    some.text(max_size=20),
    some.integers(-(2**70), 2**70),
    some.booleans(),
    some.none(),
    some.lists(some.sampled_from(HOSTILE_NAMES), max_size=3),
    some.just({}),
    some.lists(
        some.dictionaries(some.sampled_from(["path", "media", "mac", "missing"]), some.sampled_from(HOSTILE_NAMES))
    ),
)
PATHS = [f"/dev/zvol/rdsk/{name}" for name in HOSTILE_NAMES] + [f"/dev/zvol/dsk/zones/{OTHER}-disk0"]


LABELS = ["cores", "archive", "..", ".", f"{OTHER}/data", "a b", 'x"', "x;y", "x\n", "-F", "", OTHER, "web.0", "x" * 65]
LABELS += [f"{OTHER}-disk0", f"{OTHER}-reprovisioning-root", f"{UUID}-disk0"]
names = some.sampled_from(HOSTILE_NAMES)
AIMED = {  # where a name leads somewhere
    "datasets": some.one_of(some.lists(names, min_size=1, max_size=2), names),
    "zonename": some.sampled_from(LABELS),
    "zpool": some.sampled_from(["tank", "nowhere", f"zones/{OTHER}", "", "-F"]),
    "zfs_filesystem": names,
    "zonepath": some.sampled_from(["/", "/etc", f"/zones/{OTHER}", f"/zones/{UUID}/.."]),
    "create_timestamp": some.sampled_from(['x"; end', "2018-04-11", "2018-04-11T17:19:02.755Z\nset zonepath=/", ""]),
    "v": some.sampled_from([2, -1, 1.5, "1", True, 2**40]),
}


@some.composite
def vm_objects(draw):
    """A VM object of which something is not as it should be."""
    vm = copy.deepcopy(draw(some.sampled_from([OS_VM, KVM])))
    key = draw(some.sampled_from([*AIMED, "disks", "any"]))
    if key == "disks":
        vm = copy.deepcopy(KVM)
        vm["disks"][0].update(path=draw(some.sampled_from(PATHS)), media=draw(some.sampled_from(["disk", "cdrom"])))
    elif key == "any":
        for _ in range(draw(some.integers(1, 3))):
            vm[draw(some.sampled_from([*vm, "filesystems", "docker", "disks", "datasets", "pci_devices"]))] = draw(
                hostile
            )
    else:
        vm[key] = draw(AIMED[key])
    if key in ("zonename", "zpool"):  # nothing else of it contradicts
        for name in ("zonepath", "zfs_filesystem", "datasets", "disks"):
            vm.pop(name, None)
    return vm


@pytest.mark.pure
@settings(max_examples=examples(150), deadline=None, derandomize=True, database=None)
@given(vm=vm_objects())
def test_object_is_refused_or_names_nothing_but_its_own(vm):
    try:
        arrival = parse_arrival(vm, FACTS)
    except BadPayload as error:
        assert error.errors
        return
    pool, zonename = arrival.change.zpool, arrival.change.zonename
    assert arrival.root == f"{pool}/{zonename}" and pool in FACTS.pools
    assert (
        re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", zonename)
        and zonename not in ("cores", "archive")
        and OTHER not in zonename
    )
    for name in arrival.awaited:
        assert re.fullmatch(rf"(zones|tank)/{re.escape(zonename)}(-disk\d+|(/[A-Za-z0-9_.:-]+)*)", name), name
    for name in arrival.datasets:
        assert name.startswith(f"{arrival.root}/") and ".." not in name.split("/")
    for disk in arrival.change.disks.add:
        assert OTHER not in disk.path
    assert all(text.isprintable() for text in (arrival.created, str(arrival.version)))
    script = zonecfg.create_script(
        arrival.change,
        created=arrival.created,
        transition_expire=1,
        arrives=True,
        version=arrival.version,
        datasets=arrival.datasets,
    )
    assert [line for line in script.splitlines() if "zonepath" in line] == [f"set zonepath=/{arrival.root}"]
    assert "; end" not in arrival.created
    assert json.loads(json.dumps(arrival.kept))["zfs_filesystem"] == arrival.root


@pytest.mark.pure
@settings(max_examples=examples(150), deadline=None, derandomize=True, database=None)
@given(
    fields=some.lists(
        some.one_of(some.binary(max_size=300), some.integers().map(lambda n: str(n).encode())), max_size=9
    ),
    begin=some.binary(max_size=20),
    magic=some.booleans(),
)
def test_header_of_anything_is_a_header_or_refused(fields, begin, magic):
    block = begin + (b"MAGIC-VMBUNDLE\0" if magic else b"") + b"\0".join(fields)
    try:
        found = bundle.parse_header(block.ljust(512, b"\0")[:512])
    except BadBundle as error:
        assert str(error).isprintable()
    else:
        assert 0 < len(found.name) <= 256 and found.size >= 0 and found.padded >= 0


# On a node.


@some.composite
def damages(draw):
    """What is done to a bundle: a function of (VM object, its chunks) that gives bytes."""
    kind = draw(some.sampled_from(["cut", "flip", "reorder", "lose", "twice", "rename", "sizes", "object", "insert"]))
    place, number, value = draw(some.floats(0, 0.999)), draw(some.integers(0, 2)), draw(hostile)
    name = draw(some.sampled_from([name for name in HOSTILE_NAMES if name.isascii() and "\n" not in name]))
    sizes = draw(some.sampled_from([(1, 512), (2**63, 2**63), (0, 10**18), (10**18, 0), (7, 7)]))
    key = draw(
        some.sampled_from(["uuid", "zonename", "zpool", "zfs_filesystem", "datasets", "disks", "quota", "brand"])
    )

    def damaged(vm, chunks):
        whole, chunks = joined(vm, chunks), list(chunks)
        at = int(len(whole) * place)
        if kind == "cut":
            return whole[:at]
        if kind == "flip":
            return whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :]
        if kind == "insert":
            return whole[:at] + b"garbage" * number + whole[at:] + b"and more"
        if kind == "reorder":
            return joined(vm, [*chunks[1:], (chunks[0][0] + "x" * number, chunks[0][1])])
        if kind == "lose":
            return joined(vm, chunks[:number] + chunks[number + 1 :])
        if kind == "twice":
            return joined(vm, [*chunks, chunks[number]])
        if kind == "rename":
            chunks[number] = (name, chunks[number][1])
            return joined(vm, chunks)
        if kind == "sizes":
            begun = joined(vm, chunks[:number])
            return begun + head(chunks[number][0], *sizes) + chunks[number][1]
        return joined({**vm, key: value}, chunks)

    damaged.__name__ = kind
    return damaged


def others(two, *uuids):
    """The node without these VMs: names of its datasets, its index, and the files of the victim."""
    names = sorted(name for name in two.other.control.datasets() if not any(uuid in name for uuid in uuids))
    index = [line for line in two.other.node.read("/etc/zones/index").splitlines() if not any(u in line for u in uuids)]
    return names, index


def test_bundle_is_refused_in_words_and_leaves_at_most_a_vm_that_is_receiving(two):
    uuid = hardware_vm(two, "kvm")
    victim = two.other.create(alias="victim", delegate_dataset=True)["uuid"]
    vm, chunks = split(two.bundle(uuid))
    assert len(chunks) == 3
    before, xml = others(two, uuid), two.other.zone_xml(victim)

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    @given(damage=damages())
    def attempt(damage):
        text = json.dumps(vm).replace(OTHER, victim)
        stream = damage(json.loads(text), chunks).replace(OTHER.encode(), victim.encode())
        try:
            with pouring(stream) as source:
                came = two.other.api.receive(source)
        except VmadmError as error:
            assert str(error).isprintable(), error
        else:
            assert damage.__name__ in ("object", "reorder", "lose", "flip"), damage.__name__
            assert came["uuid"] == uuid
        left = two.is_served(uuid)
        assert left is None or left["state"] in ("receiving", "stopped"), left
        if left is not None:
            two.other.api.delete(uuid)
        assert others(two, uuid) == before
        assert two.datasets(uuid) == []
        assert two.other.zone_xml(victim) == xml

    attempt()
