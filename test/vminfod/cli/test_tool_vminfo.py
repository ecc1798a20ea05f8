# SPDX-License-Identifier: MPL-2.0
"""`vminfo ping|status|vms|vm|help` as a program: output, complaints and exit codes to the letter."""

import json
import os
import socket
import subprocess

import pytest

from support.canned_server import RESET, CannedServer, answer, body_answer, plain_answer
from support.deadlines import SOON
from support.tools import environment, run_tool, tool_path

USAGE = """\
Usage: vminfo <command> [options]

ping                  say pong if vminfod answers
status [-jf]          the daemon's own state; -j as JSON, -f with the refresh log and the file watcher. Exit status 1 if
                      something is wrong
vms                   all VM objects as JSON
vm <zonename>         one VM object as JSON
top [-1]              the VMs and their changes on a full screen; -1 prints once
events [-jfr]         follow what changes; -j as JSON, -f full dates and names, -r also the ready event
transaction <zonename> [-l <seconds>] -- <command> [<argument> ...]
                      run a command; all that it changes of that VM comes as one event, when it has ended or, at the
                      latest, after -l (--limit) seconds: 60 if not given, at most 600. Exit status: the command's; 125
                      if there is no transaction, and nothing was run
help                  this text

The environment variables VMINFOD_HOST and VMINFOD_PORT choose another daemon than that of this node,
VMINFOD_TIMEOUT the seconds that an answer may take: 60 if it is not set, 30 for the first of events, 0 for no limit.
"""

STATUS = {
    "pid": 4012,
    "uptime": "93784.120000000s (1.09d)",
    "memory": {"rss": 61440000, "heapTotal": 33554432, "heapUsed": 20971520},
    "state": "running",
    "status": "working",
    "numVms": 2,
    "curDate": "2024-03-01T10:00:00.123Z",
    "curTime": "93999.000000042",
    "queue": {
        "now": "93999.000101000",
        "paused": False,
        "idle": True,
        "vasync_queue": {"concurrency": 1, "npending": 0, "nqueued": 0, "pending": {}, "queued": []},
    },
    "lastRefresh": "75.500000000s (1.26m)",
    "refreshErrors": [{"err": "zfs exited", "time": "93000.000000001", "ago": "999.000000041s (16.65m)"}],
    "eventsListeners": {
        "1b0c8e7a-5d0e-4f57-9a3e-0b6f8f0f3c11": {
            "userAgent": "demo - host1/77 (/opt/demo.py)",
            "createdTime": "93990.500000000",
            "createdDate": "2024-03-01T09:59:51.623Z",
            "createdAgo": "8.500000042s (8.5s)",
        }
    },
}
FULL = {
    **STATUS,
    "refreshLog": [
        {
            "cacheChanges": [{}, {}],
            "vmChanges": [{"zonename": "Z1", "action": "create"}],
            "started": "900.000000001",
            "ended": "900.250000001",
            "took": "0.250000000s (250ms)",
            "endedAgo": "60.000000000s (1m)",
        }
    ],
    "fswatcher": {
        "message_delays": {"1": 0},
        "watching": [str(n) for n in range(11)],
        "not_yet_watching": [],
        "pending_actions": {},
        "watcher_pid": 4020,
        "running": True,
    },
}
HEAD_TEXT = """\
state: running (working)
pid: 4012
uptime: 93784.120000000s (1.09d)
rss: 58.59mb
numVms: 2
queue
  paused: false
  idle: true
  npending: 0
  nqueued: 0
fullRefresh
  lastRefresh: 75.500000000s (1.26m)
  refreshErrors: (1 items)
    - zfs exited (999.000000041s (16.65m))
"""
FULL_TEXT = """\
  refreshLog: (1 items)
    - 2 cacheChanges / 1 vmChanges - 60.000000000s (1m) ago
fswatcher
  running: true
  pid: 4020
  watching: 11
  tryingToWatch: 0
  pendingActions: 0
"""
LISTENER_TEXT = """\
eventsListeners: (1 listeners)
  - demo - host1/77 (/opt/demo.py)
    1b0c8e7a-5d0e-4f57-9a3e-0b6f8f0f3c11 created 8.500000042s (8.5s) ago

"""


def printed_listener(user_agent):
    listener = {"createdAgo": "1s (1s)"} if user_agent is None else {"userAgent": user_agent, "createdAgo": "1s (1s)"}
    status = {**STATUS, "refreshErrors": [], "eventsListeners": {"u": listener}}
    with CannedServer({"/status": answer(status)}) as server:
        return run_tool("vminfo", "status", port=server.port).out.splitlines()[13]


def test_ping_says_pong():
    with CannedServer({"/ping": answer({"ping": "pong"})}) as server:
        assert tuple(run_tool("vminfo", "ping", port=server.port)) == (0, "pong\n", "")
        assert tuple(run_tool("vminfo", "ping", "-jz", "x", port=server.port)) == (0, "pong\n", "")


