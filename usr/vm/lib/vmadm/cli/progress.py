# SPDX-License-Identifier: MPL-2.0
"""How far a stream is, on one line of a terminal: bytes, rate, and the time left where the whole is known.

Always: nothing is written where standard error is no terminal; the line is gone when the work is done, so that the
        last line is the command's own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Optional

from vminfod.cli.stdio import STDERR, escaped, on_terminal

EVERY = 0.5  # seconds between two lines
WINDOW = 10.0  # seconds over which the rate is taken: a pipe's stutter is no news, an hour ago neither
CLEAR = "\r\x1b[K"
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


class ProgressLine:
    """To be used as `with ProgressLine() as progress`; `progress.show` is what takes (what, bytes, all bytes)."""

    def __init__(self) -> None:
        self._what = ""
        self._seen: list[tuple[float, int]] = []
        self._written = 0.0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *error: object) -> None:
        self._clear()

    def _clear(self) -> None:
        if self._written:
            _put(CLEAR)
            self._written = 0.0

    def making_room(self, tell: Callable[[str], None]) -> Callable[[str], None]:
        """`tell`, for lines that come between: the progress is gone before each of them."""

        def told(text: str) -> None:
            self._clear()
            tell(text)

        return told

    def show(self, what: str, done: int, whole: Optional[int]) -> None:
        """`done` bytes of `whole`, or of nobody knows how many, at this moment."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._seen = what, []
        self._seen = [each for each in self._seen if each[0] > now - WINDOW] + [(now, done)]
        if now - self._written >= EVERY:
            self._written = now
            _put(CLEAR + escaped(line(what, done, whole, self._rate())))

    def _rate(self) -> float:
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return (after - before) / (last - first) if last > first else 0.0


def line(what: str, done: int, whole: Optional[int], rate: float) -> str:
    """`rate` in bytes a second, 0 if it is not known yet."""
    text = f"{what}: {amount(done)}"
    if whole:
        text += f" of {amount(whole)}"
    if rate > 0:
        text += f", {amount(rate)}/s"
        if whole and whole > done:
            text += f", {duration((whole - done) / rate)} left"
    return text


def amount(size: float) -> str:
    """`1.5 GiB`"""
    unit = 0
    while size >= 1024 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {UNITS[unit]}" if unit else f"{size:.0f} {UNITS[0]}"


def duration(seconds: float) -> str:
    """`1 h 05 min`, `5 min 10 s`, `10 s`"""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def _put(text: str) -> None:
    """With what drives a terminal, which put() would show as escapes."""
    try:
        os.write(STDERR, text.encode("utf-8", "backslashreplace"))
    except OSError:
        return  # nobody looks on any more: that is no reason to stop


def wanted() -> bool:
    """Whether somebody looks on."""
    return on_terminal(STDERR)
