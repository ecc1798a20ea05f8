# SPDX-License-Identifier: MPL-2.0
"""VminfodEventStream against a server that behaves, breaks off or lies."""

import gc
import json
import threading
from datetime import datetime, timezone

import pytest

from support.canned_server import HANG, LAST_CHUNK, RESET, STREAM_HEAD, CannedServer, chunk, line, plain_answer
from support.streams import DATE, LIMIT, event, ready, serving, stream, vm, wait_until
from vminfod.client import (
    ConnectionFailed,
    HTTPStatusError,
    ParseError,
    Stopped,
    StreamError,
    VminfodError,
    VminfodEventStream,
    VminfodTimeout,
)
from vminfod.clients import eventlines
from vminfod.clients.stream import UNREAD

WHEN = datetime(2024, 3, 1, 10, 0, 0, 123000, tzinfo=timezone.utc)


def open_stream(server, **options):
    return VminfodEventStream("demo", port=server.port, **options)


def error_of(server, **options):
    """The error that ends a stream, whoever asks; and that it is the only one."""
    with open_stream(server, **options) as events:
        with pytest.raises(VminfodError) as first:
            while True:
                events.read(LIMIT)
        with pytest.raises(VminfodError) as second:
            events.read(LIMIT)
        assert first.value is second.value
        assert '(client "demo")' in str(first.value)
        return first.value


def test_ready_is_given_once_and_apart_from_the_events():
    with serving(ready(vm("z1")), event("create", "z2")) as server, open_stream(server) as events:
        assert events.wait_ready(LIMIT) == {**ready(vm("z1")), "date": WHEN}
        assert events.wait_ready(LIMIT)["uuid"] == "5f0e"
        assert events.read(LIMIT) == {**event("create", "z2"), "date": WHEN}
        assert events.read_nowait() is None
        assert server.requests[0].path == "/events"
        assert server.requests[0].headers["user-agent"].startswith("demo - ")


def test_parse_ready_gives_vms_by_zonename():
    with serving(ready(vm("z1", alias="ü"), vm("z2"))) as server, open_stream(server, parse_ready=True) as events:
        assert events.wait_ready(LIMIT)["vms"] == {"z1": vm("z1", alias="ü"), "z2": vm("z2")}


def test_iteration_gives_events_until_stop():
    with serving(ready(), *[event("create", f"z{n}") for n in range(40)]) as server, open_stream(server) as events:
        seen = []
        for one in events:
            seen.append(one["zonename"])
            if len(seen) == 40:
                events.stop()
    assert seen == [f"z{n}" for n in range(40)]


def test_query_selects_events():
    with serving(ready()) as server, open_stream(server, query={"types": "create,delete", "vms": False}) as events:
        events.wait_ready(LIMIT)
        assert server.requests[0].path == "/events?types=create,delete&vms=false"


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_and_characters_cut_by_packets_survive(size, end):
    lines = (
        end.join(
            json.dumps(one, ensure_ascii=False).encode()
            for one in (ready(vm("z1", alias="日本")), event("create", "z2", vm={"alias": "zürich \U0001f600"}))
        )
        + end
    )
    pieces = [chunk(lines[at : at + size]) for at in range(0, len(lines), size)]
    with (
        CannedServer({"/events": [STREAM_HEAD, *pieces, HANG]}) as server,
        open_stream(server, parse_ready=True) as events,
    ):
        assert events.wait_ready(LIMIT)["vms"]["z1"]["alias"] == "日本"
        assert events.read(LIMIT)["vm"]["alias"] == "zürich \U0001f600"


def test_heartbeats_come_only_to_those_who_asked():
    beat = {"type": "heartbeat", "date": DATE, "epoch": "e", "rev": 1}
    with serving(ready(), beat, event("create", "z1")) as server:
        with open_stream(server) as events:
            assert events.read(LIMIT)["type"] == "create"
        with open_stream(server, query={"heartbeat": 1}) as events:
            assert events.read(LIMIT)["type"] == "heartbeat"


def test_status_other_than_200_is_one_error_without_a_ready_timeout_later():
    with CannedServer({"/events": plain_answer(500, "no")}) as server:
        error = error_of(server, ready_timeout=0.2)
    assert isinstance(error, HTTPStatusError)
    assert error.code == 500
    assert str(error).startswith("bad statusCode: 500")


def test_port_without_a_listener_is_a_connection_error():
    with serving() as server:
        pass
    error = error_of(server)
    assert isinstance(error, ConnectionFailed)
    assert error.code == "ECONNREFUSED"


@pytest.mark.parametrize("script", [[HANG], [STREAM_HEAD, HANG], [STREAM_HEAD, chunk(b'{"type":"rea'), HANG]])
def test_no_ready_in_time_is_an_error(script):
    with CannedServer({"/events": script}) as server:
        error = error_of(server, ready_timeout=0.1)
    assert isinstance(error, VminfodTimeout)
    assert str(error) == 'VminfodEventStream ready timeout (100ms) exceeded (client "demo")'


@pytest.mark.parametrize("tail", [[], [LAST_CHUNK], [chunk(b'{"type":"cre')]])
def test_end_of_the_response_is_an_error_after_the_events_before_it(tail):
    with (
        CannedServer({"/events": stream(ready(), event("create", "z1"), *tail)}) as server,
        open_stream(server) as events,
    ):
        assert events.read(LIMIT)["zonename"] == "z1"
        with pytest.raises(StreamError, match=r'ended prematurely \(client "demo"\)'):
            events.read(LIMIT)


