# SPDX-License-Identifier: MPL-2.0
"""zonecfg info: a zone's configuration for people, whole or one resource or property of it."""

import re
from typing import Iterator
from xml.etree.ElementTree import Element

from mockcn.commands.output import Output
from mockcn.commands.zones.zonecfg_resources import CAPS, KINDS, find, limit
from mockcn.commands.zones.zonecfg_words import BadStatement, Statement

PROPERTIES = (
    "zonepath",
    "brand",
    "autoboot",
    "bootargs",
    "pool",
    "limitpriv",
    "scheduling-class",
    "ip-type",
    "hostid",
    "fs-allowed",
)
MIB = 1 << 20


def show(zone: Element, uuid: str, statement: Statement, output: Output) -> None:
    """Print what `info ...` asks for. Raises BadStatement."""
    what = statement.word(0)
    if what in KINDS:
        elements = find(zone, what, statement.operands[1:])
        if not elements:
            output.line(f"No such {what} resource.")
        for element in elements:
            _lines(output, _resource(what, element))
    elif what in CAPS:
        lines = list(_cap(zone, what))
        if not lines:
            output.line(f"No such {what} resource.")
        _lines(output, lines)
    elif not what:
        _lines(output, _everything(zone, uuid))
    elif what == "uuid":
        output.line(f"uuid: {uuid}")
    elif what == "zonename":
        output.line(f"zonename: {zone.get('name', '')}")
    elif what in PROPERTIES:
        output.line(f"{what}: {_quoted(zone.get(what, ''))}")
    else:
        raise BadStatement(f"syntax error at '{what}'")


def _lines(output: Output, lines: "Iterator[str] | list[str]") -> None:
    for line in lines:
        output.line(line)


def _everything(zone: Element, uuid: str) -> Iterator[str]:
    yield f"zonename: {zone.get('name', '')}"
    for name in PROPERTIES:
        yield f"{name}: {_quoted(zone.get(name, ''))}"
    yield f"uuid: {uuid}"
    for resource, kind in KINDS.items():
        for element in zone.findall(kind.tag):
            yield from _resource(resource, element)
    for resource in CAPS:
        yield from _cap(zone, resource)
    for rctl in zone.findall("rctl"):
        yield "rctl:"
        yield f"\tname: {rctl.get('name')}"
        for value in rctl:
            yield f"\tvalue: (priv={value.get('priv')},limit={value.get('limit')},action={value.get('action')})"


def _resource(resource: str, element: Element) -> Iterator[str]:
    kind = KINDS[resource]
    yield f"{resource}:"
    for name, attribute in kind.attributes.items():
        if element.get(attribute) is not None:
            yield f"\t{name}: {_quoted(element.get(attribute, ''))}"
    if kind.list_name == "property":
        for child in element:
            yield f"\tproperty: (name={child.get('name')}, value={_always_quoted(child.get('value', ''))})"
    elif kind.list_name:
        yield f"\toptions: [{','.join(child.get('name', '') for child in element)}]"


def _cap(zone: Element, resource: str) -> Iterator[str]:
    limits = {name: limit(zone, control) for name, control in CAPS[resource].items()}
    if any(value is not None for value in limits.values()):
        yield f"{resource}:"
        for name, value in limits.items():
            if value is not None:
                shown = (
                    f"{value / 100:.2f}"
                    if resource == "capped-cpu"
                    else f"{value // MIB}M"
                    if value % MIB == 0
                    else str(value)
                )
                yield f"\t[{name}: {shown}]"


def _quoted(text: str) -> str:
    """As a script has to write it: in quotes where it holds a blank or a mark of zonecfg's language."""
    return _always_quoted(text) if re.search(r"[\s;=,()\[\]{}\"#]", text) else text


def _always_quoted(text: str) -> str:
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'
