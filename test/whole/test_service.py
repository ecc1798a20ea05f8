# SPDX-License-Identifier: MPL-2.0
"""The SMF service: its manifest is complete, and its method says the truth about the daemon (docs/operations.md,
"Running it")."""

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from mockcn import process
from support.deadlines import SOON
from support.ports import free_port
from support.running_daemon import CHECKOUT, SBIN, RunningDaemon, eventually
from vminfod import main as vminfod_main

FMRI = "svc:/system/smartdc/vminfod:default"
MANIFEST = os.path.join(CHECKOUT, "smf", "manifest", "system-vminfod.xml")
UNIT = os.path.join(CHECKOUT, "systemd", "vminfod.service")
METHOD = os.path.join(CHECKOUT, "smf", "method", "vminfod")


@pytest.fixture(scope="module")
def own_node():
    """Nobody else's daemon runs on it."""
    folder = tempfile.mkdtemp(prefix="cn-")
    with process.start(os.path.join(folder, "node"), vms=2) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def service():
    root = ElementTree.parse(MANIFEST).getroot()
    assert (root.tag, root.get("type")) == ("service_bundle", "manifest")
    [service] = root.findall("service")
    return service


@pytest.mark.pure
def test_manifest_describes_the_one_instance_that_others_depend_on(service):
    assert (service.get("name"), service.get("type")) == ("system/smartdc/vminfod", "service")
    assert service.find("create_default_instance").get("enabled") == "true"
    assert service.find("single_instance") is not None


def test_manifest_waits_for_the_local_file_systems(service):
    dependencies = {d.find("service_fmri").get("value"): d.get("grouping") for d in service.findall("dependency")}
    assert dependencies == {"svc:/system/filesystem/local": "require_all"}


@pytest.mark.pure
def test_manifest_runs_as_root_and_staff_with_the_limits_of_the_original(service):
    credential = service.find("method_context/method_credential")
    assert (credential.get("user"), credential.get("group")) == ("root", "staff")
    methods = {m.get("name"): m for m in service.findall("exec_method")}
    limits = {name: m.get("timeout_seconds") for name, m in methods.items()}
    assert limits == {"start": "300", "refresh": "60", "stop": "60"}
    assert methods["start"].get("exec") == "/lib/svc/method/vminfod start"
    assert methods["refresh"].get("exec") == "/lib/svc/method/vminfod refresh"
    assert methods["stop"].get("exec") == "/lib/svc/method/vminfod stop %{restarter/contract}"


@pytest.mark.pure
def test_smf_sees_the_death_of_the_daemon_and_starts_another(service):
    """Whatever is still in the service's contract makes SMF say online (issue 825 of the original): the daemon has one
    of its own, and ctrun, which waits in SMF's for its end, ends with it."""
    startd = service.find("property_group[@name='startd']")
    assert startd.find("propval[@name='duration']").get("value") == "contract"
    with open(METHOD) as method:
        assert "CTRUN=${CTRUN-/usr/bin/ctrun -l child -o noorphan}\n" in method.read()


@pytest.mark.pure
def test_every_option_of_the_daemon_is_a_property_of_the_service(service):
    """But --root, which is not for SmartOS, and those that only print something."""
    usage = _usage(capture=io.StringIO())
    options = set(re.findall(r"--([a-z-]+)", usage)) - {"root", "help", "version"}
    config = service.find("property_group[@name='config']")
    assert {p.get("name") for p in config.findall("propval")} == {option.replace("-", "_") for option in options}
    # With a type in the manifest `setprop config/NAME = VALUE` needs none; empty, the daemon's own value counts.
    assert {(p.get("type"), p.get("value")) for p in config.findall("propval")} == {("astring", "")}


def _usage(capture):
    """What --help says."""
    with contextlib.redirect_stdout(capture), pytest.raises(SystemExit):
        vminfod_main.main(["--help"])
    return capture.getvalue()


