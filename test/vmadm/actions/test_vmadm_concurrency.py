# SPDX-License-Identifier: MPL-2.0
"""Several writers on one VM, and the locks by which they wait for each other (docs/vmadm.md, "Locks")."""

import json
import os
import re
import subprocess
import sys
import threading

import pytest

from support.deadlines import SOON
from support.running_daemon import CHECKOUT, eventually
from support.writing import IMAGE, ended, next_said, outcome
from vmadm import VmadmError
from vmadm.node import locks

pytest_plugins = ["support.writers"]


@pytest.fixture
def lock(tmp_path):
    return str(tmp_path / "run" / "vm.lockfile")


def hold_elsewhere(path):
    """Another process that holds the lock until its standard input ends."""
    code = (
        "import sys; sys.path.insert(0, 'usr/vm/lib'); from vmadm.node import locks\n"
        "with locks.held(sys.argv[1], 'vmadm elsewhere', print):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    )
    assert child.stdout.readline() == "held\n"
    return child


def test_lock_says_who_holds_it_and_says_nothing_afterwards(lock):
    with locks.held(lock, "vmadm update U", print):
        with open(lock) as file:
            said = json.load(file)
        assert (said["command"], said["pid"]) == ("vmadm update U", os.getpid())
    assert os.path.getsize(lock) == 0


def test_other_process_is_waited_for_and_named(lock):
    other, told = hold_elsewhere(lock), []
    had = threading.Event()

    def want():
        with locks.held(lock, "vmadm here", told.append):
            had.set()

    thread = threading.Thread(target=want)
    thread.start()
    eventually("the wait is told", lambda: told)
    assert told[0].startswith(f"waiting for {lock}: held by `vmadm elsewhere`, pid {other.pid}, since 20")
    assert not had.is_set()
    other.communicate("", timeout=SOON)
    assert had.wait(SOON)
    thread.join()
    assert len(told) == 1


def test_lock_ends_with_a_holder_that_is_killed(lock):
    other = hold_elsewhere(lock)
    other.kill()
    other.communicate()
    with locks.held(lock, "vmadm here", print):
        assert "vmadm here" in locks.holder(lock)


def test_threads_of_one_process_exclude_each_other(lock):
    inside, most, turns = 0, 0, []

    def work():
        nonlocal inside, most
        for _ in range(50):
            with locks.held(lock, "vmadm thread", print):
                inside += 1
                most = max(most, inside)
                turns.append(1)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, len(turns)) == (1, 200)


def test_lock_file_that_was_removed_by_its_holder_is_made_anew(lock):
    """As by a delete: who waited on the old file must not hold a lock that nobody else can see."""
    other = hold_elsewhere(lock)
    had = threading.Event()

    def want():
        with locks.held(lock, "vmadm here", lambda line: None):
            assert os.path.exists(lock)
            had.set()

    thread = threading.Thread(target=want)
    thread.start()
    os.unlink(lock)
    other.communicate("", timeout=SOON)
    assert had.wait(SOON)
    thread.join()


