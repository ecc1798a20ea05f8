# SPDX-License-Identifier: MPL-2.0
"""One zone whose platform is made up, and whose reading is real: Reloads, ZoneReading, ZoneSources, the queue and the
cache.

Always: what the platform says of the zone changes here only, and each change is a number that is never used again, so
        that what is served tells how old it is;
        a source answers in its Manner: nothing that is held is answered by itself;
        a promise that is not kept is a sentence in `broken`; nothing is raised, as that would end the daemon's part.
Not here: time (madeuptime.py), and what is promised of what is shown (zonepromises.py)."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Optional

import gevent
from gevent.event import Event

from support.madeuptime import Clock
from support.recording_log import RecordingLog
from vminfod.freshness.applying import Applying
from vminfod.freshness.datasetevents import DatasetEvents
from vminfod.freshness.reloads import Reloads
from vminfod.freshness.retrying import Retrying
from vminfod.freshness.sysinfo import Sysinfo
from vminfod.freshness.threads import Threads
from vminfod.queue import Queue, Task
from vminfod.serving.cache import Cache
from vminfod.serving.cause import Cause
from vminfod.serving.holds import Holds, Transaction
from vminfod.serving.hub import Hub
from vmload.datasets import FIELDS, Datasets
from vmload.filereads import FileReads
from vmload.listings import Listings
from vmload.loader import assemble
from vmload.loaderror import LoadError, XmlGone
from vmload.records import FileRecords, LastExited, Zone, ZoneInfo, ZoneRecords
from vmload.runner import DIRECTLY
from vmload.zonesources import Source, ZoneSources

NAME = "z"
PATHS = ("/zones/a", "/zones/b")
DISKS = ("zones/disk0", "zones/disk1")
GIB = 1 << 30

TURNS = 60  # of the loop, in which all comes to rest that needs neither time nor an answer
TICK, TICKS_MOST = 0.001, 20  # seconds; so many in a row are a loop that never rests


@dataclass
class Truth:
    """What the platform says of the zone. `zone`: None if there is none; `xml`: its alias and disks, None if it is not
    there. Numbers are of changes."""

    zone: Optional[Zone]
    xml: Optional[tuple[int, tuple[str, ...]]]
    files: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PATHS, 0))
    exits: dict[str, int] = field(default_factory=dict)
    statistics: int = 0
    datasets: dict[str, int] = field(default_factory=dict)

    def xml_record(self) -> dict[str, Any]:
        if self.xml is None:
            raise XmlGone("no XML")
        alias, disks = self.xml
        paths = [{"path": f"/dev/zvol/rdsk/{name}"} for name in disks]
        return {"brand": "joyent", "zonename": NAME, "nics": [], "alias": f"a{alias}", "disks": paths, "datasets": []}

    def zoneinfo(self, zone: Zone) -> Optional[ZoneInfo]:
        """The kernel knows what is in it, by its zoneid."""
        if self.zone is None or zone.zoneid is None or zone.zoneid != self.zone.zoneid:
            return None
        return ZoneInfo(init_pid=str(zone.zoneid), init_restarts=str(self.statistics))

    def listing(self, name: str) -> Datasets:
        number = self.datasets.get(name, 0)
        path = f"/dev/zvol/rdsk/{name}" if name in DISKS else f"/{name}"
        row = {**dict.fromkeys(FIELDS, "-"), "mountpoint": path, "name": name, "compression": "off"}
        row |= {"quota": number * GIB, "volsize": number << 20, "creation": 0}
        return Datasets({name: row}, {path: name})

    def versions(self) -> dict[Source, int]:
        """The number of the last change of each source, as far as a VM can show it."""
        assert self.zone is not None and self.xml is not None
        return {
            Source.ZONEADM: int(self.zone.zonedid or 0),
            Source.XML: self.xml[0],
            Source.FILES: self.files[self.zone.zonepath],
            Source.KSTAT: self.statistics if self.zone.zoneid is not None else 0,
            Source.ZFS: self.datasets.get(self.zone.zonepath[1:], 0),
        }

    def vm(self) -> Optional[dict[str, Any]]:
        """What is to be served of it."""
        records = self.records()
        return None if records is None else assemble(records, None)

    def records(self) -> Optional[ZoneRecords]:
        """As a load of all gives them; None if it is no VM."""
        if self.zone is None or self.xml is None:
            return None
        number = self.files[self.zone.zonepath]
        exits = self.exits.get(self.zone.zonepath, 0)
        files = FileRecords(
            xml=self.xml_record(),
            xml_modified=self.xml[0],
            last_exited=LastExited(exits, f"t{exits}"),
            config=config_of(number),
            others_modified=max(number, exits),
        )
        names = [self.zone.zonepath[1:], *self.xml[1]]
        return ZoneRecords(self.zone, files, self.zoneinfo(self.zone), {name: self.listing(name) for name in names})


def config_of(number: int) -> Any:
    return {"customer_metadata": {}, "internal_metadata": {}, "routes": {}, "tags": {"n": number}}


def shown_versions(vm: dict[str, Any]) -> dict[Source, int]:
    """As Truth.versions(), of what is served."""
    return {
        Source.ZONEADM: vm["zonedid"],
        Source.XML: int(vm["alias"][1:]),
        Source.FILES: vm["tags"]["n"],
        Source.KSTAT: vm.get("init_restarts", 0),
        Source.ZFS: vm.get("quota", 0),
    }


@dataclass
class Manner:
    """How a source answers: after so many `turns` of the loop, or when `gate` is opened; with what holds when it was
    asked if it looks `early`, else when it answers; with `error`."""

    turns: int = 0
    early: bool = False
    error: Optional[type[LoadError]] = None
    gate: Optional[Event] = None


@dataclass
class Asking:
    """One question to a source. Moments are those of the clock, and numbers those of changes."""

    source: Source
    began: float
    number: int
    ended: Optional[float] = None
    has_failed: bool = False


class FakeReader:
    """The files of the node."""

    def __init__(self, truth: Callable[[], Truth]):
        self._truth = truth

    def zone_xml(self, _zonename: str, before: FileRecords) -> tuple[dict[str, Any], int]:
        truth, xml = self._truth(), self._truth().xml_record()
        assert truth.xml is not None
        return before.xml if before.xml is not None and before.xml_hash == hash(truth.xml) else xml, hash(truth.xml)

    def xml_modified(self, _zonename: str) -> Optional[int]:
        xml = self._truth().xml
        return None if xml is None else xml[0]

    def receive_payload(self, _zone: Zone) -> None:
        return None

    @contextlib.contextmanager
    def visit(self, zone: Zone) -> Iterator[str]:
        yield zone.zonepath

    def last_exited(self, _zone: Zone, below: str) -> LastExited:
        number = self._truth().exits.get(below, 0)
        return LastExited(number, f"t{number}")

    def config(self, _zone: Zone, below: str) -> Any:
        return config_of(self._truth().files[below])

    def others_modified(self, _zone: Zone, below: str) -> int:
        return max(self._truth().files[below], self._truth().exits.get(below, 0))


class FakeCommands:
    """The commands of the node."""

    def __init__(self, truth: Callable[[], Truth]):
        self._truth = truth

    def zone(self, _key: str, _runner: object) -> Optional[Zone]:
        return self._truth().zone

    def zoneinfo(self, zone: Zone, _runner: object) -> Optional[ZoneInfo]:
        return self._truth().zoneinfo(zone)

    def datasets(self, parent: str, _depth: int, _runner: object, _held: Optional[str] = None) -> Datasets:
        return self._truth().listing(parent)

    def mountpoints(self, _runner: object) -> Datasets:
        return Datasets()


class OneZone:
    """See the head of the module. `broken`: promises that were not kept, in words."""

    def __init__(self, clock: Clock):
        self.clock, self.log = clock, RecordingLog()
        self.numbers = itertools.count(1)
        self.number = 0
        self.truth = Truth(None, None)
        self.manners = {source: Manner() for source in Source}
        self.askings: list[Asking] = []
        self.marked: dict[Source, list[tuple[int, int]]] = {source: [] for source in Source}  # (when, what) numbers
        self.events: list[Callable[[], None]] = []  # of changes, which the daemon has not heard of yet
        self.broken: list[str] = []
        self.history: list[tuple[str, int]] = []  # zonepath or dataset, number of a change of what is there
        self.transaction: Optional[Transaction] = None
        self.again: list[set[Source]] = []  # what was read well after it had been late or had failed
        self.waiting: list[gevent.Greenlet] = []
        self._build()

    def _build(self) -> None:
        zone = self

        class Sources(ZoneSources):
            def find(self, key: str, runner: Any = DIRECTLY) -> Zone:
                found: Zone = zone.answer(Source.ZONEADM, lambda: super(Sources, self).find(key, DIRECTLY))
                return found

            def ask(self, source: Source, asked: Any, runner: Any) -> Any:
                return zone.answer(source, lambda: super(Sources, self).ask(source, asked, DIRECTLY))

        commands: Any = FakeCommands(lambda: self.truth)
        reader: Any = FakeReader(lambda: self.truth)
        system: Any = SimpleNamespace(identity=lambda path: None)
        sources = Sources(system, reader, commands, Listings(commands))
        self.queue, self.holds = Queue(log=self.log, workers=1, dedup=True), Holds()
        self.cache = Cache(Hub(self.log), self.log)
        watches: Any = SimpleNamespace(  # nothing is ever replaced
            look=lambda *_: None,
            drop=lambda _: None,
            answers_again=lambda zone, sources=frozenset({Source.XML, Source.FILES}): self.again.append(set(sources)),
        )
        self.retrying = Retrying(self.log)
        self.applying = Applying(self.cache, self.holds, Sysinfo(), watches, self.retrying)
        self.dataset_events = DatasetEvents()
        self.reloads = Reloads(
            sources,
            self.cache,
            self.holds,
            self.applying,
            self.retrying,
            self.dataset_events,
            self.queue,
            watches,
            Threads(FileReads(20)),
            self.log,
        )
        self._watch_the_cache()

    def _watch_the_cache(self) -> None:
        put, drop = self.cache.put, self.cache.drop

        def checked_put(zonename: str, records: ZoneRecords, vm: dict[str, Any], cause: Optional[Cause]) -> Any:
            self.broken += self.promises_of(vm, cause)
            return put(zonename, records, vm, cause)

        def checked_drop(zonename: str, cause: Cause) -> Any:
            self.broken += self.promises_of(None, cause)
            return drop(zonename, cause)

        self.cache.put, self.cache.drop = checked_put, checked_drop  # type: ignore[method-assign]

    def promises_of(self, vm: Optional[dict[str, Any]], cause: Optional[Cause]) -> list[str]:
        """Those that break when `vm` is shown from now on, in words; None: the zone is dropped."""
        return []

    # The platform.

    def answer(self, source: Source, read: Callable[[], Any]) -> Any:
        """What the source says, in its manner."""
        manner = self.manners[source]
        under_way = [asking for asking in self.askings if asking.source is source and asking.ended is None]
        if len(under_way) > (1 if source is Source.ZFS else 0):
            self.broken.append(f"{source.name} is asked twice at the same time")
        asking = Asking(source, self.clock.now, self.number)
        self.askings.append(asking)
        asking.has_failed = True
        try:
            outcome = _outcome(read) if manner.early else None
            if manner.gate is not None:
                manner.gate.wait()
            for _ in range(manner.turns):
                gevent.sleep(0)
            if manner.error is not None:
                raise manner.error(f"{source.name} fails")
            value, error = outcome or _outcome(read)
            if error is not None:
                raise error
            asking.has_failed = False
            return value
        finally:
            asking.ended = self.clock.now

    def behaves(self, source: Source, manner: Manner) -> None:
        """Questions that are held now are answered, and the next ones so."""
        old, self.manners[source] = self.manners[source], manner
        if old.gate is not None:
            old.gate.set()

    def change(self, source: Source, parts: frozenset[str], do: Callable[[int], None]) -> None:
        """Something changes, of which an event is to be told."""
        self.number = number = next(self.numbers)
        do(number)

        def tell() -> None:
            self.marked[source].append((next(self.numbers), number))
            self.number = self.marked[source][-1][0]
            self.reloads.mark(NAME, parts, cause=Cause("zone"))

        self.events.append(tell)

    def change_dataset(self, name: str) -> None:
        self.number = number = next(self.numbers)
        self.truth.datasets[name] = number
        self.history.append((name, number))

        def tell() -> None:
            self.dataset_events.add(name, Cause("zfs"))
            if self.cache.zones_using(name):
                self.marked[Source.ZFS].append((next(self.numbers), number))
                self.number = self.marked[Source.ZFS][-1][0]
                self.reloads.mark(NAME, (), {name}, cause=Cause("zfs"))

        self.events.append(tell)

    def tell(self, count: int) -> None:
        """The daemon hears of the next changes, each by a task on the queue as in life."""
        for _ in range(min(count, len(self.events))):
            event = self.events.pop(0)
            self.queue.enqueue(Task(f"event {next(self.numbers)}", lambda _extras, event=event: event()))

    def served(self) -> Optional[dict[str, Any]]:
        """The VM as it is served; None if it is not."""
        entry = self.cache.served(NAME)
        return None if entry is None else entry.vm

    def settle(self) -> None:
        """Let everything run that can without an answer that is held, and without time."""
        for _ in range(TURNS):
            gevent.sleep(0)
        for _ in range(TICKS_MOST):
            if not self.clock.due_within(TICK):
                return
            self.clock.advance(TICK)
            for _ in range(TURNS):
                gevent.sleep(0)
        self.broken.append("it never rests")


def _outcome(read: Callable[[], Any]) -> tuple[Any, Optional[LoadError]]:
    try:
        return read(), None
    except LoadError as error:
        return None, error
