# SPDX-License-Identifier: MPL-2.0
"""How the daemon begins and ends: what it refuses, in which words, with which exit status; that it leaves nothing
behind; and what it writes into its log."""

import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from mockcn import process
from support.deadlines import SOON
from support.examples import more
from support.ports import free_port
from support.processes import children_of, gone
from support.running_daemon import SBIN, RunningDaemon, eventually
from vminfod.main import main, start

pytest_plugins = ["support.onenode"]

SMF_WAITS = 60.0  # seconds for the stop method
BUNYAN = ["name", "hostname", "pid"]
SECRET = "s3cr3t-that-no-log-may-hold"


@pytest.fixture
def node(one_node):
    """One for all tests of this file, well again after each."""
    yield one_node
    one_node.control.clear_faults()


def vminfod(*words):
    """The program, run to its end, for starts that must fail."""
    return subprocess.run(
        [sys.executable, os.path.join(SBIN, "vminfod"), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )


def refused(root, *options, **more):
    """A start on a node that must fail: its line, and the records of its log."""
    daemon = RunningDaemon(root, *options, **more).start(wait=False)
    assert daemon.wait() == 1
    return one_line(daemon.stderr.decode()), daemon.log()


def one_line(text):
    assert text.endswith("\n") and text.count("\n") == 1, text
    assert "Traceback" not in text
    return text.rstrip("\n")


# Starts that are refused.


@pytest.mark.skipif(sys.platform == "sunos5", reason="this is about everywhere else")
def test_without_a_root_it_runs_on_smartos_only():
    ended = vminfod("--port", str(free_port()))
    assert ended.returncode == 1
    assert "not SmartOS" in one_line(ended.stderr)
    assert [json.loads(line)["level"] for line in ended.stdout.splitlines()] == [50]


def test_wrong_option_ends_the_program_with_2_and_is_named():
    ended = vminfod("--nonsense")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("usage: vminfod")
    assert "nonsense" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [
        ["--port", "65536"],
        ["--refresh-interval", "nan"],
        ["--log-level", "loud"],
        ["--listener-backlog-bytes", "-1"],
        ["surplus"],
    ],
)
def test_wrong_options_end_with_2_and_say_which(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("usage: vminfod")
    assert words[0].lstrip("-") in printed.err.splitlines()[-1]


def test_folder_that_is_not_there_is_named(tmp_path):
    ended = vminfod("--root", str(tmp_path / "nowhere"))
    assert ended.returncode == 2
    assert f"there is no folder {tmp_path / 'nowhere'}" in ended.stderr


def test_folder_that_is_no_node_is_refused_in_one_line(tmp_path):
    line, _ = refused(str(tmp_path), "--child-limit", "0.2")
    assert "zoneadm" in line and "No such file" in line


def test_port_in_use_is_reported_in_one_line(quiet_node):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line, _ = refused(quiet_node.root, port=port)
    assert f"port {port} on 127.0.0.1 is in use" in line


def test_second_daemon_does_not_share_the_port_of_the_first(quiet_node, quiet_daemon):
    line, _ = refused(quiet_node.root, port=quiet_daemon.port)
    assert "is in use" in line


@pytest.mark.parametrize("ip", ["203.0.113.7", "no-such-host.invalid", "1.2.3"])
def test_address_that_cannot_be_had_is_reported_in_one_line(quiet_node, ip):
    line, _ = refused(quiet_node.root, "--ip", ip)
    assert ip in line


def test_start_that_a_tool_prevents_is_reported_once_as_what_it_is(node):
    node.control.fault("zfs", "fail", stderr="no memory\n", times=None)
    line, log = refused(node.root)
    assert "cannot load the node: zfs exited" in line
    assert [record["msg"] for record in log if record["level"] >= 50] == ["cannot start"]


# Starts.


def test_bottle_that_cannot_be_imported_is_reported_in_one_line(node, tmp_path):
    """It is imported while the node is read, and not with all else."""
    (tmp_path / "bottle.py").write_text("import no_such_module\n")
    line, _ = refused(node.root, environ={"PYTHONPATH": str(tmp_path)})
    assert line.startswith("vminfod: the Python module no_such_module is not there for ")


def test_daemon_listens_on_each_address_it_was_given(quiet_node):
    words = ["--ip", "127.0.0.1", "--ip", "127.0.0.2", "--ip", "127.0.0.1"]
    with RunningDaemon(quiet_node.root, *words).start() as daemon:
        for ip in ("127.0.0.1", "127.0.0.2"):
            with socket.create_connection((ip, daemon.port), timeout=SOON) as connection:
                connection.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.3", daemon.port), timeout=SOON)


def test_whoever_can_connect_gets_complete_data(node):
    """The port opens last: the first answer there is has all VMs in it."""
    node.control.fault("zfs", "hold")
    with RunningDaemon(node.root).start(wait=False) as daemon:
        eventually("it loads", lambda: node.control.held("zfs"))
        assert not daemon.listens()
        node.control.step("zfs")
        eventually("it listens", daemon.listens)
        assert len(daemon.vms()) == 30
        assert daemon.status()["state"] == "running"


# A file watcher that tells of no change, and changes each tags.json itself in the moment when it begins to watch it.
WRITING_WATCHER = """#!{python}
import json, sys, time
def say(**message):
    print(json.dumps(dict(message, time=[0, time.monotonic_ns()])), flush=True)
say(type="ready")
for line in sys.stdin:
    key, command, path = line.split()
    if path.endswith("/tags.json"):
        try:
            with open({root!r} + path, "r+") as file:
                file.truncate()
                json.dump(dict(watched=True), file)
        except FileNotFoundError:
            pass
    say(type="response", key=int(key), code=0)
"""


def test_no_file_is_read_before_it_is_watched(tmp_path):
    """More zones than the watcher is asked for at once."""
    watcher = tmp_path / "fswatcher"
    with process.start(str(tmp_path / "node"), vms=120) as node:
        watcher.write_text(WRITING_WATCHER.format(python=sys.executable, root=node.root))
        watcher.chmod(0o755)
        had_tags = {vm["uuid"] for vm in node.control.vms() if os.path.exists(tags_of(node, vm))}
        with RunningDaemon(node.root, environ={"FSWATCHER_CMD": str(watcher)}).start() as daemon:
            tags = {vm["uuid"]: vm["tags"] for vm in daemon.vms() if vm["uuid"] in had_tags}
    assert len(tags) == len(had_tags) > 50
    assert [uuid for uuid in tags if tags[uuid] != {"watched": True}] == []


def tags_of(node, vm):
    return f"{node.root}{vm['zonepath']}/config/tags.json"


def test_daemon_takes_its_port_back_at_once(quiet_node):
    with RunningDaemon(quiet_node.root).start() as first:
        connection = first.raw()
        connection.send(b"GET /ping HTTP/1.1\r\n\r\n").answer()
        assert first.stop() == 0
    with RunningDaemon(quiet_node.root, port=first.port).start() as second:
        assert second.answers()


# Ends.


@pytest.mark.usefixtures("as_programs")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_cleanly_with_open_streams(node, number):
    with RunningDaemon(node.root).start() as daemon:
        children = eventually("only the three run", lambda: len(pids := children_of(daemon.process.pid)) == 3 and pids)
        streams = [daemon.events() for _ in range(5)]
        idle = daemon.raw()
        assert daemon.stop(number, within=SMF_WAITS) == 0
        for stream in streams:
            with pytest.raises(ConnectionError, match="the stream ended"):
                stream.next()  # in good order: with its last chunk
        assert idle.answer() is None
        assert gone(children)
        assert daemon.stderr == b""
        said = [(record["level"], record["msg"]) for record in daemon.log()]
        assert said[-1] == (30, "stopped")
        assert [msg for level, msg in said[said.index((30, "stopping")) :] if level >= 40] == []


def test_signal_ends_it_while_a_zfs_hangs(node):
    with RunningDaemon(node.root).start() as daemon:
        uuid = daemon.vms()[0]["uuid"]
        node.control.fault("zfs", "hang", match=uuid, times=None)
        daemon.events()
        busy = daemon.raw().send(f"GET /vms/{uuid}?fresh=true HTTP/1.1\r\n\r\n".encode())
        [zfs] = eventually("zfs hangs", lambda: node.control.children("zfs"))
        assert daemon.stop(within=SMF_WAITS) == 0
        assert gone([zfs["pid"]])
        busy.close()


@pytest.mark.parametrize("tool", ["zfs", "zoneadm", "kstat", "sysevent", "fswatcher"])
def test_signal_ends_the_first_load_too(node, tool):
    """A node whose zfs hangs at the start must not keep SMF from stopping the service."""
    node.control.fault(tool, "hang", times=None)
    with RunningDaemon(node.root).start(wait=False) as daemon:
        hanging = eventually(f"{tool} hangs", lambda: node.control.children(tool))
        assert daemon.stop(within=SMF_WAITS) == 0
        assert gone([child["pid"] for child in hanging])
        assert daemon.stderr == b""


# Its log.


def test_log_is_bunyan(node):
    with RunningDaemon(node.root).start() as daemon:
        daemon.get("/ping", {"User-Agent": "log test"})
        daemon.get("/status", {"User-Agent": "log test"})
        daemon.raw().send(b"nonsense\r\n\r\n").answer()
        node.control.churn(20, seed=1, kinds=["alias", "config", "boot", "halt", "zfs_set", "snapshot"])
        node.control.raw_line("garbage\n")
        eventually("the garbage was skipped", lambda: daemon.logged("skipped a line"))
        daemon.stop()
        records = daemon.log()
    assert len(records) > 50
    for record in records:
        names = list(record)
        assert names[:3] == BUNYAN and names[-3:] == ["msg", "time", "v"], names
        assert record["name"] == "vminfod" and record["pid"] == daemon.process.pid and record["v"] == 0
        assert record["level"] in (10, 20, 30, 40, 50, 60)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])
    tasks = [record for record in records if "task" in record]
    assert tasks and all(list(record).index("task") < list(record).index("level") for record in tasks)
    ours = [record for record in records if record.get("req", {}).get("headers", {}).get("user-agent") == "log test"]
    assert all(list(record["req"]) == ["method", "url", "headers", "remoteAddress", "remotePort"] for record in ours)
    assert [(record["req"]["url"], record["level"]) for record in ours] == [("/ping", 20), ("/status", 20)]


