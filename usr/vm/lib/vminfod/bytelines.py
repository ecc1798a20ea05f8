# SPDX-License-Identifier: MPL-2.0
"""Bytes as they come from a pipe or socket, cut into lines.

Always: a line comes out once, whole, without its end, however the bytes were cut up;
        \\n, \\r\\n and \\r end a line (inside JSON they are escaped);
        what is kept never exceeds the limit (bug L2): a line that is longer is left out, and counted as soon as it is;
        bytes become text only when the line is whole, since a read can cut a character in two (bug A7).
Not here: what a line means."""

from __future__ import annotations


class LineSplitter:
    """Lines of `most` bytes at the most. `too_long` counts those that were left out; `unfinished`: a line has begun and
    not ended; `overlong`: it is one of those."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pieces: list[bytes] = []  # the start of a line whose end has not come
        self._length = 0  # of the pieces together
        self._skipping = False  # the line that is coming is too long
        self._after_return = False  # a \n that comes now belongs to the line before
        self.too_long = 0

    @property
    def unfinished(self) -> bool:
        return self._skipping or self._length > 0

    @property
    def overlong(self) -> bool:
        return self._skipping

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that `piece` completes, empty ones too."""
        if piece:
            ended, self._after_return = self._after_return, piece.endswith(b"\r")
            if ended:
                piece = piece.removeprefix(b"\n")
        whole = piece.splitlines()
        rest = whole.pop() if whole and not piece.endswith((b"\n", b"\r")) else b""
        lines = []
        if whole:
            self._keep(whole[0])
            if not self._skipping:
                lines.append(b"".join(self._pieces))
            self._pieces, self._length, self._skipping = [], 0, False
            fitting = [text for text in whole[1:] if len(text) <= self._most]
            lines += fitting
            self.too_long += len(whole) - 1 - len(fitting)
        self._keep(rest)
        return lines

    def _keep(self, text: bytes) -> None:
        if self._skipping:
            return
        self._length += len(text)
        if self._length > self._most:
            self.too_long += 1
            self._skipping, self._pieces = True, []
        elif text:
            self._pieces.append(text)
