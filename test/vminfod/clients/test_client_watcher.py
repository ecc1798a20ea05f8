# SPDX-License-Identifier: MPL-2.0
"""VminfodWatcher: the mirror, its callbacks, and what it does when the daemon goes away."""

import gc
import threading

import pytest

from support.callers_log import callers_log, records_of
from support.canned_server import HANG, RESET, CannedServer, chunk, line, plain_answer
from support.streams import DATE, LIMIT, event, ready, serving, stream, vm, wait_until
from vminfod.client import HTTPStatusError, Stopped, StreamError, VminfodError, VminfodTimeout, VminfodWatcher
from vminfod.clients import watcher as watcher_module

E1, E2 = "epoch-1", "epoch-2"


class Kept:
    """A watcher whose callbacks are written down."""

    def __init__(self, server, **options):
        self.log = callers_log()
        self.heard = []
        self.errors = []
        callbacks = {topic: self._hearing(topic) for topic in ("create", "modify", "delete", "event")}
        self.watcher = VminfodWatcher(
            "demo", port=server.port, log=self.log, **options, callbacks={**callbacks, "error": self.errors.append}
        )

    def _hearing(self, topic):
        def hear(one):
            self.heard.append((topic, one["zonename"]))

        return hear

    def events(self):
        return [(kind, zonename) for kind, zonename in self.heard if kind != "event"]

    def wait_for(self, count):
        wait_until(lambda: len(self.events()) >= count, f"{count} events; so far {self.heard}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.watcher.stop()


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch):
    monkeypatch.setattr(watcher_module, "BACKOFF_FIRST", 0.01)
    monkeypatch.setattr(watcher_module, "BACKOFF_MOST", 0.05)


def rev(number, epoch=E1):
    return {"epoch": epoch, "rev": number}


def resumed(number, epoch=E1):
    """A ready event without snapshot."""
    return {"type": "ready", "date": DATE, "uuid": "5f0e", **rev(number, epoch)}


def test_mirror_follows_events_before_callbacks_run():
    steps = (
        ready(vm("z1"), vm("z2")),
        event("create", "z3"),
        event("modify", "z1", vm={"quota": 5}, changes=[]),
        event("delete", "z2"),
    )
    go = threading.Event()
    mirrored = []
    with serving(steps[0], go, *steps[1:]) as server, Kept(server) as kept:
        for topic in ("create", "modify", "delete", "event"):
            kept.watcher.on(topic, lambda one: mirrored.append(kept.watcher.vm(one["zonename"])))
        assert kept.watcher.wait_ready(LIMIT)["vms"].keys() == {"z1", "z2"}
        assert kept.watcher.vms() == {"z1": vm("z1"), "z2": vm("z2")}
        go.set()
        kept.wait_for(3)
        wait_until(lambda: len(mirrored) == 6, "all callbacks")
        assert kept.heard == [
            ("create", "z3"),
            ("event", "z3"),
            ("modify", "z1"),
            ("event", "z1"),
            ("delete", "z2"),
            ("event", "z2"),
        ]
        assert mirrored == [vm("z3")] * 2 + [vm("z1", quota=5)] * 2 + [None] * 2
        assert kept.watcher.vms() == {"z1": vm("z1", quota=5), "z3": vm("z3")}
        assert kept.watcher.vm("z2") is None


def test_what_a_caller_does_to_the_list_leaves_the_mirror_alone():
    with serving(ready(vm("z1"))) as server, Kept(server) as kept:
        kept.watcher.wait_ready(LIMIT)
        kept.watcher.vms().clear()
        assert kept.watcher.vm("z1") == vm("z1")


def test_ready_callback_is_called_once_also_when_registered_late():
    calls = []
    with (
        CannedServer({"/events": [stream(ready(vm("z1"))), stream(ready(vm("z1"), vm("z2")), HANG)]}) as server,
        Kept(server) as kept,
    ):
        kept.watcher.wait_ready(LIMIT)
        kept.watcher.on("ready", calls.append)
        kept.wait_for(1)
        assert [one["type"] for one in calls] == ["ready"]


