# SPDX-License-Identifier: MPL-2.0
"""Clients that are slow, greedy, rude or many: each costs itself its connection, and no other anything."""

import contextlib
import json
import socket
import struct
import threading

import pytest

from support.convergence import Listener
from support.deadlines import SOON
from support.running_daemon import RunningDaemon, eventually
from support.settling import settle

LISTENERS = 500
MIB = 1 << 20
PADDING = "x" * 100_000  # of a tag: an event about it has it three times, and some ten fill a backlog and the socket


@pytest.fixture
def small(node):
    """A daemon whose listeners may have only little unread."""
    with RunningDaemon(node.root, "--listener-backlog-bytes", str(MIB)).start() as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def slow_clients(quiet_daemon):
    """Connections on which a request has begun and never ends. The daemon waits 10 s for that."""
    socks = [connection(quiet_daemon) for _ in range(50)]
    for number, sock in enumerate(socks):
        sock.sendall(b"GET /ping HTTP/1.1\r\nX: "[: 5 + number % 18])
    return socks


def is_well(daemon):
    assert daemon.get("/ping").status == 200
    faults = daemon.logged("unexpectedly") + daemon.logged("escaped a greenlet")
    assert not faults, f"{len(faults)}: {faults[0]}"
    return True


def a_zone(daemon):
    return next(
        vm["uuid"]
        for vm in daemon.vms()
        if vm["brand"].startswith("joyent") and vm["zonepath"] == f"/zones/{vm['uuid']}"
    )


def shout(node, daemon, uuid):
    """Some 10 MiB of events: more than a backlog and what the kernel keeps for a socket."""
    for number in range(40):
        node.control.write_config(uuid, "tags", {"pad": PADDING, "number": number})
        eventually("it is served", lambda number=number: daemon.vm(uuid)["tags"].get("number") == number)


def connection(daemon, receive_buffer=None):
    """A socket that can be told to take in little."""
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(SOON)
    sock.connect(("127.0.0.1", daemon.port))
    return sock


def everything(sock):
    """What comes until the end; a reset is an end too."""
    pieces = []
    try:
        while piece := sock.recv(1 << 16):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    sock.close()
    return b"".join(pieces)


def status_of(response):
    return int(response.split()[1]) if response else None


# Requests.


@pytest.mark.parametrize(
    "request_, status",
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /" + b"x" * 1_000_000, 414),
        (b"GET /ping HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 431),
        (b"GET /ping HTTP/1.1\r\n" + b"X: y\r\n" * 3000 + b"\r\n", 431),
        (b"GET /ping HTTP/1.1\r\n" + b"X: " + b"y" * 900 + b"\r\n" * 1 + b"Y: " + b"z" * 40_000, 431),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /ping HTTP/9.9\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
    ],
    ids=lambda value: value[:30] if isinstance(value, bytes) else value,
)
def test_request_that_is_none_gets_a_short_answer_and_the_door(quiet_daemon, request_, status):
    sock = connection(quiet_daemon)
    threading.Thread(target=send_all, args=[sock, request_]).start()
    response = everything(sock)
    assert status_of(response) in (status, None), response[:200]  # None: the reset overtook the answer
    assert b"Traceback" not in response
    assert is_well(quiet_daemon)


def send_all(sock, data):
    try:
        sock.sendall(data)
    except OSError:
        return  # it was shown the door in the midst


def test_body_is_not_taken_for_another_request(quiet_daemon):
    smuggled = b"GET /vms HTTP/1.1\r\n\r\n"
    for head in (b"Content-Length: %d" % len(smuggled), b"Transfer-Encoding: chunked"):
        sock = connection(quiet_daemon)
        sock.sendall(b"GET /ping HTTP/1.1\r\n" + head + b"\r\n\r\n" + smuggled)
        response = everything(sock)
        assert response.count(b"HTTP/1.1 ") == 1
        assert status_of(response) == 200
        assert response.endswith(b'{"ping":"pong"}')


def test_large_body_is_not_read(quiet_daemon):
    sock = connection(quiet_daemon)
    sock.sendall(b"GET /ping HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n")
    assert status_of(everything(sock)) == 200
    assert is_well(quiet_daemon)


