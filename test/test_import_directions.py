# SPDX-License-Identifier: MPL-2.0
"""Which room may use which (docs/architecture.md): the direction of imports, read from the sources."""

import ast
import os
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
LIB = CHECKOUT / "usr" / "vm" / "lib"

ROOMS = ("vmload", "vminfod", "vmadm", "mockcn")
WATCHERS = {"vminfod.watchers." + path.stem for path in (LIB / "vminfod" / "watchers").glob("*.py")}


def imports_of(path):
    """The modules that a file imports, anywhere in it. `from x import y` counts as x.y where that is a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                is_module = any((base / (full.replace(".", "/") + end)).exists()
                                for base in (LIB, CHECKOUT) for end in (".py", "/__init__.py"))  # fmt: skip
                found.add(full if is_module else node.module)
    return found


def files_of(folder):
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def ours(modules):
    return {module for module in modules if module.split(".")[0] in ROOMS}


def test_loading_knows_nothing_of_the_daemon_and_needs_the_standard_library_only():
    for path in files_of(LIB / "vmload"):
        for module in imports_of(path):
            top = module.split(".")[0]
            assert top == "vmload" or top in sys.stdlib_module_names, f"{path.name} imports {module}"


@pytest.mark.parametrize("name", ["queue", "diff", "times", "backoff"])
def test_general_modules_know_nothing_of_vms(name):
    assert ours(imports_of(LIB / "vminfod" / f"{name}.py")) <= {"vminfod.times"}


def test_watchers_know_neither_the_cache_nor_how_vms_are_loaded():
    allowed = WATCHERS | {"vminfod.times", "vminfod.backoff"}
    for path in files_of(LIB / "vminfod" / "watchers"):
        assert ours(imports_of(path)) <= allowed, path.name


def test_loading_marking_and_serving_do_not_reach_back():
    forbidden = {
        "cache": {"vminfod.reloads", "vminfod.refresh", "vminfod.api", "vminfod.staleness", "vmload.reader"},
        "events": {"vminfod.cache", "vminfod.api", "vminfod.reloads"},
        "api": {"vminfod.reloads", "vminfod.refresh", "vminfod.sources", "vmload.reader"},
        "reloads": {"vminfod.events", "vminfod.api", "vminfod.staleness"},
        "staleness": {"vminfod.events", "vminfod.api", "vmload.loader"},
    }
    for name, modules in forbidden.items():
        assert not imports_of(LIB / "vminfod" / f"{name}.py") & modules, name


def test_client_and_commands_use_no_part_of_the_daemon():
    shared = {"vminfod", "vminfod.backoff", "vminfod.diff", "vminfod.client", "vminfod.zoneevent"}
    for path in [LIB / "vminfod" / "client.py", LIB / "vminfod" / "zoneevent.py",
                 *files_of(LIB / "vminfod" / "clients"), *files_of(LIB / "vminfod" / "cli")]:  # fmt: skip
        for module in ours(imports_of(path)):
            of_the_client = module in shared or module.startswith(("vminfod.clients", "vminfod.cli"))
            assert of_the_client, f"{path.name} imports {module}"


def test_vmadm_reads_vm_data_only_through_the_client():
    for path in files_of(LIB / "vmadm"):
        for module in ours(imports_of(path)):
            of_the_daemon = module.startswith("vminfod.") and not module.startswith(
                ("vminfod.client", "vminfod.clients", "vminfod.cli", "vminfod.backoff")
            )
            assert not of_the_daemon, f"{path.name} imports {module}"
            assert module not in ("vmload.loader", "vmload.reader", "vmload.vmobj"), f"{path.name} imports {module}"


def test_mock_node_is_an_independent_witness():
    for path in files_of(CHECKOUT / "mockcn"):
        used = {module.split(".")[0] for module in imports_of(path)}
        assert used <= {"mockcn", "link", "fswatcher"} | set(sys.stdlib_module_names), f"{path}: {used}"
        assert not used & {"vmload", "vminfod", "vmadm"}


def test_every_package_folder_says_what_it_is():
    for package in [LIB / "vmload", LIB / "vminfod", LIB / "vmadm", *(p.parent for p in LIB.rglob("*/__init__.py"))]:
        assert ast.get_docstring(ast.parse((package / "__init__.py").read_text())), package
        listed = os.path.relpath(package, LIB).replace(os.sep, ".")
        assert f"    {listed}\n" in (CHECKOUT / "setup.cfg").read_text(), f"setup.cfg does not list {listed}"