def test_watcher_asks_for_heartbeats_and_resumes_by_revision():
    scripts = [
        stream(ready(vm("z1"), **rev(3)), event("create", "z2", **rev(4))),
        stream(resumed(4), event("create", "z3", **rev(5)), RESET),
        stream(resumed(5), event("delete", "z1", last=vm("z1"), **rev(6)), HANG),
    ]
    with CannedServer({"/events": scripts}) as server, Kept(server) as kept:
        kept.wait_for(3)
        assert kept.events() == [("create", "z2"), ("create", "z3"), ("delete", "z1")]
        kept.watcher.wait_for_rev(6, timeout=LIMIT)
        assert kept.watcher.vms().keys() == {"z2", "z3"}
        paths = [request.path for request in server.requests]
        assert paths[0] == "/events?heartbeat=10"
        assert paths[-1] == "/events?heartbeat=10&since=epoch-1:5"
        assert len(kept.errors) == 2
        assert all('(client "demo")' in str(error) for error in kept.errors)


def test_too_old_to_resume_means_listing_anew_with_the_difference_as_events():
    old = [vm("z1"), vm("z2", quota=1), vm("z3"), vm("z4", nics=[{"mac": "a", "ip": "x"}])]
    new = [vm("z1"), vm("z2", quota=2), vm("z5"), vm("z4", nics=[{"mac": "a", "ip": "y"}])]
    gone = plain_answer(410, '{"error":"gone"}')
    go = threading.Event()
    scripts = [stream(ready(*old, **rev(3)), go), gone, stream(ready(*new, **rev(900)), HANG)]
    details = []
    with CannedServer({"/events": scripts}) as server, Kept(server) as kept:
        kept.watcher.wait_ready(LIMIT)
        kept.watcher.on("modify", details.append)
        go.set()
        kept.wait_for(4)
        kept.watcher.wait_for_rev(900, timeout=LIMIT)
        assert kept.events() == [("delete", "z3"), ("modify", "z2"), ("create", "z5"), ("modify", "z4")]
        assert kept.watcher.vms() == {one["zonename"]: one for one in new}
        assert details[0]["changes"] == [
            {"prettyPath": "quota", "path": ["quota"], "action": "changed", "oldValue": 1, "newValue": 2}
        ]
        assert details[1]["changes"][0]["ident"] == "a"
        assert len(kept.errors) == 1  # the lost connection; that resuming was refused is no error
        assert [request.path for request in server.requests] == [
            "/events?heartbeat=10",
            "/events?heartbeat=10&since=epoch-1:3",
            "/events?heartbeat=10",
        ]


def test_new_run_of_the_daemon_is_listed_anew_and_later_events_are_followed():
    scripts = [
        stream(ready(vm("z1"), **rev(7))),
        stream(ready(vm("z1"), vm("z2"), **rev(0, E2)), event("create", "z3", **rev(1, E2)), HANG),
    ]
    with CannedServer({"/events": scripts}) as server, Kept(server) as kept:
        kept.wait_for(2)
        assert kept.events() == [("create", "z2"), ("create", "z3")]


def test_daemon_without_revisions_is_listed_anew():
    scripts = [stream(ready(vm("z1")), event("create", "z2")), stream(ready(vm("z2", quota=1)), HANG)]
    with CannedServer({"/events": scripts}) as server, Kept(server) as kept:
        kept.wait_for(3)
        assert kept.events() == [("create", "z2"), ("delete", "z1"), ("modify", "z2")]
        assert {request.path for request in server.requests} == {"/events?heartbeat=10"}
        with pytest.raises(StreamError, match="no revisions"):
            kept.watcher.wait_for_rev(1, timeout=LIMIT)


@pytest.mark.parametrize(
    "bad",
    [
        event("create", "z3", **rev(9)),
        event("create", "z3", **rev(5, E2)),
        {"type": "heartbeat", "date": DATE, **rev(6)},
        {"type": "renamed", "date": DATE, "zonename": "z1", **rev(5)},
        {"type": "create", "date": DATE, "zonename": "z3", **rev(5)},
        chunk(b"garbage\n"),
    ],
)
def test_stream_that_cannot_be_trusted_is_left_and_listed_anew(bad):
    scripts = [
        stream(ready(vm("z1"), **rev(3)), event("create", "z2", **rev(4)), bad, HANG),
        stream(ready(vm("z2"), **rev(12)), HANG),
    ]
    with CannedServer({"/events": scripts}) as server, Kept(server) as kept:
        kept.wait_for(2)
        kept.watcher.wait_for_rev(12, timeout=LIMIT)
        assert kept.events() == [("create", "z2"), ("delete", "z1")]
        assert kept.watcher.vms() == {"z2": vm("z2")}
        assert server.requests[1].path == "/events?heartbeat=10"


