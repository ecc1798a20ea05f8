# SPDX-License-Identifier: MPL-2.0
"""fwadm: rules, and the VMs that they are about (docs/platform.md, "Firewall").

    add -f FILE                        {"rule": ...}, or {"rules": [...], "localVMs": [{"uuid": ...}]}; `-`: from stdin
    update -f FILE, update RULE k=v    the same of rules that are there; localVMs alone: their VMs are looked at anew
    delete RULE    list [-j]    get RULE    enable RULE    disable RULE
    vms RULE    rules VM    status VM    start VM    stop VM

Always: whatever a call changed is in the files of all VMs that it affects when it returns."""

import json
import uuid as uuids
from typing import Any, Callable

from mockcn import edits
from mockcn.commands.output import CommandFailed, Output
from mockcn.life import filtering
from mockcn.node import Node
from mockcn.state import fwrules
from mockcn.state.zones import NoZone, Zone

USAGE = "Usage: fwadm add|update|delete|list|get|enable|disable|vms|rules|status|start|stop [options]"
Act = Callable[[Node, list[str], Output], int]


def main(node: Node, words: list[str], output: Output) -> int:
    verb, rest = (words[0], words[1:]) if words else ("", [])
    changes = verb in ("add", "update")
    if not changes and verb not in SUBCOMMANDS:
        raise CommandFailed(USAGE, 2)
    asked = _read(node, rest, output) if changes else {}
    try:
        with filtering.locked(node):
            return _change(node, verb, rest, asked, output) if changes else SUBCOMMANDS[verb](node, rest, output)
    except (fwrules.BadRule, filtering.NoSuchVm, NoZone) as err:
        raise CommandFailed(str(err)) from err


def _read(node: Node, words: list[str], output: Output) -> dict[str, Any]:
    if "-f" not in words:
        return {}
    path = words[words.index("-f") + 1]
    try:
        if path == "-":
            text = output.input()
        else:
            with open(node.real(path), encoding="utf-8") as file:
                text = file.read()
        asked = json.loads(text)
    except (OSError, ValueError) as err:
        raise CommandFailed(f"Error reading payload: {err}") from err
    if not isinstance(asked, dict):
        raise CommandFailed("Error reading payload: an object is expected")
    return asked


def _change(node: Node, verb: str, words: list[str], asked: dict[str, Any], output: Output) -> int:
    """add and update: of rules, of VMs, or of both."""
    wanted = asked.get("rules") or ([asked] if "rule" in asked else [])
    operands = [word for word in words if word not in ("-f", "-")] if "-f" not in words else []
    if verb == "update" and operands:
        wanted = [{"uuid": operands[0], **dict(word.split("=", 1) for word in operands[1:])}]
    local = [str(vm.get("uuid")) for vm in asked.get("localVMs") or []]
    if not wanted and not local:
        raise CommandFailed("Must supply one of: rules, localVMs")
    known = filtering.rules(node)
    affected: list[str] = filtering.touched(node, local)
    for each in wanted:
        old = known.get(str(each.get("uuid")))
        if verb == "update" and old is None:
            raise CommandFailed(f'Unknown rule: "{each.get("uuid")}"')
        content = {"enabled": False, **(old or {"uuid": str(uuids.uuid4())}), **each}
        new = fwrules.parse(content)
        affected += filtering.named_by(node, fwrules.parse(old)) if old else []
        affected += filtering.named_by(node, new)
        filtering.keep(node, content)
        output.line(f"{'Added' if old is None else 'Updated'} rule:\n{new.uuid} {_shown(new.enabled)} {new.text}")
    filtering.apply(node, dict.fromkeys(affected))
    return 0


def _delete(node: Node, words: list[str], output: Output) -> int:
    rule = fwrules.parse(_content(node, words))
    affected = filtering.named_by(node, rule)
    filtering.forget(node, rule.uuid)
    filtering.apply(node, affected)
    output.line(f"Deleted rule: {rule.uuid}")
    return 0


def _list(node: Node, words: list[str], output: Output) -> int:
    found = list(filtering.rules(node).values())
    if "-j" in words:
        output.line(json.dumps(found, indent=2))
        return 0
    output.line(f"{'UUID':<36} ENABLED RULE")
    for content in found:
        output.line(f"{content['uuid']} {_shown(content['enabled']):<7} {content['rule']}")
    return 0


def _get(node: Node, words: list[str], output: Output) -> int:
    output.line(json.dumps(_content(node, words), indent=2))
    return 0


def _switch(on: bool) -> Act:
    def act(node: Node, words: list[str], output: Output) -> int:
        content = {**_content(node, words), "enabled": on}
        filtering.keep(node, content)
        filtering.apply(node, filtering.named_by(node, fwrules.parse(content)))
        return 0

    return act


def _vms(node: Node, words: list[str], output: Output) -> int:
    for uuid in filtering.named_by(node, fwrules.parse(_content(node, words))):
        output.line(uuid)
    return 0


def _rules(node: Node, words: list[str], output: Output) -> int:
    uuid = words[0] if words else ""
    for rule in filtering.parsed(node):
        if uuid in filtering.named_by(node, rule):
            output.line(f"{rule.uuid} {_shown(rule.enabled)} {rule.text}")
    return 0


def _status(node: Node, words: list[str], output: Output) -> int:
    with node.lock:
        kernel = _zone(node, words).kernel
        output.line("running" if kernel is not None and kernel.filter is not None else "stopped")
    return 0


def _firewall(on: bool) -> Act:
    """`start` and `stop`: the property of the VM, and what follows from it. The platform's fwadm has vmadm do it."""

    def act(node: Node, words: list[str], output: Output) -> int:
        zone = _zone(node, words)
        edits.set_attr(node, zone, "firewall-enabled", "true" if on else None)
        if on:
            filtering.apply(node, [zone.uuid or zone.name])
        elif zone.kernel is not None:
            zone.kernel.filter = None
        return 0

    return act


def _content(node: Node, words: list[str]) -> dict[str, Any]:
    found = filtering.rules(node).get(words[0] if words else "")
    if found is None:
        raise CommandFailed(f'Unknown rule: "{words[0] if words else ""}"')
    return found


def _zone(node: Node, words: list[str]) -> Zone:
    with node.lock:
        return node.zones.find(words[0] if words else "")


def _shown(enabled: Any) -> str:
    return "true" if enabled in (True, "true") else "false"


SUBCOMMANDS: dict[str, Act] = {
    "delete": _delete,
    "list": _list,
    "get": _get,
    "enable": _switch(True),
    "disable": _switch(False),
    "vms": _vms,
    "rules": _rules,
    "status": _status,
    "start": _firewall(True),
    "stop": _firewall(False),
}
