# SPDX-License-Identifier: MPL-2.0
"""A VM as it would be if it were published now: read anew and assembled, and never served.

Always: nothing here is applied or watched, so that it may be read beside the reading that is (reloads.py); none of its
        sources may be late (zonereading.py)."""

from __future__ import annotations

from functools import partial
from typing import Optional

import gevent

from vminfod.freshness.freshreads import waited_for, why_not
from vminfod.freshness.sysinfo import Sysinfo
from vminfod.freshness.sysinforeads import SysinfoReads
from vminfod.freshness.threads import Threads
from vminfod.freshness.zonereading import ZoneReading
from vminfod.log import Log
from vminfod.serving import jsonslices, jsontext
from vminfod.serving.cache import Cache
from vminfod.serving.cause import REQUEST
from vmload import parts as part
from vmload.loader import Loader, assemble
from vmload.loaderror import CommandFailed, LoadError, XmlGone, ZoneGone
from vmload.records import ZoneRecords


class Previews:
    """See the head of the module."""

    def __init__(
        self,
        loader: Loader,
        cache: Cache,
        sysinfo: Sysinfo,
        sysinfo_reads: SysinfoReads,
        threads: Threads,
        log: Log,
    ):
        self._loader = loader
        self._cache = cache
        self._sysinfo = sysinfo
        self._sysinfo_reads = sysinfo_reads
        self._threads = threads
        self._log = log

    def preview(self, zonename: str, timeout: float) -> Optional[bytes]:
        """The VM as JSON; None if it is gone. Raises LoadError, also after `timeout` seconds."""
        reading = gevent.spawn(self._outcome, zonename)
        reading.name = f"preview of {zonename}"
        reading.join(timeout)
        if not reading.ready():
            why = waited_for(self._loader, self._cache, zonename)
            reading.kill(block=False)
            raise LoadError(f"not read within {timeout:g} s: {why}", "ETIMEDOUT")
        body, error = reading.get()
        if error is not None:
            raise LoadError(why_not(zonename, error), error.code) from error
        found: Optional[bytes] = body
        return found

    def _outcome(self, zonename: str) -> tuple[Optional[bytes], Optional[LoadError]]:
        sysinfo = self._sysinfo_reads.begin_fresh(REQUEST)
        try:
            records = self._read(zonename)
            sysinfo.join()
            return self._body(records), None
        except (ZoneGone, XmlGone):
            return None, None
        except LoadError as error:
            return None, error

    def _read(self, zonename: str) -> ZoneRecords:
        """All of the zone. Raises LoadError."""
        old = partial(self._cache.records, zonename)
        reading = ZoneReading(zonename, self._loader.sources, self._threads, self._log, old)
        reading.mark(part.ALL, (), REQUEST)
        try:
            reading.run(is_whole=True)
            if any(isinstance(failure.error, CommandFailed) for failure in reading.sources.failed.values()):
                reading.sources.retry()  # in a moment it may do better, as with a fresh read
                reading.run(is_whole=True)
            records = reading.sources.known()
            for failure in reading.sources.failed.values():
                raise failure.error
        finally:
            reading.sources.stop()
        assert records is not None
        return records

    def _body(self, records: ZoneRecords) -> bytes:
        vm = assemble(records, self._sysinfo.value)
        if jsonslices.is_heavy(vm):
            return self._threads.computing(partial(jsonslices.encode, vm))
        return jsontext.encode(vm)
