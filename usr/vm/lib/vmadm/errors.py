# SPDX-License-Identifier: MPL-2.0
"""How a vmadm command can end badly, named for the exit code."""

from __future__ import annotations


class CommandFailed(Exception):
    """The work cannot be done; the text is the whole message on stderr. Exit code 1."""


class BadUsage(Exception):
    """Wrong words; the text, possibly empty, stands above the usage on stderr. Exit code 2."""


class CannotRunHere(Exception):
    """vmadm works in the global zone, as root; the text is the reason. Exit code 2."""


# What a change of a VM can end with. Whoever calls the library gets these; the command line prints their text.


class VmadmError(CommandFailed):
    """A VM was not changed as asked; the text says what was done, if anything. Base of all below."""

    exit_code = 1
    tells_all = False  # whether the text needs no list of what was done and what was not


class BadPayload(VmadmError):
    """The payload cannot be carried out and nothing was touched; `errors` has every reason, the text joins them."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


class VmNotFound(VmadmError):
    """There is no VM with that uuid."""


class WrongState(VmadmError):
    """The VM is not in a state that allows this."""


class AlreadyInState(WrongState):
    """Nothing to do: scripts take this for success (exit code 0), but it is distinguished from having done it."""

    exit_code = 0


class ToolFailed(VmadmError):
    """A command of the node failed; `stderr` is what it said."""

    def __init__(self, message: str, *, tool: str, stderr: str) -> None:
        super().__init__(message)
        self.tool = tool
        self.stderr = stderr


class NotWritten(VmadmError):
    """A file of the node could not be written, made or removed."""


class DaemonAway(VmadmError):
    """vminfod does not answer: nothing was touched, or the text says what was."""


class CannotRead(VmadmError):
    """vminfod answers, but cannot read the VM from the node: nothing was touched, or the text says what was."""


class OutcomeMissed(VmadmError):
    """The commands succeeded, and a fresh read afterwards shows something else."""


class NotReached(VmadmError):
    """A state that comes later did not come in time."""


class Interrupted(VmadmError):
    """SIGINT, SIGTERM or SIGHUP ended the command; the text says what was done."""

    exit_code = 130
