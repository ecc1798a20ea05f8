# SPDX-License-Identifier: MPL-2.0
"""The `vmadm` command: finds the command word, runs it, turns errors into messages and exit codes (docs/vmadm.md).

Exit codes: 0; 1 when the work failed (one message on stderr); 2 when the words were wrong (message, then the usage
on stderr) or vmadm may not run here. A reader that closed the pipe is no failure."""

from __future__ import annotations

import os
import sys

from vmadm.cli.usage import ALIASES, WRITES, help_text, usage_text
from vmadm.errors import BadUsage, CannotRunHere, CommandFailed
from vminfod.bunyan import FATAL, LEVELS
from vminfod.cli.stdio import NO_ANSWER, STDERR, complain, put, put_last, run_to_end, say_waiting_to_people
from vminfod.clients.address import BadAddress, address_from_environment, read_limit
from vminfod.clients.clientlog import StderrLog
from vminfod.clients.failures import ConnectionFailed, VminfodError, VminfodTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = "vmadm"
FAILED, BAD_USAGE = 1, 2
TAB_LIMIT = 2.0  # seconds that a shell may have to wait for what Tab puts in
SILENT = FATAL + 1  # agents take anything on stderr for an error, so that nothing is logged unless asked for


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    """Run `vmadm argv...`; gives the exit code."""
    return run_to_end(lambda: _told(argv, environ), PROGRAM, environ)


def _told(argv: list[str], environ: Mapping[str, str]) -> int:
    """Run the command and report its errors."""
    try:
        return _run(argv, environ)
    except BadUsage as error:
        put_last((f"{error}\n" if str(error) else "") + usage_text(PROGRAM), STDERR)
        return BAD_USAGE
    except CannotRunHere as error:
        complain(f"FATAL: cannot run because: {error}")
        return BAD_USAGE
    except ConnectionFailed as error:
        complain(f"cannot reach vminfod: {error}")
    except VminfodTimeout as error:
        complain(f"{error}: {NO_ANSWER}")
    except (CommandFailed, VminfodError, BadAddress) as error:
        complain(str(error))
    return FAILED


def _run(argv: list[str], environ: Mapping[str, str]) -> int:
    check_place()
    if not argv:
        raise BadUsage
    word, words = argv[0], argv[1:]
    if word in ("help", "--help", "-h", "-?"):
        return _help(words)
    if "--help" in words[: words.index("--") if "--" in words else None]:
        return _help([word])
    command = ALIASES.get(word, word)
    if command in WRITES:
        from vmadm.cli.writes import write

        return write(command, word, words, environ, debug_log(environ))
    if command == "events":
        from vmadm.cli.events import follow

        follow(words, environ, debug_log(environ))
    if command in ("list", "lookup", "get", "info", "__complete"):
        return _read(command, word, words, environ)
    raise BadUsage(f'Invalid command: "{word}".')


def _help(words: list[str]) -> int:
    """`vmadm help`, and of one command. Raises BadUsage."""
    text = help_text(PROGRAM, words[0]) if words else usage_text(PROGRAM)
    if not text:
        raise BadUsage(f'Invalid command: "{words[0]}".')
    put(text)
    return 0


def _read(command: str, word: str, words: list[str], environ: Mapping[str, str]) -> int:
    from vmadm.cli import reads
    from vminfod.client import VminfodClient

    host, port, socket = address_from_environment(environ)
    client = VminfodClient(
        reads.CLIENT_NAME,
        host=host,
        port=port,
        socket=socket,
        log=debug_log(environ),
        timeout=TAB_LIMIT if command == "__complete" else read_limit(environ),
        waiting=say_waiting_to_people,
    )
    if command == "__complete":
        from vmadm.cli.completing import completed

        put(completed(client, words))
    elif command == "list":
        reads.list_vms(client, words)
    elif command == "lookup":
        reads.lookup(client, words)
    elif command == "info":
        reads.info(client, words, read_limit(environ), environ.get("VMADM_ROOT") or "/")
    else:
        reads.get(client, words, word)
    return 0


def debug_log(environ: Mapping[str, str]) -> StderrLog:
    """The log that VMADM_DEBUG_LEVEL asks for (a bunyan level's name); without it, none."""
    level = LEVELS.get(environ.get("VMADM_DEBUG_LEVEL", ""), SILENT)
    path = environ.get("VMADM_DEBUG_FILE")
    if level == SILENT or not path:
        return StderrLog(PROGRAM, level)
    return StderrLog(PROGRAM, level, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))


def check_place() -> None:
    """On SmartOS only root in the global zone sees all zones; elsewhere a mock node is served and anyone may look.

    Raises CannotRunHere."""
    if sys.platform != "sunos5":
        return
    if os.geteuid() != 0:
        raise CannotRunHere("you are not root")
    import ctypes

    if ctypes.CDLL(None).getzoneid() != 0:
        raise CannotRunHere("this is not the global zone")
