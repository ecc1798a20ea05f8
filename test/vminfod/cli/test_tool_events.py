# SPDX-License-Identifier: MPL-2.0
"""`vminfo events` and `vmadm events` as programs."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from support.canned_server import HANG, RESET, CannedServer, chunk, plain_answer
from support.streams import LIMIT, ready, stream
from support.tools import SBIN, environment, run_tool, start_tool, tool_path

Z1 = "0c6f1f0e-0000-4000-8000-000000000001"
Z2 = "1c6f1f0e-0000-4000-8000-000000000002"
ENDED = "VminfodEventStream ended prematurely\n"


def at(time, kind, zonename, alias="web1", **more):
    event = {"type": kind, "date": f"2024-03-01T{time}Z", "zonename": zonename, "uuid": zonename}
    if kind != "delete":
        event["vm"] = {"zonename": zonename, "uuid": zonename, **({"alias": alias} if alias is not None else {})}
    return {**event, **more}


CHANGES = [
    {"prettyPath": "quota", "path": ["quota"], "action": "changed", "oldValue": 10, "newValue": 20},
    {"prettyPath": "zpool", "path": ["zpool"], "action": "added", "newValue": "zones"},
    {"prettyPath": "transition_to", "path": ["transition_to"], "action": "removed", "oldValue": "running"},
    {"prettyPath": "zoneid", "path": ["zoneid"], "action": "changed", "oldValue": None, "newValue": 611},
    {"prettyPath": "nics.*", "path": ["nics", None], "action": "added", "newValue": {"ips": ["ü"], "f": 1.50}},
]
READY = ready({"zonename": Z1, "uuid": Z1}, {"zonename": "oldstyle", "uuid": Z2})
EVENTS = [
    at("10:00:00.123", "create", Z1),
    at("10:00:02.004", "modify", Z1, changes=CHANGES),
    at("10:00:03.000", "modify", Z1, changes=[]),
    at("10:00:09.550", "delete", Z1, last={"alias": "web1"}),
    at("10:00:10.000", "create", "oldstyle", alias=None),
]
PLAIN = """\
[10:00:00.123Z] 0c6f1f0e web1 create
[10:00:02.004Z] 0c6f1f0e web1 modify: quota changed :: 10 -> 20
[10:00:02.004Z] 0c6f1f0e web1 modify: zpool added :: undefined -> "zones"
[10:00:02.004Z] 0c6f1f0e web1 modify: transition_to removed :: "running" -> undefined
[10:00:02.004Z] 0c6f1f0e web1 modify: zoneid changed :: null -> 611
[10:00:02.004Z] 0c6f1f0e web1 modify: nics.* added :: undefined -> {"ips":["ü"],"f":1.5}
[10:00:09.550Z] 0c6f1f0e - delete
[10:00:10.000Z] oldstyle - create
"""
FULL = PLAIN.replace("[1", "[2024-03-01T1").replace(" 0c6f1f0e ", f" {Z1} ")


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


@pytest.fixture
def ending():
    """A server whose stream ends after the events."""
    with CannedServer({"/events": stream(READY, *EVENTS)}) as server:
        yield server


@pytest.mark.parametrize("tool", ["vminfo", "vmadm"])
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], PLAIN),
        (["-f"], FULL),
        (["--full"], FULL),
        (["-r"], "[10:00:00.123Z] ready\n" + PLAIN),
        (["-fr"], "[2024-03-01T10:00:00.123Z] ready (uuid 5f0e)\n" + FULL),
        (["-j"], "".join(compact(event) for event in EVENTS)),
        (["-jf"], "".join(compact(event) for event in EVENTS)),
    ],
)
def test_lines_of_events(ending, tool, flags, expected):
    assert tuple(run_tool(tool, "events", *flags, port=ending.port)) == (1, expected, ENDED)


def test_ready_as_json_keeps_the_snapshot_as_text_for_vminfo(ending):
    out = run_tool("vminfo", "events", "-rj", port=ending.port).out
    assert out == compact(READY) + "".join(compact(event) for event in EVENTS)


def test_ready_as_json_has_the_snapshot_by_zonename_for_vmadm(ending):
    out = run_tool("vmadm", "events", "-rj", port=ending.port).out
    snapshot = {Z1: {"zonename": Z1, "uuid": Z1}, "oldstyle": {"zonename": "oldstyle", "uuid": Z2}}
    assert out == compact({**READY, "vms": snapshot}) + "".join(compact(event) for event in EVENTS)


def test_snapshot_is_asked_for_only_where_it_is_needed(ending):
    for tool, *words in (("vminfo", "-r"), ("vminfo", "-rj"), ("vmadm", "-r"), ("vmadm", "-rj"), ("vmadm", Z1)):
        run_tool(tool, "events", *words, port=ending.port)
    assert [request.path for request in ending.requests] == [
        "/events?vms=false",
        "/events",
        "/events?vms=false",
        "/events",
        "/events",
    ]


def test_one_vm_only(ending):
    one = "".join(line + "\n" for line in PLAIN.splitlines() if "0c6f1f0e" in line)
    assert run_tool("vmadm", "events", Z1, port=ending.port).out == one
    assert run_tool("vmadm", "events", "-r", Z2, port=ending.port).out == (
        "[10:00:00.123Z] ready\n[10:00:10.000Z] oldstyle - create\n"
    )


def test_unknown_vm_is_one_line(ending):
    nobody = "ffffffff-0000-4000-8000-00000000000f"
    assert tuple(run_tool("vmadm", "events", "-r", nobody, port=ending.port)) == (1, "", f"VM {nobody} not found\n")


def test_ill_formed_uuid_means_all_vms(ending):
    assert run_tool("vmadm", "events", "bogus", port=ending.port).out == PLAIN


@pytest.mark.parametrize(
    ("alias", "shown"),
    [
        ("x" * 30, "x" * 30),
        ("x" * 31, "x" * 27 + "..."),
        ("", "-"),
        (None, "-"),
        ("ü", "ü"),
        ("a b\n\x1b[31m\x9b", "a b\\u000a\\u001b[31m\\u009b"),
    ],
)
def test_alias_is_cut_and_cannot_break_the_line(alias, shown):
    with CannedServer({"/events": stream(READY, at("10:00:00.123", "create", Z1, alias=alias))}) as server:
        assert run_tool("vminfo", "events", port=server.port).out == f"[10:00:00.123Z] 0c6f1f0e {shown} create\n"


def test_numbers_print_as_they_came():
    line = (
        '{"type":"modify","date":"2024-03-01T10:00:00.123Z","zonename":"z","vm":{},"changes":['
        '{"prettyPath":"n","action":"changed","oldValue":1.10,"newValue":123456789012345678901234567890}]}\n'
    )
    with CannedServer({"/events": stream(READY, chunk(line.encode()))}) as server:
        assert run_tool("vminfo", "events", "-j", port=server.port).out == line
        assert run_tool("vminfo", "events", port=server.port).out == (
            "[10:00:00.123Z] z - modify: n changed :: 1.10 -> 123456789012345678901234567890\n"
        )


@pytest.mark.parametrize("tool", ["vminfo", "vmadm"])
def test_each_line_is_flushed_at_once(tool):
    go = threading.Event()
    with CannedServer({"/events": stream(READY, EVENTS[0], go, EVENTS[3], HANG)}) as server:
        running = start_tool(tool, "events", "-r", port=server.port)
        try:
            assert running.stdout.readline() == b"[10:00:00.123Z] ready\n"
            assert running.stdout.readline() == b"[10:00:00.123Z] 0c6f1f0e web1 create\n"
            go.set()
            assert running.stdout.readline() == b"[10:00:09.550Z] 0c6f1f0e - delete\n"
        finally:
            running.kill()
            running.communicate()


@pytest.mark.parametrize(("tool", "prefix"), [("vminfo", ""), ("vmadm", "cannot reach vminfod: ")])
def test_daemon_that_is_down_or_breaks_off_is_one_line(tool, prefix):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert tuple(run_tool(tool, "events", port=port)) == (1, "", f"{prefix}connect ECONNREFUSED 127.0.0.1:{port}\n")
    go = threading.Event()
    with CannedServer({"/events": stream(READY, go, RESET)}) as server:
        running = start_tool(tool, "events", "-r", port=server.port)
        assert running.stdout.readline() == b"[10:00:00.123Z] ready\n"
        go.set()
        out, err = running.communicate(timeout=LIMIT)
        assert (running.returncode, out, err.decode()) == (1, b"", f"{prefix}read ECONNRESET\n")


@pytest.mark.parametrize("tool", ["vminfo", "vmadm"])
def test_refusal_and_garbage_are_one_line(tool):
    with CannedServer({"/events": plain_answer(500, "no")}) as server:
        assert tuple(run_tool(tool, "events", port=server.port)) == (1, "", "bad statusCode: 500\n")
    with CannedServer({"/events": stream(READY, chunk(b"garbage\n"), HANG)}) as server:
        code, out, err = run_tool(tool, "events", port=server.port)
        assert (code, out, err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("tool", ["vminfo", "vmadm"])
def test_reader_that_goes_away_ends_it_at_once_even_when_nothing_happens(tool):
    with CannedServer({"/events": stream(READY, HANG)}) as server:
        running = start_tool(tool, "events", "-r", port=server.port)
        assert running.stdout.readline() == b"[10:00:00.123Z] ready\n"
        running.stdout.close()
        assert running.wait(LIMIT) == 0
        assert running.stderr.read() == b""
        running.stderr.close()


@pytest.mark.parametrize("tool", ["vminfo", "vmadm"])
def test_reader_that_goes_away_in_a_burst_ends_it_quietly(tool):
    with CannedServer({"/events": stream(READY, *[EVENTS[1]] * 2000, HANG)}) as server:
        done = subprocess.run(
            f"'{tool_path(tool)}' events | head -1; echo ${{PIPESTATUS[0]}}",
            shell=True,
            executable="/bin/bash",
            env=environment(server.port),
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
    assert done.stdout.decode().splitlines()[1:] == ["0"]
    assert done.stderr == b""


def test_output_into_a_file_does_not_end_it(tmp_path):
    with CannedServer({"/events": stream(READY, *EVENTS)}) as server, open(tmp_path / "out", "wb") as out:
        done = subprocess.run(
            [tool_path("vminfo"), "events"],
            env=environment(server.port),
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=LIMIT,
            check=False,
        )
    assert (done.returncode, done.stderr.decode()) == (1, ENDED)
    assert (tmp_path / "out").read_text() == PLAIN


@pytest.mark.parametrize("tool", ["vminfo", "vmadm"])
def test_interrupt_ends_it_quietly(tool):
    with CannedServer({"/events": stream(READY, HANG)}) as server:
        running = start_tool(tool, "events", "-r", port=server.port)
        assert running.stdout.readline() == b"[10:00:00.123Z] ready\n"
        running.send_signal(2)
        out, err = running.communicate(timeout=LIMIT)
        assert (running.returncode, out, err) == (130, b"", b"")


def test_interrupt_that_the_wait_for_the_next_event_does_not_see_ends_it(tmp_path):
    """It came right before: the same as if another thread got it, which is done here."""
    script = (
        "import os, signal, socket, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from vminfod.cli import stdio\n"
        "here, there = socket.socketpair()\n"
        "stdio.end_with_reader()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "def wait():\n"
        "    os.write(1, b'waits\\n')\n"
        "    return len(here.recv(1))\n"
        "os._exit(stdio.run_to_end(wait, 'a test', os.environ))\n"
    )
    lib = os.path.join(SBIN, "..", "lib")
    with subprocess.Popen([sys.executable, "-c", script, lib], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"waits\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(LIMIT) == 130


def test_names_that_an_operator_sees(ending):
    def name(*words, **env):
        run_tool(*words, port=ending.port, **env)
        return ending.requests[-1].headers["user-agent"].partition(f" - {socket.gethostname()}/")[0]

    os.environ.pop("REQ_ID", None)
    assert name("vminfo", "events") == "Vminfod CLI"
    assert name("vmadm", "events") == "VM.js events - vmadm CLI"
    assert name("vmadm", "events", VMADM_IDENT="VM Agent") == "VM.js events - vmadm CLI - VM Agent"
    assert name("vmadm", "events", Z1, REQ_ID="r1") == f"VM.js events (zonename: {Z1}) - (req_id: r1) - vmadm CLI"
