# SPDX-License-Identifier: MPL-2.0
"""Options and operands of the zfs subcommands, as getopt(3C) takes them: options first, then operands."""

import getopt
from typing import Optional

from mockcn.commands.output import CommandFailed


class Options:
    """Parsed words: `flag("r")`, `value("d")`, `values("o")`, and the operands in `.rest`.

    Raises CommandFailed with status 2 and the usage text for an unknown option or a wrong number of operands."""

    def __init__(self, words: list[str], letters: str, usage: str, least: int = 0, most: Optional[int] = None) -> None:
        self.usage = usage
        try:
            self._given, self.rest = getopt.getopt(words, letters)
        except getopt.GetoptError as err:
            what = "missing argument for" if "requires argument" in err.msg else "invalid option"
            raise CommandFailed(
                f"{what} '{err.opt}'{' option' if 'missing' in what else ''}\nusage:\n\t{usage}", 2
            ) from err
        if len(self.rest) < least:
            raise self.wrong("missing dataset argument")
        if most is not None and len(self.rest) > most:
            raise self.wrong("too many arguments")

    def wrong(self, why: str) -> CommandFailed:
        return CommandFailed(f"{why}\nusage:\n\t{self.usage}", 2)

    def flag(self, letter: str) -> bool:
        return any(name == f"-{letter}" for name, _ in self._given)

    def values(self, letter: str) -> list[str]:
        return [value for name, value in self._given if name == f"-{letter}"]

    def value(self, letter: str) -> Optional[str]:
        """The last value given."""
        values = self.values(letter)
        return values[-1] if values else None

    def ordered(self) -> list[tuple[str, str]]:
        """(letter, value) in the order given."""
        return [(name[1:], value) for name, value in self._given]
