# SPDX-License-Identifier: MPL-2.0
"""Text of the command-line tools to stdout and stderr.

Always: what put() was given is with the reader when it returns (a pipe's reader waits for whole lines);
        a lone surrogate, which JSON can carry, goes out as its escape `\\ud800` instead of an exception.
A closed pipe raises BrokenPipeError, which each tool turns into its quiet end."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

STDOUT = 1
STDERR = 2
INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended


def put(text: str, descriptor: int = STDOUT) -> None:
    """Write all of `text`. Raises OSError; BrokenPipeError if nobody reads any more."""
    left = memoryview(text.encode("utf-8", "backslashreplace"))
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # whoever started us made the pipe non-blocking
            import select

            select.select([], [descriptor], [])


def put_last(text: str, descriptor: int) -> None:
    """As put(), for the words a tool ends with: when nobody reads them, there is nothing left to do about it."""
    try:
        put(text, descriptor)
    except OSError:
        return


def complain(message: str) -> None:
    """`message` as the last line on stderr."""
    put_last(message + "\n", STDERR)


def run_to_end(run: Callable[[], int]) -> int:
    """The exit code of a tool: what `run` gives, unless its reader went away, Ctrl-C ended it, or nothing can be
    written."""
    try:
        return run()
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        complain(f"cannot write: {error.strerror}")
        return 1


def end_with_reader() -> None:
    """From now on this process ends, with exit code 0, as soon as stdout's reader is gone.

    A tool that follows events would else notice only when it next has something to say: on a quiet node a
    pipeline's dead half lived on for hours (OS-2955)."""
    import _thread
    import select

    poll = select.poll()
    poll.register(STDOUT, 0)  # no events asked for: only a hang-up or an error of a pipe wakes it, never a file

    def wait() -> None:
        poll.poll()
        os._exit(0)

    _thread.start_new_thread(wait, ())
