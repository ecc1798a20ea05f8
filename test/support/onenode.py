# SPDX-License-Identifier: MPL-2.0
"""A fixture for files whose tests each have a daemon of their own, on one node that they share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from mockcn import process


@pytest.fixture(scope="module")
def one_node() -> Iterator[process.MockNode]:
    """A mock node with 30 VMs of every brand, for all tests of the module."""
    folder = tempfile.mkdtemp(prefix="cn-")
    with process.start(os.path.join(folder, "node"), vms=30) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)