def test_lock_that_cannot_be_opened_is_a_failure_and_no_crash(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(VmadmError, match="cannot open"), locks.held(str(tmp_path / "file" / "lock"), "x", print):
        pass


def test_writers_of_one_vm_lose_no_change(cn):
    """Each adds a tag of its own: a writer that did not wait would write over another's."""
    uuid = cn.add(alias="many", files={"tags": {}})
    failed = []

    def write(number):
        try:
            for turn in range(5):
                cn.api.update(uuid, set_tags={f"{number}-{turn}": True})
        except VmadmError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert cn.vm(uuid)["tags"] == {f"{number}-{turn}": True for number in range(4) for turn in range(5)}


def test_processes_on_one_vm_lose_no_change(cn):
    uuid = cn.add(alias="processes", files={"tags": {}})
    children = [cn.start_vmadm("update", uuid, payload={"set_tags": {str(number): True}}) for number in range(6)]
    for child in children:
        code, said = ended(child)
        assert (code, said.splitlines()[-1]) == (0, f"Successfully updated VM {uuid}"), said
    assert cn.vm(uuid)["tags"] == {str(number): True for number in range(6)}


def test_second_writer_says_whom_it_waits_for(cn):
    uuid = cn.add()
    cn.control.fault("zonecfg", "hold")
    first = cn.start_vmadm("update", uuid, "alias=first")
    eventually("zonecfg is held", lambda: cn.control.held("zonecfg"))
    second = cn.start_vmadm("update", uuid, "alias=second")
    waiting = next_said(second)
    cn.control.step("zonecfg")
    first.communicate(timeout=SOON)
    assert f"held by `vmadm update {uuid}`, pid {first.pid}, since " in waiting
    assert ended(second) == (0, f"Successfully updated VM {uuid}")
    assert cn.vm(uuid)["alias"] == "second"


@pytest.mark.long
def test_write_that_waits_for_vminfod_says_so_once_and_goes_on(cn):
    """After three seconds, which a fresh read of a well node never takes."""
    uuid = cn.add()
    cn.control.fault("zfs", "hold", match=f"zones/{uuid}")
    child = cn.start_vmadm("update", uuid, "alias=late")
    # Which request meets the held zfs depends on what was read before; on a busy machine others take long, too.
    request = r"(GET /transactions/[0-9a-f-]+/vm|POST /transactions/[0-9a-f-]+/commit)"
    said = rf"waiting for vminfod to answer {request} \(VM {uuid}\)\n"
    waiting = next(line for line in child.stderr if re.fullmatch(said, line))
    cn.control.step("zfs")
    out, err = child.communicate(timeout=SOON)
    assert (child.returncode, out, outcome(err)) == (0, "", f"Successfully updated VM {uuid}")
    assert waiting not in err
    assert cn.vm(uuid)["alias"] == "late"


def test_two_creates_of_one_uuid_make_one_vm(cn):
    uuid = "5f0c0c52-6a1e-4d0b-9a57-0a4b1f2d7e33"
    from support.writing import IMAGE

    payload = {"brand": "joyent-minimal", "image_uuid": IMAGE, "uuid": uuid, "autoboot": False}
    children = [cn.start_vmadm("create", payload=payload) for _ in range(2)]
    ends = sorted((code, said.splitlines()[-1]) for code, said in map(ended, children))
    assert ends == [(0, f"Successfully created VM {uuid}"), (1, f"VM with UUID {uuid} already exists")]
    assert cn.vm(uuid)["state"] == "stopped"


def test_update_while_the_vm_is_deleted_finds_none(cn):
    uuid = cn.add()
    cn.control.fault("zoneadm", "hold", match="uninstall")
    child = cn.start_vmadm("delete", uuid)
    eventually("it is being deleted", lambda: cn.control.held("zoneadm"))
    update = cn.start_vmadm("update", uuid, "alias=x")
    assert f"held by `vmadm delete {uuid}`, pid {child.pid}, since " in next_said(update)
    cn.control.step("zoneadm")
    assert ended(update) == (1, f"VM {uuid} not found")
    child.communicate(timeout=SOON)
    assert cn.is_gone(uuid)
    assert not os.path.exists(cn.root + locks.config_lock(uuid))


def test_secrets_of_the_command_line_are_in_no_lock(cn):
    uuid = cn.add(brand="kvm", image="", ram=1024, state="stopped")
    cn.control.fault("zonecfg", "hold")
    child = cn.start_vmadm("update", uuid, "vnc_password=topsecr")
    eventually("zonecfg is held", lambda: cn.control.held("zonecfg"))
    with open(cn.root + locks.config_lock(uuid)) as file:
        assert "topsecr" not in file.read()
    cn.control.step("zonecfg")
    child.communicate(timeout=SOON)
    for name in os.listdir(f"{cn.root}/var/log/vm/logs"):
        with open(f"{cn.root}/var/log/vm/logs/{name}") as file:
            assert "topsecr" not in file.read()


def test_of_two_that_are_made_under_one_name_the_second_is_refused(cn):
    """Both before there is a zone of that name. zonecfg would make the second one's of the first."""
    payload = {"brand": "joyent-minimal", "image_uuid": IMAGE, "zonename": "web", "autoboot": False}
    cn.control.fault("zonecfg", "hold", match="web")
    first = cn.start_vmadm("create", payload=payload)
    eventually("it is about to make the zone", lambda: cn.control.held("zonecfg") == 1)
    second = cn.start_vmadm("create", payload=payload)
    assert "vm.web.config.lockfile: held by `vmadm create" in next_said(second)
    cn.control.step("zonecfg")
    (code, made), (refused, why) = ended(first), ended(second)
    assert (code, refused) == (0, 1)
    assert why.endswith("zone web exists already")
    [uuid] = re.findall("Successfully created VM (.*)", made)
    assert (cn.vm(uuid)["zonename"], cn.vm(uuid)["state"]) == ("web", "stopped")
