# SPDX-License-Identifier: MPL-2.0
"""What holds for every command that changes a VM: where it may run, its input, its log, its place in the library."""

import json
import os
import pty
import subprocess

import pytest

import vmadm
from support.deadlines import SOON
from support.tools import environment, run_tool, tool_path
from support.writing import NOBODY

pytest_plugins = ["support.writers"]


@pytest.mark.parametrize("words", [["create"], ["update", NOBODY, "alias=x"], ["stop", NOBODY], ["delete", NOBODY]])
def test_without_a_node_nothing_is_written(words):
    done = run_tool("vmadm", *words)
    assert tuple(done) == (
        2,
        "",
        "FATAL: cannot run because: this is not SmartOS (VMADM_ROOT names the folder of a mock node)\n",
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["create"], "Will not create from stdin when stdin is a tty."),
        (["update", NOBODY], "Will not update from stdin when stdin is a tty."),
        (["validate", "create"], "Will not validate from stdin when stdin is a tty."),
    ],
)
def test_payload_is_not_typed_in(words, text):
    master, slave = pty.openpty()
    done = subprocess.run(
        [tool_path("vmadm"), *words],
        stdin=slave,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )
    os.close(master)
    os.close(slave)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[0]) == (2, "", text)


@pytest.mark.parametrize("words", [["stop", "-x", NOBODY], ["create", "-f"], ["stop", "-t", "soon", NOBODY]])
def test_wrong_options(words):
    done = run_tool("vmadm", *words)
    assert (done.code, done.out) == (2, "")
    assert "Usage: vmadm" in done.err


def test_options_without_effect_are_accepted_everywhere(cn):
    uuid = cn.add()
    assert cn.ok("update", "-v", uuid, "-d", "alias=x") == f"Successfully updated VM {uuid}"


def logs(cn):
    folder = f"{cn.root}/var/log/vm/logs"
    found = []
    for name in sorted(os.listdir(folder)):
        assert name.endswith("-vmadm.log")
        with open(f"{folder}/{name}") as file:
            found.append([json.loads(line) for line in file])
    return found


def test_each_write_has_a_log_of_its_own(own_cn):
    uuid = own_cn.add()
    own_cn.vmadm("update", uuid, "alias=secret", REQ_ID="request-1")
    own_cn.vmadm("update", NOBODY, "alias=x")
    first, second = logs(own_cn)
    assert [record["msg"] for record in first] == ["begin", "done"]
    assert {(record["name"], record["req_id"]) for record in first} == {("vmadm", "request-1")}
    assert first[0]["command"] == f"vmadm update {uuid}"
    assert "secret" not in json.dumps(first)
    assert (second[-1]["msg"], second[-1]["err"]) == ("failed", f"VM {NOBODY} not found")


def test_log_that_cannot_be_written_stops_nothing(own_cn):
    uuid = own_cn.add()
    os.makedirs(f"{own_cn.root}/var/log/vm")
    with open(f"{own_cn.root}/var/log/vm/logs", "w"):
        pass
    own_cn.ok("update", uuid, "alias=x")


def test_debug_records_come_before_the_line_that_counts(cn):
    uuid = cn.add()
    done = cn.vmadm("update", uuid, "alias=x", VMADM_DEBUG_LEVEL="debug")
    *records, last = done.err.splitlines()
    assert last == f"Successfully updated VM {uuid}"
    assert {json.loads(record)["name"] for record in records} == {"vmadm"}


@pytest.mark.pure
def test_library_is_found_under_the_packages_own_name():
    names = [
        "create",
        "update",
        "delete",
        "start",
        "stop",
        "reboot",
        "kill",
        "create_snapshot",
        "delete_snapshot",
        "rollback_snapshot",
        "validate",
        "console",
        "sysrq",
    ]
    for _ in range(2):  # the first look imports modules, which must not hide the functions
        assert all(callable(getattr(vmadm, name)) for name in names)
    with pytest.raises(AttributeError):
        vmadm.no_such_thing  # noqa: B018


def test_update_gives_the_vm_as_everybody_sees_it(cn):
    uuid = cn.add()
    vm = cn.api.update(uuid, {"alias": "one"}, quota=20)
    assert (vm["alias"], vm["quota"]) == ("one", 20)
    assert vm == cn.vm(uuid)
