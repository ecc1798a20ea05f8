# SPDX-License-Identifier: MPL-2.0
"""The requests about transactions (docs/http-api.md, "Transactions"): what is asked is checked, and bound to the
connection that asks.

Always: a transaction belongs to the connection that opened it, and ends with it, whatever that connection waits for;
        a connection has one that has not ended, at most; of the last that ended it is still told what became of it;
        only the Unix socket has these routes: who can write there is the node's owner."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, NamedTuple, Optional, Protocol

import bottle

from vminfod.serving import jsontext
from vminfod.serving.cache import Cache
from vminfod.serving.holds import MOST, End, Holds, StillHeld, Stopping, TooMany, Transaction, Writer
from vminfod.serving.httpconnection import BODY_BYTES, Connection
from vminfod.serving.hub import Hub
from vminfod.serving.routing import Query, Refused, answer, refusal
from vmload.loaderror import LoadError

PATH = "/transactions"

LIMIT = 60  # seconds that one may be open if the writer does not say, and the least and the most that it can say
LIMIT_LEAST, LIMIT_MOST = 1, 600
WAIT = 60  # seconds for its turn if the writer does not say, and the most that it can say
WAIT_MOST = 600
READ_SECONDS, READ_MOST = 60.0, 600.0  # the same of a reading
TEXT_MOST = 1000  # characters of a name, a command or an id


class Transactions(Protocol):
    """What becomes of them."""

    def open(self, wanted: Transaction, wait: float) -> bool:
        """Hold the VM. False if it is gone. Raises TooMany, Stopping, and StillHeld after `wait` seconds."""
        ...

    def preview(self, transaction: Transaction, timeout: float) -> Optional[bytes]:
        """The VM as it would be, as JSON; None if it is gone. Raises LoadError."""
        ...


class _Opening(NamedTuple):
    """The body of a request that opens one. `limit` and `wait` in seconds."""

    key: str
    command: str
    req_id: Optional[str]
    limit: float
    wait: float


class TransactionRoutes:
    """See the head of the module."""

    def __init__(self, cache: Cache, hub: Hub, holds: Holds, transactions: Transactions):
        self._cache = cache
        self._hub = hub
        self._holds = holds
        self._transactions = transactions
        self._last: dict[Connection, Transaction] = {}  # the newest of each connection that opened one, and lives

    def add_to(self, app: bottle.Bottle) -> None:
        """Have them answered."""
        app.route(PATH, "POST", self._guarded(self._open))
        app.route(f"{PATH}/<name>/vm", "GET", self._guarded(self._preview))
        app.route(f"{PATH}/<name>/commit", "POST", self._guarded(self._commit))

    def held_by(self, connection: Connection, key: str) -> Optional[Transaction]:
        """The transaction by which this connection holds the VM with this zone name or uuid."""
        last = self._last.get(connection)
        if last is not None and last is self._holds.holder(self._cache.zonename(key) or key):
            return last
        return None

    def _guarded(self, route: Any) -> Any:
        def called(**names: str) -> bottle.HTTPResponse:
            connection = bottle.request.environ["vminfod.connection"]
            if connection.listens_on is not None:
                bottle.abort(404)
            try:
                return route(connection, **names)
            except Refused as refused:
                return refusal(self._hub, refused)

        return called

    # Opening.

    def _open(self, connection: Connection) -> bottle.HTTPResponse:
        last = self._last.get(connection)
        if last is not None and not last.over.is_set():
            raise _refused(409, f"this connection has a transaction that has not ended: {last.id} on VM {last.uuid}")
        asked = _opening_of(bottle.request.environ["vminfod.body"])
        zonename = self._cache.zonename(asked.key)
        if zonename is None:
            raise _no_vm(asked.key)
        if last is not None:
            self._holds.left(last)
        wanted = self._begin(connection, zonename, asked)
        try:
            self._have(wanted, asked.wait)
        except Refused:
            self._ended(connection)
            connection.watch_end(None)
            raise
        served = self._cache.served(zonename)
        rev = served.rev if served is not None else self._hub.rev
        body = {"transaction": wanted.id, "uuid": wanted.uuid, "rev": rev, "limit": wanted.limit}
        return answer(self._hub, 201, jsontext.encode(body))

    def _begin(self, connection: Connection, zonename: str, asked: _Opening) -> Transaction:
        served = self._cache.served(zonename)
        uuid = zonename if served is None else served.vm["uuid"]
        peer = connection.peer()
        writer = Writer(asked.command, asked.req_id, peer.pid, peer.uid)
        wanted = self._last[connection] = Transaction(zonename, uuid, writer, asked.limit)
        connection.watch_end(partial(self._ended, connection))
        return wanted

    def _have(self, wanted: Transaction, wait: float) -> None:
        """Open it. Raises Refused."""
        try:
            is_there = self._transactions.open(wanted, wait)
        except TooMany:
            raise _refused(503, f"{MOST} transactions are open or waiting") from None
        except Stopping:
            raise _refused(503, "the daemon stops") from None
        except StillHeld as still:
            raise Refused(504, {"error": str(still), "holder": still.holder.shown()}) from None
        if wanted.end is End.ABORTED:
            raise _refused(409, "the connection has ended: a transaction lives as long as the one that opened it")
        if not is_there:
            raise _no_vm(wanted.uuid)

    def _ended(self, connection: Connection) -> None:
        """The connection sends no more, or what it wanted was not to be had."""
        last = self._last.pop(connection, None)
        if last is not None:
            last.finish(End.ABORTED)
            self._holds.left(last)

    # What is asked of one that is open.

    def _preview(self, connection: Connection, name: str) -> bottle.HTTPResponse:
        mine = self._mine(connection, name)
        try:
            body = self._transactions.preview(mine, _timeout())
        except LoadError as error:
            raise _refused(504, f"VM cannot be read: {error}") from error
        if body is None:
            raise _no_vm(mine.uuid)
        return answer(self._hub, 200, body)

    def _commit(self, connection: Connection, name: str) -> bottle.HTTPResponse:
        mine = self._mine(connection, name)
        mine.finish(End.COMMITTED, _timeout())
        mine.over.wait()
        connection.watch_end(partial(self._ended, connection), is_patient=False)
        if mine.why_not is not None:
            raise _refused(504, mine.why_not)
        served = self._cache.served(mine.zonename)
        if served is None:
            return answer(self._hub, 200, jsontext.encode({"vm": None, "rev": self._hub.rev}))
        return answer(self._hub, 200, b'{"vm":%b,"rev":%d}' % (served.body, served.rev))

    def _mine(self, connection: Connection, name: str) -> Transaction:
        """The transaction that is so called, if it is this connection's and open. Raises Refused."""
        found = self._holds.find(name)
        if found is None:
            raise _refused(404, f"no such transaction: {name[:TEXT_MOST]}")
        if found is not self._last.get(connection):
            raise _refused(403, f"transaction {found.id} is another connection's")
        if found.end is not None:
            why = (
                "it was committed"
                if found.end is End.COMMITTED
                else f"it was open for longer than its limit of {found.limit:g} s, and the VM was published as it was"
            )
            error = f"the transaction has ended: {why}"
            raise Refused(410, {"error": error, "transaction": found.id, "ended": found.end.value})
        return found


