# SPDX-License-Identifier: MPL-2.0
"""What listeners that do not read can hold, each and all together, and for how long. The limits are small here; the
senders are stand-ins that take what a test lets them take."""

import gevent
import pytest

from support.recording_log import RecordingLog
from vminfod.serving.hub import Hub, Limits
from vminfod.serving.listener import Selection, Stream

pytestmark = pytest.mark.pure

WITHIN = 10.0  # seconds for what takes milliseconds
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


def hub_with(**limits):
    log = RecordingLog()
    return Hub(log, Limits(ring_bytes=0, **limits)), log


def reasons(log):
    return [record.fields["reason"] for record in log.records if record.msg == "cut a listener that does not read"]


def test_what_waits_for_many_is_held_and_counted_once():
    hub, _ = hub_with()
    clients = [Client(hub, vms=SNAPSHOT) for _ in range(300)]
    heads = hub.waiting_bytes - len(SNAPSHOT)
    assert 0 < heads < 300 * 500
    assert sum(client.listener.unsent for client in clients) > 300 * len(SNAPSHOT)
    for _ in range(10):
        publish(hub)
    assert hub.waiting_bytes - heads - len(SNAPSHOT) < 10 * 1500
    for client in clients[1:]:
        client.read()
    assert hub.waiting_bytes > len(SNAPSHOT)  # the last one's
    clients[0].read()
    assert hub.waiting_bytes == 0
    assert not any(client.cut for client in clients)


def test_past_the_limit_of_all_together_those_are_cut_that_have_not_read_for_longest():
    hub, log = hub_with(all_backlogs_bytes=150_000)
    old, middle, young = (Client(hub, name) for name in ("old", "middle", "young"))
    middle.read()
    gevent.sleep(0.001)  # the others read later: this is the case, not a wait
    for client in (middle, young):
        client.read()
    hub_bytes = 0
    while not old.cut:
        publish(hub, 10_000)
        young.read()
        assert hub.waiting_bytes <= 150_000
        hub_bytes += 10_000
        assert hub_bytes < 10 * 150_000
    assert reasons(log)[0] == "the backlogs of all listeners together were full"
    assert log.records[-1].fields["userAgent"] in ("old", "middle")
    assert not young.cut
    assert hub.waiting_bytes <= 150_000
    publish(hub, 10_000)
    young.read()
    assert not young.cut


def test_limit_of_all_together_holds_for_what_is_first_sent_too():
    """Snapshots of different revisions are different bytes."""
    hub, log = hub_with(all_backlogs_bytes=350_000)
    clients = [Client(hub, vms=bytes(SNAPSHOT + str(number).encode())) for number in range(10)]
    assert hub.waiting_bytes <= 350_000
    assert [client.cut for client in clients].count(False) == 3
    assert set(reasons(log)) == {"the backlogs of all listeners together were full"}
    assert hub.slow_listeners_cut == 7


def test_listener_that_takes_nothing_for_too_long_is_cut_and_no_other():
    hub, log = hub_with(stalled_seconds=0.2)
    stalled, reading, idle = Client(hub, "stalled"), Client(hub, "reading"), Client(hub, "idle")
    reading.read()
    idle.read()
    with gevent.Timeout(WITHIN):
        while not stalled.cut:
            publish(hub)
            reading.read()
            idle.read()
            gevent.sleep(0.01)
    assert stalled.listener.cut_reason == "it took nothing for 0.2 s"
    gevent.sleep(0.5)  # nothing waits for the others: their silence is the case, and no stall
    assert not reading.cut and not idle.cut
    assert hub.slow_listeners_cut == 1
    assert [record.fields["userAgent"] for record in log.records if "does not read" in record.msg] == ["stalled"]


def test_listener_that_takes_a_little_now_and_then_is_not_stalled():
    hub, _ = hub_with(stalled_seconds=0.3)
    slow = Client(hub, vms=SNAPSHOT)
    with gevent.Timeout(WITHIN):
        for _ in range(100):
            slow.listener.sent(10)
            gevent.sleep(0.01)  # now and then: this is the case, not a wait
    assert not slow.cut
    assert slow.listener.unsent > 90_000
