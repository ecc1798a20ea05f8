# SPDX-License-Identifier: MPL-2.0
"""The head of an HTTP request: where it ends in what has come, and what it says; and the body behind it. Pure.

Always: a head is cut off whole before it is read, and is bounded in its request line, its bytes and its lines;
        what is no HTTP raises Malformed; what is unusual but clear is understood: lines that end in a bare LF, methods
        and bytes in the target that are unknown, header lines without a colon (they are skipped).
A library's parser would refuse the unusual, which clients of this daemon may send. Programs ask the same for months, so
heads that came before are remembered: `known`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, Optional

REQUEST_LINE = 8192  # bytes; the longest path of ours has some hundred
HEADER_BYTES = 32 << 10  # all headers of a request together; others allow 8 to 64 KiB
HEADER_COUNT = 100

LENGTH_MOST = 10**9  # bytes of a body that are told apart

REMEMBERED = 1024  # heads, each of at most so many bytes

_VERSION = re.compile(r"HTTP/(0\.9|1\.[0-9]{1,3}(\.[0-9]{1,3})?)", re.ASCII)
_END = re.compile(rb"\n\r?\n")


class Malformed(ValueError):
    """It is no HTTP."""


class LineTooLong(ValueError):
    """The request line is more than REQUEST_LINE."""


class HeadersTooLarge(ValueError):
    """The headers are more than HEADER_BYTES or HEADER_COUNT."""


@dataclass(frozen=True, slots=True)
class Request:
    """`target` as it was sent, latin-1. `headers`: names in lower case; the values of a name that came several times
    joined by commas. `keep_alive`: the client would use the connection again after the answer. `body`: the bytes that
    follow the head; None: nobody knows how many."""

    method: str
    target: str
    version: str
    headers: dict[str, str]
    keep_alive: bool
    is_conditional: bool  # it may be answered with 304
    body: Optional[int]


# Heads that were asked for before, by what was sent.
remembered: dict[bytes, Request] = {}


def end_of_head(received: bytes) -> int:
    """The length of the head that `received` begins with; 0: it is not all there yet. Raises LineTooLong,
    HeadersTooLarge and Malformed, also for a head that has not come to its end."""
    found = _END.search(received)
    if found is not None and found.end() < REQUEST_LINE:
        return found.end()  # as nearly always: neither part can be too long
    if received.startswith((b"\n", b"\r\n")):
        raise Malformed("an empty line instead of a request")
    line = received.find(b"\n", 0, REQUEST_LINE) + 1
    if line == REQUEST_LINE or (not line and len(received) >= REQUEST_LINE):
        raise LineTooLong
    end = len(received) if found is None else found.end()
    if line and end - line > HEADER_BYTES:
        raise HeadersTooLarge
    return 0 if found is None else end


def has_request_line(received: bytes) -> bool:
    """Whether the first line of a head has come."""
    return b"\n" in received


def parsed(head: bytes) -> Request:
    """What a whole head says. Raises Malformed and HeadersTooLarge."""
    first, *lines = head.decode("latin-1").split("\n")
    words = first.split()
    if len(words) == 3:
        method, target, version = words
        if _VERSION.fullmatch(version) is None:
            raise Malformed("no version of HTTP that is spoken here")
    elif len(words) == 2 and words[0] == "GET":
        method, target, version = words[0], words[1], "HTTP/0.9"
    else:
        raise Malformed("no request line")
    if len(lines) > HEADER_COUNT + 2:  # an empty line, and nothing behind its end
        raise HeadersTooLarge
    headers = _headers(lines)
    body = _length(headers)
    return Request(method, target, version, headers, _keeps_alive(version, headers), "if-none-match" in headers, body)


class Cut(NamedTuple):
    """A request, and the body that came with it; None if there is one that was not read. `size`: bytes of both."""

    request: Request
    body: Optional[bytes]
    size: int


def cut(received: bytes, body_most: int) -> Optional[Cut]:
    """The request that `received` begins with, with its body if that has at most `body_most` bytes; None: it is not all
    there yet. Raises what end_of_head() and parsed() do."""
    size = end_of_head(received)
    if not size:
        return None
    request = known(received[:size])
    if request.body == 0:
        return Cut(request, b"", size)
    if request.body is None or request.body > body_most:
        return Cut(request, None, size)
    end = size + request.body
    return Cut(request, received[size:end], end) if len(received) >= end else None


def known(head: bytes) -> Request:
    """parsed(head), remembered: it must not be changed."""
    request = remembered.get(head)
    if request is None:
        request = parsed(head)
        if len(head) <= REMEMBERED:
            if len(remembered) >= REMEMBERED:
                remembered.clear()  # none was asked for so often that it would not be here again at once
            remembered[head] = request
    return request


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    last: Optional[str] = None
    for line in lines:
        if line[:1] in " \t" and last is not None and line.strip():
            headers[last] += f" {line.strip()}"  # folded, as once was allowed
            continue
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if not (colon and name) or "_" in name:
            last = None  # an underscore would make two names one, for whoever turns names into variables
            continue
        value = value.strip()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
        last = name
    return headers


def _keeps_alive(version: str, headers: dict[str, str]) -> bool:
    wanted = headers.get("connection")
    if wanted is None:
        return version == "HTTP/1.1"
    tokens = [token.strip() for token in wanted.lower().split(",")]
    if version == "HTTP/1.1":
        return "close" not in tokens
    return version == "HTTP/1.0" and "keep-alive" in tokens


def _length(headers: dict[str, str]) -> Optional[int]:
    """Of the body, in bytes, at most LENGTH_MOST."""
    if "transfer-encoding" in headers:
        return None
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise Malformed("a length that is no number")
    return int(text) if len(text.lstrip("0")) < len(str(LENGTH_MOST)) else LENGTH_MOST
