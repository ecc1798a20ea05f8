# SPDX-License-Identifier: MPL-2.0
"""Whatever a tool prints or a file holds, a parser gives a value or its module's own error, never another exception.

The texts are of three sorts: bytes without sense, pieces of the real format in any order, and a good text that was cut,
or had bytes replaced, at any place."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.examples import examples
from support.handmade_node import U, device, nic, rctl, zone_xml
from support.said import said
from vminfod.bytelines import LineSplitter
from vminfod.watchers.filemessages import parse_message
from vminfod.watchers.lines import BadLine, json_objects
from vminfod.watchers.zonewatcher import parse_zone_event
from vminfod.watchers.zpoolwatcher import parse_zfs_event
from vmload import configfiles, datasets, zoneadm, zoneinfo, zonexml
from vmload.loaderror import LoadError

pytestmark = pytest.mark.pure

ZONEADM = f"0:global:running:/::liveimg:shared:0\n7:{U}:running:/zones/{U}:{U}:joyent:excl:41\n".encode()
KSTAT = f"zones:7:{U[:30]}:boot_time\t1767225600\nzones:7:{U[:30]}:zonename\t{U}\n".encode()
ROW = [
    "off",
    "1",
    "none",
    "/zones",
    "zones",
    "0",
    "131072",
    "0",
    "0",
    "none",
    "filesystem",
    "0",
    "-",
    "-",
    "-",
    "1",
    "off",
]
ZFS = ("\t".join(ROW) + "\n").encode()
XML = zone_xml(
    U,
    attrs={"alias": "Zm9v", "transition": "a:b:1"},
    inner=nic("net0", ip="dhcp") + device("/dev/x") + rctl("zone.x", "1"),
).encode()
ZONE_EVENT = {
    "date": "2026-03-13T12:01:57.000Z",
    "type": "event",
    "class": "status",
    "subclass": "change",
    "data": {"zonename": U, "newstate": "running", "oldstate": "ready"},
}
ZFS_EVENT = {
    **ZONE_EVENT,
    "class": "EC_zfs",
    "subclass": "ESC_ZFS_history_event",
    "data": {
        "pool_name": "zones",
        "history_internal_name": "set",
        "history_time": 1767225600,
        "history_dsname": f"zones/{U}",
        "history_internal_str": "quota=1",
    },
}
FILE_EVENT = {
    "type": "event",
    "time": [1, 2],
    "pathname": "/etc/zones/x.xml",
    "changes": ["FILE_MODIFIED"],
    "final": False,
}
METADATA = {"customer_metadata": {"a": "b"}, "internal_metadata": {"1": None}, "set_tags": [1.5, -0.0, 1e300]}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


def damaged(text: bytes) -> st.SearchStrategy[bytes]:
    """`text` with a stretch of it replaced by other bytes, perhaps none."""
    at = st.integers(0, len(text))
    return st.builds(lambda a, b, new: text[: min(a, b)] + new + text[max(a, b) :], at, at, st.binary(max_size=20))


def pieces(alphabet: list[str]) -> st.SearchStrategy[bytes]:
    """Words of a format in any order, among other text."""
    words = st.lists(st.sampled_from(alphabet) | st.text(max_size=5), max_size=40)
    return words.map(lambda chosen: "".join(chosen).encode("utf-8", "surrogatepass"))


def texts(good: bytes, alphabet: list[str]) -> st.SearchStrategy[bytes]:
    return st.one_of(st.binary(max_size=200), pieces(alphabet), damaged(good), damaged(good).map(lambda text: text * 3))


def records(good: dict) -> st.SearchStrategy[bytes]:
    """JSON objects like `good` whose members, and those of their data, are replaced by anything or missing."""

    def change(changes: dict, inner: dict, drop: set) -> bytes:
        record = {key: value for key, value in {**good, **changes}.items() if key not in drop}
        if isinstance(record.get("data"), dict):
            record["data"] = {**record["data"], **inner}
        return json.dumps(record).encode("utf-8", "surrogatepass")

    keys = st.sampled_from(list(good))
    inner_keys = st.sampled_from([*good.get("data", {}), "x"])
    changed = st.builds(
        change,
        st.dictionaries(keys, values, max_size=3),
        st.dictionaries(inner_keys, values, max_size=3),
        st.sets(keys, max_size=2),
    )
    return changed | texts(json.dumps(good).encode(), ["{", "}", "[", "]", '"', ":", ",", "null", "1e999", "\\ud800"])


def fuzz(test):
    """Enough examples to meet each branch, few enough for the short suite; the same in every run."""
    quick = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    return settings(
        max_examples=examples(125), deadline=None, database=None, derandomize=True, suppress_health_check=quick
    )(test)


def value_or(error, function, *arguments, **options):
    try:
        return function(*arguments, **options)
    except error:
        return None


@fuzz
@given(texts(ZONEADM, [":", "\n", "\\", U, "global", "running", "/", "-", "0"]))
def test_output_of_zoneadm(text):
    zones = zoneadm.parse(text)
    assert all(zone.uuid == uuid for uuid, zone in zones.items())
    for all_zones in (True, False):
        value_or(LoadError, zoneadm.check, text, all_zones=all_zones)
    assert isinstance(zoneadm.failure(text), LoadError)


@fuzz
@given(
    texts(
        ZFS, ["\t", "\n", "zones/a", "@snap", "-", "18446744073709551615", "snapshot", "volume", "filesystem", "1e999"]
    )
)
def test_output_of_zfs(text):
    for never_empty in (True, False):
        found = value_or(LoadError, datasets.parse, text, never_empty=never_empty)
        assert found is None or set(found.mountpoints.values()) <= set(found.datasets)


@fuzz
@given(
    st.lists(
        st.sampled_from([*ROW, "zones/a@b", "a@b@c", "snapshot", "volume", "1e999", "x"]), min_size=17, max_size=17
    )
)
def test_rows_of_zfs_with_any_cell_in_any_column(cells):
    found = value_or(LoadError, datasets.parse, ("\t".join(cells) + "\n").encode())
    if found is None:
        return
    assert set(found.mountpoints.values()) <= set(found.datasets)
    assert all(found.holds_indestructible(name) in (True, False) for name in found.snapshots)


@fuzz
@given(texts(KSTAT, ["zones:", "7:", ":", "\t", "\n", "zonename", "boot_time", "init_pid", U]))
def test_output_of_kstat(text):
    assert all(name for name in zoneinfo.parse(text))
    value_or(LoadError, zoneinfo.check, text)


@fuzz
@given(
    texts(
        XML,
        [
            "<zone ",
            "</zone>",
            "<attr ",
            "<device ",
            "<net-attr ",
            "<network ",
            "<rctl ",
            "/>",
            ">",
            'name="',
            '"',
            "&#0;",
        ],
    )
)
def test_xml_of_a_zone(text):
    vm = value_or(LoadError, zonexml.parse, text)
    assert vm is None or vm["brand"]


@fuzz
@given(records(METADATA) | texts(b'{"UUID": "x"}', ["{", "}", '"', "NaN", "1" * 500, "[" * 200]))
def test_json_of_a_vm_and_of_the_node(text):
    assert set(configfiles.metadata(text)) == {"customer_metadata", "internal_metadata"}
    configfiles.json_or_empty(text)
    value_or(LoadError, configfiles.receive_payload, text)
    sysinfo = value_or(LoadError, configfiles.sysinfo, text)
    assert sysinfo is None or isinstance(sysinfo, dict)


@fuzz
@given(texts(b"1767225600.123 256\n", [" ", ".", "-1", "9" * 400, "1e999", "0x10", "\t", "\n", "Infinity"]))
def test_lastexited(text):
    exited = configfiles.last_exited(text)
    assert exited is None or isinstance(exited.exit_status, int)


@fuzz
@given(records(ZONE_EVENT) | records(ZFS_EVENT))
def test_lines_of_sysevent(line):
    value_or(BadLine, lambda: parse_zone_event(said(line), 5))
    value_or(BadLine, lambda: parse_zfs_event(said(line), 5))


@fuzz
@given(st.lists(records(ZONE_EVENT) | records(ZFS_EVENT) | texts(b'{"a":[{},{}]}', ["{", "}", "[", "]", ",", "1"])))
def test_lines_that_come_together_say_what_each_says_alone(lines):
    def alone(line):
        try:
            record = json.loads(line.decode())
        except (ValueError, RecursionError):
            return None
        return record if isinstance(record, dict) else None

    together = json_objects(lines)
    assert [None if isinstance(record, BadLine) else record for record in together] == [alone(line) for line in lines]


@fuzz
@given(
    records(FILE_EVENT)
    | records({"type": "response", "key": 1, "code": 0, "pathname": "/x", "message": "m", "time": [1, 2]})
)
def test_lines_of_the_file_watcher(line):
    value_or(BadLine, lambda: parse_message(said(line)))


@fuzz
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10), st.integers(1, 50))
def test_lines_are_the_same_however_the_bytes_are_cut_up(data, cuts, most):
    whole, pieced = LineSplitter(most), LineSplitter(most)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    lines = [line for start, end in zip(edges, edges[1:]) for line in pieced.feed(data[start:end])]
    assert lines == whole.feed(data)
    assert pieced.too_long == whole.too_long
