# SPDX-License-Identifier: MPL-2.0
"""What listeners that do not read can hold, each and all together, and for how long. The limits are small here; the
senders are stand-ins that take what a test lets them take."""

import time

import gevent
import pytest

from support.deadlines import SOON
from support.recording_log import RecordingLog
from vminfod.serving import hub as hub_module
from vminfod.serving import listener as listener_module
from vminfod.serving.hub import Hub, Limits
from vminfod.serving.listener import Selection, Stream
from vminfod.serving.waiting import ALL_WAITING_BYTES, Waiting

pytestmark = pytest.mark.pure

WITHIN = SOON  # seconds for what takes milliseconds
SNAPSHOT = b"x" * 100_000


class Client:
    """A listener whose socket takes nothing until read() is called."""

    def __init__(self, hub, name="client", vms=None):
        self.cut = False
        stream = Stream(name, self._wake, self._cut)
        self.listener = hub.subscribe(Selection(), stream, vms=vms)

    def _wake(self):
        """There is no sender."""

    def _cut(self):
        self.cut = True

    def read(self):
        while pieces := self.listener.waiting():
            self.listener.sent(sum(map(len, pieces)))


def publish(hub, size=1000):
    hub.publish("modify", ("z", "z"), {"vm": b'"' + b"v" * size + b'"'}, {}, ["alias"])


def hub_with(all_waiting=ALL_WAITING_BYTES):
    log = RecordingLog()
    return Hub(log, Limits(ring_bytes=0), Waiting(all_waiting)), log


def reasons(log):
    return [record.fields["reason"] for record in log.records if record.msg == "cut a listener that does not read"]


def test_no_event_more_is_kept_to_resume_over_than_the_limits_say():
    by_count = Hub(RecordingLog(), Limits(ring_events=3))
    for _ in range(5):
        publish(by_count)
    kept = by_count.dump_ring()
    assert (kept["ringEvents"], kept["oldestRev"]) == (3, 3)
    assert by_count.can_resume(by_count.epoch, 2) and not by_count.can_resume(by_count.epoch, 1)
    for short, count in ((0, 2), (1, 1)):
        by_size = Hub(RecordingLog(), Limits(ring_bytes=2 * kept["ringBytes"] // 3 - short))
        for _ in range(5):
            publish(by_size)
        assert by_size.dump_ring()["ringEvents"] == count


def test_what_waits_for_many_is_held_and_counted_once():
    hub, _ = hub_with()
    clients = [Client(hub, vms=SNAPSHOT) for _ in range(300)]
    heads = hub.waiting.total - len(SNAPSHOT)
    assert 0 < heads < 300 * 500
    assert sum(client.listener.unsent for client in clients) > 300 * len(SNAPSHOT)
    for _ in range(10):
        publish(hub)
    assert hub.waiting.total - heads - len(SNAPSHOT) < 10 * 1500
    for client in clients[1:]:
        client.read()
    assert hub.waiting.total > len(SNAPSHOT)  # the last one's
    clients[0].read()
    assert hub.waiting.total == 0
    assert not any(client.cut for client in clients)


def test_past_the_limit_of_all_together_those_are_cut_that_have_not_read_for_longest():
    hub, log = hub_with(all_waiting=150_000)
    old, middle, young = (Client(hub, name) for name in ("old", "middle", "young"))
    middle.read()
    gevent.sleep(0.001)  # the others read later: this is the case, not a wait
    for client in (middle, young):
        client.read()
    hub_bytes = 0
    while not old.cut:
        publish(hub, 10_000)
        young.read()
        assert hub.waiting.total <= 150_000
        hub_bytes += 10_000
        assert hub_bytes < 10 * 150_000
    assert reasons(log)[0] == "what waits for all clients together was too much"
    assert log.records[-1].fields["userAgent"] in ("old", "middle")
    assert not young.cut
    assert hub.waiting.total <= 150_000
    publish(hub, 10_000)
    young.read()
    assert not young.cut


def test_limit_of_all_together_holds_for_what_is_first_sent_too():
    """Snapshots of different revisions are different bytes."""
    hub, log = hub_with(all_waiting=350_000)
    clients = [Client(hub, vms=bytes(SNAPSHOT + str(number).encode())) for number in range(10)]
    assert hub.waiting.total <= 350_000
    assert [client.cut for client in clients].count(False) == 3
    assert set(reasons(log)) == {"what waits for all clients together was too much"}
    assert hub.slow_listeners_cut == 7


class Clock:
    """The hub's time: it stands where the test puts it. `asked`: the greenlets that have looked at it since. Hubs of
    earlier tests may still look, too."""

    def __init__(self):
        self.now = time.monotonic_ns()
        self.asked = set()

    def monotonic_ns(self):
        self.asked.add(gevent.getcurrent())
        return self.now

    def go_on(self, hub, seconds):
        """So much later, when the hub has looked for those that stall."""
        self.now += int(seconds * 1e9)
        self.asked.clear()
        with gevent.Timeout(WITHIN):
            while hub._watch not in self.asked:
                gevent.sleep(0.001)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(hub_module, "time", clock)
    monkeypatch.setattr(listener_module, "time", clock)
    monkeypatch.setattr(hub_module, "_LOOKS", 30_000)  # each 2 ms
    return clock


def test_listener_that_takes_nothing_for_too_long_is_cut_and_no_other(clock):
    hub, log = hub_with()
    stalled, reading, idle = Client(hub, "stalled"), Client(hub, "reading"), Client(hub, "idle")
    for _ in range(5):
        assert not stalled.cut
        publish(hub)
        reading.read()
        idle.read()
        clock.go_on(hub, 14)
    assert stalled.cut
    assert stalled.listener.cut_reason == "it took nothing for 60 s"
    publish(hub)
    reading.read()
    idle.read()
    late = Client(hub, "late", vms=SNAPSHOT)  # somebody to look at
    clock.go_on(hub, 50)
    late.listener.sent(1)
    clock.go_on(hub, 50)
    assert not reading.cut and not idle.cut, "nothing waits for them: silence is no stall"
    assert hub.slow_listeners_cut == 1
    assert [record.fields["userAgent"] for record in log.records if "does not read" in record.msg] == ["stalled"]


def test_listener_that_takes_a_little_now_and_then_is_not_stalled(clock):
    hub, _ = hub_with()
    slow = Client(hub, vms=SNAPSHOT)
    for _ in range(20):
        slow.listener.sent(10)
        clock.go_on(hub, 50)
    assert not slow.cut
    assert slow.listener.unsent > 90_000
