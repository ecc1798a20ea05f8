# SPDX-License-Identifier: MPL-2.0
"""The files of one VM besides its XML (docs/platform.md, "JSON files" and "The payload of a receive"): metadata, tags,
routes, the payload of a receive operation."""

import json
import os
import resource
import threading
import time
import tracemalloc

import pytest

from support.handmade_node import HandmadeNode, U, canonical, uuid
from vmload import configfiles
from vmload.loaderror import LoadError

A = uuid(0xA)
FOUR = ("customer_metadata", "internal_metadata", "routes", "tags")
RECEIVING = {"transition": "receiving:stopped:1773403317000"}


@pytest.fixture
def node(tmp_path):
    return HandmadeNode(tmp_path)


def four(vm):
    return canonical([vm[name] for name in FOUR])


# -- metadata, tags, routes


def most_parsed_at_once(monkeypatch, size):
    """Of six files of that size, which six threads are given at once."""
    parsing, most = [], [0]

    def parse_json(data):
        parsing.append(data)
        most.append(len(parsing))
        for _ in range(100):
            time.sleep(0)  # the others' turn
        parsing.pop()

    monkeypatch.setattr(configfiles, "parse_json", parse_json)
    threads = [threading.Thread(target=configfiles.json_or_empty, args=[b" " * size]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(most)


def test_large_files_are_parsed_one_at_a_time(monkeypatch):
    """Each keeps the interpreter for milliseconds, and guests can agree to write theirs at once."""
    assert most_parsed_at_once(monkeypatch, 100_000) == 1


def is_refused(text):
    try:
        configfiles.json_or_empty(text.encode())
    except LoadError as error:
        assert error.code == "EFBIG"
        return True
    return False


@pytest.mark.parametrize("filling", [",", '\\",', "\\\\", "]},", ',\\u0022\\\\\\"'])
@pytest.mark.parametrize("count", [1, 200])
def test_what_is_in_a_string_counts_as_no_values(filling, count):
    """JSON itself says which strings those are."""
    text = f'{{"a":[{",".join([chr(34) + filling * (200_000 // count) + chr(34)] * count)}],"b":"\\""}}'
    assert len(json.loads(text)["a"]) == count
    assert not is_refused(text)


@pytest.mark.parametrize(
    "values",
    ['"a,"', "1", '{"a":1}', "[[[]]]", '{"a":{"a":{"a":{}}}}', '"\\\\"', '"\\""', '"\\\\\\",\\\\"'],
)
def test_too_many_values_are_refused_however_they_are_nested(values):
    assert not is_refused(f"[{','.join([values] * 6_000)}]")
    assert is_refused(f"[{','.join([values] * 30_100)}]")


def test_many_values_without_a_comma_between_are_refused():
    assert is_refused('{"k":[' + ",".join(["[" * 90 + "]" * 90] * 400) + "]}")


def test_long_string_of_a_guest_is_looked_through_in_its_own_memory():
    text = b'{"customer_metadata":{"a":"' + b"," * 3_900_000 + b'"}}'
    tracemalloc.start()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    configfiles.json_or_empty(text)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident  # what an engine of patterns takes, too
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(grown << 10, traced) < 10 * len(text)


def test_files_that_are_not_there_give_empty_objects(node):
    node.zone()
    assert four(node.vm()) == canonical([{}, {}, {}, {}])


def test_files_give_what_is_in_them(node):
    node.zone()
    node.config(
        "metadata.json",
        '{"customer_metadata": {"user-script": "#!/bin/sh\\necho \\"h\u00e9llo\\""},'
        ' "internal_metadata": {"a:b": 1.5}, "other": {"x": 1}}',
    )
    node.config("tags.json", '{"role": "db", "on": true, "n": -3, "nothing": null}')
    node.config("routes.json", '{"10.0.0.0/8": "192.0.2.1", "0.0.0.0/1": "nics[0]"}')
    vm = node.vm()
    assert four(vm) == canonical(
        [
            {"user-script": '#!/bin/sh\necho "h\u00e9llo"'},
            {"a:b": 1.5},
            {"10.0.0.0/8": "192.0.2.1", "0.0.0.0/1": "nics[0]"},
            {"role": "db", "on": True, "n": -3, "nothing": None},
        ]
    )
    assert "other" not in vm


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        '{"a": 1',
        '{"a": 1}}',
        "{'a': 1}",
        '{"a": 1,}',
        "GARBAGE",
        '{"a": "line\nbreak"}',
        '{"a": 01}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": -Infinity}',
        "NaN",
        "Infinity",
        "-Infinity",  # Python reads these
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b"\x00",
    ],
)
def test_file_that_is_no_json_counts_as_empty_object(node, text):
    node.zone()
    for name in ("metadata.json", "tags.json", "routes.json"):
        node.config(name, text)
    assert four(node.vm()) == canonical([{}, {}, {}, {}])


