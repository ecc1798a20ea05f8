# SPDX-License-Identifier: MPL-2.0
"""`vmadm reprovision`: another image, and all else as it was; what is said and left where a step fails, or vmadm is
interrupted or killed between any two of its steps."""

import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from support.deadlines import SOON
from support.examples import more
from support.reprovisioned import NEW, OLD, candidate, leftovers, put, whole, zfs
from support.running_daemon import SBIN, eventually
from support.writing import BASE_IMAGE, IMAGE, LEGACY_IMAGE, LX_IMAGE, NOBODY, ZVOL_IMAGE, ended
from vmadm import BadPayload, NotReached, VmadmError, VmNotFound, WrongState
from vmadm.actions import firstboot, stopping

pytest_plugins = ["support.writers"]

PAYLOAD = {"image_uuid": NEW}

# Every command of the node by which a reprovision changes something, in its order: U is the VM, Z its root. That there
# are no others is a test of its own.
CHANGES = (
    "zonecfg -u U set autoboot=false",
    "zlogin U /usr/sbin/shutdown -y -g 0 -i 5",
    "zonecfg -u U set autoboot=false",
    'zonecfg -u U add attr; set name=transition; set value="provisioning:running:',
    "zfs clone -o",
    "cp -pPR /Z/config/ipf.conf",
    "svccfg -s svc:/smartdc/mdata:execute",
    "zfs umount /Z/cores",
    "zfs set zoned=off Z/data",
    "zfs rename -f Z Z-reprovisioning-root",
    "zfs rename -f Z-reprovisioning-new Z",
    "zfs rename -f Z-reprovisioning-root/data Z/data",
    "zfs rename -f Z-reprovisioning-root/volumes Z/volumes",
    "zfs set zoned=on Z/data",
    "zfs mount zones/cores/U",
    "jinstall -r -R /Z -z U",
    "zfs rename -f Z-reprovisioning-root Z-reprovisioned-root",
    "zonecfg -u U select attr name=dataset-uuid",
    "zfs destroy -r Z-reprovisioned-root",
    "zoneadm -u U boot -X",
    "zonecfg -u U set autoboot=true",
    "zonecfg -u U remove attr name=transition",
)
KEPT_AT = next(number for number, text in enumerate(CHANGES) if text.endswith("-reprovisioned-root"))
LOOKS = ("zfs list", "zfs get", "imgadm", "nictagadm")
ALL = range(len(CHANGES))
FEW = (5, KEPT_AT, KEPT_AT + 2)  # the first and the last that is taken back, and one that is completed
FAILING = (0, KEPT_AT - 2, KEPT_AT + 1)


def steps(few, all_of_them=ALL):
    """Each step as a parameter; all but a few for `make test-all`."""
    return [
        pytest.param(
            number,
            id=f"{number}-{CHANGES[number].split(' U')[0][:40]}",
            marks=[pytest.mark.more] * (number not in few),
        )
        for number in all_of_them
    ]


def change(number, uuid):
    """(tool, text of its words) of one of CHANGES for a VM."""
    text = CHANGES[number].replace("Z", f"zones/{uuid}").replace("U", uuid)
    tool, _, words = text.partition(" ")
    return tool, words


def fault(cn, number, uuid, kind, **options):
    """A fault in that change alone: one that has the same words and comes before goes well."""
    tool, words = change(number, uuid)
    before = [at for at in range(number) if change(at, uuid) == (tool, words)]
    if before:
        cn.control.fault(tool, "slow", match=words, times=len(before), seconds=0)
    cn.control.fault(tool, kind, match=words, **options)
    return tool, words


# What comes of it.


def test_vm_has_another_image_and_all_else_that_it_had(cn):
    uuid = candidate(cn)
    before = cn.vm(uuid)
    assert cn.ok("reprovision", uuid, payload=PAYLOAD) == f"Successfully reprovisioned VM {uuid}"
    assert whole(cn, uuid) == "new"
    after = cn.vm(uuid)
    assert (after["state"], after["image_uuid"], after["snapshots"]) == ("running", NEW, [])
    changing = {"image_uuid", "snapshots", "last_modified", "zoneid", "pid", "boot_timestamp", "datasets"}
    assert {k: v for k, v in after.items() if k not in changing} == {
        key: value for key, value in before.items() if key not in changing
    }
    assert cn.node.read(f"/zones/{uuid}/root/etc/nodename") == f"{uuid}\n"
    assert cn.node.read(f"/zones/{uuid}/root/etc/hostname.net0") == "10.2.121.70/16 up\n"
    assert os.stat(f"{cn.root}/zones/{uuid}").st_mode & 0o777 == 0o700