def test_status_for_people():
    with CannedServer({"/status": answer(STATUS)}) as server:
        assert tuple(run_tool("vminfo", "status", port=server.port)) == (0, HEAD_TEXT + LISTENER_TEXT, "")


def test_full_status_adds_refresh_log_and_file_watcher():
    with CannedServer({"/status?full=true": answer(FULL)}) as server:
        for flag in ("-f", "--full"):
            assert tuple(run_tool("vminfo", "status", flag, port=server.port)) == (
                0,
                HEAD_TEXT + FULL_TEXT + LISTENER_TEXT,
                "",
            )


def test_empty_lists_of_the_status_have_no_line():
    status = {**FULL, "refreshErrors": [], "refreshLog": [], "eventsListeners": {}}
    with CannedServer({"/status": answer(status)}) as server:
        out = run_tool("vminfo", "status", "-f", port=server.port).out
    assert "refreshErrors" not in out
    assert "refreshLog" not in out
    assert out.endswith("eventsListeners: (0 listeners)\n")


def test_status_as_json_and_bundled_options():
    with CannedServer({"/status": answer(STATUS), "/status?full=true": answer(FULL)}) as server:
        for arguments, expected in ((["-j"], STATUS), (["--json"], STATUS), (["-jf"], FULL), (["-f", "-j"], FULL)):
            code, out, err = run_tool("vminfo", "status", *arguments, port=server.port)
            assert (code, err) == (0, "")
            assert out == json.dumps(expected, indent=2) + "\n"


@pytest.mark.parametrize(
    ("user_agent", "shown"),
    [
        ("x\x1b[2J\x07\n", "  - x\\u001b[2J\\u0007\\n"),
        ('he said "hi" \\', '  - he said "hi" \\\\'),
        ("\x9b2J\x7f", "  - \\u009b2J\\u007f"),
        ("zürich", "  - zürich"),
        (None, "  - -"),
    ],
)
def test_user_agent_cannot_drive_the_terminal(user_agent, shown):
    assert printed_listener(user_agent) == shown


def test_vms_and_vm_print_what_came_with_keys_and_numbers_as_they_came():
    body = (
        '[{"zonename":"z1","b":1,"a":[],"10":{},"2":[1,{"x":null}],"big":123456789012345678901234567890,'
        '"f":1.10,"e":1e3,"n":-0,"s":"ü \\u2028 \\/ \\" \\n","lone":"\\ud800","t":true,"f2":false}]'
    )
    printed = """\
[
  {
    "zonename": "z1",
    "b": 1,
    "a": [],
    "10": {},
    "2": [
      1,
      {
        "x": null
      }
    ],
    "big": 123456789012345678901234567890,
    "f": 1.10,
    "e": 1e3,
    "n": 0,
    "s": "ü \u2028 / \\" \\n",
    "lone": "\\ud800",
    "t": true,
    "f2": false
  }
]
"""
    with CannedServer({"/vms": body_answer(body.encode()), "/vms/a%20b": answer({"zonename": "a b"})}) as server:
        assert tuple(run_tool("vminfo", "vms", port=server.port)) == (0, printed, "")
        assert tuple(run_tool("vminfo", "vm", "a b", port=server.port)) == (0, '{\n  "zonename": "a b"\n}\n', "")


def test_output_is_utf_8_in_every_locale():
    shown = '[\n  {\n    "alias": "ü"\n  }\n]\n'
    with CannedServer({"/vms": answer([{"alias": "ü"}])}) as server:
        assert run_tool("vminfo", "vms", port=server.port, LC_ALL="C").out == shown
        assert run_tool("vminfo", "vms", port=server.port, LC_ALL="POSIX", PYTHONUTF8="0").out == shown


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["help"], ["status", "-h"], ["vms", "--help"]])
def test_help_is_usage_and_success(arguments):
    assert tuple(run_tool("vminfo", *arguments)) == (0, USAGE, "")


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        ([], "A command is needed."),
        (["frobnicate"], "Unknown command: frobnicate"),
        (["vm"], "The command vm needs the name of a zone."),
    ],
)
def test_wrong_words_are_followed_by_the_usage(arguments, first):
    assert tuple(run_tool("vminfo", *arguments)) == (1, f"{first}\n\n{USAGE}", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["status", "-z"], "illegal option -- z"),
        (["status", "-jz"], "illegal option -- z"),
        (["vms", "--frob"], "illegal option -- frob"),
        (["events", "-x"], "illegal option -- x"),
        (["-z"], "illegal option -- z"),
    ],
)
def test_unknown_option_is_named(arguments, complaint):
    assert tuple(run_tool("vminfo", *arguments)) == (1, USAGE, complaint + "\n")


