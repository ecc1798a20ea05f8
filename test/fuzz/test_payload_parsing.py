# SPDX-License-Identifier: MPL-2.0
"""Payloads of every shape at create and update: a clear refusal or a change, never another exception.

What a change holds is judged by its types: whole numbers, text that zonecfg can hold, and the members that the types
say are there."""

import dataclasses
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from support.examples import examples
from support.payload_vectors import recorded_node
from vmadm.errors import BadPayload
from vmadm.payload.nodefacts import facts_needed
from vmadm.payload.parsing import parse_create, parse_update
from vmadm.payload.unset import UNSET
from vmload import brands, properties

pytestmark = pytest.mark.pure

NODE = recorded_node()
BRANDS = sorted(brands.table()["brands"])
UUID = "698fed0c-b754-4073-e230-9f37c6b4d79f"
DISK = f"/dev/zvol/rdsk/zones/{UUID}/disk0"
MAC = "b2:1e:ba:a5:6e:71"
NAMES = sorted(name for name, entry in properties.table().items() if ".*." not in name and entry["payload"])
IMAGES = {"joyent": "01b2c898-945f-11e1-a523-af1afbe22822", "lx": "63d6e664-3f1f-11e8-aef6-a3120cf8dd9d"}

VM = {
    "uuid": UUID,
    "zonename": UUID,
    "zpool": "zones",
    "zfs_filesystem": f"zones/{UUID}",
    "datasets": [f"zones/{UUID}/data"],
    "state": "stopped",
    "zone_state": "installed",
    "ram": 1024,
    "max_physical_memory": 2048,
    "max_locked_memory": 2048,
    "max_swap": 2048,
    "tmpfs": 512,
    "nics": [
        {"interface": "net0", "mac": MAC, "nic_tag": "external", "ips": ["10.77.0.5/24"], "primary": True},
        {"interface": "net1", "mac": "b2:1e:ba:a5:6e:72", "nic_tag": "admin", "ips": ["dhcp"], "model": "virtio"},
    ],
    "disks": [{"path": DISK, "zfs_filesystem": DISK.removeprefix("/dev/zvol/rdsk/"), "size": 1024, "model": "virtio"}],
    "filesystems": [{"source": "/a", "target": "/b", "type": "lofs", "options": ["ro"]}],
    "pci_devices": [{"path": "/devices/a", "pci_slot": "8:0:0", "model": "passthru"}],
    "routes": {"10.1.0.0/16": "nics[0]"},
    "tags": {"a": 1},
    "customer_metadata": {},
    "internal_metadata": {},
}

odd_texts = some.sampled_from(
    [
        "",
        " ",
        "1e3",
        "1e1",
        "1.5",
        "0x10",
        "-0",
        "Infinity",
        "1e400",
        "\ud800",
        "a\x00b",
        '"q"',
        "\u2028",
        "auto",
        "null",
    ]
)
good_texts = some.sampled_from(
    [
        "10.77.0.9",
        "10.77.0.9/24",
        "dhcp",
        "addrconf",
        "255.255.255.0",
        "10.77.0.1",
        "nics[0]",
        "nics[7]",
        f"macs[{MAC}]",
    ]
    + ["external", "admin", "virtio", "lofs", "/b", "/c", DISK, "/devices/a", "/devices/b", "8:1:0", "0:4:0", "lz4"]
    + [MAC, MAC.upper(), "0:0:5e:0:1:9", "cdrom", "disk", "true", "false", "10.9.0.0/16", "tank", UUID, "512"]
)
numbers = some.one_of(some.integers(-3, 70000), some.sampled_from([2**64, 1e400, 0.5, 1e3, float("nan")]))
scalars = some.one_of(some.none(), some.booleans(), numbers, good_texts, good_texts, odd_texts, some.text(max_size=6))
images = some.sampled_from([image for _, image in NODE.images] + [UUID])
lists = some.lists(scalars, max_size=3)


# What is likely to be good, by the last part of a property's name, so that many payloads get past validation.
FITTING = {
    "mac": some.sampled_from([MAC, MAC.upper(), "b2:1e:ba:a5:6e:72", "0:0:5e:0:1:9", "b2:0:0:0:0:1"]),
    "ip": some.sampled_from(["10.77.0.9", "10.77.0.5", "dhcp", "addrconf", ""]),
    "ips": some.lists(some.sampled_from(["10.77.0.9/24", "dhcp", "fd00::5/64"]), max_size=3),
    "netmask": some.sampled_from(["255.255.255.0", "255.0.0.0"]),
    "gateway": some.just("10.77.0.1"),
    "gateways": some.lists(some.just("10.77.0.1"), max_size=2),
    "nic_tag": some.sampled_from(["external", "admin"]),
    "vrrp_primary_ip": some.just("10.77.0.5"),
    "interface": some.sampled_from(["net0", "net7"]),
    "path": some.sampled_from([DISK, "/devices/a", "/devices/b", "/x.iso"]),
    "target": some.sampled_from(["/b", "/c"]),
    "source": some.sampled_from(["/a", "create-volume", UUID]),
    "type": some.just("lofs"),
    "pci_slot": some.sampled_from(["8:1:0", "0:4:0", "5"]),
    "model": some.just("virtio"),
    "media": some.sampled_from(["disk", "cdrom"]),
    "compression": some.just("lz4"),
    "zpool": some.sampled_from(["zones", "tank"]),
    "remove_nics": some.just([MAC]),
    "remove_disks": some.just([DISK]),
    "set_routes": some.just({"10.9.0.0/16": "nics[0]"}),
    "add_nics": some.just([{"nic_tag": "external", "ip": "dhcp", "model": "virtio"}]),
    "add_disks": some.just([{"size": 512, "model": "virtio"}]),
    "update_disks": some.just([{"path": DISK, "boot": True}]),
    "block_size": some.sampled_from([512, 8192]),
    "guest_block_size": some.just("512/4096"),
}


