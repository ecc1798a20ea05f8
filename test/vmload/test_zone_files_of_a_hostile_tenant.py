# SPDX-License-Identifier: MPL-2.0
"""What a tenant can put below a zone's root cannot lead vminfod or vmadm out of it, hang them, or fill their memory.

Every reader and writer of the gate is tried against links, FIFOs, sockets, devices and swaps in mid-way. What must hold
is looked at from outside: the folder that the links lead to is as it was, and nothing of it was read."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.deadlines import SOON
from vmload.zonefiles import NotPlain, Visit, ZoneFiles

SECRET = b"of the global zone"

Act = Callable[[ZoneFiles, str], object]

# Each way through the gate; the path given is one of a file.
ACTS: dict[str, Act] = {
    "read": lambda files, path: files.read(path),
    "read_if_there": lambda files, path: files.read_if_there(path),
    "visit_read": lambda files, path: _visiting(files, lambda visit: visit.read_if_there(path)),
    "mtime": lambda files, path: files.mtime(path),
    "visit_mtime": lambda files, path: _visiting(files, lambda visit: visit.mtime(path)),
    "is_file": lambda files, path: files.is_file(path),
    "exists": lambda files, path: files.exists(path),
    "write": lambda files, path: files.write(path, b"written"),
    "make_folder": lambda files, path: files.make_folder(path),
    "remove": lambda files, path: files.remove(path),
    "remove_empty": lambda files, path: files.remove_empty(path),
    "remove_folder": lambda files, path: files.remove_folder(path),
}
READS = ("read", "read_if_there", "visit_read", "mtime", "visit_mtime", "is_file", "exists")


def _visiting(files: ZoneFiles, act: Callable[[Visit], object]) -> object:
    with files.visit() as visit:
        return act(visit)


class Place:
    """A zonepath, and beside it what belongs to the global zone."""

    def __init__(self, folder: Path) -> None:
        self.zonepath, self.outside = folder / "zone", folder / "global"
        self.root = self.zonepath / "root"
        self.files = ZoneFiles(str(self.zonepath))
        self.root.mkdir(parents=True)
        (self.outside / "etc").mkdir(parents=True)
        (self.outside / "etc" / "shadow").write_bytes(SECRET)
        (self.outside / "empty").mkdir()
        self._before = self.seen()

    def seen(self) -> list[tuple[str, int, bytes]]:
        """All that is outside the zone."""
        return sorted(
            (str(path), path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
            for path in [self.outside, *self.outside.rglob("*")]
        )

    def is_untouched(self) -> bool:
        return self.seen() == self._before


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("depth", (0, 1, 2))
def test_link_on_the_way_is_never_followed(place: Place, act: str, depth: int) -> None:
    names = ["a", "etc", "shadow"]
    above = place.root.joinpath(*names[:depth])
    above.mkdir(parents=True, exist_ok=True)
    target = place.outside / "etc" / "shadow" if depth == 2 else place.outside / "etc" if depth == 1 else place.outside
    (above / names[depth]).symlink_to(target)
    result = None
    with contextlib.suppress(OSError):
        result = ACTS[act](place.files, "root/a/etc/shadow")
    assert place.is_untouched()
    assert result != SECRET
    if act in ("mtime", "visit_mtime", "is_file"):
        assert not result


@pytest.mark.parametrize("act", ("write", "remove", "make_folder", "remove_folder", "remove_empty", "read"))
def test_refusal_names_the_link(place: Place, act: str) -> None:
    (place.root / "checkpoints").symlink_to(place.outside)
    with pytest.raises(NotPlain, match="root/checkpoints is a symbolic link"):
        ACTS[act](place.files, "root/checkpoints/etc/shadow")
    assert place.is_untouched()


def test_removing_a_folder_removes_the_links_in_it_and_not_what_they_lead_to(place: Place) -> None:
    (place.root / "a" / "b").mkdir(parents=True)
    (place.root / "a" / "b" / "out").symlink_to(place.outside)
    (place.root / "a" / "file").write_text("x")
    os.mkfifo(place.root / "a" / "fifo")
    place.files.remove_folder("root/a")
    assert not (place.root / "a").exists()
    assert place.is_untouched()


def test_link_in_place_of_a_folder_is_not_emptied(place: Place) -> None:
    (place.root / "config").symlink_to(place.outside)
    with pytest.raises(NotPlain):
        place.files.remove_folder("root/config")
    assert place.is_untouched()


def test_written_file_replaces_a_link_and_leaves_what_it_led_to(place: Place) -> None:
    (place.root / "nodename").symlink_to(place.outside / "etc" / "shadow")
    place.files.write("root/nodename", b"db0\n", 0o600)
    assert (place.root / "nodename").read_bytes() == b"db0\n"
    assert stat.S_IMODE((place.root / "nodename").lstat().st_mode) == 0o600
    assert not (place.root / "nodename").is_symlink()
    assert place.is_untouched()
    assert os.listdir(place.root) == ["nodename"]


def _make_fifo(path: Path) -> None:
    os.mkfifo(path)


def _make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{folder}/{path.name}" if os.path.exists("/proc/self/fd") else str(path))
        finally:
            os.close(folder)


def _make_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero: endless where it is read
    except PermissionError:
        pytest.skip("making devices is not allowed here")


SPECIAL = {"fifo": _make_fifo, "socket": _make_socket, "device": _make_device}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("kind", SPECIAL)
def test_fifo_socket_or_device_neither_hangs_nor_is_opened(place: Place, act: str, kind: str) -> None:
    path = place.root / "thing"
    SPECIAL[kind](path)
    mode = path.lstat().st_mode
    done = threading.Event()
    raised: list[BaseException] = []

    def try_it() -> None:
        try:
            ACTS[act](place.files, "root/thing")
        except OSError as error:
            raised.append(error)
        done.set()

    threading.Thread(target=try_it, daemon=True).start()
    assert done.wait(SOON), "it hangs"
    if act == "remove":
        assert not path.exists()
    else:
        assert path.lstat().st_mode == mode
    if act in ("read", "read_if_there", "visit_read", "write", "remove_folder", "make_folder"):
        assert isinstance(raised[0], OSError)


@pytest.mark.parametrize("act", ("read", "read_if_there", "visit_read"))
def test_read_of_an_endless_file_ends(place: Place, act: str) -> None:
    with open(place.root / "large", "wb") as file:
        file.truncate(1 << 40)  # a hole: it takes no room
    with pytest.raises(OSError) as caught:
        ACTS[act](place.files, "root/large")
    assert caught.value.errno == errno.EFBIG
    with pytest.raises(OSError) as caught:
        place.files.read("root/large", 10)
    assert caught.value.errno == errno.EFBIG


def test_folders_nested_without_end_are_refused_and_not_recursed_into(place: Place) -> None:
    folder = os.open(place.root, os.O_RDONLY)
    for _ in range(150):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    with pytest.raises(OSError) as caught:
        place.files.remove_folder("root/d")
    assert caught.value.errno == errno.ENAMETOOLONG


@pytest.mark.parametrize("path", ("root/../../global/etc/shadow", "/etc/shadow", "root//x", "root/./x", "root/x\0y"))
def test_path_that_is_not_plain_is_a_mistake_of_the_caller(place: Place, path: str) -> None:
    for act in ACTS.values():
        with pytest.raises(ValueError):
            act(place.files, path)
    assert place.is_untouched()


@contextlib.contextmanager
def _swapping(place: Place) -> Iterator[None]:
    """A tenant that swaps `etc` for a link out of the zone and back, as fast as it can."""
    (place.root / "etc").mkdir()
    (place.root / "link").symlink_to(place.outside / "etc")
    stop = threading.Event()

    def swap() -> None:
        moves = (("etc", "kept"), ("link", "etc"), ("etc", "link"), ("kept", "etc"))
        while not stop.is_set():
            for old, new in moves:
                with contextlib.suppress(OSError):  # the one that is tried made or removed something in between
                    os.rename(place.root / old, place.root / new)

    thread = threading.Thread(target=swap, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("act", ACTS)
def test_folder_that_becomes_a_link_in_mid_way_leads_nowhere(place: Place, act: str) -> None:
    with _swapping(place):
        for _ in range(400):
            try:
                result = ACTS[act](place.files, "root/etc/shadow")
            except OSError:
                continue
            assert result != SECRET
            if act in READS:
                assert not result
    assert place.is_untouched()
