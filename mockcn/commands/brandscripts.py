# SPDX-License-Identifier: MPL-2.0
"""The brands' install scripts, /usr/lib/brand/BRAND/*install, as vmadm reprovision runs them on a new root:

    jinstall -r -R ZONEPATH -z ZONE

Always: what the image lacks of a zone's folders is made, and only root gets into the zonepath from outside."""

import getopt
import os

from mockcn.commands.output import CommandFailed, Output
from mockcn.life import installing
from mockcn.node import Node


def install(node: Node, words: list[str], output: Output) -> int:
    try:
        options, _ = getopt.getopt(words, "rR:z:t:q:x:")
    except getopt.GetoptError as err:
        raise CommandFailed(f"install: {err}", 253) from err
    given = dict(options)
    with node.lock:
        zone = node.zones.zones.get(given.get("-z", ""))
        if zone is None or zone.zonepath != given.get("-R") or "-r" not in given:
            raise CommandFailed("usage: install -r -R zonepath -z zonename", 253)
        if not os.path.isdir(node.real(zone.zonepath + "/root")):
            raise CommandFailed(f"install: {zone.zonepath}/root: No such file or directory", 254)
        installing.make_folders(node, zone)
    return 0
