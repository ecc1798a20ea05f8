# SPDX-License-Identifier: MPL-2.0
"""The `vminfo` command: ask vminfod directly, mostly for debugging.

Exit codes: 0, and 1 for wrong usage, a daemon that is away, an answer that is not 200, and a status, as text or as
JSON, that says that something is wrong. Usage goes to stdout in every case, the reason of a failure to stderr."""

from __future__ import annotations

from vminfod.bunyan import ERROR
from vminfod.cli.options import BadOption, BadUsage, parsed_options
from vminfod.cli.stdio import (
    NO_ANSWER,
    STDOUT,
    complain,
    end_with_reader,
    escaped_lines,
    put,
    put_last,
    run_to_end,
    say_incomplete,
    say_waiting_for_answer,
)
from vminfod.client import VminfodClient, vm_path
from vminfod.clients.address import BadAddress, address_from_environment, read_limit
from vminfod.clients.clientlog import StderrLog
from vminfod.clients.connection import READY_TIMEOUT
from vminfod.clients.failures import VminfodError, VminfodTimeout
from vminfod.clients.identity import Identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

USAGE = """\
Usage: vminfo <command> [options]

ping                  say pong if vminfod answers
status [-jf]          the daemon's own state; -j as JSON, -f with the refresh log and the file watcher. Exit status 1 if
                      something is wrong
vms                   all VM objects as JSON
vm <zonename>         one VM object as JSON
top [-1]              the VMs and their changes on a full screen; -1 prints once
events [-jfr]         follow what changes; -j as JSON, -f full dates and names, -r also the ready event
transaction <zonename> [-l <seconds>] -- <command> [<argument> ...]
                      run a command; all that it changes of that VM comes as one event, when it has ended or, at the
                      latest, after -l (--limit) seconds: 60 if not given, at most 600. Exit status: the command's; 125
                      if there is no transaction, and nothing was run
help                  this text

The environment variables VMINFOD_HOST and VMINFOD_PORT choose another daemon than that of this node,
VMINFOD_TIMEOUT the seconds that an answer may take: 60 if it is not set, 30 for the first of events, 0 for no limit.
"""
HELP = {"h": "help"}
LIMIT = {"l": "limit"}
OPTIONS = {  # command -> letter -> long name
    "status": {**HELP, "j": "json", "f": "full"},
    "vms": HELP,
    "vm": HELP,
    "top": {**HELP, "1": "once"},
    "events": {**HELP, "j": "json", "f": "full", "r": "ready"},
    "transaction": HELP,
}
VALUED = {"transaction": LIMIT}  # likewise, of the options that take a value


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    """Run `vminfo argv...`; gives the exit code."""
    return run_to_end(lambda: _told(argv, environ), "vminfo", environ)


def _told(argv: list[str], environ: Mapping[str, str]) -> int:
    """Run the command and report its errors."""
    try:
        return _run(argv, environ)
    except BadUsage as error:
        put_last(f"{error}\n\n{USAGE}", STDOUT)
    except BadOption as error:
        complain(str(error))
        put_last(USAGE, STDOUT)
    except VminfodTimeout as error:
        complain(f"{error}: {NO_ANSWER}")
    except (VminfodError, BadAddress) as error:
        complain(str(error))
    return 1


def _run(argv: list[str], environ: Mapping[str, str]) -> int:
    if not argv:
        raise BadUsage("A command is needed.")
    command, words = argv[0], argv[1:]
    options: dict[str, list[str]] = {}
    if command == "ping":
        words = []  # it takes no options and minds none
    elif command in OPTIONS:
        options, words = parsed_options(words, OPTIONS[command], VALUED.get(command, {}))
        if "help" in options:
            command = "help"
    elif command.startswith("-"):
        options, _ = parsed_options([command], HELP, {})
        command = "help" if options else command
    if command == "help":
        put(_help_of(argv[1]) if argv[0] == "help" and argv[1:] else USAGE)
        return 0
    if command != "ping" and command not in OPTIONS:
        raise BadUsage(f"Unknown command: {command}")
    if command in ("vm", "transaction") and not words:
        raise BadUsage(f"The command {command} needs the name of a zone.")
    return _ask(command, options, words, environ)


