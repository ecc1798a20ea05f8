# SPDX-License-Identifier: MPL-2.0
"""Command-line options as getopt(3C) of illumos takes them: `-jf`, `-i X`, `-iX`, `--ident X`, `--ident=X`, `--`.

Options end at the first operand. For `vminfo` and `zoneevent`; vmadm's rules are different and live with it.
`argparse` would cost 10 ms and say different things."""

from __future__ import annotations


class BadOption(ValueError):
    """The text is getopt's own complaint, without the program's name."""


class BadUsage(Exception):
    """Wrong words on the command line; the text is the line before the usage."""


def parsed_options(
    argv: list[str], flags: dict[str, str], valued: dict[str, str]
) -> tuple[dict[str, list[str]], list[str]]:
    """(options by long name with their values in order, operands).

    `flags` and `valued` map a letter to its long name; a flag's value is "". Raises BadOption."""
    found: dict[str, list[str]] = {}
    words = list(argv)
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name in valued.values():
                found.setdefault(name, []).append(value if equals else _argument(name, words))
            elif name in flags.values() and not equals:
                found.setdefault(name, []).append("")
            else:
                raise BadOption(f"illegal option -- {word[2:]}")
            continue
        for at, letter in enumerate(word[1:], 1):
            if letter in flags:
                found.setdefault(flags[letter], []).append("")
            elif letter in valued:
                found.setdefault(valued[letter], []).append(word[at + 1 :] or _argument(letter, words))
                break
            else:
                raise BadOption(f"illegal option -- {letter}")
    return found, words


def _argument(option: str, words: list[str]) -> str:
    if not words:
        raise BadOption(f"option requires an argument -- {option}")
    return words.pop(0)
