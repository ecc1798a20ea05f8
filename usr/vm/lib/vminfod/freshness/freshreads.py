# SPDX-License-Identifier: MPL-2.0
"""Reads that somebody asks and waits for: all of one VM, read after the question; if wanted without the node's sysinfo,
which gives four properties of it.

Always: what cannot be read is the answer, whichever source it is; but the end of a transaction is well whatever becomes
        of sysinfo, of which its writer has changed nothing."""

from __future__ import annotations

import time
from typing import Optional

from vminfod.freshness.reloads import NotInTime, Reloads
from vminfod.freshness.retrying import Retrying
from vminfod.freshness.sysinforeads import SysinfoReads
from vminfod.serving.cache import Cache
from vminfod.serving.cause import REQUEST, Cause
from vminfod.serving.holds import Holds
from vminfod.watchers.zonewatcher import is_zonename
from vmload.loader import Loader
from vmload.loaderror import LoadError
from vmload.reader import SYSINFO, zone_xml_path


class FreshReads:
    """See the head of the module."""

    def __init__(
        self,
        loader: Loader,
        cache: Cache,
        holds: Holds,
        reloads: Reloads,
        retrying: Retrying,
        sysinfo_reads: SysinfoReads,
    ):
        self._loader = loader
        self._cache = cache
        self._holds = holds
        self._reloads = reloads
        self._retrying = retrying
        self._sysinfo_reads = sysinfo_reads

    def read(self, key: str, timeout: float, cause: Cause = REQUEST, *, with_sysinfo: bool = True) -> Optional[str]:
        """Read the VM with this zone name or uuid anew. None if that was done; else why it cannot be read, or why that
        took more than `timeout` seconds. `cause`: of what is found to have changed. `with_sysinfo`: the properties that
        are the node's, too."""
        zonename = self._cache.zonename(key) or key
        if not is_zonename(zonename):
            return None  # it cannot exist, and what anybody writes into a URL is not for zoneadm
        until = time.monotonic() + timeout
        sysinfo = self._sysinfo_reads.begin_fresh(REQUEST) if with_sysinfo else None
        try:
            self._reloads.read_fresh(zonename, cause, timeout)
        except NotInTime:
            return f"VM not read within {timeout:g} s: {self._why_stale(zonename)}"
        except LoadError as error:
            return f"VM cannot be read: {why_not(zonename, error)}"
        if sysinfo is None:
            return None
        sysinfo.join(max(0.0, until - time.monotonic()))
        if not sysinfo.ready():
            return f"VM not read within {timeout:g} s: waiting for the file {SYSINFO}"
        if sysinfo.value is None or cause.ends_transaction or self._cache.records(zonename) is None:
            return None
        return f"VM cannot be read: sysinfo: {sysinfo.value}"

    def _why_stale(self, zonename: str) -> str:
        """Why the zone has not been read: who holds it, its error, or the command that is waited for."""
        holder = self._holds.holder(zonename)
        if holder is not None and not self._holds.is_readable(zonename):
            return str(holder)
        error = self._retrying.get(zonename)
        if error is not None:
            since = (time.monotonic_ns() - error.since) / 1e9
            return f"it cannot be read since {since:.0f} s ({error.tries} tries): {error.error}"
        return waited_for(self._loader, self._cache, zonename)


def waited_for(loader: Loader, cache: Cache, zonename: str) -> str:
    """What a reading of the zone waits for: of what runs the oldest that is about the zone, if there is one."""
    records = cache.records(zonename)
    about = {zonename} if records is None else {zonename, records.zone.zonepath.lstrip("/")}
    commands, reads = loader.running(), loader.file_reads.under_way()
    own = [(command.seconds, command.what) for command in commands if command.names(about)]
    own += [(seconds, f"reading {what}") for what, seconds in reads if zonename in what.split()]
    for seconds, what in sorted(own, reverse=True) or [(command.seconds, command.what) for command in commands]:
        return f"waiting for {what}, which runs {seconds:.1f} s"
    return "it is being read, and waits for its turn"


def why_not(zonename: str, error: LoadError) -> str:
    """Why the zone could not be read, with the file that is broken."""
    # The code is the XML's alone, and its text is the parser's, without the file.
    return f"{zone_xml_path(zonename)}: {error}" if error.code == "PARSE_ERROR" else str(error)
