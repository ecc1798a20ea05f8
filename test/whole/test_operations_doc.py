# SPDX-License-Identifier: MPL-2.0
"""docs/operations.md has every message that the daemon logs at warn and above, with what to do, and every option."""

import ast
import contextlib
import io
import re
from pathlib import Path

import pytest

from support.running_daemon import CHECKOUT
from vminfod import main as vminfod_main

pytestmark = pytest.mark.pure

LIB = Path(CHECKOUT) / "usr" / "vm" / "lib"
PAGE = (Path(CHECKOUT) / "docs" / "operations.md").read_text()
LEVELS = {"warn", "error", "fatal"}
# Rooms that the daemon consists of: the client library and the tools log elsewhere.
DAEMON = [*(LIB / "vmload").glob("*.py"), *(LIB / "vminfod").glob("*.py")] + [
    path for room in ("watchers", "freshness", "serving") for path in (LIB / "vminfod" / room).glob("*.py")
]
NOT_OF_THE_LOG = {"client.py"}  # the library's door


def text_of(argument):
    """A pattern of the message as the page has it: X stands for what differs each time. None if it is no text."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return re.escape(argument.value)
    if isinstance(argument, ast.JoinedStr):
        parts = [re.escape(p.value) if isinstance(p, ast.Constant) else "\0" for p in argument.values]
        return re.sub("\0+", "X", "".join(parts))
    return None


def logged():
    """(level, pattern of the message, where) of each call that logs at warn and above."""
    for path in DAEMON:
        if path.name in NOT_OF_THE_LOG:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            where = f"{path.relative_to(LIB)}:{node.lineno}"
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            # log.warn("..."), also where the level is chosen or handed on: (log.error if x else log.debug)("...")
            spoken = {level for level in LEVELS if re.search(rf"log\w*\.{level}\b", ast.unparse(node.func))}
            handed = {level for level in LEVELS if re.search(rf"log\w*\.{level}$", ast.unparse(node.args[0]))}
            if spoken:
                yield from ((level, node.args[0], where) for level in spoken)
            elif handed and len(node.args) > 1:
                yield from ((level, node.args[1], where) for level in handed)
            elif name in ("note", "_note") and isinstance(node.args[0], ast.Constant) and node.args[0].value in LEVELS:
                yield node.args[0].value, node.args[1], where


def rows():
    """(levels, message, what to do) of the page's table of messages."""
    table = PAGE.partition("| level | msg |")[2].partition("\n\n")[0]
    return [tuple(cell.strip() for cell in row.strip("|").split(" | ")) for row in table.splitlines()[2:]]


def test_every_message_at_warn_and_above_is_in_the_table():
    said = [(level, message.strip("`")) for level, message, *_ in rows()]
    missing = []
    for level, argument, where in logged():
        pattern = text_of(argument)
        if pattern is None:
            pattern = {"str(error)": None}.get(ast.unparse(argument), "?")
            if pattern is None:
                continue  # errors of the queue: in the table by their own texts
        if not any(one == level and re.fullmatch(pattern, message) for one, message in said):
            missing.append(f"{where}: {level} {ast.unparse(argument)}")
    assert missing == []


def test_the_table_has_no_message_that_nobody_logs():
    patterns = [(level, text_of(argument)) for level, argument, _ in logged()]
    own = {"pause timeout exceeded", "fast-forward timeout exceeded", "the task was killed"}  # str(error) of the queue
    for level, message, *_ in rows():
        text = message.strip("`")
        known = any(one == level and pattern and re.fullmatch(pattern, text) for one, pattern in patterns)
        assert known or text in own, text


def test_every_message_says_what_to_do():
    assert rows()
    for level, message, meaning in rows():
        assert level in LEVELS and message.startswith("`") and len(meaning) > 20, message


def test_every_option_is_in_the_help_and_on_the_page():
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit):
        vminfod_main.main(["--help"])
    options = set(re.findall(r"(?<![\w-])--[a-z-]+", printed.getvalue()))
    in_source = set(re.findall(r'"(--[a-z-]+)"', (LIB / "vminfod" / "main.py").read_text()))
    in_source |= {f"--{name}-limit" for name in ("zone", "node", "child")} | {"--help"}
    assert options == in_source
    on_page = set(re.findall(r"`(--[a-z-]+)`", PAGE))
    assert options - {"--help", "--version"} <= on_page