def parents():
    """Process id -> that of its parent, of all processes."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return {int(pid): int(parent) for pid, parent in map(str.split, listed.splitlines())}


@pytest.mark.pure
def test_manifest_and_method_name_what_is_shipped():
    assert os.access(METHOD, os.X_OK)
    with open(METHOD) as method:
        text = method.read()
    for program in ("vminfod", "vminfo"):
        assert f"/usr/vm/sbin/{program}" in text
        assert os.access(os.path.join(SBIN, program), os.X_OK)


def svcprop(folder, properties):
    """A stand-in for svcprop(1) of a service whose config has these properties, name -> value or list of values."""
    lines = [
        f"config/{name} astring {' '.join(value) if isinstance(value, list) else value or chr(34) * 2}"
        for name, value in {**dict.fromkeys(["ip", "port", "log_level"], ""), **properties}.items()
    ]
    printed = "\n".join(lines)
    return program(folder / "svcprop", f"[ \"$*\" = '-p config {FMRI}' ] || exit 1\ncat <<'END'\n{printed}\nEND\n")


def program(path, script):
    path.write_text(f"#!/bin/sh\n{script}")
    path.chmod(0o755)
    return str(path)


def daemon_logging_to(path):
    """vminfod, whose log goes into a file, as SMF would see to."""
    return program(path.parent / "vminfod", f'exec {sys.executable} {SBIN}/vminfod "$@" >>{path} 2>&1\n')


def run_method(words, vminfod="/bin/false", **more):
    environ = {
        **os.environ,
        "CTRUN": "",
        "VMINFOD": vminfod,
        "VMINFO": os.path.join(SBIN, "vminfo"),
        "SMF_FMRI": FMRI,
        "SVCPROP": "/bin/false",
        **more,
    }
    environ.pop("VMADM_ROOT", None)
    return subprocess.run(
        [METHOD, *words],
        env=environ,
        timeout=SOON,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_start_returns_once_the_daemon_is_well_and_stop_once_it_is_gone(own_node, tmp_path):
    port = free_port()
    log = tmp_path / "log"
    configured = svcprop(tmp_path, {"root": own_node.root, "port": str(port), "ip": ["127.0.0.1", "127.0.0.2"]})
    try:
        started = run_method(["start"], daemon_logging_to(log), SVCPROP=configured)
        assert (started.returncode, started.stderr) == (0, "")
        for address in ("127.0.0.1", "127.0.0.2"):
            with socket.create_connection((address, port)):
                pass
        assert RunningDaemon(own_node.root, port=port).get("/health").status == 200
        assert run_method(["refresh"], SVCPROP=configured).returncode == 0
        eventually("it refreshes", lambda: b'"msg":"full refresh ended"' in log.read_bytes())
    finally:
        stopped = run_method(["stop"], SVCPROP=configured)
    assert stopped.returncode == 0
    assert not RunningDaemon(own_node.root, port=port).listens()
    assert b'"msg":"stopped"' in log.read_bytes()


def test_a_vm_that_cannot_be_read_is_named_and_does_not_keep_the_service_from_starting(own_node, tmp_path):
    """Other services depend on this one."""
    xml = next((Path(own_node.root) / "etc/zones").glob("*-*.xml"))
    good = xml.read_bytes()
    configured = svcprop(tmp_path, {"root": own_node.root, "port": str(free_port())})
    xml.write_bytes(good[: len(good) // 2])
    try:
        started = run_method(["start"], daemon_logging_to(tmp_path / "log"), SVCPROP=configured, WELL_WITHIN="1")
        assert started.returncode == 0
        assert started.stderr.startswith("vminfod serves, but not all is well: DEGRADED: ")
        assert xml.stem in started.stderr or "1 VM" in started.stderr
    finally:
        xml.write_bytes(good)
        run_method(["stop"], SVCPROP=configured)


def test_nothing_that_start_began_outlives_the_daemon(own_node, tmp_path):
    """Neither the method's shell, which would look like a service that runs, nor ctrun: here a shell in its place."""
    waiting = f'{sys.executable} "$@" >{tmp_path}/log 2>&1'
    ctrun = program(tmp_path / "ctrun", f"exec 2>/dev/null\necho $$ >{tmp_path}/pid\n{waiting}\n")
    port = free_port()
    configured = svcprop(tmp_path, {"root": own_node.root, "port": str(port)})
    started = run_method(["start"], os.path.join(SBIN, "vminfod"), SVCPROP=configured, CTRUN=ctrun)
    assert (started.returncode, started.stderr) == (0, "")
    keeper = int((tmp_path / "pid").read_text())
    daemon = RunningDaemon(own_node.root, port=port).status()["pid"]
    assert parents()[daemon] == keeper
    os.kill(daemon, signal.SIGKILL)
    eventually("all have ended", lambda: not {keeper, daemon} & parents().keys())
    assert not RunningDaemon(own_node.root, port=port).listens()