def test_half_closed_connection_gets_its_answer(quiet_daemon):
    sock = connection(quiet_daemon)
    sock.sendall(b"GET /vms HTTP/1.1\r\n\r\n")
    sock.shutdown(socket.SHUT_WR)
    response = everything(sock)
    assert status_of(response) == 200
    assert len(json.loads(response.partition(b"\r\n\r\n")[2])) == 30


def test_connections_that_are_reset_in_the_midst_are_forgotten(quiet_daemon):
    before = quiet_daemon.status()["connections"]
    for request_ in (
        b"",
        b"GET /vm",
        b"GET /vms HTTP/1.1\r\nX: ",
        b"GET /vms HTTP/1.1\r\n\r\n",
        b"GET /events HTTP/1.1\r\n\r\n",
        b"GET /vms/x?fresh=true HTTP/1.1\r\n\r\n",
    ):
        for _ in range(10):
            sock = connection(quiet_daemon)
            sock.sendall(request_)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()  # with a reset
    eventually("all are forgotten", lambda: quiet_daemon.status()["connections"] <= before)
    eventually("none is listed as a listener", lambda: not quiet_daemon.status()["eventsListeners"])
    assert is_well(quiet_daemon)


# Responses without a reader.


@pytest.mark.vms(30)
@pytest.mark.parametrize("path", [b"/vms", b"/events"])
def test_clients_that_never_read_the_list_cost_nothing_but_their_connection(node, path):
    for uuid in [vm["uuid"] for vm in node.control.vms() if vm["state"] != "configured"][:25]:
        node.control.write_config(uuid, "metadata", {"customer_metadata": {"pad": PADDING}})
    with RunningDaemon(node.root).start() as daemon:
        size = len(daemon.get("/vms").body)
        assert size > 2 * MIB
        before = daemon.status()["memory"]["rss"]
        stuck = [connection(daemon, receive_buffer=4096) for _ in range(100)]
        for sock in stuck:
            sock.sendall(b"GET " + path + b" HTTP/1.1\r\n\r\n")
        eventually("all are being answered", lambda: daemon.status()["connections"] >= 100)
        assert is_well(daemon)
        assert daemon.status()["memory"]["rss"] - before < 60 * MIB, f"100 times {size >> 20} MiB were asked for"
        for sock in stuck:
            sock.close()
        eventually("all are forgotten", lambda: daemon.status()["connections"] == 1)


def lazy_readers(daemon, paths):
    """Connections that have asked for these and take nothing. Each has been answered, or was cut already."""
    stuck = [connection(daemon, receive_buffer=4096) for _ in paths]
    for sock, path in zip(stuck, paths):
        sock.sendall(f"GET {path} HTTP/1.1\r\nUser-Agent: lazy\r\n\r\n".encode())
    for sock in stuck:
        with contextlib.suppress(ConnectionResetError):
            sock.recv(1, socket.MSG_PEEK)
    return stuck


def test_clients_that_never_read_their_own_lists_hold_no_more_than_one_limit(node):
    """64 MiB, of lists of 12 MB. Those that are equal are held once."""
    names = [vm["uuid"] for vm in node.control.vms() if vm["state"] != "configured"][:4]
    for uuid in names:
        node.control.write_config(uuid, "metadata", {"customer_metadata": {"pad": 3_000_000 * "x"}})
    with RunningDaemon(node.root, "--log-level", "info").start() as daemon:
        before = daemon.status()["memory"]["rss"]

        def grown():
            """MiB since then."""
            return (daemon.status()["memory"]["rss"] - before) >> 20

        fields = [f"/vms?fields=customer_metadata,{name}" for name in ("uuid", "alias", "state", "brand", "ram")]
        equal = lazy_readers(daemon, fields[:1] * 20)
        whole = daemon.get(fields[1]).json()
        assert grown() < 90, "20 times 12 MB were asked for"
        assert not daemon.logged("cut a client that does not read")
        assert daemon.status()["events"]["waitingBytes"] > 10_000_000
        own = lazy_readers(
            daemon, [f"{path},{more}" for path in fields for more in ("quota", "zonepath", "nics", "tags")]
        )
        eventually("some are cut", lambda: daemon.logged("cut a client that does not read", level=40))
        assert grown() < 140, "20 times 12 MB of their own"
        assert daemon.get(fields[1]).json() == whole, "one that reads gets all of it"
        assert daemon.status()["events"]["waitingBytes"] <= 64 * MIB
        cut = daemon.logged("cut a client that does not read", level=40)[0]
        assert (cut["reason"], cut["req"]["headers"]["user-agent"]) == (
            "what waits for all clients together was too much",
            "lazy",
        )
        assert cut["req"]["url"].startswith("/vms?fields=customer_metadata,") and cut["unsent"] > MIB
        assert 0 < len(everything(equal[0])) < 12_000_000, "the oldest went first"
        assert is_well(daemon)
        for sock in [*equal[1:], *own]:
            sock.close()
        eventually("nothing waits any more", lambda: daemon.status()["events"]["waitingBytes"] == 0)


