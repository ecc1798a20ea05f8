# SPDX-License-Identifier: MPL-2.0
"""A folder whose files really hang: a file system of our own, mounted over it, that answers the kernel's questions or
does not. Whoever opens, reads or looks at a file in it meanwhile waits in the kernel, as on a sick pool.

    with HangingFolder(path, {"tags.json": b"{}"}) as folder:
        folder.hold()         # from now on nothing is answered
        folder.asked.wait()   # somebody asks
        folder.heal()         # all questions are answered, those that wait first

Always: it is read-only, and flat; the kernel keeps nothing of it, so that each look is a question;
        once it is closed everybody who waits gets an error, and the folder below is there again.
It needs FUSE and the right to mount: available() says whether they are there."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import threading
from typing import Any, Optional

from support.deadlines import SOON

_IN = struct.Struct("=IIQQIIII")  # length, opcode, number, node, uid, gid, pid, padding
_OUT = struct.Struct("=IiQ")
_ENTRY, _ATTR_HEAD = struct.Struct("=QQQQII"), struct.Struct("=QII")
_ATTR = struct.Struct("=6Q10I")
_INIT = struct.Struct("=IIIIHHIIHHI7I")
LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT = 1, 2, 3, 14, 15, 17, 18, 25, 26
OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 27, 28, 29, 36, 38, 42
_UNANSWERED = (FORGET, INTERRUPT, BATCH_FORGET)
_ROOT = 1
_DETACH = 2  # sys/mount.h
_LARGEST = 1 << 17

_libc = ctypes.CDLL(None, use_errno=True)


def available() -> bool:
    """Whether this process can mount such a folder."""
    if not os.path.exists("/dev/fuse") or os.geteuid() != 0:
        return False
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        rights = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    return bool(rights & 1 << 21)  # CAP_SYS_ADMIN


class HangingFolder:
    """See the head of the module. `files`: their names and contents, which may be changed at any time."""

    def __init__(self, path: str, files: dict[str, bytes]):
        self.files = files
        self.asked = threading.Event()  # somebody waits for an answer
        self._names = sorted(files)  # a file's node is its place in here, after the root's
        self._path = path
        self._lock = threading.Lock()
        self._held: Optional[list[bytes]] = None  # the questions that wait; None: they are answered
        self._device = os.open("/dev/fuse", os.O_RDWR)
        words = f"fd={self._device},rootmode={stat.S_IFDIR | 0o755:o},user_id=0,group_id=0,allow_other"
        if _libc.mount(b"hanging", os.fsencode(path), b"fuse", 0, words.encode()) != 0:
            number = ctypes.get_errno()
            os.close(self._device)
            raise OSError(number, os.strerror(number), path)
        self._thread = threading.Thread(target=self._serve, name="hanging folder", daemon=True)
        self._thread.start()

    def hold(self) -> None:
        with self._lock:
            self._held = []
            self.asked.clear()

    def heal(self) -> None:
        with self._lock:
            questions, self._held = self._held or [], None
        for question in questions:
            self._answer(question)

    def __enter__(self) -> HangingFolder:
        return self

    def __exit__(self, *_: object) -> None:
        _libc.umount2(os.fsencode(self._path), _DETACH)
        self.heal()
        self._thread.join(SOON)
        os.close(self._device)

    def _serve(self) -> None:
        while True:
            try:
                question = os.read(self._device, _LARGEST + 4096)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                return  # ENODEV: it is mounted no more
            with self._lock:
                waits = self._held is not None and _IN.unpack_from(question)[1] not in (INIT, DESTROY, *_UNANSWERED)
                if waits and self._held is not None:
                    self._held.append(question)
                    self.asked.set()
            if not waits:
                self._answer(question)

    def _answer(self, question: bytes) -> None:
        _, opcode, number, node, *_ = _IN.unpack_from(question)
        if opcode in _UNANSWERED:
            return
        body: bytes = b""
        error = 0
        try:
            body = self._body(opcode, node, question[_IN.size :])
        except OSError as why:
            error = -(why.errno or errno.EIO)
        try:
            os.write(self._device, _OUT.pack(_OUT.size + len(body), error, number) + body)
        except OSError as why:
            if why.errno not in (errno.ENOENT, errno.ENODEV, errno.EINVAL):  # who asked has gone
                raise

    def _body(self, opcode: int, node: int, rest: bytes) -> bytes:
        if opcode == INIT:
            return _INIT.pack(7, 31, 0, 0, 1, 1, 4096, 1, 1, 0, *[0] * 8)
        if opcode == LOOKUP:
            name = os.fsdecode(rest[:-1])
            if name not in self._names:
                raise OSError(errno.ENOENT, name)
            found = self._names.index(name) + _ROOT + 1
            return _ENTRY.pack(found, 0, 0, 0, 0, 0) + self._attributes(found)
        if opcode == GETATTR:
            return _ATTR_HEAD.pack(0, 0, 0) + self._attributes(node)
        if opcode in (OPEN, OPENDIR):
            return struct.pack("=QII", 0, 1, 0)  # 1: the kernel keeps nothing of the content
        if opcode == READ:
            offset, size = struct.unpack_from("=QI", rest, 8)
            return self._content(node)[offset : offset + size]
        if opcode == STATFS:
            return bytes(80)
        if opcode in (READDIR, FLUSH, RELEASE, RELEASEDIR, DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "not known here")

    def _content(self, node: int) -> bytes:
        return self.files[self._names[node - _ROOT - 1]]

    def _attributes(self, node: int) -> bytes:
        size = 0 if node == _ROOT else len(self._content(node))
        mode = stat.S_IFDIR | 0o755 if node == _ROOT else stat.S_IFREG | 0o644
        times: Any = (1_700_000_000,) * 3
        return _ATTR.pack(node, size, 1, *times, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
