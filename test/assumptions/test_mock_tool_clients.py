# SPDX-License-Identifier: MPL-2.0
"""A thin tool of the mock node is the same tool by either of its clients, the compiled one and the one in Python."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mockcn import process, stubs
from mockcn.process import MockNode
from support.deadlines import SOON

WITHIN = SOON


@pytest.fixture(scope="module")
def own_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockNode]:
    with process.start(tmp_path_factory.mktemp("cn") / "node", vms=3) as node:
        yield node


@pytest.fixture(params=["compiled", "python"])
def client(request: pytest.FixtureRequest) -> str | None:
    compiled = stubs.compiled_client() if request.param == "compiled" else None
    if request.param == "compiled" and compiled is None:
        pytest.skip("there is no C compiler here")
    return compiled


class Tools:
    """Tools of the node, by one client; they lie in a folder of their own."""

    def __init__(self, node: MockNode, client: str | None, folder: Path) -> None:
        self.node, self._client, self._folder = node, client, folder

    def tool(self, name: str) -> str:
        path = self._folder / name
        path.write_text(stubs.zlogin(self._client) if name == "zlogin" else stubs.thin(name, self._client))
        path.chmod(0o755)
        return str(path)

    def run(self, name: str, *words: str | bytes, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        done = subprocess.run([self.tool(name), *words], input=stdin, capture_output=True, timeout=WITHIN, check=False)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def tools(own_node: MockNode, client: str | None) -> Iterator[Tools]:
    folder = Path(own_node.root, "opt tools")
    folder.mkdir()
    yield Tools(own_node, client, folder)
    own_node.control.clear_faults()
    shutil.rmtree(folder)


def test_output_and_status_are_passed_on(tools: Tools) -> None:
    status, out, err = tools.run("zfs", "list", "-H", "-o", "name", "-d", "0", "zones")
    assert (status, out, err) == (0, b"zones\n", b"")


def test_failure_is_passed_on(tools: Tools) -> None:
    status, out, err = tools.run("zfs", "list", "zones/nothing")
    assert (status, out, err) == (1, b"", b"cannot open 'zones/nothing': dataset does not exist\n")


def test_words_arrive_as_they_are(tools: Tools) -> None:
    tools.node.control.forget_calls()
    tools.run("zlogin", "", "a b", "\n", "caf\u00e9", b"\xff\xfe")
    [call] = tools.node.control.calls("zlogin")
    assert call["argv"] == ["", "a b", "\n", "caf\u00e9", "\udcff\udcfe"]


def test_call_carries_the_tools_own_process_id(tools: Tools) -> None:
    tools.node.control.forget_calls()
    child = subprocess.Popen([tools.tool("zoneadm"), "list"], stdout=subprocess.DEVNULL)
    assert child.wait(WITHIN) == 0
    assert [call["pid"] for call in tools.node.control.calls("zoneadm")] == [child.pid]


@pytest.mark.parametrize("comments", [0, 1, 5000])
def test_standard_input_is_read_to_its_end(tools: Tools, comments: int) -> None:
    script = b"# a line that says nothing, of no great length\n" * comments + b"info brand\n"
    zone = next(zone["zonename"] for zone in tools.node.control.zones() if zone["zonename"] != "global")
    status, out, err = tools.run("zonecfg", "-z", zone, stdin=script)
    assert (status, err) == (0, b"")
    assert out.startswith(b"brand: ")


def test_standard_input_is_read_as_far_as_the_node_wants_it(tools: Tools) -> None:
    tools.node.run("zfs", "snapshot", "zones/opt@sent", check=True)
    _, stream, _ = tools.run("zfs", "send", "zones/opt@sent")
    command = f"'{tools.tool('zfs')}' receive zones/sent && cat"
    done = subprocess.run(
        ["/bin/sh", "-c", command], input=stream + b"rest", capture_output=True, timeout=WITHIN, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"rest", b"")
    tools.node.run("zfs", "destroy", "-r", "zones/sent", check=True)
    tools.node.run("zfs", "destroy", "zones/opt@sent", check=True)


def test_node_ends_the_tool_by_a_signal(tools: Tools) -> None:
    tools.node.control.fault("zfs", "die", lines=3, signal=9)
    status, out, _ = tools.run("zfs", "list", "-H", "-o", "name")
    assert (status, len(out.splitlines())) == (-9, 3)


def test_output_larger_than_a_pipe_arrives_whole(tools: Tools) -> None:
    tools.node.control.fault("zfs", "garbage", bytes="\xff\x00" * 500_000, exit=7)
    assert tools.run("zfs", "list") == (7, b"\xff\x00" * 500_000, b"")


def test_reader_that_goes_away_ends_the_tool_by_sigpipe(tools: Tools) -> None:
    tools.node.control.fault("zfs", "garbage", bytes="x" * 500_000, exit=0)
    child = subprocess.Popen([tools.tool("zfs"), "list"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read(1)
    child.stdout.close()
    assert child.wait(WITHIN) == -signal.SIGPIPE


def test_tool_that_waits_ends_by_a_signal(tools: Tools) -> None:
    child = subprocess.Popen([tools.tool("sysevent"), "-r", "EC_zfs"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() != b""
    child.terminate()
    assert child.wait(WITHIN) == -signal.SIGTERM
    child.stdout.close()


def test_tool_can_be_called_by_a_link(tools: Tools, tmp_path: Path) -> None:
    link = tmp_path / "other"
    link.symlink_to(tools.tool("zfs"))
    done = subprocess.run([link, "list", "-H", "-o", "name", "-d", "0", "zones"], capture_output=True, timeout=WITHIN)
    assert (done.returncode, done.stdout) == (0, b"zones\n")


@pytest.mark.parametrize("folder", ["with a 'blank'", "l" * 200])
def test_client_may_lie_anywhere(own_node: MockNode, tmp_path: Path, folder: str) -> None:
    compiled = stubs.compiled_client()
    if compiled is None:
        pytest.skip("there is no C compiler here")
    (tmp_path / folder).mkdir()
    copied = str(shutil.copy(compiled, tmp_path / folder / "link"))
    path = Path(own_node.root, "tool")
    path.write_text(stubs.thin("zfs", copied))
    path.chmod(0o755)
    done = subprocess.run([path, "list", "-H", "-o", "name", "-d", "0", "zones"], capture_output=True, timeout=WITHIN)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"zones\n", b"")


def test_tool_outside_a_node_says_so(client: str | None, tmp_path: Path) -> None:
    stray = Tools(None, client, tmp_path)  # type: ignore[arg-type]
    where = tmp_path / "zfs"
    expected = f"zfs: {where} does not lie in the root of a mock compute node\n".encode()
    assert stray.run("zfs", "list") == (1, b"", expected)


@pytest.mark.parametrize(
    ("pointer", "why"), [("/nowhere/node.sock", "No such file or directory"), ("{}/dead.sock", "Connection refused")]
)
def test_node_that_does_not_run_is_said_to(client: str | None, tmp_path: Path, pointer: str, why: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.path.join(tmp_path, "dead.sock"))
    (tmp_path / ".mockcn").mkdir()
    (tmp_path / ".mockcn" / "socket").write_text(pointer.format(tmp_path) + "\n")
    stray = Tools(None, client, tmp_path)  # type: ignore[arg-type]
    expected = f"zfs: no mock compute node is running at {tmp_path} ({why})\n".encode()
    assert stray.run("zfs", "list") == (1, b"", expected)


def test_node_that_goes_away_midway_is_said_to(client: str | None, tmp_path: Path) -> None:
    with process.start(tmp_path / "node", vms=0) as node:
        folder = Path(node.root, "opt")
        folder.mkdir()
        child = subprocess.Popen(
            [Tools(node, client, folder).tool("sysevent"), "-r", "EC_zfs"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdout.readline() != b""
        node.stop()
        assert child.communicate(timeout=WITHIN)[1] == b"sysevent: the mock compute node has ended\n"
        assert child.returncode == 1
