# SPDX-License-Identifier: MPL-2.0
"""zfs set, inherit, rename, rollback, promote, hold, release and destroy: from options to operations."""

from mockcn.commands.options import Options
from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node
from mockcn.state.datasets import Dataset, Snapshot, Thing
from mockcn.state.pools import NoDataset, ZfsError
from mockcn.state.properties import find, human

SET_USAGE = "set <property=value> ... <filesystem|volume|snapshot> ..."
INHERIT_USAGE = "inherit [-rS] <property> <filesystem|volume|snapshot> ..."
RENAME_USAGE = "rename [-fpr] <filesystem|volume|snapshot> <filesystem|volume|snapshot>"
ROLLBACK_USAGE = "rollback [-rRf] <snapshot>"
PROMOTE_USAGE = "promote <clone-filesystem>"
HOLD_USAGE = "hold [-r] <tag> <snapshot> ..."
RELEASE_USAGE = "release [-r] <tag> <snapshot> ..."
DESTROY_USAGE = "destroy [-fnpRrv] <filesystem|volume>\n\tdestroy [-dnpRrv] <filesystem|volume>@<snap>[%<snap>][,...]"


def set_properties(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "", SET_USAGE, least=1)
    pairs = [word.partition("=") for word in options.rest if "=" in word]
    names = options.rest[len(pairs) :]
    if not pairs:
        raise options.wrong("missing property=value argument(s)")
    if not names:
        raise options.wrong("missing dataset name")
    with node.lock:
        for name in names:
            thing = node.pools.thing(name)
            for key, _, value in pairs:
                node.pools.check_set(thing, key, value, room=False)
            _set_in_order(node, thing, [(key, value) for key, _, value in pairs])
    return 0


def _set_in_order(node: Node, thing: Thing, settings: list[tuple[str, str]]) -> None:
    """Each with those before it in force: a quota makes room for a reservation. What is refused is tried once more
    behind the others, as OpenZFS does, since quota and reservation may come in either order. Raises ZfsError."""
    refused = []
    for key, value in settings:
        try:
            node.pools.set(thing, [node.pools.check_set(thing, key, value)])
        except ZfsError:
            refused.append((key, value))
    for key, value in refused:
        node.pools.set(thing, [node.pools.check_set(thing, key, value)])


def inherit(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "rS", INHERIT_USAGE, least=2)
    prop = find(options.rest[0])
    if prop is None:
        raise options.wrong(f"invalid property '{options.rest[0]}'")
    if prop.readonly:
        raise options.wrong(f"{prop.name} property is read-only")
    if not prop.inherits:
        raise CommandFailed(
            f"'{prop.name}' property cannot be inherited\n"
            f"use 'zfs set {prop.name}=none' to clear\nusage:\n\t{INHERIT_USAGE}",
            2,
        )
    with node.lock:
        for name in options.rest[1:]:
            top = node.pools.dataset(name)
            for dataset in top.descendants() if options.flag("r") else [top]:
                if prop.on.find(dataset.kind[0]) >= 0:
                    node.pools.inherit(dataset, prop)
    return 0


def rename(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "fpru", RENAME_USAGE, least=2, most=2)
    old, new = options.rest
    with node.lock:
        if "@" not in old:
            if "@" in new:
                raise ZfsError(f"cannot rename to '{new}': snapshot delimiter '@' is not expected here")
            dataset = node.pools.dataset(old)
            _check_not_delegated(node, dataset)
            node.pools.check_not_busy(dataset)
            node.pools.rename(dataset, new, parents=options.flag("p"))
            return 0
        snapshot = node.pools.snapshot_named(old)
        parent, _, name = new.rpartition("@")
        if parent and parent != snapshot.parent.name:
            raise ZfsError(f"cannot rename to '{new}': snapshots must be part of same dataset")
        chosen = (
            [
                below.snapshots[snapshot.name]
                for below in snapshot.parent.descendants()
                if snapshot.name in below.snapshots
            ]
            if options.flag("r")
            else [snapshot]
        )
        node.pools.rename_snapshot(chosen, name)
    return 0


def _check_not_delegated(node: Node, top: Dataset) -> None:
    """A dataset that belongs to a zone keeps its name, as seen from outside. Raises ZfsError."""
    why = f"cannot rename '{top.name}': "
    if node.pools.value(top, "zoned") == "on":
        raise ZfsError(f"{why}dataset is used in a non-global zone")
    for below in top.descendants():
        if node.pools.value(below, "zoned") == "on" and "mountpoint" not in below.props:
            raise ZfsError(f"{why}child dataset with inherited mountpoint is used in a non-global zone")


