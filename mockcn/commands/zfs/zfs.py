# SPDX-License-Identifier: MPL-2.0
"""zfs: which subcommand there is, and the usage texts. Each subcommand is in a module of its own sort."""

from typing import Callable

from mockcn.commands.output import CommandFailed, Output
from mockcn.commands.zfs import zfs_change, zfs_create, zfs_list, zfs_mount, zfs_show, zfs_stream
from mockcn.node import Node
from mockcn.state.pools import ZfsError

Subcommand = Callable[[Node, list[str], Output], int]

SUBCOMMANDS: dict[str, Subcommand] = {
    "list": zfs_list.main,
    "get": zfs_show.get,
    "holds": zfs_show.holds,
    "create": zfs_create.create,
    "clone": zfs_create.clone,
    "snapshot": zfs_create.snapshot,
    "snap": zfs_create.snapshot,
    "set": zfs_change.set_properties,
    "inherit": zfs_change.inherit,
    "rename": zfs_change.rename,
    "rollback": zfs_change.rollback,
    "promote": zfs_change.promote,
    "hold": zfs_change.hold,
    "release": zfs_change.release,
    "destroy": zfs_change.destroy,
    "mount": zfs_mount.mount,
    "unmount": zfs_mount.unmount,
    "umount": zfs_mount.unmount,
    "send": zfs_stream.send,
    "receive": zfs_stream.receive,
    "recv": zfs_stream.receive,
}


def main(node: Node, words: list[str], output: Output) -> int:
    if not words:
        raise CommandFailed(_usage("missing command"), 2)
    subcommand = SUBCOMMANDS.get(words[0])
    if words[0] in ("-?", "--help", "help"):
        output.line(_usage(None))
        return 0
    if subcommand is None:
        raise CommandFailed(_usage(f"unrecognized command '{words[0]}'"), 2)
    try:
        return subcommand(node, words[1:], output)
    except ZfsError as err:
        raise CommandFailed(str(err)) from err


def _usage(why: "str | None") -> str:
    lines = [why] if why else []
    return "\n".join(
        [
            *lines,
            "usage: zfs command args ...",
            "where 'command' is one of the following:",
            "",
            *(f"\t{name}" for name in sorted(SUBCOMMANDS)),
        ]
    )
