# SPDX-License-Identifier: MPL-2.0
"""A command that runs in our place, as `sudo` and `env` have it: with our stdin, stdout and stderr, in our process
group, and with an exit status that says how it ended.

Always: while it runs no signal ends us: Ctrl-C is the command's, and what comes after it is still to be done.
        What a terminal sends (Ctrl-C, Ctrl-\\, a hang-up) reaches the whole group, and so the command, by itself;
        what a process sent to us alone is passed on.
Ctrl-Z stops both, as it does any job of a shell."""

from __future__ import annotations

import errno
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_FOUND = 127  # what shells say of a command that is not there,
NOT_EXECUTABLE = 126  # of one that cannot be run,
BY_SIGNAL = 128  # and, with its number added, of one that a signal ended

SHELL = "/bin/sh"

OURS = (signal.SIGPIPE, signal.SIGXFSZ)  # which Python ignores, and a command must not inherit ignored

PASSED_ON = frozenset(
    {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM}
)


class CannotRun(Exception):
    """The command was not run; the text says why, `status` is what a shell would give."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def run(command: list[str], environ: Mapping[str, str]) -> int:
    """Run the command to its end; gives its exit status, 128 and the signal's number if one ended it. Raises
    CannotRun."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, as we may have been started, it would hide the end
    waited_for = PASSED_ON | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    try:
        child = _started(command, environ, before)
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            came = signal.sigwaitinfo(waited_for)
            if came.si_signo != signal.SIGCHLD and came.si_pid not in (0, child):
                os.kill(child, came.si_signo)
        _forget(signal.sigpending() & waited_for)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    code = os.waitstatus_to_exitcode(status)
    return BY_SIGNAL - code if code < 0 else code


def _started(command: list[str], environ: Mapping[str, str], mask: set[int]) -> int:
    """The process of the command, which has the signals blocked that we had."""
    if not command[0]:
        raise CannotRun('"": not found', NOT_FOUND)
    try:
        try:
            return os.posix_spawnp(command[0], command, environ, setsigmask=mask, setsigdef=OURS)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # A script without its first line, #!
            return os.posix_spawn(SHELL, [SHELL, *command], environ, setsigmask=mask, setsigdef=OURS)
    except FileNotFoundError as error:
        raise CannotRun(f"{command[0]}: not found", NOT_FOUND) from error
    except OSError as error:
        raise CannotRun(f"{command[0]}: cannot be run: {error.strerror}", NOT_EXECUTABLE) from error


def _forget(signals: set[int]) -> None:
    """What came for the command in its last moment is not for us."""
    for number in signals:
        signal.sigwait({number})
