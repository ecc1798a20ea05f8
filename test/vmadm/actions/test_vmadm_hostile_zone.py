# SPDX-License-Identifier: MPL-2.0
"""Each command of vmadm that reads or writes below a zonepath, on a zone whose tenant has put links, FIFOs, sockets and
devices there, or swaps them in mid-way: it ends, and what belongs to the global zone is neither read nor changed."""

import contextlib
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from support.examples import in_turn
from support.writing import IMAGE
from vmadm import VmadmError

pytest_plugins = ("support.writers",)

SECRET = '{"secret": "of the global zone"}'
NAMES = ("tags.json", "metadata.json", "routes.json", "hosts", "hostname", "resolv.conf", "startvm", "vm.metadata")


class Outside:
    """What belongs to the global zone: files of every name that vmadm uses below a zonepath."""

    def __init__(self, folder):
        self.folder = folder
        for name in NAMES:
            (folder / name).write_text(SECRET)
        for name in ("adm", "log", "svc", "tmp"):  # which zoneadm's install makes in a zone's /var, wherever that is
            (folder / name).mkdir()
        self._before = self._seen()

    def _seen(self):
        return sorted(
            (str(path), path.lstat().st_mode, path.is_file() and path.read_text()) for path in self.folder.rglob("*")
        )

    def check(self):
        """It is as it was, and nothing is mounted over it."""
        assert self._seen() == self._before
        assert str(self.folder) not in Path("/proc/self/mounts").read_text()


@pytest.fixture
def outside(tmp_path):
    return Outside(tmp_path)


def link_to(place, outside):
    os.symlink(outside.folder, place)


def link_to_file(place, outside):
    os.symlink(outside.folder / "tags.json", place)


def fifo(place, outside):
    os.mkfifo(place)


def unix_socket(place, outside):
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(os.path.dirname(place), os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{folder}/{os.path.basename(place)}")
        finally:
            os.close(folder)


def device(place, outside):
    try:
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("making devices is not allowed here")


HARMS = [link_to, link_to_file, fifo, unix_socket, device]

# What is done, and what lies in its way below the zonepath.
COMMANDS = {
    "update of tags": (lambda api, uuid: api.update(uuid, set_tags={"a": "b"}), "config/tags.json"),
    "update of metadata": (
        lambda api, uuid: api.update(uuid, set_customer_metadata={"a": "b"}),
        "config/metadata.json",
    ),
    "update of routes": (
        lambda api, uuid: api.update(uuid, set_routes={"10.9.0.0/16": "10.0.0.1"}),
        "config/routes.json",
    ),
    "update of all": (
        lambda api, uuid: api.update(uuid, set_tags={"a": "b"}, set_customer_metadata={"a": "b"}),
        "config",
    ),
    "snapshot": (lambda api, uuid: api.create_snapshot(uuid, "s"), "root/checkpoints"),
    "fresh read": (lambda api, uuid: api.load(uuid, fresh=True), "lastexited"),
    "archive": (lambda api, uuid: api.delete(uuid), "config/tags.json"),
}


def ends(act, within=90.0):
    """Run it; its error, if there was one. It has to end."""
    errors = []

    def run():
        try:
            act()
        except VmadmError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(within)
    assert not thread.is_alive(), "it hangs"
    return errors[0] if errors else None


def clear_away(cn, uuid, place):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place)
    with contextlib.suppress(VmadmError):
        cn.api.delete(uuid)


