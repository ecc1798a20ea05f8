# SPDX-License-Identifier: MPL-2.0
"""Why a daemon does not serve on the Unix socket: each reason is the one that it was."""

import contextlib

import pytest

from vminfod.serving.listening import RunFiles


def refusal(root):
    files = RunFiles(str(root))
    files.take()
    try:
        with pytest.raises(OSError) as raised:
            files.listen()
    finally:
        files.release()
    return raised.value.strerror


def test_pid_file_that_cannot_be_written_is_not_taken_for_another_daemon(tmp_path):
    (tmp_path / "var" / "run" / "vminfod.pid").mkdir(parents=True)
    assert refusal(tmp_path) == f"{tmp_path}/var/run/vminfod.pid is not ours"


def test_socket_that_is_answered_is_another_daemons(tmp_path):
    first = RunFiles(str(tmp_path))
    assert first.take() is None
    with contextlib.closing(first.listen()):
        (tmp_path / "var" / "run" / "vminfod.pid").unlink()  # by somebody who cleans up
        assert refusal(tmp_path) == "another daemon listens there"
    first.release()
