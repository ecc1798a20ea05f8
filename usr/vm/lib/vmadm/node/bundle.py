# SPDX-License-Identifier: MPL-2.0
"""The stream of `vmadm send`, chunk by chunk (docs/vmadm.md, "Moving a VM").

    header of 512 bytes   magic, version, checksum, name, size, padded size: each ended by NUL, then NULs
    JSON chunk            the VM object, padded with NULs to whole blocks
    dataset chunk         what `zfs send` writes; its header's sizes are 0, since only zfs sees where it ends

There is no end mark: the stream ends behind a chunk.
Always: no byte beyond what is asked for is read, since what follows a header is for another program; nothing is
        believed that a header says: a size is looked at before memory is taken for it.
Not here: which names may come in which order (actions/receiving.py)."""

from __future__ import annotations

import os
import re
import select
from dataclasses import dataclass
from typing import Optional

from vmadm.errors import VmadmError

MAGIC, VERSION, CHECKSUM = b"MAGIC-VMBUNDLE", b"1", b"CHECKSUM"
BLOCK = 512  # bytes of a header, and of what the JSON is padded to
LATE = len(MAGIC)  # bytes that may stand before the magic in a header's block
LONGEST_NAME = 256
JSON = "JSON"
JSON_LIMIT = 64 << 20  # bytes. A VM with all the metadata that vminfod bears comes to a few MiB
SIZE = re.compile(rb"[0-9]{1,19}")


class BadBundle(VmadmError):
    """What was read is no VM bundle."""


@dataclass(frozen=True)
class Header:
    """What stands before a chunk; sizes in bytes."""

    name: str
    size: int
    padded: int


def padded(size: int) -> int:
    """`size` rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def header(name: str, size: int = 0) -> bytes:
    """The header of the JSON chunk, whose size is given, or of a dataset's."""
    fields = (MAGIC, VERSION, CHECKSUM, name.encode("ascii"), b"%d" % size, b"%d" % padded(size), b"")
    return b"\0".join(fields).ljust(BLOCK, b"\0")


def json_chunk(text: str) -> bytes:
    """The first chunk. What is counted is bytes, so that no text is cut."""
    data = text.encode("utf-8", "backslashreplace")
    return header(JSON, len(data)) + data.ljust(padded(len(data)), b"\0")


def is_header(block: bytes) -> bool:
    """Whether a chunk begins in this block."""
    return 0 <= block[: LATE + len(MAGIC)].find(MAGIC) <= LATE


def parse_header(block: bytes) -> Header:
    """Raises BadBundle."""
    if len(block) < BLOCK:
        raise BadBundle(f"the stream ends in the midst of a header, after {len(block)} of its {BLOCK} bytes")
    if not is_header(block):
        raise BadBundle("the stream is no VM bundle, or damaged: a header should begin where none does")
    fields = block[block.find(MAGIC) :].split(b"\0")
    if len(fields) < 7:
        raise BadBundle("a header of the stream is damaged: it has too few fields")
    _, version, _, name, size, whole = fields[:6]
    if version != VERSION:
        raise BadBundle(f"the stream is a VM bundle of version {_shown(version)}, and only version 1 is known")
    if not name or len(name) > LONGEST_NAME or not name.isascii():
        raise BadBundle(f"a header of the stream has a bad name: {_shown(name)}")
    if not SIZE.fullmatch(size) or not SIZE.fullmatch(whole):
        raise BadBundle(f"the header of {_shown(name)} has bad sizes: {_shown(size)}, {_shown(whole)}")
    return Header(name.decode("ascii"), int(size), int(whole))


def read_header(descriptor: int) -> Optional[Header]:
    """The next chunk's header, None at the end of the stream. Raises BadBundle."""
    block = read_exactly(descriptor, BLOCK)
    return parse_header(block) if block else None


def read_vm_text(descriptor: int) -> tuple[str, bool]:
    """(the VM object's JSON, whether chunks may follow it). Text that is bare JSON, without a bundle around it, is all
    there is. Raises BadBundle, and VmadmError with the original's words."""
    block = read_exactly(descriptor, BLOCK)
    if not block.strip(b"\0"):
        raise VmadmError("unable to receive JSON")
    if not is_header(block) and block.lstrip().startswith(b"{"):
        return _text(_to_the_end(descriptor, block)), False
    found = parse_header(block)
    if found.name != JSON:
        raise BadBundle(f"the stream does not begin with a VM's JSON, but with {_shown(found.name.encode())}")
    whole = max(found.padded, padded(found.size))
    if found.size == 0:
        raise VmadmError("Failed to get JSON!")
    if whole > JSON_LIMIT:
        raise BadBundle(f"the stream's JSON would have {whole} bytes; at most {JSON_LIMIT} are taken")
    data = _padded_data(descriptor, found.padded, block.find(MAGIC))
    if len(data) < found.padded:
        raise BadBundle(f"the stream ends in the midst of its JSON, after {len(data)} of {found.padded} bytes")
    text = _text(data.strip(b"\0"))
    if len(text) > found.size:  # the original counts characters, and writes their bytes
        raise VmadmError("Failed to get JSON!")
    return text, True


def _padded_data(descriptor: int, size: int, late: int) -> bytes:
    """The data behind a header that began `late`. Either its block is shorter by that, or all of it came late: then the
    rest of its NULs comes first, since no JSON begins with one."""
    begun = read_exactly(descriptor, min(late, size))
    if begun.strip(b"\0"):
        return begun + read_exactly(descriptor, size - len(begun))
    return read_exactly(descriptor, size)


def read_exactly(descriptor: int, size: int) -> bytes:
    """So many bytes, fewer only at the end of the stream. Raises BadBundle if it cannot be read."""
    found = bytearray()
    while len(found) < size:
        try:
            piece = os.read(descriptor, min(size - len(found), 1 << 20))
        except BlockingIOError:  # whoever started us made the pipe non-blocking
            select.select([descriptor], [], [])
            continue
        except OSError as error:
            raise BadBundle(f"cannot read the stream: {error.strerror}") from error
        if not piece:
            break
        found += piece
    return bytes(found)


def write_all(descriptor: int, data: bytes) -> None:
    """Raises OSError; BrokenPipeError if there is no reader any more."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


def _to_the_end(descriptor: int, begun: bytes) -> bytes:
    data = begun + read_exactly(descriptor, JSON_LIMIT)
    if len(data) >= JSON_LIMIT:
        raise BadBundle(f"the JSON is too long: at most {JSON_LIMIT} bytes are taken")
    return data


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadBundle(f"the stream's JSON is not UTF-8: byte {error.start}") from error


def _shown(text: bytes) -> str:
    return ascii(text.decode("latin-1")[:LONGEST_NAME])
