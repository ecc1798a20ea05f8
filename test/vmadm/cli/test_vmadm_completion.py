# SPDX-License-Identifier: MPL-2.0
"""What Tab puts in: what vmadm says of words, and what bash and zsh make of it on a terminal."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from support.running_daemon import CHECKOUT, SBIN
from support.screens import Screen
from vmadm.cli import completing
from vmadm.cli.usage import usage_text
from vmload import properties

WEB = {
    "uuid": "aaaaaaaa-0000-4000-8000-000000000001",
    "alias": "web",
    "brand": "lx",
    "state": "running",
    "quota": 10,
    "firewall_enabled": False,
    "snapshots": [{"name": "monday", "created_at": "2026-01-02T03:04:05.000Z"}, {"name": "tuesday"}],
}
DB = {"uuid": "bbbbbbbb-0000-4000-8000-000000000002", "brand": "bhyve", "state": "stopped", "snapshots": []}


def vms(query):
    fields = query.get("fields")
    found = [vm for vm in (WEB, DB) if query.get("uuid") in (None, vm["uuid"])]
    return [{k: v for k, v in vm.items() if not fields or k in fields.split(",")} for vm in found]


def words(*typed):
    return [word for word, _ in completing.candidates(list(typed), vms)]


@pytest.mark.pure
@pytest.mark.parametrize(
    "typed, expected",
    [
        (["sta"], ["start"]),
        (["rebo"], ["reboot"]),
        (["get", ""], [WEB["uuid"], DB["uuid"]]),
        (["get", "aa"], [WEB["uuid"]]),
        (["get", "we"], [WEB["uuid"]]),
        (["get", "no"], []),
        (["json", "bb"], [DB["uuid"]]),
        (["stop", "-F", "we"], [WEB["uuid"]]),
        (["stop", "-t", "5", "we"], [WEB["uuid"]]),
        (["stop", "-"], ["-F", "-t"]),
        (["rollback-snapshot", WEB["uuid"], "m"], ["monday"]),
        (["delete-snapshot", DB["uuid"], ""], []),
        (["list", "sta"], ["state="]),
        (["list", "-p", "state="], ["state=running", "state=stopped"]),
        (["lookup", "alias=w"], ["alias=web"]),
        (["list", "-o", "uuid,al"], ["uuid,alias"]),
        (["list", "-s", "-ra"], ["-ram"]),
        (["list", "-o", "uuid,uu"], []),
        (["update", WEB["uuid"], "quot"], ["quota="]),
        (["update", WEB["uuid"], "quota="], ["quota=10"]),
        (["update", WEB["uuid"], "firewall_enabled="], ["firewall_enabled=true", "firewall_enabled=false"]),
        (["update", WEB["uuid"], "vcp"], []),
        (["update", DB["uuid"], "vcp"], ["vcpus="]),
        (["update", "-f", "x"], [completing.FILES]),
        (["create", "-f", ""], [completing.FILES]),
        (["kill", "-s", "SIGU"], ["SIGUSR1", "SIGUSR2"]),
        (["validate", "u"], ["update"]),
        (["validate", "update", "b"], ["bhyve", "builder"]),
        (["help", "conso"], ["console"]),
        (["info", DB["uuid"], "v"], ["vnc"]),
        (["info", WEB["uuid"], ""], []),
        (["console", "--"], ["--serial", "--vnc"]),
        (["console", "--serial", "we"], [WEB["uuid"]]),
        (["sysrq", WEB["uuid"], ""], ["nmi", "screenshot"]),
        (["start", WEB["uuid"], "order=c", ""], ["order=", "disk=", "cdrom="]),
        (["frobnicate", ""], []),
        (["create", ""], []),
    ],
)
def test_what_a_word_can_become(typed, expected):
    assert words(*typed) == expected


@pytest.mark.pure
def test_what_stands_beside_a_vm_cannot_drive_the_terminal():
    class Client:
        def vms(self, _query):
            return [{**WEB, "alias": "a\x1b[2J\n\tb"}]

    [line] = completing.completed(Client(), ["get", ""]).splitlines()
    assert line.partition("\t")[2].isprintable()


@pytest.mark.pure
def test_value_that_is_no_line_of_text_is_not_put_in():
    class Client:
        def vms(self, _query):
            return [{**WEB, "alias": "a\nb"}, {**DB, "alias": "a\tb"}, {**DB, "alias": "ab"}]

    assert completing.completed(Client(), ["list", "alias="]) == "alias=ab\n"
    assert completing.completed(Client(), ["update", WEB["uuid"], "alias="]) == ""


@pytest.mark.pure
def test_every_command_of_the_usage_can_be_completed():
    in_usage = set(re.findall(r"^([a-z-]+)", usage_text("vmadm").partition("\n\n")[2].partition("\n\n")[0], re.M))
    assert in_usage | {"help"} == set(completing.PLACES)


@pytest.mark.pure
def test_properties_of_an_update_are_those_that_its_brand_has():
    for word in words("update", WEB["uuid"], ""):
        assert "lx" in properties.table()[word[:-1]]["payload"]["allowed"]


def test_without_a_daemon_there_is_nothing_and_no_complaint(tmp_path):
    environ = {**os.environ, "VMADM_ROOT": str(tmp_path), "VMINFOD_PORT": "1"}
    done = subprocess.run([f"{SBIN}/vmadm", "__complete", "get", ""], env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def environ(daemon, shell):
    return {
        "PATH": f"{SBIN}:/usr/bin:/bin",
        "VMINFOD_PORT": str(daemon.port),
        "PS1": "> ",
        "HOME": "/nonexistent",
        **shell,
    }


def completes(shell, daemon):
    """On the prompt of `shell`: what Tab makes of some words."""
    vm = next(vm for vm in daemon.vms() if vm.get("alias") and "alias" in vm and vm["state"] == "running")
    for typed, becomes in [
        ("vmadm rebo\t", "vmadm reboot "),
        (f"vmadm get {vm['uuid'][:12]}\t", f"vmadm get {vm['uuid']} "),
        (f"vmadm get {vm['alias']}\t", f"vmadm get {vm['uuid']} "),
        ("vmadm list stat\t", "vmadm list state="),
        ("vmadm list state=runn\t", "vmadm list state=running "),
        ("vmadm list -o uuid,alia\t", "vmadm list -o uuid,alias "),
        (f"vminfo vm {vm['uuid'][:12]}\t", f"vminfo vm {vm['uuid']} "),
    ]:
        shell.press(typed)
        shell.until(becomes, lambda lines, becomes=becomes: any(becomes.rstrip() in line for line in lines))
        shell.press("#mark")  # whether there is a blank behind it shows what is typed next
        shell.until(f"{becomes}#mark", lambda lines, becomes=becomes: any(f"{becomes}#mark" in line for line in lines))
        shell.press("\x15")  # an empty line again
        shell.until("an empty line", lambda lines: not any("#mark" in line for line in lines))


ODD = """x y$(touch ran)`touch ran`;touch ran&"q'\\z|*~#!"""


