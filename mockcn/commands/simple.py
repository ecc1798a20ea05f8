# SPDX-License-Identifier: MPL-2.0
"""zpool list, zdb -C, and the tools of which callers want only that they succeed: prctl, svccfg, svcadm, svcs."""

import getopt

from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node

POOL_FIELDS = ("name", "health")


def zpool(node: Node, words: list[str], output: Output) -> int:
    """`zpool list [-H] [-p] [-o name,health]`"""
    if words[:1] != ["list"]:
        raise CommandFailed("usage: zpool list [-Hp] [-o property[,...]] [pool] ...", 2)
    try:
        options, rest = getopt.getopt(words[1:], "Hpvo:T:")
    except getopt.GetoptError as err:
        raise CommandFailed(
            f"invalid option '{err.opt}'\nusage:\n\tlist [-Hp] [-o property[,...]] [pool] ...", 2
        ) from err
    given = dict(options)
    fields = given.get("-o", "name,health").split(",")
    for name in fields:
        if name not in POOL_FIELDS:
            raise CommandFailed(f"bad property list: invalid property '{name}'", 2)
    with node.lock:
        names = [root.name for root in node.pools.roots()]
    status = 0
    for name in rest:
        if name not in names:
            output.error(f"cannot open '{name}': no such pool")
            status = 1
    if "-H" not in given:
        output.line("  ".join(name.upper() for name in fields))
    for name in [name for name in names if not rest or name in rest]:
        output.line("\t".join({"name": name, "health": "ONLINE"}[field] for field in fields))
    return status


def zdb(node: Node, words: list[str], output: Output) -> int:
    """`zdb -C POOL`: what the pool is made of."""
    if len(words) != 2 or words[0] != "-C":
        raise CommandFailed("Usage: zdb -C [poolname]", 1)
    with node.lock:
        pool = node.pools.pools.get(words[1])
        if pool is None or pool.exported:
            raise CommandFailed(f"zdb: can't open '{words[1]}': No such file or directory", 2)
        lines = ["", "MOS Configuration:", f"    name: '{pool.name}'", f"    pool_guid: {pool.guid}"]
        lines += ["    vdev_tree:", "        type: 'root'", "        children[0]:"]
        lines += [f"            type: '{pool.vdev}'", f"            ashift: {pool.ashift}"]
    for line in lines:
        output.line(line)
    return 0


def prctl(node: Node, words: list[str], output: Output) -> int:
    """Resource controls of a running zone; the new value goes nowhere."""
    with node.lock:
        zone = node.zones.zones.get(words[-1]) if words else None
    if zone is None or zone.kernel is None:
        raise CommandFailed(
            f"prctl: {words[-1] if words else ''}: No controllable process found in task, project, or zone."
        )
    return 0


def silent(node: Node, words: list[str], output: Output) -> int:
    return 0
