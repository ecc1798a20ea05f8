# SPDX-License-Identifier: MPL-2.0
"""cp and rsync of files and folders of the node: `cp -[p][P]R SOURCE ... TARGET`, `rsync --numeric-ids -aq SOURCE/
TARGET`. Links are copied as links, never followed."""

import getopt
import os
import shutil
import stat

from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node


def cp(node: Node, words: list[str], output: Output) -> int:
    try:
        _, names = getopt.getopt(words, "pPRr")
    except getopt.GetoptError as err:
        raise CommandFailed(f"cp: {err}") from err
    if len(names) < 2:
        raise CommandFailed("cp: Insufficient arguments (needs a source and a target)")
    *sources, target = names
    status = 0
    for source in sources:
        try:
            _copy(node.real(source.rstrip("/")), node.real(target.rstrip("/")), many=len(sources) > 1)
        except OSError as err:
            output.error(f"cp: cannot copy {source}: {os.strerror(err.errno) if err.errno else err}")
            status = 2
    return status


def rsync(node: Node, words: list[str], output: Output) -> int:
    """What is in a folder into another one, beside what is there."""
    try:
        _, names = getopt.getopt(words, "aq", ["numeric-ids"])
    except getopt.GetoptError as err:
        raise CommandFailed(f"rsync: {err}\nrsync error: syntax or usage error (code 1)") from err
    if len(names) != 2 or not names[0].endswith("/"):
        raise CommandFailed("rsync error: syntax or usage error (code 1)")
    source, target = (node.real(name.rstrip("/")) for name in names)
    try:
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, copy_function=_copy_file)
    except OSError as err:
        raise CommandFailed(f"rsync: {err}\nrsync error: some files could not be transferred (code 23)", 23) from err
    return 0


def _copy(source: str, target: str, *, many: bool) -> None:
    if os.path.isdir(target):
        target = os.path.join(target, os.path.basename(source))
    elif many:
        raise NotADirectoryError(20, "Not a directory")
    if os.path.isdir(source) and not os.path.islink(source):
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, copy_function=_copy_file)
    else:
        _copy_file(source, target)


def _copy_file(source: str, target: str) -> None:
    """A device, FIFO or socket is made anew, not read."""
    status = os.lstat(source)
    if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
        shutil.copy2(source, target, follow_symlinks=False)
    else:
        os.mknod(target, status.st_mode, status.st_rdev)