@pytest.mark.parametrize("level", ["trace", *more("debug")])
def test_log_holds_no_metadata(node, level):
    """Whatever is done with it: metadata are secrets, and logs are copied."""
    with RunningDaemon(node.root, "--log-level", level, "--refresh-interval", "1").start() as daemon:
        uuid = next(vm["uuid"] for vm in daemon.vms() if vm["uuid"] == vm["zonename"])
        control = node.control

        def shown_in(*maps):
            vm = daemon.vm(uuid)
            return all(SECRET in vm[name].values() for name in maps)

        content = {"customer_metadata": {"root_pw": SECRET}, "internal_metadata": {"key": SECRET}}
        control.write_config(uuid, "metadata", content)
        control.write_config(uuid, "tags", {"tag": SECRET})
        eventually("the secret is served", lambda: shown_in("customer_metadata", "internal_metadata", "tags"))
        control.corrupt(control.real("")[len(node.root) :] + f"/zones/{uuid}/config/metadata.json", f'{{"a": "{SECRET}')
        eventually("only the tags have it still", lambda: not shown_in("customer_metadata") and shown_in("tags"))
        control.write_config(uuid, "metadata", content)
        stream = daemon.events()
        control.write_config(uuid, "tags", {})
        stream.until(lambda event: SECRET in json.dumps(event["changes"]))
        stream.close()
        eventually("a refresh has ended", lambda: daemon.logged("full refresh ended"))
        daemon.status()
        daemon.stop()
        control.write_config(uuid, "metadata", {})
        assert SECRET.encode() not in daemon.raw_log() + daemon.stderr
        assert "emitting" in daemon.raw_log().decode()


