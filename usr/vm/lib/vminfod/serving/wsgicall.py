# SPDX-License-Identifier: MPL-2.0
"""A request as a call of a WSGI application, and what it gives as an Answer.

Always: the whole answer is made before any of it is sent; what lasts longer takes the connection over instead
        (`vminfod.take_over` in the environ), and then there is no body;
        a line of the head cannot be broken in two by what is in it: that is a ValueError."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

from vminfod.serving.ready import Answer
from vminfod.serving.requesthead import Request

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_LENGTH = re.compile(rb"^content-length:[^\n]*\n", re.IGNORECASE | re.MULTILINE)
_BODILESS = ("204", "304")


def environ_of(request: Request, extra: dict[str, Any]) -> dict[str, Any]:
    """The request as PEP 3333 has it. `extra` goes in as well."""
    path, _, query = request.target.partition("?")
    environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "vminfod",
        "SERVER_PORT": "0",
        "SERVER_PROTOCOL": request.version,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        environ["HTTP_" + name.replace("-", "_").upper()] = value
    environ.update(extra)
    return environ


def called(application: Application, environ: dict[str, Any]) -> Answer:
    """What the application answers. Raises what it raises."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Callable[[bytes], None]:
        started[:] = [(status, headers)]
        return _write

    result = application(environ, start_response)
    try:
        body = b"".join(result)
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()
    status, headers = started[0]
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    return Answer("".join(f"{_line(line)}\r\n" for line in lines).encode("latin-1"), body)


def with_length(answer: Answer) -> Answer:
    """With the Content-Length that an application may leave to the server."""
    if _LENGTH.search(answer.head) or answer.status[:3] in _BODILESS:
        return answer
    return answer._replace(head=b"%bContent-Length: %d\r\n" % (answer.head, len(answer.body)))


def without_length(answer: Answer) -> Answer:
    """As the head of a stream, whose length is not known."""
    return answer._replace(head=_LENGTH.sub(b"", answer.head))


def _line(text: str) -> str:
    if "\r" in text or "\n" in text:
        raise ValueError(f"a line of the head that would be two: {text[:100]!r}")
    return text


def _write(_data: bytes) -> None:
    raise NotImplementedError("answers are returned here, not written")
