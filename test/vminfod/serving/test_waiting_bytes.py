# SPDX-License-Identifier: MPL-2.0
"""What waits for all clients together: answers and streams in one account with one limit, and lists that are shared as
long as somebody waits for them. No sockets: a test takes bytes as a kernel would."""

import time

import gevent
import pytest

from support.recording_log import RecordingLog
from vminfod.serving import waiting as waiting_module
from vminfod.serving.hub import Hub, Limits
from vminfod.serving.listener import Selection, Stream
from vminfod.serving.shared import KEPT, KEPT_BYTES, SharedLists
from vminfod.serving.waiting import Unsent, Waiting

pytestmark = pytest.mark.pure

KIB = 1024


class Clock:
    """The time as it stands, until a test lets some pass."""

    def __init__(self):
        self.now = time.monotonic_ns()

    def monotonic_ns(self):
        self.now += 1
        return self.now

    def go_on(self, seconds):
        self.now += int(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(waiting_module, "time", clock)
    return clock


class Client:
    """One to whom `body` is being sent, of which the kernel has taken nothing but what read() says."""

    def __init__(self, waiting, body, head=b"head"):
        self.cut = None
        self.unsent = Unsent(waiting, [memoryview(head), memoryview(body)])
        waiting.enter(self.unsent, self._cut)
        waiting.bound()

    def _cut(self, reason):
        self.cut = reason
        self.unsent.drop()

    def read(self, count):
        self.unsent.took(count)


def a_body(size=100 * KIB):
    return bytes(bytearray(size))  # new bytes each time


def are_cut(clients):
    return [client.cut is not None for client in clients]


def test_answer_counts_until_it_is_taken_and_once_for_all_that_wait_for_it():
    waiting, body = Waiting(), a_body()
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    clients = [Client(waiting, body, head) for _ in range(50)]
    assert waiting.total == len(body) + len(head)
    for client in clients[1:]:
        client.read(len(head) + len(body))
    assert waiting.total == len(body) + len(head)
    clients[0].read(len(head) + 1)
    assert waiting.total == len(body) == len(clients[0].unsent) + 1
    assert bytes(b"".join(clients[0].unsent.next_pieces())) == body[1:]
    clients[0].unsent.drop()
    assert waiting.total == 0 and not waiting.is_held(body)


def test_past_the_limit_those_go_that_have_taken_nothing_for_longest(clock):
    waiting = Waiting(350 * KIB)
    clients = [Client(waiting, a_body()) for _ in range(3)]
    clients[0].read(10)
    late = Client(waiting, a_body())
    assert are_cut([*clients, late]) == [False, True, False, False]
    assert "all clients together" in clients[1].cut
    latest = Client(waiting, a_body())
    assert are_cut([*clients, late, latest]) == [False, True, True, False, False]
    assert waiting.total <= waiting.most


def test_one_that_reads_slowly_is_never_cut_for_those_that_do_not_however_many_come(clock):
    waiting = Waiting(250 * KIB)
    reader = Client(waiting, a_body())
    stalled = []
    for _ in range(50):
        reader.read(KIB)
        for _ in range(3):  # between two readings others come that have waited for a shorter time
            clock.go_on(0.3)
            stalled.append(Client(waiting, a_body()))
        assert waiting.total <= waiting.most
    assert reader.cut is None
    assert are_cut(stalled) == [True] * 149 + [False]


def test_one_that_read_once_and_has_stopped_is_no_reader(clock):
    waiting = Waiting(250 * KIB)
    stopped = Client(waiting, a_body())
    stopped.read(KIB)
    clock.go_on(10)
    others = [Client(waiting, a_body()) for _ in range(2)]
    assert stopped.cut is not None and are_cut(others) == [False, False]


def test_who_waits_for_what_a_reader_takes_costs_nothing_and_stays(clock):
    waiting, body = Waiting(250 * KIB), a_body()
    idle = [Client(waiting, body) for _ in range(5)]
    reader = Client(waiting, body)
    others = []
    for _ in range(5):
        reader.read(KIB)
        clock.go_on(0.1)
        others.append(Client(waiting, a_body()))
    assert are_cut([reader, *idle]) == [False] * 6
    assert are_cut(others) == [True] * 4 + [False]


def test_list_beyond_the_limit_can_be_read_by_all_who_read_it(clock):
    waiting, body = Waiting(50 * KIB), a_body()
    stalled = Client(waiting, a_body())
    readers = [Client(waiting, body) for _ in range(3)]
    assert stalled.cut is not None
    for _ in range(5):
        for reader in readers:
            reader.read(KIB)
            waiting.bound()
    assert are_cut(readers) == [False] * 3


def test_snapshot_beyond_the_limit_can_be_read_by_all_who_listen():
    waiting, body = Waiting(50 * KIB), a_body()
    hub = Hub(RecordingLog(), Limits(), waiting)
    first, second = (
        hub.subscribe(Selection(), Stream(name, lambda: None, lambda: None), vms=body) for name in ("first", "second")
    )
    for _ in range(3):
        for listener in (first, second):
            listener.sent(KIB)
            waiting.bound()
    hub.subscribe(Selection(), Stream("third", lambda: None, lambda: None), vms=body)
    assert first.cut_reason is None and second.cut_reason is None and len(hub) == 3


def test_streams_and_answers_have_one_limit():
    log = RecordingLog()
    waiting = Waiting(350 * KIB)
    hub = Hub(log, Limits(ring_bytes=0), waiting)
    stream = Stream("lazy", lambda: None, lambda: None)
    listener = hub.subscribe(Selection(), stream, vms=a_body())
    clients = [Client(waiting, a_body()) for _ in range(2)]
    assert listener.cut_reason is None
    clients.append(Client(waiting, a_body()))
    assert listener.cut_reason == "what waits for all clients together was too much"
    assert are_cut(clients) == [False] * 3
    hub.publish("modify", ("z", "z"), {}, {}, ["alias"])  # for nobody
    newer = hub.subscribe(Selection(), stream, vms=a_body())
    assert newer.cut_reason is None and are_cut(clients) == [True, False, False]
    warned = [record.fields["userAgent"] for record in log.records if record.msg.startswith("cut a listener")]
    assert warned == ["lazy"]


class Making:
    """Lists of a hub, and how often each was made."""

    def __init__(self):
        self.hub = Hub(RecordingLog(), Limits(ring_bytes=0))
        self.lists = SharedLists(self.hub)
        self.made = []

    def get(self, name, size):
        def make():
            self.made.append(name)
            return a_body(size)

        return self.lists.get(name, make)


LARGE = KEPT_BYTES + 1


def test_large_list_is_made_once_as_long_as_anybody_waits_for_it():
    making = Making()
    waiting = making.hub.waiting
    first = Client(waiting, making.get("a", LARGE))
    gevent.sleep(0)
    second = Client(waiting, making.get("a", LARGE))
    assert making.made == ["a"]
    first.read(LARGE + 4)
    gevent.sleep(0)
    third = Client(waiting, making.get("a", LARGE))
    assert making.made == ["a"] and waiting.total == LARGE + 4
    for client in (second, third):
        client.unsent.drop()
    gevent.sleep(0)
    making.get("a", LARGE)
    assert making.made == ["a", "a"]


def test_list_of_an_older_revision_is_handed_out_no_more():
    making = Making()
    old = making.get("a", LARGE)
    Client(making.hub.waiting, old)
    making.hub.publish("modify", ("z", "z"), {}, {}, ["alias"])
    new = making.get("a", LARGE)
    Client(making.hub.waiting, new)
    assert making.made == ["a", "a"]
    assert making.get("a", LARGE) is new


def test_lists_that_wait_for_nobody_are_kept_within_their_bound():
    making = Making()
    half = KEPT_BYTES // 2
    for name in ("a", "b", "c"):
        making.get(name, half)
    for name in ("c", "b"):
        making.get(name, half)
    assert making.made == ["a", "b", "c"]
    making.get("a", half)
    assert making.made == ["a", "b", "c", "a"]
    making = Making()
    for name in range(KEPT + 1):
        making.get(name, 10)
    making.get(1, 10)
    making.get(0, 10)
    assert making.made == [*range(KEPT + 1), 0]


def test_lists_that_were_waited_for_are_let_go_without_another_request():
    making = Making()
    waiting = making.hub.waiting
    clients = [Client(waiting, making.get(name, LARGE)) for name in ("a", "b", "c")]
    gevent.sleep(0)
    assert len(making.lists) == 3
    for client in clients:
        client.read(LARGE + 4)
    gevent.sleep(0)
    assert len(making.lists) == 0
