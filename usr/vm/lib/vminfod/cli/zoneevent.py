# SPDX-License-Identifier: MPL-2.0
"""The `zoneevent` command: one line of JSON for each zone state change, for ever.

When the stream breaks it says so in its log (silent unless asked with -l) and opens a new one after RETRY seconds;
one loop does both, so that there is never more than one stream and one retry (R9)."""

from __future__ import annotations

import time
from functools import partial

from vminfod.bunyan import LEVELS
from vminfod.cli.options import BadOption, parsed_options
from vminfod.cli.stdio import STDERR, complain, end_with_reader, put, put_last, run_to_end, say_waiting_to_people
from vminfod.clients.address import BadAddress, address_from_environment
from vminfod.clients.clientlog import StderrLog
from vminfod.clients.failures import VminfodError
from vminfod.clients.plainjson import compact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn, Optional

RETRY = 1.0  # seconds, as the original

USAGE = """\
Usage: zoneevent [-i ident] [-l level] [-h]

  -i, --ident ident   who is asking; shown by `vminfo status`
  -l, --level level   log to stderr from this level on: trace, debug, info, warn, error or fatal (default)
  -h, --help          this text

Prints a line of JSON for each change of a zone's state.
"""


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    """Run `zoneevent argv...`; gives the exit code."""
    return run_to_end(lambda: _told(argv, environ), "zoneevent", environ)


def _told(argv: list[str], environ: Mapping[str, str]) -> int:
    """Run the command and report its errors."""
    try:
        options, _ = parsed_options(argv, {"h": "help"}, {"i": "ident", "l": "level"})
        if "help" in options:
            put(USAGE)
            return 0
        level = options.get("level", ["fatal"])[-1]
        if level not in LEVELS:
            raise BadOption(f"unknown log level -- {level}")
        host, port, socket = address_from_environment(environ)
        name = "zoneevent CLI" + "".join([f" ({ident})" for ident in options.get("ident", [])])
        _follow(name, StderrLog("zoneevent", LEVELS[level]), host, port, socket)
    except BadOption as error:
        complain(str(error))
        put_last(USAGE, STDERR)
    except BadAddress as error:
        complain(str(error))
    return 1


def _follow(name: str, log: StderrLog, host: Optional[str], port: Optional[int], socket: str) -> NoReturn:
    from vminfod.clients.zonestates import ZoneEvent

    end_with_reader()
    waiting: Optional[Callable[[], object]] = partial(say_waiting_to_people, "/events")
    while True:
        try:
            with ZoneEvent(name, log, host=host, port=port, socket=socket, waiting=waiting) as changes:
                waiting = None  # said once: it goes on for ever
                for change in changes:
                    put(compact(change) + "\n")
        except VminfodError as error:
            log.warning("lost vminfod, trying again", extra={"err": str(error), "seconds": RETRY})
        time.sleep(RETRY)
