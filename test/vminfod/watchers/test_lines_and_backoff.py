# SPDX-License-Identifier: MPL-2.0
"""Lines out of bytes, waits between tries."""

import pytest

from vminfod.backoff import JITTER, Backoff
from vminfod.bytelines import LineSplitter

pytestmark = pytest.mark.pure

TEXT = "one\n\nzwölf, with ünicode\nthree\n".encode()
LINES = [b"one", b"", "zwölf, with ünicode".encode(), b"three"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(TEXT)])
def test_lines_come_out_whole_however_the_bytes_are_cut(size):
    splitter = LineSplitter(1000)
    lines = []
    for at in range(0, len(TEXT), size):
        lines += splitter.feed(TEXT[at : at + size])
    assert lines == LINES
    assert splitter.too_long == 0


def test_line_comes_out_only_when_its_end_is_there():
    splitter = LineSplitter(1000)
    assert splitter.feed(b"abc") == []
    assert splitter.feed(b"def\nghi") == [b"abcdef"]
    assert splitter.feed(b"\n") == [b"ghi"]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_line_that_is_too_long_is_left_out_and_counted(size):
    text = b"ok\n" + b"x" * 50 + b"\n" + b"y" * 10 + b"\n" + b"z" * 11 + b"\nend\n"
    splitter = LineSplitter(most=10)
    lines = []
    for at in range(0, len(text), size):
        lines += splitter.feed(text[at : at + size])
    assert lines == [b"ok", b"y" * 10, b"end"]
    assert splitter.too_long == 2


def test_line_without_end_is_not_kept_in_memory():
    splitter = LineSplitter(most=10)
    for _ in range(1000):
        splitter.feed(b"x" * 10)
    assert sum(map(len, splitter._pieces)) <= 10


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_lines_end_with_newline_return_or_both(size):
    text = b"a\r\nb\rc\n\r\n\rd\n"
    splitter = LineSplitter(1000)
    lines = []
    for at in range(0, len(text), size):
        lines += splitter.feed(text[at : at + size])
    assert lines == [b"a", b"b", b"c", b"", b"", b"d"]


def test_endless_line_is_counted_before_its_end_comes():
    splitter = LineSplitter(most=10)
    assert splitter.feed(b"x" * 11) == []
    assert splitter.too_long == 1


def test_waits_double_up_to_the_limit_and_start_anew_after_success():
    backoff = Backoff(0.5, 4, chance=lambda: 0)
    assert [backoff.next() for _ in range(6)] == [0.5, 1, 2, 4, 4, 4]
    backoff.reset()
    assert backoff.next() == 0.5


def test_wait_is_shortened_by_chance_but_not_below_the_jitter():
    assert Backoff(10, 10, chance=lambda: 1).next() == pytest.approx(10 * (1 - JITTER))
    waits = {Backoff(10, 10).next() for _ in range(20)}
    assert len(waits) > 1
    assert all(10 * (1 - JITTER) <= wait <= 10 for wait in waits)