def test_event_that_is_known_already_is_not_reported_twice():
    steps = [
        ready(vm("z1"), **rev(3)),
        event("create", "z2", **rev(4)),
        event("create", "z2", **rev(4)),
        {"type": "heartbeat", "date": DATE, **rev(4)},
        event("create", "z3", **rev(5)),
    ]
    with serving(*steps) as server, Kept(server) as kept:
        kept.watcher.wait_for_rev(5, timeout=LIMIT)
        kept.wait_for(2)
        assert kept.events() == [("create", "z2"), ("create", "z3")]


def test_connection_that_dies_without_a_word_is_noticed(monkeypatch):
    monkeypatch.setattr(watcher_module, "SILENCE", 0.1)
    scripts = [stream(ready(vm("z1"), **rev(3)), HANG), stream(resumed(3), event("create", "z2", **rev(4)), HANG)]
    with CannedServer({"/events": scripts}) as server, Kept(server) as kept:
        kept.wait_for(1)
        assert "was silent for" in str(kept.errors[0])


def test_daemon_that_is_down_at_first_is_waited_for():
    refusals = [plain_answer(503, "not yet")] * 3
    with CannedServer({"/events": [*refusals, stream(ready(vm("z1")), HANG)]}) as server, Kept(server) as kept:
        kept.watcher.wait_ready(LIMIT)
        assert [error.code for error in kept.errors] == [503, 503, 503]


def test_daemon_that_stays_down_is_named_by_the_timeout():
    with serving() as server:
        pass
    with Kept(server) as kept:
        wait_until(lambda: kept.errors, "an error")
        with pytest.raises(VminfodTimeout, match="VminfodWatcher ready timeout exceeded"):
            kept.watcher.wait_ready(0.01)


def test_without_reconnect_the_first_error_is_the_end():
    with CannedServer({"/events": stream(ready(vm("z1"), **rev(3)))}) as server, Kept(server, reconnect=False) as kept:
        kept.watcher.wait_ready(LIMIT)
        with pytest.raises(StreamError, match="ended prematurely"):
            kept.watcher.wait_for_rev(9, timeout=LIMIT)
        wait_until(lambda: kept.errors, "the error callback")
        assert len(server.requests) == 1
    with (
        CannedServer({"/events": plain_answer(500, "no")}) as server,
        Kept(server, reconnect=False) as kept,
        pytest.raises(HTTPStatusError),
    ):
        kept.watcher.wait_ready(LIMIT)


def test_callbacks_that_raise_are_logged_and_do_not_end_the_watcher():
    go = threading.Event()
    with serving(ready(), go, event("create", "z1"), event("create", "z2")) as server:
        watcher = VminfodWatcher("demo", port=server.port, log=(log := callers_log()))
        with watcher:
            seen = []
            watcher.on("create", lambda one: 1 / 0)
            watcher.on("create", lambda one: seen.append(one["zonename"]))
            go.set()
            wait_until(lambda: seen == ["z1", "z2"], "both events")
            assert [msg for level, msg, _ in records_of(log) if level == "error"] == ["callback failed"] * 2


def test_wait_for_rev_returns_at_the_revision_or_times_out():
    go = threading.Event()
    with serving(ready(vm("z1"), **rev(3)), go, event("create", "z2", **rev(4))) as server, Kept(server) as kept:
        kept.watcher.wait_for_rev(3, timeout=LIMIT)
        with pytest.raises(VminfodTimeout, match="revision 4"):
            kept.watcher.wait_for_rev(4, timeout=0.01)
        go.set()
        kept.watcher.wait_for_rev(4, timeout=LIMIT)
        assert kept.watcher.vm("z2") == vm("z2")


def test_wait_for_rev_is_satisfied_by_a_later_run_of_the_daemon():
    go = threading.Event()
    scripts = [stream(ready(vm("z1"), **rev(700)), go), stream(ready(vm("z1"), **rev(0, E2)), HANG)]
    with CannedServer({"/events": scripts}) as server, Kept(server) as kept:
        kept.watcher.wait_ready(LIMIT)
        done = threading.Thread(target=kept.watcher.wait_for_rev, args=(701, LIMIT))
        done.start()
        go.set()
        done.join(LIMIT)
        assert not done.is_alive()


def test_stop_ends_it_and_who_waits():
    with CannedServer({"/events": [HANG]}) as server:
        kept = Kept(server)
        server.wait_for_requests(1)
        waiting = threading.Thread(target=lambda: caught.append(pytest.raises(Stopped, kept.watcher.wait_ready)))
        caught = []
        waiting.start()
        kept.watcher.stop()
        kept.watcher.stop()
        waiting.join(LIMIT)
        assert len(caught) == 1
        assert kept.errors == []


