# SPDX-License-Identifier: MPL-2.0
"""Fixtures: a listener that checks what it hears (following.py), on a daemon shared by a module's tests or its own.

Tests that share a node change VMs of their own, made with follow.add(), and never the node as a whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from mockcn import process
from support.following import FIRST_TIME, Follow
from support.running_daemon import RunningDaemon


@pytest.fixture(scope="module")
def shared_root() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="cn-")
    yield os.path.join(folder, "node")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def shared_node(shared_root: str) -> Iterator[process.MockNode]:
    """A node with few VMs, for all tests of a module."""
    with process.start(shared_root, vms=3) as running:
        yield running


@pytest.fixture(scope="module")
def witness(shared_node: process.MockNode) -> str:
    """A VM that only shows that the daemon is still there."""
    vm: dict[str, str] = shared_node.control.add_vm(alias="witness", created=FIRST_TIME)
    return vm["zonename"]


@pytest.fixture(scope="module")
def shared_daemon(shared_node: process.MockNode, witness: str) -> Iterator[RunningDaemon]:
    with RunningDaemon(shared_node.root).start() as running:
        yield running


@pytest.fixture
def follow(shared_node: process.MockNode, shared_daemon: RunningDaemon, witness: str) -> Iterator[Follow]:
    """A listener on the module's daemon."""
    following = Follow(shared_node, shared_daemon, witness)
    yield following
    following.close()


@pytest.fixture
def alone(node: process.MockNode, daemon: RunningDaemon) -> Iterator[Follow]:
    """A listener on a daemon of its own: for what concerns all of the node's VMs."""
    witness = next(vm["zonename"] for vm in daemon.vms() if vm["state"] == "running" and vm["brand"] == "joyent")
    following = Follow(node, daemon, witness)
    yield following
    following.close()