def test_reset_connection_is_an_error():
    go = threading.Event()
    with CannedServer({"/events": stream(ready(), go, RESET)}) as server, open_stream(server) as events:
        events.wait_ready(LIMIT)
        go.set()
        with pytest.raises(ConnectionFailed) as caught:
            events.read(LIMIT)
        assert caught.value.code == "ECONNRESET"


@pytest.mark.parametrize(
    "bad",
    [
        b"no json\n",
        b"[]\n",
        b"7\n",
        b"{}\n",
        b'{"type":7}\n',
        b"\xff\n",
        b'{"type":"create","zonename":"z"}\n',
        b'{"type":"create","date":"yesterday"}\n',
        b'{"type":"create","date":7}\n',
    ],
)
def test_line_that_is_no_event_is_an_error(bad):
    with serving(ready(), chunk(bad)) as server:
        assert isinstance(error_of(server), ParseError)


@pytest.mark.parametrize("steps", [[ready(), ready()], [event("create", "z1")]])
def test_second_or_missing_ready_is_an_error(steps):
    with serving(*steps) as server:
        assert "ready event" in str(error_of(server))


def test_bad_snapshot_is_an_error_where_it_is_parsed():
    with serving({**ready(), "vms": "["}) as server:
        assert isinstance(error_of(server, parse_ready=True), ParseError)
        with open_stream(server) as events:
            assert events.wait_ready(LIMIT)["vms"] == "["


def test_endless_line_is_an_error(monkeypatch):
    monkeypatch.setattr(eventlines, "MAX_LINE", 5000)
    with serving(ready(), chunk(b"x" * 4000), chunk(b"x" * 4000)) as server:
        assert error_of(server).code == "EMSGSIZE"


def test_error_before_ready_reaches_who_waits_for_ready():
    with CannedServer({"/events": plain_answer(503, "no")}) as server, open_stream(server) as events:
        with pytest.raises(HTTPStatusError):
            events.wait_ready(LIMIT)
        with pytest.raises(HTTPStatusError):
            events.read_nowait()


def test_stop_ends_everything_without_an_error():
    with serving(ready(), event("create", "z1")) as server:
        events = open_stream(server)
        events.wait_ready(LIMIT)
        reader = threading.Thread(target=lambda: list(events))
        reader.start()
        events.stop()
        events.stop()
        reader.join(LIMIT)
        assert not reader.is_alive()
        assert list(events) == []
        assert events.read_nowait() is None
        with pytest.raises(Stopped):
            events.read(LIMIT)


def test_nothing_is_delivered_after_stop():
    with serving(ready(), *[event("create", f"z{n}") for n in range(8)]) as server:
        events = open_stream(server)
        events.read(LIMIT)
        events.stop()
        assert list(events) == []


def test_stop_before_ready_raises_stopped_to_who_waits():
    with CannedServer({"/events": [HANG]}) as server:
        events = open_stream(server)
        server.wait_for_requests(1)
        events.stop()
        with pytest.raises(Stopped):
            events.wait_ready(LIMIT)


def test_stream_can_be_started_again_after_stop_and_after_an_error():
    scripts = [stream(ready(), event("create", "z1")), stream(ready(), event("create", "z2"), HANG)]
    with CannedServer({"/events": [*scripts, scripts[1]]}) as server, open_stream(server) as events:
        with pytest.raises(StreamError):
            for one in events:
                assert one["zonename"] == "z1"
        events.start()
        assert events.read(LIMIT)["zonename"] == "z2"
        events.stop()
        events.start()
        assert events.read(LIMIT)["zonename"] == "z2"


def test_second_start_while_running_is_an_error():
    with serving(ready()) as server, open_stream(server) as events, pytest.raises(StreamError, match="already running"):
        events.start()


def test_waiting_calls_have_their_own_timeouts():
    with serving(ready()) as server, open_stream(server) as events:
        events.wait_ready(LIMIT)
        with pytest.raises(VminfodTimeout):
            events.read(0.01)
    with CannedServer({"/events": [HANG]}) as server, open_stream(server) as events, pytest.raises(VminfodTimeout):
        events.wait_ready(0.01)


def test_reading_pauses_without_a_reader():
    """Far more than sockets hold: a stream without bounds would take it all in."""
    sent = threading.Event()
    burst = line(event("modify", "z1", vm={"x": "x" * 100_000}, changes=[]))
    with (
        CannedServer({"/events": [*stream(ready()), burst * 1000, sent, HANG]}) as server,
        open_stream(server) as events,
    ):
        wait_until(lambda: len(events._run.unread) == UNREAD, "the buffer is full")
        server.wait_for_requests(1)
        assert len(events._run.unread) == UNREAD
        sent.set()
        assert sum(1 for _ in zip(range(1000), events)) == 1000


def test_forgotten_stream_that_was_stopped_is_freed():
    class Marked(VminfodEventStream):
        pass

    with serving(ready()) as server:
        events = Marked("demo", port=server.port)
        events.wait_ready(LIMIT)
        events.stop()
        del events
        wait_until(
            lambda: gc.collect() is not None and not any(isinstance(o, Marked) for o in gc.get_objects()),
            "the stream is collected",
        )


@pytest.mark.pure
@pytest.mark.parametrize("arguments", [{"ready_timeout": "x"}, {"query": 7}, {"port": "9090"}, {"name": 7}])
def test_wrong_arguments_are_refused_before_anything_starts(arguments):
    before = threading.active_count()
    with pytest.raises(TypeError):
        VminfodEventStream(**arguments)
    assert threading.active_count() == before