def test_stop_within_a_callback_is_obeyed_at_once():
    go = threading.Event()
    with serving(ready(), go, event("create", "z1"), event("create", "z2")) as server:
        seen = []
        watcher = VminfodWatcher(
            "stopped",
            port=server.port,
            callbacks={"create": lambda one: (seen.append(one["zonename"]), watcher.stop()), "event": seen.append},
        )
        go.set()
        name = "vminfod watcher stopped"
        wait_until(lambda: all(thread.name != name for thread in threading.enumerate()), "its thread ends")
        assert seen == ["z1"]


def test_unknown_topic_is_refused():
    with serving(ready()) as server, Kept(server) as kept, pytest.raises(ValueError):
        kept.watcher.on("rename", print)
    with pytest.raises(ValueError):
        VminfodWatcher("demo", callbacks={"rename": print})


def test_errors_are_of_the_library():
    with CannedServer({"/events": stream({**ready(), "vms": "{}"})}) as server, Kept(server) as kept:
        wait_until(lambda: kept.errors, "an error")
        assert isinstance(kept.errors[0], VminfodError)


def test_watcher_that_has_seen_many_events_holds_no_more_than_one_that_has_seen_few():
    few, many = 1_000, 10_000
    go = threading.Event()

    def burst(first, last):
        return b"".join(
            [
                line(event("modify", f"z{number % 7}", vm={"number": number}, changes=[], **rev(number)))
                for number in range(first, last + 1)
            ]
        )

    steps = (ready(*[vm(f"z{number}") for number in range(7)], **rev(0)), burst(1, few), go, burst(few + 1, many))
    with serving(*steps) as server, VminfodWatcher("old", port=server.port, callbacks={"event": id}) as watcher:
        held = []
        for last in (few, many):
            watcher.wait_for_rev(last, LIMIT)
            gc.collect()
            held.append(len(gc.get_objects()))
            go.set()
        assert held[1] - held[0] < (many - few) / 10


def test_iterating_gives_each_event_once_across_connections():
    """Those of before the connection broke, and those after; the mirror shows an event before it is given."""
    go = threading.Event()
    first = stream(ready(vm("a"), **rev(1)), go, event("modify", "a", **rev(2)))
    second = stream(resumed(2), event("create", "b", **rev(3)), HANG)
    taken = []
    server = CannedServer({"/events": [first, second]})
    with server, VminfodWatcher("demo", port=server.port, log=callers_log()) as watcher:
        taking = iter(watcher)
        go.set()
        for one in taking:
            assert watcher.vm(one["zonename"]) == one["vm"]
            taken.append((one["type"], one["zonename"]))
            if len(taken) == 2:
                break
    assert taken == [("modify", "a"), ("create", "b")]


def test_iteration_ends_with_stop_and_with_the_error_that_ends_the_watcher():
    with serving(ready(**rev(1))) as server:
        watcher = VminfodWatcher("demo", port=server.port, log=callers_log())
        watcher.wait_ready(LIMIT)
        threading.Timer(0, watcher.stop).start()
        assert list(watcher) == []
    go = threading.Event()
    with CannedServer({"/events": stream(ready(**rev(1)), go)}) as server:
        watcher = VminfodWatcher("demo", port=server.port, log=callers_log(), reconnect=False)
        taking = iter(watcher)
        go.set()
        with pytest.raises(VminfodError):
            list(taking)


def test_who_does_not_iterate_on_holds_the_watcher_back_and_nothing_is_lost(monkeypatch):
    monkeypatch.setattr(watcher_module, "UNREAD", 2)
    go = threading.Event()
    events = [event("modify", "a", **rev(number)) for number in range(2, 12)]
    behind = serving(ready(vm("a"), **rev(1)), go, *events)
    with behind as server, VminfodWatcher("demo", port=server.port, log=callers_log()) as watcher:
        taking = iter(watcher)
        go.set()
        seen = [next(taking)["rev"]]
        wait_until(lambda: watcher._mirror.rev == 5, "it waits with the fourth")
        seen += [next(taking)["rev"] for _ in range(9)]
    assert seen == list(range(2, 12))


def test_iteration_that_nobody_began_and_nobody_wants_holds_nothing_back(monkeypatch):
    monkeypatch.setattr(watcher_module, "UNREAD", 2)
    go = threading.Event()
    events = [event("modify", "a", **rev(number)) for number in range(2, 12)]
    behind = serving(ready(vm("a"), **rev(1)), go, *events)
    with behind as server, VminfodWatcher("demo", port=server.port, log=callers_log()) as watcher:
        iter(watcher)
        go.set()
        watcher.wait_for_rev(11, LIMIT)
