# SPDX-License-Identifier: MPL-2.0
"""`vmadm get` and `json`, and what holds for every command: usage, unknown words, no daemon."""

import socket
import subprocess

import pytest

from support.canned_server import HANG, CannedServer, answer, body_answer, plain_answer
from support.deadlines import SOON
from support.tools import environment, run_tool, start_tool, tool_path

U = "0c6f1f0e-0000-4000-8000-00000000000a"
NONE = "ffffffff-0000-4000-8000-00000000000f"

USAGE = """\
Usage: vmadm <command> [options]

create [-f <file>]
create-snapshot <uuid> <snapshot>
console [--serial|--vnc] <uuid>
delete <uuid>
delete-snapshot <uuid> <snapshot>
events [-fjr] [uuid]
get <uuid>
info <uuid> [type,...]
install <uuid>
kill [-s <signal>|-<signal>] <uuid>
list [-p] [-H] [-o field,...] [-s field,...] [field=value ...]
lookup [-j] [-1] [-o field,...] [field=value ...]
reboot [-F] <uuid>
receive [-f <file>]
reprovision [-f <file>] <uuid>
rollback-snapshot <uuid> <snapshot>
send <uuid> [target]
start <uuid> [option=value ...]
stop [-F] [-t <seconds>] <uuid>
sysrq <uuid> <nmi|screenshot>
update [-f <file>] <uuid>
    or update <uuid> property=value [property=value ...]
validate create [-f <file>]
validate update <brand> [-f <file>]

The manual page vmadm(8) explains each of them.
"""


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.mark.parametrize("command", ["get", "json"])
def test_object_is_printed_as_it_came(command):
    body = f'{{"zonename":"{U}","b":"\\u00fc/","a":[],"t":{{}},"n":null,"q":9007199254740993,"f":0.50}}'
    printed = f"""\
{{
  "zonename": "{U}",
  "b": "ü/",
  "a": [],
  "t": {{}},
  "n": null,
  "q": 9007199254740993,
  "f": 0.50
}}
"""
    with CannedServer({f"/vms/{U}": body_answer(body.encode())}) as server:
        assert tuple(run_tool("vmadm", command, U, "ignored", "-v", port=server.port)) == (0, printed, "")


def test_unknown_uuid_has_the_text_that_agents_match():
    with CannedServer({"/vms": answer([{"zonename": "z", "uuid": U}])}) as server:
        assert tuple(run_tool("vmadm", "get", NONE, port=server.port)) == (
            1,
            "",
            f"zoneadm: {NONE}: No such zone configured\n",
        )


def test_vm_whose_zone_is_not_named_by_its_uuid_is_found():
    vm = {"zonename": "oldstyle", "uuid": U}
    with CannedServer({"/vms": answer([{"zonename": "z", "uuid": NONE}, vm])}) as server:
        assert tuple(run_tool("vmadm", "get", U, port=server.port)) == (
            0,
            f'{{\n  "zonename": "oldstyle",\n  "uuid": "{U}"\n}}\n',
            "",
        )


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("get", []),
        ("get", ["bogus"]),
        ("json", ["bogus"]),
        ("get", [U + "0"]),
        ("get", [U.replace("-", "x")]),
        ("get", [""]),
    ],
)
def test_word_that_is_no_uuid_is_wrong_usage(command, words):
    code, out, err = run_tool("vmadm", command, *words)
    assert (code, out, err) == (2, "", f"Invalid or missing UUID for {command}\n{USAGE}")


def test_shape_of_a_uuid_is_all_that_counts():
    word = "zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz"
    with CannedServer({"/vms": answer([])}) as server:
        code, _, err = run_tool("vmadm", "get", word, port=server.port)
    assert (code, err) == (1, f"zoneadm: {word}: No such zone configured\n")


def test_refusal_names_the_status():
    with CannedServer({f"/vms/{U}": plain_answer(500, "no")}) as server:
        assert tuple(run_tool("vmadm", "get", U, port=server.port)) == (1, "", "bad statusCode: 500\n")


@pytest.mark.parametrize("body", [b"", b"<html>", b"{"])
def test_answer_that_is_no_json_is_one_line(body):
    with CannedServer({f"/vms/{U}": body_answer(body)}) as server:
        code, out, err = run_tool("vmadm", "get", U, port=server.port)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["list"], ["lookup"], ["get", U], ["list", "-p"]])
def test_daemon_that_is_down_is_one_line(words):
    port = closed_port()
    assert tuple(run_tool("vmadm", *words, port=port)) == (
        1,
        "",
        f"cannot reach vminfod: connect ECONNREFUSED 127.0.0.1:{port}\n",
    )


def test_bad_port_in_the_environment_is_explained():
    assert tuple(run_tool("vmadm", "list", VMINFOD_PORT="http")) == (
        1,
        "",
        'VMINFOD_PORT must be a number from 1 to 65535, not "http"\n',
    )


@pytest.mark.parametrize("word", ["help", "-h", "-?"])
def test_help_is_usage_on_stdout(word):
    assert tuple(run_tool("vmadm", word)) == (0, USAGE, "")


def test_no_command_is_usage_on_stderr():
    assert tuple(run_tool("vmadm")) == (2, "", USAGE)


@pytest.mark.parametrize("word", ["frobnicate", "--helpless", "LIST", ""])
def test_unknown_command_is_named(word):
    assert tuple(run_tool("vmadm", word)) == (2, "", f'Invalid command: "{word}".\n{USAGE}')


def test_reader_that_goes_away_is_no_failure():
    with CannedServer({"/vms": answer([{"uuid": U, "alias": "x" * 100}] * 20000)}) as server:
        done = subprocess.run(
            f"'{tool_path('vmadm')}' list -Ho uuid | head -1; echo ${{PIPESTATUS[0]}}",
            shell=True,
            executable="/bin/bash",
            env=environment(server.port),
            capture_output=True,
            timeout=SOON,
            check=False,
        )
    assert done.stdout.decode() == f"{U}\n0\n"
    assert done.stderr == b""


def test_stdout_that_cannot_be_written_is_one_line():
    with CannedServer({"/vms": answer([])}) as server, open("/dev/full", "wb") as full:
        done = subprocess.run(
            [tool_path("vmadm"), "list"],
            env=environment(server.port),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=SOON,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"cannot write: No space left on device\n")


def test_interrupt_ends_it_quietly():
    with CannedServer({"/vms": [HANG]}) as server:
        tool = start_tool("vmadm", "list", port=server.port)
        server.wait_for_requests(1)
        tool.send_signal(2)
        out, err = tool.communicate(timeout=SOON)
    assert (tool.returncode, out, err) == (130, b"", b"")


def test_tool_runs_through_a_symbolic_link(tmp_path):
    link = tmp_path / "vmadm"
    link.symlink_to(tool_path("vmadm"))
    done = subprocess.run([link, "help"], env=environment(), capture_output=True, timeout=SOON, check=False)
    assert done.stdout.decode() == USAGE
