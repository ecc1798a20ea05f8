# SPDX-License-Identifier: MPL-2.0
"""The SMF service: its manifest is complete, and its method says the truth about the daemon (docs/operations.md,
"Running it")."""

import os
import signal
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from mockcn import process
from support.running_daemon import CHECKOUT, SBIN, RunningDaemon, eventually, free_port

MANIFEST = os.path.join(CHECKOUT, "smf", "manifest", "vminfod.xml")
METHOD = os.path.join(CHECKOUT, "smf", "method", "vminfod")


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


def parents():
    """Process id -> that of its parent, of all processes."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return {int(pid): int(parent) for pid, parent in map(str.split, listed.splitlines())}


def test_nothing_that_start_began_outlives_the_daemon(quiet_node, tmp_path):
    """Neither the method's shell, which would look like a service that runs, nor ctrun: here a shell in its place."""
    ctrun = tmp_path / "ctrun"
    waiting = f'{os.sys.executable} "$@" >{tmp_path}/log 2>&1'
    ctrun.write_text(f"#!/bin/sh\nexec 2>/dev/null\necho $$ >{tmp_path}/pid\n{waiting}\n")
    ctrun.chmod(0o755)
    port = free_port()
    options = f"--root {quiet_node.root} --port {port}"
    started = run_method("start", port, os.path.join(SBIN, "vminfod"), options, CTRUN=str(ctrun))
    assert (started.returncode, started.stderr) == (0, "")
    keeper = int((tmp_path / "pid").read_text())
    daemon = RunningDaemon(quiet_node.root, port=port).status()["pid"]
    assert parents()[daemon] == keeper
    os.kill(daemon, signal.SIGKILL)
    eventually("all have ended", lambda: not {keeper, daemon} & parents().keys())
    assert not RunningDaemon(quiet_node.root, port=port).listens()


@pytest.mark.pure
def test_manifest_and_method_name_what_is_shipped():
    assert os.access(METHOD, os.X_OK)
    with open(METHOD) as method:
        text = method.read()
    for program in ("vminfod", "vminfo"):
        assert f"/usr/vm/sbin/{program}" in text
        assert os.access(os.path.join(SBIN, program), os.X_OK)


def run_method(word, port, vminfod, options, **more):
    environ = {
        **os.environ,
        "CTRUN": "",
        "VMINFOD": vminfod,
        "VMINFOD_ARGS": options,
        "VMINFO": os.path.join(SBIN, "vminfo"),
        "VMINFOD_PORT": str(port),
        **more,
    }
    return subprocess.run(
        [METHOD, word],
        env=environ,
        timeout=60,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_start_returns_once_the_daemon_answers_and_stop_once_it_is_gone(quiet_node, tmp_path):
    port = free_port()
    # A wrapper, since the method starts it without a shell of ours to redirect its log.
    wrapper = tmp_path / "vminfod"
    wrapper.write_text(f'#!/bin/sh\nexec {os.sys.executable} {SBIN}/vminfod "$@" >{tmp_path}/log 2>&1\n')
    wrapper.chmod(0o755)
    try:
        started = run_method("start", port, str(wrapper), f"--root {quiet_node.root} --port {port}")
        assert (started.returncode, started.stderr) == (0, "")
        daemon = RunningDaemon(quiet_node.root, port=port)
        answer = daemon.get("/status").json()
        assert answer["state"] == "running"
        assert run_method("refresh", port, "", "").returncode == 0
        eventually("it refreshes", lambda: b'"msg":"full refresh ended"' in (tmp_path / "log").read_bytes())
    finally:
        stopped = run_method("stop", port, "", "")
    assert stopped.returncode == 0
    assert not RunningDaemon(quiet_node.root, port=port).listens()
    assert b'"msg":"stopped"' in (tmp_path / "log").read_bytes()


def test_stop_ends_a_daemon_that_was_stopped_by_a_signal(tmp_path):
    """It answers nothing, and is found by its pid file."""
    with process.start(str(tmp_path / "n"), vms=0) as node, RunningDaemon(node.root).start() as daemon:
        os.kill(daemon.process.pid, signal.SIGSTOP)
        stopped = run_method("stop", daemon.port, "", f"--root {node.root} --port {daemon.port}")
        assert (stopped.returncode, stopped.stderr) == (0, "")
        assert daemon.wait() == 0


def test_stop_does_not_take_another_process_for_the_daemon(tmp_path):
    """The pid file of a daemon that was killed can name a process that came later."""
    (tmp_path / "var/run").mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as bystander:
        (tmp_path / "var/run/vminfod.pid").write_text(f"{bystander.pid}\n")
        assert run_method("stop", free_port(), "", f"--root={tmp_path}").returncode == 0
        assert bystander.poll() is None
        bystander.kill()


def test_refresh_of_a_daemon_that_is_away_fails():
    failed = run_method("refresh", free_port(), "", "")
    assert (failed.returncode, failed.stderr) == (1, "vminfod does not answer\n")


def test_start_fails_if_the_daemon_ends_instead_of_answering():
    failed = run_method("start", free_port(), "/bin/false", "")
    assert failed.returncode == 1
    assert failed.stderr == "vminfod ended before it answered; its log says why\n"


def test_method_without_a_word_it_knows_says_how_to_use_it():
    failed = run_method("restart", free_port(), "/bin/false", "")
    assert failed.returncode == 95
    assert failed.stderr == f"Usage: {METHOD} start | refresh | stop [CONTRACT]\n"
