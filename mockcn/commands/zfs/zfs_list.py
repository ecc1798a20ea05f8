# SPDX-License-Identifier: MPL-2.0
"""zfs list: columns, kinds, depth, order (docs/platform.md, "zfs list").

Always: depth counts from each named dataset, or from each pool's root; a child and a snapshot are one deeper each.
Always: a dataset comes before its snapshots, those oldest first, and then its children by name.
A listing of everything is made piece by piece with the lock taken anew for each, so that it does not stop the node;
like the real one it is no picture of one moment."""

from typing import Any, Iterator, Optional

from mockcn.commands.options import Options
from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node
from mockcn.state.datasets import Dataset, Listing, Snapshot, Thing, value_of
from mockcn.state.pools import ZfsError
from mockcn.state.properties import find

USAGE = (
    "list [-Hp] [-r|-d max] [-o property[,...]] [-s property]...\n"
    "\t    [-S property]... [-t type[,...]] [filesystem|volume|snapshot] ..."
)
KINDS = {
    "filesystem": "filesystem",
    "fs": "filesystem",
    "volume": "volume",
    "vol": "volume",
    "snapshot": "snapshot",
    "snap": "snapshot",
    "bookmark": "bookmark",
    "bmark": "bookmark",
}
DEFAULT_COLUMNS = ["name", "used", "available", "referenced", "mountpoint"]
STEP = 200  # datasets printed under one hold of the lock: a millisecond or so
NO_LIMIT = 1 << 30


def main(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "Hprd:o:s:S:t:", USAGE)
    columns = _columns(options)
    kinds = _kinds(options)
    listing = Listing(columns, kinds, options.flag("p"), node.pools.available)
    depth = _depth(options, kinds)
    status, named = _named(node, options, output, kinds)
    tops: list[Thing] = list(node.pools.roots()) if not options.rest else named
    orders = [(letter, value) for letter, value in options.ordered() if letter in "sS"]
    if orders or not options.flag("H"):
        things = _things(node, tops, depth, kinds)
        if things or status == 0:
            _print_table(node, listing, things, orders, options.flag("H"), output)
    elif status == 0 or tops:
        _print_pieces(node, listing, tops, depth, kinds, output)
    return status


def _columns(options: Options) -> list[str]:
    chosen = options.value("o")
    columns = chosen.split(",") if chosen else DEFAULT_COLUMNS
    for name in columns:
        if find(name) is None:
            raise CommandFailed(f"bad property list: invalid property '{name}'\nusage:\n\t{USAGE}", 2)
    return columns


def _kinds(options: Options) -> frozenset[str]:
    chosen = options.value("t")
    if chosen is None:
        named = {"snapshot" if "@" in name else "filesystem" for name in options.rest}
        return frozenset({"filesystem", "volume"} | (named & {"snapshot"}))
    kinds: set[str] = set()
    for word in chosen.split(","):
        if word == "all":
            kinds |= {"filesystem", "volume", "snapshot"}
        elif word in KINDS:
            kinds.add(KINDS[word])
        else:
            raise CommandFailed(f"invalid type '{word}'\nusage:\n\t{USAGE}", 2)
    return frozenset(kinds)


def _depth(options: Options, kinds: frozenset[str]) -> int:
    text = options.value("d")
    if text is not None:
        if not text.isdigit():
            raise CommandFailed(f"{text} is not an integer\nusage:\n\t{USAGE}", 2)
        return int(text)
    if options.flag("r") or not options.rest:
        return NO_LIMIT
    return 1 if kinds == {"snapshot"} else 0


def _named(node: Node, options: Options, output: Output, kinds: frozenset[str]) -> tuple[int, list[Thing]]:
    """The datasets named as operands; one that is missing costs a line on stderr and exit status 1."""
    status, things = 0, []
    single = not options.flag("r") and options.value("d") is None
    with node.lock:
        for name in options.rest:
            try:
                thing = node.pools.thing(name.rstrip("/") if name.startswith("/") else name)
                kind = "snapshot" if isinstance(thing, Snapshot) else thing.kind
                if single and kind not in kinds and not (kinds == {"snapshot"} and kind != "snapshot"):
                    raise ZfsError(f"cannot open '{name}': operation not applicable to datasets of this type")
                things.append(thing)
            except ZfsError as err:
                output.error(str(err))
                status = 1
    return status, sorted(things, key=lambda thing: thing.full_name if isinstance(thing, Snapshot) else thing.name)


def _walk(tops: list[Thing], depth: int) -> Iterator[tuple[Thing, bool]]:
    """(dataset or named snapshot, whether its snapshots are within the depth), in the order of the listing."""
    for top in tops:
        if isinstance(top, Snapshot):
            yield top, False
            continue
        waiting: list[tuple[Dataset, int]] = [(top, 0)]
        while waiting:
            dataset, level = waiting.pop()
            yield dataset, level < depth
            if level < depth:
                waiting += [(child, level + 1) for child in reversed(dataset.sorted_children())]


def _print_pieces(
    node: Node, listing: Listing, tops: list[Thing], depth: int, kinds: frozenset[str], output: Output
) -> None:
    with node.lock:
        order = list(_walk(tops, depth))
    for start in range(0, len(order), STEP):
        with node.lock:
            rows = []
            for thing, inside in order[start : start + STEP]:
                if isinstance(thing, Snapshot):
                    rows.append(listing.row(thing))
                    continue
                if thing.kind in kinds:
                    rows.append(listing.own_row(thing))
                if inside and "snapshot" in kinds:
                    rows.append(listing.snapshot_rows(thing))
        output.write(b"".join(rows))


def _things(node: Node, tops: list[Thing], depth: int, kinds: frozenset[str]) -> list[Thing]:
    things: list[Thing] = []
    with node.lock:
        for thing, inside in _walk(tops, depth):
            if isinstance(thing, Snapshot) or thing.kind in kinds:
                things.append(thing)
            if inside and "snapshot" in kinds and isinstance(thing, Dataset):
                things += list(thing.snapshots.values())
    return things


def _print_table(
    node: Node, listing: Listing, things: list[Thing], orders: list[tuple[str, str]], bare: bool, output: Output
) -> None:
    for letter, name in reversed(orders):
        things = _sorted(node, things, name, backwards=letter == "S")
    with node.lock:
        rows = [listing.cells(thing) for thing in things]
    if bare:
        for row in rows:
            output.line("\t".join(row))
        return
    if not rows:
        output.error("no datasets available")
        return
    heads = [prop.heading for prop in listing.columns]
    right = [prop.kind in ("size", "quota", "limit", "count") for prop in listing.columns]
    for line in aligned([heads, *rows], right):
        output.line(line)


def _sorted(node: Node, things: list[Thing], name: str, *, backwards: bool) -> list[Thing]:
    prop = find(name)
    if prop is None:
        raise CommandFailed(f"invalid property '{name}'\nusage:\n\t{USAGE}", 2)

    def key(thing: Thing) -> tuple[bool, Any]:
        value: Optional[Any] = value_of(thing, prop, node.pools.available)
        return (value is None or value == "-", str(value) if prop.kind in ("text", "choice") else (value or 0))

    with node.lock:
        return sorted(things, key=key, reverse=backwards)


def aligned(rows: list[list[str]], right: list[bool]) -> list[str]:
    """Columns two blanks apart, numbers to the right; the last one is not filled up on its left-aligned side."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip() if not right[-1] else "  ".join(cells))
    return lines