def rollback(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "rRf", ROLLBACK_USAGE, least=1, most=1)
    name = options.rest[0]
    if "@" not in name:
        raise ZfsError(f"cannot open '{name}': operation not applicable to datasets of this type")
    with node.lock:
        node.pools.rollback(
            node.pools.snapshot_named(name),
            destroy_newer=options.flag("r") or options.flag("R"),
            destroy_clones=options.flag("R"),
        )
    return 0


def promote(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "", PROMOTE_USAGE, least=1, most=1)
    with node.lock:
        node.pools.promote(node.pools.dataset(options.rest[0]))
    return 0


def hold(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "r", HOLD_USAGE, least=2)
    tag = options.rest[0]
    with node.lock:
        node.pools.hold(_tagged(node, options, "hold", "cannot hold snapshot"), tag)
    return 0


def release(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "r", RELEASE_USAGE, least=2)
    with node.lock:
        chosen = _tagged(node, options, "release", "cannot release hold from snapshot")
        if options.flag("r"):
            chosen = [snap for snap in chosen if options.rest[0] in snap.holds] or chosen
        node.pools.release(chosen, options.rest[0])
    return 0


def _tagged(node: Node, options: Options, verb: str, failure: str) -> list[Snapshot]:
    """The snapshots that hold or release are about; with -r those of the same name below."""
    chosen: list[Snapshot] = []
    for name in options.rest[1:]:
        dataset, at, snap = name.partition("@")
        if not at:
            raise CommandFailed(f"cannot {verb}: '{name}' is not a snapshot\nusage:\n\t{options.usage}", 2)
        top = node.pools.dataset(dataset)
        found = [
            below.snapshots[snap]
            for below in (top.descendants() if options.flag("r") else [top])
            if snap in below.snapshots
        ]
        if not found:
            raise ZfsError(f"{failure} '{name}': dataset does not exist")
        chosen += found
    return chosen


def destroy(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "dfFnpRrv", DESTROY_USAGE, least=1, most=1)
    name = options.rest[0]
    with node.lock:
        if "@" in name:
            snapshots = _chosen_snapshots(node, name, recursive=options.flag("r") or options.flag("R"))
            _report(options, [snap.full_name for snap in snapshots], sum(snap.unique for snap in snapshots), output)
            if not options.flag("n"):
                node.pools.destroy_snapshots(snapshots, with_clones=options.flag("R"), defer=options.flag("d"))
            return 0
        dataset = node.pools.dataset(name)
        if options.flag("n"):
            _report(options, [below.name for below in dataset.descendants()], dataset.used(), output)
            return 0
        force = options.flag("f") or options.flag("F")
        node.pools.destroy(
            dataset,
            recursive=options.flag("r"),
            with_clones=options.flag("R"),
            check=lambda: node.pools.check_not_busy(dataset, force=force),
        )
    return 0


def _report(options: Options, names: list[str], size: int, output: Output) -> None:
    """What -v and -n -p print."""
    verb = "would destroy" if options.flag("n") else "will destroy"
    if options.flag("p"):
        for name in names:
            output.line(f"destroy\t{name}")
        output.line(f"reclaim\t{size}")
    elif options.flag("v"):
        for name in names:
            output.line(f"{verb} {name}")
        output.line(f"{'would' if options.flag('n') else 'will'} reclaim {human(size)}")


def _chosen_snapshots(node: Node, name: str, *, recursive: bool) -> list[Snapshot]:
    """`DATASET@a`, `@a,b`, `@a%c`, `@%c`, `@a%`; names that are missing among others are passed over."""
    dataset, _, text = name.partition("@")
    try:
        top = node.pools.dataset(dataset)
    except NoDataset as err:
        raise ZfsError(f"cannot open '{dataset}': dataset does not exist") from err
    found: list[Snapshot] = []
    for below in top.descendants() if recursive else [top]:
        for part in text.split(","):
            found += [snap for snap in _range(below, part) if snap not in found]
    if not found:
        raise ZfsError("could not find any snapshots to destroy; check snapshot names.")
    return found


def _range(dataset: Dataset, part: str) -> list[Snapshot]:
    names = list(dataset.snapshots)
    if "%" not in part:
        return [dataset.snapshots[part]] if part in dataset.snapshots else []
    first, _, last = part.partition("%")
    if (first and first not in names) or (last and last not in names):
        return []
    start = names.index(first) if first else 0
    end = names.index(last) + 1 if last else len(names)
    return [dataset.snapshots[name] for name in names[start:end]]