def test_unknown_vm_and_refusals_name_the_status():
    with CannedServer({"/vms": plain_answer(500, "no")}) as server:
        assert tuple(run_tool("vminfo", "vm", "nobody", port=server.port)) == (1, "", "bad statusCode: 404\n")
        assert tuple(run_tool("vminfo", "vms", port=server.port)) == (1, "", "bad statusCode: 500\n")


@pytest.mark.parametrize("arguments", [["ping"], ["status"], ["status", "-j"], ["vms"], ["vm", "z"]])
def test_daemon_that_is_down_is_one_line(arguments):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert tuple(run_tool("vminfo", *arguments, port=port)) == (1, "", f"connect ECONNREFUSED 127.0.0.1:{port}\n")


def test_connection_that_breaks_is_one_line():
    with CannedServer({"/ping": [RESET]}) as server:
        code, out, err = run_tool("vminfo", "ping", port=server.port)
    assert (code, out) == (1, "")
    assert err in ("read ECONNRESET\n", "write ECONNRESET\n")


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1", "9090 ", "٣", "999999999999"])
def test_bad_port_in_the_environment_is_explained(port):
    assert tuple(run_tool("vminfo", "ping", VMINFOD_PORT=port)) == (
        1,
        "",
        f'VMINFOD_PORT must be a number from 1 to 65535, not "{port}"\n',
    )


def test_host_of_the_environment_is_used():
    with CannedServer({"/ping": answer({"ping": "pong"})}) as server:
        assert tuple(run_tool("vminfo", "ping", port=server.port, VMINFOD_HOST="localhost")) == (0, "pong\n", "")
        assert server.requests[0].headers["host"] == f"localhost:{server.port}"


def test_host_that_does_not_exist_is_one_line():
    code, out, err = run_tool("vminfo", "ping", VMINFOD_HOST="nowhere.invalid")
    assert (code, out, err) == (1, "", "getaddrinfo ENOTFOUND nowhere.invalid\n")


def test_client_names_itself():
    with CannedServer({"/ping": answer({"ping": "pong"})}) as server:
        run_tool("vminfo", "ping", port=server.port)
        run_tool("vminfo", "ping", port=server.port, VMINFOD_NAME="cn-agent")
        agents = [request.headers["user-agent"] for request in server.requests]
    assert agents[0].startswith(f"Vminfod CLI - {socket.gethostname()}/")
    assert agents[1].startswith(f"cn-agent (Vminfod CLI) - {socket.gethostname()}/")
    assert agents[0].endswith(f" ({os.path.abspath(tool_path('vminfo'))})")


def test_answer_that_is_no_json_is_logged_and_said():
    with CannedServer({"/vms": body_answer(b"{")}) as server:
        code, out, err = run_tool("vminfo", "vms", port=server.port)
    record, message = err.splitlines()
    assert (code, out) == (1, "")
    assert json.loads(record)["level"] == 50
    assert json.loads(record)["path"] == "/vms"
    assert message.startswith("Expecting property name")


def test_reader_that_goes_away_ends_it_quietly():
    with CannedServer({"/vms": answer([{"alias": "x" * 100}] * 20000)}) as server:
        done = subprocess.run(
            f"'{tool_path('vminfo')}' vms | head -1; echo ${{PIPESTATUS[0]}}",
            shell=True,
            executable="/bin/bash",
            env=environment(server.port),
            capture_output=True,
            timeout=SOON,
            check=False,
        )
    assert done.stdout == b"[\n0\n"
    assert done.stderr == b""


def test_status_of_a_daemon_in_trouble_begins_with_the_verdict_and_ends_with_1():
    reasons = ["zpoolwatcher down 40 s", "1 VM unreadable: a\x1b[31m"]
    with CannedServer({"/status": answer({**STATUS, "health": {"status": "degraded", "reasons": reasons}})}) as server:
        assert tuple(run_tool("vminfo", "status", port=server.port)) == (
            1,
            "DEGRADED: zpoolwatcher down 40 s; 1 VM unreadable: a\\u001b[31m\n" + HEAD_TEXT + LISTENER_TEXT,
            "",
        )
        as_json = run_tool("vminfo", "status", "-j", port=server.port)
    assert (as_json.code, json.loads(as_json.out)["health"]["reasons"], as_json.err) == (1, reasons, "")


def test_status_of_a_daemon_that_is_well_says_no_more_than_before():
    with CannedServer({"/status": answer({**STATUS, "health": {"status": "ok", "reasons": []}})}) as server:
        assert tuple(run_tool("vminfo", "status", port=server.port)) == (0, HEAD_TEXT + LISTENER_TEXT, "")
        assert run_tool("vminfo", "status", "-j", port=server.port).code == 0
