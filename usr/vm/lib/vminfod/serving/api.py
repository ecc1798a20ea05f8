# SPDX-License-Identifier: MPL-2.0
"""The HTTP API: Bottle has the routes, each a few lines that hand out bytes made elsewhere.

Always: every response but /metrics says `application/json` and each carries the epoch and the revision it was made at;
        methods other than GET get an empty 400, HEAD too (A6), but for POST about transactions on the Unix socket;
        nothing here changes the cache;
        a request for a foreign host is refused (target.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Optional, Protocol

import bottle

from vminfod.serving import jsontext, schemas
from vminfod.serving.cache import Cache
from vminfod.serving.choices import Choice, Choices, wanted_of
from vminfod.serving.eventsender import Sender, Turn
from vminfod.serving.health import Verdict
from vminfod.serving.hub import Hub
from vminfod.serving.listener import Selection, Stream
from vminfod.serving.ready import PONG, Answer, ReadyAnswers, common_headers
from vminfod.serving.requesthead import Request
from vminfod.serving.routing import Query, Refused, answer, refusal
from vminfod.serving.shared import SharedLists
from vminfod.serving.target import is_own_host, target_of
from vminfod.serving.transactionroutes import PATH, TransactionRoutes

# What Prometheus wants to hear: all else that is served is JSON.
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

EVENT_TYPES = frozenset({"create", "modify", "delete"})

FRESH_SECONDS = 60.0  # how long a fresh read may take if the client does not say
FRESH_MOST = 600.0
HEARTBEAT_LEAST = 0.1  # seconds; more often than that it would be the load
HEARTBEAT_MOST = 86_400.0

# Streams at once, so that listeners can never use up all the connections.
LISTENERS = 1500


class Reports(Protocol):
    """What the daemon says about itself."""

    def status(self, full: bool) -> Mapping[str, object]:
        """The body of /status."""
        ...

    def health(self) -> Verdict:
        """The body of /health."""
        ...

    def metrics(self) -> bytes:
        """The body of /metrics."""
        ...

    def unreadable(self) -> list[str]:
        """The zones that exist, but cannot be read, and so are in no list."""
        ...


class FreshReads(Protocol):
    """Reads that a client waits for."""

    def read(self, key: str, timeout: float, *, with_sysinfo: bool) -> Optional[str]:
        """Read a VM anew; what to say if that did not succeed, or not within `timeout` seconds; else None.
        `with_sysinfo`: the properties that are the node's, too."""
        ...