@pytest.mark.parametrize(("what", "harm"), in_turn(COMMANDS, HARMS))
def test_command_ends_and_touches_nothing_outside(cn, outside, what, harm):
    act, inside = COMMANDS[what]
    uuid = cn.create(archive_on_delete=True)["uuid"] if what == "archive" else cn.add()
    place = f"{cn.root}/zones/{uuid}/{inside}"
    if os.path.isdir(place):
        os.rename(place, f"{place}.before")
    elif os.path.exists(place):
        os.unlink(place)
    harm(place, outside)
    try:
        ends(lambda: act(cn.api, uuid))
        outside.check()
        served = cn.daemon.get("/vms").body.decode()
        assert "of the global zone" not in served
        archive = Path(cn.root) / "zones" / "archive" / uuid
        assert "of the global zone" not in "".join(
            path.read_text() for path in archive.rglob("*") if path.is_file() and not path.is_symlink()
        )
    finally:
        clear_away(cn, uuid, place)


@pytest.mark.parametrize(("inside", "harm"), in_turn(["root/startvm", "root/tmp", "root/tmp/vm.metadata"], HARMS))
def test_start_of_a_kvm_ends_and_touches_nothing_outside(cn, outside, inside, harm):
    uuid = cn.add(brand="kvm", image="", ram=1024, state="stopped")
    place = f"{cn.root}/zones/{uuid}/{inside}"
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if os.path.isdir(place):
        os.rename(place, f"{place}.before")
    harm(place, outside)
    try:
        error = ends(lambda: cn.api.start(uuid))
        outside.check()
        replaced = os.path.islink(f"{place}") is False and harm in (link_to, link_to_file)
        assert (error is None) == replaced, error
    finally:
        clear_away(cn, uuid, place)


@pytest.mark.parametrize(
    ("inside", "harm"),
    in_turn(["root/etc", "root/etc/nodename", "root/var", "root/var/svc/provisioning", "config"], HARMS),
)
def test_create_from_a_hostile_image_ends_and_touches_nothing_outside(cn, outside, inside, harm):
    image = f"{cn.root}/zones/{IMAGE}"
    place = f"{image}/{inside}"
    os.makedirs(os.path.dirname(place), exist_ok=True)
    kept = os.path.lexists(place)
    if kept:
        os.rename(place, f"{place}.kept")
    harm(place, outside)
    snapshot = f"zones/{IMAGE}"
    cn.node.run("zfs", "snapshot", f"{snapshot}@evil", check=True)
    os.unlink(place)
    if kept:
        os.rename(f"{place}.kept", place)
    cn.node.run("zfs", "rename", f"{snapshot}@final", f"{snapshot}@good", check=True)
    cn.node.run("zfs", "rename", f"{snapshot}@evil", f"{snapshot}@final", check=True)
    made = []
    payload = {"brand": "joyent-minimal", "image_uuid": IMAGE, "autoboot": False, "docker": True, "tags": {"a": "b"}}
    try:
        error = ends(lambda: made.append(cn.api.create(payload)))
        outside.check()
        assert error is not None or made
    finally:
        if made:
            cn.api.delete(made[0]["uuid"])
        cn.node.run("zfs", "rename", f"{snapshot}@final", f"{snapshot}@evil", check=True)
        cn.node.run("zfs", "rename", f"{snapshot}@good", f"{snapshot}@final", check=True)
        cn.node.run("zfs", "destroy", f"{snapshot}@evil", check=True)
    outside.check()


def test_updates_of_a_zone_that_swaps_its_folder_for_a_link_change_nothing_outside(cn, outside):
    uuid = cn.add(alias="swapping")
    zonepath = f"{cn.root}/zones/{uuid}"
    os.symlink(outside.folder, f"{zonepath}/link")
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            for old, new in (("config", "kept"), ("link", "config"), ("config", "link"), ("kept", "config")):
                with contextlib.suppress(OSError):
                    os.rename(f"{zonepath}/{old}", f"{zonepath}/{new}")

    thread = threading.Thread(target=swap, daemon=True)
    thread.start()
    try:
        for number in range(8):
            ends(lambda number=number: cn.api.update(uuid, set_tags={"n": number}))
            assert "of the global zone" not in cn.daemon.get("/vms").body.decode()
    finally:
        stop.set()
        thread.join()
    outside.check()
    cn.api.delete(uuid)
    outside.check()
