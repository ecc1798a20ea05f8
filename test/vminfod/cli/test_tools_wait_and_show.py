# SPDX-License-Identifier: MPL-2.0
"""What `vminfo` and `vmadm` do when vminfod does not answer, and what reaches a terminal of a hostile alias."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.canned_server import HANG, CannedServer, answer, plain_answer
from support.streams import stream
from support.tools import run_on_terminal, run_tool

A = "aaaaaaaa-0000-4000-8000-000000000001"
B = "b6b0a5e6-29a1-4f2f-9f1c-1d8c0b7a3e02"
HINT = "vminfod is stopped, hangs or is very busy (VMINFOD_TIMEOUT=SECONDS sets another limit)"
HOSTILE = "w\x1b[2J\u202eb\x9b\x7f\n\u2066é\u200b\ufeff\U000e0041"
SHOWN = "w\\u001b[2J\\u202eb\\u009b\\u007f\\u000a\\u2066é\\u200b\\ufeff\\udb40\\udc41"
VM = {"zonename": A, "uuid": A, "brand": "joyent", "state": "running", "max_physical_memory": 1, "alias": HOSTILE}

READS = [
    (("vminfo", "ping"), "/ping"),
    (("vminfo", "status"), "/status"),
    (("vminfo", "vms"), "/vms"),
    (("vminfo", "vm", A), f"/vms/{A}"),
    (("vmadm", "list"), "/vms"),
    (("vmadm", "lookup", "-j"), "/vms"),
    (("vmadm", "get", A), f"/vms/{A}"),
    (("vmadm", "info", A), f"/vms/{A}"),
]


@pytest.fixture(scope="module")
def hanging():
    with CannedServer({path: [HANG] for path in [*dict(READS).values(), "/events"]}) as server:
        yield server


@pytest.fixture(scope="module")
def hostile():
    with CannedServer({"/vms": answer([VM]), f"/vms/{A}": answer(VM)}) as server:
        yield server


@pytest.mark.parametrize(("words", "path"), READS, ids=lambda value: " ".join(value[:2]))
def test_read_of_a_daemon_that_does_not_answer_ends(hanging, words, path):
    done = run_tool(*words, port=hanging.port, VMINFOD_TIMEOUT="0.3")
    assert (done.code, done.out, without_query(done.err)) == (1, "", f"GET {path} timeout exceeded: {HINT}\n")


def without_query(text):
    """A list asks only for the fields that it needs."""
    return re.sub(r"(?<=/vms)\?\S+", "", text)


@pytest.mark.parametrize("text", ["-1", "x", "1e3", "1.", "."])
def test_limit_that_is_no_number_of_seconds_is_refused(hanging, text):
    if text == "1.":  # a number to people, and taken as one
        assert run_tool("vminfo", "ping", port=hanging.port, VMINFOD_TIMEOUT=text).code == 1
        return
    message = f'VMINFOD_TIMEOUT must be a number of seconds, 0 for no limit, not "{text}"\n'
    assert tuple(run_tool("vminfo", "ping", port=hanging.port, VMINFOD_TIMEOUT=text)) == (1, "", message)
    assert tuple(run_tool("vmadm", "list", port=hanging.port, VMINFOD_TIMEOUT=text)) == (1, "", message)


@pytest.mark.parametrize("words", [("vminfo", "events"), ("vminfo", "events", "-jr"), ("vmadm", "events")])
def test_stream_that_does_not_begin_ends_at_the_limit(hanging, words):
    done = run_tool(*words, port=hanging.port, VMINFOD_TIMEOUT="0.3")
    assert tuple(done) == (1, "", f"VminfodEventStream ready timeout (300ms) exceeded: {HINT}\n")


@pytest.mark.long
def test_who_waits_reads_what_for(hanging):
    """After three seconds; on a terminal only where agents read stderr, to whom anything there is a failure."""
    limit = {"port": hanging.port, "VMINFOD_TIMEOUT": "4"}
    for_agents = {("vmadm", "list"): "/vms", ("vmadm", "events"): "/events"}
    for_people = {("vminfo", "ping"): "/ping", ("vminfo", "events"): "/events"}
    with ThreadPoolExecutor() as pool:
        piped = {words: pool.submit(run_tool, *words, **limit) for words in for_agents | for_people}
        seen = {words: pool.submit(run_on_terminal, *words, shown="stderr", **limit) for words in for_agents}
    for words, path in for_people.items():
        assert piped[words].result().waited == [f"waiting for vminfod to answer GET {path}"]
    for words, path in for_agents.items():
        assert piped[words].result().waited == []
        assert seen[words].result().waited == [f"waiting for vminfod to answer GET {path}"]
        assert without_query(seen[words].result().err) == without_query(piped[words].result().err)
    assert {done.result().code for done in [*piped.values(), *seen.values()]} == {1}


LIST_WITHOUT_A = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Vminfod-Unreadable: " + A.encode() + b"\r\n"
    b"Content-Length: 2\r\n\r\n[]"
)


@pytest.mark.parametrize(
    ("words", "code"),
    [(("vminfo", "vms"), 0), (("vmadm", "list"), 0), (("vmadm", "lookup"), 0), (("vmadm", "lookup", "-1"), 1)],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_list_that_lacks_a_vm_says_so(words, code):
    with CannedServer({"/vms": [LIST_WITHOUT_A]}) as server:
        done = run_tool(*words, port=server.port)
    first, *others = done.err.splitlines()
    assert first == f"the list is not complete, {A} cannot be read: see `vminfo status -j`, zoneErrors"
    assert (done.code, len(others)) == (code, code)  # an error is the last line, which programs take for the message


def test_504_says_why():
    with CannedServer({"/vms": plain_answer(504, "VM not read within 60 s: zfs list runs")}) as server:
        for words in (("vminfo", "vms"), ("vmadm", "list")):
            done = run_tool(*words, port=server.port)
            assert tuple(done) == (1, "", "bad statusCode: 504: VM not read within 60 s: zfs list runs\n")


def test_list_on_a_terminal_escapes_what_would_drive_it(hostile):
    done = run_on_terminal("vmadm", "list", "-H", "-o", "alias,state", port=hostile.port)
    assert tuple(done) == (0, f"{SHOWN}  running\n", "")


def test_head_of_a_column_is_escaped_as_well(hostile):
    """Scripts take the names of columns from the keys of a guest's maps."""
    done = run_on_terminal("vmadm", "list", "-o", f"alias,tags.{HOSTILE}", port=hostile.port)
    head = done.out.splitlines()[0]
    assert head.isprintable() and "TAGS.W\\u001b[2J\\u202eB" in head


