#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Makes the tables in docs/vm-object.md of the tables that vmload reads, and writes them into the page.

    python3 docs/make_property_tables.py

Always: only what lies between a `made by` comment and the next `end` comment is replaced; everything else is written by
        people. A test fails while the page and the tables differ.
It reads the JSON files themselves: what a property is stands there, and nothing of it is said twice."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Any

DOCS = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(DOCS, "vm-object.md")
TABLES = os.path.join(DOCS, os.pardir, "usr", "vm", "lib", "vmload")

_MADE = re.compile(r"(<!-- made by docs/make_property_tables\.py: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

# Source kind -> what of the platform reports that such a property may have changed.
_CHANGES_WITH = {
    "zoneadm": "zone event",
    "zonexml": "XML file, zone event",
    "kstat": "zone event",
    "json-file": "its file",
    "file": "its file, zone event",
    "sysinfo": "sysinfo file",
    "zfs": "zfs event",
}
_DERIVED_CHANGES_WITH = {
    "state": "XML file, zone event",
    "transition": "XML file, zone event",
    "hvm": "zone event",
    "device-null": "XML file, zone event",
    "last_modified": "any watched file of the VM, zone event",
}
_BRAND_FACTS = (
    "hvm",
    "type",
    "list_type",
    "use_vm_autoboot",
    "disks_in_every_vm_object",
    "default_memory_overhead_mib",
    "min_memory_overhead_mib",
    "interface_prefix",
    "model_required",
    "disk_models",
    "default_limit_priv",
    "live_rctl_update",
    "use_tmpfs",
    "runtime_info",
    "use_vmadmd",
)


def table(name: str) -> dict[str, Any]:
    with open(os.path.join(TABLES, name), encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
        return found


def page_with_tables(page: str) -> str:
    """The text of the page with its tables made anew."""
    properties = table("vm-properties.json")["properties"]
    brands = table("brands.json")["brands"]
    made = {
        "brands": brand_rows(brands),
        "properties": property_rows(properties, brands),
        "payload": payload_rows(properties, brands),
    }
    return _MADE.sub(lambda match: match[1] + "\n" + "\n".join(made[match[2]]) + "\n\n" + match[3], page)


def brand_rows(brands: dict[str, dict[str, Any]]) -> list[str]:
    rows = [_row(["fact", *brands]), _row(["---"] * (len(brands) + 1))]
    return rows + [_row([f"`{fact}`", *(_shown(facts[fact]) for facts in brands.values())]) for fact in _BRAND_FACTS]


def property_rows(properties: dict[str, dict[str, Any]], brands: Iterable[str]) -> list[str]:
    """A row for each property that an object can show."""
    rows = [_row(["property", "type, unit", "comes from", "changes with", "in a payload"]), _row(["---"] * 5)]
    for name, entry in properties.items():
        if entry["in_vm_object"]:
            kind = ", ".join(filter(None, [entry["value_type"], entry["unit"]]))
            sources = [_source(source, entry) for source in entry["sources"] if not source.get("ignored")]
            rows.append(_row([f"`{name}`", kind, "; ".join(sources), _changes(entry), _payload(entry, brands)]))
    return rows


def payload_rows(properties: dict[str, dict[str, Any]], brands: Iterable[str]) -> list[str]:
    rows = [_row(["property", "type", "in a payload"]), _row(["---"] * 3)]
    for name, entry in properties.items():
        if not entry["in_vm_object"] and entry["payload"]:
            rows.append(_row([f"`{name}`", str(entry["payload"]["type"] or ""), _payload(entry, brands)]))
    return rows


def _source(source: dict[str, Any], entry: dict[str, Any]) -> str:
    kind = source["kind"]
    if kind == "zonexml":
        text = f"XML `{source['path']}`"
        return f"{text} ({entry['translator']})" if entry["translator"] else text
    if kind == "zfs":
        return f"zfs {', '.join(source['fields'])} ({source['rule']})"
    if kind == "json-file":
        return f"{source['file']}" + (f" `{source['key']}`" if source["key"] else "")
    if kind == "derived":
        return f"rule {source['rule']}"
    which = source.get("field") or source.get("key") or source.get("stat") or ""
    return f"{source.get('file', kind)} {which}".strip()


def _changes(entry: dict[str, Any]) -> str:
    found: list[str] = []
    for source in entry["sources"]:
        if source["kind"] == "derived":
            found.append(_DERIVED_CHANGES_WITH[source["rule"]])
        elif not source.get("ignored"):
            found.append(_CHANGES_WITH[source["kind"]])
    return ", ".join(dict.fromkeys(part for text in found for part in text.split(", ")))


def _payload(entry: dict[str, Any], brands: Iterable[str]) -> str:
    """Which actions of which brands take the property: `create, update: all`."""
    allowed: dict[str, list[str]] = (entry["payload"] or {}).get("allowed", {})
    takers: dict[str, list[str]] = {}
    for brand, actions in allowed.items():
        takers.setdefault(", ".join(actions), []).append(brand)
    every = set(brands)
    return "; ".join(f"{actions}: {'all' if set(of) == every else ', '.join(of)}" for actions, of in takers.items())


def _shown(fact: Any) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    return " ".join(fact) if isinstance(fact, list) else str(fact)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(page_with_tables(page))


if __name__ == "__main__":
    main()
