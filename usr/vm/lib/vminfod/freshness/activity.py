# SPDX-License-Identifier: MPL-2.0
"""What the daemon is doing, in the words of /status (docs/http-api.md, "Status")."""

from __future__ import annotations

from vminfod.log import Log


class Activity:
    """`state`: stopped, booting, running, paused. `status`: in a few words."""

    def __init__(self, log: Log):
        self._log = log
        self.state = "stopped"
        self.status = "initialized"

    def booting(self) -> None:
        """The daemon starts."""
        self.state = "booting"

    def running(self) -> None:
        """It serves, and has nothing else to do."""
        self.state = "running"
        self.doing("working")

    def stopped(self) -> None:
        """It has ended."""
        self.state, self.status = "stopped", "initialized"

    def doing(self, status: str, *, paused: bool = False) -> None:
        """What it does now. `paused`: the queue of events is paused for it."""
        state = self.state
        if self.state in ("running", "paused"):
            state = "paused" if paused else "running"
        if (state, status) != (self.state, self.status):
            self._log.debug("status", oldState=self.state, state=state, oldStatus=self.status, status=status)
        self.state, self.status = state, status
