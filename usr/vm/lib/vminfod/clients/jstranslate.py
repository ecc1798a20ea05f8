# SPDX-License-Identifier: MPL-2.0
"""JavaScript's regular expressions carried out by Python's `re`, ignoring case as `new RegExp(text, "i")` does.

Only one question is asked, whether a text matches anywhere. So groups that no reference names capture nothing, and
case is settled before: pattern and text are both brought to the form by which JavaScript compares (canonical()).
Refused with a reason: what `re` cannot do, which is a look behind of no bounded length, and a reference to a group in a
repeated part, which JavaScript forgets with each round and Python keeps.
Not here: how long a match may take (patterntime.py)."""

from __future__ import annotations

import re

from vminfod.clients.failures import BadPattern
from vminfod.clients.jsregexp import (
    LAST_UNIT,
    Chars,
    Choice,
    Edge,
    Group,
    Look,
    Reference,
    Repeat,
    Sequence,
    code_units,
    inverted,
    tree_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from vminfod.clients.jsregexp import Node, Ranges

NEVER = "(?!)"
EDGES = {"^": r"\A", "$": r"\Z", "b": r"\b", "B": r"(?!\b)"}  # Python's own \B is wrong on an empty text
MOST_VARIANTS = 200  # of one look behind, written out by their lengths
UNBOUNDED = 1 << 30  # characters; no text of a VM object is so long


def searcher(pattern: str) -> Callable[[str], bool]:
    """The function that says whether a text matches `pattern` anywhere. Raises BadPattern."""
    try:
        search = re.compile(translated(pattern), re.ASCII).search
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        raise BadPattern(f"too large or nested too deeply: {error}") from error
    return lambda text: search(canonical(text)) is not None


def translated(pattern: str) -> str:
    """`pattern` for Python's `re`, to be searched with the flag ASCII in canonical text. Raises BadPattern."""
    tree = tree_of(pattern)
    try:
        return _Translator(tree).text(tree)
    except RecursionError as error:
        raise BadPattern("nested too deeply") from error


def canonical(text: str) -> str:
    """`text` as code units by which JavaScript compares when case is ignored: the upper case of each, if that is one
    code unit, and not an ASCII one for one that is none."""
    if text.isascii():
        return text.upper()
    return code_units(text).translate(_canonical_units)


def _canonical_unit(unit: str) -> str:
    upper = unit.upper()
    if len(upper) != 1 or upper > "\uffff" or unit >= "\x80" > upper:
        return unit
    return upper


class _CanonicalUnits(dict[int, str]):
    """For str.translate(): the canonical form of each code unit, worked out when it is first met."""

    def __missing__(self, unit: int) -> str:
        self[unit] = _canonical_unit(chr(unit))
        return self[unit]


_canonical_units = _CanonicalUnits()


def _canonical_ranges(chars: Chars) -> Ranges:
    """The canonical code units that `chars` matches, sorted and joined."""
    found = set()
    for low, high in chars.ranges:
        for unit in range(low, high + 1):
            found.add(ord(_canonical_units[unit]))
    joined: Ranges = []
    for unit in sorted(found):
        if joined and joined[-1][1] == unit - 1:
            joined[-1] = (joined[-1][0], unit)
        else:
            joined.append((unit, unit))
    return inverted(joined) if chars.negated else joined


def _chars_text(chars: Chars) -> str:
    ranges = _canonical_ranges(chars)
    if not ranges:
        return NEVER
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return f"\\u{ranges[0][0]:04x}"
    if ranges == [(0, LAST_UNIT)]:
        return r"[\s\S]"
    return "[" + "".join([f"\\u{low:04x}-\\u{high:04x}" for low, high in ranges]) + "]"


class _Place:
    """Where a group or a reference stands: what is around it, from the outside in."""

    def __init__(self, order: int, around: tuple[Node, ...], ways: frozenset[tuple[int, int]]) -> None:
        self.order = order  # in the pattern, from the left
        self.around = around
        self.ways = ways  # (a choice, its branch): the branches that it lies in

    def within(self, kind: type) -> list[Node]:
        return [node for node in self.around if isinstance(node, kind)]


class _Translator:
    def __init__(self, tree: Node) -> None:
        self._groups: dict[int, tuple[Group, _Place]] = {}
        self._references: dict[Reference, _Place] = {}
        self._order = 0
        self._visit(tree, (), frozenset())
        self._texts = {reference: self._reference_text(reference) for reference in self._references}
        self._captured = {reference.number for reference, text in self._texts.items() if text}

    # References.

    def _visit(self, node: Node, around: tuple[Node, ...], ways: frozenset[tuple[int, int]]) -> None:
        self._order += 1
        place = _Place(self._order, around, ways)
        inside = (*around, node)
        if isinstance(node, Group) and node.number is not None:
            self._groups[node.number] = (node, place)
        if isinstance(node, Reference):
            self._references[node] = place
        elif isinstance(node, Sequence):
            for item in node.items:
                self._visit(item, inside, ways)
        elif isinstance(node, Choice):
            for at, branch in enumerate(node.branches):
                self._visit(branch, inside, ways | {(id(node), at)})
        elif isinstance(node, (Repeat, Group, Look)):
            self._visit(node.item, inside, ways)

    def _reference_text(self, reference: Reference) -> str:
        """A group that captured nothing (yet) is empty in JavaScript, while it never matches in Python."""
        assert isinstance(reference.number, int)
        group, place = self._groups[reference.number]
        here = self._references[reference]
        if any(isinstance(node, Look) and node.behind for node in (*place.around, *here.around)):
            raise BadPattern("a reference has no counterpart here together with a look behind")
        if here.order < place.order or group in here.around or _parted(place, here):
            return ""
        if any(isinstance(node, Look) and node.negated and node not in here.around for node in place.around):
            return ""
        rounds = [node for node in place.around if isinstance(node, Repeat) and node.most != 1]
        if any(_widths(node.item)[0] == 0 for node in rounds if isinstance(node, Repeat)):
            raise BadPattern("a reference to a group in a repeated part that can be empty has no counterpart here")
        optional = [n for n in place.around if isinstance(n, Repeat) and n.least == 0 and n not in here.around]
        name = f"g{reference.number}"
        if not optional and place.ways <= here.ways:
            return f"(?P={name})"
        if rounds:
            raise BadPattern(
                "a reference to a group that not each round of a repeated part sets has no counterpart here"
            )
        return f"(?({name})(?P={name}))"

    # Text.

    def text(self, node: Node) -> str:
        if isinstance(node, Chars):
            return _chars_text(node)
        if isinstance(node, Edge):
            return EDGES[node.kind]
        if isinstance(node, Sequence):
            return "".join([self.text(item) for item in node.items])
        if isinstance(node, Choice):
            return "(?:" + "|".join([self.text(branch) for branch in node.branches]) + ")"
        if isinstance(node, Repeat):
            return self._repeat(node)
        if isinstance(node, Group):
            return self._group(node)
        if isinstance(node, Look):
            return self._look(node)
        return self._texts[node]

    def _group(self, node: Group) -> str:
        opening = f"(?P<g{node.number}>" if node.number in self._captured else "(?:"
        return opening + self.text(node.item) + ")"

    def _repeat(self, node: Repeat) -> str:
        if node.most == 0:
            return ""
        if _widths(node.item)[1] == 0:  # once is as good as often
            return self._atom(node.item) if node.least else ""
        if node.least >= UNBOUNDED - 1 or node.least >= 10**9:
            return NEVER
        most = "" if node.most is None or node.most >= 10**9 else str(node.most)
        bounds = f"{{{node.least},{most}}}"
        return f"{self._atom(node.item)}{bounds}{'?' if node.lazy else ''}"

    def _atom(self, node: Node) -> str:
        text = self.text(node)
        return text if isinstance(node, Chars) and text != NEVER else f"(?:{text})"

    def _look(self, node: Look) -> str:
        if not node.behind:
            return f"(?{'!' if node.negated else '='}{self.text(node.item)})"
        variants = self._fixed(_shortest_before(node.item))
        if node.negated:
            return "".join([f"(?<!{variant})" for variant in variants])
        return "(?:" + "|".join([f"(?<={variant})" for variant in variants]) + ")" if variants else NEVER

    def _fixed(self, node: Node) -> list[str]:
        """`node` as alternatives of one length each, which is all that Python can look behind for."""
        if isinstance(node, Sequence):
            variants = [""]
            for item in node.items:
                variants = _checked([left + right for left in variants for right in self._fixed(item)])
            return variants
        if isinstance(node, Choice):
            return _checked([variant for branch in node.branches for variant in self._fixed(branch)])
        if isinstance(node, Group):
            return [f"(?:{variant})" for variant in self._fixed(node.item)]
        if isinstance(node, Repeat) and _widths(node.item)[1] > 0:
            if node.most is None or node.most - node.least > MOST_VARIANTS:
                raise BadPattern("a look behind of no bounded length has no counterpart here")
            inner = self._fixed(node.item)
            if len(inner) == 1:
                return [f"(?:{inner[0]}){{{count}}}" for count in range(node.least, node.most + 1)]
            rounds = [Sequence([node.item] * count) for count in range(node.least, node.most + 1)]
            return _checked([variant for row in rounds for variant in self._fixed(row)])
        return [self.text(node)]


def _checked(variants: list[str]) -> list[str]:
    if len(variants) > MOST_VARIANTS:
        raise BadPattern("a look behind of so many lengths has no counterpart here")
    return variants


def _parted(one: _Place, other: _Place) -> bool:
    """Do they lie in different branches of one choice, of which a round takes only one?"""
    branches = dict(one.ways)
    return any(choice in branches and branches[choice] != branch for choice, branch in other.ways)


def _shortest_before(node: Node) -> Node:
    """A look behind is free on its left: what is repeated there is needed as often as it must be, and no more."""
    if isinstance(node, Repeat):
        return Repeat(node.item, node.least, node.least, node.lazy)
    if isinstance(node, Sequence) and node.items:
        return Sequence([_shortest_before(node.items[0]), *node.items[1:]])
    if isinstance(node, Choice):
        return Choice([Sequence([_shortest_before(branch)]) for branch in node.branches])
    if isinstance(node, Group):
        return Group(_shortest_before(node.item), None)
    return node


def _widths(node: Node) -> tuple[int, int]:
    """(fewest, most) code units that `node` can match; UNBOUNDED for no limit."""
    if isinstance(node, Chars):
        return 1, 1
    if isinstance(node, Sequence):
        widths = [_widths(item) for item in node.items]
        return sum(low for low, _ in widths), min(UNBOUNDED, sum(high for _, high in widths))
    if isinstance(node, Choice):
        widths = [_widths(branch) for branch in node.branches]
        return min(low for low, _ in widths), max(high for _, high in widths)
    if isinstance(node, Repeat):
        low, high = _widths(node.item)
        if high == 0:
            return 0, 0
        return min(UNBOUNDED, low * node.least), UNBOUNDED if node.most is None else min(UNBOUNDED, high * node.most)
    if isinstance(node, Group):
        return _widths(node.item)
    if isinstance(node, Reference):
        return 0, UNBOUNDED
    return 0, 0  # an edge, a look: a place
