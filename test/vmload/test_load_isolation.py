# SPDX-License-Identifier: MPL-2.0
"""One broken VM costs only itself (docs/vm-object.md, "Errors"), and which error each fault gives, in a load of all and
of one."""

import pytest

from support.handmade_node import HandmadeNode, U, uuid
from vmload.loaderror import LoadError

GOOD, BAD = U, uuid(0xBAD)
XML = f"etc/zones/{BAD}.xml"
CONFIG = f"zones/{BAD}/config/"
ANY_TEXT = object()


@pytest.fixture
def node(tmp_path):
    node = HandmadeNode(tmp_path)
    node.zone(GOOD)
    return node


def bad_zone(node, **given):
    node.zone(BAD, **given)


def xml_is(text):
    return lambda node: bad_zone(node, xml=text)


def xml_becomes(how):
    def act(node):
        bad_zone(node)
        getattr(node, how)(XML)

    return act


def config_becomes(how, name):
    def act(node):
        bad_zone(node)
        getattr(node, how)(CONFIG + name)

    return act


def receives(payload):
    def act(node):
        bad_zone(node, state="configured", attrs={"transition": "receiving:stopped:1"})
        node.file(f"etc/zones/{BAD}-receiving.json", payload)

    return act


def config_is_a_file(node):
    bad_zone(node)
    node.file(CONFIG.rstrip("/"), "")


FAULTS = {
    "ill-formed XML": (xml_is("GARBAGE\n"), "PARSE_ERROR", "syntax error"),
    "mismatched tag": (xml_is("<zone><attr></zone>"), "PARSE_ERROR", "mismatched tag"),
    "XML of bytes": (xml_is(b"\xff\xff"), "PARSE_ERROR", ANY_TEXT),
    "empty XML": (xml_is(b" "), None, ANY_TEXT),
    "XML without brand": (xml_is('<zone name="x"/>'), None, ANY_TEXT),
    "no XML": (xml_is(None), "ENOENT", ANY_TEXT),
    "XML is a folder": (xml_becomes("unreadable"), "EISDIR", ANY_TEXT),
    "XML is a loop": (xml_becomes("loop"), "ELOOP", ANY_TEXT),
    "metadata is a folder": (config_becomes("unreadable", "metadata.json"), "EISDIR", ANY_TEXT),
    "tags are a folder": (config_becomes("unreadable", "tags.json"), "EISDIR", ANY_TEXT),
    "routes are a loop": (config_becomes("loop", "routes.json"), "ELOOP", ANY_TEXT),
    "config is a file": (config_is_a_file, "ENOTDIR", ANY_TEXT),
    "payload is no JSON": (receives("GARBAGE"), None, ANY_TEXT),
    "payload has a NaN": (receives('{"zfs_filesystem": NaN}'), None, ANY_TEXT),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_vm_costs_only_itself(node, fault):
    break_it, code, message = FAULTS[fault]
    break_it(node)
    loaded = node.loader().load_all()
    assert list(loaded.vms) == [GOOD]
    assert loaded.vms[GOOD]["zfs_filesystem"] == "zones/" + GOOD
    assert [(name, error.code) for name, error in loaded.errors.items()] == [(BAD, code)]
    assert str(loaded.errors[BAD]) != ""
    if message is not ANY_TEXT:
        assert str(loaded.errors[BAD]) == message


@pytest.mark.parametrize("fault", FAULTS)
def test_single_load_of_a_broken_vm_raises_the_same(node, fault):
    break_it, code, message = FAULTS[fault]
    break_it(node)
    with pytest.raises(LoadError) as caught:
        node.loader().load(BAD)
    assert caught.value.code == code
    if message is not ANY_TEXT:
        assert str(caught.value) == message
    assert node.vm(GOOD)["state"] == "running"


def test_all_faults_at_once_leave_the_good_vms(node):
    # each fault on a zone of its own
    node.zone(uuid(1), xml="GARBAGE\n")
    node.zone(uuid(2), xml=None)
    node.zone(uuid(3), xml='<zone name="x"/>')
    node.zone(uuid(4))
    node.unreadable(f"zones/{uuid(4)}/config/tags.json")
    node.zone(uuid(5))
    loaded = node.loader().load_all()
    assert set(loaded.vms) == {GOOD, uuid(5)}
    assert {name: error.code for name, error in loaded.errors.items()} == {
        uuid(1): "PARSE_ERROR",
        uuid(2): "ENOENT",
        uuid(3): None,
        uuid(4): "EISDIR",
    }


def test_error_is_kept_under_the_name_of_the_zone(node):
    node.zone(BAD, name="web01", xml="GARBAGE\n")
    assert list(node.loader().load_all().errors) == ["web01"]


def test_object_is_kept_under_the_name_of_the_zone(node):
    node.zone(BAD, name="web01")
    vms = node.vms()
    assert set(vms) == {GOOD, "web01"}
    assert (vms["web01"]["uuid"], vms["web01"]["zonename"]) == (BAD, "web01")


def test_vm_that_is_repaired_is_loaded_by_the_same_loader(node):
    node.zone(BAD, xml="GARBAGE\n")
    loader = node.loader()
    assert BAD in loader.load_all().errors
    node.file(XML, '<zone name="x" brand="joyent"/>')
    loaded = loader.load_all()
    assert (list(loaded.errors), set(loaded.vms)) == ([], {GOOD, BAD})


def test_objects_of_two_loads_share_nothing(node):
    node.config("tags.json", '{"a": {"b": 1}}')
    loader = node.loader()
    first = loader.load_all().vms[GOOD]
    first["tags"]["a"]["b"] = 2
    first["nics"].append("changed")
    first["snapshots"].append("changed")
    again = loader.load_all().vms[GOOD]
    assert (again["tags"], again["nics"], again["snapshots"]) == ({"a": {"b": 1}}, [], [])


def test_objects_of_one_load_share_nothing(node):
    node.zone(BAD)
    vms = node.loader().load_all().vms
    vms[GOOD]["tags"]["x"] = 1
    vms[GOOD]["resolvers"].append("x")
    vms[GOOD]["snapshots"].append("x")
    assert (vms[BAD]["tags"], vms[BAD]["resolvers"], vms[BAD]["snapshots"]) == ({}, [], [])


@pytest.mark.parametrize("tool", ["zoneadm", "zfs", "kstat"])
def test_tool_that_cannot_be_run_at_all_is_a_load_error(node, tool):
    (node.root / ("usr/bin/kstat" if tool == "kstat" else f"usr/sbin/{tool}")).unlink()
    with pytest.raises(LoadError):
        node.loader().load_all()
    with pytest.raises(LoadError):
        node.loader().load(GOOD)
