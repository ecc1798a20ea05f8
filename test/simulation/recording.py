# SPDX-License-Identifier: MPL-2.0
"""What was seen of the daemon during one round of a simulation: streams, reads, promises, samples.

Always: times are time.monotonic() of this process, seconds; what is compared by time was taken on one clock;
        a record holds what came over the wire, as it came, and what was done to the node, as it was ordered; nothing
        in it was made by the product's code in this process, but what the client's mirror told.
A round ends when all is calm; the next begins with what each listener has then, so that memory stays bounded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

Mark = tuple[Any, Any]  # what two properties of a VM are, which only writers who hold it back change (holding.py)
Vms = dict[str, dict[str, Any]]  # by zone name, in the order in which they are served


@dataclass(frozen=True)
class Choice:
    """What a listener asked for; None: no such limit. As docs/http-api.md, "Choosing what you get"."""

    uuids: Optional[frozenset[str]] = None
    types: Optional[frozenset[str]] = None
    fields: Optional[frozenset[str]] = None

    @property
    def is_all(self) -> bool:
        return self == Choice()

    def query(self) -> str:
        chosen = {"uuid": self.uuids, "types": self.types, "fields": self.fields}
        return "&".join(f"{name}={','.join(sorted(values))}" for name, values in chosen.items() if values is not None)


@dataclass
class Segment:
    """One connection of a listener, from `ready` to its end. `since`: what it asked to resume from. `start`: the VMs at
    its first revision, None where the listener cannot know them. `refusal`: the body of an answer other than 200."""

    since: Optional[tuple[str, int]] = None
    status: int = 0
    epoch: str = ""
    first: int = 0  # the revision after which its events come
    ready_rev: int = 0
    start: Optional[Vms] = None
    unreadable: frozenset[str] = frozenset()
    refusal: dict[str, Any] = field(default_factory=dict)
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    ended: str = ""  # who ended it: "we", "daemon"; "" while it is open


@dataclass
class Chain:
    """All connections of one listener, in order."""

    choice: Choice
    segments: list[Segment] = field(default_factory=list)


@dataclass(frozen=True)
class Read:
    """One answer. `body`: parsed; of /vms a list. `unreadable`: the zones that the answer says it lacks."""

    began: float
    ended: float
    path: str
    status: int
    epoch: str
    rev: int
    body: Any
    unreadable: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Promise:
    """A write that was confirmed, or a fresh read that was answered: what every later read must say of the zone, None
    if it is no more; and the reads that came later, before anything else was done."""

    what: str
    zonename: str
    expected: Optional[dict[str, Any]]
    reads: tuple[Read, ...]


@dataclass(frozen=True)
class Sample:
    """What the daemon's process uses at one moment. Sizes in bytes. `calm`: nothing was going on."""

    calm: bool
    rss: int
    descriptors: int
    threads: int
    greenlets: Optional[int]
    children: int
    ring_events: int
    ring_bytes: int
    waiting_bytes: int
    backlog_bytes: int  # of the listener that has most
    allowed_bytes: int  # what one listener may have
    queued: int  # tasks that wait
    listeners: int
    rev: int


@dataclass
class Round:
    """Everything of one round. `mirrored`: the events that the client's mirror told its agent. `gone`: zone -> when its
    removal (or that of its XML) was begun, in this round or one before. `lasting`: zones that were served at the calm
    before. `meant`: zone -> the marks that it may show, since when: what its writers meant or left behind; a zone that
    is not in it had none. `final`: epoch and revision at the end."""

    chains: dict[str, Chain] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    mirrored: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    gone: dict[str, float] = field(default_factory=dict)
    lasting: frozenset[str] = frozenset()
    meant: dict[str, dict[Mark, float]] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)  # from what the node is, when all should have been right
    trouble: list[str] = field(default_factory=list)  # signs that the daemon did not live well
    final: Optional[tuple[str, int]] = None
