# SPDX-License-Identifier: MPL-2.0
"""vmadm's command line, taken apart as it always was (nopt's rules, docs/vmadm.md), which is not how getopt does it.

Options may stand anywhere up to `--`; one that needs a value takes the next word whatever it looks like (`-s -ram`).
One dash or two make no difference: what follows them is looked for among the names, the letters, letters glued together
(`-fjr`), and the unique beginnings of names (`--parse`), in this order. A flag is switched off by `--no-NAME`,
`--NAME=false`, or the word `false` behind it. Of equal options the last one wins. Unlike the original, which let an
unknown option swallow the next word, we refuse it."""

from __future__ import annotations

from vmadm.errors import BadUsage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

UUID_LENGTH = 36
UUID_DASHES = (8, 13, 18, 23)


class Option:
    """One option of a command: its letter, its long name if it has one, and what its value is ("" if it takes none; a
    kind of word as in completing.py). One that has only a long name has that for its letter, too.

    `off_letter`: a second letter, which switches the flag off. Where a flag has one it makes a difference whether it
    was switched off or not named at all, and parsed_words() gives "false" for it.
    `has_effect`: False for one that is taken because it always was; nobody is offered it."""

    def __init__(
        self,
        letter: str,
        name: Optional[str] = None,
        *,
        value: str = "",
        off_letter: Optional[str] = None,
        has_effect: bool = True,
    ) -> None:
        self.letter = letter
        self.name = name
        self.value = value
        self.off_letter = off_letter
        self.has_effect = has_effect


EVERYWHERE = (Option("v", has_effect=False), Option("d", has_effect=False))  # of every command


def parsed_words(words: list[str], options: tuple[Option, ...]) -> tuple[dict[str, str], list[str]]:
    """(values by letter, operands). A flag that is on has the value "true". Raises BadUsage."""
    known = (*options, *EVERYWHERE)
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
        if equals:
            left.insert(0, value)
        *flags, (option, on) = _named(name, known)
        for flag, is_on in flags:
            _switch(values, flag, is_on)
        if option.value:
            if not left:
                raise BadUsage(f"Option {name} needs a value.")
            values[option.letter] = left.pop(0)
            continue
        if left and left[0] in ("true", "false"):
            on = on == (left.pop(0) == "true")
        elif equals:
            raise BadUsage(f"Option {name} is on or off: {name}=true or {name}=false, not {word}")
        _switch(values, option, on)
    return values, operands


def _switch(values: dict[str, str], option: Option, on: bool) -> None:
    if on or option.off_letter:
        values[option.letter] = "true" if on else "false"
    else:
        values.pop(option.letter, None)


def uuid_operand(operands: list[str], command: str) -> str:
    """The first operand, a uuid. Raises BadUsage with the text that names `command` as typed."""
    if not operands or not is_uuid(operands[0]):
        raise BadUsage(f"Invalid or missing UUID for {command}")
    return operands[0]


def is_uuid(word: str) -> bool:
    """Only the shape counts: 36 characters with dashes in the four places."""
    return len(word) == UUID_LENGTH and all(word[at] == "-" for at in UUID_DASHES)


def _named(word: str, known: tuple[Option, ...]) -> list[tuple[Option, bool]]:
    """The options that a word with dashes names, and whether it switches each on. Raises BadUsage."""
    letters = {option.letter: (option, True) for option in known}
    letters.update({option.off_letter: (option, False) for option in known if option.off_letter})
    name = word.lstrip("-")
    exact = [(option, True) for option in known if option.name == name]
    if exact or name in letters:
        return exact or [letters[name]]
    if name and all(letter in letters for letter in name):
        found = [letters[letter] for letter in name]
        for option, _ in found[:-1]:
            if option.value:
                raise BadUsage(f"Option -{option.letter} needs a value.")
        return found
    on = True
    while name.lower().startswith("no-"):
        name, on = name[3:], not on
    begun = [option for option in known if option.name and name and option.name.startswith(name)]
    begun = [option for option in begun if option.name == name] or begun
    if len(begun) != 1 or begun[0].value and not on:
        raise BadUsage(f"{'Ambiguous' if len(begun) > 1 else 'Unknown'} option: {word}")
    return [(begun[0], on)]
