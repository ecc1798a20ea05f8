# SPDX-License-Identifier: MPL-2.0
"""Waiting for a state that comes later: running, stopped, provisioned.

The stream of events is opened before the act, so that nothing in between is missed; after the act comes a fresh read,
since the state may be there already; then events are followed until the VM shows what is waited for.
Within a transaction nothing of the VM comes by events: it is read anew every HELD_POKE seconds instead.
A node can lose events, and vminfod can be restarted: when nothing comes for POKE seconds a fresh read is asked for
again, and a stream that ended is opened again. So a wait never hangs on an event that was lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Optional

from vmadm.actions.session import Session, nothing_changed
from vmadm.errors import NotReached
from vminfod.client import VminfodError, VminfodTimeout
from vminfod.clients.stream import VminfodEventStream
from vmload import Vm

POKE = 2.0  # seconds without an event after which the VM is read anew; a read costs the node some 50 ms
HELD_POKE = 0.2  # likewise, within a transaction
STREAM_AGAIN = 0.5  # seconds between tries to open the stream again
Check = Callable[[Optional[Vm]], bool]


class Follower:
    """Follows one VM. Raises DaemonAway when made, if vminfod does not answer: then nothing was changed yet."""

    def __init__(self, session: Session, zonename: str, name: str) -> None:
        self._session = session
        self._zonename = zonename
        self._name = name
        self._stream = VminfodEventStream(
            name,
            host=session.host,
            port=session.port,
            socket=session.socket,
            log=session.log,
            query={"uuid": zonename, "vms": "false"},
        )
        try:
            self._stream.wait_ready()
        except VminfodError as error:
            self._stream.stop()
            raise nothing_changed(error) from error

    def until(self, check: Check, seconds: float, what: str) -> Optional[Vm]:
        """The VM that `check` accepts; it is shown each state in order, None when the VM is gone.

        Raises NotReached with the text `what` after `seconds`."""
        deadline = time.monotonic() + seconds
        vm = self._session.fresh(self._zonename, self._name)
        while not check(vm):
            vm = self._next(deadline, what)
        return vm

    def _next(self, deadline: float, what: str) -> Optional[Vm]:
        self._session.check_interrupted()
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotReached(what)
        if self._session.transaction is not None:
            time.sleep(min(left, HELD_POKE))
            return self._session.fresh(self._zonename, self._name)
        try:
            event = self._stream.read(min(left, POKE))
            return event.get("vm")
        except VminfodTimeout:
            pass  # silence: is it true?
        except VminfodError as error:
            self._session.log.warning("event stream ended, opening it again", extra={"err": str(error)})
            time.sleep(min(left, STREAM_AGAIN))
            self._stream.stop()
            self._stream.start()
        return self._session.fresh(self._zonename, self._name)

    def __enter__(self) -> Follower:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._stream.stop()
