# SPDX-License-Identifier: MPL-2.0
"""The zones' kernel statistics through libkstat, without a process (docs/platform.md, "libkstat").

Always: memory that the library points to is read only after what says how much of it there is was found to be sound.
        Its structs are trusted once the global zone's statistics, which are always there, were read through them;
        a statistic's text is taken from within the block of data that it belongs to, or not at all;
        one thread uses the handle, and no pointer outlives the look that found it. A look that hangs costs no caller
        more than a moment;
        what cannot be known this way raises CannotTell: the command `kstat` is there for that.
Not here: which zone has which statistics in its VM object, and the command (reader.py)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, Optional, TypeVar

from jsvalues.numberrule import Number
from vmload.notes import Note, silent
from vmload.records import ZoneInfo
from vmload.worker import Worker

T = TypeVar("T")

PATH = "/lib/64/libkstat.so.1"

# Seconds to wait for a look, which takes less than a millisecond, or for all zones some tens of them. Past it that look
# hangs in the kernel, and until it ends the command is asked instead.
PATIENCE = 2.0
_TRIES = 5  # of a reading that ends with EAGAIN. The library itself waits in between

# Sizes past which what we read is no record of the platform: a node has some ten thousands of statistics, and a zone's
# take one or two kilobytes.
_LONGEST_CHAIN = 1_000_000
_LARGEST_DATA = 1 << 16  # bytes

_MODULE, _CLASS, _NAMED_TYPE = b"zones", b"zone_misc", 1
_NAME_LENGTH = 30  # bytes that the kernel keeps of a name
_STATISTICS = (b"zonename", b"boot_time", b"init_pid", b"init_restarts")


class CannotTell(Exception):
    """The library is not there, or what it says makes no sense: ask the command."""


class _Kstat(ctypes.Structure):
    """kstat_t, 64 bit."""

    next: Optional[int]
    module: bytes
    instance: int
    name: bytes
    type: int
    class_: bytes
    data: Optional[int]
    ndata: int
    data_size: int

    @property
    def is_of_a_zone(self) -> bool:
        return (self.module, self.class_, self.type) == (_MODULE, _CLASS, _NAMED_TYPE)

    _fields_ = [
        ("crtime", ctypes.c_int64),
        ("next", ctypes.c_void_p),
        ("kid", ctypes.c_int32),
        ("module", ctypes.c_char * 31),
        ("reserved", ctypes.c_uint8),
        ("instance", ctypes.c_int32),
        ("name", ctypes.c_char * 31),
        ("type", ctypes.c_uint8),
        ("class_", ctypes.c_char * 31),
        ("flags", ctypes.c_uint8),
        ("data", ctypes.c_void_p),
        ("ndata", ctypes.c_uint32),
        ("data_size", ctypes.c_size_t),
        ("snaptime", ctypes.c_int64),
        ("kernels", ctypes.c_void_p * 4),
    ]


_NAMED = struct.Struct("=31sB16s")  # kstat_named_t: name, type of the value, the value
_TEXT = struct.Struct("=QI")  # its value if that is a string: where it is, its length with the final zero
_NUMBERS = {1: struct.Struct("=i"), 2: struct.Struct("=I"), 3: struct.Struct("=q"), 4: struct.Struct("=Q")}
_CHARACTERS, _STRING = 0, 9


class KstatLibrary:
    """The statistics that the library at `path` gives; None: there is no library. Safe to use from several threads at
    once.

    It is loaded when it is first needed. One that is not there, or is not what it should be, is not tried again; what
    fails otherwise is tried again by the next look, with a new handle."""

    def __init__(self, path: Optional[str], note: Note = silent):
        self._path = path
        self._note = note
        self._lock = threading.Lock()  # held for a look, from before it begins until it ends
        self._worker: Optional[Worker] = None  # who looks
        self._hangs = False  # just while a look has been waited for in vain
        self._library: Optional[ctypes.CDLL] = None
        self._handle: Optional[int] = None  # a kstat_ctl_t whose structs were found to be as they should be
        # Why the library is of no use, for good.
        self._useless: Optional[str] = None if path is not None else "it is not there"
        self._complaint = ""  # the last one noted, if no look went well since

    @property
    def may_tell(self) -> bool:
        """Whether it is worth asking."""
        return self._useless is None and not self._hangs

    def zone(self, zoneid: Number, zonename: str) -> Optional[ZoneInfo]:
        """The statistics of one zone; None if the kernel has none for it. Raises CannotTell."""
        return self.some([(zoneid, zonename)])[0]

    def some(self, zones: Sequence[tuple[Number, str]]) -> list[Optional[ZoneInfo]]:
        """Those of the zones with these ids and names, likewise, in one look."""
        for zoneid, _ in zones:
            if not isinstance(zoneid, int) or not 0 <= zoneid < 1 << 31:
                raise CannotTell(f"no zone has the id {zoneid}")
        return self._ask(lambda library: [self._zone(library, zoneid, name) for zoneid, name in zones])

    def zones(self) -> dict[str, ZoneInfo]:
        """Those of all zones in the kernel, the global one among them, by zone name. Raises CannotTell."""
        return self._ask(self._zones)

    def _zone(self, library: ctypes.CDLL, zoneid: Number, zonename: str) -> Optional[ZoneInfo]:
        name = zonename.encode("utf-8", "surrogateescape")
        found = library.kstat_lookup(self._handle, _MODULE, zoneid, name[:_NAME_LENGTH])
        is_ours = bool(found) and _Kstat.from_address(found).is_of_a_zone
        statistics = self._read(library, found) if is_ours else None
        return _info(statistics) if statistics and statistics.get(b"zonename") == zonename else None

    def _zones(self, library: ctypes.CDLL) -> dict[str, ZoneInfo]:
        found = {}
        for statistics in [self._read(library, each) for each in self._chain(library)]:
            if statistics and statistics.get(b"zonename"):
                found[statistics[b"zonename"]] = _info(statistics)
        if "global" not in found:
            raise CannotTell("there are no statistics of the global zone")
        return found

    def _ask(self, look: Callable[[ctypes.CDLL], T]) -> T:
        """What `look` finds, in another thread: nothing in the library has a time limit. Raises CannotTell."""
        if self._useless is not None:
            raise CannotTell(self._useless)
        if self._hangs or not self._lock.acquire(timeout=PATIENCE):
            raise CannotTell("another look at it hangs")
        outcome: Future[T] = Future()
        try:
            if self._worker is None or not self._worker.is_alive:
                self._worker = Worker("kstat")
        except RuntimeError as error:
            self._lock.release()
            raise CannotTell(f"no thread for it: {error}") from error
        self._worker.run(lambda: self._look(look, outcome))
        try:
            return outcome.result(PATIENCE)
        except NotYet as error:
            self._hangs = True
            if outcome.done():  # it has ended in this moment, and may have said so before
                self._hangs = False
            self._complain("it hangs")
            raise CannotTell("it hangs") from error

    def _look(self, look: Callable[[ctypes.CDLL], T], outcome: Future[T]) -> None:
        """In the thread, for whom the lock is held: the look, with the handle open and up to date."""
        try:
            found = look(self._ready())
            self._complaint = ""
            outcome.set_result(found)
        except CannotTell as error:
            self._drop_handle()
            self._complain(str(error))
            outcome.set_exception(error)
        except Exception as error:  # noqa: BLE001 raised again where the outcome is wanted
            outcome.set_exception(error)
        finally:
            self._hangs = False
            self._lock.release()

    def _ready(self) -> ctypes.CDLL:
        """The library, its handle open and up to date. Raises CannotTell."""
        library = self._library = self._library or self._load()
        if self._handle is None:
            self._open(library)
        if library.kstat_chain_update(self._handle) == -1:
            raise CannotTell(f"kstat_chain_update failed: {_reason()}")
        return library

    def _complain(self, reason: str) -> None:
        """Log `reason`, unless that was done already. That there is no library is no fault."""
        if reason != self._complaint and self._path is not None:
            self._complaint = reason
            self._note("warn", f"{self._path}: {reason}; the command kstat is used instead")

    def _load(self) -> ctypes.CDLL:
        try:
            if ctypes.sizeof(ctypes.c_void_p) != 8:
                raise OSError("it is for programs of 64 bit")
            library = ctypes.CDLL(self._path, use_errno=True)
            for name, result, arguments in _FUNCTIONS:
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            self._useless = f"cannot be used: {error}"
            raise CannotTell(self._useless) from error
        return library

    def _open(self, library: ctypes.CDLL) -> None:
        """Get a handle, and see whether the structs behind it are as we know them."""
        self._handle = library.kstat_open()
        if not self._handle:
            self._handle = None
            raise CannotTell(f"kstat_open failed: {_reason()}")
        found = library.kstat_lookup(self._handle, _MODULE, 0, b"global")
        if not found:
            raise CannotTell("there are no statistics of the global zone")
        kstat = _Kstat.from_address(found)
        if (kstat.instance, kstat.name) != (0, b"global") or not kstat.is_of_a_zone:
            self._useless = "its structs are not those of the platforms that we know"
            raise CannotTell(self._useless)

    def _drop_handle(self) -> None:
        if self._library is not None and self._handle is not None:
            self._library.kstat_close(self._handle)
        self._handle = None

    def _chain(self, library: ctypes.CDLL) -> Iterator[int]:
        """Where the zones' kstats are. Raises CannotTell."""
        at = library.kstat_lookup(self._handle, None, -1, None)  # any: the first
        for _ in range(_LONGEST_CHAIN):
            if not at:
                return
            kstat = _Kstat.from_address(at)
            if kstat.is_of_a_zone:
                yield at
            at = kstat.next
        raise CannotTell("the chain of statistics does not end")

    def _read(self, library: ctypes.CDLL, at: int) -> Optional[dict[bytes, str]]:
        """What the kernel says now in the kstat at `at`; None if it has gone meanwhile. Raises CannotTell."""
        for _ in range(_TRIES):
            ctypes.set_errno(0)
            if library.kstat_read(self._handle, at, None) != -1:
                return _statistics(_Kstat.from_address(at))
            if ctypes.get_errno() != errno.EAGAIN:
                break
        if ctypes.get_errno() == errno.ENXIO:
            return None
        raise CannotTell(f"kstat_read failed: {_reason()}")