def test_listener_that_never_reads_is_cut_at_its_bound_and_the_others_lose_nothing(node, small):
    uuid = a_zone(small)
    others = [Listener(small) for _ in range(5)]
    sleeper = connection(small, receive_buffer=4096)
    sleeper.sendall(b"GET /events?vms=false HTTP/1.1\r\nUser-Agent: sleeper\r\n\r\n")
    assert sleeper.recv(100).startswith(b"HTTP/1.1 200")
    before = small.status()["memory"]["rss"]
    shout(node, small, uuid)
    eventually("it was cut", lambda: small.status()["events"]["slowListenersCut"] == 1)
    eventually("its entry is gone", lambda: len(small.status()["eventsListeners"]) == 5)
    [record] = small.logged("cut a listener that does not read", level=40)
    assert record["userAgent"] == "sleeper"
    last = int(small.get("/ping").headers["x-vminfod-rev"])
    for listener in others:
        listener.caught_up(last)
        assert sorted(listener.at) == list(range(listener.first, last + 1))
        assert listener.vms[uuid] == small.vm(uuid)
        listener.close()
    assert small.status()["memory"]["rss"] - before < 80 * MIB
    assert is_well(small)
    tail = everything(sleeper)
    assert not tail.endswith(b"0\r\n\r\n"), "it must not look like the stream's good end"


def test_sleepers_cost_no_more_than_their_bound(node, small):
    uuid = a_zone(small)
    before = small.status()["memory"]["rss"]
    sleepers = [connection(small, receive_buffer=4096) for _ in range(100)]
    for sleeper in sleepers:
        sleeper.sendall(b"GET /events HTTP/1.1\r\n\r\n")
    eventually("all listen", lambda: len(small.status()["eventsListeners"]) == 100)
    shout(node, small, uuid)
    eventually("all were cut", lambda: small.status()["events"]["slowListenersCut"] == 100)
    eventually("all entries are gone", lambda: not small.status()["eventsListeners"])
    assert small.status()["memory"]["rss"] - before < 100 * MIB
    assert is_well(small)
    for sleeper in sleepers:
        sleeper.close()


@pytest.mark.more
def test_300_that_never_read_hold_one_snapshot_together(node, root):
    """They held a copy each, and the memory stayed when they had gone. Limits of their own would hide that."""
    with RunningDaemon(node.root, "--listener-backlog-bytes", str(64 * MIB)).start() as daemon:
        for vm in daemon.vms()[:10]:  # more than the kernel keeps for a socket
            node.control.write_config(vm["zonename"], "tags", {"pad": "x" * MIB})
        eventually("all are served", lambda: len(daemon.get("/vms").body) > 10 * MIB)
        size = len(daemon.get("/vms").body)
        before = daemon.status()["memory"]["rss"]
        sleepers = [connection(daemon, receive_buffer=4096) for _ in range(300)]
        for sleeper in sleepers:
            sleeper.sendall(b"GET /events HTTP/1.1\r\n\r\n")
        eventually("all listen", lambda: len(daemon.status()["eventsListeners"]) == 300)
        status = daemon.status()
        assert size / 2 < status["events"]["waitingBytes"] < 2 * size
        assert all(entry["backlogBytes"] > size / 4 for entry in status["eventsListeners"].values())
        assert status["memory"]["rss"] - before < 10 * size  # a copy each would be 300
        assert is_well(daemon)
        for sleeper in sleepers:
            sleeper.close()
        eventually("all are forgotten", lambda: daemon.status()["events"]["waitingBytes"] == 0)


def test_slow_reader_that_keeps_up_is_not_cut(node, small):
    """What counts is what lies unread, not how fast it goes."""
    uuid = a_zone(small)
    stream = small.events()
    for number in range(20):
        node.control.write_config(uuid, "tags", {"pad": PADDING, "number": number})
        stream.until(lambda event, number=number: event["vm"]["tags"].get("number") == number)
    assert small.status()["events"]["slowListenersCut"] == 0
    stream.close()


