# SPDX-License-Identifier: MPL-2.0
"""JavaScript's regular expressions, read into a tree: what stands behind `~` in a filter has always been one.

The grammar is ECMAScript 2024's without the flags u and v, with the browsers' annex B, which Node follows: an escape
that means nothing is the character itself, `{` is a character where it begins no quantifier, `\\8` is an 8, `\\12` is
octal unless there are so many groups. A pattern is a row of UTF-16 code units, so that one emoji is two characters.
Always: what Node refuses raises BadPattern; nothing here knows Python's dialect (jstranslate.py does)."""

from __future__ import annotations

from vminfod.clients.failures import BadPattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Union

    Ranges = list[tuple[int, int]]  # of code units, both ends included

LAST_UNIT = 0xFFFF
DIGITS = [(0x30, 0x39)]
WORD = [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]
SPACE = [
    (0x09, 0x0D),
    (0x20, 0x20),
    (0xA0, 0xA0),
    (0x1680, 0x1680),
    (0x2000, 0x200A),
    (0x2028, 0x2029),
    (0x202F, 0x202F),
    (0x205F, 0x205F),
    (0x3000, 0x3000),
    (0xFEFF, 0xFEFF),
]
NEWLINES = [(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)]
CONTROLS = {"f": 0x0C, "n": 0x0A, "r": 0x0D, "t": 0x09, "v": 0x0B}
HEX_LENGTHS = {"x": 2, "u": 4}
HEX = frozenset("0123456789abcdefABCDEF")
OCTAL = "01234567"
LOOKS = {"(?=": (False, False), "(?!": (False, True), "(?<=": (True, False), "(?<!": (True, True)}


# The tree. A Sequence of no items matches the empty text.


class Chars:
    """One code unit of `ranges`, or if `negated` one of none of them."""

    def __init__(self, ranges: Ranges, negated: bool = False) -> None:
        self.ranges = ranges
        self.negated = negated


