# SPDX-License-Identifier: MPL-2.0
"""Which file is watched for which zone, and what a change of it makes stale (docs/platform.md, "Files of a VM").

Always: exactly the five files of each zone that was set() and not dropped, the two folders that four of them appear in,
        the sysinfo file and the folder of the zones' XML are wanted from the file watcher. Most VMs lack some of the
        files, and the watcher leaves these alone until their folder reports something;
        paths are the zone's real ones, from its zonepath (S5), and are matched whole;
        a watch hangs on the file that was there, not on its name: when a folder is replaced nothing happens to the
        files in it. So it is remembered which file each was, and another is watched anew when it is about to be read,
        or when somebody looks (replacedfiles.py);
        nothing here waits: the watcher sets watches in its own time, and reports when it could not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Optional, Protocol

from vminfod.freshness.turns import Turns
from vminfod.log import Log
from vmload import parts as part
from vmload.reader import CONFIG, SYSINFO, ZONES_FOLDER, config_paths, lastexited_path, zone_xml_path
from vmload.records import Zone
from vmload.system import Identity
from vmload.zonesources import Look, Source

_OF_XML = frozenset({part.ZONEXML})
_OF_CONFIG = frozenset({part.JSON})
_OF_LASTEXITED = frozenset({part.LAST_EXITED})

# Seconds that the reading of a new zone waits for its watches to stand. A file watcher that hangs must not hold up the
# event (H2): what stands later is read once more then, for what changed in between.
_PATIENCE = 1.0


_SOURCES = (Source.XML, Source.FILES)  # those that read files
_OF_NO_ZONE = (SYSINFO, ZONES_FOLDER)
_ENDED: Identity = (-1, -1)  # no file is that: what there is now is another, and so is nothing

Seen = Mapping[str, Optional[Identity]]  # path -> which file or folder is there; None: none


class FileWatcher(Protocol):
    """The part of fswatcher.py that is used here."""

    def watch(self, path: str) -> None: ...

    def unwatch(self, path: str) -> None: ...

    def wait_answered(self, timeout: float) -> bool: ...

    def report_late(self, paths: Iterable[str]) -> None: ...

    def answers_again(self, path: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a watched path is: `parts` of the zone `zonename` come from it. `is_xml`: its end is the zone's end."""

    zonename: str
    parts: frozenset[str]
    is_xml: bool

    @property
    def source(self) -> Source:
        """Who reads it."""
        return Source.XML if self.is_xml else Source.FILES


