# SPDX-License-Identifier: MPL-2.0
"""Facts that the tools and the client hold in a second place, because importing the first one would cost more than
the whole command, agree with it."""

import os
import subprocess
import sys

import pytest

import vmadm
from support.deadlines import SOON
from support.tools import tool_path
from vminfod.clients import address, mirror
from vminfod.main import ADDRESS, PORT
from vminfod.serving.prepared import DIFF_MAP

LIB = os.path.dirname(os.path.dirname(vmadm.__file__))

# Imports that a quick command must not pay for.
COSTLY = {
    "argparse",
    "asyncio",
    "concurrent.futures",
    "datetime",
    "email",
    "gevent",
    "http.client",
    "logging",
    "queue",
    "random",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "typing",
    "ujson",
    "urllib.parse",
    "uuid",
}


@pytest.mark.pure
def test_identifiers_of_arrays_are_the_daemons():
    assert mirror.IDENTIFIERS == DIFF_MAP


@pytest.mark.pure
def test_default_address_is_the_daemons():
    assert (address.DEFAULT_HOST, address.DEFAULT_PORT) == (ADDRESS, PORT)


@pytest.mark.parametrize(
    "words",
    [
        ["vmadm", "get", "00000000-0000-0000-0000-000000000000"],
        ["vmadm", "list"],
        ["vmadm", "lookup", "alias=x"],
        ["vminfo", "vm", "x"],
        ["vminfo", "ping"],
        ["vminfo", "status"],
    ],
)
def test_quick_commands_import_little(words):
    """They get as far as a refused connection."""
    tool, *arguments = words
    done = subprocess.run(
        [sys.executable, "-IS", "-X", "importtime", tool_path(tool), *arguments],
        env={**os.environ, "VMINFOD_PORT": "1"},
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "vminfod.clients.connection" in imported
    assert not imported & COSTLY
    assert "ECONNREFUSED" in done.stderr


@pytest.mark.parametrize(
    "module",
    [
        "vminfod.client",
        "vminfod.clients.stream",
        "vminfod.clients.watcher",
        "vminfod.clients.zonestates",
        "vminfod.cli.vminfo_command",
        "vminfod.cli.zoneevent",
        "vmadm.cli.main",
        "vmadm.cli.reads",
        "vmadm.cli.events",
        "vmadm.cli.info",
        "vminfod.cli.status_text",
    ],
)
def test_client_and_tools_need_only_the_standard_library(module):
    code = f"import sys; sys.path.insert(0, {LIB!r}); import {module}"
    done = subprocess.run(
        [sys.executable, "-IS", "-c", code], capture_output=True, text=True, timeout=SOON, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