_FUNCTIONS: list[tuple[str, Any, list[Any]]] = [
    ("kstat_open", ctypes.c_void_p, []),
    ("kstat_close", ctypes.c_int, [ctypes.c_void_p]),
    ("kstat_chain_update", ctypes.c_int32, [ctypes.c_void_p]),
    ("kstat_lookup", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p]),
    ("kstat_read", ctypes.c_int32, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]),
]


def _reason() -> str:
    return os.strerror(ctypes.get_errno())


def _statistics(kstat: _Kstat) -> dict[bytes, str]:
    """Those of _STATISTICS that are there, as `kstat -p` prints them. Raises CannotTell."""
    if kstat.data is None:
        return {}  # the kernel had nothing more to say of it
    if kstat.data_size > _LARGEST_DATA or kstat.ndata * _NAMED.size > kstat.data_size:
        raise CannotTell(f"a zone's statistics cannot be {kstat.ndata} in {kstat.data_size} bytes")
    data = ctypes.string_at(kstat.data, kstat.data_size)
    found = {}
    for name, kind, value in _NAMED.iter_unpack(data[: kstat.ndata * _NAMED.size]):
        name = name.partition(b"\0")[0]
        if name in _STATISTICS:
            if kind in _NUMBERS:
                found[name] = str(_NUMBERS[kind].unpack_from(value)[0])
            elif kind in (_CHARACTERS, _STRING):
                text = value if kind == _CHARACTERS else _text(value, data, kstat.data)
                found[name] = text.partition(b"\0")[0].decode("utf-8", "replace")
    return found


def _text(value: bytes, data: bytes, start: int) -> bytes:
    """The text that a statistic's `value` points to, which lies in the `data` at `start`. Raises CannotTell."""
    pointer, length = _TEXT.unpack_from(value)
    if pointer == 0:
        return b""
    if not start <= pointer <= pointer + length <= start + len(data):
        raise CannotTell("a statistic's text lies outside of its data")
    return data[pointer - start : pointer - start + length]


def _info(statistics: dict[bytes, str]) -> ZoneInfo:
    return ZoneInfo(*(statistics.get(name) for name in _STATISTICS[1:]))
