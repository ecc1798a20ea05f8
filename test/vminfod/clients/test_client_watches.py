# SPDX-License-Identifier: MPL-2.0
"""watch_for_event and watch_for_changes on a stream: how watches end, and what that does to the stream."""

import threading

import pytest

from support.callers_log import callers_log, records_of
from support.canned_server import HANG, CannedServer, line
from support.streams import LIMIT, event, ready, serving, stream, wait_until
from vminfod.client import Stopped, StreamError, VminfodEventStream, VminfodTimeout
from vminfod.clients.stream import UNREAD, UNREAD_WHILE_WAITING


def open_stream(server, **options):
    return VminfodEventStream("demo", port=server.port, **options)


def modify(zonename, *changes, **more):
    return event("modify", zonename, changes=list(changes), **more)


def quota(old, new):
    return {"prettyPath": "quota", "path": ["quota"], "action": "changed", "oldValue": old, "newValue": new}


@pytest.fixture
def staged():
    """A server that sends ready, and the rest of its events when go is set."""
    go = threading.Event()

    def start(*steps):
        return CannedServer({"/events": stream(ready(), go, *steps, HANG)})

    start.go = go
    return start


def test_watch_gives_the_first_event_that_matches(staged):
    steps = [
        event("create", "z1"),
        event("modify", "z2", vm={"zone_state": "ready"}, changes=[]),
        event("modify", "z2", vm={"zone_state": "running"}, changes=[]),
    ]
    with staged(*steps) as server, open_stream(server) as events:
        watch = events.watch_for_event({"uuid": "z2", "vm": {"zone_state": "running"}}, timeout=LIMIT)
        assert not watch.done
        staged.go.set()
        assert watch.wait(LIMIT)["vm"]["zone_state"] == "running"
        assert watch.done
        assert watch.wait()["zonename"] == "z2"


def test_unread_events_are_examined_at_once_unless_fresh():
    with serving(ready(), event("create", "z1"), event("create", "z2")) as server, open_stream(server) as events:
        wait_until(lambda: len(events._run.unread) == 2, "both events are there")
        assert events.watch_for_event({"zonename": "z1"}).wait(LIMIT)["zonename"] == "z1"
        assert events.watch_for_event({"zonename": "z1"}).done  # a match takes nothing from others
        fresh = events.watch_for_event({"zonename": "z1"}, start_fresh=True)
        assert not fresh.done
        assert events.read_nowait() is None


def test_every_watch_and_the_reader_see_every_event(staged):
    with staged(*[event("create", f"z{n}") for n in range(5)]) as server, open_stream(server) as events:
        watches = [events.watch_for_event({"zonename": f"z{n}"}) for n in range(5) for _ in range(2)]
        staged.go.set()
        assert [watch.wait(LIMIT)["zonename"] for watch in watches] == [f"z{n}" for n in range(5) for _ in range(2)]
        assert [events.read(LIMIT)["zonename"] for _ in range(5)] == [f"z{n}" for n in range(5)]


def test_events_behind_a_match_stay_for_the_next_watch(staged):
    with staged(event("create", "z1"), event("delete", "z1")) as server, open_stream(server) as events:
        first = events.watch_for_event({"type": "create"})
        staged.go.set()
        first.wait(LIMIT)
        assert events.watch_for_event({"type": "delete", "zonename": "z1"}).wait(LIMIT)["type"] == "delete"


def test_reading_goes_on_for_a_watch_without_a_reader():
    count = UNREAD_WHILE_WAITING + UNREAD + 50
    burst = b"".join(line(event("create", f"z{n}")) for n in range(count))
    with serving(ready(), burst) as server, open_stream(server) as events:
        wait_until(lambda: len(events._run.unread) == UNREAD, "reading has paused")
        assert events.watch_for_event({"zonename": f"z{count - 1}"}).wait(LIMIT)["zonename"] == f"z{count - 1}"
        with pytest.raises(StreamError, match="dropped 66 events that nobody read"):
            events.read(LIMIT)
        assert events.read(LIMIT)["zonename"] == "z66"