def _help_of(command: str) -> str:
    """The part of the usage that is about one command. Raises BadUsage."""
    lines = USAGE.splitlines()
    starts = [at for at, line in enumerate(lines) if line.split() and line.split()[0] == command]
    if not starts or command.startswith("Usage"):
        raise BadUsage(f"Unknown command: {command}")
    end = starts[0] + 1
    while lines[end].startswith(" "):
        end += 1
    return "\n".join(["Usage: vminfo " + lines[starts[0]], *lines[starts[0] + 1 : end]]) + "\n"


def _ask(command: str, options: dict[str, list[str]], words: list[str], environ: Mapping[str, str]) -> int:
    """Ask vminfod, and print what it says."""
    host, port, socket = address_from_environment(environ)
    limit = read_limit(environ)
    name = f"{environ['VMINFOD_NAME']} (Vminfod CLI)" if environ.get("VMINFOD_NAME") else "Vminfod CLI"
    log = StderrLog("vminfo", ERROR)
    if command == "events":
        return _events(Identity(name, host, port, log, socket), options, read_limit(environ, READY_TIMEOUT))
    client = VminfodClient(
        name, host=host, port=port, socket=socket, log=log, timeout=limit, waiting=say_waiting_for_answer
    )
    if command == "top":
        from vminfod.cli import top

        identity = Identity(name, host, port, log, socket)
        return top.print_once(client) if "once" in options else top.watch(identity, client, environ)
    if command == "transaction":
        from vminfod.cli import heldcommand

        return heldcommand.run_held(client, heldcommand.asked(words, options), environ)
    if command == "ping":
        put(f"{client.ping().get('ping')}\n")
    elif command == "status":
        return _status(client, options, environ)
    elif command == "vms":
        _print_list(client)
    else:
        _print_json(client, vm_path(words[0]))
    return 0


def _status(client: VminfodClient, options: Mapping[str, object], environ: Mapping[str, str]) -> int:
    """Print the daemon's own state; 1 if something is wrong with it."""
    from vminfod.cli import colours
    from vminfod.cli.status_text import status_text, verdict_line

    full = "full" in options
    if "json" in options:
        return 1 if verdict_line(_print_json(client, "/status?full=true" if full else "/status")) else 0
    status = client.status(full)
    verdict = verdict_line(status)
    text = verdict + status_text(status, full=full)
    in_colour = bool(verdict) and colours.wanted(environ)
    put(colours.first_line(escaped_lines(text), colours.RED) if in_colour else text, is_escaped=in_colour)
    return 1 if verdict else 0


def _events(identity: Identity, options: Mapping[str, object], limit: float) -> NoReturn:
    """Print what happens, for ever; `limit`: seconds until the ready event. Raises VminfodError at the stream's end."""
    import gc

    from vminfod.cli.eventtext import event_text, json_text, ready_text
    from vminfod.clients.eventfeed import EventFeed
    from vminfod.clients.plainjson import parsed_as_spelled

    gc.enable()  # this one lives long
    full, as_json, with_ready = "full" in options, "json" in options, "ready" in options
    end_with_reader()
    query = "" if as_json and with_ready else "?vms=false"  # the snapshot only where it is printed
    waiting = lambda: say_waiting_for_answer("/events")  # noqa: E731
    feed = EventFeed(identity, query=query, ready_timeout=limit or None, parse=parsed_as_spelled, waiting=waiting)
    ready = feed.ready()
    if with_ready:
        put(json_text(ready) if as_json else ready_text(ready, full=full))
    while True:
        event = feed.next()
        put(json_text(event) if as_json else event_text(event, full=full))


def _print_list(client: VminfodClient) -> None:
    from vminfod.clients.plainjson import parsed_as_spelled, pretty

    vms, unreadable = client.vms_and_unreadable(parse=parsed_as_spelled)
    put(pretty(vms) + "\n")
    say_incomplete(unreadable)


def _print_json(client: VminfodClient, path: str) -> Any:
    from vminfod.clients.plainjson import parsed_as_spelled, pretty

    shown = client.get(path, parse=parsed_as_spelled)
    put(pretty(shown) + "\n")
    return shown
