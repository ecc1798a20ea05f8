# SPDX-License-Identifier: MPL-2.0
"""A change as a list of named steps, so that whoever stops halfway can say what was done and what was not."""

from __future__ import annotations

from collections.abc import Callable

from vmadm.errors import Interrupted, ToolFailed, VmadmError
from vmadm.node.machine import FIRST

Step = tuple[str, Callable[[], object]]


class Steps:
    """`done` and `left` are the names of the steps. `check` is called before each step and may raise Interrupted;
    `begins` is told each step's text as it begins, such as `3/14: clone the image`."""

    def __init__(self, check: Callable[[], None], begins: Callable[[str], None] = lambda text: None) -> None:
        self.done: list[str] = []
        self.left: list[str] = []
        self._check = check
        self._begins = begins

    def run(self, steps: list[Step], prefix: str = FIRST) -> None:
        """Take the steps in order. An error of one goes on up, with its text completed: `prefix` before what a command
        said, behind it what was done and what was not."""
        names = [name for name, _ in steps]
        for position, (name, act) in enumerate(steps):
            self.left = names[position:]
            try:
                self._check()
                self._begins(f"{position + 1}/{len(steps)}: {name}")
                act()
            except VmadmError as error:
                text = str(error)
                if isinstance(error, ToolFailed) and not text.startswith(prefix):
                    text = prefix + text
                if (self.done or isinstance(error, Interrupted)) and not error.tells_all:
                    text += self.summary()
                error.args = (text,)
                raise
            self.done.append(name)
        self.left = []

    def summary(self) -> str:
        """` (done: ...; not done: ...)`"""
        return f" (done: {', '.join(self.done) or 'nothing'}; not done: {', '.join(self.left) or 'nothing'})"
