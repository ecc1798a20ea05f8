# SPDX-License-Identifier: MPL-2.0
"""The firewall of the node's VMs: rules in /var/fw/rules, what they make of each VM's packet filter, and loading it.

    /var/fw/rules/UUID.json     the rules                    ZONEPATH/config/ipf.conf, ipf6.conf    what boots load
    /var/fw/.lockfile           held (flock) while rules or files change

Always: which VMs there are, with their tags and addresses, is read from their zone XML and files at each call.
Always: only VMs that have a firewall and are affected get new files; a running one loads them at once. Where the node
        has no rule at all they get none (the platform's fwadm writes them even then): a VM is changed in its config
        folder only by who asks for rules."""

import contextlib
import fcntl
import json
import os
import time
from typing import Any, Iterable, Iterator
from xml.etree.ElementTree import Element

from mockcn.node import Node
from mockcn.state import fwrules, zonexml
from mockcn.state.fwrules import Machine, Rule
from mockcn.state.zones import Zone

FOLDER, RULES = "/var/fw", "/var/fw/rules"
LOCK = "/var/fw/.lockfile"
CONF, CONF6 = "ipf.conf", "ipf6.conf"


class NoSuchVm(Exception):
    """A VM that was named is not on the node; the message is fwadm's."""


@contextlib.contextmanager
def locked(node: Node) -> Iterator[None]:
    """No other writer of rules or of a packet filter's files meanwhile; never while the node's lock is held."""
    node.make_folder(RULES)
    with open(node.real(LOCK), "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def rules(node: Node) -> dict[str, dict[str, Any]]:
    """What is kept of each rule, by uuid, the oldest first."""
    found = {}
    folder = node.real(RULES)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            content = json.load(file)
        found[content["uuid"]] = content
    return dict(sorted(found.items(), key=lambda pair: pair[1].get("created", 0)))


def keep(node: Node, content: dict[str, Any]) -> None:
    content.setdefault("created", time.time_ns())
    with open(node.real(f"{RULES}/{content['uuid']}.json"), "w", encoding="utf-8") as file:
        json.dump(content, file)


def forget(node: Node, uuid: str) -> None:
    os.unlink(node.real(f"{RULES}/{uuid}.json"))


def machines(node: Node) -> dict[str, Machine]:
    """All VMs of the node as rules see them, by uuid."""
    with node.lock:
        found = [_machine(node, zone) for zone in node.zones.zones.values() if zone.is_vm and not zone.deleted]
    return {machine.uuid: machine for machine in found if machine is not None}


def touched(node: Node, uuids: Iterable[str]) -> list[str]:
    """These VMs, and those on the other side of rules that name them. Raises NoSuchVm."""
    everybody = machines(node)
    found = dict.fromkeys(uuids)
    for uuid in list(found):
        if uuid not in everybody:
            raise NoSuchVm(f'Could not find VM "{uuid}" in VM list')
        for rule in parsed(node):
            found.update(dict.fromkeys([other.uuid for other in rule.others(everybody.values(), everybody[uuid])]))
    return list(found)


def named_by(node: Node, rule: Rule) -> list[str]:
    """The VMs that a rule is about."""
    return [
        machine.uuid
        for machine in machines(node).values()
        if rule.names_as(rule.sources, machine) or rule.names_as(rule.destinations, machine)
    ]


def parsed(node: Node) -> list[Rule]:
    return [fwrules.parse(content) for content in rules(node).values()]


def apply(node: Node, uuids: Iterable[str]) -> list[str]:
    """Write the packet filter's files of these VMs anew, and load them in those that run; those that have one."""
    everybody, wanted = machines(node), parsed(node)
    done = []
    for uuid in uuids:
        machine = everybody.get(uuid)
        if machine is None or not machine.is_on or not (wanted or _is_filtered(node, uuid)):
            continue
        lines = [f"# rules of {uuid}, written by fwadm"]
        for rule in wanted:
            own = rule.lines(machine, everybody.values())
            lines += [f"# rule {rule.uuid}", *own] if own else []
        with node.lock:
            zone = node.zones.find(uuid)
            _write(node, f"{zone.zonepath}/config/{CONF}", [*lines, *fwrules.DEFAULTS])
            _write(node, f"{zone.zonepath}/config/{CONF6}", [lines[0], *fwrules.DEFAULTS])
            load(node, zone)
        done.append(uuid)
    return done


def _is_filtered(node: Node, uuid: str) -> bool:
    with node.lock:
        return os.path.exists(node.real(f"{node.zones.find(uuid).zonepath}/config/{CONF}"))


def load(node: Node, zone: Zone) -> None:
    """Have a zone in the kernel filter by its files, if it has some, as its boot does."""
    path = node.real(f"{zone.zonepath}/config/{CONF}")
    if zone.kernel is not None and os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            zone.kernel.filter = [line for line in file.read().splitlines() if line and not line.startswith("#")]


def _write(node: Node, path: str, lines: list[str]) -> None:
    """The new file under another name first; the old one stays as .old."""
    real = node.real(path)
    if not os.path.isdir(os.path.dirname(real)):
        return
    temporary = f"{real}.{time.time_ns() // 10**6}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    if os.path.exists(real):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(real + ".old")
        os.link(real, real + ".old")
    os.rename(temporary, real)


def _machine(node: Node, zone: Zone) -> "Machine | None":
    try:
        element = zonexml.parse(node.zones.read_xml(zone))
    except (OSError, zonexml.NotXml):
        return None
    return Machine(
        uuid=zone.uuid or zone.name,
        owner=zonexml.attr(element, "owner-uuid") or "",
        is_on=zonexml.attr(element, "firewall-enabled") == "true",
        tags=_tags(node, zone),
        addresses=tuple(_addresses(element)),
    )


def _tags(node: Node, zone: Zone) -> dict[str, Any]:
    try:
        with open(node.real(f"{zone.zonepath}/config/tags.json"), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _addresses(element: Element) -> Iterator[str]:
    for network in element.findall("network"):
        members = {child.get("name"): child.get("value", "") for child in network.findall("net-attr")}
        for item in (members.get("ips") or members.get("ip", "")).split(","):
            address = item.partition("/")[0]
            if address[:1].isdigit():
                yield address
