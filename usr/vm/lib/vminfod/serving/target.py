# SPDX-License-Identifier: MPL-2.0
"""What a request is about: its path, normalised once, and whether its Host is one of ours.

Always: a path is normalised before it is decoded, so that `%2F` never splits a segment; empty segments, `.` and `..`
        go, and so do segments beyond those of a route, as in the original.
        A Host that is neither this machine nor an address that is listened on is foreign: a page in a browser on this
        machine, whose name its owner lets point to 127.0.0.1, must not read VMs (DNS rebinding)."""

from __future__ import annotations

import functools
import ipaddress
import re
from dataclasses import dataclass
from typing import Optional
from urllib.parse import unquote_to_bytes

# A name that every machine has for itself (RFC 6761), whatever stands before it.
_LOCAL = re.compile(r"([a-z0-9_-]+\.)*localhost\.?", re.ASCII)


@dataclass(frozen=True)
class Target:
    """`path`: for the router, decoded. `sent_key`: the segment after /vms as the client sent it, "" if none."""

    path: str
    sent_key: str


def target_of(url: str) -> Target:
    """`url` is a path or an absolute URL, latin-1 as it came."""
    first, *more = normalised(url) or [""]
    first = _decoded(first)
    if "/" in first:
        return Target("/", "")  # `/vms%2Fx` is one segment, and no route
    if first == "vms" and more:
        return Target(f"/vms/{_decoded(more[0])}", more[0])
    if first == "schema" and more:
        return Target(f"/schema/{_decoded(more[0])}", "")
    if first == "transactions":
        parts = [_decoded(segment) for segment in more[:2]]
        return Target("/" if any("/" in part for part in parts) else "/".join(["", first, *parts]), "")
    return Target(f"/{first}", "")


def normalised(url: str) -> list[str]:
    """The segments of the path of `url`, still percent-encoded, without empty ones, `.` and `..`."""
    path = url.partition("?")[0].partition("#")[0]
    if not path.startswith("/"):  # an absolute URL: its authority is no segment, whatever it looks like
        path = path.partition("://")[2].partition("/")[2] if "://" in path else path
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    return segments


def _decoded(segment: str) -> str:
    return unquote_to_bytes(segment.encode("latin-1")).decode("utf-8", "replace")


@functools.lru_cache(256)
def is_own_host(host: Optional[str], listens_on: frozenset[str]) -> bool:
    """Whether `host`, the value of a Host header, means this daemon. None and "" do: HTTP/1.0 clients send none.

    `listens_on` are the addresses of this machine by which clients can name it: through a tunnel it need not be the
    one that the connection was made to."""
    if not host:
        return True
    name = _without_port(host.strip().lower())
    if _LOCAL.fullmatch(name):
        return True
    address = _address(name)
    if address is None or address.is_unspecified:
        return False
    return address.is_loopback or address in map(_address, listens_on)


def _without_port(host: str) -> str:
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return name if bracket and (not rest or _is_port(rest)) else ""
    name, colon, port = host.partition(":")
    return name if not colon or _is_port(colon + port) else ""


def _is_port(text: str) -> bool:
    return text[:1] == ":" and (text == ":" or (text[1:].isascii() and text[1:].isdigit()))


def _address(text: str) -> Optional[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