@pytest.fixture
def odd_vmadm(tmp_path):
    """A folder with a vmadm that knows one value, which a shell would make something of, and shows its own words."""
    (tmp_path / "value").write_text(f"alias={ODD}\n")
    script = """#!/bin/sh
case "$1" in
__complete) shift $(($# - 1)); grep -F -- "$1" value ;;
*) printf '<%s>' "$@"; echo ;;
esac
"""
    (tmp_path / "vmadm").write_text(script)
    (tmp_path / "vmadm").chmod(0o755)
    return tmp_path


def puts_in_as_it_is(shell, folder):
    """Tab, and Tab once more behind a word that Tab has begun; then the command is run."""
    for typed in ("vmadm list alias=x\t", "vmadm list alias=x\\ y\t"):
        shell.press(f"{typed}\n")
        shell.until("run", lambda lines: f"<list><alias={ODD}>" in lines)
        shell.press("clear\n")
        shell.until("an empty screen", lambda lines: not any("<list>" in line for line in lines))
    assert not (folder / "ran").exists()


def test_what_bash_puts_in_is_not_run(odd_vmadm):
    words = ["bash", "--norc", "--noprofile", "-i"]
    with Screen(words, {"PATH": f"{odd_vmadm}:/usr/bin:/bin", "PS1": "> "}, columns=160) as shell:
        shell.press(f"set +H; cd {odd_vmadm}; . {CHECKOUT}/completion/vmadm.bash; echo re''ady\n")
        shell.until("ready", lambda lines: "ready" in lines)
        puts_in_as_it_is(shell, odd_vmadm)


@pytest.mark.more
def test_what_zsh_puts_in_is_not_run(odd_vmadm):
    where = Path(CHECKOUT) / "completion"
    (odd_vmadm / ".zshrc").write_text(f"fpath=({where} $fpath); autoload -U compinit; compinit -u -D; PS1='> '\n")
    environ = {"PATH": f"{odd_vmadm}:/usr/bin:/bin", "ZDOTDIR": str(odd_vmadm)}
    with Screen(["zsh", "-i"], environ, columns=160) as shell:
        shell.press(f"cd {odd_vmadm}; echo re''ady\n")
        shell.until("ready", lambda lines: "ready" in lines)
        puts_in_as_it_is(shell, odd_vmadm)


def test_bash_puts_it_in(quiet_daemon):
    words = ["bash", "--norc", "--noprofile", "-i"]
    with Screen(words, environ(quiet_daemon, {}), columns=160) as shell:
        shell.press(f". {CHECKOUT}/completion/vmadm.bash; echo re''ady\n")
        shell.until("ready", lambda lines: "ready" in lines)
        completes(shell, quiet_daemon)


@pytest.mark.more
def test_zsh_puts_it_in(quiet_daemon, tmp_path):
    where = Path(CHECKOUT) / "completion"
    (tmp_path / ".zshrc").write_text(f"fpath=({where} $fpath); autoload -U compinit; compinit -u -D; PS1='> '\n")
    with Screen(["zsh", "-i"], environ(quiet_daemon, {"ZDOTDIR": str(tmp_path)}), columns=160) as shell:
        shell.press("echo re''ady\n")
        shell.until("ready", lambda lines: "ready" in lines)
        completes(shell, quiet_daemon)


@pytest.mark.pure
def test_tab_offers_just_the_options_that_the_usage_names():
    for line in usage_text("vmadm").partition("\n\n")[2].partition("\n\n")[0].splitlines():
        command, *rest = line.split(" ", 1)
        if not command:  # another form of the command before
            continue
        named = set(re.findall(r"-[a-zA-Z1]\b|--\w+", " ".join(rest))) - {"-<"}
        if command == "events":
            named = {"-f", "-j", "-r"}  # glued together there
        if command == "validate":
            named = {"-f"}
        assert set(words(command, "-")) == named, command