def test_list_into_a_pipe_is_exact(hostile):
    assert run_tool("vmadm", "list", "-p", "-o", "alias", port=hostile.port).out == f"{HOSTILE}\n"


@pytest.mark.parametrize("words", [("vmadm", "get", A), ("vmadm", "lookup", "-j"), ("vminfo", "vm", A)])
def test_json_on_a_terminal_is_harmless_and_the_same_json(hostile, words):
    on_terminal, in_pipe = run_on_terminal(*words, port=hostile.port), run_tool(*words, port=hostile.port)
    assert json.loads(on_terminal.out) == json.loads(in_pipe.out)
    assert "".join(on_terminal.out.split("\n")).isprintable()
    assert "\u202e" in in_pipe.out


EVENT = {"type": "modify", "date": "2026-03-01T10:00:00.000Z", "zonename": A, "uuid": A, "vm": VM}
CHANGE = {"prettyPath": "alias", "path": ["alias"], "action": "changed", "oldValue": "web", "newValue": HOSTILE}
READY = {"type": "ready", "date": "2026-03-01T10:00:00.000Z", "uuid": "s", "vms": json.dumps([VM])}


@pytest.fixture
def stream_of_a_hostile_guest():
    events = stream(READY, {**EVENT, "type": "create"}, {**EVENT, "changes": [CHANGE]}, {**EVENT, "type": "delete"})
    with CannedServer({"/events": [events] * 2, f"/vms/{A}": answer(VM), "/vms": answer([VM])}) as server:
        yield server


