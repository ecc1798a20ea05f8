# SPDX-License-Identifier: MPL-2.0
"""System events of the mock node: who has subscribed to what, and what happens to an event on its way.

Always: an event is published after the change it reports, under the node's lock, so that a reader that sees the event
        and then asks a tool gets the state after it.
Always: each subscriber has its own queue of bounded length; a full one loses events without a sign, as the kernel's
        does (docs/platform.md, "ZFS history events").
Faults on the way (drop, duplicate, delay, reorder) are rules that match the next events, by count or by chance from a
seeded generator. Not here: the words of each event (zones.py, pools.py), the program's flags (commands/sysevent.py)."""

import collections
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

QUEUE_LENGTH = 20_000  # events a subscriber may lag behind. A burst of `destroy -r` on a big node fits
ZONE_CHANNEL = "com.sun:zones:status"


@dataclass(frozen=True)
class Event:
    """One system event. `data` None is an event without attributes; `channel` None is the system channel."""

    vendor: str
    publisher: str
    klass: str
    subclass: str
    pid: int
    data: Optional[dict[str, Any]]
    channel: Optional[str] = None


@dataclass
class Rule:
    """A fault for the next events whose text holds `match`: `times` of them (None: until cleared), with `chance`."""

    kind: str  # drop, duplicate, delay or reorder
    match: str
    times: Optional[int]
    chance: float
    seconds: float  # of a delay
    held: list[Event] = field(default_factory=list)  # of a reorder: waits for the next matching event


class Subscriber:
    """One running `sysevent`. Raw lines (for garbage) and events come out of `take()` in order."""

    def __init__(self, wants: Callable[[Event], bool], words: str) -> None:
        self.wants = wants
        self.words = words  # what it was asked for, as the tool's arguments
        self.queue: collections.deque[Any] = collections.deque()  # Event, or bytes to print as they are
        self.waiting = threading.Condition()
        self.closed = False
        self.lost = 0

    def put(self, what: Any) -> None:
        with self.waiting:
            if len(self.queue) >= QUEUE_LENGTH:
                self.lost += 1
                return
            self.queue.append(what)
            self.waiting.notify()

    def take(self, timeout: float) -> Optional[Any]:
        """The next event or raw line; None when nothing came within `timeout` seconds."""
        with self.waiting:
            if not self.queue and not self.closed:
                self.waiting.wait(timeout)
            return self.queue.popleft() if self.queue else None

    def close(self) -> None:
        with self.waiting:
            self.closed = True
            self.waiting.notify()


class EventBus:
    """Publishes events to subscribers, through the rules. Safe to use from several threads."""

    def __init__(self, seed: int) -> None:
        self._lock = threading.RLock()
        self._subscribers: list[Subscriber] = []
        self._rules: list[Rule] = []
        self._random = random.Random(seed)
        self.published = 0  # events that the platform made, dropped ones too
        self.dropped = 0

    def subscribe(self, wants: Callable[[Event], bool], words: str) -> Subscriber:
        subscriber = Subscriber(wants, words)
        with self._lock:
            self._subscribers.append(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        subscriber.close()
        with self._lock:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)

    def subscribers(self) -> list[Subscriber]:
        with self._lock:
            return list(self._subscribers)

    def publish(self, event: Event) -> None:
        """Send `event` to whom it concerns, unless a rule has something else in mind."""
        with self._lock:
            self.published += 1
            rule = self._rule_for(event)
            if rule is None:
                self._deliver(event)
            elif rule.kind == "drop":
                self.dropped += 1
            elif rule.kind == "duplicate":
                self._deliver(event)
                self._deliver(event)
            elif rule.kind == "delay":
                timer = threading.Timer(rule.seconds, self._deliver, [event])
                timer.daemon = True
                timer.start()
            elif rule.held:  # reorder: this one first, then the one that was kept back
                self._deliver(event)
                self._deliver(rule.held.pop())
            else:
                rule.held.append(event)
                timer = threading.Timer(rule.seconds, self._let_go, [rule])  # no successor came: not lost
                timer.daemon = True
                timer.start()

    def raw(self, line: bytes, match: str) -> int:
        """Print `line` as it is in the output of every subscriber whose arguments hold `match`; how many there were."""
        chosen = [subscriber for subscriber in self.subscribers() if match in subscriber.words]
        for subscriber in chosen:
            subscriber.put(line)
        return len(chosen)

    def add_rule(self, rule: Rule) -> None:
        with self._lock:
            self._rules.append(rule)

    def clear_rules(self) -> None:
        with self._lock:
            for rule in self._rules:
                self._let_go(rule)
            self._rules.clear()

    def _rule_for(self, event: Event) -> Optional[Rule]:
        text = None
        for rule in self._rules:
            if rule.times == 0:
                continue
            if rule.match:
                text = text or f"{event.klass} {event.subclass} {event.channel} {event.data}"
                if rule.match not in text:
                    continue
            if rule.chance < 1 and self._random.random() >= rule.chance:
                continue
            if rule.times is not None:
                rule.times -= 1
            return rule
        return None

    def _let_go(self, rule: Rule) -> None:
        with self._lock:
            while rule.held:
                self._deliver(rule.held.pop())

    def _deliver(self, event: Event) -> None:
        for subscriber in self.subscribers():
            if subscriber.wants(event):
                subscriber.put(event)


def iso_now() -> str:
    """The wall clock as the platform's tools write it: UTC, milliseconds, `Z`."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
