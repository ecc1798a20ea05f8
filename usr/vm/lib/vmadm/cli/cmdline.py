# SPDX-License-Identifier: MPL-2.0
"""vmadm's command line, taken apart as it always was (spec/vmadm.md 0.2), which is not how getopt does it.

Options may stand anywhere up to `--`; one that needs a value takes the next word whatever it looks like
(`-s -ram`); short flags glue together (`-fjr`); long names may be cut to a unique beginning (`--parse`); of equal
options the last one wins. Unlike the original, which let an unknown option swallow the next word, we refuse it."""

from __future__ import annotations

from vmadm.errors import BadUsage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

UUID_LENGTH = 36
UUID_DASHES = (8, 13, 18, 23)


class Option:
    """One option of a command: its letter, its long name if it has one, and whether it takes a value."""

    def __init__(self, letter: str, name: Optional[str] = None, *, takes_value: bool = False) -> None:
        self.letter = letter
        self.name = name
        self.takes_value = takes_value


EVERYWHERE = (Option("v"), Option("d"))  # accepted by every command, without effect


def parsed_words(words: list[str], options: tuple[Option, ...]) -> tuple[dict[str, str], list[str]]:
    """(values by letter, operands). A flag that is on has the value "true". Raises BadUsage."""
    known = (*options, *EVERYWHERE)
    letters = {option.letter: option for option in known}
    values: dict[str, str] = {}
    operands: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            return values, operands + left
        if not word.startswith("-") or word == "-":
            operands.append(word)
            continue
        name, equals, value = word.partition("=")
        if not name.startswith("--") and len(name) > 2 and not equals and all(c in letters for c in name[1:]):
            left[:0] = [f"-{letter}" for letter in name[1:]]
            continue
        option = _named(name, known)
        if option.takes_value:
            if not equals and not left:
                raise BadUsage(f"Option {name} needs a value.")
            values[option.letter] = value if equals else left.pop(0)
        elif value == "false":
            values.pop(option.letter, None)
        else:
            values[option.letter] = "true"
    return values, operands


def uuid_operand(operands: list[str], command: str) -> str:
    """The first operand, a uuid. Raises BadUsage with the text that names `command` as typed."""
    if not operands or not is_uuid(operands[0]):
        raise BadUsage(f"Invalid or missing UUID for {command}")
    return operands[0]


def is_uuid(word: str) -> bool:
    """Only the shape counts: 36 characters with dashes in the four places."""
    return len(word) == UUID_LENGTH and all(word[at] == "-" for at in UUID_DASHES)


def _named(word: str, known: tuple[Option, ...]) -> Option:
    if word.startswith("--"):
        exact = [option for option in known if option.name == word[2:]]
        begun = [option for option in known if option.name and len(word) > 2 and option.name.startswith(word[2:])]
        found = exact or begun
    else:
        found = [option for option in known if option.letter == word[1:]]
    if len(found) != 1:
        raise BadUsage(f"{'Ambiguous' if found else 'Unknown'} option: {word}")
    return found[0]
