# SPDX-License-Identifier: MPL-2.0
"""docs/http-api.md is true: its examples are run from top to bottom, and its limits are the daemon's.

A block `http` is a request, or what must come as its response; `sh` is run on the node; `json` is what the stream
that was opened last says next. Requests about transactions go over one connection to the Unix socket. What differs
with each run (dates, times, sizes, ids) is compared by its kind; ids that the document uses again must be the same
again. Members must come in the document's order."""

import json
import os
import re
import shlex

import pytest

from mockcn import process
from support.running_daemon import CHECKOUT, RunningDaemon, eventually
from support.settling import is_idle
from support.transacting import Transacting
from vminfod.serving import api, holds, httpconnection, httpserver, hub, requesthead, transactionroutes, waiting

with open(os.path.join(CHECKOUT, "docs", "http-api.md"), encoding="utf-8") as _file:
    DOCUMENT = _file.read()

BLOCKS = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VMS = {"web": "54aa5b0e-9a2f-4c3e-8c41-7d1f2a6b9e10", "db": "c7e1d2a4-3b5f-4e8d-a6c9-0f1e2d3c4b5a"}

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
KINDS = [
    re.compile(kind)
    for kind in (
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",  # a date
        r"\d+\.\d{9}",  # a time
        r"\d+\.\d{9}s \([\d.]+(?:d|h|m|s|ms|us|ns)\)",  # a duration
    )
]
# Numbers that differ with each run, by the name of their member.
VARIABLE = {"pid", "uid", "watcher_pid", "rss", "latency_ms", "ringBytes", "connections", "sentLines", "idle"}
MORE = "..."


class Reader:
    """Compares what the document says with what is so. `ids`: the document's uuid -> the real one."""

    def __init__(self):
        self.ids = {uuid: uuid for uuid in VMS.values()}

    def real(self, text):
        """The document's text with the ids that are known by now."""
        return UUID.sub(lambda match: self.ids.get(match[0], match[0]), text)

    def compare(self, said, found, name=""):
        if isinstance(said, dict):
            self._compare_objects(said, found, name)
        elif isinstance(said, list):
            assert isinstance(found, list), name
            if said != [MORE]:
                assert len(said) == len(found), name
                for number, pair in enumerate(zip(said, found)):
                    self.compare(*pair, f"{name}[{number}]")
        elif isinstance(said, str):
            self._compare_texts(said, found, name)
        elif name.rpartition(".")[2] in VARIABLE:
            assert type(found) is type(said), name
        else:
            assert (type(found), found) == (type(said), said), name

    def _compare_objects(self, said, found, name):
        assert isinstance(found, dict), name
        keys = [self.real(key) for key in said if key != MORE]
        assert [key for key in found if key in keys] == keys, f"{name}: members or their order"
        if MORE not in said:
            assert list(found) == keys, f"{name}: all members"
        for key, value in said.items():
            if key != MORE:
                real = self.real(key)
                self.compare(value, found[real], f"{name}.{real}")

    def _compare_texts(self, said, found, name):
        assert isinstance(found, str), name
        if UUID.fullmatch(said):
            assert UUID.fullmatch(found), name
            assert self.ids.setdefault(said, found) == found, name
            return
        for kind in KINDS:
            if kind.fullmatch(said):
                assert kind.fullmatch(found), name
                return
        start, more, end = self.real(said).partition(MORE)
        if more:
            assert found.startswith(start) and found.endswith(end), name
        else:
            assert found == start, name


def objects(text):
    """The JSON values in `text`, one after the other."""
    decoder, values, text = json.JSONDecoder(), [], text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        values.append(value)
        text = text[end:].lstrip()
    return values


class Run:
    """One reading of the document."""

    def __init__(self, node, daemon):
        self.node, self.daemon, self.reader = node, daemon, Reader()
        self.answer = None  # to the request that was made last
        self.lines = None  # of the stream that was opened last
        self.connections = []
        self.writer = None  # who opens transactions
        self.is_head_of_stream = False

    def block(self, language, text):
        if language == "sh":
            for line in text.splitlines():
                self._command(line)
        elif language == "json":
            self._expect_lines(text)
        elif text.startswith("HTTP/1.1 "):
            self._expect(text)
        else:
            if text.startswith("GET /status"):
                # Missing files are tried again every 10 s: for that moment the file watcher has questions open.
                eventually("the file watcher is at rest", self._no_question_is_open)
            self._request(text)

    def _no_question_is_open(self):
        return self.daemon.status(full=True)["fswatcher"]["pending_actions"] == {}

    def _command(self, line):
        tool, *words = shlex.split(line)
        before = int(self.daemon.get("/ping").headers["x-vminfod-rev"])
        self.node.run(tool, *words, check=True)
        if self.writer is not None:
            return  # what it changes is held back
        # Each is one event; the next command waits for it, as a reader of the page would.
        eventually(line, lambda: int(self.daemon.get("/ping").headers["x-vminfod-rev"]) == before + 1)

    def _request(self, text):
        first, *headers = text.splitlines()
        assert self.answer is None, f"no response stands before {first}"
        if " /transactions" in first:
            self._ask_as_writer(*first.split(), headers[-1] if headers else None)
            return
        eventually("the daemon has nothing to do", lambda: is_idle(self.daemon))
        connection = self.daemon.raw()
        self.connections.append(connection)
        request = self.reader.real("\r\n".join([first + " HTTP/1.1", "Host: localhost", *headers]))
        connection.send(request.encode() + b"\r\n\r\n")
        if first.startswith("GET /events") and connection.sock.recv(13, 2) == b"HTTP/1.1 200 ":  # 2: only a peek
            self.answer = connection.head()
            self.lines, self.is_head_of_stream = self._lines_of(connection), True
        else:
            self.answer, self.is_head_of_stream = connection.answer(), False

    def _ask_as_writer(self, method, path, body):
        if self.writer is None:
            self.writer = Transacting(self.node.root)
            self.connections.append(self.writer)
        sent = None if body is None else self.reader.real(body).encode()
        self.answer, self.is_head_of_stream = self.writer.request(method, self.reader.real(path), sent), False

    @staticmethod
    def _lines_of(connection):
        rest = b""
        while True:
            while b"\n" not in rest:
                rest += connection.chunk()
            line, _, rest = rest.partition(b"\n")
            yield json.loads(line)

    def _expect(self, text):
        head, _, body = text.partition("\n\n")
        status, *headers = head.splitlines()
        answer, self.answer = self.answer, None
        assert answer.status == int(status.split()[1]), answer.body
        for header in headers:
            name, _, value = header.partition(": ")
            if UUID.fullmatch(value):
                self.reader.compare(value, answer.headers[name.lower()], name)
            else:
                assert answer.headers[name.lower()] == self.reader.real(value), name
        if self.is_head_of_stream:
            self._expect_lines(body)
        elif body.strip().startswith(("{", "[")):
            self.reader.compare(json.loads(body), answer.json(), status)
        else:
            assert answer.body.decode() == self.reader.real(body.strip())

    def _expect_lines(self, text):
        for said in objects(text):
            self.reader.compare(said, next(self.lines))

    def close(self):
        for connection in self.connections:
            connection.close()


