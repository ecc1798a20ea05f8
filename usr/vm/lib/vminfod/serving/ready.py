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
_PONG_LENGTH = b"Content-Length: %d\r\n" % len(PONG)
_VM = "/vms/"


class Answer(NamedTuple):
    """`status`: as in `200 OK`. `lines`: of the head, each with its end, without those that concern the connection."""

    status: bytes
    lines: bytes
    body: bytes


class ReadyAnswers:
    """Called with a request: its answer, or None if it needs a route."""

    def __init__(self, cache: Cache, hub: Hub, unreadable: Callable[[], list[str]]):
        self._cache = cache
        self._hub = hub
        self._unreadable = unreadable
        self._rev = -1
        self._common = b""  # the lines of every head, at revision _rev

    def __call__(self, request: Request) -> Optional[Answer]:
        if request.method != "GET" or "if-none-match" in request.headers:
            return None
        if self._rev != self._hub.rev:
            self._rev = self._hub.rev
            self._common = b"".join(b"%b: %b\r\n" % (n.encode(), v.encode()) for n, v in common_headers(self._hub))
        target = request.target
        if target.startswith(_VM):
            served = self._cache.served(target[len(_VM) :])
            return None if served is None else self._tagged(served.rev, served.body)
        if target == "/ping":
            return Answer(b"200 OK", self._common + _PONG_LENGTH, PONG)
        if target == "/vms" and not self._unreadable():
            return self._tagged(self._rev, self._cache.vms())
        return None

    def _tagged(self, rev: int, body: bytes) -> Answer:
        lines = b'%bEtag: "%b:%d"\r\nContent-Length: %d\r\n' % (self._common, self._hub.epoch.encode(), rev, len(body))
        return Answer(b"200 OK", lines, body)


def common_headers(hub: Hub) -> list[tuple[str, str]]:
    """What every answer's head says: that it is JSON, and where the daemon stands."""
    return [("Content-Type", "application/json"), ("X-Vminfod-Epoch", hub.epoch), ("X-Vminfod-Rev", str(hub.rev))]
