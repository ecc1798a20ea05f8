# SPDX-License-Identifier: MPL-2.0
"""`vmadm console` on a terminal: who is at the other end, how it is left, and that the terminal is afterwards as it
was, whatever ended it."""

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from support.deadlines import SOON
from support.examples import more
from support.running_daemon import SBIN, eventually
from support.screens import Screen
from support.writing import NOBODY
from vminfod.client import VminfodClient

pytest_plugins = ("support.writers",)

DISKS = [{"size": 64, "model": "virtio", "boot": True}]
KEYS = {"zone": "\x1d.", "kvm": "\x1d"}


@pytest.fixture(scope="module")
def zone(cn):
    return cn.api.start(cn.create()["uuid"])


@pytest.fixture(scope="module")
def kvm(cn):
    vm = cn.api.create({"brand": "kvm", "ram": 256, "vcpus": 1, "disks": DISKS, "autoboot": False})
    return cn.api.start(vm["uuid"])


@pytest.fixture(params=["zone", "kvm"])
def vm(request):
    """(a VM that runs, the keys that leave its console)"""
    return request.getfixturevalue(request.param), KEYS[request.param]


def sitting(cn, *words):
    """The command on a terminal of its own; the interpreter itself, so that signals reach it."""
    return Screen([sys.executable, "-IS", "-X", "utf8", os.path.join(SBIN, "vmadm"), "console", *words], cn.environ)


def shows(screen, text):
    """It was written to the terminal, control characters and all."""
    screen.until(text, lambda lines: text.encode() in screen.raw)


def connected(screen, vm):
    shows(screen, f"{vm['uuid']} login:")
    assert screen.mode() != screen.before


def set_back(screen):
    """The terminal is as it was; by the guard, where vmadm itself was killed."""
    eventually("the terminal is as it was", lambda: screen.mode() == screen.before)


def test_what_is_typed_reaches_the_vm_and_its_answers_the_screen(cn, vm):
    vm, leave = vm
    with sitting(cn, vm["uuid"]) as screen:
        connected(screen, vm)
        screen.press("hello\x03there")  # Ctrl-C is for the guest
        shows(screen, "hello\x03there")
        screen.press("\r" + leave)
        assert screen.ended() == 0
        assert screen.mode() == screen.before


def test_zones_console_is_left_only_at_the_start_of_a_line(cn, zone):
    with sitting(cn, zone["uuid"]) as screen:
        connected(screen, zone)
        screen.press("typed\x1d.end")
        shows(screen, "typed\x1d.end")
        assert screen.process.poll() is None
        screen.press("\r\x1d.")
        assert screen.ended() == 0
    assert any(line == f"zlogin -C -e \\035 {zone['uuid']}" for line in cn.commands())


def test_zlogin_has_the_terminal_itself_and_so_its_size(cn, zone):
    with sitting(cn, zone["uuid"]) as screen:
        connected(screen, zone)
        pid = int(child_of(screen.process.pid, "zlogin"))
        assert os.path.samestat(os.stat(f"/proc/{pid}/fd/0"), os.stat(f"/proc/{screen.process.pid}/fd/0"))
        group, foreground = (int(stat_of(pid)[place]) for place in (2, 5))
        assert group == foreground  # who gets the keys' signals, and SIGWINCH
        screen.press("\x1d.")
        assert screen.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, *more(signal.SIGHUP, signal.SIGQUIT), signal.SIGKILL])
def test_terminal_is_as_it_was_after_a_signal(cn, vm, number):
    with sitting(cn, vm[0]["uuid"]) as screen:
        connected(screen, vm[0])
        children = all_children_of(screen.process.pid)
        screen.process.send_signal(number)
        ended = screen.ended()
        assert ended == (130 if number in (signal.SIGTERM, signal.SIGHUP) else -number)
        set_back(screen)
        for child in children:
            eventually("nothing of it is left", lambda child=child: not runs(child))


