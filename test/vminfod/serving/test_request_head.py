# SPDX-License-Identifier: MPL-2.0
"""The head of a request: where it ends, what it says, and what is no request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vminfod.serving.requesthead import (
    HEADER_BYTES,
    HEADER_COUNT,
    LENGTH_MOST,
    REQUEST_LINE,
    HeadersTooLarge,
    LineTooLong,
    Malformed,
    end_of_head,
    known,
    parsed,
)

pytestmark = pytest.mark.pure

LINE = b"GET /ping HTTP/1.1\r\n"


def head(*headers, version="HTTP/1.1"):
    return f"GET /ping {version}\r\n{''.join(one + chr(13) + chr(10) for one in headers)}\r\n".encode("latin-1")


def test_head_ends_with_its_first_empty_line():
    whole = head("Host: a", "X: b")
    for size in range(1, len(whole)):
        assert end_of_head(whole[:size]) == 0
    assert end_of_head(whole) == end_of_head(whole + whole) == end_of_head(whole + b"body") == len(whole)


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\r\n\n", b"\n\r\n"])
def test_bare_line_feeds_end_lines_too(end):
    whole = b"GET /ping HTTP/1.0\nHost: a" + end
    assert end_of_head(whole + b"more") == len(whole)
    assert parsed(whole).headers == {"host": "a"}


def test_request_line_is_bounded_whether_its_end_has_come_or_not():
    good = b"GET /" + b"x" * (REQUEST_LINE - 17) + b" HTTP/1.1\r\n"
    assert len(good) == REQUEST_LINE - 1
    assert end_of_head(good + b"\r\n") == len(good) + 2
    assert end_of_head(good) == 0
    for too_long in (b"GET /x" + good[5:] + b"\r\n", b"x" * REQUEST_LINE):
        with pytest.raises(LineTooLong):
            end_of_head(too_long)


def test_headers_are_bounded_in_bytes_whether_their_end_has_come_or_not():
    good = b"X: " + b"y" * (HEADER_BYTES - 7) + b"\r\n\r\n"
    assert len(good) == HEADER_BYTES
    assert end_of_head(LINE + good) == len(LINE + good)
    for too_large in (b"y" + good, b"X: " + b"y" * HEADER_BYTES):
        with pytest.raises(HeadersTooLarge):
            end_of_head(LINE + too_large)


def test_headers_are_bounded_in_number():
    assert len(parsed(head(*[f"X{n}: y" for n in range(HEADER_COUNT)])).headers) == HEADER_COUNT
    with pytest.raises(HeadersTooLarge):
        parsed(head(*["X: y"] * (HEADER_COUNT + 1)))


@pytest.mark.parametrize("first", [b"\r\n", b"\n", b"\r\n" + LINE + b"\r\n"])
def test_empty_line_is_no_request(first):
    with pytest.raises(Malformed):
        parsed(first[: end_of_head(first)])


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"GET",
        b"POST /ping",
        b"GET /p ing HTTP/1.1",
        b"GET /ping HTTP/2.0",
        b"GET /ping HTTP/9.9",
        b"GET /ping HTTP/1",
        b"GET /ping http/1.1",
        b"GET /ping HTTP/1.\xb2",
        b"\x16\x03\x01\x02",
    ],
)
def test_what_is_no_request_line_is_malformed(line):
    with pytest.raises(Malformed):
        parsed(line + b"\r\n\r\n")


@pytest.mark.parametrize("length", ["-1", "many", "", "5,5", "+5", "\xb2"])
def test_length_that_is_no_number_is_malformed(length):
    with pytest.raises(Malformed):
        parsed(head(f"Content-Length: {length}"))


def test_methods_and_targets_are_taken_as_they_come():
    found = parsed(b"BREW /vms/\xe9\x1b[2J?a=b HTTP/1.1\r\n\r\n")
    assert (found.method, found.target) == ("BREW", "/vms/\xe9\x1b[2J?a=b")


def test_header_names_are_in_lower_case_and_values_of_a_name_are_joined():
    assert parsed(head("A: 1", "Host:\t x ", "a:2", "B : c:d")).headers == {"a": "1,2", "host": "x", "b": "c:d"}


def test_lines_that_are_no_header_are_skipped_with_what_is_folded_to_them():
    lines = ["no colon", " folded", ": empty", "a_b: c", "\tfolded", "D: e", "  f "]
    assert parsed(head(*lines)).headers == {"d": "e f"}


@pytest.mark.parametrize(
    "version, headers, keeps",
    [
        ("HTTP/1.1", [], True),
        ("HTTP/1.1", ["Connection: Close"], False),
        ("HTTP/1.1", ["Connection: TE, close"], False),
        ("HTTP/1.1", ["Connection: keep-alive"], True),
        ("HTTP/1.0", [], False),
        ("HTTP/1.0", ["Connection: Keep-Alive"], True),
        ("HTTP/0.9", ["Connection: keep-alive"], False),
        ("HTTP/1.2", [], False),
    ],
)
def test_connection_is_kept_where_the_client_wants_it(version, headers, keeps):
    assert parsed(head(*headers, version=version)).keep_alive is keeps


@pytest.mark.parametrize(
    "headers, length",
    [
        ([], 0),
        (["Content-Length: 0"], 0),
        (["Content-Length: 5"], 5),
        (["Content-Length: 00012"], 12),
        (["Content-Length: 999999999"], 999_999_999),
        (["Content-Length: 1000000000"], LENGTH_MOST),
        (["Content-Length: " + "9" * 5000], LENGTH_MOST),
        (["Transfer-Encoding: chunked"], None),
        (["Transfer-Encoding: gzip", "Content-Length: 5"], None),
    ],
)
def test_length_of_a_body_is_known_or_not(headers, length):
    assert parsed(head(*headers)).body == length


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_refused(data):
    try:
        size = end_of_head(data)
        assert 0 <= size <= len(data)
        found = known(data[:size]) if size else None
    except (Malformed, LineTooLong, HeadersTooLarge):
        return
    if found is not None:
        assert found == parsed(data[:size])
        assert found.method and found.target
