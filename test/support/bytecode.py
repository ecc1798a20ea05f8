# SPDX-License-Identifier: MPL-2.0
"""Test modules that were never run, or have changed, are compiled before a run's workers begin.

pytest compiles a test module when it is collected, and keeps the outcome. Each worker of a run collects all of them,
all in the same order and at the same time: where nothing is kept yet, as in a fresh checkout, each compiles most of
them, which costs more than some rooms of tests.

Always: it only saves work: a module that is not compiled here, or cannot be, is left to the workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ENOUGH = 24  # modules that lack it: for fewer, what is saved is less than the processes cost
LIMIT = 120.0  # seconds; then the workers do it


def compile_once(arguments: Iterable[str]) -> None:
    """Have the test modules below these arguments of pytest compiled, by as many processes as there are processors."""
    modules = [path for path in _test_modules(arguments) if not _is_compiled(path)]
    if len(modules) < ENOUGH:
        return
    count = os.cpu_count() or 1
    shares = [modules[number::count] for number in range(count)]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--collect-only"]
    running = [
        subprocess.Popen(
            [*command, *map(str, share)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for share in shares
        if share
    ]
    for process in running:
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _test_modules(arguments: Iterable[str]) -> list[Path]:
    found: dict[Path, None] = {}
    for argument in arguments:
        path = Path(argument.partition("::")[0])
        found |= dict.fromkeys(sorted(path.rglob("test_*.py")) if path.is_dir() else [path])
    return list(found)


def _is_compiled(path: Path) -> bool:
    """Whether pytest of this version has kept it, since it was last changed."""
    kept = path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}-pytest-{pytest.__version__}.pyc"
    try:
        return kept.stat().st_mtime >= path.stat().st_mtime
    except OSError:
        return False
