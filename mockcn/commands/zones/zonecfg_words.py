# SPDX-License-Identifier: MPL-2.0
"""The language of zonecfg: from the text of a script to statements (docs/platform.md, "zonecfg").

    add attr; set name="alias"; set value="Zm9v"; end           statements end at `;` or at the end of the line
    add property (name=ips, value="192.0.2.7/24")               a complex value
    remove -F attr name=alias                                   flags, a resource, what it is found by

Always: a bad statement is that statement's fault: those before and after it are read as if it were not there.
Not here: what a statement does (zonecfg_session.py)."""

import re
from dataclasses import dataclass, field
from typing import Iterator, Union

Value = Union[str, list[str], dict[str, str]]

TOKEN = re.compile(r'\s*(?:"([^"\n]*)"?|([][()=,])|([^\s"\[\]()=,;]+(?:,[^\s"\[\]()=,;]+)*))')
INNER_TOKEN = re.compile(r'\s*(?:"([^"\n]*)"?|([][()=,])|([^\s"\[\]()=,;]+))')


class BadStatement(Exception):
    """A statement that cannot be read or carried out; the message is zonecfg's. Nothing of it has been done."""


@dataclass(frozen=True)
class Operand:
    """`name=value`, or with an empty name a value that stands alone."""

    name: str
    value: Value


@dataclass(frozen=True)
class Statement:
    """`flags` are the letters after dashes; `operands` all other words in order."""

    verb: str
    flags: frozenset[str] = frozenset()
    operands: list[Operand] = field(default_factory=list)

    def word(self, place: int) -> str:
        """The operand at `place` if it is a plain word, else an empty text."""
        if place < len(self.operands) and not self.operands[place].name:
            value = self.operands[place].value
            return value if isinstance(value, str) else ""
        return ""


def split(script: str) -> Iterator[str]:
    """The statements' texts. Blank ones and comments, which begin with `#`, are left out."""
    for line in script.split("\n"):
        start, quoted = 0, False
        if line.lstrip().startswith("#"):
            continue
        for place, character in enumerate(line):
            if character == '"':
                quoted = not quoted
            elif character == ";" and not quoted:
                if line[start:place].strip():
                    yield line[start:place].strip()
                start = place + 1
        if line[start:].strip():
            yield line[start:].strip()


def read(text: str) -> Statement:
    """One statement. Raises BadStatement."""
    tokens = _tokens(text)
    kind, verb = tokens[0]
    if kind != "word":
        raise BadStatement(f"syntax error at '{verb}'")
    flags: set[str] = set()
    operands: list[Operand] = []
    place = 1
    while place < len(tokens):
        kind, word = tokens[place]
        if kind == "word" and word.startswith("-") and len(word) > 1 and not operands:
            flags |= set(word[1:])
            place += 1
        elif kind == "word" and place + 1 < len(tokens) and tokens[place + 1] == ("mark", "="):
            value, place = _value(tokens, place + 2)
            operands.append(Operand(word, value))
        else:
            value, place = _value(tokens, place)
            operands.append(Operand("", value))
    return Statement(verb, frozenset(flags), operands)


def _tokens(text: str) -> list[tuple[str, str]]:
    """(kind, text); kinds are quoted, mark, word. A comma separates only within brackets."""
    tokens: list[tuple[str, str]] = []
    place, depth = 0, 0
    while text[place:].strip():
        match = (INNER_TOKEN if depth else TOKEN).match(text, place)
        if match is None:
            raise BadStatement(f"syntax error at '{text[place:].strip()}'")
        quoted, mark, word = match.groups()
        if mark is not None:
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(mark, 0)
        tokens.append(
            ("quoted", quoted) if quoted is not None else ("mark", mark) if mark is not None else ("word", word)
        )
        place = match.end()
    return tokens


def _value(tokens: list[tuple[str, str]], place: int) -> tuple[Value, int]:
    """The value that begins at `place`, and the place behind it."""
    kind, text = tokens[place] if place < len(tokens) else ("end", "end of statement")
    if kind in ("word", "quoted"):
        return text, place + 1
    if (kind, text) == ("mark", "["):
        items, place = _between(tokens, place + 1, "]")
        if any("=" in item for item in items):
            raise BadStatement("syntax error at '='")
        return ["".join(item) for item in items], place
    if (kind, text) == ("mark", "("):
        items, place = _between(tokens, place + 1, ")")
        pairs: dict[str, str] = {}
        for item in items:
            if len(item) < 2 or item[1] != "=":
                raise BadStatement(f"syntax error at '{''.join(item)}'")
            pairs[item[0]] = "".join(item[2:])
        return pairs, place
    raise BadStatement(f"syntax error at '{text}'")


def _between(tokens: list[tuple[str, str]], place: int, closing: str) -> tuple[list[list[str]], int]:
    """What lies between brackets, split at the commas into lists of tokens; and the place behind the bracket."""
    items: list[list[str]] = [[]]
    while place < len(tokens):
        kind, text = tokens[place]
        place += 1
        if (kind, text) == ("mark", closing):
            return [item for item in items if item], place
        if (kind, text) == ("mark", ","):
            items.append([])
        else:
            items[-1].append(text)
    raise BadStatement(f"syntax error, '{closing}' expected")
