# SPDX-License-Identifier: MPL-2.0
"""`vminfo transaction UUID -- COMMAND`: the command runs as if alone, and what it changes of the VM is one event."""

import contextlib
import os
import pty
import signal
import subprocess

import pytest

from support.canned_server import HANG, CannedServer
from support.oldvminfod import without_socket, without_transactions
from support.running_daemon import SBIN, eventually
from support.tools import LIMIT, environment, run_tool, unhurried
from support.writing import NOBODY

pytest_plugins = ["support.writers"]

NOT_HELD = 125
VMINFO = os.path.join(SBIN, "vminfo")


@pytest.fixture(scope="module")
def uuid(cn):
    return cn.add(alias="held", quota=10)


@pytest.fixture
def events(cn):
    opened = cn.daemon.events("?vms=false&types=modify")
    yield opened
    opened.close()


def start(cn, *words, port=None, **more):
    pipes = dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.PIPE)
    return subprocess.Popen(
        [VMINFO, "transaction", *words], env=environment(port, VMADM_ROOT=cn.root), text=True, **{**pipes, **more}
    )


def run(cn, *words, stdin="", **more):
    """(exit status, stdout, stderr)"""
    with start(cn, *words, **more) as child:
        out, err = child.communicate(stdin, timeout=LIMIT)
        return child.returncode, out, unhurried(err)


def zfs_quota(cn, uuid, gib):
    return f"{cn.root}/usr/sbin/zfs set quota={gib}G zones/{uuid}"


def paths(event):
    return {change["prettyPath"] for change in event["changes"]} - {"last_modified"}


def test_zfs_zonecfg_and_cp_are_one_event(cn, uuid, events, tmp_path):
    (tmp_path / "tags.json").write_text('{"copied": true}')
    config = f"{cn.root}/zones/{uuid}/config"
    os.makedirs(config, exist_ok=True)
    script = f"""
        set -e
        {zfs_quota(cn, uuid, 21)}
        {cn.root}/usr/sbin/zonecfg -z {uuid} 'set limitpriv=default,dtrace_user'
        cp {tmp_path}/tags.json {config}/tags.json
        {SBIN}/vminfo vm {uuid} | grep '"quota"'
    """
    assert run(cn, uuid, "--", "sh", "-c", script) == (0, '  "quota": 10,\n', "")
    event = events.next()
    assert paths(event) == {"quota", "limit_priv", "tags.copied"}
    assert (event["cause"]["command"], event["vm"]["quota"]) == ("vminfo transaction sh", 21)
    assert cn.vm(uuid) == event["vm"]


def test_streams_and_words_are_the_commands_own(cn, uuid):
    script = 'cat; printf "%s|" "$@" >&2'
    done = run(cn, uuid, "--limit", "30", "--", "sh", "-c", script, "sh", "-l", "--", "a b", stdin="given\n")
    assert done == (0, "given\n", "-l|--|a b|")


@pytest.mark.parametrize(
    "words, status",
    [
        (["true"], 0),
        (["false"], 1),
        (["sh", "-c", "exit 77"], 77),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL),
    ],
)
def test_exit_status_is_the_commands(cn, uuid, words, status):
    assert run(cn, uuid, "--", *words) == (status, "", "")


