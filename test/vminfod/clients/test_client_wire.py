# SPDX-License-Identifier: MPL-2.0
"""The client's HTTP: a response in any pieces reads the same; what is no HTTP is said to be none."""

import pytest

from vminfod.clients.failures import ParseError
from vminfod.clients.httpwire import MAX_HEAD, ResponseParser, get_request, percent_encoded, query_text

pytestmark = pytest.mark.pure

WITH_LENGTH = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"ping":"pong"}'
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'6;name=value\r\n{"ping\r\n9\r\n":"pong"}\r\n0\r\nTrailer: x\r\n\r\n'
)
UNTIL_CLOSE = b'HTTP/1.0 200 OK\r\n\r\n{"ping":"pong"}'
AFTER_100 = b"HTTP/1.1 100 Continue\r\n\r\n" + WITH_LENGTH


def read(data, size):
    parser = ResponseParser()
    body = b"".join(parser.feed(data[at : at + size]) for at in range(0, len(data), size))
    parser.end()
    return parser.status, body, parser.complete


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("data", [WITH_LENGTH, CHUNKED, UNTIL_CLOSE, AFTER_100])
def test_response_cut_anywhere_reads_the_same(data, size):
    assert read(data, size) == (200, b'{"ping":"pong"}', True)


@pytest.mark.parametrize("data", [WITH_LENGTH, CHUNKED])
def test_bytes_behind_the_end_of_a_response_are_ignored(data):
    assert read(data + b"HTTP/1.1 500 Surprise\r\n\r\n", 1000) == (200, b'{"ping":"pong"}', True)


@pytest.mark.parametrize("data", [WITH_LENGTH[:-1], CHUNKED[:-3], WITH_LENGTH[:30], b""])
def test_response_that_ends_early_is_not_complete(data):
    assert read(data, 1000)[2] is False


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 twohundred\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
    ],
)
def test_what_is_no_http_is_an_error(data):
    with pytest.raises(ParseError):
        read(data, 1000)


def test_endless_header_is_an_error():
    with pytest.raises(ParseError):
        read(b"HTTP/1.1 200 OK\r\nX: " + b"x" * (2 * MAX_HEAD), 4096)


def test_names_are_percent_encoded():
    assert percent_encoded("a-b_c.d~1") == "a-b_c.d~1"
    assert percent_encoded("a b/c?d%é") == "a%20b%2Fc%3Fd%25%C3%A9"


def test_query_may_be_text_or_pairs():
    assert query_text(None) == ""
    assert query_text({}) == ""
    assert query_text("full=true") == "?full=true"
    assert query_text({"since": "e:5", "x": "a&b=c d"}) == "?since=e:5&x=a%26b%3Dc%20d"
    with pytest.raises(TypeError):
        query_text(7)
    assert query_text({"fields": "state,nics", "vms": False, "since": None}) == "?fields=state,nics&vms=false"


def test_control_characters_of_a_name_cannot_add_a_header():
    request = get_request("/ping", host="127.0.0.1", port=1, user_agent="x\r\nX-Evil: 1")
    assert b"\r\nUser-Agent: x??X-Evil: 1\r\n" in request


@pytest.mark.parametrize("path", ["", "ping", "/a b", "/a\r\nX: y"])
def test_path_that_would_break_the_request_is_refused(path):
    with pytest.raises(ValueError):
        get_request(path, host="127.0.0.1", port=1, user_agent="x")
