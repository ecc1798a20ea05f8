# SPDX-License-Identifier: MPL-2.0
"""What the mount command has mounted: a folder of the node shown at another place, and snapshots' folders.

    bind    the kernel shows a folder at a second place; needs the privilege to mount, as the node's own mount does
    copy    a snapshot's files, which never change, put in the place of the folder that they cover

Always: what is mounted is really there, for all who look at the path; without the privilege nothing but a snapshot can
        be mounted, and mount says so. What a mount covers comes back when it goes.
Always: nothing is left mounted when the node has ended, however it did (unmounter.py).
Not here: zfs filesystems (mounts.py), the words of mount and umount (commands/mounting.py)."""

import ctypes
import errno
import os
import shutil
import stat
from dataclasses import dataclass

from mockcn.state.trees import Files, fill
from mockcn.state.unmounter import Unmounter

BIND, REMOUNT, READ_ONLY, PRIVATE = 4096, 32, 1, 1 << 18  # flags of mount(2)
DETACH = 2  # of umount2(2)


class CannotMount(Exception):
    """`.number` is the errno."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


@dataclass
class Overlay:
    source: str  # as mount was given it
    options: str
    bound: bool
    tree: str = ""  # folder of a snapshot's copied files
    covered: str = ""  # where the folder waits that a copy stands in for


class Overlays:
    def __init__(self, root: str, aside: str, *, kernel: bool) -> None:
        """`kernel`: whether to try real mounts at all."""
        self._root = root
        self._aside = aside
        self._kernel = kernel
        self._number = 0
        self._unmounter = Unmounter(root)
        self._table: dict[str, Overlay] = {}  # by node path

    def rows(self) -> list[tuple[str, str, str]]:
        """(where, source, options) of each, oldest first."""
        return [(where, overlay.source, overlay.options) for where, overlay in self._table.items()]

    def is_at(self, real: str) -> bool:
        return real[len(self._root) :] in self._table

    def below(self, where: str) -> list[str]:
        return [path for path in self._table if path.startswith(where.rstrip("/") + "/")]

    def add_folder(self, where: str, source: str, options: str) -> None:
        """Show the node's folder or file `source` at `where`. Raises CannotMount."""
        if not self._kernel:
            raise CannotMount(errno.EPERM)
        self._bind(self._root + source, where, read_only="ro" in options.split(","))
        self._table[where] = Overlay(source, options, bound=True)

    def add_snapshot(self, where: str, source: str, options: str, files: Files) -> None:
        """Show a snapshot's `files` at `where`; they can only be read."""
        tree = self._new("snapshot")
        os.makedirs(tree)
        fill(tree, files)
        try:
            if not self._kernel:
                raise CannotMount(errno.EPERM)
            self._bind(tree, where, read_only=True)
            self._table[where] = Overlay(source, options, bound=True, tree=tree)
        except CannotMount as err:
            if err.number != errno.EPERM:
                raise
            covered = self._new("covered")
            _take_write_permission(tree)
            os.rename(self._root + where, covered)
            os.rename(tree, self._root + where)
            self._table[where] = Overlay(source, options, bound=False, covered=covered)

    def remove(self, where: str, *, force: bool = False) -> None:
        """Unmount. Raises KeyError if nothing is mounted at `where`, CannotMount if it is in use."""
        overlay = self._table[where]
        if overlay.bound:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.umount2(os.fsencode(self._root + where), DETACH if force else 0) != 0:
                raise CannotMount(ctypes.get_errno())
            if overlay.tree:
                shutil.rmtree(overlay.tree, ignore_errors=True)
        else:
            gone = self._new("uncovered")
            os.rename(self._root + where, gone)
            os.rename(overlay.covered, self._root + where)
            _give_write_permission(gone)
            shutil.rmtree(gone, ignore_errors=True)
        del self._table[where]

    def drop_below(self, where: str) -> None:
        """Unmount whatever lies below `where`, in use or not, the newest first."""
        for path in reversed(self.below(where)):
            self.remove(path, force=True)

    def close(self) -> None:
        """Unmount all. To be called when the node ends."""
        self.drop_below("/")
        self._unmounter.close()

    def _bind(self, source: str, where: str, *, read_only: bool) -> None:
        self._unmounter.ensure()
        libc = ctypes.CDLL(None, use_errno=True)
        target = os.fsencode(self._root + where)
        if libc.mount(os.fsencode(source), target, None, ctypes.c_ulong(BIND), None) != 0:
            raise CannotMount(ctypes.get_errno())
        libc.mount(None, target, None, ctypes.c_ulong(PRIVATE), None)
        if read_only and libc.mount(None, target, None, ctypes.c_ulong(BIND | REMOUNT | READ_ONLY), None) != 0:
            number = ctypes.get_errno()
            libc.umount2(target, DETACH)
            raise CannotMount(number)

    def _new(self, what: str) -> str:
        self._number += 1
        return os.path.join(self._aside, f"{what}-{self._number}")


def _take_write_permission(tree: str) -> None:
    for folder, _, names in os.walk(tree, topdown=False):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) & ~0o222)
        # The top stays writable to us: it is renamed into place, which changes its `..`.
        if folder != tree:
            os.chmod(folder, stat.S_IMODE(os.stat(folder).st_mode) & ~0o222)


def _give_write_permission(tree: str) -> None:
    for folder, _, _ in os.walk(tree):
        os.chmod(folder, 0o700)
