# SPDX-License-Identifier: MPL-2.0
"""Whether what the daemon serves is what its JSON Schemas say: asked of each event and VM object that the tests read
from a running daemon.

Always: stricter than for clients, which must bear members that a newer daemon adds: a member that no schema names is
        an error here."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import fastjsonschema

from vminfod.serving import schemas


def check_vm(vm: dict[str, Any]) -> None:
    """Raises AssertionError with what is wrong in it."""
    _check(_validators()["vm"], vm)


def check_event(event: dict[str, Any]) -> None:
    """A parsed line of /events, with the VMs of `ready`. Raises AssertionError with what is wrong in it."""
    _check(_validators()[event["type"]], event)
    for vm in json.loads(event.get("vms") or "[]"):
        check_vm(vm)


def _check(validate: Callable[[Any], Any], value: dict[str, Any]) -> None:
    try:
        validate(value)
    except fastjsonschema.JsonSchemaValueException as wrong:
        raise AssertionError(f"not as its schema says: {wrong.message}: {wrong.value!r:.300}") from None


@functools.cache
def _validators() -> dict[str, Callable[[Any], Any]]:
    """For a VM object, and for each type of line: one of all of them could not say what is wrong in a line."""
    vm, event = (closed(json.loads(text)) for text in (schemas.of_vm(), schemas.of_event()))
    lines = {line["title"]: {"definitions": event["definitions"], **line} for line in event["oneOf"]}
    # What the daemon writes has dates, that of a guest need not be one: formats are for people here.
    return {name: fastjsonschema.compile(schema, use_formats=False) for name, schema in {"vm": vm, **lines}.items()}


def closed(schema: Any) -> Any:
    """The same schema, but with no members that it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(part) for name, part in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        inner["additionalProperties"] = False
    return inner
