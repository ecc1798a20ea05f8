# SPDX-License-Identifier: MPL-2.0
"""The sources of one VM: what each is asked for, and of what its answer depends (docs/vm-object.md, "From records to an
object").

Always: each is asked by itself, and waits for nothing but itself;
        an answer holds as long as what it depends on is what it was asked with: needs() says what that is, and whoever
        asks sees to it that what no longer holds is asked for again;
        what an error takes away is that answer, and nothing that is known from before.
Not here: which are asked, when, and how long each may take (loader.py, or the daemon)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from enum import Enum
from functools import partial
from typing import Any, NamedTuple, Optional, Union

from vmload import parts as part
from vmload import vmobj
from vmload.commands import Commands
from vmload.listings import Listings, to_list
from vmload.loaderror import CommandFailed, LoadError, NoVm, ZoneGone
from vmload.reader import INDEX, Reader
from vmload.records import FileRecords, Zone, ZoneRecords
from vmload.runner import DIRECTLY, Runner
from vmload.system import Identity, System
from vmload.used import used

Identities = dict[str, Optional[Identity]]  # path -> what is there
Put = Callable[[ZoneRecords], ZoneRecords]  # an answer, put into records

_LOOKS = 5  # at the files of a zone, until one is good


class Source(Enum):
    """What a VM is known from, in the order in which they need each other. The value: which parts come from it."""

    ZONEADM = frozenset({part.ZONEADM})
    XML = frozenset({part.ZONEXML})
    FILES = frozenset({part.LAST_EXITED, part.JSON})  # those below the zonepath
    KSTAT = frozenset({part.ZONEINFO})
    ZFS = frozenset({part.DATASETS})

    __hash__ = object.__hash__  # Enum's own is written in Python, and these are keys of all that is looked up


SOURCES = tuple(Source)  # Enum's own iteration, and its `value`, are written in Python as well
_SOURCE_OF = {name: source for source in SOURCES for name in source.value}  # part -> who tells it


class Look(NamedTuple):
    """A look at which file or folder is at each of the `paths`, right before the files of a source are read. `is_good`:
    whether what was read then may stay; else all of them are read again, after another look."""

    paths: Collection[str]
    is_good: Callable[[Identities], bool]


class Asked(NamedTuple):
    """What a source is asked for. `known`: the records that its answer goes into. `parts` of it are read anew, and what
    zfs says of `datasets` (names that the zone uses, or that lie above or below one).

    `before`: the last records in which its own answer fits all else; None if nothing of it is known. What of that still
    holds is not read again; of zfs, without parts, only what is missing there is."""

    known: ZoneRecords
    before: Optional[ZoneRecords] = None
    parts: Collection[str] = part.ALL
    datasets: Collection[str] = frozenset()
    look: Optional[Look] = None


def sources_of(parts: Collection[str], datasets: Collection[str], old: Optional[ZoneRecords]) -> set[Source]:
    """The sources of these `parts`, and of what zfs says of `datasets`. While a VM is being received its payload, which
    nobody watches, is read with whatever is read."""
    found = {_SOURCE_OF[name] for name in parts}
    if datasets:
        found.add(Source.ZFS)
    if old is not None and vmobj.is_receiving(old.zone, old.files.xml):
        found.add(Source.XML)
    return found


def nothing_of(zone: Zone) -> ZoneRecords:
    """What is known of a zone of which only zoneadm has said something. Raises LoadError if that is not enough."""
    vmobj.check(zone)
    return ZoneRecords(zone, FileRecords())


def needs(source: Source, records: ZoneRecords) -> object:
    """What the answer of `source` depends on."""
    zone = records.zone
    if source is Source.XML:
        return zone.zonename
    if source is Source.FILES:
        return zone.zonepath, zone.state == "incomplete"
    if source is Source.KSTAT:
        return zone.zoneid, zone.uuid
    return (zone.zonepath, used(zone, records.files)) if source is Source.ZFS else None


def holds(source: Source, before: ZoneRecords, now: ZoneRecords) -> bool:
    """Whether an answer of `source` to what was known `before` is one to what is known `now`."""
    if before.zone is now.zone:
        old, new = before.files, now.files
        if source is not Source.ZFS or (old.xml is new.xml and old.receive_payload is new.receive_payload):
            return True  # found without making what needs() compares: so it is nearly always
    return needs(source, before) == needs(source, now)


class ZoneSources:
    """The sources of one node's VMs. Safe to use from several threads at once."""

    def __init__(self, system: System, reader: Reader, commands: Commands, listings: Listings):
        self._system = system
        self._reader = reader
        self._commands = commands
        self._listings = listings

    def find(self, key: str, runner: Runner = DIRECTLY) -> Zone:
        """The VM whose uuid, or else whose zone name, is `key`. Raises ZoneGone if there is none (NoVm if
        the zone is there), else LoadError.

        One that the index of zones names is not believed to be gone: zoneadm is asked again; then it is an error."""
        try:
            zone = self._commands.zone(key, runner)
        except ZoneGone:
            if not self._is_in_index(key, runner):
                raise
            zone = self._ask_again(key, runner)
        if zone is None:
            raise NoVm(f"VM {key} not found in zoneadm")
        return zone

    def _ask_again(self, key: str, runner: Runner) -> Optional[Zone]:
        try:
            return self._commands.zone(key, runner)
        except ZoneGone as gone:
            if not self._is_in_index(key, runner):
                raise
            raise CommandFailed(f"{gone}: but {INDEX} names it") from gone

    def _is_in_index(self, key: str, runner: Runner) -> bool:
        index = self.index(runner)
        return key in index or key in index.values()

    def index(self, runner: Runner) -> dict[str, Optional[str]]:
        """The zones in the platform's index, the global one aside, each with the VM's uuid; None: it is no VM. It names
        one before zoneadm is asked, and changes with each that comes, goes, or is installed. Raises LoadError."""
        return runner.files("etc", "the index of zones", self._reader.index)

    def ask(self, source: Source, asked: Asked, runner: Runner) -> Put:
        """The answer of any source but zoneadm, which find() asks. Raises LoadError."""
        if source is Source.KSTAT:
            info = self._commands.zoneinfo(asked.known.zone, runner)
            return lambda records: records._replace(zoneinfo=info)
        if source is Source.ZFS:
            return self._datasets(asked, runner)
        return self._read(source, asked, runner)

    def identities(self, paths: Iterable[str]) -> Identities:
        """Which file or folder is at each of the `paths` now; None for none. Blocks."""
        return {path: self._system.identity(path) for path in paths}

    def all_files(self, zone: Zone) -> FileRecords:
        """What all files of the zone say. Blocks. Raises LoadError."""
        asked = Asked(ZoneRecords(zone, FileRecords()))
        records = self._xml(asked, is_checked=False)(asked.known)
        return self._below(asked, is_checked=False)(records).files

    def _datasets(self, asked: Asked, runner: Runner) -> Put:
        zone, files, before = asked.known.zone, asked.known.files, asked.before
        is_old = before is None or part.DATASETS in asked.parts or before.zone.zonepath != zone.zonepath
        known = None if is_old else before
        wanted = to_list(zone, files, before, known, asked.datasets)
        datasets = self._listings.datasets(zone, wanted, known, runner)
        return lambda records: records._replace(datasets=datasets)

    def _read(self, source: Source, asked: Asked, runner: Runner) -> Put:
        pool, what = on_pool(source, asked.known.zone)
        read, look = self._xml if source is Source.XML else self._below, asked.look
        for _ in range(_LOOKS):
            seen, found = runner.files(pool, what, partial(self._look_and_read, read, asked))
            if look is None or look.is_good(seen):
                break
            asked = asked._replace(parts=part.OF_FILES)
        if isinstance(found, LoadError):
            raise found
        return found

    def _look_and_read(self, read: Callable[[Asked], Put], asked: Asked) -> tuple[Identities, Union[Put, LoadError]]:
        """In one step: a thread's turn costs more than either. In the thread."""
        seen = self.identities(asked.look.paths if asked.look is not None else ())
        try:
            return seen, read(asked)
        except LoadError as error:
            return seen, error

    def _xml(self, asked: Asked, *, is_checked: bool = True) -> Put:
        zone, reader = asked.known.zone, self._reader
        for _ in range(2):
            xml, made_of = reader.zone_xml(zone.zonename, asked.known.files)
            modified = reader.xml_modified(zone.zonename)
            # What was changed meanwhile would be shown beside an older time, which would follow as a change by itself.
            if not is_checked or reader.xml_modified(zone.zonename) == modified:
                break
        payload = reader.receive_payload(zone) if vmobj.is_receiving(zone, xml) else None
        said = {"xml": xml, "xml_hash": made_of, "xml_modified": modified, "receive_payload": payload}
        return lambda records: _with_files(records, **said)

    def _below(self, asked: Asked, *, is_checked: bool = True) -> Put:
        zone, files, reader = asked.known.zone, asked.known.files, self._reader
        is_news = asked.before is None or not holds(Source.FILES, asked.before, asked.known)
        parts = part.ALL if is_news else asked.parts
        for _ in range(2):
            with reader.visit(zone) as below:
                exited = reader.last_exited(zone, below) if part.LAST_EXITED in parts else files.last_exited
                config = reader.config(zone, below) if part.JSON in parts else files.config
                # Last, as what was read is not looked at again; what is changed meanwhile comes as an event.
                modified = reader.others_modified(zone, below)
            if not is_checked or self._others_modified(zone) == modified:
                break
        return lambda records: _with_files(records, last_exited=exited, config=config, others_modified=modified)

    def _others_modified(self, zone: Zone) -> Optional[int]:
        with self._reader.visit(zone) as below:
            return self._reader.others_modified(zone, below)


def _with_files(records: ZoneRecords, **values: Any) -> ZoneRecords:
    return records._replace(files=records.files._replace(**values))


def on_pool(source: Source, zone: Zone) -> tuple[str, str]:
    """The pool that the zone's files of this source are on, and how they are called in an error."""
    if source is Source.XML:
        return "etc", f"the XML of zone {zone.zonename}"
    return zone.zonepath[1:].partition("/")[0], f"the files of zone {zone.zonename}"
