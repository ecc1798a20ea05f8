# SPDX-License-Identifier: MPL-2.0
"""zfs send and zfs receive: which snapshots go, and where a stream's parts arrive. The format is streams.py's.

Always: the node's lock is held to look and to change, never while a stream is read or written: a slow pipe holds up
        nobody."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

from mockcn.commands.options import Options
from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node
from mockcn.state import streams
from mockcn.state.datasets import Dataset, Snapshot
from mockcn.state.pools import ZfsError
from mockcn.state.properties import human

SEND_USAGE = "send [-DnPpRvLec] [-[iI] snapshot] <snapshot>"
RECEIVE_USAGE = "receive [-vnFu] <filesystem|volume|snapshot>"
EVERY = 1.0  # seconds between lines of -v about what was sent


@dataclass(frozen=True)
class Sent:
    """One snapshot to be sent, and the one that it builds on."""

    snapshot: Snapshot
    base: Optional[Snapshot]
    part: streams.Part
    content: Any


def send(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "DnPpRvLecwi:I:", SEND_USAGE, least=1, most=1)
    name = options.rest[0]
    if "@" not in name:
        raise CommandFailed("Error: Unsupported flag with filesystem or bookmark.")
    replication = options.flag("R")
    with node.lock:
        top = node.pools.snapshot_named(name).parent
        sent = [
            each
            for dataset in (top.descendants() if replication else [top])
            for each in _chosen(node, dataset, top, name.partition("@")[2], options)
        ]
    if options.flag("n") or options.flag("v"):
        sizes = [sum(map(len, streams.part_records(each.part, each.content))) for each in sent]
        _say_sizes(options, sent, sizes, output)
    if not options.flag("n"):
        _write(sent, replication, options.flag("v"), output)
    return 0


def _chosen(node: Node, dataset: Dataset, top: Dataset, snap: str, options: Options) -> Iterator[Sent]:
    """The snapshots of one dataset that the words ask for, each with the one before it. Raises ZfsError."""
    if snap not in dataset.snapshots:
        return  # as with -R: below the top a dataset may lack it
    names = list(dataset.snapshots)
    names = names[: names.index(snap) + 1]
    given = options.value("I") or options.value("i")
    base: Optional[Snapshot] = None
    if given is not None:
        first = given.rpartition("@")[2]
        if first in names[:-1]:
            base = dataset.snapshots[first]
            names = names[names.index(first) + 1 :]
        elif dataset is top:
            raise ZfsError(f"cannot send '{dataset.name}@{snap}': incremental source ({given}) does not exist")
    if options.value("I") is None and not options.flag("R"):
        names = names[-1:]
    for each in names:
        snapshot = dataset.snapshots[each]
        yield _sent(snapshot, base, top, with_props=options.flag("R") or options.flag("p"))
        base = snapshot


def _sent(snapshot: Snapshot, base: Optional[Snapshot], top: Dataset, *, with_props: bool) -> Sent:
    dataset, content, removed = snapshot.parent, snapshot.files, []
    props = dict(dataset.props) if with_props else {}
    if dataset.kind == "volume":
        size = snapshot.volsize
        props = {**props, "volsize": size or 0, "volblocksize": dataset.props.get("volblocksize", 8192)}
        content = content or []
    else:
        content = content or {}
        if base is not None:
            before = base.files or {}
            removed = [path for path in before if path not in content]
            content = {path: entry for path, entry in content.items() if before.get(path) != entry}
    part = streams.Part(
        below=dataset.name[len(top.name) :],
        kind=dataset.kind,
        snap=snapshot.name,
        guid=snapshot.guid,
        base=None if base is None else base.guid,
        creation=snapshot.creation,
        referenced=snapshot.referenced,
        written=snapshot.written,
        props=props,
        removed=removed,
    )
    return Sent(snapshot, base, part, content)


def _say_sizes(options: Options, sent: list[Sent], sizes: list[int], output: Output) -> None:
    """What -n and -v say: to standard output if nothing else goes there."""
    say = output.line if options.flag("n") else output.error
    for each, size in zip(sent, sizes, strict=True):
        to, kind = each.snapshot.full_name, "full" if each.base is None else "incremental"
        if options.flag("P"):
            say("\t".join([kind, *([] if each.base is None else [f"@{each.base.name}"]), to, str(size)]))
        else:
            source = "" if each.base is None else f"from @{each.base.name} "
            say(f"{'full ' if each.base is None else ''}send {source}{to} estimated size is {human(size)}")
    say(f"size\t{sum(sizes)}" if options.flag("P") else f"total estimated size is {human(sum(sizes))}")


def _write(sent: list[Sent], replication: bool, verbose: bool, output: Output) -> None:
    output.write(streams.begin(replication))
    for each in sent:
        done, said = 0, time.monotonic()
        for piece in streams.part_records(each.part, each.content):
            output.write(piece)
            done += len(piece)
            if verbose and time.monotonic() - said >= EVERY:
                said = time.monotonic()
                output.error(f"{time.strftime('%H:%M:%S')}\t{done}\t{each.snapshot.full_name}")
    tops = dict.fromkeys(each.part.below for each in sent)
    output.write(streams.final(list(tops)))
    output.flush()


def receive(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "vnFu", RECEIVE_USAGE, least=1, most=1)
    top, _, snap = options.rest[0].partition("@")
    try:
        reader = streams.Reader(output.read)
        while (part := reader.part()) is not None:
            _receive_part(node, reader, part, top, snap, options, output)
    except streams.BadStream as err:
        what = "" if "stream (bad" in str(err) or str(err).startswith("failed") else " new filesystem stream"
        raise ZfsError(f"cannot receive{what}: {err}") from err
    if reader.replication and options.flag("F") and not options.flag("n"):
        with node.lock:
            node.pools.forget_unsent(top, reader.datasets)
    return 0


def _receive_part(
    node: Node, reader: streams.Reader, part: streams.Part, top: str, snap: str, options: Options, output: Output
) -> None:
    name = top + part.below
    if snap:
        part = streams.Part(**{**vars(part), "snap": snap})
    if options.flag("n"):
        reader.content(part)
    else:
        with node.lock:
            node.pools.begin_part(name, part, force=options.flag("F"), replication=reader.replication)
        content = reader.content(part)
        output.reached("received")
        with node.lock:
            node.pools.apply_part(name, part, content, mounted=not options.flag("u"))
    if options.flag("v"):
        kind = "full" if part.base is None else "incremental"
        output.line(f"{'would receive' if options.flag('n') else 'receiving'} {kind} stream into {name}@{part.snap}")
