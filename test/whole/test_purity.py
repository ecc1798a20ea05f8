# SPDX-License-Identifier: MPL-2.0
"""What the watch over pure tests sees: each way to a process, a socket or a node's file, and nothing else."""

import os
import socket
import subprocess
import sys

import pytest

from support import purity


def a_process(folder):
    subprocess.run([sys.executable, "-c", ""], check=True)


def a_fork(folder):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def a_socket(folder):
    socket.socket().close()


def a_file(folder):
    with open(folder / "index", "w"):
        pass


def a_folder(folder):
    (folder / "zones").mkdir()


@pytest.mark.parametrize(
    "what, words",
    [
        (a_process, "it starts a process"),
        (a_fork, "it starts a process"),
        (a_socket, "it opens a socket"),
        (a_file, "it touches a file"),
        (a_folder, "it touches a file"),
    ],
)
def test_what_is_not_pure_is_seen(tmp_path, what, words):
    with purity.watch() as notes:
        what(tmp_path)
    assert notes and notes[0].startswith(words)


def test_nothing_is_noted_without_a_watch(tmp_path):
    with purity.watch() as notes:
        pass
    a_socket(tmp_path)
    assert notes == []


@pytest.mark.pure
def test_reading_the_checkout_is_pure():
    with purity.watch() as notes, open(__file__) as own:
        assert own.readline()
    assert notes == []


PROBE = """
import socket, pytest
@pytest.mark.pure
def test_probe():
    socket.socket().close()
"""


def test_test_that_is_marked_pure_and_is_not_fails(tmp_path):
    """The hook of conftest.py does what it says, in a run of its own."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = [here, os.path.dirname(here), os.path.join(os.path.dirname(here), "usr", "vm", "lib")]
    (tmp_path / "test_probe.py").write_text(PROBE)
    words = ["-q", "-p", "no:cacheprovider", "-p", "conftest", "--rootdir", str(tmp_path), "-c", os.devnull]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert "test_probe is marked pure, but it opens a socket" in run.stdout
