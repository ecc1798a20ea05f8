# SPDX-License-Identifier: MPL-2.0
"""zfs mount and zfs unmount."""

from mockcn.commands.options import Options
from mockcn.commands.output import Output
from mockcn.node import Node
from mockcn.state.pools import ZfsError

MOUNT_USAGE = "mount\n\tmount [-vO] [-o opts] <-a | filesystem>"
UNMOUNT_USAGE = "unmount [-f] <-a | filesystem|mountpoint>"


def mount(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "aOvfo:", MOUNT_USAGE, most=1)
    with node.lock:
        filesystems = [
            dataset for root in node.pools.roots() for dataset in root.descendants() if dataset.kind == "filesystem"
        ]
        if options.flag("a"):
            for dataset in filesystems:
                if dataset.unmounted and dataset.mountpoint() is not None:
                    node.pools.mount(dataset)
        elif options.rest:
            node.pools.mount(node.pools.dataset(options.rest[0]))
        else:
            for dataset in filesystems:
                if dataset.mounted_at() is not None:
                    output.line(f"{dataset.name:<30}  {dataset.mounted_at()}")
    return 0


def unmount(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "fa", UNMOUNT_USAGE, least=1, most=1)
    name = options.rest[0]
    with node.lock:
        if name.startswith("/"):
            found = node.pools.mounted_at(name)
            if found is None:
                raise ZfsError(f"cannot unmount '{name}': not a mountpoint")
        else:
            found = node.pools.dataset(name)
        node.pools.unmount(found, force=options.flag("f"))
    return 0