class Api:
    """The WSGI application."""

    def __init__(
        self, cache: Cache, hub: Hub, reports: Reports, fresh_reads: FreshReads, transactions: TransactionRoutes
    ):
        self._cache = cache
        self._hub = hub
        self._answer = partial(answer, hub)
        self._refuse = partial(refusal, hub)
        self._reports = reports
        self._fresh_reads = fresh_reads
        self._transactions = transactions
        self._ready = ReadyAnswers(cache, hub, reports.unreadable)
        self._lists = SharedLists(hub)
        self._choices = Choices(cache, self._lists)
        self._turn = Turn()
        self._app = bottle.Bottle(catchall=False)  # what fails is the server's to log and answer
        self._app.route("/ping", callback=self._ping)
        self._app.route("/status", callback=self._status)
        self._app.route("/vms", callback=self._vms)
        self._app.route("/vms/<key:re:(?s:.+)>", callback=self._vm)
        self._app.route("/events", callback=self._events)
        self._app.route("/health", callback=self._health)
        self._app.route("/metrics", callback=self._metrics)
        self._app.route("/schema/vm.json", callback=lambda: self._answer(200, schemas.of_vm()))
        self._app.route("/schema/event.json", callback=lambda: self._answer(200, schemas.of_event()))
        transactions.add_to(self._app)
        self._app.error(404, callback=self._unsupported)
        self._app.error(405, callback=self._unsupported)

    def ready(self, request: Request) -> Optional[Answer]:
        """The answer to `request`, if it is ready and needs no route."""
        return self._ready(request)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if not _is_for_us(environ):
            return self._empty_handed(
                403, b"Foreign Host: use localhost, or an address of this machine", start_response
            )
        target = target_of(environ["vminfod.raw_path"])
        if environ["REQUEST_METHOD"] != "GET" and not _is_of_transaction(environ, target.path):
            return self._empty_handed(400, b"", start_response)
        environ["vminfod.sent_key"] = target.sent_key
        environ["PATH_INFO"] = target.path.encode("utf-8", "replace").decode("latin-1")  # as WSGI wants it
        return self._app(environ, start_response)

    def _empty_handed(self, status: int, body: bytes, start_response: Callable[..., Any]) -> list[bytes]:
        answer = self._answer(status, body)
        start_response(answer.status_line, answer.headerlist)
        return [body]

    # Routes.

    def _ping(self) -> bottle.HTTPResponse:
        return self._answer(200, PONG)

    def _status(self) -> bottle.HTTPResponse:
        return self._answer(200, jsontext.encode(self._reports.status(bool(Query.of_request().get("full")))))

    def _metrics(self) -> bottle.HTTPResponse:
        return self._answer(200, self._reports.metrics(), {"Content-Type": METRICS_TYPE})

    def _health(self) -> bottle.HTTPResponse:
        found = self._reports.health()
        return self._answer(503 if found["reasons"] else 200, jsontext.encode(found))

    def _vms(self) -> bottle.HTTPResponse:
        unreadable = self._reports.unreadable()
        headers = {"X-Vminfod-Unreadable": ",".join(sorted(unreadable))} if unreadable else {}
        query = Query.of_request()
        try:
            choice = Choice(query.names("fields"), wanted_of(query))
        except Refused as refused:
            return self._refuse(refused)
        body = self._cache.vms if choice == Choice() else lambda: self._choices.list(choice)
        return self._tagged(bottle.request.environ, self._hub.rev, body, headers)

    def _vm(self, key: str) -> bottle.HTTPResponse:
        # Bottle's request is that of the thread: after a fresh read, in which others are answered, it is another one.
        environ, query = bottle.request.environ, Query.of_request()
        try:
            if query.flag("fresh"):
                mine = self._transactions.held_by(environ["vminfod.connection"], key)
                if mine is not None:
                    raise Refused(409, {"error": f"this connection holds the VM itself, by transaction {mine.id}"})
                asked = query.seconds("timeout", 0.0, FRESH_MOST)
                limit = FRESH_SECONDS if asked is None else asked
                why_not = self._fresh_reads.read(key, limit, with_sysinfo=query.flag("sysinfo", default=True))
                if why_not is not None:
                    return self._answer(504, why_not.encode("utf-8", "replace"))
        except Refused as refused:
            return self._refuse(refused)
        served = self._cache.served(key)
        if served is None:
            sent = _without_controls(environ["vminfod.sent_key"])
            return self._answer(404, b"VM Not Found: " + sent)
        return self._tagged(environ, served.rev, lambda: served.body)

    def _events(self) -> bottle.HTTPResponse:
        environ = bottle.request.environ
        query = Query.of_request()
        try:
            selection, since = _selection(query), self._since(query)
            heartbeat = query.seconds("heartbeat", HEARTBEAT_LEAST, HEARTBEAT_MOST)
            with_vms = since is None and query.flag("vms", default=True)
        except Refused as refused:
            return self._refuse(refused)
        if len(self._hub) >= LISTENERS:
            return self._answer(503, f"Too many listeners: {LISTENERS} streams are open".encode())
        snapshot = self._snapshot(selection.uuids) if with_vms else None
        framed = environ["SERVER_PROTOCOL"] != "HTTP/1.0"
        sender = Sender(self._hub, self._turn, environ["vminfod.connection"], heartbeat, framed=framed)
        stream = Stream(_user_agent(environ), sender.on_lines, sender.on_cut, framed=framed)
        unreadable = self._reports.unreadable()
        sender.listen(self._hub.subscribe(selection, stream, vms=snapshot, since=since, unreadable=unreadable))
        environ["vminfod.take_over"](sender)
        return self._answer(200, None, {"Connection": "close"})

    def _snapshot(self, uuids: Optional[frozenset[str]]) -> bytes:
        if uuids is None:
            return self._cache.vms_escaped()
        return self._lists.get(("snapshot", uuids), lambda: self._cache.vms_escaped(uuids))

    def _unsupported(self, _error: Any) -> bytes:
        for name, value in common_headers(self._hub):
            bottle.response.set_header(name, value)
        bottle.response.status = 404
        return b"Unsupported URL Path"

    # What they have in common.

    def _since(self, query: Query) -> Optional[int]:
        if "since" not in query:
            return None
        epoch, colon, rev = query["since"].rpartition(":")
        if not colon or not (rev.isascii() and rev.isdigit()) or len(rev) > 18:
            raise query.bad("since", "EPOCH:REV as in the last event you got")
        if not self._hub.can_resume(epoch, int(rev)):
            body = {"error": "cannot resume from there: read the list anew", "since": query["since"]}
            raise Refused(410, {**body, **self._hub.dump_ring()})
        return int(rev)

    def _tagged(
        self, environ: dict[str, Any], rev: int, body: Callable[[], bytes], headers: Optional[dict[str, str]] = None
    ) -> bottle.HTTPResponse:
        """200 with an ETag, or 304 if the client has just this."""
        tag = f'"{self._hub.epoch}:{rev}"'
        known = environ.get("HTTP_IF_NONE_MATCH", "")
        if known.strip() == "*" or tag in (part.strip().removeprefix("W/") for part in known.split(",")):
            return self._answer(304, b"", {"ETag": tag, **(headers or {})})
        return self._answer(200, body(), {"ETag": tag, **(headers or {})})


def _is_for_us(environ: dict[str, Any]) -> bool:
    """Whether the request is meant for this daemon: who comes through the Unix socket always is."""
    listens_on = environ["vminfod.listens_on"]
    if listens_on is None:
        return True
    url = environ["vminfod.raw_path"].partition("?")[0]
    hosts = [environ.get("HTTP_HOST")]
    if "://" in url and not url.startswith("/"):
        hosts.append(url.partition("://")[2].partition("/")[0])
    return all(is_own_host(host, listens_on) for host in hosts)


def _is_of_transaction(environ: dict[str, Any], path: str) -> bool:
    """Whether this is no GET and yet ours."""
    is_post = environ["REQUEST_METHOD"] == "POST" and environ["vminfod.listens_on"] is None
    return is_post and (path == PATH or path.startswith(f"{PATH}/"))


def _user_agent(environ: dict[str, Any]) -> Optional[str]:
    sent: Optional[str] = environ.get("HTTP_USER_AGENT")
    return None if sent is None else sent.encode("latin-1").decode("utf-8", "replace")


def _selection(query: Query) -> Selection:
    types = query.names("types")
    if types is not None and not types <= EVENT_TYPES:
        raise query.bad("types", "some of " + ",".join(sorted(EVENT_TYPES)))
    return Selection(query.names("uuid"), types, query.names("fields"))


def _without_controls(sent: str) -> bytes:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in sent[:1000]).encode("latin-1", "replace")
