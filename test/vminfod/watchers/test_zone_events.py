# SPDX-License-Identifier: MPL-2.0
"""Zone events: what is made of each line of `sysevent -rj -c com.sun:zones:status` (docs/platform.md, "Zone
events")."""

import json

import gevent
import pytest

from support.child_script import child_script
from support.deadlines import SOON
from support.recording_log import RecordingLog
from support.said import said
from vminfod.watchers.lines import BadLine, OddEvent
from vminfod.watchers.sysevent import Ready
from vminfod.watchers.zonewatcher import ZoneEvent, parse_zone_event, zone_watcher

Z = "5b0e7ae8-9c1a-4b7e-8f63-2d1f0c9a4e11"
LIMIT = SOON
READY = b'{"date":"2026-03-13T12:00:00.042Z","type":"ready"}'
BOOTED = (
    b'{"date":"2026-03-13T12:00:31.507Z","type":"event","vendor":"sun.com","publisher":"kernel","class":"status",'
    b'"subclass":"change","pid":0,"data":{"zonename":"%s","newstate":"running","oldstate":"ready","zoneid":7,'
    b'"when":98231552310877},"channel":"com.sun:zones:status"}' % Z.encode()
)
RESTARTED = (
    b'{"date":"2026-03-13T12:05:02.118Z","type":"event","vendor":"sun.com","publisher":"kernel","class":'
    b'"init","subclass":"restart","pid":0,"data":{"zonename":"%s","restarts":3,"zoneid":7,"when":98502163004551},'
    b'"channel":"com.sun:zones:status"}' % Z.encode()
)


def line(klass="status", subclass="change", data=None, **members):
    record = {
        "date": "2026-03-13T12:00:31.507Z",
        "type": "event",
        "vendor": "sun.com",
        "publisher": "kernel",
        "class": klass,
        "subclass": subclass,
        "pid": 0,
        "data": data,
        **members,
    }
    return json.dumps({name: value for name, value in record.items() if value is not None}).encode()


@pytest.mark.pure
def test_ready_line():
    assert parse_zone_event(said(READY), 5) == Ready()


@pytest.mark.pure
def test_state_change():
    assert parse_zone_event(said(BOOTED), 5) == ZoneEvent(
        zonename=Z, newstate="running", oldstate="ready", restarts=None, seen_at=5, date_ms=1773403231507
    )


@pytest.mark.pure
def test_restart_of_init():
    assert parse_zone_event(said(RESTARTED), 5) == ZoneEvent(
        zonename=Z, newstate=None, oldstate=None, restarts=3, seen_at=5, date_ms=1773403502118
    )


@pytest.mark.pure
@pytest.mark.parametrize(
    "state",
    [
        "configured",
        "incomplete",
        "installed",
        "ready",
        "initialized",
        "running",
        "shutting_down",
        "down",
        "uninitialized",
        "",
        "a state of the future",
    ],
)
def test_state_is_passed_on_as_it_came(state):
    event = parse_zone_event(said(line(data={"zonename": "z", "newstate": state, "oldstate": "x"})), 0)
    assert (event.zonename, event.newstate) == ("z", state)


@pytest.mark.pure
@pytest.mark.parametrize("subclass", ["change", "anything"])
def test_status_of_any_subclass_counts(subclass):
    assert parse_zone_event(said(line(subclass=subclass, data={"zonename": "z"})), 0).zonename == "z"


@pytest.mark.pure
@pytest.mark.parametrize(("klass", "subclass"), [("init", "other"), ("other", "restart"), ("Status", "change")])
def test_other_classes_are_not_for_us(klass, subclass):
    assert parse_zone_event(said(line(klass, subclass, {"zonename": "z"})), 0) is None


@pytest.mark.pure
def test_global_zone_is_no_vm():
    assert parse_zone_event(said(line(data={"zonename": "global", "newstate": "running"})), 0) is None