@pytest.mark.parametrize("text", ["null", "[]", "[1]", "5", "true", '"text"', "{}", '{"other": 1}'])
def test_metadata_without_its_members_counts_as_two_empty_objects(node, text):
    node.zone()
    node.config("metadata.json", text)
    vm = node.vm()
    assert canonical([vm["customer_metadata"], vm["internal_metadata"]]) == canonical([{}, {}])


def test_metadata_with_one_member_has_an_empty_object_for_the_other(node):
    node.zone()
    node.config("metadata.json", '{"internal_metadata": {"a": "b"}}')
    vm = node.vm()
    assert canonical([vm["customer_metadata"], vm["internal_metadata"]]) == canonical([{}, {"a": "b"}])


@pytest.mark.parametrize("text", ["null", "[1, 2]", "5", "true", '"text"', "[]"])
def test_any_json_value_is_taken_as_it_is(node, text):
    node.zone()
    node.config("tags.json", text)
    node.config("routes.json", text)
    node.config("metadata.json", f'{{"customer_metadata": {text}}}')
    vm = node.vm()
    assert canonical([vm["tags"], vm["routes"], vm["customer_metadata"]]) == canonical([json.loads(text)] * 3)


def test_lone_surrogates_are_valid_json_and_pass(node):
    node.zone()
    node.config("tags.json", '{"a": "\\ud800", "\\udc00b": 1}')
    assert node.vm()["tags"] == {"a": "\ud800", "\udc00b": 1}


def test_last_of_two_equal_keys_wins(node):
    node.zone()
    node.config("tags.json", '{"a": 1, "b": 2, "a": 3}')
    assert list(node.vm()["tags"].items()) == [("a", 3), ("b", 2)]


