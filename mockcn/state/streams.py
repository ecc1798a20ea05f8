# SPDX-License-Identifier: MPL-2.0
"""The mock's own format of `zfs send`: records, each with a kind, a length and a checksum of its payload.

    BEGIN   what the stream is: whether it is a replication (-R)
    PART    one snapshot of one dataset: where below the top, its properties, what it builds on
    DATA    pieces of the part's content, PIECE bytes at most
    END     of the part
    FINAL   of the stream; for a replication, which datasets it has

Always: a stream says by itself where it ends, so that what follows it on the same pipe is left there, as with the real
        format. A reader asks for just the bytes that it needs, and holds one part at a time.
Not here: what becomes of a part on the node (receiving.py), which snapshots are sent (commands/zfs/zfs_stream.py)."""

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

from mockcn.state.properties import Value
from mockcn.state.trees import Files
from mockcn.state.volumes import Extents

HEAD = struct.Struct(">4sII")  # kind, length of the payload, its CRC-32
BEGIN, PART, DATA, END, FINAL = b"zBEG", b"zPRT", b"zDAT", b"zEND", b"zFIN"
PIECE = 1 << 20  # bytes
ENTRY = struct.Struct(">IQIQ")  # of a file: length of the path, time, mode, length of the content
EXTENT = struct.Struct(">QQ")  # of a volume: place, length

Read = Callable[[int], bytes]  # just so many bytes, fewer at the end of the input


class BadStream(Exception):
    """What was read is no stream, or not all of one; the message is zfs's."""


INCOMPLETE = "checksum mismatch or incomplete stream"


@dataclass(frozen=True)
class Part:
    """One snapshot of one dataset. `below` is its place under the top dataset of the stream, empty for that itself;
    `base` the guid of the snapshot that it builds on; `removed` the files of that one which it lacks."""

    below: str
    kind: str
    snap: str
    guid: int
    base: Optional[int]
    creation: int
    referenced: int
    written: int
    props: dict[str, Value]
    removed: list[str] = field(default_factory=list)


def record(kind: bytes, payload: bytes = b"") -> bytes:
    return HEAD.pack(kind, len(payload), zlib.crc32(payload)) + payload


def begin(replication: bool) -> bytes:
    return record(BEGIN, json.dumps({"replication": replication}).encode())


def part_records(part: Part, content: Any) -> Iterator[bytes]:
    """The records of one part; `content` are files or extents."""
    yield record(PART, json.dumps(asdict(part)).encode())
    waiting = bytearray()
    for piece in _extents(content) if part.kind == "volume" else _files(content):
        waiting += piece
        while len(waiting) >= PIECE:
            yield record(DATA, bytes(waiting[:PIECE]))
            del waiting[:PIECE]
    if waiting:
        yield record(DATA, bytes(waiting))
    yield record(END)


def final(datasets: list[str]) -> bytes:
    return record(FINAL, json.dumps({"datasets": datasets}).encode())


def _files(files: Files) -> Iterator[bytes]:
    for path, (content, mtime, mode) in files.items():
        name = path.encode("utf-8", "surrogateescape")
        yield ENTRY.pack(len(name), mtime, mode, len(content)) + name
        for place in range(0, len(content), PIECE):
            yield content[place : place + PIECE]


def _extents(extents: Extents) -> Iterator[bytes]:
    for place, content in extents:
        yield EXTENT.pack(place, len(content))
        for start in range(0, len(content), PIECE):
            yield content[start : start + PIECE]


class Reader:
    """Reads one stream with `read`. Raises BadStream."""

    def __init__(self, read: Read) -> None:
        self._read = read
        kind, payload = self._record(magic=True)
        if kind != BEGIN:
            raise BadStream("invalid stream (bad magic number)")
        self.replication: bool = _json(payload)["replication"]
        self.datasets: list[str] = []  # after the last part

    def part(self) -> Optional[Part]:
        """The next part, whose content() must be read then; None at the end."""
        kind, payload = self._record()
        if kind == FINAL:
            self.datasets = _json(payload)["datasets"]
            return None
        if kind != PART:
            raise BadStream(INCOMPLETE)
        try:
            return Part(**_json(payload))
        except TypeError as err:
            raise BadStream(INCOMPLETE) from err

    def content(self, part: Part) -> Any:
        """Files or extents of the part, to its end."""
        gathered = bytearray()
        while True:
            kind, payload = self._record()
            if kind == END:
                break
            if kind != DATA:
                raise BadStream(INCOMPLETE)
            gathered += payload
        view = memoryview(gathered)
        try:
            return _read_extents(view) if part.kind == "volume" else _read_files(view)
        except struct.error as err:
            raise BadStream(INCOMPLETE) from err

    def _record(self, magic: bool = False) -> tuple[bytes, bytes]:
        head = self._read(HEAD.size)
        if not head and magic:
            raise BadStream("failed to read from stream")
        if len(head) < HEAD.size:
            raise BadStream(INCOMPLETE)
        kind, length, crc = HEAD.unpack(head)
        if kind not in (BEGIN, PART, DATA, END, FINAL) or length > PIECE * 16:
            raise BadStream("invalid stream (bad magic number)" if magic else INCOMPLETE)
        payload = self._read(length) if length else b""
        if len(payload) < length or zlib.crc32(payload) != crc:
            raise BadStream(INCOMPLETE)
        return kind, payload


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError as err:
        raise BadStream(INCOMPLETE) from err


def _read_files(view: memoryview) -> Files:
    files: Files = {}
    at = 0
    while at < len(view):
        name, mtime, mode, size = ENTRY.unpack_from(view, at)
        at += ENTRY.size
        path = bytes(view[at : at + name]).decode("utf-8", "surrogateescape")
        at += name
        files[path] = (bytes(view[at : at + size]), mtime, mode)
        at += size
    return files


def _read_extents(view: memoryview) -> Extents:
    extents: Extents = []
    at = 0
    while at < len(view):
        place, size = EXTENT.unpack_from(view, at)
        at += EXTENT.size
        extents.append((place, bytes(view[at : at + size])))
        at += size
    return extents
