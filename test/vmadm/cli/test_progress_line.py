# SPDX-License-Identifier: MPL-2.0
"""How far a stream is: the words, and that only a terminal gets them."""

import os
import re
import subprocess

import pytest

from support.moving import VMADM
from support.writing import LIMIT
from vmadm.cli.progress import amount, duration, line

pytest_plugins = ["support.movers"]

GIB = 1 << 30


@pytest.mark.pure
@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 * GIB // 2, "2.5 GiB"),
        (2**70, "1048576.0 PiB"),
    ],
)
def test_amounts(size, text):
    assert amount(size) == text


@pytest.mark.pure
@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59, "59 s"), (61, "1 min 01 s"), (3599.7, "1 h 00 min"), (7500, "2 h 05 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.pure
@pytest.mark.parametrize(
    ("done", "whole", "rate", "text"),
    [
        (0, None, 0, "zones/u: 0 B"),
        (GIB, None, GIB / 8, "zones/u: 1.0 GiB, 128.0 MiB/s"),
        (GIB, 2 * GIB, GIB / 8, "zones/u: 1.0 GiB of 2.0 GiB, 128.0 MiB/s, 8 s left"),
        (GIB, 2 * GIB, 0, "zones/u: 1.0 GiB of 2.0 GiB"),
        (3 * GIB, 2 * GIB, GIB, "zones/u: 3.0 GiB of 2.0 GiB, 1.0 GiB/s"),
    ],
)
def test_line(done, whole, rate, text):
    assert line("zones/u", done, whole, rate) == text


def said_on_a_terminal(words, environ, **streams):
    """What the command writes to a standard error that is a terminal."""
    ours, theirs = os.openpty()
    child = subprocess.Popen([VMADM, *words], stderr=theirs, env=environ, **streams)
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 65536):
            said += piece
    except OSError:  # what a terminal gives at its end
        pass
    os.close(ours)
    assert child.wait(LIMIT) == 0
    return said.decode()


def test_terminal_is_shown_how_far_it_is_and_in_the_end_only_the_outcome(two, tmp_path):
    uuid = two.one.create()["uuid"]
    path = tmp_path / "vm"
    with open(path, "wb") as file:
        said = said_on_a_terminal(["send", uuid], two.one.environ, stdout=file)
    assert re.fullmatch(
        rf"(\r\x1b\[Kzones/{uuid}: [0-9.]+ K?i?B of [0-9.]+ KiB[^\r]*)+\r\x1b\[KSuccessfully sent VM {uuid}\r\n", said
    ), said
    with open(path, "rb") as file:
        said = said_on_a_terminal(["receive"], two.other.environ, stdin=file)
    assert re.fullmatch(
        rf"(\r\x1b\[Kzones/{uuid}: [0-9.]+ K?i?B of [0-9.]+ KiB[^\r]*)+\r\x1b\[K"
        rf"(\[ *[0-9.]+ s\] [0-9]+/[0-9]+: [^\r]+\r\n)+Successfully received VM {uuid}\r\n",
        said,
    ), said
