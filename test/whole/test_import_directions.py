# SPDX-License-Identifier: MPL-2.0
"""Which room may use which (docs/architecture.md): the direction of imports, read from the sources.

A room may import from itself and from the rooms named beside it, all of which lie below it."""

import ast
import functools
import os
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.pure

CHECKOUT = Path(__file__).resolve().parents[2]
LIB = CHECKOUT / "usr" / "vm" / "lib"

# What any room of the product may use: the ground floor.
FOR_ALL = {"jsvalues", "vminfod.bunyan"}

# Room -> the rooms that it may use. The longest name that fits is a module's room. From the top floor down.
ROOMS = {
    "bench": {"vminfod", "vminfod.clients", "mockcn"},
    "mockcn": set(),
    "vmadm": set(),
    "vmadm.cli": {"vmadm", "vmadm.actions", "vmadm.node", "vmadm.payload", "vminfod.cli", "vminfod.clients", "vmload"},
    "vmadm.library": {"vmadm", "vmadm.actions", "vmadm.cli", "vmadm.payload", "vminfod.clients", "vmload"},
    "vmadm.actions": {"vmadm", "vmadm.node", "vmadm.payload", "vminfod.clients", "vmload"},
    "vmadm.node": {"vmadm", "vmadm.payload", "vminfod.clients", "vmload"},
    "vmadm.payload": {"vmadm", "vminfod.clients", "vmload"},
    "vminfod.main": {"vminfod", "vminfod.freshness", "vminfod.serving", "vminfod.watchers", "vmload"},
    "vminfod.freshness": {"vminfod", "vminfod.serving", "vminfod.watchers", "vmload"},
    "vminfod.serving": {"vminfod", "vmload"},
    "vminfod.watchers": {"vminfod"},
    "vminfod.cli": {"vminfod", "vminfod.clients"},
    "vminfod.clients": {"vminfod", "vminfod.clients"},
    "vminfod": set(),  # small things that know nothing of VMs: queue, diff, log, times, backoff
    "vmload": set(),
    **dict.fromkeys(FOR_ALL, set()),
}

# A module whose room is not its folder's: the programs' tops, and the client library's door.
ROOM_OF = {
    "vminfod.vminfo": "vminfod.main",
    "vminfod.reporting": "vminfod.main",
    "vminfod.metrics": "vminfod.main",
    "vminfod.client": "vminfod.clients",
}

# What a room may use besides the standard library.
LIBRARIES = {
    "vminfod": {"gevent", "logbook", "ujson"},
    "vminfod.main": {"gevent", "prometheus_client"},
    "vminfod.freshness": {"gevent"},
    "vminfod.watchers": {"gevent"},
    "vminfod.serving": {"gevent", "bottle", "ujson"},
}
OURS = {"jsvalues", "vmload", "vminfod", "vmadm", "mockcn", "bench"}


def files_of(folder):
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


SOURCES = [path for part in (LIB, CHECKOUT / "mockcn", CHECKOUT / "bench") for path in files_of(part)]
SOURCES += [path for path in (CHECKOUT / "bench").iterdir() if path.is_file() and path.suffix != ".py"]


def module_of(path):
    base = LIB if LIB in path.parents else CHECKOUT
    name = str(path.relative_to(base).with_suffix("")).replace(os.sep, ".")
    return name.removesuffix(".__init__")


def room_of(module):
    if module in ROOM_OF:
        return ROOM_OF[module]
    while module not in ROOMS:
        module = module.rpartition(".")[0]
    return module


def imports_of(path, *, also_for_types=True):
    """The modules that a file imports, anywhere in it. `from x import y` counts as x.y where that is a module."""
    found = set()
    tree = ast.parse(path.read_text())
    if not also_for_types:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = [ast.Pass()]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                found.add(full if is_module(full) else node.module)
    return found


@functools.cache
def is_module(name):
    path = name.replace(".", "/")
    return any((base / (path + end)).exists() for base in (LIB, CHECKOUT) for end in (".py", "/__init__.py"))


def complaints(path):
    """What the file imports that its room may not use."""
    module = module_of(path)
    room = room_of(module)
    for used in sorted(imports_of(path)):
        top = used.split(".")[0]
        if top in OURS and (LIB / top).exists() or (CHECKOUT / top).exists() and top in OURS:
            if module.count(".") == 0 and used.startswith(module + "."):
                continue  # a package's face shows what its rooms offer
            allowed = ROOMS[room] | {room} | (FOR_ALL if (LIB / module.split(".")[0]).exists() else set())
            if room_of(used) not in allowed:
                yield f"{module} ({room}) imports {used} ({room_of(used)})"
        else:
            own = {"link", "fswatcher", "support", "test_read_after_write"} if room in ("mockcn", "bench") else set()
            if top not in sys.stdlib_module_names and top not in own | LIBRARIES.get(room, set()):
                yield f"{module} imports {used}"


def test_a_room_uses_only_rooms_below_it():
    assert len(SOURCES) > 250
    assert [complaint for path in SOURCES for complaint in complaints(path)] == []


def test_rooms_have_no_circles():
    done = set()
    while len(done) < len(ROOMS):
        free = {room for room, uses in ROOMS.items() if room not in done and uses - {room} <= done}
        assert free, f"these rooms go round in a circle: {sorted(set(ROOMS) - done)}"
        done |= free


def test_modules_have_no_circles():
    """Nor those of one room. A package's own module is left out: it shows what its rooms offer."""
    uses = {module_of(path): imports_of(path, also_for_types=False) for path in SOURCES if path.suffix == ".py"}
    faces = {module_of(path) for path in SOURCES if path.name == "__init__.py"}
    left = {module: used - faces - {module} for module, used in uses.items() if module not in faces}
    while free := {module for module, used in left.items() if not used & set(left)}:
        for module in free:
            del left[module]
    assert sorted(left) == [], "these import each other, or what does"


def test_no_two_modules_of_the_product_have_one_name():
    seen = {}
    for path in files_of(LIB):
        if path.stem not in ("__init__", "main", "cli"):
            assert path.stem not in seen, f"{path} and {seen[path.stem]}"
            seen[path.stem] = path


def test_every_package_folder_says_what_it_is():
    for package in [LIB / "vmload", LIB / "vminfod", LIB / "vmadm", *(p.parent for p in LIB.rglob("*/__init__.py"))]:
        assert ast.get_docstring(ast.parse((package / "__init__.py").read_text())), package
        listed = os.path.relpath(package, LIB).replace(os.sep, ".")
        assert f"    {listed}\n" in (CHECKOUT / "setup.cfg").read_text(), f"setup.cfg does not list {listed}"
