# SPDX-License-Identifier: MPL-2.0
"""Lists that are made when they are asked for, and shared by all who ask for the same at one revision.

Always: a list is there for as long as it waits for anybody (waiting.py), however large; what waits for nobody is kept
        within a bound, the one made last for longest;
        nothing of an older revision is handed out."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from gevent import get_hub

from vminfod.serving.hub import Hub

KEPT_BYTES = 4 << 20  # of all lists together that wait for nobody; as text, without what else they cost
KEPT = 32


class SharedLists:
    """The lists of the newest revision that were asked for."""

    def __init__(self, hub: Hub):
        self._hub = hub
        self._waiting = hub.waiting
        self._rev = -1
        self._lists: dict[Hashable, bytes] = {}
        self._is_due = False  # _trim() runs in the next turn of the loop
        self._waiting.on_free(self._trim_soon)

    def __len__(self) -> int:
        return len(self._lists)

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The list called `key`, made by `make` if it is not there. Whoever gets it sends it, or begins to wait for
        it, before any other greenlet runs."""
        self._trim()
        body = self._lists.get(key)
        if body is None:
            body = self._lists[key] = make()
            self._trim_soon()
        return body

    def _trim_soon(self) -> None:
        """When what was made has been sent, or waits."""
        if self._lists and not self._is_due:
            self._is_due = True
            get_hub().loop.run_callback(self._trim)

    def _trim(self) -> None:
        self._is_due = False
        if self._rev != self._hub.rev:
            self._rev = self._hub.rev
            self._lists.clear()
        idle = [(key, len(body)) for key, body in self._lists.items() if not self._waiting.is_held(body)]
        size, count = sum(length for _, length in idle), len(idle)
        for key, length in idle:
            if size <= KEPT_BYTES and count <= KEPT:
                return
            del self._lists[key]
            size, count = size - length, count - 1