def members_of(owner):
    return sorted(name.rpartition(".")[2] for name in properties.table() if name.startswith(f"{owner}.*."))


@some.composite
def objects(draw, name, owner):
    """An object of a list, with its own members and mostly with values of their types; often it has what it needs."""
    names = draw(some.lists(some.sampled_from(members_of(owner)), max_size=4, unique=True))
    if draw(some.booleans()):
        needed = {"nics": ["mac" if name == "update_nics" else "nic_tag"], "filesystems": ["source", "target", "type"]}
        names += needed.get(owner, ["path"] if name.startswith("update_") or owner == "pci_devices" else ["size"])
    return {member: draw(value_of(f"{owner}.*.{member}")) for member in names}


def value_of(name):
    """Values for a property, most of them of its type."""
    facts = (properties.table().get(name) or {}).get("payload") or {}
    kind, last = facts.get("type"), name.rpartition(".")[2]
    if kind == "object-array":
        fitting = some.lists(objects(name, facts.get("check_as") or name), max_size=3)
    elif kind == "flat-object":
        fitting = some.dictionaries(some.one_of(good_texts, odd_texts), scalars, max_size=3)
    else:
        fitting = {"integer": some.integers(0, 4096), "boolean": some.booleans(), "list": lists, "uuid": images}.get(
            kind, good_texts
        )
    fitting = some.one_of(FITTING[last], fitting) if last in FITTING else fitting
    odd = some.one_of(numbers, scalars, lists)
    return some.integers(0, 9).flatmap(lambda die: odd if die == 9 else fitting)


@some.composite
def payloads(draw):
    names = draw(some.lists(some.sampled_from(NAMES), max_size=3, unique=True))
    payload = {name: draw(value_of(name)) for name in names}
    if draw(some.integers(0, 9)) == 9:
        payload[draw(some.text(max_size=4))] = draw(scalars)
    return payload


def check_whole(value):
    """No number is anything but a whole one, no text holds what a script cannot, nothing is left out that is needed."""
    if dataclasses.is_dataclass(value):
        for each in dataclasses.fields(value):
            if each.name not in ("maps", "request"):
                check_whole(getattr(value, each.name))
    elif isinstance(value, tuple):
        for each in value:
            check_whole(each)
    elif isinstance(value, str):
        assert not re.search("[\ud800-\udfff]", value), value
    else:
        assert value is None or value is UNSET or isinstance(value, int), value


def check_asked(needed):
    """What commands of the node are given: words that a process can have."""
    for word in (*needed.nic_tags, *(part for key in needed.images for part in key)):
        assert re.fullmatch(r"[-A-Za-z0-9_/.:]+", word)
        assert not word.startswith("-")


def judge(parse, payload, *rest):
    before = repr(payload)
    try:
        change = parse(payload, *rest)
    except BadPayload as error:
        assert error.errors and all(text and "\n" not in text.strip() for text in error.errors)
    else:
        check_whole(change)
        assert dict(change.request.items()) is not None
        for map_change in dataclasses.astuple(change.maps):
            json.dumps(map_change, allow_nan=False).encode("utf-8")
    assert repr(payload) == before


@settings(max_examples=examples(250), deadline=None, derandomize=True)
@given(payload=payloads(), brand=some.sampled_from(BRANDS))
def test_update_is_refused_or_a_change(payload, brand):
    check_asked(facts_needed(payload))
    vm = {**VM, "brand": brand}
    before = repr(vm)
    judge(parse_update, payload, vm, NODE)
    assert repr(vm) == before


@settings(max_examples=examples(250), deadline=None, derandomize=True)
@given(payload=payloads(), brand=some.sampled_from(BRANDS))
def test_create_is_refused_or_a_change(payload, brand):
    check_asked(facts_needed(payload))
    image = {} if brands.is_hvm(brand) else {"image_uuid": IMAGES.get(brand, IMAGES["joyent"]), "kernel_version": "4.3"}
    judge(parse_create, {**image, **payload, "brand": payload.get("brand", brand)}, NODE, UUID)
