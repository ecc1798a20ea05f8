# SPDX-License-Identifier: MPL-2.0
"""The JSON Schemas of a VM object and of an event, as /schema/vm.json and /schema/event.json serve them.

Always: what a property is comes from the table of properties (vmload), so that schema, objects and docs/vm-object.md
        cannot differ; only what the table has no row for (snapshots, what is missing, events) is written here;
        unknown members are allowed: a newer daemon may add some."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from vminfod.serving import jsontext
from vmload import properties

Schema = dict[str, Any]

_DIALECT = "http://json-schema.org/draft-07/schema#"
_DATE: Schema = {"type": "string", "format": "date-time", "description": "ISO 8601, UTC, three digits of milliseconds"}
_TEXT: Schema = {"type": "string"}
_OBJECT: Schema = {"type": "object"}

# Value type of the table -> schema. A text that is none of the words of a boolean stays that text, and what is no
# number is null (docs/vm-object.md, "Quirks").
_TYPES: Mapping[str, Schema] = {
    "string": _TEXT,
    "boolean": {"type": ["boolean", "string"]},
    "number": {"type": ["number", "null"]},
    "number-or-null": {"type": ["number", "null"]},
    "null": {"type": "null"},
    "object": _OBJECT,
    "string-list": {"type": "array", "items": _TEXT},
    "number-list": {"type": "array", "items": {"type": ["number", "null"]}},
    "object-list": {"type": "array", "items": _OBJECT},
}

# What is read from a JSON file below a zonepath: an object, unless the guest, or its owner, has written something else.
_OF_A_FILE: Schema = {"type": ["object", "array", "string", "number", "boolean", "null"]}

# Members of objects that zfs gives, and of `missing`.
_MORE: Mapping[str, Schema] = {
    "snapshots.*.name": _TEXT,
    "snapshots.*.created_at": _DATE,
    "snapshots.*.size": {"type": ["number", "null"], "description": "MiB"},
    "disks.*.missing": {"type": "boolean"},
}
_MISSING: Schema = {
    "type": "object",
    "properties": {name: {"type": "array", "items": _TEXT} for name in ("datasets", "disks", "filesystems")},
}

# docs/vm-object.md, "Always there".
_ALWAYS = ("zonename", "brand", "uuid", "zone_state", "zonepath", "state", "resolvers", "nics", "snapshots")


@functools.cache
def of_vm() -> bytes:
    """The schema of a VM object, as JSON."""
    return jsontext.encode({"$schema": _DIALECT, **_vm()})


@functools.cache
def of_event() -> bytes:
    """The schema of a line of /events, as JSON. The VM object stands in it under definitions."""
    return jsontext.encode(
        {
            "$schema": _DIALECT,
            "title": "A line of vminfod's event stream",
            "definitions": {"vm": _vm(), "change": _CHANGE, "cause": _CAUSE},
            "oneOf": [_line(name, *members) for name, members in _LINES.items()],
        }
    )


def _vm() -> Schema:
    known: dict[str, Schema] = {"missing": _MISSING}
    members: dict[str, dict[str, Schema]] = {}
    rows = {name: _property(row) for name, row in properties.table().items() if row["in_vm_object"]}
    for name, schema in {**rows, **_MORE}.items():
        owner, of_list, member = name.partition(".*.")
        if of_list:
            members.setdefault(owner, {})[member] = schema
        else:
            known.setdefault(owner, schema)
    for owner, theirs in members.items():
        known[owner] = {**known[owner], "items": {"type": "object", "properties": theirs}}
    return {"title": "A VM of SmartOS", "type": "object", "required": list(_ALWAYS), "properties": known}


def _property(row: Mapping[str, Any]) -> Schema:
    unit = row["unit"]
    if any(source["kind"] == "json-file" for source in row["sources"]):
        return dict(_OF_A_FILE)
    if unit is None:
        return dict(_TYPES[row["value_type"]])
    return {**_TYPES[row["value_type"]], "description": unit}


# What a change, a cause and a line of the stream consist of: docs/http-api.md, "The lines".
_CHANGE: Schema = {
    "type": "object",
    "required": ["prettyPath", "path", "action"],
    "properties": {
        "prettyPath": _TEXT,
        "path": {"type": "array", "items": {"type": ["string", "null"]}, "minItems": 1},
        "action": {"enum": ["added", "removed", "changed"]},
        "oldValue": {},
        "newValue": {},
        "ident": _TEXT,
    },
}
_CAUSE: Schema = {
    "type": "object",
    "required": ["source"],
    "properties": {
        "source": _TEXT,
        "latency_ms": {"type": "number", "minimum": 0},
        **dict.fromkeys(("dataset", "pool", "action", "path"), _TEXT),
        "state": {"type": ["string", "null"]},
        "restarts": {"type": "integer"},
        **dict.fromkeys(("command", "transaction"), _TEXT),
        "req_id": {"type": ["string", "null"]},
        **dict.fromkeys(("pid", "uid"), {"type": ["integer", "null"]}),
        **dict.fromkeys(("aborted", "expired"), {"const": True}),
    },
}
_REV: Schema = {"type": "integer", "minimum": 0}
_VM: Schema = {"$ref": "#/definitions/vm"}
_CHANGES: Schema = {"type": "array", "items": {"$ref": "#/definitions/change"}}
_MARK = {"epoch": _TEXT, "rev": _REV}
_WHOSE = {"date": _DATE, "zonename": _TEXT, "uuid": _TEXT, **_MARK, "cause": {"$ref": "#/definitions/cause"}}

# Type of line -> its members, and those that can be absent.
_LINES: Mapping[str, tuple[dict[str, Schema], dict[str, Schema]]] = {
    "ready": (
        {"date": _DATE, "uuid": _TEXT, **_MARK},
        {"vms": {"type": "string", "description": "the body of /vms"}, "unreadable": {"type": "array", "items": _TEXT}},
    ),
    "create": ({**_WHOSE, "vm": _VM}, {}),
    "modify": ({**_WHOSE, "vm": _VM, "changes": _CHANGES}, {}),
    "delete": (_WHOSE, {"last": _VM}),
    "heartbeat": ({"date": _DATE, **_MARK}, {}),
}


def _line(name: str, members: dict[str, Schema], optional: dict[str, Schema]) -> Schema:
    return {
        "title": name,
        "type": "object",
        "required": ["type", *members],
        "properties": {"type": {"const": name}, **members, **optional},
    }
