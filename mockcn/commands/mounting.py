# SPDX-License-Identifier: MPL-2.0
"""mount and umount, which only keep a list: nothing is really mounted."""

import getopt
import os

from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node

SNAPSHOTS = "/.zfs/snapshot/"


def mount(node: Node, words: list[str], output: Output) -> int:
    """`mount -F lofs [-o options] SOURCE FOLDER`; without words the list."""
    try:
        _, rest = getopt.getopt(words, "F:o:Omvp")
    except getopt.GetoptError as err:
        raise CommandFailed(f"mount: {err}") from err
    with node.lock:
        if not rest:
            for where, source in node.mounted.items():
                output.line(f"{where} on {source}")
            return 0
        if len(rest) != 2:
            raise CommandFailed("usage: mount [-F FSType] [-o options] special mount_point")
        source, where = rest
        if not os.path.isdir(node.real(where)):
            raise CommandFailed(f"mount: Mount point {where} does not exist.")
        if not _is_there(node, source):
            raise CommandFailed(f"mount: {source}: No such file or directory")
        if where in node.mounted:
            raise CommandFailed(f"mount: {where} is already mounted or {source} is busy")
        node.mounted[where] = source
    return 0


def umount(node: Node, words: list[str], output: Output) -> int:
    where = words[-1] if words else ""
    if not where or where.startswith("-"):
        raise CommandFailed("usage: umount [-f] {special | mount-point}")
    with node.lock:
        if node.mounted.pop(where, None) is None:
            raise CommandFailed(f"umount: warning: {where} not in mnttab\numount: {where} not mounted")
    return 0


def _is_there(node: Node, path: str) -> bool:
    """Whether there is a file of that name; snapshots' folders are there if the snapshots are."""
    above, marker, below = path.partition(SNAPSHOTS)
    if not marker:
        return os.path.exists(node.real(path))
    return any(
        below.split("/")[0] in dataset.snapshots
        for root in node.pools.roots()
        for dataset in root.descendants()
        if dataset.mounted_at() == above
    )
