# SPDX-License-Identifier: MPL-2.0
"""Text files and folders below a zonepath, for the actions: the gate of vmload.zonefiles with vmadm's errors.

Always: nothing below a zonepath is touched in another way, because a tenant can put links, FIFOs and devices there.
        Paths are relative to the zonepath and plain (`root/etc/nodename`); trouble is NotWritten, naming the path."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from socket import socket
from typing import Optional

from vmadm.errors import NotWritten
from vmadm.node.machine import Node
from vmload.zonefiles import NotPlain, ZoneFiles


class ZoneFolder:
    """What lies below `zonepath`, a path of the node."""

    def __init__(self, node: Node, zonepath: str) -> None:
        self.zonepath = zonepath
        self._files = ZoneFiles(node.real(zonepath))

    def path(self, inside: str) -> str:
        """The node's path of it, for words and for commands that take paths; see check_no_link()."""
        return f"{self.zonepath}/{inside}"

    def read(self, inside: str) -> Optional[str]:
        """The text of a file, None if there is none. Raises NotWritten."""
        with self._reported("read", inside):
            content = self._files.read_if_there(inside)
        return None if content is None else content.decode("utf-8", "surrogateescape")

    def names(self, inside: str) -> list[str]:
        """What is in a folder, in order; empty if there is no such folder. Raises NotWritten."""
        with self._reported("look into", inside):
            return self._files.names(inside)

    def exists(self, inside: str) -> bool:
        """Whether anything is there, with no link on the way to it. Raises NotWritten."""
        with self._reported("look at", inside):
            return self._files.exists(inside)

    def is_file(self, inside: str) -> bool:
        """Whether a regular file is there, with no link on the way to it. Raises NotWritten."""
        with self._reported("look at", inside):
            return self._files.is_file(inside)

    def has_file_of_zone(self, path: str) -> bool:
        """Whether there is anything at `path`, as the zone names it, with no link on the way. Raises NotWritten."""
        inside = _inside(path)
        return inside is not None and self.exists(inside)

    def connection(self, path: str) -> socket:
        """A connection to the unix socket at `path`, as the zone names it. Raises NotWritten."""
        inside = _inside(path)
        if inside is None:
            raise NotWritten(f"refusing to connect to {path} in the zone: that is no plain path")
        with self._reported("connect to", inside):
            return self._files.connection(inside)

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        """Replace a file in one step, and make the folders above it. Raises NotWritten."""
        with self._reported("write", inside):
            self._files.make_folder(inside.rpartition("/")[0])
            self._files.write(inside, text.encode("utf-8", "surrogateescape"), mode)

    def make_folder(self, inside: str) -> None:
        """A folder, with those above it; one that is there stays as it is. Raises NotWritten."""
        with self._reported("make", inside):
            self._files.make_folder(inside)

    def remove(self, inside: str) -> None:
        """Remove a file, or a link itself; none is fine. Raises NotWritten."""
        with self._reported("remove", inside):
            self._files.remove(inside)

    def rename(self, inside: str, name: str) -> None:
        """Give a file another name in its folder; none is fine. Raises NotWritten."""
        with self._reported("rename", inside):
            self._files.rename(inside, name)

    def remove_empty(self, inside: str) -> None:
        """Remove a folder if it is empty; what is mounted or kept there stays. Raises NotWritten."""
        with self._reported("remove", inside):
            self._files.remove_empty(inside)

    def remove_folder(self, inside: str) -> None:
        """Remove a folder with all in it; none is fine. Raises NotWritten."""
        with self._reported("remove", inside):
            self._files.remove_folder(inside)

    def check_no_link(self, inside: str) -> None:
        """Before a command is given the path: none of its components is a link; one that is missing is fine.

        A running zone can still swap one in the moment between. Raises NotWritten."""
        with self._reported("use", inside), contextlib.suppress(FileNotFoundError), self._files.folder(inside):
            return

    @contextlib.contextmanager
    def _reported(self, doing: str, inside: str) -> Iterator[None]:
        try:
            yield
        except NotPlain as error:
            raise NotWritten(f"refusing to {doing} {self.path(inside)}: {self.zonepath}/{error.strerror}") from error
        except OSError as error:
            text = error.strerror or errno.errorcode.get(error.errno or 0, "unknown error")
            raise NotWritten(f"cannot {doing} {self.path(inside)}: {text}") from error


def _inside(path: str) -> Optional[str]:
    """The zone's own path of something, as seen from the zonepath; None for one that could lead anywhere."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    return None if not names or ".." in names or "\0" in path else "/".join(["root", *names])