def test_timeout_names_operation_and_client_and_logs_what_came_instead():
    log = callers_log()
    with (
        serving(ready(), event("create", "z1", rev=4, vm={"secret": "x"})) as server,
        open_stream(server, log=log) as events,
    ):
        wait_until(lambda: events._run.unread, "the event is there")
        watch = events.watch_for_event({"zonename": "z9"}, timeout=0.05)
        with pytest.raises(VminfodTimeout) as caught:
            watch.wait(LIMIT)
        assert str(caught.value) == 'vminfod watchForEvent "demo" timeout exceeded'
        assert caught.value.code == "ETIMEOUT"
        assert records_of(log) == [
            (
                "error",
                str(caught.value),
                {"client": "demo", "unmatched": [{"type": "create", "zonename": "z1", "rev": 4}]},
            )
        ]
        changes = events.watch_for_changes({}, [{"path": ["a"], "action": "added"}], timeout=0.05)
        with pytest.raises(VminfodTimeout, match='vminfod watchForChanges "demo" timeout exceeded'):
            changes.wait(LIMIT)
        assert events.read(LIMIT)["zonename"] == "z1"  # the stream was left alone


@pytest.mark.parametrize(
    ("options", "stopped"), [({}, False), ({"teardown": True}, True), ({"catch_errors": True}, False)]
)
def test_match_stops_the_stream_only_with_teardown(staged, options, stopped):
    with staged(event("create", "z1")) as server, open_stream(server) as events:
        watch = events.watch_for_event({}, **options)
        other = events.watch_for_event({"type": "create"})
        staged.go.set()
        watch.wait(LIMIT)
        assert other.wait(LIMIT)["zonename"] == "z1"  # it saw the event, too
        if stopped:
            assert list(events) == []
            wait_until(lambda: not alive(events), "the connection is closed")
        else:
            assert events.read(LIMIT)["zonename"] == "z1"


@pytest.mark.parametrize(
    ("options", "stopped"), [({}, False), ({"teardown": True}, True), ({"catch_errors": True}, True)]
)
def test_timeout_stops_the_stream_with_teardown_or_catch_errors(options, stopped):
    with serving(ready()) as server, open_stream(server) as events:
        with pytest.raises(VminfodTimeout):
            events.watch_for_event({}, timeout=0.05, **options).wait(LIMIT)
        assert alive(events) is not stopped


@pytest.mark.parametrize("err", [None, RuntimeError("acting failed")])
@pytest.mark.parametrize(
    ("options", "stopped_by"), [({}, "nothing"), ({"teardown": True}, "both"), ({"catch_errors": True}, "error")]
)
def test_cancel_ends_the_watch_with_just_these_values(err, options, stopped_by):
    with serving(ready()) as server, open_stream(server) as events:
        watch = events.watch_for_event({"type": "never"}, **options)
        watch.cancel(err, value="mine")
        assert watch.done
        if err is None:
            assert watch.wait(LIMIT) == "mine"
        else:
            with pytest.raises(RuntimeError, match="acting failed"):
                watch.wait(LIMIT)
        assert alive(events) is not (stopped_by == "both" or (stopped_by == "error" and err is not None))


def test_cancel_of_a_finished_watch_only_warns(staged):
    log = callers_log()
    with staged(event("create", "z1")) as server, open_stream(server, log=log) as events:
        watch = events.watch_for_event({})
        staged.go.set()
        watch.wait(LIMIT)
        watch.cancel(RuntimeError("too late"))
        assert watch.wait(LIMIT)["zonename"] == "z1"
        assert [level for level, _, _ in records_of(log)] == ["warning"]


def test_stream_error_ends_the_watches_that_catch_errors():
    go = threading.Event()
    with CannedServer({"/events": stream(ready(), go)}) as server, open_stream(server) as events:
        catching = events.watch_for_event({"type": "never"}, catch_errors=True)
        other = events.watch_for_event({"type": "never"})
        go.set()
        with pytest.raises(StreamError, match=r'ended prematurely \(client "demo"\)'):
            catching.wait(LIMIT)
        with pytest.raises(StreamError, match="ended prematurely"):
            events.read(LIMIT)  # the stream's own reader is told in any case
        assert not other.done
        with pytest.raises(VminfodTimeout):
            other.wait(0.01)
        late = events.watch_for_event({"type": "never"}, catch_errors=True)
        with pytest.raises(StreamError, match="ended prematurely"):
            late.wait(LIMIT)


