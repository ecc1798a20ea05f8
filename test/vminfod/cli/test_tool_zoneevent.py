# SPDX-License-Identifier: MPL-2.0
"""The `zoneevent` program and class."""

import json
import socket
import threading

import pytest

from support.canned_server import HANG, CannedServer, plain_answer
from support.streams import LIMIT, event, ready, serving, stream
from support.tools import run_tool, start_tool
from vminfod.client import StreamError
from vminfod.clients.zonestates import ZoneEvent

USAGE = """\
Usage: zoneevent [-i ident] [-l level] [-h]

  -i, --ident ident   who is asking; shown by `vminfo status`
  -l, --level level   log to stderr from this level on: trace, debug, info, warn, error or fatal (default)
  -h, --help          this text

Prints a line of JSON for each change of a zone's state.
"""
Z = "0c6f1f0e-0000-4000-8000-000000000001"
WHEN = "1709287200123000000"  # 2024-03-01T10:00:00.123Z


def zone_state(old, new, path=None):
    return {
        "prettyPath": "zone_state",
        "path": path or ["zone_state"],
        "action": "changed",
        "oldValue": old,
        "newValue": new,
    }


def modify(*changes, **vm):
    return event("modify", Z, vm=vm, changes=list(changes))


def printed(*events):
    """The lines that the program prints for these events."""
    with serving(ready(), *events, event("delete", "the-end")) as server:
        running = start_tool("zoneevent", port=server.port)
        try:
            lines = []
            while not lines or b"the-end" not in lines[-1]:
                lines.append(running.stdout.readline())
            return [line.decode() for line in lines[:-1]]
        finally:
            running.kill()
            running.communicate()


@pytest.mark.parametrize(
    ("old", "new", "old_shown", "new_shown"),
    [
        ("configured", "incomplete", "configured", "incomplete"),
        ("incomplete", "installed", "incomplete", "installed"),
        ("installed", "ready", "uninitialized", "ready"),
        ("ready", "running", "ready", "running"),
        ("running", "shutting_down", "running", "shutting_down"),
        ("shutting_down", "installed", "shutting_down", "uninitialized"),
        ("installed", "incomplete", "uninitialized", "incomplete"),
    ],
)
def test_states_of_a_modify(old, new, old_shown, new_shown):
    assert printed(modify(zone_state(old, new), zoneid=463)) == [
        f'{{"zonename":"{Z}","oldstate":"{old_shown}","newstate":"{new_shown}","zoneid":"463","when":"{WHEN}"}}\n'
    ]


def test_create_and_delete():
    assert printed(event("create", Z, vm={"zone_state": "configured", "zoneid": None}), event("delete", Z)) == [
        f'{{"zonename":"{Z}","oldstate":"","newstate":"configured","zoneid":"-1","when":"{WHEN}"}}\n',
        f'{{"zonename":"{Z}","newstate":"","zoneid":"-1","when":"{WHEN}"}}\n',
    ]


def test_other_changes_are_left_out_and_the_first_state_counts():
    quota = {"prettyPath": "quota", "path": ["quota"], "action": "changed", "oldValue": 1, "newValue": 2}
    lines = printed(
        modify(quota),
        modify(zone_state("a", "b", path=["tags", "zone_state"])),
        modify(quota, zone_state("ready", "running"), zone_state("x", "y")),
    )
    assert [json.loads(line)["newstate"] for line in lines] == ["running"]


def test_broken_stream_is_opened_again_and_nothing_is_printed_twice():
    """Each failure here is one that the original reported twice, and then started two streams."""
    scripts = [
        stream(ready(), modify(zone_state("a", "b"))),
        plain_answer(500, "no"),
        stream(ready(), modify(zone_state("b", "c")), HANG),
    ]
    with CannedServer({"/events": scripts}) as server:
        running = start_tool("zoneevent", "-l", "warn", port=server.port)
        try:
            states = [json.loads(running.stdout.readline())["newstate"] for _ in range(2)]
        finally:
            running.kill()
            out, err = running.communicate()
    assert (states, out) == (["b", "c"], b"")
    assert len(server.requests) == 3
    records = [json.loads(line) for line in err.splitlines()]
    assert [record["level"] for record in records] == [40, 40]
    assert {record["name"] for record in records} == {"zoneevent"}


def test_daemon_that_is_down_is_waited_for_in_silence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    running = start_tool("zoneevent", port=port)
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        server.settimeout(LIMIT)
        connection, _ = server.accept()
        connection.close()
    assert running.poll() is None
    running.kill()
    out, err = running.communicate()
    assert (out, err) == (b"", b"")


def test_names_that_an_operator_sees():
    with serving(ready()) as server:
        for count, words in enumerate(([], ["-i", "cn-agent"], ["--ident=a", "-ib"]), 1):
            running = start_tool("zoneevent", *words, port=server.port)
            try:
                server.wait_for_requests(count)
            finally:
                running.kill()
                running.communicate()
        agents = [request.headers["user-agent"] for request in server.requests]
    names = [agent.partition(f" - {socket.gethostname()}")[0] for agent in agents]
    assert names == [
        "VM.js events - zoneevent CLI",
        "VM.js events - zoneevent CLI (cn-agent)",
        "VM.js events - zoneevent CLI (a) (b)",
    ]


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_usage(flag):
    assert tuple(run_tool("zoneevent", flag)) == (0, USAGE, "")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-q"], "illegal option -- q"),
        (["-i"], "option requires an argument -- i"),
        (["--ident"], "option requires an argument -- ident"),
        (["-l", "loud"], "unknown log level -- loud"),
    ],
)
def test_wrong_options_are_named_above_the_usage(words, complaint):
    assert tuple(run_tool("zoneevent", *words)) == (1, "", f"{complaint}\n{USAGE}")


def test_bad_port_in_the_environment_is_explained():
    assert tuple(run_tool("zoneevent", VMINFOD_PORT="x")) == (
        1,
        "",
        'VMINFOD_PORT must be a number from 1 to 65535, not "x"\n',
    )


def test_reader_that_goes_away_ends_it_at_once():
    with serving(ready(), event("delete", "z")) as server:
        running = start_tool("zoneevent", port=server.port)
        assert running.stdout.readline()
        running.stdout.close()
        assert running.wait(LIMIT) == 0
        assert running.stderr.read() == b""
        running.stderr.close()


def test_class_gives_changes_until_stop():
    go = threading.Event()
    with serving(ready(), go, modify(zone_state("a", "b")), event("delete", Z)) as server:
        with ZoneEvent("demo", port=server.port) as changes:
            assert changes.wait_ready(LIMIT)["type"] == "ready"
            go.set()
            seen = []
            for change in changes:
                seen.append(change["newstate"])
                if change["newstate"] == "":
                    changes.stop()
            assert seen == ["b", ""]
        assert server.requests[0].headers["user-agent"].startswith("VM.js events - demo - ")


def test_class_raises_the_error_of_its_stream():
    with (
        CannedServer({"/events": stream(ready())}) as server,
        ZoneEvent("demo", port=server.port) as changes,
        pytest.raises(StreamError, match='ended prematurely .client "VM.js events - demo"'),
    ):
        list(changes)