def _opening_of(body: Optional[bytes]) -> _Opening:
    """What the body of the request says. Raises Refused."""
    if body is None:
        raise _refused(413, f"the body needs a Content-Length, and at most {BODY_BYTES} bytes")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _refused(400, f"the body is no JSON: {error}") from error
    if not isinstance(asked, dict):
        raise _refused(400, 'the body is no JSON object: give {"uuid": ..., "command": ..., "req_id": ...}')
    for name in ("uuid", "command", "req_id"):
        if name not in asked:
            raise _refused(400, f"{name} is missing")
    return _Opening(
        _text(asked, "uuid"),
        _text(asked, "command"),
        None if asked["req_id"] is None else _text(asked, "req_id", 0, ", or null"),
        _seconds(asked, "limit", LIMIT, LIMIT_LEAST, LIMIT_MOST),
        _seconds(asked, "wait", WAIT, 0, WAIT_MOST),
    )


def _text(asked: dict[str, Any], name: str, least: int = 1, more: str = "") -> str:
    value = asked[name]
    if not isinstance(value, str) or not least <= len(value) <= TEXT_MOST:
        raise _bad(name, value, f"a text of {least} to {TEXT_MOST:,} characters{more}")
    return value


def _seconds(asked: dict[str, Any], name: str, otherwise: float, least: float, most: float) -> float:
    value = asked.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise _bad(name, value, f"seconds from {least:g} to {most:g}")
    return value


def _timeout() -> float:
    asked = Query.of_request().seconds("timeout", 0.0, READ_MOST)
    return READ_SECONDS if asked is None else asked


def _bad(name: str, value: Any, wanted: str) -> Refused:
    return _refused(400, f"bad value for {name}: {repr(value)[:100]}; give {wanted}")


def _no_vm(key: str) -> Refused:
    return _refused(404, f"VM Not Found: {key[:TEXT_MOST]}")


def _refused(status: int, error: str) -> Refused:
    return Refused(status, {"error": error})