@pytest.mark.parametrize(
    ("number", "written"),
    [
        ("1.0", "1"),
        ("1e2", "100"),
        ("0.5", "0.5"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("9007199254740993", "9007199254740993"),
        ("1e999", "null"),
        ("-1e999", "null"),
    ],
)
def test_numbers_are_served_in_the_form_that_json_has_for_them(node, number, written):
    # docs/vm-object.md, "Numbers, dates and units": whole numbers as integers; what no double can hold is null
    node.zone()
    node.config("tags.json", '{"n": %s, "deep": [{"n": %s}]}' % (number, number))  # noqa: UP031
    tags = node.loader().load(U)["tags"]
    assert json.dumps(tags["n"]) == written
    assert json.dumps(tags["deep"][0]["n"]) == written


def test_keys_that_are_whole_numbers_come_first_ascending_at_every_depth(node):
    # docs/vm-object.md, "Order of keys": users' keys, in tags, metadata and routes; 010, -1 and 1.0 are ordinary names
    node.zone()
    node.config(
        "tags.json", '{"b": 1, "10": 2, "a": {"z": 1, "3": 2, "1": 3}, "9": 3, "010": 4, "-1": 5, "0": 6, "1.0": 7}'
    )
    node.config("routes.json", '{"x": "y", "2": "z"}')
    node.config(
        "metadata.json",
        '{"customer_metadata": {"x": [{"k": 1, "5": 2}], "7": 8}, "internal_metadata": {"q": 1, "4": 2}}',
    )
    vm = node.vm()
    assert json.dumps(vm["tags"]) == (
        '{"0": 6, "9": 3, "10": 2, "b": 1, "a": {"1": 3, "3": 2, "z": 1}, "010": 4, "-1": 5, "1.0": 7}'
    )
    assert json.dumps(vm["routes"]) == '{"2": "z", "x": "y"}'
    assert json.dumps(vm["customer_metadata"]) == '{"7": 8, "x": [{"5": 2, "k": 1}]}'
    assert json.dumps(vm["internal_metadata"]) == '{"4": 2, "q": 1}'


@pytest.mark.parametrize("text", ["[" * 100000, '{"a":' * 100000, '{"a": ' + "9" * 5000 + "}", b'{"a": "\xff"}'])
def test_json_that_is_hard_on_a_parser_costs_at_most_the_vm_itself(node, text):
    node.zone()
    node.config("tags.json", text)
    node.zone(A)
    loaded = node.loader().load_all()
    assert canonical(loaded.vms[A]["tags"]) == canonical({})
    assert U in loaded.errors or isinstance(json.loads(json.dumps(loaded.vms[U]["tags"], allow_nan=False)), dict)


@pytest.mark.parametrize("name", ["metadata.json", "tags.json", "routes.json"])
def test_file_that_cannot_be_read_fails_the_vm_with_the_name_of_the_errno(node, name):
    node.zone()
    node.unreadable(f"zones/{U}/config/{name}")
    with pytest.raises(LoadError) as caught:
        node.vm()
    assert caught.value.code == "EISDIR"


def test_file_in_a_loop_of_links_fails_the_vm_with_eloop(node):
    node.zone()
    node.loop(f"zones/{U}/config/tags.json")
    with pytest.raises(LoadError) as caught:
        node.vm()
    assert caught.value.code == "ELOOP"


@pytest.mark.parametrize("name", ["config", "config/tags.json"])
def test_link_below_the_zonepath_is_not_followed(node, name):
    node.zone()
    node.file("elsewhere/tags.json", '{"secret": 1}')
    (node.root / f"zones/{U}/config").mkdir(parents=True)
    link = node.root / "zones" / U / name
    if name == "config":
        link.rmdir()
    link.symlink_to(node.root / "elsewhere" / name.removeprefix("config").lstrip("/"))
    with pytest.raises(LoadError) as caught:
        node.vm()
    assert caught.value.code == "ELOOP"


def test_fifo_in_place_of_a_config_file_is_not_waited_for(node):
    node.zone()
    (node.root / f"zones/{U}/config").mkdir(parents=True)
    os.mkfifo(node.root / f"zones/{U}/config/tags.json")
    with pytest.raises(LoadError) as caught:
        node.vm()
    assert caught.value.code == "EINVAL"


@pytest.mark.parametrize("name", ["metadata.json", "tags.json", "routes.json"])
def test_incomplete_zone_with_one_unreadable_file_has_none_of_the_four(node, name):
    node.zone(state="incomplete")
    node.config("tags.json", '{"a": 1}')
    node.unreadable(f"zones/{U}/config/{name}")
    vm = node.vm()
    assert vm["state"] == "incomplete"
    assert set(FOUR) & set(vm) == set()


def test_incomplete_zone_with_good_files_has_all_four(node):
    node.zone(state="incomplete")
    node.config("tags.json", '{"a": 1}')
    assert four(node.vm()) == canonical([{}, {}, {}, {"a": 1}])


def test_files_are_looked_for_under_the_zonepath_and_the_xml_by_the_zones_name(node):
    node.dataset("tank")
    node.zone(A, name="web01", zonepath="/tank/place", state="installed", attrs={"hostname": "web"})
    node.config("tags.json", '{"where": "tank"}', zonepath="/tank/place")
    node.config("tags.json", '{"where": "wrong"}', zonepath=f"/zones/{A}")
    node.last_exited("1773403317.5 0\n", zonepath="/tank/place")
    vm = node.vm(A)
    assert (vm["tags"], vm["hostname"], vm["exit_status"]) == ({"where": "tank"}, "web", 0)


# -- the payload of a receive operation


def receiving(node, content, **zone):
    """A VM that receives and has no root dataset yet."""
    node.zone(state="configured", listed=False, **{"attrs": RECEIVING, **zone})
    if content is not None:
        node.file(f"etc/zones/{U}-receiving.json", content)


def test_receiving_vm_takes_its_dataset_from_the_payload(node):
    receiving(node, json.dumps({"zfs_filesystem": "tank/" + U, "alias": "not this"}))
    vm = node.vm()
    assert (vm["state"], vm["zfs_filesystem"]) == ("receiving", "tank/" + U)
    assert {"alias", "zpool"} & set(vm) == set()


@pytest.mark.parametrize("content", [None, "{}", '{"alias": "x"}'])
def test_receiving_vm_without_a_payload_has_no_dataset(node, content):
    receiving(node, content)
    vm = node.vm()
    assert vm["state"] == "receiving"
    assert "zfs_filesystem" not in vm


def test_payload_that_cannot_be_read_is_ignored(node):
    receiving(node, None)
    node.unreadable(f"etc/zones/{U}-receiving.json")
    vm = node.vm()
    assert vm["state"] == "receiving"
    assert "zfs_filesystem" not in vm


@pytest.mark.parametrize("content", ["", "{", '{"zfs_filesystem": "x"', "GARBAGE", '{"zfs_filesystem": NaN}'])
def test_payload_that_is_no_json_fails_the_vm_without_a_code(node, content):
    receiving(node, content)
    with pytest.raises(LoadError) as caught:
        node.vm()
    assert caught.value.code is None
    assert str(caught.value) != ""


@pytest.mark.parametrize("content", ["null", "[]", "5"])
def test_payload_that_is_no_object_costs_at_most_the_vm_itself(node, content):
    receiving(node, content)
    node.zone(A)
    loaded = node.loader().load_all()
    assert A in loaded.vms
    assert "zfs_filesystem" not in loaded.vms.get(U, {})


@pytest.mark.parametrize("attrs", [{}, {"failed": "provisioning", **RECEIVING}, {"transition": "receiving:stopped"}])
def test_payload_of_a_vm_whose_state_is_not_receiving_is_not_read(node, attrs):
    receiving(node, "GARBAGE", attrs=attrs)
    assert "zfs_filesystem" not in node.vm()


def test_root_dataset_that_exists_replaces_the_one_of_the_payload(node):
    node.zone(state="configured", attrs=RECEIVING)
    node.file(f"etc/zones/{U}-receiving.json", json.dumps({"zfs_filesystem": "tank/other"}))
    assert node.vm()["zfs_filesystem"] == "zones/" + U


def test_payload_is_looked_for_by_uuid_and_not_by_zone_name(node):
    node.zone(A, name="web01", state="configured", attrs=RECEIVING, listed=False)
    node.file("etc/zones/web01-receiving.json", json.dumps({"zfs_filesystem": "wrong"}))
    node.file(f"etc/zones/{A}-receiving.json", json.dumps({"zfs_filesystem": "zones/right"}))
    assert node.vm(A)["zfs_filesystem"] == "zones/right"


@pytest.mark.pure
def test_what_is_nested_too_deeply_to_be_served_is_noted_and_what_is_not_is_kept():
    notes = []
    for levels in (500, 597):
        text = nested(levels)
        assert configfiles.metadata(text, lambda *note: notes.append(note))["customer_metadata"] == {
            **json.loads(text)["customer_metadata"]
        }
    assert notes == []
    for levels in (601, 20_000):
        assert configfiles.metadata(nested(levels), lambda *note: notes.append(note))["customer_metadata"] == {}
    assert notes == [("warn", "counts as empty: nested more than 600 levels deep")] * 2


def nested(levels):
    return b'{"customer_metadata":{"a":"1","x":' + b"[" * levels + b"7" + b"]" * levels + b"}}"
