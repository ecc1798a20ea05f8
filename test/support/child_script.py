# SPDX-License-Identifier: MPL-2.0
"""Little programs that a test writes, to be started as children of the daemon."""

import sys
from pathlib import Path

PRELUDE = """#!{python} -S
import os, signal, sys, time
def say(text):
    sys.stdout.write(text + "\\n"); sys.stdout.flush()
def times_started():
    "How often this program was started so far, this time included."
    with open(__file__ + ".starts", "a+") as file:
        file.write("x"); file.flush(); file.seek(0)
        return len(file.read())
"""


def child_script(folder: Path, body: str, name: str = "child") -> str:
    """Writes an executable Python program that has say() and times_started(); its path."""
    path = folder / name
    path.write_text(PRELUDE.format(python=sys.executable) + body)
    path.chmod(0o755)
    return str(path)
