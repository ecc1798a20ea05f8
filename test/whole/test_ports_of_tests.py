# SPDX-License-Identifier: MPL-2.0
"""Two runs of tests on one machine give their daemons different ports, wherever each puts its files."""

import os
import subprocess
import sys
from pathlib import Path

from support import ports

PROGRAM = "import sys; from support.ports import free_port; print(free_port(), flush=True); sys.stdin.read()"


def test_two_runs_have_different_ports_whatever_their_temporary_folder(tmp_path):
    runs = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        environ = {**os.environ, "TMPDIR": str(tmp_path / name), "PYTHONPATH": str(Path(ports.__file__).parents[1])}
        words = [sys.executable, "-c", PROGRAM]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        runs.append(subprocess.Popen(words, env=environ, text=True, **pipes))
    ours = ports.free_port()
    shares = [(int(run.stdout.readline()) - ports.FIRST) // ports.EACH for run in runs]
    for run in runs:
        run.communicate()
    assert len({*shares, (ours - ports.FIRST) // ports.EACH}) == 3
