# SPDX-License-Identifier: MPL-2.0
"""The HTTP API: Bottle has the routes, each a few lines that hand out bytes made elsewhere (docs/http-api.md).

Always: every response says `application/json` and carries the epoch and the revision it was made at;
        methods other than GET get an empty 400, HEAD too (A6); nothing here changes the cache.
Paths are normalised before they are decoded, so that `%2F` never splits a segment, and segments beyond those of a route
are ignored, as in the original."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Optional, Protocol
from urllib.parse import parse_qs, quote, unquote_to_bytes, urlsplit

import bottle
import gevent
from gevent import socket as gsocket

from vminfod.serving import httpserver, jsontext
from vminfod.serving.cache import Cache
from vminfod.serving.hub import Hub, Listener, Selection

EVENT_TYPES = frozenset({"create", "modify", "delete"})

FRESH_SECONDS = 60.0  # how long a fresh read may take if the client does not say
FRESH_MOST = 600.0
HEARTBEAT_LEAST = 0.1  # seconds; more often than that it would be the load
HEARTBEAT_MOST = 86_400.0

# Streams at once, so that listeners can never use up all the connections.
LISTENERS = 1500

_LAST_WORDS = 0.5  # seconds that a stream which is ended has to end in good order before its socket is shut


class Reads(Protocol):
    """What the API needs of the daemon besides the cache and the hub."""

    def status(self, full: bool) -> dict[str, Any]: ...

    def read_fresh(self, key: str, timeout: float) -> bool: ...


@dataclass(frozen=True)
class _Refused(Exception):
    """The query cannot be understood: `status` and what to say."""

    status: int
    body: dict[str, Any]


class Api:
    """The WSGI application."""

    def __init__(self, cache: Cache, hub: Hub, reads: Reads):
        self._cache = cache
        self._hub = hub
        self._reads = reads
        self._app = bottle.Bottle(catchall=False)  # what fails is the server's to log and answer
        self._app.route("/ping", callback=self._ping)
        self._app.route("/status", callback=self._status)
        self._app.route("/vms", callback=self._vms)
        self._app.route("/vms/<key>", callback=self._vm)
        self._app.route("/events", callback=self._events)
        self._app.error(404, callback=self._unsupported)
        self._app.error(405, callback=self._unsupported)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["REQUEST_METHOD"] != "GET":
            answer = self._answer(400, b"")
            start_response(answer.status_line, answer.headerlist)
            return [b""]
        first, *more = normalised(environ["vminfod.raw_path"]) or [""]
        environ["vminfod.sent_key"] = more[0] if more else ""
        # Bottle sees the key still encoded: it would drop what is no UTF-8 from it.
        keys = [quote(key, "%") for key in more[:1] if first == "vms"]
        environ["PATH_INFO"] = "/" + "/".join([_decoded(first), *keys])
        return self._app(environ, start_response)

    # Routes.

    def _ping(self) -> bottle.HTTPResponse:
        return self._answer(200, b'{"ping":"pong"}')

    def _status(self) -> bottle.HTTPResponse:
        return self._answer(200, jsontext.encode(self._reads.status(bool(_query().get("full")))))

    def _vms(self) -> bottle.HTTPResponse:
        return self._tagged(self._hub.rev, self._cache.vms)

    def _vm(self, key: str) -> bottle.HTTPResponse:
        key, query = _decoded(bottle.request.environ["vminfod.sent_key"]), _query()
        try:
            if _flag(query, "fresh"):
                limit = _seconds(query, "timeout", FRESH_SECONDS, 0.0, FRESH_MOST)
                if not self._reads.read_fresh(key, limit):
                    return self._answer(504, f"VM not read within {limit:g} s".encode())
        except _Refused as refused:
            return self._refuse(refused)
        body, rev = self._cache.vm(key), self._cache.rev_of(key)
        if body is None or rev is None:
            sent = _without_controls(bottle.request.environ["vminfod.sent_key"])
            return self._answer(404, b"VM Not Found: " + sent)
        return self._tagged(rev, lambda: body)

    def _events(self) -> bottle.HTTPResponse:
        environ = bottle.request.environ
        query = _query()
        try:
            selection, since = _selection(query), self._since(query)
            heartbeat = _seconds(query, "heartbeat", None, HEARTBEAT_LEAST, HEARTBEAT_MOST)
            with_vms = since is None and _flag(query, "vms", default=True)
        except _Refused as refused:
            return self._refuse(refused)
        if len(self._hub) >= LISTENERS:
            return self._answer(503, f"Too many listeners: {LISTENERS} streams are open".encode())
        stream = _Stream(self._hub, environ["vminfod.socket"], heartbeat)
        snapshot = self._cache.vms_escaped(selection.uuids) if with_vms else None
        user_agent = environ.get("HTTP_USER_AGENT")
        if user_agent is not None:
            user_agent = user_agent.encode("latin-1").decode("utf-8", "replace")
        stream.listen(self._hub.subscribe(selection, user_agent, stream.on_cut, vms=snapshot, since=since))
        return self._answer(200, stream, {"Connection": "close"})

    def _unsupported(self, _error: Any) -> bytes:
        for name, value in self._headers().items():
            bottle.response.set_header(name, value)
        bottle.response.status = 404
        return b"Unsupported URL Path"

    # What they have in common.

    def _since(self, query: dict[str, str]) -> Optional[int]:
        if "since" not in query:
            return None
        epoch, colon, rev = query["since"].rpartition(":")
        if not colon or not (rev.isascii() and rev.isdigit()) or len(rev) > 18:
            raise _bad("since", query["since"], "EPOCH:REV as in the last event you got")
        if not self._hub.can_resume(epoch, int(rev)):
            body = {"error": "cannot resume from there: read the list anew", "since": query["since"]}
            raise _Refused(410, {**body, **self._hub.dump_ring()})
        return int(rev)

    def _headers(self) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "X-Vminfod-Epoch": self._hub.epoch,
            "X-Vminfod-Rev": str(self._hub.rev),
        }

    def _answer(self, status: int, body: Any, headers: Optional[dict[str, str]] = None) -> bottle.HTTPResponse:
        response = bottle.HTTPResponse(body, status)
        for name, value in {**self._headers(), **(headers or {})}.items():
            response.set_header(name, value)
        if isinstance(body, bytes) and status != 304:
            response.set_header("Content-Length", str(len(body)))
        return response

    def _tagged(self, rev: int, body: Callable[[], bytes]) -> bottle.HTTPResponse:
        """200 with an ETag, or 304 if the client has just this."""
        tag = f'"{self._hub.epoch}:{rev}"'
        known = bottle.request.environ.get("HTTP_IF_NONE_MATCH", "")
        if known.strip() == "*" or tag in (part.strip().removeprefix("W/") for part in known.split(",")):
            return self._answer(304, b"", {"ETag": tag})
        return self._answer(200, body(), {"ETag": tag})

    def _refuse(self, refused: _Refused) -> bottle.HTTPResponse:
        return self._answer(refused.status, jsontext.encode(refused.body))


class _Stream:
    """The body of one /events response: lines until the client goes or the listener is cut."""

    def __init__(self, hub: Hub, sock: Any, heartbeat: Optional[float]):
        self._hub = hub
        self._socket = sock
        self._heartbeat = heartbeat
        self._listener: Optional[Listener] = None
        self._input = gevent.get_hub().loop.io(sock.fileno(), 1)

    def listen(self, listener: Listener) -> None:
        self._listener = listener
        self._socket.settimeout(None)  # from here on the backlog is the limit, not the time
        self._input.start(self._on_input)

    def _on_input(self) -> None:
        if not httpserver.discard_input(self._socket):
            self._input.stop()
            if self._listener is not None:
                self._listener.cut("the client closed the connection")

    def on_cut(self) -> None:
        """The sender may hang in a send that the client does not take: shut the socket if it does not end by itself."""
        gevent.spawn_later(_LAST_WORDS, self._shut).name = "end of an event stream"

    def _shut(self) -> None:
        try:
            self._socket.shutdown(gsocket.SHUT_RDWR)
        except (OSError, AttributeError):
            return  # it has ended by itself

    def __iter__(self) -> Iterator[bytes]:
        if self._listener is None:
            return
        while (lines := self._listener.take(self._heartbeat)) is not None:
            yield lines or self._hub.heartbeat()

    def close(self) -> None:
        self._input.stop()
        self._input.close()
        if self._listener is not None:
            self._hub.unsubscribe(self._listener)


def normalised(url: str) -> list[str]:
    """The segments of the path of `url`, still percent-encoded, without empty ones, `.` and `..`."""
    path = urlsplit(url).path if "://" in url.partition("?")[0] else url.partition("?")[0].partition("#")[0]
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    return segments


def _decoded(segment: str) -> str:
    return unquote_to_bytes(segment.encode("latin-1")).decode("utf-8", "replace")


def _query() -> dict[str, str]:
    parsed = parse_qs(bottle.request.environ.get("QUERY_STRING", ""), keep_blank_values=True)
    return {name: values[-1] for name, values in parsed.items()}


def _selection(query: dict[str, str]) -> Selection:
    types = _names(query, "types")
    if types is not None and not types <= EVENT_TYPES:
        raise _bad("types", query["types"], "some of " + ",".join(sorted(EVENT_TYPES)))
    return Selection(_names(query, "uuid"), types, _names(query, "fields"))


def _names(query: dict[str, str], name: str) -> Optional[frozenset[str]]:
    if name not in query:
        return None
    names = frozenset(part for part in query[name].split(",") if part)
    if not names:
        raise _bad(name, query[name], "names joined by commas")
    return names


def _flag(query: dict[str, str], name: str, *, default: bool = False) -> bool:
    if name not in query:
        return default
    try:
        return {"true": True, "1": True, "false": False, "0": False, "": False}[query[name]]
    except KeyError:
        raise _bad(name, query[name], "true or false") from None


def _seconds(query: dict[str, str], name: str, default: Any, least: float, most: float) -> Any:
    if name not in query:
        return default
    try:
        seconds = float(query[name])
    except ValueError:
        seconds = -1.0
    if not least <= seconds <= most:
        raise _bad(name, query[name], f"seconds from {least:g} to {most:g}")
    return seconds


def _bad(name: str, value: str, wanted: str) -> _Refused:
    return _Refused(400, {"error": f"bad value for {name}: {value[:100]!r}; give {wanted}"})


def _without_controls(sent: str) -> bytes:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in sent[:1000]).encode("latin-1", "replace")
