# SPDX-License-Identifier: MPL-2.0
"""Runs inside the daemon's process, before anything of it: its wall clock can be moved, and it counts its greenlets.

The file named by SIMULATION_CLOCK holds the seconds by which time.time() is off; it is looked at with each call.
SIGUSR2 writes the number of greenlets into the file named by SIMULATION_GREENLETS. Nothing else of the daemon differs
from what an operator runs: time.monotonic(), by which it waits, is what it is."""

import gc
import os
import signal
import time

_clock = os.environ.pop("SIMULATION_CLOCK", None)
_counted = os.environ.pop("SIMULATION_GREENLETS", None)
os.environ.pop("PYTHONPATH", None)  # not for the daemon's own children
_true_time = time.time


def _moved_time() -> float:
    try:
        with open(_clock or "", encoding="ascii") as file:
            return _true_time() + float(file.read() or 0)
    except (OSError, ValueError):
        return _true_time()


def _count(_number: int, _frame: object) -> None:
    from greenlet import greenlet

    count = sum(isinstance(one, greenlet) and not one.dead for one in gc.get_objects())
    partly = f"{_counted}.new"
    with open(partly, "w", encoding="ascii") as file:
        file.write(str(count))
    os.replace(partly, _counted or "")


if _clock:
    time.time = _moved_time
if _counted:
    signal.signal(signal.SIGUSR2, _count)
