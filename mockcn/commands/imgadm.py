# SPDX-License-Identifier: MPL-2.0
"""imgadm: `get` and `list` of the images that are installed (docs/platform.md, "The little tools")."""

import getopt
import json

from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node
from mockcn.population import images

USAGE = "Usage: imgadm get [-P <pool>] <uuid>\n       imgadm list"


def main(node: Node, words: list[str], output: Output) -> int:
    if words[:1] == ["list"]:
        return _list(node, output)
    if words[:1] != ["get"]:
        raise CommandFailed(USAGE)
    try:
        options, rest = getopt.gnu_getopt(words[1:], "P:")
    except getopt.GetoptError as err:
        raise CommandFailed(f"imgadm get: error (Usage): {err}\n{USAGE}") from err
    if len(rest) != 1:
        raise CommandFailed(f"imgadm get: error (Usage): incorrect number of args ({len(rest)})\n{USAGE}")
    pool = dict(options).get("-P", images.MAIN)
    with node.lock:
        known = pool in [root.name for root in node.pools.roots()]
        content = images.installed(node, pool, rest[0]) if known else None
    if not known:
        raise CommandFailed(f'imgadm get: error (UnknownZpool): zpool "{pool}" is not known')
    if content is None:
        raise CommandFailed(
            f'imgadm get: error (ImageNotInstalled): image "{rest[0]}" was not found on zpool "{pool}"', 3
        )
    output.line(json.dumps(content, indent=2))
    return 0


def _list(node: Node, output: Output) -> int:
    output.line(f"{'UUID':<36}  {'NAME':<16}  {'VERSION':<12}  {'OS':<7}  TYPE")
    for image in images.IMAGES:
        with node.lock:
            there = any(images.installed(node, pool, image.uuid) for pool in image.pools)
        if there:
            output.line(f"{image.uuid}  {image.name:<16}  {image.version:<12}  {image.os:<7}  {image.type}")
    return 0
