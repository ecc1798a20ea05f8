# SPDX-License-Identifier: MPL-2.0
"""What can go wrong between a client and vminfod, named for what the caller can do about it.

Always: everything the client library raises because of the network, the server or a time limit is a VminfodError
        with a `code`; wrong arguments are plain TypeError or ValueError instead, since no retry helps there.
        An error is raised once, by one owner.
Add a class only when a caller would act differently on it."""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Union


class VminfodError(Exception):
    """Base. `code` is an HTTP status (int), an errno name such as "ECONNREFUSED", "ETIMEOUT", or None.

    `client` is the name of the client whose stream or watch failed; it is part of the text, because an operator
    who reads "timeout exceeded" in an agent's log has to know whose (OS-7366)."""

    def __init__(self, message: str, *, code: Union[int, str, None] = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.client: Optional[str] = None

    def __str__(self) -> str:
        return self.message if self.client is None else f'{self.message} (client "{self.client}")'


class HTTPStatusError(VminfodError):
    """The server answered, but not with 200. An unknown VM is one of these with code 404.

    `reason` is what the server says about it, for the statuses of which it says why (EXPLAINED)."""

    def __init__(self, status_code: int, reason: Optional[str] = None) -> None:
        because = f": {reason}" if reason else ""
        super().__init__(f"bad statusCode: {status_code}{because}", code=status_code)
        self.status_code = status_code
        self.reason = reason


EXPLAINED = (503, 504)  # too many listeners, and a fresh read that did not succeed: worth reading on


class VminfodTimeout(VminfodError, TimeoutError):
    """A time limit passed. The code is always "ETIMEOUT"."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="ETIMEOUT")


class ConnectionFailed(VminfodError, ConnectionError):
    """No connection, or it broke. The code is the errno's name: trying again later can help."""


class IncompleteResponse(ConnectionFailed):
    """The server closed the connection before its answer was over."""

    def __init__(self) -> None:
        super().__init__("connection closed before the response was complete", code="ECONNRESET")


class ParseError(VminfodError, ValueError):
    """The other side speaks, but no HTTP or no JSON that we understand."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="EPARSE")


class StreamError(VminfodError):
    """An event stream ended or said what it must not say. Nothing more comes from this connection."""


class Stopped(StreamError):
    """The stream or watcher was stopped by its own side, so that what was waited for cannot come. Code "ESTOPPED"."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was stopped", code="ESTOPPED")


class NoTransactions(VminfodError):
    """There are none with this vminfod, or none from here: no unix socket, or an older daemon. Nothing was done. Code
    "ENOTSUP"."""

    def __init__(self, why: str) -> None:
        super().__init__(f"no transactions here: {why}", code="ENOTSUP")


class VmHeld(VminfodTimeout):
    """Another transaction held the VM for longer than was to be waited. `holder` says whose: `transaction`, `command`,
    `req_id`, `pid`, `uid`, and its `age` in seconds."""

    def __init__(self, message: str, holder: dict[str, Any]) -> None:
        super().__init__(message)
        self.holder = holder


class TransactionOver(VminfodError):
    """The transaction has ended before its writer ended it: its limit passed, or its connection was closed. The VM was
    published as it was then; what was changed stays changed. Code "EXPIRED"."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="EXPIRED")


class BadPattern(ValueError):
    """A filter's pattern is no regular expression of JavaScript, has no counterpart here, or takes too long."""


def connection_failed(doing: str, error: OSError) -> ConnectionFailed:
    """`error` as a ConnectionFailed whose text is `doing` with its place for the errno name filled in.

    >>> connection_failed("connect {} 127.0.0.1:9090", ConnectionRefusedError(111, "")).message
    'connect ECONNREFUSED 127.0.0.1:9090'
    """
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return ConnectionFailed(doing.format(name), code=name)
