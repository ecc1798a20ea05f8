# SPDX-License-Identifier: MPL-2.0
"""mount and umount of folders: lofs, with which vmadm shows a snapshot in its zone. What they mount is really there
(state/overlays.py), or they refuse."""

import errno
import getopt
import os

from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node
from mockcn.state import trees
from mockcn.state.overlays import CannotMount

SNAPSHOTS = "/.zfs/snapshot/"
USAGE = "usage: mount [-F FSType] [-o options] special mount_point"


def mount(node: Node, words: list[str], output: Output) -> int:
    """`mount -F lofs [-o options] SOURCE FOLDER`; without words the list."""
    try:
        options, rest = getopt.getopt(words, "F:o:Omvp")
    except getopt.GetoptError as err:
        raise CommandFailed(f"mount: {err}") from err
    given = dict(options)
    with node.lock:
        if not rest:
            for where, source, settings in node.overlays.rows():
                output.line(f"{where} on {source} {settings}".rstrip())
            return 0
        if len(rest) != 2:
            raise CommandFailed(USAGE)
        if given.get("-F", "lofs") != "lofs":
            raise CommandFailed(f"mount: operation not applicable for FSType {given['-F']}")
        source, where = rest[0], rest[1].rstrip("/")
        if not os.path.isdir(node.real(where)):
            raise CommandFailed(f"mount: Mount point {where} does not exist.")
        if where in [row[0] for row in node.overlays.rows()] and "-O" not in given:
            raise CommandFailed(f"mount: {where} is already mounted or {source} is busy")
        _mount(node, source, where, given.get("-o", ""))
    return 0


def _mount(node: Node, source: str, where: str, options: str) -> None:
    try:
        if SNAPSHOTS in source:
            files = _of_snapshot(node, source)
            if files is None:
                raise CommandFailed(f"mount: {source}: No such file or directory")
            node.overlays.add_snapshot(where, source, options, files)
        elif not os.path.exists(node.real(source)):
            raise CommandFailed(f"mount: {source}: No such file or directory")
        else:
            node.overlays.add_folder(where, source, options)
    except CannotMount as err:
        why = "insufficient privileges" if err.number == errno.EPERM else os.strerror(err.number)
        raise CommandFailed(f"mount: {why}") from err


def umount(node: Node, words: list[str], output: Output) -> int:
    try:
        options, rest = getopt.getopt(words, "fo:V")
    except getopt.GetoptError as err:
        raise CommandFailed(f"umount: {err}") from err
    if len(rest) != 1:
        raise CommandFailed("usage: umount [-f] {special | mount-point}")
    where = rest[0].rstrip("/")
    with node.lock:
        try:
            node.overlays.remove(where, force=("-f", "") in options)
        except KeyError as err:
            raise CommandFailed(f"umount: warning: {where} not in mnttab\numount: {where} not mounted") from err
        except CannotMount as err:
            raise CommandFailed(f"umount: {where} busy") from err
    return 0


def _of_snapshot(node: Node, path: str) -> "trees.Files | None":
    """The files below MOUNTPOINT/.zfs/snapshot/NAME[/FOLDER], None if there is no such snapshot or folder."""
    above, _, rest = path.partition(SNAPSHOTS)
    name, _, folder = rest.partition("/")
    dataset = node.pools.mounted_at(above)
    if dataset is None or name not in dataset.snapshots:
        return None
    return trees.below(dataset.snapshots[name].files or {}, folder.rstrip("/"))