def test_zlogin_that_is_killed_ends_it_and_the_terminal_is_as_it_was(cn, zone):
    with sitting(cn, zone["uuid"]) as screen:
        connected(screen, zone)
        os.kill(int(child_of(screen.process.pid, "zlogin")), signal.SIGKILL)
        assert screen.ended() == 0
        assert screen.mode() == screen.before


def test_vm_that_goes_down_ends_it_and_the_terminal_is_as_it_was(cn, vm):
    vm, _ = vm
    with sitting(cn, vm["uuid"]) as screen:
        connected(screen, vm)
        cn.ok("stop", "-F", vm["uuid"])
        assert screen.ended() == 0
        assert screen.mode() == screen.before
    cn.ok("start", vm["uuid"])


def test_guard_that_is_killed_is_no_trouble(cn, kvm):
    with sitting(cn, kvm["uuid"]) as screen:
        connected(screen, kvm)
        os.kill(int(child_of(screen.process.pid, "terminalguard")), signal.SIGKILL)
        screen.press("\x1d")
        assert screen.ended() == 0
        assert screen.mode() == screen.before


def test_input_from_a_pipe_goes_to_the_end_and_its_answer_is_waited_for(cn, kvm):
    done = cn.vmadm("console", kvm["uuid"], stdin="a line\r")
    assert (done.code, done.out.replace("\r", ""), done.err) == (0, f"{kvm['uuid']} login: a line\n", "")


def test_reader_that_has_gone_ends_it_quietly(cn, kvm):
    done = subprocess.run(
        ["bash", "-c", f"{SBIN}/vmadm console {kvm['uuid']} | head -c 10; echo ${{PIPESTATUS[0]}}"],
        env=cn.environ,
        input="x" * 100_000,
        capture_output=True,
        text=True,
        timeout=SOON,
    )
    assert (done.stdout, done.stderr) == (f"{kvm['uuid'][:10]}0\n", "")


def test_vm_that_takes_nothing_can_be_left(cn, kvm, tmp_path):
    """A line that nobody reads from: what is typed has to wait, but not who types."""
    path = f"{cn.root}{kvm['zonepath']}/root/tmp/vm.console"
    os.rename(path, path + ".before")
    try:
        with stuck_line(path), sitting(cn, kvm["uuid"]) as screen:
            shows(screen, "stuck")
            screen.press("x" * 1000)
            screen.press("\x1d")
            assert screen.ended() == 0
            assert screen.mode() == screen.before
    finally:
        os.rename(path + ".before", path)