@pytest.mark.pure
@pytest.mark.parametrize("zonename", ["z", "my.zone-1_x", "A" * 64, Z])
def test_zonename_that_is_no_uuid_counts_too(zonename):
    assert parse_zone_event(said(line(data={"zonename": zonename})), 0).zonename == zonename


@pytest.mark.pure
@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"zonename": None},
        {"zonename": 7},
        {"zonename": ""},
        {"zonename": "../etc"},
        {"zonename": "a b"},
        {"zonename": "a\n"},
        {"zonename": "-z"},
        {"zonename": "A" * 65},
        {"zonename": "zürich"},
        [],
        "text",
    ],
)
def test_event_without_a_usable_zonename_is_odd(data):
    with pytest.raises(OddEvent):
        parse_zone_event(said(line(subclass="ping", data=data)), 0)


@pytest.mark.pure
@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"garbage",
        b"{",
        b"[]",
        b"7",
        b"null",
        b'"text"',
        b"{}",
        b'{"type":"ready"}',
        b'{"date":"x","type":"ready"}',
        b'{"date":"2026-03-13T12:00:31.507Z"}',
        b'{"date":"2026-03-13T12:00:31.507Z","type":"other"}',
        b'{"date":"2026-03-13T12:00:31.507Z","type":7}',
        b'{"date":7,"type":"event"}',
        BOOTED[:-1],
        BOOTED + b"x",
        BOOTED.replace(b"running", b"\xff"),
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_line_that_is_no_message_is_bad(bad):
    with pytest.raises(BadLine) as caught:
        parse_zone_event(said(bad), 0)
    assert not isinstance(caught.value, OddEvent)


@pytest.mark.pure
@pytest.mark.parametrize("klass", [None, 7])
def test_event_without_class_is_odd(klass):
    with pytest.raises(OddEvent):
        parse_zone_event(said(line(klass=klass, data={"zonename": "z"})), 0)


@pytest.mark.pure
def test_values_of_the_wrong_type_beside_the_zonename_do_no_harm():
    data = {"zonename": "z", "newstate": 7, "oldstate": None, "restarts": True}
    event = parse_zone_event(said(line(data=data)), 0)
    assert (event.newstate, event.oldstate, event.restarts) == (None, None, None)


@pytest.mark.parametrize("how", ["whole", "byte by byte", "with a cut"])
def test_watcher_translates_lines_and_skips_bad_ones_however_they_come(tmp_path, how):
    text = b"\n".join([READY, BOOTED, b"garbage", line(subclass="ping"), RESTARTED, line("other"), b""])
    pieces = {
        "whole": [text],
        "byte by byte": [bytes([byte]) for byte in text],
        "with a cut": [text[:200], text[200:]],
    }[how]
    program = child_script(
        tmp_path,
        f"""
assert sys.argv[1:] == ["-rj", "-c", "com.sun:zones:status"], sys.argv
for piece in {pieces!r}:
    os.write(1, piece)
    time.sleep(0 if len(piece) == 1 else 0.05)
time.sleep(60)""",
    )
    events, missed = [], []
    child = zone_watcher(program, log=RecordingLog(), on_event=events.append, on_missed=missed.append)
    child.start()
    try:
        with gevent.Timeout(LIMIT):
            while len(events) < 2:
                gevent.sleep(0.005)
        assert [(event.newstate, event.restarts) for event in events] == [("running", None), (None, 3)]
        assert events[0].seen_at <= events[1].seen_at
        assert child.status()["skippedLines"] == 2
        assert missed == ["zone watcher: no JSON"]
    finally:
        child.stop()


def test_watcher_that_was_started_again_says_that_events_may_be_missing(tmp_path):
    program = child_script(tmp_path, f"say({READY.decode()!r}); time.sleep(0 if times_started() == 1 else 60)")
    missed = []
    child = zone_watcher(program, log=RecordingLog(), on_event=print, on_missed=missed.append)
    child.start()
    try:
        with gevent.Timeout(LIMIT):
            while not missed:
                gevent.sleep(0.005)
        assert missed == ["zone watcher: started again"]
    finally:
        child.stop()
