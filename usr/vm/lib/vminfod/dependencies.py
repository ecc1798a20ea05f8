# SPDX-License-Identifier: MPL-2.0
"""Whether what the daemon is built on is there, and fits this Python: asked before anything of it is imported, so that
who put together an image reads one line, and no traceback.

Always: nothing is imported here but the standard library and the three themselves."""

from __future__ import annotations

import glob
import importlib
import importlib.util
import os
import re
import sys
from typing import Optional

NEEDED = ("gevent", "ujson", "logbook")
LATER = ("bottle", "prometheus_client")  # imported when they are needed: looked for, but not imported here


def trouble() -> Optional[str]:
    """The first of them that cannot be used, where it lies and why, in one line; None if all can."""
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            return in_words(name, error)
    for name in LATER:
        if importlib.util.find_spec(name) is None:
            return in_words(name, ModuleNotFoundError(name=name))
    return None


def in_words(name: str, error: ImportError) -> str:
    """Which module it is that makes the import of `name` fail, where that lies and why, in one line."""
    python = f"{sys.executable} ({sys.version_info.major}.{sys.version_info.minor})"
    needed = name
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != name:
        needed = error.name  # one of those that it is built on in turn
    files = _files(needed)
    if not files:
        return f"the Python module {needed} is not there for {python}: docs/platform-image.md says how it gets there"
    built = sorted({tag for path in files for tag in _BUILT_FOR.findall(os.path.basename(path))})
    which = f", built for {' and '.join(built)}," if built else ""
    folder = os.path.realpath(os.path.dirname(files[0]))
    return f"the Python module {needed} in {folder}{which} does not fit {python}: {error}"


# Compiled files say in their names for which Python they are: _ext.cpython-312-x86_64-linux-gnu.so.
_BUILT_FOR = re.compile(r"\.((?:cpython|pypy)[^-.]*-[0-9]+)")


def _files(name: str) -> list[str]:
    """The files of a package, or the one of a module, whatever Python they are for; none if it is nowhere."""
    for folder in sys.path:
        place = os.path.join(glob.escape(folder), *name.split("."))
        for pattern in (os.path.join(place, "*"), f"{place}.py", f"{place}.*.so", f"{place}.so"):
            if found := sorted(glob.glob(pattern)):
                return found
    return []