def test_it_changes_the_node_by_these_commands_and_no_others(cn):
    uuid = candidate(cn)
    cn.forget_commands()
    cn.api.reprovision(uuid, PAYLOAD)
    ran = [line for line in cn.commands() if not line.startswith(LOOKS)]
    expected = [" ".join(change(number, uuid)) for number in range(len(CHANGES))]
    assert len(ran) == len(expected)
    assert [line.startswith(text) for line, text in zip(ran, expected)] == [True] * len(expected), ran


def test_stopped_vm_is_started(cn):
    uuid = candidate(cn, state="stopped", autoboot=False)
    assert cn.api.reprovision(uuid, PAYLOAD)["state"] == "running"
    assert whole(cn, uuid) == "new"
    assert cn.vm(uuid)["autoboot"] is True


def test_same_image_gives_a_fresh_root(cn):
    uuid = cn.create(autoboot=True)["uuid"]
    put(cn, f"/zones/{uuid}/root/mine", "")
    assert cn.api.reprovision(uuid, {"image_uuid": IMAGE})["image_uuid"] == IMAGE
    assert not os.path.exists(f"{cn.root}/zones/{uuid}/root/mine")
    assert leftovers(cn, uuid) == []


@pytest.mark.parametrize(
    ("brand", "first", "second"),
    [("lx", LX_IMAGE, LX_IMAGE), *more(("joyent", IMAGE, BASE_IMAGE), ("builder", IMAGE, BASE_IMAGE))],
)
def test_all_brands_of_zones(cn, brand, first, second):
    extra = {"kernel_version": "4.3.0"} if brand == "lx" else {}
    uuid = cn.create(brand=brand, image_uuid=first, **extra)["uuid"]
    vm = cn.api.reprovision(uuid, {"image_uuid": second})
    assert (vm["state"], vm["image_uuid"], vm["brand"]) == ("running", second, brand)


def test_docker_container_keeps_its_hosts_files(cn):
    uuid = cn.create(docker=True, hostname="web", resolvers=["8.8.8.8"])["uuid"]
    vm = cn.api.reprovision(uuid, PAYLOAD)
    assert vm["state"] == "running"
    assert cn.node.read(f"/zones/{uuid}/config/hostname") == "web\n"
    for filesystem in vm["filesystems"]:
        assert os.path.isfile(f"{cn.root}/zones/{uuid}/root{filesystem['target']}")


def test_image_without_a_final_snapshot_gets_one_that_goes_with_the_root(cn):
    zfs(cn, "clone", f"zones/{IMAGE}@final", "zones/scratch")
    zfs(cn, "rename", f"zones/{LX_IMAGE}@final", f"zones/{LX_IMAGE}@other")
    try:
        uuid = cn.create(brand="lx", image_uuid=LX_IMAGE, kernel_version="4.3.0")["uuid"]
        cn.api.reprovision(uuid, {"image_uuid": LX_IMAGE})
        assert zfs(cn, "get", "-H", "-o", "value", "origin", f"zones/{uuid}") == f"zones/{LX_IMAGE}@{uuid}\n"
    finally:
        zfs(cn, "rename", f"zones/{LX_IMAGE}@other", f"zones/{LX_IMAGE}@final")
    cn.api.reprovision(uuid, {"image_uuid": LX_IMAGE})
    assert cn.control.snapshots_of(f"zones/{LX_IMAGE}") == ["final"]


def test_listeners_see_it_step_by_step(cn):
    uuid = candidate(cn)
    stream = cn.daemon.events(f"?uuid={uuid}")
    stream.vms()
    cn.api.reprovision(uuid, PAYLOAD)
    states, images = [], []
    while not states or states[-1] != "running" or images[-1] != NEW:
        vm = stream.next()["vm"]
        states.append(vm["state"])
        images.append(vm["image_uuid"])
    order = list(dict.fromkeys(states))
    assert order[-2:] == ["provisioning", "running"] or set(order) >= {"stopped", "provisioning", "running"}
    assert images == [OLD] * images.index(NEW) + [NEW] * images.count(NEW)
    assert states[images.index(NEW)] == "provisioning"