@pytest.mark.parametrize("level, least", [("info", 30), ("warn", 40), ("fatal", 60)])
def test_log_level_is_respected(node, level, least):
    with RunningDaemon(node.root, "--log-level", level).start() as daemon:
        node.control.raw_line("garbage\n")
        eventually("the garbage was skipped", lambda: daemon.status()["children"]["zonewatcher"]["skippedLines"])
        daemon.stop()
        levels = {record["level"] for record in daemon.log()}
    assert all(level >= least for level in levels)
    assert (least in levels) == (level != "fatal")


def test_log_without_a_reader_is_counted_and_harms_no_client(quiet_node):
    port = free_port()
    reading, writing = os.pipe()
    words = [sys.executable, os.path.join(SBIN, "vminfod"), "--root", quiet_node.root, "--port", str(port)]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=writing) as process:
        os.close(writing)
        daemon = RunningDaemon(quiet_node.root, port=port)
        daemon.process = process
        eventually("the daemon answers", daemon.answers)
        os.close(reading)
        assert daemon.get("/nothing").status == 404, "which is logged"
        eventually("lost records are counted", lambda: daemon.status()["lostLogRecords"])
        assert len(daemon.vms()) == 30
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON) == 0


def test_python_looks_for_cycles_again_once_the_daemon_serves():
    looked = []

    class Daemon:
        def start(self):
            looked.append(gc.isenabled())

    gc.disable()  # as the program does
    try:
        start(Daemon())
        assert looked == [False] and gc.isenabled()
        assert gc.get_freeze_count() > 0, "what was loaded by then is not looked at again"
    finally:
        gc.unfreeze()
        gc.enable()