def test_stop_ends_pending_watches():
    with serving(ready()) as server:
        events = open_stream(server)
        watch = events.watch_for_event({"type": "never"})
        events.stop()
        with pytest.raises(Stopped):
            watch.wait(LIMIT)
        with pytest.raises(Stopped):
            events.watch_for_event({"type": "never"}).wait(LIMIT)


def test_callback_is_called_once_and_may_use_the_stream(staged):
    calls = []
    finished = threading.Event()

    def callback(err, one):
        calls.append((err, one["zonename"]))
        second = events.watch_for_event({"zonename": "z2"}, callback=lambda err, one: finished.set())
        assert second is not None

    with (
        staged(event("create", "z1"), event("create", "z2"), event("create", "z1")) as server,
        open_stream(server) as events,
    ):
        events.watch_for_event({"zonename": "z1"}, callback=callback)
        staged.go.set()
        assert finished.wait(LIMIT)
        assert calls == [(None, "z1")]


def test_callback_gets_the_error():
    calls = []
    with serving(ready()) as server, open_stream(server) as events:
        watch = events.watch_for_event({"type": "never"}, timeout=0.05, callback=lambda *args: calls.append(args))
        with pytest.raises(VminfodTimeout) as caught:
            watch.wait(LIMIT)
        wait_until(lambda: calls, "the callback was called")
        assert calls == [(caught.value, None)]


def test_callback_that_raises_is_logged_and_harms_nothing(staged):
    log = callers_log()
    with staged(event("create", "z1"), event("create", "z2")) as server, open_stream(server, log=log) as events:
        events.watch_for_event({}, callback=lambda err, one: 1 / 0)
        second = events.watch_for_event({"zonename": "z2"})
        staged.go.set()
        second.wait(LIMIT)
        wait_until(lambda: records_of(log), "the failure is logged")
        assert records_of(log)[0][0] == "error"


def test_changes_may_come_in_several_events_and_the_last_is_the_result(staged):
    wanted = [
        {"path": ["quota"], "newValue": 20},
        [{"path": ["alias"], "action": "added"}, {"path": ["alias"], "action": "changed"}],
    ]
    alias = {"prettyPath": "alias", "path": ["alias"], "action": "changed", "oldValue": "a", "newValue": "b"}
    with (
        staged(modify("z2", quota(1, 20), alias), modify("z1", alias), modify("z1", quota(10, 20), rev=7)) as server,
        open_stream(server) as events,
    ):
        watch = events.watch_for_changes({"uuid": "z1"}, wanted)
        staged.go.set()
        assert watch.wait(LIMIT)["rev"] == 7


def test_empty_list_of_changes_succeeds_at_once():
    log = callers_log()
    with serving(ready(), event("create", "z1")) as server, open_stream(server, log=log) as events:
        wait_until(lambda: events._run.unread, "the event is there")
        watch = events.watch_for_changes({}, [], start_fresh=True)
        assert watch.done
        assert watch.wait() is None
        assert events.read_nowait() is None
        watch.cancel(RuntimeError("x"))
        assert watch.wait() is None
        assert [level for level, _, _ in records_of(log)] == ["warning", "warning"]


@pytest.mark.parametrize(("options", "error"), [({"timeout": "x"}, TypeError), ({"timeout": -1}, ValueError)])
def test_wrong_arguments_are_refused_at_the_call(options, error):
    with serving(ready()) as server, open_stream(server) as events:
        with pytest.raises(error):
            events.watch_for_event({}, **options)
        with pytest.raises(TypeError):
            events.watch_for_event(None)
        with pytest.raises(ValueError):
            events.watch_for_changes({}, [{"path": ["a"]}])


def alive(events):
    """Is the stream running?"""
    return not events._run.over