def test_command_that_is_not_there_or_cannot_be_run_is_said_as_a_shell_does(cn, uuid, tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("no program")
    assert run(cn, uuid, "--", "no-such-command") == (127, "", "no-such-command: not found\n")
    assert run(cn, uuid, "--", "") == (127, "", '"": not found\n')
    assert run(cn, uuid, "--", str(plain)) == (126, "", f"{plain}: cannot be run: Permission denied\n")
    plain.write_text('echo "a script without its first line, $1"')
    plain.chmod(0o755)
    assert run(cn, uuid, "--", str(plain), "x") == (0, "a script without its first line, x\n", "")
    assert cn.daemon.status()["transactions"] == []


def test_command_that_writes_to_a_closed_pipe_ends_as_in_any_shell(cn, uuid):
    assert run(cn, uuid, "--", "sh", "-c", "yes | head -1") == (0, "y\n", "")


def test_command_that_fails_halfway_leaves_one_event_of_what_it_did(cn, uuid, events):
    assert run(cn, uuid, "--", "sh", "-c", f"{zfs_quota(cn, uuid, 22)}; exit 9")[0] == 9
    event = events.next()
    assert (paths(event), event["vm"]["quota"]) == ({"quota"}, 22)
    assert "aborted" not in event["cause"]


class Waiting:
    """A command that has set a quota and then waits for a signal. `.child`: vminfo."""

    def __init__(self, cn, uuid, gib, trap="", **more):
        script = f"{trap} {zfs_quota(cn, uuid, gib)}; echo ready; while :; do sleep 0.05; done"
        self.child = start(cn, uuid, "--", "sh", "-c", script, start_new_session=True, **more)
        assert self.child.stdout.readline() == "ready\n"

    def end(self):
        out, err = self.child.communicate(timeout=LIMIT)
        return self.child.returncode, out, unhurried(err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signal_to_vminfo_alone_is_passed_on_and_the_vm_published(cn, uuid, events, number):
    gib = 100 + number
    waiting = Waiting(cn, uuid, gib, trap=f"trap 'echo caught; exit 5' {int(number)};")
    assert cn.vm(uuid)["quota"] != gib
    waiting.child.send_signal(number)
    assert waiting.end() == (5, "caught\n", "")
    assert events.next()["vm"]["quota"] == gib == cn.vm(uuid)["quota"]


def test_ctrl_c_on_a_terminal_reaches_the_command_once(cn, uuid, events):
    ours, theirs = pty.openpty()

    def take_terminal():
        os.setsid()
        import fcntl
        import termios

        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    loop = 'while [ -z "$n" ]; do sleep 0.05; done; exit 0'
    script = f"trap 'echo caught; n=1' INT; {zfs_quota(cn, uuid, 200)}; echo ready; {loop}"
    child = subprocess.Popen(
        [VMINFO, "transaction", uuid, "--", "sh", "-c", script],
        env=environment(VMADM_ROOT=cn.root),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=take_terminal,
    )
    with child, contextlib.closing(os.fdopen(ours, "wb", 0)) as keyboard:
        os.close(theirs)
        assert child.stdout.readline() == "ready\n"
        keyboard.write(b"\x03")
        assert child.stdout.read() == "caught\n"
        assert child.wait(LIMIT) == 0
    assert events.next()["vm"]["quota"] == 200


def test_command_that_ctrl_c_ends_is_published_too(cn, uuid, events):
    waiting = Waiting(cn, uuid, 201)
    os.killpg(waiting.child.pid, signal.SIGINT)
    assert waiting.end()[0] == 128 + signal.SIGINT
    event = events.next()
    assert (event["vm"]["quota"], "aborted" in event["cause"]) == (201, False)


def test_vminfo_that_is_killed_ends_the_transaction_while_the_command_goes_on(cn, uuid, events):
    waiting = Waiting(cn, uuid, 202)
    try:
        waiting.child.kill()
        event = events.next()
        assert (event["vm"]["quota"], event["cause"]["aborted"]) == (202, True)
    finally:
        os.killpg(waiting.child.pid, signal.SIGKILL)
        waiting.end()


def test_past_its_limit_the_vm_is_published_and_the_command_goes_on(cn, uuid, events, tmp_path):
    begin, go_on = tmp_path / "begin", tmp_path / "go-on"
    wait = "until [ -e {} ]; do sleep 0.05; done"
    script = f"{wait.format(begin)}; {zfs_quota(cn, uuid, 203)}; echo done; {wait.format(go_on)}; exit 6"
    child = start(cn, "-l", "2", uuid, "--", "sh", "-c", script)
    eventually("it is open", lambda: cn.daemon.status()["transactions"])
    cn.daemon.process.send_signal(signal.SIGSTOP)  # until the change is made: it is to find it when the time is up
    begin.write_text("")
    assert child.stdout.readline() == "done\n"
    cn.daemon.process.send_signal(signal.SIGCONT)
    event = events.next()
    assert (event["vm"]["quota"], event["cause"]["expired"]) == (203, True)
    go_on.write_text("")
    out, err = child.communicate(timeout=LIMIT)
    assert (child.returncode, out) == (6, "")
    assert unhurried(err).startswith("not all that the command changed came as one event: the transaction has ended: ")


def test_status_lists_it_with_age_pid_and_command(cn, uuid):
    waiting = Waiting(cn, uuid, 204)
    try:
        shown = subprocess.run(
            [VMINFO, "status"], env=environment(VMADM_ROOT=cn.root), capture_output=True, text=True, check=True
        ).stdout
        line = next(line for line in shown.splitlines() if line.startswith(f"  - {uuid} open for "))
        assert f" s of 60 s by pid {waiting.child.pid} uid {os.getuid()} req_id " in line
        assert line.endswith(": vminfo transaction sh")
    finally:
        waiting.child.terminate()
        waiting.end()


def test_id_of_the_request_is_in_the_cause(cn, uuid, events):
    with start(cn, uuid, "--", "env", "-u", "REQ_ID", "sh", "-c", zfs_quota(cn, uuid, 205)) as child:
        child.communicate(timeout=LIMIT)
    assert events.next()["cause"]["req_id"] is None
    done = subprocess.run(
        [VMINFO, "transaction", uuid, "--", "sh", "-c", zfs_quota(cn, uuid, 206)],
        env=environment(VMADM_ROOT=cn.root, REQ_ID="r-77"),
        check=False,
    )
    assert done.returncode == 0
    assert events.next()["cause"]["req_id"] == "r-77"


def test_second_one_waits_for_its_turn_and_says_for_whom(cn, uuid):
    waiting = Waiting(cn, uuid, 207)
    second = start(cn, uuid, "--", "echo", "ran")
    line = next(line for line in second.stderr if " is held by " in line)
    assert f": VM {uuid} is held by `vminfo transaction sh`, pid {waiting.child.pid}, for " in line
    waiting.child.terminate()
    waiting.end()
    assert second.communicate(timeout=LIMIT)[0] == "ran\n"
    assert second.returncode == 0


def test_nothing_is_run_where_there_is_no_transaction(cn, uuid, tmp_path):
    ran = tmp_path / "ran"
    touch = ("--", "touch", str(ran))
    with without_socket(cn.root):
        for port in (None, cn.daemon.port):
            code, out, err = run(cn, uuid, *touch, port=port)
            assert (code, out) == (NOT_HELD, "")
            assert err.startswith("no transactions here: they need vminfod's unix socket, ")
            assert err.endswith("; nothing was run\n")
    with without_transactions(cn.root):
        code, _, err = run(cn, uuid, *touch)
        assert (code, err) == (
            NOT_HELD,
            f"no transactions here: the vminfod at {cn.root}/var/run/vminfod.sock is an older one, which knows none; "
            "nothing was run\n",
        )
    assert run(cn, NOBODY, *touch) == (NOT_HELD, "", f"VM {NOBODY} not found; nothing was run\n")
    assert not ran.exists()


def test_vminfod_that_goes_meanwhile_is_said_and_the_status_is_still_the_commands(own_cn, tmp_path):
    uuid = own_cn.add(quota=10)
    waiting = Waiting(own_cn, uuid, 30, trap="trap 'exit 4' TERM;")
    own_cn.daemon.stop(signal.SIGKILL)
    waiting.child.terminate()
    code, _, err = waiting.end()
    assert (code, err.partition(":")[0]) == (
        4,
        f"the command has run, but vminfod did not say that VM {uuid} is published",
    )


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "The command transaction needs the name of a zone."),
        (["U"], "The command transaction needs a command that it can run."),
        (["U", "--"], "The command transaction needs a command that it can run."),
        (["U", "-l", "0", "--", "true"], 'A limit is a number of seconds from 1 to 600, not "0".'),
        (["U", "--limit=601", "true"], 'A limit is a number of seconds from 1 to 600, not "601".'),
        (["--limit", "1e2", "U", "true"], 'A limit is a number of seconds from 1 to 600, not "1e2".'),
    ],
)
def test_wrong_words_are_said_before_anything_is_asked(words, said):
    done = subprocess.run(
        [VMINFO, "transaction", *words], env=environment(1), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split("\n")[0], done.stderr) == (1, said, "")


