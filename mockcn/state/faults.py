# SPDX-License-Identifier: MPL-2.0
"""Which fault applies to which call of a tool, and a count of the calls.

A fault says: the tool, a kind, a piece of text that the words must hold, and how many calls it is good for. The first
one that matches a call applies, and only that. Kinds and options are in docs/mockcn.md.
Not here: carrying a fault out (faulty_output.py for the thin tools, tools/link.py for the rest)."""

import collections
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Optional

ALL_STEPS = 1_000  # more than any tool takes
CALLS_KEPT = 10_000  # newest calls remembered with their words; the counters go on past it


@dataclass
class Fault:
    """One injected fault; `options` are text to text or numbers, kept as given. `steps`: how often one of the kind
    `hold` lets go. `waiting`: the calls that it keeps waiting now, each by something of its own."""

    tool: str
    kind: str
    match: str
    times: Optional[int]  # calls left; None: every call until cleared
    options: dict[str, Any]
    steps: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    waiting: set[object] = field(default_factory=set)

    def words(self) -> dict[str, str]:
        """The fault as tools/link.py wants it."""
        return {"kind": self.kind, **{name: str(value) for name, value in self.options.items() if value is not None}}


class Faults:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._calls: collections.deque[dict[str, Any]] = collections.deque(maxlen=CALLS_KEPT)
        self._counts: collections.Counter[str] = collections.Counter()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def clear(self, tool: Optional[str] = None) -> None:
        """Forget all faults, or those of one tool."""
        with self._lock:
            for fault in self._faults:
                if tool in (None, fault.tool):
                    fault.steps.release(ALL_STEPS)
            self._faults = [fault for fault in self._faults if tool is not None and fault.tool != tool]

    def step(self, tool: str) -> int:
        """Let each fault that holds `tool` let go once; how many faults those are."""
        with self._lock:
            holding = [fault for fault in self._faults if fault.tool == tool and fault.kind == "hold"]
            for fault in holding:
                fault.steps.release()
            return len(holding)

    def held(self, tool: str) -> int:
        """How many calls of `tool` wait at this moment for what a fault makes them wait for."""
        with self._lock:
            return sum(len(fault.waiting) for fault in self._faults if fault.tool == tool)

    def called(self, tool: str, argv: list[str], pid: int) -> Optional[Fault]:
        """Note a call; the fault that applies to it."""
        with self._lock:
            self._counts[tool] += 1
            self._calls.append({"tool": tool, "argv": argv, "pid": pid, "time": time.time()})
            line = " ".join(argv)
            for fault in self._faults:
                if fault.tool == tool and fault.times != 0 and fault.match in line:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def calls(self) -> dict[str, Any]:
        """{"counts": {tool: n}, "calls": [{"tool", "argv", "pid", "time"}, ...]}, oldest call first."""
        with self._lock:
            return {"counts": dict(self._counts), "calls": list(self._calls)}

    def forget_calls(self) -> None:
        with self._lock:
            self._calls.clear()
            self._counts.clear()
