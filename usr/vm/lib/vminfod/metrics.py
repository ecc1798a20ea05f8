# SPDX-License-Identifier: MPL-2.0
"""The body of /metrics: what the daemon has counted (meters.py) and what it says of itself (reporting.py), in
Prometheus' text form, by Prometheus' own library.

Always: that library is imported with the first scrape, in the thread that writes the text: a daemon that nobody
        scrapes has no share of it in its memory;
        names and their meaning stay once they were released; docs/monitoring/README.md lists them."""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vminfod import VERSION
from vminfod.meters import Histogram, Meters


@dataclass(frozen=True)
class Now:
    """What is true at a moment. `status`: the body of /status; `vms`: how many by brand and state; `started`: seconds
    since 1970, when the daemon began; `since_refresh`: seconds since the last full refresh ended."""

    status: Mapping[str, Any]
    vms: Counter[tuple[str, str]]
    started: float
    since_refresh: float


def text(meters: Meters, now: Now) -> bytes:
    """All metrics. Takes a few milliseconds, the first time some 30: for a thread."""
    from prometheus_client.exposition import generate_latest
    from prometheus_client.registry import Collector, CollectorRegistry

    class Once(Collector):
        def collect(self) -> Iterator[Any]:
            yield from _counted(meters)
            yield from _of_now(now)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Once())
    written: bytes = generate_latest(registry)
    return written


def _counted(meters: Meters) -> Iterator[Any]:
    yield _counter("vminfod_events", "Events emitted", meters.events, "type", "source")
    yield _histogram(
        "vminfod_event_latency_seconds", "From the platform's event to ours, where there was one", meters.event_latency
    )
    yield _histogram("vminfod_task_wait_seconds", "How long a task waited in the queue", meters.task_waits)
    yield _histogram("vminfod_task_run_seconds", "How long a task of the queue ran", meters.task_runs)
    yield _histogram("vminfod_refresh_seconds", "How long a full refresh took that succeeded", meters.refreshes)
    yield _counter("vminfod_refreshes_failed", "Full refreshes that failed", {(): meters.refreshes_failed})
    found = {(kind,): count for kind, count in meters.refreshes_found.items()}
    yield _counter("vminfod_refresh_found", "What a full refresh found that no event had reported", found, "type")
    requests = {(answer, status.decode()): count for (answer, status), count in meters.requests.items()}
    yield _counter("vminfod_requests", "Requests answered", requests, "answer", "status")


def _of_now(now: Now) -> Iterator[Any]:
    status = now.status
    ring, queue = status["events"], status["queue"]["vasync_queue"]
    waiting = queue["nqueued"] + status["queue"].get("paused_nqueued", 0)
    yield _gauge("vminfod_info", "The daemon", {(VERSION, ring["epoch"]): 1}, "version", "epoch")
    yield _gauge("vminfod_healthy", "1, or 0 if GET /health gives reasons", {(): not status["health"]["reasons"]})
    yield _gauge("vminfod_vms", "VMs served", now.vms, "brand", "state")
    yield _gauge("vminfod_zones_unreadable", "Zones that cannot be read for now", {(): len(status["zoneErrors"])})
    yield _gauge("vminfod_revision", "Events emitted in this epoch", {(): ring["rev"]})
    yield _gauge("vminfod_tasks_waiting", "Tasks in the queue", {(): waiting})
    yield _gauge("vminfod_tasks_running", "Tasks that run", {(): queue["npending"]})
    yield _gauge("vminfod_zones_reading", "Zones being read", {(): len(status["reloading"])})
    yield _gauge("vminfod_since_refresh_seconds", "Since the last full refresh ended", {(): now.since_refresh})
    children = status["children"].items()
    yield _gauge(
        "vminfod_child_up", "Event sources", {(name,): one["state"] == "up" for name, one in children}, "child"
    )
    restarts = {(name,): one["restarts"] for name, one in children}
    yield _counter("vminfod_child_restarts", "How often an event source was started again", restarts, "child")
    skipped = {(name,): one["skippedLines"] for name, one in children}
    yield _counter("vminfod_child_skipped_lines", "Lines of an event source that could not be read", skipped, "child")
    yield _gauge("vminfod_listeners", "Open event streams", {(): len(status["eventsListeners"])})
    yield _gauge("vminfod_backlog_bytes", "What waits to be sent, of all clients", {(): ring["waitingBytes"]})
    deepest = max((one["backlogEvents"] for one in status["eventsListeners"].values()), default=0)
    yield _gauge("vminfod_backlog_events", "Events that wait for the listener with the most", {(): deepest})
    yield _counter("vminfod_listeners_cut", "Listeners cut because they did not read", {(): ring["slowListenersCut"]})
    yield _gauge("vminfod_connections", "Open connections", {(): status["connections"]})
    transactions = Counter(one["state"] for one in status.get("transactions", ()))
    states = {(state,): transactions[state] for state in ("open", "waiting", "ending")}
    yield _gauge("vminfod_transactions", "Writers that hold a VM, or wait for one", states, "state")
    yield _counter("vminfod_lost_log_records", "Log records that could not be written", {(): status["lostLogRecords"]})
    # What Prometheus' libraries say of every process, where it is to be had on SmartOS, too.
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield _gauge("process_resident_memory_bytes", "Resident memory", {(): status["memory"]["rss"]})
    yield _counter("process_cpu_seconds", "Processor time", {(): used.ru_utime + used.ru_stime})
    yield _gauge("process_start_time_seconds", "When it was started, since 1970", {(): now.started})
    yield _gauge("process_open_fds", "Open descriptors", {(): len(os.listdir("/proc/self/fd"))})


Samples = Mapping[Any, float]  # label values -> value


def _counter(name: str, help_text: str, samples: Samples, *labels: str) -> Any:
    from prometheus_client.core import CounterMetricFamily

    return _filled(CounterMetricFamily(name, help_text, labels=labels), samples.items())


def _gauge(name: str, help_text: str, samples: Samples, *labels: str) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return _filled(GaugeMetricFamily(name, help_text, labels=labels), samples.items())


def _filled(family: Any, samples: Iterable[tuple[Any, float]]) -> Any:
    for values, value in samples:
        family.add_metric(list(values), float(value))
    return family


def _histogram(name: str, help_text: str, measured: Histogram) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    return HistogramMetricFamily(name, help_text, buckets=measured.cumulative(), sum_value=measured.total)