class stuck_line:  # noqa: N801 - a statement
    def __init__(self, path):
        self.listening = socket.socket(socket.AF_UNIX)
        folder = os.open(os.path.dirname(path), os.O_DIRECTORY)
        self.listening.bind(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        os.close(folder)
        self.listening.listen()

    def __enter__(self):
        def serve():
            self.line, _ = self.listening.accept()
            self.line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            self.line.sendall(b"stuck")

        threading.Thread(target=serve, daemon=True).start()

    def __exit__(self, *_):
        self.line.close()
        self.listening.close()


def test_bhyve_vm_has_the_console_that_its_com1_is(cn):
    vm = cn.api.create({"brand": "bhyve", "ram": 256, "vcpus": 1, "disks": DISKS, "autoboot": False})
    uuid = vm["uuid"]
    assert vm["com1"] == "/dev/zconsole"
    cn.api.start(uuid)
    cn.forget_commands()
    with sitting(cn, uuid) as screen:
        shows(screen, f"[Connected to zone '{uuid}' console]")
        connected(screen, vm)
        assert cn.ok("sysrq", uuid, "nmi") == f"Sent NMI to VM {uuid}"
        shows(screen, "NMI received")
        screen.press("\x1d.")
        assert screen.ended() == 0
    assert f"bhyvectl --vm=SYSbhyve-{vm['zonedid']} --inject-nmi" in cn.commands()
    cn.ok("stop", "-F", uuid)
    cn.api.update(uuid, com1="socket,/tmp/vm.com1")
    cn.api.start(uuid)
    cn.forget_commands()
    done = cn.vmadm("console", "--serial", uuid, stdin="hello")
    assert (done.code, done.out, done.err) == (0, f"{uuid} login: hello", "")
    assert not any(command.startswith("zlogin") for command in cn.commands())
    assert cn.fails("sysrq", uuid, "screenshot") == 'Invalid sysrq "screenshot" valid values: "nmi".'


def test_console_is_had_also_of_a_vm_that_is_held_or_cannot_be_read(cn, kvm):
    uuid = kvm["uuid"]
    with VminfodClient("test", port=cn.daemon.port, socket=f"{cn.root}/var/run/vminfod.sock").transaction(uuid):
        assert cn.vmadm("console", uuid, stdin="held").out == f"{uuid} login: held"
    cn.control.fault("zfs", "hang", match=uuid, times=None)
    assert cn.vmadm("console", uuid, stdin="hangs").out == f"{uuid} login: hangs"


def test_vnc_is_where_the_display_is(cn, kvm, zone):
    with cn.node.vmadmd():
        shown = cn.vmadm("console", "--vnc", kvm["uuid"])
        display = cn.api.info(kvm["uuid"], ["vnc"])["vnc"]
        assert (shown.code, shown.out, shown.err) == (0, f"{display['host']}:{display['port']}\n", "")
    said = cn.fails("console", "--vnc", zone["uuid"])
    assert said.endswith("no info types supported for brand joyent-minimal")


def test_what_cannot_be_is_said(cn, zone, kvm):
    assert cn.fails("console", NOBODY) == "bad statusCode: 404"
    stopped = cn.create()["uuid"]
    text = 'cannot connect to console when state is "stopped" must be "running".'
    assert cn.fails("console", stopped) == text
    assert cn.fails("console", "--serial", zone["uuid"]).startswith(f"VM {zone['uuid']} has no serial line")
    with pytest.raises(Exception, match='must be "running"'):
        cn.api.console(stopped)
    for words in (["console"], ["console", kvm["uuid"], "x"], ["console", "--vnc", "--serial", kvm["uuid"]]):
        done = cn.vmadm(*words)
        assert (done.code, done.out) == (2, "")
        assert "Usage: vmadm" in done.err


def test_serial_line_is_reached_through_no_link(cn, kvm, tmp_path):
    path = f"{cn.root}{kvm['zonepath']}/root/tmp/vm.console"
    os.rename(path, path + ".before")
    try:
        assert "No such file or directory" in cn.fails("console", kvm["uuid"])
        os.symlink("vm.console.before", path)
        assert "root/tmp/vm.console is a symbolic link" in cn.fails("console", kvm["uuid"])
        os.unlink(path)
        with open(path, "w"):
            pass
        assert "root/tmp/vm.console is a file" in cn.fails("console", kvm["uuid"])
        os.unlink(path)
    finally:
        os.rename(path + ".before", path)


def test_zlogin_that_fails_says_so_itself(cn, zone):
    cn.control.fault("zlogin", "fail", stderr="zlogin: console in use\n")
    done = cn.vmadm("console", zone["uuid"])
    assert (done.code, done.out, done.err) == (0, "", "zlogin: console in use\n")


def stat_of(pid):
    """The fields of /proc/PID/stat behind the command's name: state, parent, group, session, terminal, foreground."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2].split()


def all_children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def child_of(pid, named):
    def found():
        for child in all_children_of(pid):
            with open(f"/proc/{child}/cmdline") as file:
                if named in file.read():
                    return child
        return None

    return eventually(f"{named} runs", found)


def runs(pid):
    try:
        return stat_of(pid)[0] != "Z"
    except FileNotFoundError:
        return False