@pytest.fixture
def run(root):
    with process.start(root, vms=0) as node:
        node.control.add_vm(uuid=VMS["web"], alias="web", created=1767225600)
        node.control.add_vm(uuid=VMS["db"], alias="db", brand="joyent", zonename="pagila", delegated=True)
        with RunningDaemon(node.root).start() as daemon:
            running = Run(node, daemon)
            yield running
            running.close()


def test_examples_are_true_from_top_to_bottom(run):
    blocks = BLOCKS.findall(DOCUMENT)
    assert len(blocks) > 30
    assert {language for language, _ in blocks} == {"http", "json", "sh"}, "a block that nobody runs"
    for language, text in blocks:
        try:
            run.block(language, text)
        except AssertionError as error:
            raise AssertionError(f"{error}\n\nin the example:\n\n{text}") from error


@pytest.mark.pure
@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (httpserver.CONNECTIONS, "| connections at once | 2,000 |"),
        (api.LISTENERS, "| `/events` streams at once | 1,500 |"),
        (requesthead.REQUEST_LINE, "| request line | 8,192 bytes |"),
        (requesthead.HEADER_BYTES >> 10, "| headers of a request | 32 KiB, "),
        (requesthead.HEADER_COUNT, " KiB, 100 lines |"),
        (httpconnection.HEADER_SECONDS, "| time for the headers | 10 s, and for a body |"),
        (httpconnection.IDLE_SECONDS, "none while a transaction is open | 300 s |"),
        (httpconnection.BODY_BYTES >> 10, "| body of a request, on the Unix socket | 16 KiB |"),
        (holds.MOST, "| transactions open or waiting | 1,000 |"),
        (transactionroutes.LIMIT_MOST, "| time that a transaction is open | 600 s, "),
        (transactionroutes.LIMIT, "| time that a transaction is open | 600 s, 60 s if not given |"),
        (transactionroutes.WAIT_MOST, "| waiting for its turn | 600 s, "),
        (transactionroutes.WAIT, "| waiting for its turn | 600 s, 60 s if not given |"),
        (httpconnection.SEND_SECONDS, "| time for taking one response, streams aside | 60 s |"),
        (hub.BACKLOG_BYTES >> 20, "| unread by one listener | 8 MiB, "),
        (hub.BACKLOG_EVENTS, "8 MiB, 10,000 events | closed |"),
        (waiting.ALL_WAITING_BYTES >> 20, "| unread by all clients together | 64 MiB |"),
        (hub.STALLED_SECONDS, "| time for taking anything of what waits for a stream | 60 s |"),
        (hub.RING_BYTES >> 20, "| kept for resuming | 32 MiB, "),
        (hub.RING_EVENTS, "32 MiB, 10,000 events | 410 |"),
        (api.FRESH_MOST, "| fresh read | 600 s, "),
        (api.FRESH_SECONDS, "600 s, 60 s if not given |"),
        (api.HEARTBEAT_LEAST, "passed in silence, 0.1 to 86400 |"),
        (api.HEARTBEAT_MOST, " to 86400 |"),
    ],
)
def test_limits_are_those_of_the_daemon(limit, said):
    assert said in DOCUMENT
    assert float(limit) in [float(number.replace(",", "")) for number in re.findall(r"[\d.,]*\d", said)]


@pytest.mark.pure
def test_every_type_source_and_parameter_is_described():
    for word in [*api.EVENT_TYPES, "ready", "heartbeat", "zone", "zfs", "file", "refresh", "request", "vmadm"]:
        assert f"| `{word}` |" in DOCUMENT
    for parameter in ("uuid", "types", "fields", "vms", "heartbeat", "since", "fresh", "timeout"):
        assert re.search(rf"^\| `{parameter}=", DOCUMENT, re.MULTILINE)
