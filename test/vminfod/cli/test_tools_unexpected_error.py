# SPDX-License-Identifier: MPL-2.0
"""An error that nothing expected ends a tool with one line for the operator; the traceback is in the log."""

import json
import os
from pathlib import Path
from unittest import mock

import pytest

from vmadm.cli import main as vmadm_main
from vminfod.cli import vminfo_command, zoneevent

TOOLS = [("vmadm", vmadm_main), ("vminfo", vminfo_command), ("zoneevent", zoneevent)]


@pytest.mark.parametrize(("name", "module"), TOOLS)
def test_one_line_and_a_traceback_in_the_log(name, module, tmp_path, capfd):
    with mock.patch.object(module, "_told", autospec=True, side_effect=TypeError("two\nlines")):
        assert module.main([], {"VMADM_ROOT": str(tmp_path)}) == 1
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"{name}: unexpected error, please report it: TypeError: two lines (its traceback is in ")
    path = err.rpartition(" is in ")[2].rstrip(")\n")
    assert os.path.dirname(path) == f"{tmp_path}/var/log/vm/logs"
    record = json.loads(Path(path).read_text())
    assert "Traceback (most recent call last)" in record["err"]
    assert record["err"].rstrip().endswith("TypeError: two\nlines")
    assert os.stat(path).st_mode & 0o077 == 0


def test_log_that_cannot_be_written_is_named(tmp_path, capfd):
    (tmp_path / "var").write_text("in the way")
    with mock.patch.object(zoneevent, "_told", autospec=True, side_effect=KeyError("x")):
        assert zoneevent.main([], {"VMADM_ROOT": str(tmp_path)}) == 1
    err = capfd.readouterr().err
    assert err.endswith(f"(its traceback cannot be logged: {tmp_path}/var/log/vm/logs: Not a directory)\n")
    assert err.count("\n") == 1