def test_event_larger_than_the_bound_reaches_those_who_read(node, small):
    uuid = a_zone(small)
    listener = Listener(small)
    node.control.write_config(uuid, "tags", {"pad": "y" * (2 * MIB)})
    eventually("it is served", lambda: small.vm(uuid)["tags"].get("pad"))
    listener.caught_up(int(small.get("/ping").headers["x-vminfod-rev"]))
    assert listener.vms[uuid] == small.vm(uuid)
    assert small.status()["events"]["slowListenersCut"] == 0
    listener.close()


# Many of them.


def test_listener_that_goes_is_forgotten_at_once(quiet_daemon):
    def agents():
        return [entry.get("userAgent") for entry in quiet_daemon.status()["eventsListeners"].values()]

    stream = quiet_daemon.events("?heartbeat=3600", {"User-Agent": "short visit"})
    assert "short visit" in agents()
    stream.close()
    eventually("it is gone", lambda: "short visit" not in agents())


@pytest.mark.vms(30)
def test_500_listeners_get_every_event(node, daemon):
    before = daemon.status()["memory"]["rss"]
    streams = [connection(daemon) for _ in range(LISTENERS)]
    for sock in streams:
        sock.sendall(b"GET /events?vms=false HTTP/1.1\r\n\r\n")
    eventually("all listen", lambda: len(daemon.status(full=False)["eventsListeners"]) == LISTENERS, within=SOON)
    first = int(daemon.get("/ping").headers["x-vminfod-rev"])
    node.control.churn(60, seed=6, kinds=["alias", "zfs_set", "config", "snapshot", "boot", "halt"])
    settle(daemon)
    last = int(daemon.get("/ping").headers["x-vminfod-rev"])
    assert last > 20
    heard = set()
    for sock in streams:
        _ready, *events = lines_of(sock, 1 + last - first)
        heard.add(b"\n".join(events))
        sock.close()
    assert len(heard) == 1, "all got the same"
    assert [json.loads(line)["rev"] for line in heard.pop().split(b"\n")] == list(range(first + 1, last + 1))
    assert daemon.status()["memory"]["rss"] - before < 150 * MIB
    eventually("all are forgotten", lambda: not daemon.status(full=False)["eventsListeners"])
    assert daemon.status()["events"]["slowListenersCut"] == 0
    assert is_well(daemon)


def lines_of(sock, count):
    """The first lines of a chunked stream, so many."""
    file = sock.makefile("rb")
    while file.readline().strip():
        pass
    lines, rest = [], b""
    while len(lines) < count:
        rest += file.read(int(file.readline(), 16))
        file.readline()
        *whole, rest = rest.split(b"\n")
        lines += whole
    file.close()
    return lines


def test_flood_of_connections_is_turned_away_and_then_over(node):
    """Descriptors for 2,500 on both sides; the daemon takes 2,000."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"only {hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    with RunningDaemon(node.root).start() as daemon:
        standing = daemon.events()
        flood = [connection(daemon) for _ in range(2200)]
        turned_away = 0
        for sock in flood[2000:]:
            turned_away += status_of(sock.recv(4096)) == 503
        assert turned_away == 200
        uuid = a_zone_of(node)
        node.control.write_config(uuid, "tags", {"during": "flood"})
        standing.until(lambda event: event["vm"]["tags"] == {"during": "flood"})
        for sock in flood:
            sock.close()
        eventually("the daemon answers again", daemon.answers)
        eventually("all are forgotten", lambda: daemon.status()["connections"] == 2)
        assert is_well(daemon)
        standing.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def a_zone_of(node):
    return next(
        vm["uuid"]
        for vm in node.control.vms()
        if vm["brand"].startswith("joyent") and vm["zonepath"] == f"/zones/{vm['uuid']}"
    )


def test_headers_that_come_slowly_held_up_no_other_client_and_came_to_an_end(quiet_daemon, slow_clients):
    """They have been there since the first test of this file."""
    assert is_well(quiet_daemon)
    for sock in slow_clients:
        response = everything(sock)  # nothing for a request line that never ended, 408 for headers that never did
        assert status_of(response) in (None, 408)
    assert is_well(quiet_daemon)
