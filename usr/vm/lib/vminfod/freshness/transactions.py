# SPDX-License-Identifier: MPL-2.0
"""The life of a transaction: its VM is held, and at its end, whatever that is, read and published in one step.

Always: a greenlet for each that is open sees to its end: a commit, the end of its connection, or its limit;
        the VM is held until the reading that ends it was applied, failed or took too long, and never longer: what
        then could not be read is tried again as ever;
        what is published has the transaction's own cause, and is all that has changed since it was opened.
Not here: who holds what (holds.py), the requests (transactionroutes.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

import gevent

from vminfod.freshness import onqueue
from vminfod.freshness.freshreads import FreshReads
from vminfod.freshness.previews import Previews
from vminfod.log import Log
from vminfod.queue import Queue
from vminfod.serving.cache import Cache
from vminfod.serving.cause import TRANSACTION, Cause
from vminfod.serving.holds import End, Holds, Stopping, Transaction

_READ_WITHIN = 60.0  # seconds for the reading that ends a transaction, if nobody said otherwise


class Transactions:
    """See the head of the module."""

    def __init__(self, holds: Holds, cache: Cache, queue: Queue, fresh_reads: FreshReads, previews: Previews, log: Log):
        self._holds = holds
        self._cache = cache
        self._queue = queue
        self._fresh_reads = fresh_reads
        self._previews = previews
        self._log = log
        self._lives: set[gevent.Greenlet] = set()
        self._stopped = False

    def open(self, wanted: Transaction, wait: float) -> bool:
        """Hold the VM back from now on. False if it is gone by the time that it is to be had. Raises TooMany, and
        StillHeld after `wait` seconds, and Stopping."""
        self._holds.take(wanted, wait)
        is_there = False
        try:
            self._let_end_what_is_applied(wanted)
            is_there = self._cache.records(wanted.zonename) is not None
        except onqueue.NotRun:
            raise Stopping from None
        finally:
            if not is_there:
                self._holds.release(wanted)
        if is_there:
            life = gevent.Greenlet(self._live, wanted)
            life.name = f"transaction on {wanted.zonename}"
            self._lives.add(life)
            life.start()
        return is_there

    def _let_end_what_is_applied(self, wanted: Transaction) -> None:
        """The VM stands still from here on: what a task on the queue has begun to publish of it, as it does for a while
        where a VM is large, is published first."""
        if self._stopped:
            raise onqueue.NotRun("the daemon stops")
        if self._queue.busy:
            onqueue.run(self._queue, f"hold {wanted.zonename} - [{wanted.id}]", lambda: None)

    def preview(self, transaction: Transaction, timeout: float) -> Optional[bytes]:
        """The VM as it would be, as JSON; None if it is gone. Raises LoadError."""
        return self._previews.preview(transaction.zonename, timeout)

    def stop(self) -> None:
        """Nothing is published any more: the next daemon serves what is there. Whoever waits gets an answer."""
        self._stopped = True
        gevent.killall(list(self._lives), block=False)

    def _live(self, holder: Transaction) -> None:
        try:
            if not holder.told.wait(holder.limit):
                holder.finish(End.EXPIRED)
            self._publish(holder)
        except Exception as error:  # noqa: BLE001 boundary: the VM must not stay held
            holder.why_not = f"a fault of the daemon's: {error}"
            self._log.error("a transaction failed unexpectedly", zonename=holder.zonename, err=error)
        except gevent.GreenletExit:
            holder.why_not = "the daemon stops"
            raise
        finally:
            self._lives.discard(gevent.getcurrent())
            self._holds.release(holder)

    def _publish(self, holder: Transaction) -> None:
        if holder.end is End.EXPIRED:
            self._log_end(self._log.warn, "a transaction was open for longer than its limit", holder)
        cause = Cause(TRANSACTION, holder.details(), holder.ended_at)
        self._holds.read_for(holder, cause)
        timeout = _READ_WITHIN if holder.timeout is None else holder.timeout
        holder.why_not = self._fresh_reads.read(holder.zonename, timeout, cause)
        if holder.why_not is not None:
            self._log_end(self._log.warn, "a transaction's VM cannot be read at its end", holder)
        else:
            self._log_end(self._log.info, "a transaction has ended", holder)

    @staticmethod
    def _log_end(log: Callable[..., None], message: str, holder: Transaction) -> None:
        log(
            message,
            zonename=holder.zonename,
            transaction=holder.id,
            end=None if holder.end is None else holder.end.value,
            writerPid=holder.writer.pid,  # `pid` is the daemon's own
            command=holder.writer.command,
            req_id=holder.writer.req_id,
            took=round(holder.age, 3),
            reason=holder.why_not,
        )
