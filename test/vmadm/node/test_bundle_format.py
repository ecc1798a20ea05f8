# SPDX-License-Identifier: MPL-2.0
"""The bytes of a VM bundle: what is written, and what is read of what others have written.

The expected bytes are put together here by hand, field by field, as the format has them."""

import os
import threading

import pytest

from vmadm.errors import VmadmError
from vmadm.node import bundle
from vmadm.node.bundle import BadBundle, Header


def block(*fields, at=0):
    """A header: NUL-terminated fields in 512 bytes, the first of them `at` bytes late."""
    return (b"\0" * at + b"".join(field + b"\0" for field in fields)).ljust(512, b"\0")[:512]


def json_header(size, padded, name=b"JSON", **more):
    return block(b"MAGIC-VMBUNDLE", b"1", b"CHECKSUM", name, b"%d" % size, b"%d" % padded, **more)


@pytest.fixture
def reading():
    """reading(bytes): a pipe's end that gives them, as slowly as a pipe does."""
    ends = []

    def give(data):
        read_end, write_end = os.pipe()
        ends.append(read_end)

        def feed():
            with os.fdopen(write_end, "wb") as pipe:
                try:
                    pipe.write(data)
                except BrokenPipeError:
                    return

        threading.Thread(target=feed, daemon=True).start()
        return read_end

    yield give
    for end in ends:
        os.close(end)


@pytest.mark.pure
def test_header_of_a_dataset_to_the_byte():
    head = bundle.header("zones/54aa5b0e-9a2f-4c3e-8c41-7d1f2a6b9e10")
    assert head == block(
        b"MAGIC-VMBUNDLE", b"1", b"CHECKSUM", b"zones/54aa5b0e-9a2f-4c3e-8c41-7d1f2a6b9e10", b"0", b"0"
    )


@pytest.mark.pure
@pytest.mark.parametrize(("text", "padded"), [("x" * 511, 512), ("x" * 512, 512), ("x" * 513, 1024)])
def test_json_is_padded_to_whole_blocks(text, padded):
    assert bundle.json_chunk(text) == json_header(len(text), padded) + text.encode().ljust(padded, b"\0")


@pytest.mark.pure
def test_bytes_are_counted_not_characters():
    text = '{"alias": "\u00e9\u2603"}'
    assert bundle.json_chunk(text).startswith(json_header(len(text) + 3, 512))


@pytest.mark.parametrize("size", [1, 510, 512, 100_000])
def test_what_is_written_is_read(reading, size):
    text = '{"a": "' + "\u00e9" * size + '"}\n'
    stream = reading(bundle.json_chunk(text) + bundle.header("zones/u") + b"the dataset")
    assert bundle.read_vm_text(stream) == (text, True)
    assert bundle.read_header(stream) == Header("zones/u", 0, 0)
    assert bundle.read_exactly(stream, 100) == b"the dataset"


def test_original_counts_characters_and_is_understood(reading):
    text = '{"alias": "caf\u00e9"}\n'
    data = text.encode().ljust(512, b"\0")
    assert bundle.read_vm_text(reading(json_header(len(text), 512) + data)) == (text, True)


@pytest.mark.parametrize("late", [1, 7, 14])
def test_header_may_begin_late_in_its_block(reading, late):
    stream = reading(json_header(2, 512, at=late) + b"{}".ljust(512, b"\0") + b"next")
    assert bundle.read_vm_text(stream) == ("{}", True)
    assert bundle.read_exactly(stream, 9) == b"next"


@pytest.mark.parametrize("late", [1, 14])
def test_bytes_before_a_whole_header_are_passed_over(reading, late):
    text = b"x" * 512  # nothing of it may be lost
    stream = reading(b"-" * late + json_header(512, 512) + text + b"next")
    assert bundle.read_vm_text(stream) == (text.decode(), True)
    assert bundle.read_exactly(stream, 9) == b"next"


@pytest.mark.pure
def test_header_that_begins_too_late_is_none():
    with pytest.raises(BadBundle, match="should begin where none does"):
        bundle.parse_header(json_header(2, 512, at=15))


@pytest.mark.parametrize("text", ["{}", '{"uuid": "u"}\n', ' {"a": "' + "x" * 9000 + '"}'])
def test_bare_json_is_taken_without_datasets(reading, text):
    assert bundle.read_vm_text(reading(text.encode())) == (text, False)


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (b"", "unable to receive JSON"),
        (json_header(0, 0), "Failed to get JSON!"),
        (json_header(0, 512) + bytes(512), "Failed to get JSON!"),
        (json_header(3, 512) + b'{"a": 1}'.ljust(512, b"\0"), "Failed to get JSON!"),
        (json_header(2, 512) + b"{}", "the stream ends in the midst of its JSON, after 2 of 512 bytes"),
        (json_header(2, 512)[:100], "the stream ends in the midst of a header, after 100 of its 512 bytes"),
        (json_header(2, 10**18) + b"{}", None),
        (json_header(10**18, 512) + b"{}", None),
        (json_header(2, 512, name=b"zones/u"), "the stream does not begin with a VM's JSON, but with 'zones/u'"),
        (
            b"no bundle".ljust(512, b"."),
            "the stream is no VM bundle, or damaged: a header should begin where none does",
        ),
        (block(b"MAGIC-VMBUNDLE", b"2", b"CHECKSUM", b"JSON", b"2", b"512"), None),
        (block(b"MAGIC-VMBUNDLE", b"1", b"CHECKSUM", b"JSON", b"-2", b"512"), None),
        (block(b"MAGIC-VMBUNDLE", b"1", b"CHECKSUM", b"JSON", b"two", b"512"), None),
        (block(b"MAGIC-VMBUNDLE", b"1", b"CHECKSUM", b"", b"2", b"512"), None),
        (block(b"MAGIC-VMBUNDLE", b"1", b"CHECKSUM", b"N" * 300, b"2", b"512"), None),
        (b"MAGIC-VMBUNDLE" * 40, None),
        (json_header(4, 512) + b'"\xff"'.ljust(512, b"\0"), "the stream's JSON is not UTF-8: byte 1"),
    ],
)
def test_damaged_beginning_is_an_error_in_words(reading, stream, text):
    with pytest.raises(VmadmError) as raised:
        bundle.read_vm_text(reading(stream))
    assert text is None or str(raised.value) == text


def test_text_is_what_the_padded_size_holds(reading):
    """An original that counted characters may have cut the text: its reader finds that it is no JSON."""
    assert bundle.read_vm_text(reading(json_header(600, 512) + b"x" * 512)) == ("x" * 512, True)


def test_giant_size_takes_no_memory(reading):
    """The size is refused before a byte of it is read, or room is made for it."""
    stream = reading(json_header(1 << 40, 1 << 40) + b"{}" * 1000)
    with pytest.raises(BadBundle, match="would have 1099511627776 bytes; at most 67108864 are taken"):
        bundle.read_vm_text(stream)


def test_bare_json_without_an_end_is_read_only_so_far(reading, monkeypatch):
    monkeypatch.setattr(bundle, "JSON_LIMIT", 1 << 16)
    stream = reading(b'{"a": "' + b"x" * (1 << 22))  # more than a pipe holds: it would go on
    with pytest.raises(BadBundle, match="the JSON is too long: at most 65536 bytes are taken"):
        bundle.read_vm_text(stream)


def test_end_of_the_stream_is_no_header(reading):
    assert bundle.read_header(reading(b"")) is None


def test_writer_of_a_pipe_that_nobody_reads_is_told():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(BrokenPipeError):
        bundle.write_all(write_end, b"x" * 100)
    os.close(write_end)
