# SPDX-License-Identifier: MPL-2.0
"""Run beside a vmadm that sits on a console: sets the terminal as it was if vmadm ends without having done so, as by
`kill -9`. A program of its own, with the terminal as standard output; see terminal.py.

    argument    the terminal's settings, as termios.tcgetattr() gives them, in Python's spelling
    stdin       the pids of what vmadm has started on the terminal, a line each; last `done`, if vmadm ends in order"""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import sys
import termios

DONE = "done"


def main() -> None:
    before = ast.literal_eval(sys.argv[1])
    told = sys.stdin.read().split()
    if DONE in told:
        return
    for pid in told:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGTERM)
    with contextlib.suppress(termios.error):  # the terminal is gone, too
        termios.tcsetattr(sys.stdout.fileno(), termios.TCSANOW, before)


if __name__ == "__main__":
    main()
