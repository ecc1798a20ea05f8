# SPDX-License-Identifier: MPL-2.0
"""Text of the command-line tools to stdout and stderr.

Always: what put() was given is with the reader when it returns (a pipe's reader waits for whole lines);
        a lone surrogate, which JSON can carry, goes out as its escape `\\ud800` instead of an exception;
        what would drive a terminal, turn its text around or hide in it, such as an alias that a tenant chose, is shown
        as an escape where it would reach one. Files and pipes get every byte as it is.
A closed pipe raises BrokenPipeError, which each tool turns into its quiet end."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # not from typing, whose import costs as much as the interpreter's start
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Mapping
else:
    import _signal

STDOUT = 1
STDERR = 2
NO_ANSWER = "vminfod is stopped, hangs or is very busy (VMINFOD_TIMEOUT=SECONDS sets another limit)"
WHY_UNREADABLE = "see `vminfo status -j`, zoneErrors"
INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended


def _driving() -> dict[int, str]:
    """Character -> escape as JSON has it, for str.translate(): control characters, those that set the direction of
    text, and those that take no room and mean nothing to a reader. The joiners of scripts and of emoji are none."""
    controls = [*range(0x20), *range(0x7F, 0xA0)]
    directions = [0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)]
    unseen = [0xAD, 0x180E, 0x200B, *range(0x2060, 0x2066), *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFC)]
    escapes = {character: f"\\u{character:04x}" for character in [*controls, *directions, *unseen]}
    tags = range(0xDC00, 0xDC80)  # U+E0000 to U+E007F: the second half of each
    return escapes | {0xE0000 + half - 0xDC00: f"\\udb40\\u{half:04x}" for half in tags}


def escaped(text: str) -> str:
    """`text` as it can be shown on a terminal, on one line."""
    return text if text.isprintable() else text.translate(_driving())


def escaped_lines(text: str) -> str:
    """As escaped(), with its ends of lines."""
    return "\n".join([escaped(line) for line in text.split("\n")])


def on_terminal(descriptor: int = STDOUT) -> bool:
    """Whether a terminal, and so a person, gets what is written there."""
    return os.isatty(descriptor)


def put(text: str, descriptor: int = STDOUT, *, is_escaped: bool = False) -> None:
    """Write all of `text`. `is_escaped`: what strangers supplied in it is, and so colours may be in it. Raises OSError;
    BrokenPipeError if there is no reader any more."""
    if on_terminal(descriptor) and not is_escaped:
        text = escaped_lines(text)
    left = memoryview(text.encode("utf-8", "backslashreplace"))
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # whoever started us made the pipe non-blocking
            import select

            select.select([], [descriptor], [])


def put_last(text: str, descriptor: int) -> None:
    """As put(), for the words a tool ends with: without a reader there is nothing left to do about it."""
    try:
        put(text, descriptor)
    except OSError:
        return


def complain(message: str) -> None:
    """`message` as the last line on stderr."""
    put_last(message + "\n", STDERR)


def say_incomplete(unreadable: list[str]) -> None:
    """Say which zones a list lacks because vminfod could not read them; nothing if there are none."""
    if unreadable:
        complain(f"the list is not complete, {', '.join(unreadable)} cannot be read: {WHY_UNREADABLE}")


def say_waiting_for_answer(path: str) -> None:
    """Say what is waited for."""
    complain(f"waiting for vminfod to answer GET {path.partition('?')[0]}")


def say_waiting_to_people(path: str) -> None:
    """Likewise, where somebody looks on at a terminal: for tools that agents run, who take anything on stderr for a
    failure."""
    if on_terminal(STDERR):
        say_waiting_for_answer(path)


def run_to_end(run: Callable[[], int], tool: str, environ: Mapping[str, str]) -> int:
    """The exit code of a tool: what `run` gives, unless its reader went away, Ctrl-C ended it, nothing can be written,
    or it ran into an unexpected error."""
    try:
        return run()
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        complain(f"cannot write: {error.strerror}")
        return 1
    except Exception as error:  # noqa: BLE001 - the boundary of the tool: a line for the operator, the rest in the log
        from vminfod.cli import crashes

        complain(crashes.recorded(tool, environ, error))
        return 1


def end_with_reader() -> None:
    """From now on this process ends as soon as stdout's reader is gone, with exit code 0, or Ctrl-C comes.

    A tool that follows events would else notice only when it next has something to say: on a quiet node a
    pipeline's dead half lived on for hours (OS-2955). A Ctrl-C that comes right before the main thread begins to wait
    does not end that wait. To be called by the main thread."""
    import _thread
    import select

    interrupted, interrupt = os.pipe()
    os.set_blocking(interrupt, False)
    _signal.set_wakeup_fd(interrupt, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(STDOUT, 0)  # no events asked for: only a hang-up or an error of a pipe wakes it, never a file
    poll.register(interrupted, select.POLLIN)

    def wait() -> None:
        ready = [descriptor for descriptor, _ in poll.poll()]
        os._exit(0 if STDOUT in ready else INTERRUPTED)

    _thread.start_new_thread(wait, ())
