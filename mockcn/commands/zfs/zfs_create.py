# SPDX-License-Identifier: MPL-2.0
"""zfs create, clone and snapshot: from options to the operations in state/pools.py."""

from typing import Optional

from mockcn.commands.options import Options
from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node
from mockcn.state.datasets import AUTO, volume_reservation
from mockcn.state.pools import NoDataset, ZfsError
from mockcn.state.properties import BadValue, Value, find, parse, parse_size

CREATE_USAGE = (
    "create [-Pnpv] [-o property=value] ... <filesystem>\n"
    "\tcreate [-Pnpsv] [-b blocksize] [-o property=value] ... -V <size> <volume>"
)
CLONE_USAGE = "clone [-Fp] [-o property=value] ... <snapshot> <filesystem|volume>"
SNAPSHOT_USAGE = "snapshot [-r] [-o property=value] ... <filesystem|volume>@<snap> ..."
DEFAULT_BLOCK = 8192  # bytes of a volume's block on illumos


def create(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "PnpsvV:b:o:", CREATE_USAGE, least=1, most=1)
    name = options.rest[0]
    volsize = _size(options, "V", name)
    props = _settings(options, name, "v" if volsize is not None else "f")
    block = _size(options, "b", name) or int(props.get("volblocksize", DEFAULT_BLOCK))
    if volsize is not None:
        props["volblocksize"] = block
        volsize = -(-volsize // block) * block  # rounded up to whole blocks
    if options.flag("n"):
        return _dry_run(node, options, name, volsize, props, block, output)
    with node.lock:
        if options.flag("p") and node.pools.exists(name):
            return 0
        node.pools.create(name, props, volsize=volsize, sparse=options.flag("s"), parents=options.flag("p"))
    return 0


def clone(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "Fpo:", CLONE_USAGE, least=2, most=2)
    source, name = options.rest
    with node.lock:
        snapshot = node.pools.snapshot_named(source)
        if options.flag("p") and node.pools.exists(name):
            return 0
        node.pools.clone(snapshot, name, _settings(options, name, snapshot.parent.kind[0]), parents=options.flag("p"))
    return 0


def snapshot(node: Node, words: list[str], output: Output) -> int:
    options = Options(words, "ro:", SNAPSHOT_USAGE)
    if not options.rest:
        raise options.wrong("missing snapshot argument")
    props = dict(_pair(options, text) for text in options.values("o"))
    for name in options.rest:
        if name.count("@") != 1:
            raise options.wrong(f"invalid snapshot name '{name}'")
    with node.lock:
        try:
            node.pools.snapshot(options.rest, recursive=options.flag("r"), props=props)
        except NoDataset as err:
            raise CommandFailed(f"{err}\nusage:\n\t{SNAPSHOT_USAGE}", 2) from err
    return 0


def _settings(options: Options, name: str, kind: str) -> dict[str, Value]:
    """The -o settings as values, by the properties' own names. Raises ZfsError."""
    settings: dict[str, Value] = {}
    for text in options.values("o"):
        key, value = _pair(options, text)
        prop = find(key)
        where = f"cannot create '{name}': "
        if prop is None:
            raise ZfsError(f"{where}invalid property '{key}'")
        if kind not in prop.on or (prop.readonly and prop.name != "volblocksize"):
            what = (
                f"'{prop.name}' is readonly"
                if prop.readonly
                else f"'{prop.name}' does not apply to datasets of this type"
            )
            raise ZfsError(where + what)
        if prop.name in settings:
            raise CommandFailed(f"property '{prop.name}' specified multiple times\nusage:\n\t{options.usage}", 2)
        if (prop.name, value, kind) == ("refreservation", "auto", "v"):
            settings[prop.name] = AUTO
            continue
        try:
            settings[prop.name] = parse(prop, value)
        except BadValue as err:
            raise ZfsError(where + str(err)) from err
    return settings


def _pair(options: Options, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise options.wrong(f"missing '=' for property=value argument: {text}")
    return name, value


def _size(options: Options, letter: str, name: str) -> Optional[int]:
    text = options.value(letter)
    if text is None:
        return None
    try:
        size = parse_size(text)
    except BadValue as err:
        raise CommandFailed(f"bad volume size '{text}': {err}\nusage:\n\t{CREATE_USAGE}", 2) from err
    if size == 0:
        raise ZfsError(f"cannot create '{name}': volume size cannot be zero")
    return size


def _dry_run(
    node: Node, options: Options, name: str, volsize: Optional[int], props: dict[str, Value], block: int, output: Output
) -> int:
    """-n: change nothing; with -P say in a parsable way what would be created. A dataset of that name may be there:
    that is how callers learn what an existing volume of another size would have to reserve."""
    with node.lock:
        if not options.flag("p"):
            node.pools.dataset(name.rsplit("/", 1)[0])
    lines = [("create", name)]
    if volsize is not None:
        lines.append(("property", f"volsize\t{volsize}"))
        if not options.flag("s"):
            reservation = volume_reservation(volsize, block, int(props.get("copies", 1)))
            lines.append(("property", f"refreservation\t{reservation}"))
    lines += [("property", f"{key}\t{value}") for key, value in props.items()]
    if options.flag("P"):
        for word, text in lines:
            output.line(f"{word}\t{text}")
    elif options.flag("v"):
        output.line(f"would create {name}")
    return 0
