# SPDX-License-Identifier: MPL-2.0
"""The answers that are ready before anybody asks: /ping, /vms and /vms/:uuid as they are written by most clients.

Always: an answer is put together from bytes made when the VM or the revision changed; nothing blocks or switches;
        it is byte for byte what the routes of the API give (api.py), which answer everything else: other spellings of
        the path, queries, conditions, VMs that are not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Optional

from vminfod.serving.cache import Cache
from vminfod.serving.hub import Hub
from vminfod.serving.requesthead import Request

PONG = b'{"ping":"pong"}'
_VM = "/vms/"


class Answer(NamedTuple):
    """`head`: the status line and all lines that do not concern the connection, each with its end."""

    head: bytes
    body: bytes

    @property
    def status(self) -> str:
        """As in `200 OK`."""
        return self.head[9 : self.head.index(b"\r")].decode("latin-1")


class ReadyAnswers:
    """Called with a request: its answer, or None if it needs a route."""

    def __init__(self, cache: Cache, hub: Hub, unreadable: Callable[[], list[str]]):
        self._cache = cache
        self._hub = hub
        self._unreadable = unreadable
        self._rev = -1
        self._answers: dict[str, Answer] = {}  # those of revision _rev that were asked for, by target
        self._common = b""  # the lines of every head, at that revision

    def __call__(self, request: Request) -> Optional[Answer]:
        if request.method != "GET" or request.is_conditional:
            return None
        if self._rev != self._hub.rev:
            self._begin_revision()
        target = request.target
        if target == "/vms" and self._unreadable():
            return None  # that the list is not complete stands in the head, and has no revision
        return self._answers.get(target) or self._made(target)

    def _begin_revision(self) -> None:
        self._rev = self._hub.rev
        self._answers.clear()
        lines = (f"{name}: {value}\r\n" for name, value in common_headers(self._hub))
        self._common = f"HTTP/1.1 200 OK\r\n{''.join(lines)}".encode()

    def _made(self, target: str) -> Optional[Answer]:
        if target == "/ping":
            answer = Answer(b"%bContent-Length: %d\r\n" % (self._common, len(PONG)), PONG)
        elif target == "/vms":
            answer = self._tagged(self._rev, self._cache.vms())
        else:
            served = self._cache.served(target[len(_VM) :]) if target.startswith(_VM) else None
            if served is None:
                return None
            answer = self._tagged(served.rev, served.body)
        self._answers[target] = answer
        return answer

    def _tagged(self, rev: int, body: bytes) -> Answer:
        tag = b'Etag: "%b:%d"\r\n' % (self._hub.epoch.encode(), rev)
        return Answer(b"%b%bContent-Length: %d\r\n" % (self._common, tag, len(body)), body)


def common_headers(hub: Hub) -> list[tuple[str, str]]:
    """What every answer's head says: that it is JSON, and where the daemon stands."""
    return [("Content-Type", "application/json"), ("X-Vminfod-Epoch", hub.epoch), ("X-Vminfod-Rev", str(hub.rev))]