def test_help_is_the_usage(cn):
    code, out, _ = run(cn, "--help")
    assert (code, "transaction <zonename> [-l <seconds>] -- <command>" in out) == (0, True)


def test_one_within_another_on_the_same_vm_says_so_at_once(cn, uuid):
    """It would wait for itself until the limit of the outer one."""
    status, out, err = run(cn, uuid, "--", VMINFO, "transaction", uuid, "--", "echo", "ran")
    assert (status, out) == (NOT_HELD, "")
    assert err.startswith(
        f"VM {uuid} is held by the transaction in which this command runs (`vminfo transaction vminfo`"
    )
    assert err.endswith("; nothing was run\n")


def test_one_within_another_on_another_vm_runs_and_knows_of_both(cn, uuid):
    other = cn.add(alias="other")
    inner = [VMINFO, "transaction", other, "--"]
    assert run(cn, uuid, "--", *inner, "echo", "ran") == (0, "ran\n", "")
    status, out, err = run(cn, uuid, "--", *inner, VMINFO, "transaction", uuid, "--", "echo", "ran")
    assert (status, out) == (NOT_HELD, "")
    assert err.startswith(f"VM {uuid} is held by the transaction in which this command runs (")


@pytest.mark.long
def test_daemon_at_a_port_that_does_not_answer_is_waited_for_aloud_and_not_for_ever(cn, uuid):
    with CannedServer({"/ping": [HANG]}) as server:
        more = {"VMADM_ROOT": cn.root, "VMINFOD_TIMEOUT": "4"}
        done = run_tool("vminfo", "transaction", uuid, "--", "echo", "run", port=server.port, **more)
    assert done.waited == [f"waiting for vminfod to answer GET /ping (VM {uuid})"]
    why = f"cannot open a transaction on VM {uuid}: GET /ping timeout exceeded; nothing was run\n"
    assert tuple(done) == (NOT_HELD, "", why)


@pytest.mark.long
def test_stopped_daemon_is_waited_for_aloud(cn, uuid):
    os.kill(cn.daemon.process.pid, signal.SIGSTOP)
    try:
        with start(cn, uuid, "--", "echo", "run") as child:
            said = child.stderr.readline()
            os.kill(cn.daemon.process.pid, signal.SIGCONT)
            out, err = child.communicate(timeout=LIMIT)
    finally:
        os.kill(cn.daemon.process.pid, signal.SIGCONT)
    assert said == "waiting for vminfod to answer POST /transactions\n"
    assert (child.returncode, out, err) == (0, "run\n", "")
