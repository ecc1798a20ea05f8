# SPDX-License-Identifier: MPL-2.0
"""Who touches files, read from the sources: in vmadm and vmload only the modules that are named here, so that what lies
below a zonepath has one way to it (vmload/zonefiles.py)."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.pure

LIB = Path(__file__).resolve().parents[2] / "usr" / "vm" / "lib"

# Module -> the files that it touches, none of which is below a zonepath; the gate itself is the first.
MAY = {
    "vmload/zonefiles.py": "what lies below a zonepath",
    "vmload/system.py": "the zone's XML, the index, sysinfo",
    "vmload/brands.py": "the table of brands",
    "vmload/properties.py": "the table of properties",
    "vmadm/node/machine.py": "the node's own files: /etc/zones, archives",
    "vmadm/node/locks.py": "/var/run",
    "vmadm/node/logfile.py": "/var/log/vm/logs",
    "vmadm/cli/main.py": "the debug log that the operator names",
    "vmadm/node/transfer.py": "what a command says on standard error, in a file without a name",
    "vmadm/cli/inputs.py": "the payload or the bundle that the operator names",
    "vmadm/cli/info.py": "the socket of a mock node's vmadmd",
}
OF_OS = {
    "chmod", "chown", "link", "listdir", "lstat", "makedirs", "mkdir", "mkfifo", "open", "readlink", "remove", "rename",
    "removedirs", "replace", "rmdir", "scandir", "stat", "symlink", "truncate", "unlink", "utime", "walk",
}  # fmt: skip
OF_PATH = {"exists", "getmtime", "getsize", "isdir", "isfile", "islink", "lexists", "realpath"}
OTHERS = {"shutil", "pathlib", "glob", "tempfile", "fileinput"}


def touches(source: str) -> set[str]:
    """What of a module's source can touch a file."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            found |= {name for name in names if name.split(".")[0] in OTHERS}
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in ("open", "io.open") or called in {f"os.{name}" for name in OF_OS}:
            found.add(called)
        if called in {f"os.path.{name}" for name in OF_PATH}:
            found.add(called)
    return found


def test_only_the_named_modules_touch_files():
    touching = {
        str(path.relative_to(LIB))
        for room in ("vmadm", "vmload")
        for path in (LIB / room).rglob("*.py")
        if touches(path.read_text(encoding="utf-8"))
    }
    assert touching == set(MAY)


@pytest.mark.parametrize(
    "source",
    ["open('x')", "import os\nos.unlink(a)", "os.path.exists(p)", "from pathlib import Path", "import shutil"],
)
def test_each_way_to_a_file_is_seen(source):
    assert touches(source)


def test_node_files_that_vmadm_names_are_not_below_a_zonepath():
    """What is handed to machine.Node: literal beginnings of paths, none of them /zones or a pool's."""
    named = []
    for path in (LIB / "vmadm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                owner, name = ast.unparse(node.func.value), node.func.attr
                of_node = owner in ("node", "self.node", "session.node", "self._node")
                if of_node and name in (
                    "read",
                    "write",
                    "rename",
                    "write_device",
                    "make_folder",
                    "remove",
                    "exists",
                    "touch",
                ):
                    named.append((path.name, ast.unparse(node.args[0]).replace("\\", "")))
    assert {(file, argument.replace('"', "'")) for file, argument in named} == {
        *[("archiving.py", each) for each in ("ARCHIVES", "making", "target", "folder", "path")],  # beside the zones
        ("archiving.py", "f'{making}/vm.json'"),
        ("creating.py", "f'/etc/zones/{self.change.zonename}.xml'"),
        ("deleting.py", "receiving_path(uuid)"),  # /etc/zones, as that of the others
        ("fwadm.py", "FWADM"),
        ("gathering.py", "SYSINFO"),
        ("hostvolumes.py", "path"),  # the data centre's configuration
        ("nocloud.py", "path"),  # the device of one of the VM's own volumes
        ("installing.py", "path"),  # a receiving_path()
        ("installing.py", "str(source)"),  # of a mount: whether it is there
        ("receiving.py", "f'/etc/zones/{zonename}.xml'"),
        ("receiving.py", "receiving_path(self.uuid)"),
        ("updating.py", "path"),  # the zone's XML
    }
