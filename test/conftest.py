# SPDX-License-Identifier: MPL-2.0
"""The parts that tests are run against: a mock node, and the real daemon on it, both as processes."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mockcn import process
from support import bytecode, forking, libkstat, purity, scratch, tool_server
from support.running_daemon import RunningDaemon

# A shell that runs us in the background has SIGINT ignored, and so would every program that a test interrupts. What
# has a handler here has the default there.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:  # under nohup, or in the background; so it stays for this process
        signal.signal(_number, lambda *_: None)

tempfile.tempdir = scratch.folder()

FEW_VMS = 10  # what a node and a daemon for a single test cost is mostly their number

# Thousands of tests and their fixtures live as long as the run: looking at all of them for cycles again and again took
# a fifth of its processor time.
gc.set_threshold(100_000, 20, 50)

# Whatever the environment says of it: each worker, and each of a thousand processes, would compile everything anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Before there are workers."""
    if session.config.getoption("numprocesses", None):
        bytecode.compile_once(session.config.args)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Iterator[object]:
    """What is collected stays to the end: it is not looked at for cycles meanwhile, nor later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The shares of every second worker begin with the tests that take long, as one that begins last is waited for by
    all; most of them wait themselves, so the other workers compute meanwhile. Shares are as pytest-xdist cuts them."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.get_closest_marker("long")]
    each = -(-len(long) // ((workers + 1) // 2))  # of them, for every second worker; rounded up
    others = [item for item in items if not item.get_closest_marker("long")]
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        share = (len(items) - len(ordered)) // (workers - worker)
        first = [] if worker % 2 else long[worker // 2 * each :][:each]
        rest = max(0, share - len(first))
        ordered += [*first, *others[:rest]]
        del others[:rest]
    items[:] = ordered + others


@pytest.fixture(scope="session", autouse=True)
def _nurseries() -> Iterator[None]:
    """Daemons, mock nodes and vmadm start by a fork, where that can be."""
    if not forking.can_fork():
        yield
        return
    lib, support = os.path.join(process.CHECKOUT, "usr", "vm", "lib"), os.path.join(process.CHECKOUT, "test")
    daemons = forking.Nursery("vminfod.main", [lib])
    nodes = forking.Nursery("mockcn.__main__", [process.CHECKOUT])
    vmadms = forking.Nursery("support.vmadm_program", [lib, support], ("-IS", "-X", "utf8"))
    RunningDaemon.launch = daemons.start
    process.launch = lambda words: nodes.start(words, text=True)
    forking.run_vmadm = vmadms.run
    yield
    RunningDaemon.launch, process.launch, forking.run_vmadm = None, process.by_itself, None
    for nursery in (daemons, nodes, vmadms):
        nursery.close()


@pytest.fixture(scope="session", autouse=True)
def _tools() -> Iterator[None]:
    """The tools of handmade nodes are answered by this process as long as it runs."""
    yield
    tool_server.close()


@pytest.fixture
def as_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemons and vmadm of this test start as an operator starts them."""
    monkeypatch.setattr(RunningDaemon, "launch", None)
    monkeypatch.setattr(forking, "run_vmadm", None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test that is marked pure fails if it, or the code under it, starts a process, opens a socket or touches a
    node's file."""
    if item.get_closest_marker("pure") is None:
        return (yield)
    with purity.watch() as notes:
        result = yield
    if notes:
        pytest.fail(f"{item.name} is marked pure, but {notes[0]}", pytrace=False)
    return result


@pytest.fixture
def root() -> Iterator[str]:
    """A folder for a node that does not exist yet. Not pytest's own: those paths are too long for a socket's name."""
    folder = tempfile.mkdtemp(prefix="cn-")
    yield os.path.join(folder, "node")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def node(root: str, request: pytest.FixtureRequest) -> Iterator[process.MockNode]:
    """A mock node with a few VMs. Tests of what takes many of them, or all kinds, say how many: @pytest.mark.vms(30),
    from where on every brand and the odd ones are there."""
    marker = request.node.get_closest_marker("vms")
    with process.start(root, vms=FEW_VMS if marker is None else marker.args[0]) as running:
        yield running


@pytest.fixture
def daemon(node: process.MockNode) -> Iterator[RunningDaemon]:
    """vminfod on that node, answering."""
    with RunningDaemon(node.root).start() as running:
        yield running


@pytest.fixture(scope="session")
def quiet_node() -> Iterator[process.MockNode]:
    """As node, but with 30 VMs, of every brand, and one for all tests that change nothing on it."""
    folder = tempfile.mkdtemp(prefix="cn-")
    with process.start(os.path.join(folder, "node"), vms=30) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def quiet_daemon(quiet_node: process.MockNode) -> Iterator[RunningDaemon]:
    """vminfod on the quiet node: for tests that only read."""
    with RunningDaemon(quiet_node.root).start() as running:
        yield running


@pytest.fixture(scope="session")
def compiled_libkstat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for libkstat: a file to be put into nodes (support/libkstat.py)."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc: the stand-in for libkstat cannot be compiled")
    return libkstat.built(tmp_path_factory.mktemp("libkstat"))


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of test vectors that came from the real platform; they are no part of this project."""
    folder = Path(os.environ.get("VMINFOD_VECTORS", Path(__file__).parents[2] / "shared" / "vectors"))
    if not folder.is_dir():
        pytest.skip(f"no vectors of the real platform at {folder}: set VMINFOD_VECTORS")
    return folder
