# SPDX-License-Identifier: MPL-2.0
"""Firewall rules: their language, which VMs they name, and the packet filter's lines that they become.

    FROM (tag web OR ip 192.0.2.9) TO tag role = db ALLOW tcp (PORT 5432 AND PORT 5433)

A side is `any`, `all vms`, `tag NAME [= VALUE]`, `vm UUID`, `ip ADDRESS`, `subnet CIDR`, or several in brackets by OR.
What goes in is blocked unless a rule allows it, what goes out passes unless a rule blocks it.
Always: pure. A rule with an owner is about VMs of that owner alone."""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any, Iterable, Optional

WORD = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[()=]|[^\s()="]+)')
PROTOCOLS = ("tcp", "udp", "icmp", "icmp6", "ah", "esp")
ACTIONS = ("ALLOW", "BLOCK")
DEFAULTS = ("block in all", "pass out all keep state")


class BadRule(Exception):
    """The text is no rule; the message says where."""


@dataclass(frozen=True)
class Machine:
    """What rules see of a VM."""

    uuid: str
    owner: str
    is_on: bool  # has a firewall
    tags: dict[str, Any]
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """One name of a side. `kind`: any, vms, tag, vm, ip or subnet; `value` only of a tag."""

    kind: str
    name: str = ""
    value: Optional[str] = None

    def names(self, machine: Machine) -> bool:
        if self.kind == "tag":
            found = machine.tags.get(self.name)
            return self.name in machine.tags and self.value in (None, _text(found))
        if self.kind == "vm":
            return machine.uuid == self.name
        if self.kind == "ip":
            return self.name in machine.addresses
        if self.kind == "subnet":
            network = ipaddress.ip_network(self.name, strict=False)
            return any(ipaddress.ip_address(address) in network for address in machine.addresses)
        return self.kind == "vms" or self.kind == "any"


@dataclass(frozen=True)
class Rule:
    uuid: str
    text: str
    enabled: bool
    owner: str  # empty: all VMs
    sources: tuple[Target, ...]
    destinations: tuple[Target, ...]
    action: str
    protocol: str
    ports: tuple[str, ...] = field(default=())  # of tcp and udp; empty: all

    def is_about(self, machine: Machine) -> bool:
        return self.owner in ("", machine.owner)

    def names_as(self, side: tuple[Target, ...], machine: Machine) -> bool:
        """Whether one side names the VM. `any` names addresses of the world, and no VM in particular."""
        return self.is_about(machine) and any(each.kind != "any" and each.names(machine) for each in side)

    def others(self, machines: Iterable[Machine], named: Machine) -> list[Machine]:
        """The VMs on the other side of a rule that names a VM."""
        found = []
        for mine, other in ((self.sources, self.destinations), (self.destinations, self.sources)):
            if self.names_as(mine, named):
                found += [machine for machine in machines if self.names_as(other, machine)]
        return found

    def lines(self, machine: Machine, machines: Iterable[Machine]) -> list[str]:
        """What the packet filter of `machine` gets of this rule; nothing if it does not concern that VM."""
        if not self.enabled:
            return []
        everybody = list(machines)
        lines = []
        if self.names_as(self.destinations, machine) and self.action == "ALLOW":
            for peer in self._peers(self.sources, everybody):
                lines += [f"pass in quick proto {self.protocol} from {peer} to any{port}" for port in self._ports()]
        if self.names_as(self.sources, machine) and self.action == "BLOCK":
            for peer in self._peers(self.destinations, everybody):
                lines += [f"block out quick proto {self.protocol} from any to {peer}{port}" for port in self._ports()]
        return lines

    def _ports(self) -> list[str]:
        return [f" port = {port}" for port in self.ports] or [""]

    def _peers(self, side: tuple[Target, ...], machines: list[Machine]) -> list[str]:
        """The addresses of a side, each once."""
        found: list[str] = []
        for target in side:
            if target.kind == "any":
                return ["any"]
            if target.kind in ("ip", "subnet"):
                found.append(target.name)
                continue
            for machine in machines:
                if self.is_about(machine) and target.names(machine):
                    found += machine.addresses
        return list(dict.fromkeys(found))


def parse(content: dict[str, Any]) -> Rule:
    """A rule from what is kept of it: uuid, rule, enabled, owner_uuid. Raises BadRule."""
    text = content.get("rule")
    if not isinstance(text, str):
        raise BadRule("a rule needs its text: rule")
    words = _Words(text)
    words.must("FROM")
    sources = words.side()
    words.must("TO")
    destinations = words.side()
    action = words.next().upper()
    if action not in ACTIONS:
        raise BadRule(f"expected ALLOW or BLOCK, not '{action}'")
    protocol = words.next().lower()
    if protocol not in PROTOCOLS:
        raise BadRule(f"unknown protocol '{protocol}'")
    return Rule(
        uuid=str(content.get("uuid", "")),
        text=text,
        enabled=content.get("enabled") in (True, "true"),
        owner=str(content.get("owner_uuid") or ""),
        sources=sources,
        destinations=destinations,
        action=action,
        protocol=protocol,
        ports=words.ports(),
    )


class _Words:
    """The words of a rule, taken one by one. Each method raises BadRule."""

    def __init__(self, text: str) -> None:
        self._left = WORD.findall(text)

    def next(self) -> str:
        if not self._left:
            raise BadRule("the rule ends too early")
        return str(self._left.pop(0))

    def peek(self) -> str:
        return self._left[0].upper() if self._left else ""

    def must(self, word: str) -> None:
        found = self.next()
        if found.upper() != word:
            raise BadRule(f"expected {word}, not '{found}'")

    def side(self) -> tuple[Target, ...]:
        if self.peek() != "(":
            return (self._target(),)
        self.next()
        found = [self._target()]
        while self.peek() == "OR":
            self.next()
            found.append(self._target())
        self.must(")")
        return tuple(found)

    def ports(self) -> tuple[str, ...]:
        """PORT N, (PORT N AND PORT M), PORT all, TYPE N; what follows is of no matter here."""
        found = []
        while self._left:
            word = self.next().upper()
            if word == "PORT":
                found.append(self.next())
        return () if "all" in [port.lower() for port in found] else tuple(found)

    def _target(self) -> Target:
        kind = self.next().lower()
        if kind == "any":
            return Target("any")
        if kind == "all":
            self.must("VMS")
            return Target("vms")
        if kind not in ("tag", "vm", "ip", "subnet"):
            raise BadRule(f"unknown target '{kind}'")
        name, value = _plain(self.next()), None
        if kind == "tag" and self.peek() == "=":
            self.next()
            value = _plain(self.next())
        return Target(kind, name, value)


def _plain(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith('"') else word


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
