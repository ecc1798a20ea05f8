# SPDX-License-Identifier: MPL-2.0
"""The little of HTTP/1.1 that a client of vminfod needs: make a request, take a response apart. No socket in here.

`http.client` would do this too, but importing it costs three times what `vmadm get` needs for everything else.

Always: a response may be fed in pieces of any size, cut anywhere, with the same result; what a server sends beyond
        the end of its response is ignored; nothing that is buffered here grows beyond MAX_HEAD.
Body framing (RFC 9112, section 6): chunked, by Content-Length, or until the server closes."""

from __future__ import annotations

from vminfod.clients.failures import ParseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Optional, Union

MAX_HEAD = 64 << 10  # bytes of status line plus headers, and of a chunk-size line; Node allows 16 KiB. Over: ParseError

UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
QUERY_SAFE = UNRESERVED | frozenset(b":,/")  # also harmless in a query, and easier on who reads a log


def percent_encoded(text: str, safe: frozenset[int] = UNRESERVED) -> str:
    """`text` as one path segment; `urllib.parse.quote` without its import."""
    octets = text.encode("utf-8", "surrogatepass")
    return "".join([chr(octet) if octet in safe else f"%{octet:02X}" for octet in octets])


def query_text(query: Union[Mapping[str, object], str, None]) -> str:
    """A query as given to the client: text is used as it is, pairs are encoded, None values are left out.

    Raises TypeError for anything else."""
    if not query:
        return ""
    if isinstance(query, str):
        return "?" + query.lstrip("?")
    if not hasattr(query, "items"):
        raise TypeError(f"query must be text or a mapping, not {type(query).__name__}")
    pairs = [(key, _query_value(value)) for key, value in query.items() if value is not None]
    encoded = [f"{percent_encoded(key)}={percent_encoded(value, QUERY_SAFE)}" for key, value in pairs]
    return "?" + "&".join(encoded) if encoded else ""


def _query_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def get_request(path: str, *, host: str, port: int, user_agent: str) -> bytes:
    """The bytes of `GET path`, the only request of its connection. Raises ValueError for a path that would break the
    request line."""
    return request("GET", path, host=host, port=port, user_agent=user_agent, keeps=False)


def request(
    method: str, path: str, *, host: str, port: int, user_agent: str, keeps: bool, body: Optional[bytes] = None
) -> bytes:
    """The bytes of a request with JSON in its `body`, if any. `keeps`: another may follow on the same connection.
    Raises ValueError as get_request() does."""
    if not path.startswith("/") or any(character <= " " or character == "\x7f" for character in path):
        raise ValueError(f"not a request path: {path!r}")
    shown_host = f"[{host}]" if ":" in host else host
    agent = "".join([character if character.isprintable() else "?" for character in user_agent])
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {shown_host}:{port}\r\nUser-Agent: {agent}\r\n"
        f"Accept: application/json\r\nConnection: {'keep-alive' if keeps else 'close'}\r\n"
    )
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return (head + "\r\n").encode("utf-8", "backslashreplace") + (body or b"")


class ResponseParser:
    """One response. Feed it what the socket gives; `status` is None until the headers are complete."""

    def __init__(self) -> None:
        self.status: Optional[int] = None
        self.headers: dict[str, str] = {}  # names in lower case
        self.complete = False
        self._buffer = bytearray()  # an unfinished head or chunk-size line; body bytes never wait here
        self._left: Optional[int] = None  # bytes left of the body or of this chunk; None: until the server closes
        self._chunked = False
        self._chunk_state = "size"  # size --digits--> data --all read--> end --CRLF--> size; size 0 --> trailer

    def feed(self, data: bytes) -> bytes:
        """Take `data`, give the body bytes that are in it. Raises ParseError."""
        if self.status is None:
            self._buffer += data
            data = self._read_head()
        if self.complete or not data:
            return b""
        if self._chunked:
            return self._unchunk(data)
        if self._left is None:
            return data
        body = data[: self._left]
        self._left -= len(body)
        self.complete = self._left == 0
        return body

    def end(self) -> None:
        """The server closed the connection: the response is complete now, or never will be."""
        if self.status is not None and not self._chunked and self._left is None:
            self.complete = True

    def _read_head(self) -> bytes:
        """Parse the head if it is all there; give what follows it."""
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MAX_HEAD or not b"HTTP/1.".startswith(bytes(self._buffer[:7])):
                    raise ParseError("the server does not answer in HTTP/1.1")
                return b""
            if end > MAX_HEAD:
                raise ParseError("the server does not answer in HTTP/1.1")
            lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
            del self._buffer[: end + 4]
            status = _status_code(lines[0])
            if status >= 200:  # 1xx announces the response that follows
                break
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self.status = status
        self._choose_framing()
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _choose_framing(self) -> None:
        length = self.headers.get("content-length")
        if self.status in (204, 304):
            self.complete = True
        elif self.headers.get("transfer-encoding", "").lower() == "chunked":
            self._chunked = True
            self._left = 0
        elif length is not None:
            if not (length.isascii() and length.isdigit()):
                raise ParseError(f"the server sent a bad Content-Length: {length!r}")
            self._left = int(length)
            self.complete = self._left == 0

    def _unchunk(self, data: bytes) -> bytes:
        pieces = []
        at = 0
        while at < len(data) and not self.complete:
            if self._chunk_state == "data":
                piece = data[at : at + (self._left or 0)]
                pieces.append(piece)
                at += len(piece)
                self._left = (self._left or 0) - len(piece)
                if self._left == 0:
                    self._chunk_state = "end"
                continue
            newline = data.find(b"\n", at)
            stop = len(data) if newline < 0 else newline + 1
            self._buffer += data[at:stop]
            at = stop
            if len(self._buffer) > MAX_HEAD:
                raise ParseError("the server sent a bad chunk")
            if newline >= 0:
                line = bytes(self._buffer).strip()
                self._buffer.clear()
                self._chunk_line(line)
        return b"".join(pieces)

    def _chunk_line(self, line: bytes) -> None:
        if self._chunk_state == "size":
            try:
                self._left = int(line.partition(b";")[0], 16)
            except ValueError:
                raise ParseError(f"the server sent a bad chunk size: {line[:20]!r}") from None
            if self._left < 0:
                raise ParseError(f"the server sent a bad chunk size: {line[:20]!r}")
            self._chunk_state = "data" if self._left else "trailer"
        elif self._chunk_state == "end":
            if line:
                raise ParseError("the server sent a bad chunk")
            self._chunk_state = "size"
        elif not line:  # the empty line after the last chunk's trailers
            self.complete = True


def _status_code(line: str) -> int:
    version, _, rest = line.partition(" ")
    digits = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (len(digits) == 3 and digits.isdigit() and digits.isascii()):
        raise ParseError("the server does not answer in HTTP/1.1")
    return int(digits)