def test_steps_are_shown_on_a_terminal(cn):
    uuid = candidate(cn)
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-IS", os.path.join(SBIN, "vmadm"), "reprovision", uuid],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=cn.environ,
    )
    os.close(theirs)
    child.communicate(json.dumps(PAYLOAD).encode(), timeout=SOON)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        pass  # the other side is closed: all was read
    os.close(ours)
    lines = shown.decode().replace("\r\n", "\n").splitlines()
    assert child.returncode == 0
    steps = [line.partition("] ")[2] for line in lines]  # behind the time
    assert steps[0] == "1/18: stop"
    assert "5/18: files in the zone" in steps
    assert [steps[-2], lines[-1]] == ["18/18: boot", f"Successfully reprovisioned VM {uuid}"]


# What is refused.


@pytest.mark.parametrize(
    ("fields", "payload", "text"),
    [
        ({"brand": "kvm", "image": ""}, PAYLOAD, 'brand "kvm" does not yet support reprovision'),
        ({}, {}, "payload is missing image_uuid"),
        ({}, {"image_uuid": "nonsense"}, 'image_uuid is no uuid: "nonsense"'),
        ({"indestructible": "root"}, PAYLOAD, "indestructible_zoneroot is set, cannot reprovision"),
        (
            {},
            {"image_uuid": ZVOL_IMAGE},
            f'image {ZVOL_IMAGE} is type zvol, but must be one of: ["zone-dataset"]',
        ),
        (
            {"brand": "joyent"},
            {"image_uuid": LEGACY_IMAGE},
            f"provisioning dataset {LEGACY_IMAGE} with brand joyent is not supported",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_touched(cn, fields, payload, text):
    uuid = cn.add(**fields)
    cn.forget_commands()
    assert cn.fails("reprovision", uuid, payload=payload) == f"Failed to reprovision VM {uuid}: {text}"
    assert [line for line in cn.commands() if not line.startswith(LOOKS)] == []
    assert cn.vm(uuid)["state"] == "running"


def test_image_that_is_not_there_is_refused_with_imgadms_words(cn):
    uuid = cn.add()
    text = cn.fails("reprovision", uuid, payload={"image_uuid": NOBODY})
    assert "ImageNotInstalled" in text
    with pytest.raises(VmNotFound, match=f"Failed to reprovision VM {NOBODY}: VM {NOBODY} not found"):
        cn.api.reprovision(NOBODY, PAYLOAD)
    with pytest.raises(BadPayload):
        cn.api.reprovision(uuid, {"image_uuid": None})


def test_other_delegated_datasets_are_refused(cn):
    uuid = cn.add(delegated=True, state="stopped")
    cn.node.run("zonecfg", "-u", uuid, f"add dataset; set name=zones/{uuid}/more; end", check=True)
    with pytest.raises(WrongState, match="multiple delegated datasets"):
        cn.api.reprovision(uuid, PAYLOAD)
    cn.node.run("zonecfg", "-u", uuid, f"remove dataset name=zones/{uuid}/data", check=True)
    with pytest.raises(WrongState, match=f'non-standard "zones/{uuid}/more" dataset'):
        cn.api.reprovision(uuid, PAYLOAD)


def test_volumes_that_a_running_vm_mounts_are_not_taken_from_under_it(cn):
    owner = candidate(cn)
    mount = {"special": f"/zones/{owner}/volumes/v", "directory": "/v", "type": "lofs"}
    other = cn.add(filesystems=[mount])
    with pytest.raises(WrongState, match=f'running VMs are sharing its volumes: ."{other}".'):
        cn.api.reprovision(owner, PAYLOAD)
    cn.api.stop(other, force=True)
    cn.api.reprovision(owner, PAYLOAD)
    assert whole(cn, owner) == "new"


def test_vm_without_a_tmp_in_memory_keeps_it_so(cn):
    script = "root/var/zoneinit/includes/11-files.sh"
    put(cn, f"/zones/{NEW}/{script}", "echo files\n")
    image = cn.node.run("zfs", "snapshot", f"zones/{NEW}@with-script", check=True)
    assert image.returncode == 0
    zfs(cn, "rename", f"zones/{NEW}@final", f"zones/{NEW}@before")
    zfs(cn, "rename", f"zones/{NEW}@with-script", f"zones/{NEW}@final")
    try:
        uuid = cn.create(brand="joyent", tmpfs=0)["uuid"]
        cn.api.reprovision(uuid, PAYLOAD)
        text = cn.node.read(f"/zones/{uuid}/{script}")
        assert text.endswith("/etc/vfstab\necho files\n")
        assert len(text.splitlines()) == 4
        other = cn.create(brand="joyent")["uuid"]
        cn.api.reprovision(other, PAYLOAD)
        assert cn.node.read(f"/zones/{other}/{script}") == "echo files\n"
    finally:
        zfs(cn, "rename", f"zones/{NEW}@final", f"zones/{NEW}@with-script")
        zfs(cn, "rename", f"zones/{NEW}@before", f"zones/{NEW}@final")


def test_zone_without_a_root_is_refused(cn):
    uuid = cn.add(state="configured")
    with pytest.raises(WrongState, match="has no root dataset"):
        cn.api.reprovision(uuid, PAYLOAD)


# A step that fails.


@pytest.mark.parametrize("number", [step for step in steps(FAILING) if "destroy" not in step.id])
def test_vm_is_whole_after_a_step_that_fails_and_the_message_says_which(cn, number, monkeypatch):
    monkeypatch.setattr(stopping, "SHUTDOWN_LIMIT", 0.2)
    uuid = candidate(cn)
    tool, _ = fault(cn, number, uuid, "fail", stderr="no luck\n")
    try:
        cn.api.reprovision(uuid, PAYLOAD)
        text = ""
    except VmadmError as error:
        text = str(error)
    cn.control.clear_faults()
    vm = cn.vm(uuid)
    assert "transition_to" not in vm
    if not text:  # what only tells others, or is tried twice
        assert whole(cn, uuid) == "new" and vm["state"] == "running"
        assert tool in ("zonecfg", "zlogin", "svccfg")
        return
    which = "new" if number > KEPT_AT else "old"
    assert whole(cn, uuid) == which, text
    image = {"old": OLD, "new": NEW}[which]
    assert text.startswith(f"Failed to reprovision VM {uuid}: ")
    assert "no luck" in text
    assert f"VM {uuid} is whole, with its {which} image {image}, and is {vm['state']}" in text
    cn.api.reprovision(uuid, PAYLOAD)
    assert whole(cn, uuid) == "new"


def test_old_root_that_cannot_be_destroyed_is_named_and_goes_later(cn):
    uuid = candidate(cn)
    cn.control.fault("zfs", "fail", match="destroy -r", stderr="cannot destroy: dataset is busy\n")
    first, last = cn.ok("reprovision", uuid, payload=PAYLOAD).splitlines()
    assert first == (f"zones/{uuid}-reprovisioned-root is left: Command failed: cannot destroy: dataset is busy")
    assert cn.vm(uuid)["image_uuid"] == NEW
    cn.ok("delete", uuid)
    assert cn.is_gone(uuid)


def test_zone_whose_services_do_not_get_done_is_failed_with_the_new_image(cn, monkeypatch):
    monkeypatch.setattr(firstboot, "LIMIT", 0.5)
    cn.control.set_pace(guest=None)
    uuid = candidate(cn)
    with pytest.raises(NotReached, match=f"is whole, with its new image {NEW}, and is failed"):
        cn.api.reprovision(uuid, PAYLOAD)
    cn.control.set_pace(guest=0.05)
    assert (whole(cn, uuid), cn.vm(uuid)["state"]) == ("new", "failed")
    assert cn.api.reprovision(uuid, PAYLOAD)["state"] == "running"
    assert "failed" not in cn.vm(uuid)


def test_what_cannot_be_put_in_order_is_said(cn):
    uuid = candidate(cn)
    cn.control.fault("zfs", "fail", match=f"rename -f zones/{uuid}-reprovisioning", times=None, stderr="no\n")
    with pytest.raises(VmadmError, match=r"could not be put in order \(.*no\): repeat it, or start or delete the VM"):
        cn.api.reprovision(uuid, PAYLOAD)
    cn.control.clear_faults()
    assert cn.vmadm("reprovision", uuid, payload=PAYLOAD).code == 0
    assert whole(cn, uuid) == "new"


# Interrupted.


@pytest.mark.parametrize(("number", "which"), [*more((4, "old")), (KEPT_AT - 2, "old"), (KEPT_AT, "new")])
def test_interrupted_reprovision_leaves_a_whole_vm(cn, number, which):
    uuid = candidate(cn)
    cn.forget_commands()
    tool, words = fault(cn, number, uuid, "hold")
    child = cn.start_vmadm("reprovision", uuid, payload=PAYLOAD)
    eventually("the step", lambda: [line for line in cn.commands() if line.startswith(f"{tool} {words}")])
    child.send_signal(signal.SIGINT)
    cn.control.step(tool)
    code, said = ended(child)
    image = {"old": OLD, "new": NEW}[which]
    assert code == 130 and "interrupted by SIGINT (done: stop, " in said
    assert said.endswith(
        f"; VM {uuid} is whole, with its {which} image {image}, and is stopped: start it with vmadm start {uuid}"
    )
    assert whole(cn, uuid) == which
    assert cn.vm(uuid)["autoboot"] is (which == "old")
    cn.ok("start", uuid)


# Killed: vmadm and the command that it runs end at once, before that command does anything.


def killed_before(cn, uuid, number):
    cn.forget_commands()
    tool, words = fault(cn, number, uuid, "hold")
    child = cn.start_vmadm("reprovision", uuid, payload=PAYLOAD)
    twins = [at for at in range(number + 1) if change(at, uuid) == (tool, words)]
    eventually(
        "the step",
        lambda: len([line for line in cn.commands() if line.startswith(f"{tool} {words}")]) == len(twins),
    )
    cn.kill_in_midst(child, tool, words)


@pytest.mark.parametrize("number", steps(FEW))
def test_start_makes_a_vm_whole_whose_reprovision_was_killed_between_any_two_steps(cn, number):
    uuid = candidate(cn)
    killed_before(cn, uuid, number)
    done = cn.vmadm("start", uuid)
    which = whole(cn, uuid)
    assert which == ("new" if number > KEPT_AT else "old")
    vm = cn.vm(uuid)
    assert (vm["state"], vm["image_uuid"]) == ("running", {"old": OLD, "new": NEW}[which]), done
    assert "transition_to" not in vm
    if 5 <= number <= KEPT_AT:
        assert f"an interrupted reprovision was taken back: the VM has its old image {OLD}" in done.err
    if KEPT_AT < number <= KEPT_AT + 2:
        assert f"an interrupted reprovision was completed: the VM has its new image {NEW}" in done.err


@pytest.mark.parametrize("number", steps((KEPT_AT + 2,), [5, 9, 10, 12, KEPT_AT, KEPT_AT + 2, KEPT_AT + 3]))
def test_another_reprovision_begins_from_what_a_killed_one_left(cn, number):
    uuid = candidate(cn)
    killed_before(cn, uuid, number)
    cn.ok("reprovision", uuid, payload=PAYLOAD)
    assert whole(cn, uuid) == "new"
    assert cn.vm(uuid)["state"] == "running"


@pytest.mark.parametrize("number", steps((10,), [5, 9, 10, 12, KEPT_AT, KEPT_AT + 2]))
def test_delete_takes_away_what_a_killed_reprovision_left(cn, number):
    uuid = candidate(cn)
    killed_before(cn, uuid, number)
    cn.ok("delete", uuid)
    assert cn.is_gone(uuid)


def test_what_would_be_lost_is_refused_until_a_killed_reprovision_is_settled(cn):
    uuid = candidate(cn)
    killed_before(cn, uuid, KEPT_AT)
    text = f"a reprovision of VM {uuid} was interrupted: run vmadm start, or reprovision it again, to put it in order"
    for words in (["update", uuid, "alias=lost"], ["create-snapshot", uuid, "s"], ["send", uuid]):
        assert cn.fails(*words).endswith(text)
    cn.ok("start", uuid)
    cn.ok("update", uuid, "alias=kept")
    assert (whole(cn, uuid), cn.vm(uuid)["alias"]) == ("old", "kept")


@pytest.mark.parametrize("at", ["rename -f zones/U zones/U-reprovisioning-new", *more("set zoned=on", "destroy -r")])
def test_settling_that_is_killed_is_settled_by_the_next(cn, at):
    uuid = candidate(cn)
    killed_before(cn, uuid, KEPT_AT)
    words = at.replace("U", uuid)
    cn.control.fault("zfs", "hold", match=words)
    child = cn.start_vmadm("start", uuid)
    eventually("the step", lambda: [line for line in cn.commands() if line.startswith(f"zfs {words}")])
    cn.kill_in_midst(child, "zfs", words)
    cn.ok("start", uuid)
    assert whole(cn, uuid) == "old"