class Edge:
    """A place: "^", "$", "b" (a word's edge) or "B"."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Sequence:
    def __init__(self, items: list[Node]) -> None:
        self.items = items


class Choice:
    def __init__(self, branches: list[Sequence]) -> None:
        self.branches = branches


class Repeat:
    """`most` is None for no limit."""

    def __init__(self, item: Node, least: int, most: Optional[int], lazy: bool) -> None:
        self.item = item
        self.least = least
        self.most = most
        self.lazy = lazy


class Group:
    """`number` is None if it captures nothing."""

    def __init__(self, item: Node, number: Optional[int]) -> None:
        self.item = item
        self.number = number


class Look:
    """A look ahead or behind."""

    def __init__(self, item: Node, behind: bool, negated: bool) -> None:
        self.item = item
        self.behind = behind
        self.negated = negated


class Reference:
    """What group `number` captured; a name until the whole pattern was read."""

    def __init__(self, number: Union[int, str]) -> None:
        self.number = number


if TYPE_CHECKING:
    Node = Union[Chars, Edge, Sequence, Choice, Repeat, Group, Look, Reference]


def code_units(text: str) -> str:
    """`text` with each character beyond U+FFFF as its two surrogates."""
    if text.isascii() or max(text) <= "\uffff":
        return text
    octets = text.encode("utf-16-le", "surrogatepass")
    return "".join([chr(octets[at] | octets[at + 1] << 8) for at in range(0, len(octets), 2)])


def tree_of(pattern: str) -> Node:
    """Raises BadPattern."""
    try:
        return _Parser(code_units(pattern)).whole()
    except RecursionError as error:
        raise BadPattern("nested too deeply") from error


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._groups = 0  # that have begun
        self._names: dict[str, int] = {}
        self._references: list[Reference] = []
        self._group_count, self._has_names = _counted_groups(text)

    def whole(self) -> Node:
        tree = self._choice()
        if self._at < len(self._text):
            raise BadPattern("unmatched )")
        for reference in self._references:
            if isinstance(reference.number, str):
                if reference.number not in self._names:
                    raise BadPattern(f"there is no group named {reference.number}")
                reference.number = self._names[reference.number]
        return tree

    # What is next.

    def _peek(self, length: int = 1) -> str:
        return self._text[self._at : self._at + length]

    def _take(self, expected: str) -> bool:
        if self._text.startswith(expected, self._at):
            self._at += len(expected)
            return True
        return False

    def _next(self, problem: str) -> str:
        if self._at >= len(self._text):
            raise BadPattern(problem)
        self._at += 1
        return self._text[self._at - 1]

    # From the whole to the single character.

    def _choice(self) -> Node:
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else Choice(branches)

    def _sequence(self) -> Sequence:
        items: list[Node] = []
        while self._at < len(self._text) and self._peek() not in "|)":
            items.append(self._term())
        return Sequence(items)

    def _term(self) -> Node:
        if self._quantifier() is not None:
            raise BadPattern("nothing to repeat")
        item = self._atom()
        if isinstance(item, Edge) or isinstance(item, Look) and item.behind:
            return item  # a quantifier behind these is refused as one that has nothing to repeat
        quantifier = self._quantifier()
        if quantifier is None:
            return item
        least, most = quantifier
        if most is not None and least > most:
            raise BadPattern("numbers out of order in {} quantifier")
        return Repeat(item, least, most, self._take("?"))

    def _quantifier(self) -> Optional[tuple[int, Optional[int]]]:
        """(least, most) if one stands here. A `{` that begins none is a character."""
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return bounds
        if self._peek() != "{":
            return None
        end = self._text.find("}", self._at)
        first, comma, second = self._text[self._at + 1 : end].partition(",") if end > 0 else ("", "", "")
        if not _is_number(first) or second and not _is_number(second):
            return None
        self._at = end + 1
        least = _bounded(first)
        return least, (_bounded(second) if second else None) if comma else least

    def _atom(self) -> Node:
        character = self._next("")
        if character in "^$":
            return Edge(character)
        if character == ".":
            return Chars(NEWLINES, negated=True)
        if character == "[":
            return self._class()
        if character == "(":
            return self._group()
        if character == "\\":
            return self._escape()
        return _one(ord(character))

    def _group(self) -> Node:
        self._at -= 1
        for opening, (behind, negated) in LOOKS.items():
            if self._take(opening):
                return Look(self._closed(), behind, negated)
        if self._take("(?:"):
            return Group(self._closed(), None)
        self._groups += 1
        number = self._groups
        if self._take("(?<"):
            name = self._name()
            if name in self._names:
                raise BadPattern(f"two groups are named {name}")
            self._names[name] = number
        elif self._peek(2) == "(?":
            raise BadPattern("invalid group")
        else:
            self._at += 1
        return Group(self._closed(), number)

    def _closed(self) -> Node:
        item = self._choice()
        if not self._take(")"):
            raise BadPattern("unterminated group")
        return item

    def _name(self) -> str:
        end = self._text.find(">", self._at)
        if end < 0:
            raise BadPattern("invalid capture group name")
        name = _unescaped_name(self._text[self._at : end])
        if not name.replace("$", "_").isidentifier():
            raise BadPattern("invalid capture group name")
        self._at = end + 1
        return name

    # Escapes.

    def _escape(self) -> Node:
        character = self._next("\\ at end of pattern")
        if character in "bB":
            return Edge(character)
        if character in "dDsSwW":
            return _named_class(character)
        if character == "k" and self._has_names:
            if not self._take("<"):
                raise BadPattern("invalid named reference")
            return self._reference(self._name())
        if character in "123456789":
            number = self._group_number()
            if number is not None:
                return self._reference(number)
        return _one(self._escaped_unit(character, in_class=False))

    def _reference(self, number: Union[int, str]) -> Reference:
        reference = Reference(number)
        self._references.append(reference)
        return reference

    def _group_number(self) -> Optional[int]:
        """The number whose first digit was taken, if there are so many groups; else the other digits stay."""
        end = self._at
        while end < len(self._text) and self._text[end] in "0123456789":
            end += 1
        digits = self._text[self._at - 1 : end]
        if len(digits) > len(str(self._group_count)) or int(digits) > self._group_count:
            return None
        self._at = end
        return int(digits)

    def _escaped_unit(self, character: str, *, in_class: bool) -> int:
        """The code unit that `\\` and `character`, which was taken, stand for."""
        if character in CONTROLS:
            return CONTROLS[character]
        if character in OCTAL:
            return self._octal(character)
        if character in HEX_LENGTHS:
            length = HEX_LENGTHS[character]
            digits = self._peek(length)
            if len(digits) == length and HEX.issuperset(digits):
                self._at += length
                return int(digits, 16)
        if character == "c":
            letter = self._peek()
            if letter.isascii() and (letter.isalpha() or in_class and (letter.isdigit() or letter == "_")):
                self._at += 1
                return ord(letter) % 32
            self._at -= 1  # the backslash stands for itself, and the c is an ordinary character
            return ord("\\")
        if character == "k" and self._has_names:
            raise BadPattern("invalid escape")
        return ord(character)

    def _octal(self, first: str) -> int:
        value = int(first)
        for _ in range(2):
            digit = self._peek()
            if not digit or digit not in OCTAL or value * 8 + int(digit) > 0o377:
                break
            value = value * 8 + int(digit)
            self._at += 1
        return value

    # Classes.

    def _class(self) -> Chars:
        negated = self._take("^")
        ranges: Ranges = []
        while not self._take("]"):
            first = self._class_member()
            if self._peek() == "-" and self._peek(2) != "-]" and len(self._peek(2)) == 2:
                self._at += 1
                last = self._class_member()
                if isinstance(first, int) and isinstance(last, int):
                    if first > last:
                        raise BadPattern("range out of order in character class")
                    ranges.append((first, last))
                    continue
                ranges += [*_ranges_of(first), (0x2D, 0x2D), *_ranges_of(last)]
                continue
            ranges += _ranges_of(first)
        return Chars(ranges, negated)

    def _class_member(self) -> Union[int, Chars]:
        problem = "unterminated character class"
        character = self._next(problem)
        if character != "\\":
            return ord(character)
        character = self._next("\\ at end of pattern")
        if character == "b":
            return 0x08
        if character in "dDsSwW":
            return _named_class(character)
        return self._escaped_unit(character, in_class=True)


def _one(unit: int) -> Chars:
    return Chars([(unit, unit)])


def _named_class(letter: str) -> Chars:
    return Chars({"d": DIGITS, "s": SPACE, "w": WORD}[letter.lower()], negated=letter.isupper())


def _ranges_of(member: Union[int, Chars]) -> Ranges:
    if isinstance(member, int):
        return [(member, member)]
    return inverted(member.ranges) if member.negated else member.ranges


def inverted(ranges: Ranges) -> Ranges:
    """All other code units. `ranges` are sorted and apart from each other."""
    found = []
    begin = 0
    for low, high in ranges:
        if low > begin:
            found.append((begin, low - 1))
        begin = high + 1
    return [*found, (begin, LAST_UNIT)] if begin <= LAST_UNIT else found


def _counted_groups(text: str) -> tuple[int, bool]:
    """(capturing groups of the pattern, whether one has a name), without reading the rest of it."""
    count, named, in_class, at = 0, False, False, 0
    while at < len(text):
        character = text[at]
        if character == "\\":
            at += 1
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        elif character == "(":
            has_name = text[at + 1 : at + 3] == "?<" and text[at + 3 : at + 4] not in ("=", "!")
            named = named or has_name
            count += has_name or text[at + 1 : at + 2] != "?"
        at += 1
    return count, named


def _unescaped_name(text: str) -> str:
    """A group's name with its `\\uXXXX` and `\\u{X}` read, as one row of whole characters."""
    pieces = text.split("\\u")
    name = pieces[0]
    for piece in pieces[1:]:
        digits, rest = (piece[1:].split("}", 1) + [""])[:2] if piece.startswith("{") else (piece[:4], piece[4:])
        if not digits or len(digits) > 6 or not HEX.issuperset(digits) or int(digits, 16) > 0x10FFFF:
            raise BadPattern("invalid capture group name")
        name += chr(int(digits, 16)) + rest
    return name.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _bounded(digits: str) -> int:
    """A count. No text is so long that more than the highest of these makes a difference."""
    return int(digits) if len(digits) < 10 else 10**9
