# SPDX-License-Identifier: MPL-2.0
"""The daemon as a program: options, the check of where it runs, signals, and how it ends.

Exit status: 0 after a signal to stop, 1 if it could not start (with one line that says why), 2 for wrong options."""

from __future__ import annotations

import argparse
import gc
import os
import resource
import signal
import subprocess
import sys
import types
from typing import Any, Optional

import gevent
from gevent.event import Event as Flag

from vminfod import VERSION, largeblocks, log
from vminfod.bunyan import LEVELS
from vminfod.serving.hub import BACKLOG_BYTES, BACKLOG_EVENTS, Limits
from vminfod.vminfo import CannotStart, Options, Vminfod
from vminfod.watchers.child import READY_WITHIN
from vmload.system import ALL_LIMIT, ONE_LIMIT, TimeLimits

PORT = 9090
ADDRESS = "127.0.0.1"
REFRESH_INTERVAL = 300.0  # seconds after the end of the refresh before

# How long a thread may hold the interpreter while others want it, seconds. Python's own 5 ms, times the few turns that
# a request takes, would show in each answer while a full load is being parsed in a thread. Before it
# serves nobody waits, and each turn costs.
_SWITCH_INTERVAL = 0.001

# So many new objects make Python look for cycles among them; each 5th time among those of the last such looks as well;
# at every 100th of those among all. Nothing else runs meanwhile, and on a large node a look at all takes tens of
# milliseconds. With Python's own 700, 10 and 10 each full load would have one or two of them.
_COLLECT_AFTER = (5_000, 5, 100)

# Descriptors: all the connections, and the pipes of children.
_DESCRIPTORS = 8192


def main(arguments: list[str]) -> int:
    """Run the daemon until a signal ends it; its exit status."""
    options = _parse(arguments)
    logger, handler = log.start("vminfod", options.log_level)
    if options.root is None:
        reason = why_not_here()
        if reason is not None:
            logger.error(f"vminfod cannot run: {reason}")
            print(f"vminfod: cannot run: {reason}; to run on another node's root folder, use --root", file=sys.stderr)
            return 1
    _raise_descriptor_limit()
    largeblocks.go_back_when_freed()
    # Who spawned whom, with the stack of that moment: a quarter of what a greenlet costs.
    gevent.config.track_greenlet_tree = False
    gc.set_threshold(*_COLLECT_AFTER)
    _log_unexpected_errors(logger)
    stop = Flag()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    daemon = Vminfod(
        Options(
            options.root or "/",
            list(dict.fromkeys(options.ip or [ADDRESS])),
            options.port,
            options.refresh_interval,
            Limits(backlog_bytes=options.listener_backlog_bytes, backlog_events=options.listener_backlog_events),
            TimeLimits(options.zone_limit, options.node_limit),
            options.child_limit,
        ),
        logger,
        handler,
    )
    gevent.signal_handler(signal.SIGHUP, daemon.refresh)
    starting = gevent.spawn(start, daemon)
    starting.name = "start"
    # A signal during the first load, which can take minutes, stops the start as well.
    gevent.wait([starting, stop], count=1)
    try:
        if starting.ready():
            starting.get()
            stop.wait()
    except CannotStart as error:
        logger.fatal("cannot start", err=error)
        print(f"vminfod: {error}", file=sys.stderr)
        return 1
    finally:
        starting.kill(timeout=1.0)
        daemon.stop()
        logger.close()
    return 0


def start(daemon: Vminfod) -> None:
    """Until it serves Python does not look for cycles (usr/vm/sbin/vminfod): what is imported and loaded by then stays
    mostly, and is not looked at later either. Raises CannotStart."""
    daemon.start()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.freeze()
    gc.enable()


def why_not_here() -> Optional[str]:
    """Why this is not a place for the daemon, or None if it is root in the global zone of SmartOS."""
    if os.uname().sysname != "SunOS":
        return f"this is {os.uname().sysname}, not SmartOS"
    if os.geteuid() != 0:
        return "not root"
    zone = subprocess.run(["/usr/bin/zonename"], capture_output=True, text=True, check=False).stdout.strip()
    if zone != "global":
        return f"not in the global zone, but in {zone or 'an unknown one'}"
    return None


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="vminfod",
        allow_abbrev=False,
        description="Keeps the objects of all VMs of this compute node in memory, serves them and streams each change.",
    )
    parser.add_argument("--version", action="version", version=f"vminfod {VERSION}")
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="the node's root folder, for its tools and files alike; without it, only SmartOS's global zone will do",
    )
    parser.add_argument(
        "--ip", action="append", metavar="ADDR", help=f"listen on this address ({ADDRESS}); can be given several times"
    )
    parser.add_argument("--port", type=_port, default=PORT, metavar="N", help=f"listen on this port ({PORT})")
    parser.add_argument(
        "--refresh-interval",
        type=_positive,
        default=REFRESH_INTERVAL,
        metavar="S",
        help=f"seconds between two full refreshes ({REFRESH_INTERVAL:g})",
    )
    parser.add_argument(
        "--log-level",
        choices=list(LEVELS),
        default="info",
        metavar="L",
        help=f"the least level that is logged: {', '.join(LEVELS)} (info)",
    )
    parser.add_argument(
        "--listener-backlog-bytes",
        type=_count,
        default=BACKLOG_BYTES,
        metavar="N",
        help=f"bytes that an /events listener may leave unread before it is cut ({BACKLOG_BYTES})",
    )
    parser.add_argument(
        "--listener-backlog-events",
        type=_count,
        default=BACKLOG_EVENTS,
        metavar="N",
        help=f"events that an /events listener may leave unread before it is cut ({BACKLOG_EVENTS})",
    )
    # For a platform that is far slower, or a test that will not wait: how long what hangs is waited for.
    for name, seconds, what in (
        ("zone", ONE_LIMIT, "a command, or the reading of files, about one zone may take"),
        ("node", ALL_LIMIT, "a command about all zones may take"),
        ("child", READY_WITHIN, "sysevent and fswatcher have until they are ready, or have ended a line"),
    ):
        parser.add_argument(
            f"--{name}-limit", type=_positive, default=seconds, metavar="S", help=f"seconds that {what} ({seconds:g})"
        )
    options = parser.parse_args(arguments)
    if options.root is not None and not os.path.isdir(options.root):
        parser.error(f"--root: there is no folder {options.root}")
    return options


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 1 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _positive(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _log_unexpected_errors(logger: log.Log) -> None:
    """What escapes a greenlet is a fault of ours: into the log with it, not onto a terminal without a reader. That the
    daemon cannot start is none: main() reports it."""

    def escaped(
        context: Any, kind: type[BaseException], error: BaseException, _trace: Optional[types.TracebackType]
    ) -> None:
        if not issubclass(kind, (gevent.GreenletExit, CannotStart)):
            logger.error("an error escaped a greenlet", greenlet=str(getattr(context, "name", context)), err=error)

    gevent.get_hub().handle_error = escaped
