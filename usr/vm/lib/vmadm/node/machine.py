# SPDX-License-Identifier: MPL-2.0
"""The node that is changed: its commands are run and its files written here, under a root folder, and nowhere else.

Paths are the node's own (`/etc/zones/U.xml`). The root, `/` on SmartOS and a folder where a mock node lives, is put in
front of them here, so that nothing above knows which of the two it is working on.
Always: a file appears whole or not at all (written beside its place and renamed into it). What lies below a zonepath
        is not touched here, because a tenant can put links there, but through a ZoneFolder (zonefolder.py).
        Commands run in a session of their own: a Ctrl-C in the terminal is for vmadm, not for a half-done install.
        (But zlogin, which is given the terminal.)"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Optional

from vmadm.errors import NotWritten, ToolFailed

FOLDERS = ("/usr/sbin", "/usr/bin")  # where the node's commands are; the first that has one counts

LIMIT = 300.0  # seconds that a command may take; past it the node hangs, and waiting on would hide that
INSTALL_LIMIT = 1800.0  # seconds: installing copies an image where it cannot be cloned

FIRST = "first of 1 error: "  # stands before the text of a command's failure where it always did


@dataclass(frozen=True)
class Result:
    """What a command printed and how it ended; `status` is negative for a signal."""

    status: int
    stdout: str
    stderr: str


class Node:
    """See the head of the module. `busy` is entered around each command."""

    def __init__(
        self, root: str = "/", busy: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    ) -> None:
        self.root = os.path.abspath(root).rstrip("/")
        self._busy = busy

    @property
    def is_mock(self) -> bool:
        """Whether this is a folder in place of the machine itself."""
        return self.root != ""

    def real(self, path: str) -> str:
        """Where the node's `path` lies on this machine."""
        return self.root + path

    # Commands.

    def run(
        self,
        tool: str,
        *words: str,
        stdin: Optional[str] = None,
        limit: float = LIMIT,
        environ: Optional[dict[str, str]] = None,
    ) -> Result:
        """Run a command, by its name or the node's path of it, to its end, whatever its status. Raises ToolFailed if it
        cannot be run or does not end."""
        with self._busy():
            try:
                child = subprocess.Popen(
                    [self._path(tool), *words],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                    env=_environment(environ),
                    start_new_session=True,
                    text=True,
                    encoding="utf-8",
                    errors="surrogateescape",
                )
            except OSError as error:
                raise ToolFailed(f"cannot run {tool}: {error.strerror}", tool=tool, stderr="") from error
            return _finished(child, tool, stdin, limit)

    def start(self, tool: str, *words: str, own_session: bool = True, **streams: Any) -> subprocess.Popen[bytes]:
        """Start a command with these `streams` (as subprocess.Popen has them), which the caller waits for: for what
        takes as long as it takes. An interruption does not wait for it. `own_session` False: it has our terminal, with
        its keys and signals. Raises ToolFailed if it cannot be run."""
        try:
            return subprocess.Popen(
                [self._path(tool), *words], env=_environment(None), start_new_session=own_session, **streams
            )
        except OSError as error:
            raise ToolFailed(f"cannot run {tool}: {error.strerror}", tool=tool, stderr="") from error

    @contextlib.contextmanager
    def started(self, tool: str, *words: str, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
        """As start(), for a command that does not outlive the `with`, whatever ends that. An interruption that comes
        while it is being started is raised when it has been: else nobody would know of it."""
        with contextlib.ExitStack() as ends:
            with self._busy():
                child = self.start(tool, *words, **streams)
                ends.callback(_end, child)
            with self._busy():
                pass  # raises what was only noted
            yield child

    def must(
        self,
        tool: str,
        *words: str,
        stdin: Optional[str] = None,
        limit: float = LIMIT,
        environ: Optional[dict[str, str]] = None,
    ) -> Result:
        """As run(), but a status other than 0 raises ToolFailed with what the command said."""
        result = self.run(tool, *words, stdin=stdin, limit=limit, environ=environ)
        if result.status != 0:
            raise failure(tool, result)
        return result

    def _path(self, tool: str) -> str:
        if tool.startswith("/"):
            return self.real(tool)
        for folder in FOLDERS:
            path = self.real(f"{folder}/{tool}")
            if os.path.exists(path):
                return path
        return self.real(f"{FOLDERS[0]}/{tool}")

    # Files.

    def read(self, path: str) -> Optional[str]:
        """The text of a file, None if there is none. Raises NotWritten for any other trouble."""
        try:
            with open(self.real(path), encoding="utf-8", errors="surrogateescape") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _not_written("read", path, error) from error

    def exists(self, path: str) -> bool:
        """Whether something is at `path`, a dangling link included."""
        return os.path.lexists(self.real(path))

    def write(self, path: str, text: str) -> None:
        """Replace the file at `path` in one step. Raises NotWritten."""
        real = self.real(path)
        try:
            # A leftover of a killed writer goes first; O_EXCL, so that no link is followed.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(real + ".new")
            descriptor = os.open(real + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
            os.rename(real + ".new", real)
        except OSError as error:
            raise _not_written("write", path, error) from error

    def write_device(self, path: str, content: bytes) -> None:
        """Write the beginning of a device that is there; `content` is whole blocks. Raises NotWritten."""
        try:
            descriptor = os.open(self.real(path), os.O_WRONLY | os.O_CLOEXEC)
            with open(descriptor, "wb", buffering=0) as device:
                rest = memoryview(content)
                while rest:
                    rest = rest[device.write(rest) or 0 :]
                os.fsync(descriptor)
        except OSError as error:
            raise _not_written("write", path, error) from error

    def make_folder(self, path: str, mode: int = 0o755) -> None:
        """A folder, with those above it; one that is there stays as it is. Raises NotWritten."""
        try:
            os.makedirs(self.real(path), mode, exist_ok=True)
        except OSError as error:
            raise _not_written("make", path, error) from error

    def rename(self, path: str, new: str) -> None:
        """Give a file or a folder another name. Raises NotWritten."""
        try:
            os.rename(self.real(path), self.real(new))
        except OSError as error:
            raise _not_written("rename", path, error) from error

    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is fine. Raises NotWritten."""
        try:
            os.unlink(self.real(path))
        except FileNotFoundError:
            return
        except OSError as error:
            raise _not_written("remove", path, error) from error

    def touch(self, path: str, when: float) -> None:
        """Set a file's times, in seconds since the epoch. Raises NotWritten."""
        try:
            os.utime(self.real(path), (when, when))
        except OSError as error:
            raise _not_written("touch", path, error) from error


def failure(tool: str, result: Result) -> ToolFailed:
    """The error for a command that failed."""
    said = result.stderr.strip() or f"{tool} ended with " + (
        f"status {result.status}" if result.status >= 0 else f"signal {-result.status}"
    )
    return ToolFailed(f"Command failed: {said}", tool=tool, stderr=result.stderr)


def prefixed(result: Result, tool: str) -> None:
    """Raise ToolFailed, with the words that stand before it, unless the command succeeded."""
    if result.status != 0:
        error = failure(tool, result)
        error.args = (FIRST + str(error),)
        raise error


def _environment(more: Optional[dict[str, str]]) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    return {**environment, **(more or {}), "LANG": "C", "LC_ALL": "C"}


def _finished(child: subprocess.Popen[str], tool: str, stdin: Optional[str], limit: float) -> Result:
    with child:
        try:
            stdout, stderr = child.communicate(stdin, timeout=limit)
        except subprocess.TimeoutExpired as error:
            end_at_once(child)
            raise ToolFailed(
                f"Command failed: {tool} did not end within {limit:g} s and was killed", tool=tool, stderr=""
            ) from error
        except BaseException:
            end_at_once(child)
            raise
    return Result(child.returncode, stdout, stderr)


def end_at_once(child: subprocess.Popen[Any]) -> None:
    """Kill a command with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _end(child: subprocess.Popen[Any]) -> None:
    with child:  # which closes its pipes and waits for it
        if child.poll() is None:
            end_at_once(child)


def _not_written(doing: str, path: str, error: OSError) -> NotWritten:
    return NotWritten(f"cannot {doing} {path}: {error.strerror}")