def test_reads_that_went_well_are_not_logged_at_the_default_level(node):
    with RunningDaemon(node.root, "--log-level", "info").start() as daemon:
        for path in ("/status", "/health", "/metrics", "/vms?state=running", "/ping", "/nothing"):
            daemon.get(path)
        [record] = eventually("the last one is logged", lambda: daemon.logged("request"))
    assert (record["req"]["url"], record["status"][:3]) == ("/nothing", "404")


def test_health_of_a_daemon_in_trouble_is_not_logged_either(node):
    missing = next(vm["uuid"] for vm in node.control.vms() if vm["uuid"] == vm["zonename"])
    text = node.control.read_xml(missing)
    os.unlink(node.control.real(f"/etc/zones/{missing}.xml"))
    try:
        with RunningDaemon(node.root, "--log-level", "info").start() as daemon:
            told = [f"1 zone without XML: {missing}"]
            eventually("the zone is named", lambda: daemon.get("/health").json()["reasons"] == told)
            assert daemon.get("/health").status == 503
            assert "x-vminfod-unreadable" not in daemon.get("/vms").headers, "no VM, as far as anybody knows"
            daemon.get("/nothing")
            [record] = eventually("the last one is logged", lambda: daemon.logged("request"))
            assert record["req"]["url"] == "/nothing"
    finally:
        node.control.edit_xml(missing, text)


@pytest.mark.long
def test_load_that_takes_long_says_what_it_waits_for(node):
    node.control.fault("zfs", "hold")
    daemon = RunningDaemon(node.root)
    try:
        daemon.start(wait=False)
        told = eventually("it is said", lambda: daemon.logged("the first load takes long"))
        node.control.clear_faults()
        node.control.step("zfs")
        eventually("it is loaded", daemon.answers)
        assert told[0]["level"] == 40
        assert re.match(r"zfs list of all VMs runs \d+ s", told[0]["reason"])
    finally:
        node.control.clear_faults()
        daemon.stop()
