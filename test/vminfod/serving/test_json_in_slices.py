# SPDX-License-Identifier: MPL-2.0
"""Large VM objects: made in slices they are the same bytes, and the loop goes on meanwhile."""

import json
import threading

import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.deadlines import SOON
from support.examples import examples
from support.recording_log import RecordingLog
from vminfod.serving import jsonslices, jsontext
from vminfod.serving.cache import Cache
from vminfod.serving.cause import REQUEST
from vminfod.serving.hub import Hub
from vminfod.serving.listener import Selection, Stream
from vminfod.serving.prepared import prepare
from vmload.records import FileRecords, Zone, ZoneRecords

pytestmark = pytest.mark.pure

ZONE = "z"
RECORDS = ZoneRecords(Zone(None, ZONE, "installed", "/zones/z", ZONE, "joyent", 0), FileRecords())

texts = st.text(st.characters(), max_size=40)  # lone surrogates, control characters and all
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)


@pytest.fixture
def tiny(monkeypatch):
    """Slices of a few characters, so that every value is cut everywhere."""
    for name, size in (("_SLICE", 3), ("_SMALL", 40), ("_TOGETHER", 2)):
        monkeypatch.setattr(jsonslices, name, size)


@pytest.mark.usefixtures("tiny")
@settings(deadline=None, max_examples=examples(100), derandomize=True)
@given(values)
def test_slices_give_the_same_bytes(value):
    whole = jsontext.encode(value)
    assert jsonslices.encode(value) == whole
    assert jsonslices.escaped(whole) == jsontext.escaped(whole)


LARGE = {
    "long text": {"s": "x" * 600_000},
    "escapes": {"s": '"\\\x01\n' * 100_000},
    "two bytes a character": {"s": "\u00e9\ud800" * 100_000},
    "many keys": {f"key{number}": "v" for number in range(10_000)},
    "many snapshots": {"l": [{"name": f"s{number}", "size": number} for number in range(8_000)]},
}


@pytest.mark.parametrize("large", LARGE.values(), ids=LARGE)
def test_large_value_is_the_same_in_slices(large):
    assert jsonslices.is_heavy(large)
    assert jsonslices.encode(large) == jsontext.encode(large)
    vm, old = {"customer_metadata": large, "a": 1}, {"customer_metadata": {}, "a": 2}
    size = len(jsontext.encode(old))
    in_slices, at_once = (prepare(old, size, vm, in_slices=slices) for slices in (True, False))
    assert in_slices.escaped == jsontext.escaped(at_once.body)
    assert (in_slices.body, in_slices.changes, in_slices.changes_text, in_slices.changed) == (
        at_once.body,
        at_once.changes,
        at_once.changes_text,
        at_once.changed,
    )


@pytest.mark.parametrize("in_slices", [True, False])
def test_past_three_objects_the_most_costly_members_change_as_one(in_slices):
    old = {"alias": "a" * 2000, "routes": {"r1": "x", "r2": "x"}, "tags": {f"k{n}": "v" for n in range(300)}}
    new = {"alias": "b" * 2000, "routes": {"r1": "y", "r2": "y"}, "tags": {}}
    ready = prepare(old, len(jsontext.encode(old)), new, in_slices=in_slices)
    assert [change["prettyPath"] for change in ready.changes] == ["alias", "routes.r1", "routes.r2", "tags"]
    assert json.loads(ready.changes_text) == ready.changes
    assert ready.changes[-1]["oldValue"] == old["tags"] and ready.changes[-1]["newValue"] == {}


@settings(deadline=None, max_examples=examples(60))
@given(st.dictionaries(st.sampled_from("abc"), st.dictionaries(texts, texts), min_size=3), st.data())
def test_changes_cost_no_more_than_the_old_and_the_new_object(old, data):
    new = {key: data.draw(st.dictionaries(st.sampled_from(sorted(old[key]) or [""]) | texts, texts)) for key in old}
    old, new = {**old, "rest": "r" * 1500}, {**new, "rest": "r" * 1500}
    size = len(jsontext.encode(old))
    ready = prepare(old, size, new, in_slices=False)
    if ready is not None:
        assert len(ready.changes_text) <= 2 * max(size, len(ready.body)) - 512
        assert json.loads(ready.changes_text) == json.loads(jsontext.encode(ready.changes))


def test_weight_is_looked_for_no_further_than_needed():
    assert not jsonslices.is_heavy({"a": [1, 2, {"b": "c" * 1000}]})
    assert jsonslices.is_heavy(["x" * jsonslices.HEAVY])
    assert jsonslices.is_heavy({"x" * jsonslices.HEAVY: 1})


def test_no_call_of_the_writer_makes_more_than_a_slice(monkeypatch):
    """It holds the interpreter until it ends, in a thread too."""
    value = {
        "text": "x" * 2_000_000,
        "texts": [f"{number}" * 100 for number in range(5_000)],
        "map": {f"key{number}": number for number in range(50_000)},
        "maps": [{"name": "y" * 300, "tags": {"a": "z" * 90_000}} for _ in range(20)],
    }
    whole, sizes = jsontext.encode(value), []
    real = jsontext.encode

    def encode(part):
        text = real(part)
        sizes.append(len(text))
        return text

    monkeypatch.setattr(jsontext, "encode", encode)
    assert jsonslices.encode(value) == whole
    assert jsonslices.escaped(whole)
    assert max(sizes) <= 2 * 65_536
    assert sum(sizes) > 2 * len(whole)


def vm(**values):
    return {"zonename": ZONE, "uuid": ZONE, **values}


@pytest.mark.parametrize(
    ("first", "second"),
    [(vm(tags={}), vm(tags={"a": "x" * 200_000})), (vm(tags={"a": "x" * 200_000}), vm(tags={}))],
    ids=["becomes large", "was large"],
)
def test_large_vm_is_prepared_aside_and_nothing_of_it_is_seen_before_its_event(first, second):
    """What is served and what is sent change in one step, however long the preparation takes."""
    prepared, go_on = threading.Event(), gevent.event.Event()
    aside_by = []

    def aside(work):
        ready = work()
        aside_by.append(ready)
        if len(aside_by) > at_first:
            prepared.set()
            go_on.wait()
        return ready

    log = RecordingLog()
    hub = Hub(log)
    cache = Cache(hub, log, aside)
    at_first = 1 if jsonslices.is_heavy(first) else 0
    cache.put(ZONE, RECORDS, first, REQUEST)
    listener = hub.subscribe(Selection(), Stream("l", lambda: None, lambda: None, framed=False), vms=None)
    listener.sent(sum(map(len, listener.waiting())))

    putting = gevent.spawn(cache.put, ZONE, RECORDS, second, REQUEST)
    while not prepared.is_set():
        gevent.sleep(0)
    assert json.loads(cache.served(ZONE).body) == first
    assert (hub.rev, listener.waiting()) == (1, [])
    go_on.set()
    assert putting.get(timeout=SOON).event == "modify"
    assert json.loads(cache.served(ZONE).body) == second
    event = json.loads(b"".join(listener.waiting()))
    assert (event["rev"], event["vm"]) == (2, second)
    assert len(aside_by) == at_first + 1


def test_small_vm_is_prepared_where_it_is_put():
    log = RecordingLog()
    cache = Cache(Hub(log), log, lambda work: pytest.fail("put aside"))
    assert cache.put(ZONE, RECORDS, vm(a=1), REQUEST).event == "create"
    assert cache.put(ZONE, RECORDS, vm(a=2), REQUEST).event == "modify"
    assert cache.put(ZONE, RECORDS, vm(a=2), REQUEST).event is None
