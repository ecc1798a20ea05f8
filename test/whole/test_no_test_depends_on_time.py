# SPDX-License-Identifier: MPL-2.0
"""A test waits for what must come and not for time to pass, and asserts what is, not how long it took: else it fails
on a machine that is busy with other things.

A pause may stand in a `while` loop, between two looks; anywhere else a comment says that the passing of time is the
case that is tested, and not a wait. The helpers of test/support and the simulation, whose plans are full of pauses,
have their own rules."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.deadlines import SOON

pytestmark = pytest.mark.pure

TEST = Path(os.path.dirname(os.path.abspath(__file__))).parent
ELSEWHERE = ("support", "simulation")
EXCUSE = "the case"  # what the comment beside a pause says, among more
CLOCKS = ("monotonic", "perf_counter", "process_time")
WAITS = ("wait", "wait_ready", "join", "settimeout", "Timeout")  # calls whose first argument is a deadline
MEANT = 2.0  # seconds; what is shorter is a limit that is to pass


def name_of(call: ast.AST) -> str:
    """The last part of what is called; empty if this is no call."""
    if not isinstance(call, ast.Call):
        return ""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def walk(node: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes, each with whether a `while` loop of its own function is around it."""
    waiting = [(node, False)]
    while waiting:
        parent, around = waiting.pop()
        for child in ast.iter_child_nodes(parent):
            inside = around or isinstance(child, ast.While)
            if isinstance(child, (ast.FunctionDef, ast.Lambda)):
                inside = False
            yield child, inside
            waiting.append((child, inside))


def is_switch(call: ast.Call) -> bool:
    """Whether it is sleep(0), which only lets others run."""
    return bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0


def excused(line: str) -> bool:
    return EXCUSE in line.partition("#")[2]


def deadlines(call: ast.Call) -> list[ast.expr]:
    """What is given as a deadline."""
    name = name_of(call)
    given = [keyword.value for keyword in call.keywords if keyword.arg in ("within", "timeout")]
    return given + (call.args[2:3] if name == "eventually" else call.args[:1] if name in WAITS else [])


def can_be_missed(deadline: ast.expr, name: str) -> bool:
    value = deadline.value if isinstance(deadline, ast.Constant) else None
    if not isinstance(value, (int, float)):
        return False
    return value < SOON and (value >= MEANT or name == "eventually")


def problems(text: str) -> list[str]:
    """What in this file depends on time: "line: why"."""
    lines = text.split("\n")
    found = []
    for node, in_loop in walk(ast.parse(text)):
        if name_of(node) == "sleep" and not in_loop and not is_switch(node) and not excused(lines[node.lineno - 1]):
            found.append(f"{node.lineno}: waits for time to pass")
        missed = isinstance(node, ast.Call) and any(can_be_missed(one, name_of(node)) for one in deadlines(node))
        if missed and not excused(lines[node.lineno - 1]):
            found.append(f"{node.lineno}: a deadline that a busy machine can miss: take SOON")
        if isinstance(node, ast.Assert):
            for part in ast.walk(node.test):
                if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Sub) and name_of(part.left) in CLOCKS:
                    found.append(f"{node.lineno}: asserts how long something took")
    return found


def files() -> list[str]:
    found = [path.relative_to(TEST) for path in sorted(TEST.rglob("*.py"))]
    return [str(path) for path in found if path.parts[0] not in ELSEWHERE]


def test_there_are_files_to_look_at() -> None:
    assert len(files()) > 100


def test_no_test_depends_on_time() -> None:
    found = {file: problems((TEST / file).read_text(encoding="utf-8")) for file in files()}
    assert {file: lines for file, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("time.sleep(1)", 1),
        ("def test():\n    gevent.sleep(seconds)", 2),
        ("while True:\n    def later():\n        sleep(3)", 3),
        ("for _ in range(9):\n    sleep(0.1)", 2),
        ("sleep(3)  # so that it is over", 1),
        ("assert time.monotonic() - began < 5", 1),
        ("assert ok and 1 < (perf_counter() - began) / 2, 'slow'", 1),
        ("eventually('it is up', check, 5.0)", 1),
        ("eventually('it is up', check, within=1)", 1),
        ("child.wait(20)", 1),
        ("thread.join(30.0)", 1),
        ("sock.settimeout(10)", 1),
        ("child.communicate(text, timeout=60)", 1),
    ],
)
def test_what_depends_on_time_is_seen(text: str, line: int) -> None:
    assert [problem.partition(":")[0] for problem in problems(text)] == [str(line)]


@pytest.mark.parametrize(
    "text",
    [
        "while not done():\n    time.sleep(0.01)",
        "gevent.sleep(0)",
        "sleep(0.1)  # longer than the limit: this is the case, not a wait",
        "assert time.monotonic() < deadline, 'it did not come'",
        "eventually('it is up', check, 2 * SOON)",
        "eventually('it is up', check)",
        "thread.join(SOON)",
        "client.get('/hang', timeout=0.1)",
        "api.stop(uuid, timeout=5)  # this is the case: it does not end by itself",
        "', '.join(names)",
        "child('time.sleep(60)')",
    ],
)
def test_what_does_not_is_let_be(text: str) -> None:
    assert problems(text) == []
