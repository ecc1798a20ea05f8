# SPDX-License-Identifier: MPL-2.0
"""The node's folders and executables under its root.

Always: everything the node makes lies in the root, but for the socket where the root's path is too long for one.
What is in the executables is in stubs.py."""

import os
import shutil
import tempfile

from mockcn import stubs

SBIN_TOOLS = (
    "zoneadm",
    "zonecfg",
    "zfs",
    "zpool",
    "zdb",
    "sysevent",
    "imgadm",
    "nictagadm",
    "zlogin",
    "dladm",
    "svccfg",
    "svcadm",
    "mount",
    "umount",
    "fwadm",
    "ipf",
    "ipfstat",
    "bhyvectl",
)
BIN_TOOLS = ("cp", "rsync", "kstat", "prctl", "pwait", "kill", "ptree", "svcs")
THIN_TOOLS = {**dict.fromkeys(SBIN_TOOLS, "usr/sbin"), **dict.fromkeys(BIN_TOOLS, "usr/bin")}
BRAND_SCRIPTS = {  # where each lies -> the tool by which calls and faults know it
    "usr/lib/brand/joyent/jinstall": "jinstall",
    "usr/lib/brand/joyent-minimal/jinstall": "jinstall",
    "usr/lib/brand/lx/lx_install": "lx_install",
    "usr/lib/brand/bhyve/binstall": "binstall",
}
FOLDERS = ("etc/zones", "zones", "tmp", "usr/sbin", "usr/bin", "usr/vm/sbin", ".mockcn")
PRIVATE = ".mockcn"  # ours, below the root; no part of the node
SOCKET_LENGTH = 100  # bytes of a unix socket's path that every system takes


class RootInUse(Exception):
    """The folder given as the node's root is not empty."""


class Layout:
    """The root folder; `remove()` takes away all that was made."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self._made_root = not os.path.exists(self.root)
        if not self._made_root and (not os.path.isdir(self.root) or os.listdir(self.root)):
            raise RootInUse(f"{self.root} is there already and not an empty folder: name another one")
        for folder in FOLDERS:
            os.makedirs(os.path.join(self.root, folder))
        self.private = os.path.join(self.root, PRIVATE)
        self.aside = os.path.join(self.private, "aside")
        os.makedirs(self.aside)
        self._socket_folder = self.private
        if len(os.fsencode(self._socket_path())) > SOCKET_LENGTH:
            self._socket_folder = tempfile.mkdtemp(prefix="mockcn-")
        self.socket = self._socket_path()

    def _socket_path(self) -> str:
        return os.path.join(self._socket_folder, "node.sock")

    def point_to_socket(self) -> None:
        """From now on the tools find the node. To be called when the socket listens."""
        pointer = os.path.join(self.private, "socket")
        with open(pointer + ".new", "w", encoding="utf-8") as file:
            file.write(self.socket + "\n")
        os.rename(pointer + ".new", pointer)

    def install_tools(self) -> None:
        client = stubs.compiled_client()
        for tool, folder in THIN_TOOLS.items():
            text = stubs.zlogin(client) if tool == "zlogin" else stubs.thin(tool, client)
            self._install(os.path.join(folder, tool), text)
        for where, tool in BRAND_SCRIPTS.items():
            os.makedirs(os.path.join(self.root, os.path.dirname(where)))
            self._install(where, stubs.thin(tool, client))
        self._install("usr/vm/sbin/fswatcher", stubs.python("import fswatcher\nsys.exit(fswatcher.main(sys.argv[1:]))"))

    def _install(self, where: str, text: str) -> None:
        path = os.path.join(self.root, where)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o755)

    def close(self) -> None:
        """No socket any more; the files stay."""
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        if self._socket_folder != self.private:
            shutil.rmtree(self._socket_folder, ignore_errors=True)

    def remove(self) -> None:
        """Take away all that was made; a given root that was there stays, empty."""
        if self._socket_folder != self.private:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
        if self._made_root:
            shutil.rmtree(self.root, ignore_errors=True)
            return
        for name in os.listdir(self.root):
            path = os.path.join(self.root, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)