def test_stop_ends_a_daemon_that_was_stopped_by_a_signal(own_node, tmp_path):
    """It answers nothing, and is found by its pid file, and known by its name: so it is started as itself."""
    with RunningDaemon(own_node.root, environ={}).start() as daemon:
        os.kill(daemon.process.pid, signal.SIGSTOP)
        stopped = run_method(["stop"], SVCPROP=svcprop(tmp_path, {"root": own_node.root}))
        assert (stopped.returncode, stopped.stderr) == (0, "")
        assert daemon.wait() == 0


@pytest.mark.parametrize(
    "words", [["sleep", "60"], ["tail", "-f", "/dev/null", "vminfod.log"], ["tail", "-f", "vminfod"]]
)
def test_stop_does_not_take_another_process_for_the_daemon(tmp_path, words):
    """The pid file of a daemon that was killed can name a process that came later."""
    (tmp_path / "var/run").mkdir(parents=True)
    for name in ("vminfod.log", "vminfod"):
        (tmp_path / name).write_text("")
    with subprocess.Popen(words, cwd=tmp_path) as bystander:
        (tmp_path / "var/run/vminfod.pid").write_text(f"{bystander.pid}\n")
        assert run_method(["stop"], SVCPROP=svcprop(tmp_path, {"root": str(tmp_path)})).returncode == 0
        assert bystander.poll() is None
        bystander.kill()


def test_refresh_of_a_daemon_that_is_away_fails(tmp_path):
    failed = run_method(["refresh"], SVCPROP=svcprop(tmp_path, {"root": str(tmp_path)}), VMINFOD_PORT=str(free_port()))
    assert (failed.returncode, failed.stderr) == (1, "vminfod does not answer\n")


def test_start_fails_if_the_daemon_ends_instead_of_answering():
    failed = run_method(["start"], "/bin/false", VMINFOD_PORT=str(free_port()))
    assert failed.returncode == 1
    assert failed.stderr == "vminfod ended before it was well; its log says why\n"


def test_wait_fails_if_the_process_is_not_there():
    """As systemd has it done."""
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    failed = run_method(["wait", str(gone.pid)], VMINFOD_PORT=str(free_port()))
    assert failed.returncode == 1


def test_method_without_a_word_it_knows_says_how_to_use_it():
    failed = run_method(["restart"])
    assert failed.returncode == 95
    assert failed.stderr == f"Usage: {METHOD} start | wait PID | refresh | stop [CONTRACT]\n"


@pytest.fixture(scope="module")
def unit():
    """The systemd unit's assignments: name -> value."""
    with open(UNIT) as lines:
        return dict(line.strip().split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_systemd_unit_starts_the_daemon_and_waits_until_it_is_well(unit, own_node, tmp_path):
    """Its commands, run as systemd would run them."""
    log = tmp_path / "log"
    places = {"/usr/vm/sbin/vminfod": daemon_logging_to(log), "/lib/svc/method/vminfod": METHOD}
    port = str(free_port())
    environ = {"VMADM_ROOT": own_node.root, "VMINFOD_OPTIONS": f"--port {port}", "VMINFO": os.path.join(SBIN, "vminfo")}

    def command(name, **more):
        words = []
        for word in unit[name].split():
            value = re.sub(r"\$\{?(\w+)\}?", lambda match: {**environ, **more}[match[1]], word)
            words += [value] if "{" in word else value.split()
        return [places.get(words[0], words[0]), *words[1:]]

    with subprocess.Popen(command("ExecStart")) as daemon:
        try:
            waited = subprocess.run(
                command("ExecStartPost", MAINPID=str(daemon.pid)), env={**os.environ, **environ}, timeout=SOON
            )
            assert waited.returncode == 0
            assert RunningDaemon(own_node.root, port=int(port)).get("/health").status == 200
            assert subprocess.run(command("ExecReload", MAINPID=str(daemon.pid))).returncode == 0
            eventually("it refreshes", lambda: b'"msg":"full refresh ended"' in log.read_bytes())
        finally:
            daemon.terminate()
    assert daemon.returncode == 0


@pytest.mark.more
def test_systemd_takes_the_unit(tmp_path):
    """Where its programs are: systemd looks for them."""
    with open(UNIT) as text:
        here = text.read().replace("/usr/vm/sbin/", f"{SBIN}/").replace("/lib/svc/method/vminfod", METHOD)
    (tmp_path / "vminfod.service").write_text(here)
    words = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "vminfod.service")]
    verified = subprocess.run(words, capture_output=True, text=True, timeout=SOON)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
