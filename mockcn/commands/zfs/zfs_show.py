# SPDX-License-Identifier: MPL-2.0
"""zfs get and zfs holds: reading that vminfod does not do, but people and writers do."""

import time

from mockcn.commands.options import Options
from mockcn.commands.output import CommandFailed, Output
from mockcn.commands.zfs.zfs_list import aligned
from mockcn.node import Node
from mockcn.state.datasets import Dataset, Snapshot, Thing, value_of
from mockcn.state.pools import ZfsError
from mockcn.state.properties import PROPERTIES, Property, find, show

GET_USAGE = (
    'get [-rHp] [-d max] [-o "all" | field[,...]]\n'
    "\t    [-t type[,...]] [-s source[,...]]\n"
    '\t    <"all" | property[,...]> [filesystem|volume|snapshot] ...'
)
HOLDS_USAGE = "holds [-rH] <snapshot> ..."
FIELDS = ("name", "property", "value", "source")


def get(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "Hprd:o:s:t:", GET_USAGE, least=1)
    fields = (options.value("o") or "all").replace("all", ",".join(FIELDS)).split(",")
    for field in fields:
        if field not in FIELDS:
            raise options.wrong(f"invalid column name '{field}'")
    wanted, status, rows = _properties(options.rest[0]), 0, []
    sources = (options.value("s") or "").split(",") if options.value("s") else None
    with node.lock:
        names = options.rest[1:] or [root.name for root in node.pools.roots()]
        for name in names:
            try:
                for thing in _with_descendants(node.pools.thing(name), options):
                    rows += _rows(node, thing, wanted, options, sources)
            except ZfsError as err:
                output.error(str(err))
                status = 1
    table = [[row[field] for field in fields] for row in rows]
    if options.flag("H"):
        for cells in table:
            output.line("\t".join(cells))
    elif table:
        for line in aligned([[field.upper() for field in fields], *table], [False] * len(fields)):
            output.line(line)
    return status


def _properties(text: str) -> list[Property]:
    if text == "all":
        return [prop for prop in PROPERTIES.values() if prop.name != "name"]
    props = []
    for name in text.split(","):
        prop = find(name)
        if prop is None:
            raise CommandFailed(f"bad property list: invalid property '{name}'\nusage:\n\t{GET_USAGE}", 2)
        props.append(prop)
    return props


def _with_descendants(thing: Thing, options: Options) -> list[Thing]:
    depth = int(options.value("d") or 0) if not options.flag("r") else 1 << 30
    if isinstance(thing, Snapshot) or not depth:
        return [thing]
    base, kinds = thing.name.count("/"), options.value("t")
    found: list[Thing] = []
    for dataset in thing.descendants():
        level = dataset.name.count("/") - base
        if level <= depth and (kinds is None or dataset.kind in kinds or kinds == "all"):
            found.append(dataset)
        if level < depth and (kinds is None or "snapshot" in kinds or kinds == "all"):
            found += list(dataset.snapshots.values())
    return found


def _rows(
    node: Node, thing: Thing, wanted: list[Property], options: Options, sources: "list[str] | None"
) -> list[dict[str, str]]:
    rows = []
    for prop in wanted:
        value = value_of(thing, prop, node.pools.available)
        if value is None and len(wanted) > 1 and options.rest[0] == "all":
            continue
        source = thing.source(prop) if isinstance(thing, Dataset) and value is not None else "-"
        if sources is None or (source if source != "-" else "none").split()[0] in sources:
            rows.append(
                {
                    "name": thing.full_name if isinstance(thing, Snapshot) else thing.name,
                    "property": prop.name,
                    "value": show(prop, value, options.flag("p")),
                    "source": source,
                }
            )
    return rows


def holds(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "rH", HOLDS_USAGE, least=1)
    rows = []
    with node.lock:
        for name in options.rest:
            dataset, _, snap = name.partition("@")
            if not snap:
                raise ZfsError(f"cannot open '{name}': operation not applicable to datasets of this type")
            top = node.pools.snapshot_named(name).parent
            for below in top.descendants() if options.flag("r") else [top]:
                if snap in below.snapshots:
                    held = below.snapshots[snap]
                    rows += [
                        [held.full_name, tag, time.strftime("%a %b %e %k:%M %Y", time.gmtime(when))]
                        for tag, when in held.holds.items()
                    ]
    if options.flag("H"):
        for row in rows:
            output.line("\t".join(row))
    elif rows:
        for line in aligned([["NAME", "TAG", "TIMESTAMP"], *rows], [False] * 3):
            output.line(line)
    return 0
