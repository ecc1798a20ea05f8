# SPDX-License-Identifier: MPL-2.0
"""sysevent: subscribe, say that it stands, print a line an event until the tool is killed (docs/platform.md, "System
events")."""

import getopt
import json
from typing import Any, Callable, Optional

from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node
from mockcn.state.events import Event, Subscriber, iso_now

USAGE = """usage: sysevent [-hjr] [-c channel] [class [subclass ...]]
  -c <channel>  bind to the event channel named <channel>
  -h            print this message and exit
  -j            JSON output
  -r            print a line when subscribed and ready for events"""


class Request:
    """The words of one `sysevent`, and how it prints."""

    def __init__(self, words: list[str]) -> None:
        try:
            options, rest = getopt.getopt(words, "hjrc:")
        except getopt.GetoptError as err:
            raise CommandFailed(f"sysevent: {err}\n{USAGE}") from err
        given = dict(options)
        self.help = "-h" in given
        self.json = "-j" in given
        self.ready = "-r" in given
        self.channel: Optional[str] = given.get("-c")
        self.klass: Optional[str] = rest[0] if rest else None
        self.subclasses = frozenset(rest[1:])

    def wants(self, event: Event) -> bool:
        if event.channel != self.channel or (self.klass is not None and event.klass != self.klass):
            return False
        return self.channel is not None or not self.subclasses or event.subclass in self.subclasses

    def ready_line(self) -> bytes:
        now = iso_now()
        return _json({"date": now, "type": "ready"}) if self.json else f"[{now}] ready\n".encode()

    def line(self, event: Event) -> bytes:
        record: dict[str, Any] = {
            "date": iso_now(),
            "type": "event",
            "vendor": event.vendor,
            "publisher": event.publisher,
            "class": event.klass,
            "subclass": event.subclass,
            "pid": event.pid,
        }
        if event.data is not None:
            record["data"] = event.data
        if self.channel is not None:
            record["channel"] = self.channel
        if self.json:
            return _json(record)
        head = f"[{record['date']}] {event.vendor} {event.publisher} {event.klass} {event.subclass} pid={event.pid}"
        lines = [head, *(f"    {key} = {value}" for key, value in (event.data or {}).items())]
        return "\n".join(lines).encode() + b"\n"


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n"


def main(node: Node, words: list[str], output: Output, subscribed: Callable[[Subscriber], None]) -> int:
    """Runs until the subscriber, which `subscribed` is given, is closed."""
    request = Request(words)
    if request.help:
        output.line(USAGE)
        return 0
    subscriber = node.events.subscribe(request.wants, " ".join(words))
    subscribed(subscriber)
    try:
        if request.ready:
            output.write(request.ready_line())
        output.flush()
        while not subscriber.closed:
            what = subscriber.take(timeout=60)
            if what is not None:
                output.write(what if isinstance(what, bytes) else request.line(what))
                output.flush()
    finally:
        node.events.unsubscribe(subscriber)
    return 0
