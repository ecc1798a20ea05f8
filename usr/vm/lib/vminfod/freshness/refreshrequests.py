# SPDX-License-Identifier: MPL-2.0
"""Wishes for a full refresh: whoever finds that anything may be stale leaves one here, and the refresh takes them.

Built before both, so that neither has to know the other."""

from __future__ import annotations

from typing import Optional

from gevent.event import Event as Flag

from vminfod.log import Log
from vminfod.serving.cause import REFRESH, Cause


class RefreshRequests:
    """See the head of the module."""

    def __init__(self, log: Log):
        self._log = log
        self._wanted = Flag()
        self._cause: Optional[Cause] = None  # of the request that came first

    def request(self, cause: Cause = REFRESH) -> None:
        """Refresh soon: what `cause` says may have made anything stale."""
        self._cause = self._cause or cause
        self._wanted.set()

    def missed(self, reason: str) -> None:
        """A watcher may have missed events."""
        self._log.warn("events may have been missed: refreshing", reason=reason)
        self.request()

    def wait(self, seconds: float) -> Optional[Cause]:
        """Wait for a request, `seconds` at most: its cause, None if there was none."""
        self._wanted.wait(seconds)
        self._wanted.clear()
        cause, self._cause = self._cause, None
        return cause