@pytest.mark.parametrize("words", [("vminfo", "events"), ("vminfo", "events", "-f"), ("vmadm", "events", "-f")])
def test_events_on_a_terminal_escape_what_would_drive_it(stream_of_a_hostile_guest, words):
    done = run_on_terminal(*words, port=stream_of_a_hostile_guest.port)
    lines = done.out.splitlines()
    assert done.code == 1  # the stream ends
    assert [line for line in lines if "modify" in line]
    assert all(line.isprintable() for line in lines), lines
    assert any(SHOWN.partition("\\u000a")[0] in line for line in lines)


def test_events_as_json_on_a_terminal_are_harmless_and_the_same_json(stream_of_a_hostile_guest):
    on_terminal = run_on_terminal("vminfo", "events", "-j", port=stream_of_a_hostile_guest.port)
    in_pipe = run_tool("vminfo", "events", "-j", port=stream_of_a_hostile_guest.port)
    assert all(line.isprintable() for line in on_terminal.out.splitlines())
    parsed = [[json.loads(line) for line in done.out.splitlines()] for done in (on_terminal, in_pipe)]
    assert parsed[0] == parsed[1] and len(parsed[0]) == 3


def test_status_on_a_terminal_escapes_what_clients_and_guests_supply():
    listener = {"userAgent": HOSTILE, "createdTime": "1.0", "createdDate": "d", "createdAgo": "1s", "sentLines": 1}
    status = {
        "pid": 1,
        "uptime": "1s",
        "state": "running",
        "status": HOSTILE,
        "memory": {"rss": 1},
        "refreshErrors": [{"err": HOSTILE, "time": "1.0", "ago": "1s"}],
        "eventsListeners": {A: listener},
        "health": {"reasons": [f"1 VM unreadable: {HOSTILE}"]},
    }
    with CannedServer({"/status": answer(status)}) as server:
        for words in (("vminfo", "status"), ("vminfo", "status", "-f")):
            done = run_on_terminal(*words, port=server.port)
            assert all(line.isprintable() for line in done.out.splitlines()), done.out
            assert "\\u001b[2J\\u202e" in done.out


IN_COLOUR = {"NO_COLOR": "", "TERM": "xterm"}
GREEN, RED, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"


@pytest.fixture
def two_vms():
    failed = {"uuid": B, "zonename": B, "alias": "x" * 40, "state": "failed"}
    with CannedServer({"/vms": answer([{**VM, "alias": "web"}, failed])}) as server:
        yield server


def test_states_have_colours_on_a_terminal(two_vms):
    words = ("vmadm", "list", "-H", "-o", "state,alias", "-s", "alias")
    done = run_on_terminal(*words, port=two_vms.port, **IN_COLOUR)
    assert done.out == f"{GREEN}running{PLAIN}           web\n{RED}failed{PLAIN}            {'x' * 40}\n"
    # A cell that is too wide moves what follows it: no colour is put into the midst of something else.
    done = run_on_terminal("vmadm", "list", "-H", "-o", "alias,state", "-s", "alias", port=two_vms.port, **IN_COLOUR)
    assert done.out == f"web         {GREEN}running{PLAIN}\n{'x' * 40}  failed\n"


@pytest.mark.parametrize("without", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_who_wants_no_colours_gets_none(two_vms, without):
    done = run_on_terminal("vmadm", "list", port=two_vms.port, **{**IN_COLOUR, **without})
    assert done.code == 0 and "\x1b" not in done.out


def test_neither_pipes_nor_programs_get_colours(two_vms):
    assert "\x1b" not in run_tool("vmadm", "list", port=two_vms.port, **IN_COLOUR).out
    assert "\x1b" not in run_on_terminal("vmadm", "list", "-p", port=two_vms.port, **IN_COLOUR).out


def test_what_is_wrong_is_red_and_what_a_guest_says_in_it_still_escaped():
    status = {"pid": 1, "health": {"reasons": [f"1 VM unreadable: {HOSTILE}"]}}
    with CannedServer({"/status": answer(status)}) as server:
        done = run_on_terminal("vminfo", "status", port=server.port, **IN_COLOUR)
    first, *others = done.out.splitlines()
    assert first.startswith(f"{RED}DEGRADED: ") and first.endswith(PLAIN)
    assert first.removeprefix(RED).removesuffix(PLAIN).isprintable()
    assert all(line.isprintable() for line in others)
