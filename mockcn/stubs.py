# SPDX-License-Identifier: MPL-2.0
"""What lies in the node's root as `usr/sbin/zfs` and so on: files of a few lines that start one of the two clients.

    compiled   link.c, made ready once for a checkout: a quarter of a millisecond for a call, twice that where the C
               library has to be in it
    Python     link.py by an interpreter without site packages: some ten. Where there is no C compiler, and always
               for what has work of its own and goes on: fswatcher, and the console of zlogin

Always: a call does the same by either client; what a file is called does not matter, it says which tool it is.
Where a path cannot stand in a shebang line (blanks, length) the file starts as a shell script."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import zlib
from typing import Optional

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tools")
SOURCE, LIBRARY = os.path.join(TOOLS, "link.c"), os.path.join(TOOLS, "bare.c")
COMPILED = os.path.join(TOOLS, "build")
COMPILE_WITHIN = 60  # seconds
# In the order of what a call then takes. bare.c is not for every processor; not every system has what a static program
# needs, and one that has to find its libraries takes a third longer.
BARE = ("-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-tree-loop-distribute-patterns", LIBRARY)
COMPILERS_OPTIONS = (("-O1", "-static", *BARE), ("-O1", "-static"), ("-O1",))
SHEBANG_LENGTH = 120  # bytes of a shebang line that every system takes


def compiled_client() -> Optional[str]:
    """The path of the compiled client, which is compiled now if it was not yet. None if that cannot be done here."""
    made_of = repr(COMPILERS_OPTIONS).encode()
    for source in (SOURCE, LIBRARY):
        with open(source, "rb") as file:
            made_of += file.read()
    key = f"{zlib.crc32(made_of):08x}-{os.uname().machine}"
    path = os.path.join(COMPILED, f"link-{key}")
    if os.path.exists(path):
        return path
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    for options in COMPILERS_OPTIONS:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            os.makedirs(COMPILED, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=COMPILED) as folder:  # several nodes may start at once: each its own
                made = os.path.join(folder, "link")
                command = [compiler, *options, "-o", made, SOURCE]
                subprocess.run(
                    command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMPILE_WITHIN, check=True
                )
                os.rename(made, path)
                return path
    return None


def thin(tool: str, client: Optional[str]) -> str:
    """The text of a thin tool. `client`: what compiled_client() gave; None for the one in Python."""
    if client is None:
        return python(f"link.run({tool!r}, sys.argv[1:])")
    line = f"#!{client} {tool}\n"
    return line if _fits(line, client) else f'#!/bin/sh\nexec {shlex.quote(client)} {tool} "$0" "$@"\n'


def python(call: str, otherwise: str = "") -> str:
    """The text of a tool that is the Python statement `call`, with link.py at hand. `otherwise`: a line for the shell,
    before Python starts."""
    at_hand = f"import sys\nsys.path.insert(0, {TOOLS!r})\nimport link\nlink.installed(__file__)\n"
    return f"{_python_begins(otherwise)}{at_hand}{call}\n"


def zlogin(client: Optional[str]) -> str:
    """The text of zlogin: in Python where it is the console, else thin."""
    call = "import zlogin\nsys.exit(zlogin.main(sys.argv[1:]))"
    if client is None:
        return python(call)
    return python(call, f'[ "$1" = -C ] || exec {shlex.quote(client)} zlogin "$0" "$@"\n')


def _python_begins(otherwise: str) -> str:
    # The interpreter itself, not a virtual environment's link to it, which would look for its home at each start.
    interpreter = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    line = f"#!{interpreter} -IS\n"
    if not otherwise and _fits(line, interpreter):
        return line
    # Shell and Python at once: the shell replaces itself by the interpreter, which takes those lines for a string.
    return f"#!/bin/sh\n''':'\n{otherwise}exec {shlex.quote(interpreter)} -IS \"$0\" \"$@\"\n'''\n"


def _fits(line: str, program: str) -> bool:
    return len(os.fsencode(line)) <= SHEBANG_LENGTH and not any(character.isspace() for character in program)