class FileWatches:
    """See the head of the module."""

    def __init__(self, watcher: FileWatcher, log: Log):
        self._watcher = watcher
        self._log = log
        self._meanings: dict[str, Meaning] = {}
        self._zones: dict[str, str] = {}  # zone name -> zonepath; what is watched for it is in _meanings, nothing else
        self._watched: dict[str, set[Source]] = {}  # zone name, of just the same -> for which sources
        # Watched path -> what was there shortly before the watch was asked for. Not in here: not known.
        self._identities: dict[str, Optional[Identity]] = {}

    def start(self) -> None:
        """Watch what is no zone's: the sysinfo file, and the folder with the index of zones."""
        for path in _OF_NO_ZONE:
            self._watcher.watch(path)

    def covers(self, zone: Zone, sources: Collection[Source] = _SOURCES) -> bool:
        """Whether the files of `zone` that these sources read are watched, where they are now."""
        return self._zones.get(zone.zonename) == zone.zonepath and self._watched[zone.zonename].issuperset(sources)

    def set(self, zone: Zone, seen: Seen, sources: Collection[Source] = _SOURCES) -> bool:
        """Watch the files of `zone` that these sources read from now on, of which those were `seen` a moment ago. New
        watches are given a moment to stand before what they watch is read (S9). Whether any is new, or of another file
        than was watched so far: what was read before that is not followed."""
        if not self.covers(zone, sources):
            self.want(zone, seen, sources)
            self._let_stand(watched_for(zone))
            return True
        others = self._replaced(seen)
        self._identities.update(seen)
        if others:
            self._log.debug("watching anew what was replaced", zonename=zone.zonename, paths=others)
            for path in others:
                self._rewatch(path)
            self._let_stand(watched_for(zone))
        return bool(others)

    def others(self, seen: Seen) -> list[str]:
        """Those watched paths at which something else was `seen` a moment ago than their watch was set on, or of which
        that is not known."""
        replaced = set(self._replaced(seen))
        wanted = (path for path in seen if self._is_wanted(path))
        return [path for path in wanted if path not in self._identities or path in replaced]

    def watch_anew(self, seen: Seen) -> None:
        """Watch what is at these paths now, as those may have been replaced, and give the watches a moment to stand.
        What stands later is reported then, and so is what is missing when it appears."""
        turns = Turns()
        for path, now in seen.items():
            if self._is_wanted(path):  # no turn of others between this and the watch
                self._identities[path] = now
                self._rewatch(path)
                if now is None:  # it may come before the watch stands, and nobody reads it now
                    self._watcher.report_late([path])
            turns.next()
        self._let_stand(seen)

    def _is_wanted(self, path: str) -> bool:
        return path in self._meanings or path in _OF_NO_ZONE

    def _rewatch(self, path: str) -> None:
        self._watcher.unwatch(path)
        self._watcher.watch(path)

    def _let_stand(self, paths: Iterable[str]) -> None:
        if not self._watcher.wait_answered(_PATIENCE):
            self._watcher.report_late(paths)

    def ended(self, path: str) -> None:
        """What was at `path` is gone or replaced: the watcher watches what is there now by itself, but of what is in a
        folder it still watches the old."""
        self._identities.pop(path, None)
        self._lose_what_is_in(path)

    def _replaced(self, seen: Seen) -> list[str]:
        """Those at which something else was `seen` than is known. In a folder that is another all is: also what came
        there last, and was not looked at before the folder was replaced, so that its watch hangs on that in the old."""
        others = self._unlike(seen)
        for path in others:
            self._lose_what_is_in(path)
        return self._unlike(seen) if others else others

    def _unlike(self, seen: Seen) -> list[str]:
        return [path for path, now in seen.items() if self._identities.get(path, now) != now]

    def _lose_what_is_in(self, path: str) -> None:
        for below in self._in_folder(path):
            self._identities[below] = _ENDED

    def _in_folder(self, path: str) -> list[str]:
        if path == ZONES_FOLDER:
            return [xml for xml, meaning in self._meanings.items() if meaning.is_xml]
        meaning = self._meanings.get(path)
        if meaning is None or meaning.is_xml:
            return []
        of_zone = _meanings(meaning.zonename, self._zones[meaning.zonename])
        return [below for below in of_zone if below.startswith(f"{path}/") and below in self._meanings]

    def answers_again(self, zone: Zone, sources: Collection[Source] = _SOURCES) -> None:
        """The files of `zone` that these sources read could not be read for a while, or took long, and could be now:
        the watcher may have given up some of them."""
        if Source.XML in sources:
            self._watcher.answers_again(zone_xml_path(zone.zonename))
        if Source.FILES in sources:
            self._watcher.answers_again(zone.zonepath)

    def wait_set(self, within: float) -> bool:
        """Wait until what can be watched is watched; False if that is not so within so many seconds."""
        return self._watcher.wait_answered(within)

    def want(self, zone: Zone, seen: Seen, sources: Collection[Source] = _SOURCES) -> None:
        """As set(), but without the wait; nothing if it is watched already."""
        if self.covers(zone, sources):
            return
        if self._zones.get(zone.zonename) != zone.zonepath:
            self.drop(zone.zonename)
            self._zones[zone.zonename], self._watched[zone.zonename] = zone.zonepath, set()
        new = set(sources) - self._watched[zone.zonename]
        self._watched[zone.zonename] |= new
        for path, meaning in _meanings(zone.zonename, zone.zonepath).items():
            if meaning.source not in new:
                continue
            self._meanings[path] = meaning
            if path in seen:
                self._identities[path] = seen[path]
            self._watcher.watch(path)

    def look(self, source: Source, zone: Zone) -> Optional[Look]:
        """How the files of a source are looked at when they are read: they are watched before, so that a change since
        is reported. What comes while a folder is watched anew is seen by one look more."""
        paths = watched_for(zone, {source})
        return Look(paths, lambda seen: not self.set(zone, seen, {source})) if paths else None

    def drop(self, zonename: str) -> None:
        """Watch the zone's files no more. Nothing if they were not watched."""
        zonepath = self._zones.pop(zonename, None)
        if zonepath is None:
            return
        del self._watched[zonename]
        for path, meaning in _meanings(zonename, zonepath).items():
            if self._meanings.get(path) == meaning:
                del self._meanings[path]
                self._identities.pop(path, None)
                self._watcher.unwatch(path)

    def zones(self) -> list[str]:
        """The zones whose files are watched."""
        return list(self._zones)

    def meaning(self, path: str) -> Optional[Meaning]:
        """What the watched file `path` is; None if it is no zone's (any more)."""
        return self._meanings.get(path)


def watched_for(zone: Zone, sources: Collection[Source] = _SOURCES) -> list[str]:
    """The paths that are watched for these sources of a zone."""
    found = [zone_xml_path(zone.zonename)] if Source.XML in sources else []
    if Source.FILES in sources:
        found += [lastexited_path(zone.zonepath), zone.zonepath, *config_paths(zone.zonepath).values()]
        found.append(f"{zone.zonepath}/{CONFIG}")
    return found


def _meanings(zonename: str, zonepath: str) -> dict[str, Meaning]:
    found = {zone_xml_path(zonename): Meaning(zonename, _OF_XML, True)}
    # A folder before what is in it: the watcher does not try a missing file again and again whose folder it watches.
    found |= dict.fromkeys((zonepath, lastexited_path(zonepath)), Meaning(zonename, _OF_LASTEXITED, False))
    of_config = Meaning(zonename, _OF_CONFIG, False)
    found |= dict.fromkeys((f"{zonepath}/{CONFIG}", *config_paths(zonepath).values()), of_config)
    return found
