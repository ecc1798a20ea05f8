# SPDX-License-Identifier: MPL-2.0
"""A supervised child: whatever it does, it is replaced, what it says is delivered, and nothing of it is left."""

import gc
import os
import signal
import time

import gevent
import pytest

from support.child_script import child_script
from support.deadlines import SOON
from support.recording_log import RecordingLog
from vminfod.backoff import Backoff
from vminfod.watchers import garbage, process
from vminfod.watchers.child import Child
from vminfod.watchers.lines import BadLine, OddEvent

LIMIT = SOON

# A line of each child is a JSON object.
SAY = """
def say(text):
    os.write(1, "".join('{"said":"%s"}\\n' % line for line in text.split("\\n")).encode())
"""


class Owner:
    """The owner of a child: knows the lines `ready`, `bad...` and `odd...`, and keeps the others."""

    def __init__(self, program, **options):
        self.log = RecordingLog()
        self.lines, self.ready, self.missed = [], [], []
        self.child = Child(
            "test child",
            [program],
            log=self.log,
            on_record=self.on_record,
            on_ready=self.ready.append,
            on_missed=self.missed.append,
            **{"backoff": Backoff(0.01, 0.05), "ready_within": LIMIT, **options},
        )

    def on_record(self, record, _seen_at):
        line = record["said"]
        if line.startswith("bad"):
            raise BadLine("it is bad")
        if line.startswith("odd"):
            raise OddEvent("it is odd")
        if line == "broken handler":
            raise RuntimeError("a fault of ours")
        if line != "ready":
            self.lines.append(line)
        return line == "ready"


@pytest.fixture
def owner(tmp_path):
    made = []

    def make(body, **options):
        made.append(Owner(child_script(tmp_path, SAY + body), **options))
        made[-1].child.start()
        return made[-1]

    yield make
    for one in made:
        one.child.stop()


def wait_until(condition):
    with gevent.Timeout(LIMIT):
        while not condition():
            gevent.sleep(0.005)


def alive(pid):
    """Whether the process runs: a zombie that is not reaped (a grandchild's) does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_lines_are_delivered_in_order_after_the_ready_line(owner):
    o = owner('say("ready\\none\\ntwo"); say("three"); time.sleep(60)')
    assert o.child.wait_ready(LIMIT)
    wait_until(lambda: len(o.lines) == 3)
    assert o.lines == ["one", "two", "three"]
    assert o.ready == [False]
    status = o.child.status()
    assert status.pop("heardAgo").endswith("s)")
    assert status == {"state": "up", "pid": o.child.pid, "restarts": 0, "skippedLines": 0, "lastError": None}


def test_line_cut_anywhere_is_delivered_whole(owner):
    o = owner("""
say("ready")
for byte in '{"said":"z\\u00fcrich"}\\n'.encode():
    os.write(1, bytes([byte])); time.sleep(0.005)
time.sleep(60)""")
    wait_until(lambda: o.lines)
    assert o.lines == ["zürich"]


def test_child_that_dies_is_started_again_and_the_owner_hears_of_it(owner):
    o = owner('say("ready"); say(str(times_started())); time.sleep(0 if times_started() < 6 else 60); sys.exit(3)')
    wait_until(lambda: len(o.ready) >= 3)
    assert o.ready[:3] == [False, True, True]
    assert o.child.status()["restarts"] >= 2
    assert o.child.status()["lastError"] == "its output ended (exit status 3)"


def test_child_that_is_killed_is_started_again(owner):
    o = owner('say("ready"); time.sleep(60)')
    assert o.child.wait_ready(LIMIT)
    first = o.child.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: o.child.running and o.child.pid != first)
    assert o.ready == [False, True]
    assert o.child.status()["lastError"] == "its output ended (signal 9)"


def test_child_that_hangs_before_ready_is_replaced(owner):
    o = owner('time.sleep(60) if times_started() == 1 else None\nsay("ready"); time.sleep(60)', ready_within=1.5)
    wait_until(lambda: o.child.running)
    assert o.ready == [True]
    assert o.child.status()["lastError"].startswith("not ready within 1.5 s")


def test_child_that_ignores_sigterm_is_killed(owner, monkeypatch):
    monkeypatch.setattr("vminfod.watchers.process.TERM_GRACE", 0.1)
    o = owner('signal.signal(signal.SIGTERM, signal.SIG_IGN); say("ready"); time.sleep(60)')
    assert o.child.wait_ready(LIMIT)
    pid = o.child.pid
    o.child.stop()
    assert not alive(pid)


def test_program_that_is_not_there_is_tried_again_and_the_reason_is_shown(tmp_path):
    path = tmp_path / "absent"
    o = Owner(str(path))
    o.child.start()
    try:
        wait_until(lambda: o.child.status()["restarts"] >= 2)
        assert o.child.status()["lastError"] == f"cannot start {path}: No such file or directory"
        child_script(tmp_path, SAY + 'say("ready"); time.sleep(60)', "absent")
        assert o.child.wait_ready(LIMIT)
        assert o.ready == [True]
    finally:
        o.child.stop()


def test_some_garbage_is_skipped_and_counted_and_the_owner_hears_of_it_once(owner):
    o = owner('say("ready"); say("bad 1"); say("good"); say("bad 2"); say("good"); time.sleep(60)')
    wait_until(lambda: len(o.lines) == 2)
    assert o.lines == ["good", "good"]
    assert o.child.status()["skippedLines"] == 2
    assert o.missed == ["test child: it is bad"]
    assert o.child.running


@pytest.mark.parametrize(
    "garbage_line", ["", "no JSON", "[1]", '{"said":"a"}, {"said":"b"}', '{"said":"cut of', "\\xff"]
)
def test_line_that_is_no_json_object_is_skipped_alone_though_others_come_with_it(owner, garbage_line):
    o = owner(f"""
say("ready")
os.write(1, b'{{"said":"before"}}\\n{garbage_line}\\n{{"said":"behind"}}\\n')
time.sleep(60)""")
    wait_until(lambda: "behind" in o.lines)
    assert o.lines == ["before", "behind"]
    assert o.child.status()["skippedLines"] == 1
    assert len(o.missed) == 1


def test_event_that_is_only_odd_is_skipped_without_asking_for_a_refresh(owner):
    o = owner('say("ready")\nfor _ in range(300): say("odd")\nsay("good"); time.sleep(60)')
    wait_until(lambda: o.lines)
    assert o.child.status()["skippedLines"] == 300
    assert o.missed == []
    assert o.child.running
    assert len([record for record in o.log.at(40) if record.msg == "skipped a line"]) < 10
    assert o.child.silent_ns() is not None, "it was heard all the same"


def test_too_much_garbage_makes_a_new_child(owner):
    o = owner(f"""
say("ready")
if times_started() == 1:
    for _ in range({garbage.MOST} + 50): say("bad")
    time.sleep(60)
say("good"); time.sleep(60)""")
    wait_until(lambda: o.lines)
    assert o.ready == [False, True]
    assert o.child.status()["lastError"].startswith(f"more than {garbage.MOST} lines of garbage")


def test_line_without_end_is_left_out(owner):
    o = owner('say("ready"); say("x" * (3 << 20)); say("good"); time.sleep(60)')
    wait_until(lambda: o.lines)
    assert o.lines == ["good"]
    assert o.child.status()["skippedLines"] == 1


def test_fault_in_the_handling_of_a_line_is_logged_and_the_next_line_handled(owner):
    o = owner('say("ready"); say("broken handler"); say("good"); time.sleep(60)')
    wait_until(lambda: o.lines)
    assert [record.fields["err"].args for record in o.log.at(50)] == [("a fault of ours",)]


def test_second_ready_line_is_garbage(owner):
    o = owner('say("ready"); say("ready"); say("good"); time.sleep(60)')
    wait_until(lambda: o.lines)
    assert o.ready == [False]
    assert o.child.status()["skippedLines"] == 1


def test_stderr_is_kept_and_logged_and_harms_nothing(owner):
    o = owner('say("ready")\nfor n in range(150): sys.stderr.write("line %d\\n" % n)\nsay("good"); time.sleep(60)')
    wait_until(lambda: o.lines and o.child.stderr()[-1:] == ["line 149"])
    assert o.child.stderr()[0] == "line 50"
    assert o.child.running
    logged = [record.fields["line"] for record in o.log.at(40)]
    assert logged[0] == "line 0"
    assert len(logged) < 10


def test_commands_reach_the_child_also_many_at_once(owner):
    o = owner('say("ready")\nfor line in sys.stdin: say(line.strip())', commands=True)
    assert o.child.wait_ready(LIMIT)
    words = [f"word {number}" for number in range(20000)]
    for word in words:
        assert o.child.send(word.encode() + b"\n")
    wait_until(lambda: len(o.lines) == len(words))
    assert o.lines == words


def test_command_to_a_child_that_is_not_up_is_refused(owner):
    o = owner("time.sleep(60)", commands=True)
    assert o.child.send(b"hello\n") is False


def test_child_sees_the_end_of_its_stdin_when_stopped(owner, tmp_path):
    o = owner(
        """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
say("ready")
sys.stdin.read()
open(__file__ + ".saw-the-end", "w")""",
        commands=True,
    )
    assert o.child.wait_ready(LIMIT)
    o.child.stop()
    assert (tmp_path / "child.saw-the-end").exists()


def test_nothing_is_delivered_after_stop(owner):
    o = owner('say("ready")\nwhile True: say("more")')
    wait_until(lambda: len(o.lines) > 10)
    o.child.stop()
    count = len(o.lines)
    pid = o.child.pid
    gevent.sleep(0.05)  # more would come in this time if it did: its passing is the case
    assert len(o.lines) == count
    assert pid is None
    assert o.child.status()["state"] == "stopped"


def test_lines_of_one_piece_that_come_behind_stop_are_not_delivered(owner):
    """All of them have been read when the first one is handled (OS-7310)."""
    o = owner('time.sleep(0.2); say("\\n".join(["ready", "one", *["more"] * 50])); time.sleep(60)')
    stopping = []

    def on_record(record, _seen_at):
        o.lines.append(record["said"])
        if record["said"] == "one":
            stopping.append(gevent.spawn(o.child.stop))
            gevent.sleep(0)
        return record["said"] == "ready"

    o.child._on_record = on_record
    wait_until(lambda: stopping)
    gevent.joinall(stopping, timeout=LIMIT)
    assert o.lines == ["ready", "one"]


def test_child_that_is_stopped_by_a_signal_is_replaced(owner, monkeypatch):
    monkeypatch.setattr("vminfod.watchers.child.CHECK_EVERY", 0.05)
    o = owner('say("ready"); time.sleep(60)')
    assert o.child.wait_ready(LIMIT)
    pid = o.child.pid
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: o.ready == [False, True])
    assert not alive(pid)
    assert o.child.status()["lastError"].startswith("it is stopped by a signal")


@pytest.mark.parametrize(
    ("limit", "endless"),
    [
        ("UNFINISHED_WITHIN", 'os.write(1, b"half a line"); time.sleep(60)'),
        ("UNFINISHED_WITHIN", 'while True: os.write(1, b"and so on, "); time.sleep(0.01)'),
        ("OVERLONG_WITHIN", 'while True: os.write(1, b"x" * (1 << 20)); time.sleep(0.01)'),
    ],
    ids=["half a line", "a line that goes on", "megabytes"],
)
def test_line_that_does_not_end_is_the_end_of_its_child(owner, monkeypatch, limit, endless):
    monkeypatch.setattr("vminfod.watchers.child.CHECK_EVERY", 0.05)
    monkeypatch.setattr(f"vminfod.watchers.child.{limit}", 0.3)
    o = owner(f"""
say("ready")
if times_started() == 1:
    {endless}
say("good"); time.sleep(60)""")
    wait_until(lambda: o.lines)
    assert o.ready == [False, True]
    assert o.lines == ["good"]
    assert "a line that has not ended for 0.3 s" in o.child.status()["lastError"]


def test_endless_line_is_garbage_as_soon_as_it_is_too_long(owner):
    o = owner('say("ready"); os.write(1, b"x" * (2 << 20)); time.sleep(60)')
    wait_until(lambda: o.missed)
    assert o.child.status()["skippedLines"] == 1
    assert o.child.running


def test_child_that_is_renewed_is_replaced_at_once_and_counts_as_no_loss(owner):
    o = owner('say("ready"); time.sleep(60)', backoff=Backoff(3600, 3600))
    assert o.child.wait_ready(LIMIT)
    pid = o.child.pid
    o.child.renew("it is silent")
    wait_until(lambda: o.ready == [False, True])
    assert not alive(pid)
    assert (o.child.status()["lastError"], o.child.recent_losses()) == (None, [])


def test_losses_are_remembered_for_five_minutes_and_counted_for_ever(owner):
    now = [0]
    o = owner('say("ready"); time.sleep(60)', clock=lambda: now[0])
    assert o.child.wait_ready(LIMIT)
    assert o.child.recent_losses() == []
    for again in (1, 2, 3):
        now[0] += 10 * 10**9
        o.child.restart("it is enough")
        wait_until(lambda again=again: len(o.ready) == again + 1)
    assert o.child.recent_losses() == [20, 10, 0]
    now[0] += 285 * 10**9
    assert o.child.recent_losses() == [295, 285]
    now[0] += 100 * 10**9
    assert o.child.recent_losses() == []
    assert o.child.status()["restarts"] == 3, "the count stays"


def test_child_that_is_being_renewed_is_down_only_if_the_new_one_does_not_come(owner):
    now = [0]
    marker = f"/tmp/renewed-{os.getpid()}"
    o = owner(
        f'first = not os.path.exists({marker!r}); open({marker!r}, "w").close()\n'
        'first and say("ready")\ntime.sleep(60)',
        clock=lambda: now[0],
    )
    try:
        assert o.child.wait_ready(LIMIT)
        o.child.renew("it is silent")
        wait_until(lambda: o.child.status()["state"] != "up")
        assert o.child.down_seconds() is None
        wait_until(lambda: o.child.status()["state"] == "starting" and o.child.pid)
        assert o.child.down_seconds() is None
        now[0] += 6 * 10**9
        assert o.child.down_seconds() == 6
    finally:
        os.unlink(marker)


def test_child_that_always_talks_leaves_others_their_turn(owner):
    turns = []

    def other():
        while True:
            turns.append(len(o.lines))
            gevent.sleep(0)

    greenlet = gevent.spawn(other)
    o = owner('say("ready")\nwhile True: say("more\\n" * 5000 + "more")')
    wait_until(lambda: len(o.lines) > 120_000)  # some thirty pieces of 64 KiB
    greenlet.kill()
    assert len(set(turns)) > 10


def test_children_of_the_child_end_with_it(owner):
    o = owner("""
pid = os.fork()
if pid == 0:
    time.sleep(60)
say("ready"); say(str(pid)); time.sleep(60)""")
    wait_until(lambda: o.lines)
    grandchild = int(o.lines[0])
    assert alive(grandchild)
    o.child.stop()
    wait_until(lambda: not alive(grandchild))


def test_end_is_noticed_though_a_grandchild_holds_the_output_open(owner, monkeypatch):
    monkeypatch.setattr("vminfod.watchers.child.CHECK_EVERY", 0.05)
    o = owner("""
say("ready")
if times_started() == 1:
    if os.fork() == 0: time.sleep(60)
    os._exit(0)
time.sleep(60)""")
    wait_until(lambda: len(o.ready) == 2)
    assert o.child.status()["lastError"] == "it ended (exit status 0)"


def test_child_is_not_in_the_process_group_of_the_daemon(owner):
    o = owner('say("ready"); time.sleep(60)')
    assert o.child.wait_ready(LIMIT)
    assert os.getpgid(o.child.pid) == o.child.pid != os.getpgid(0)


def test_process_whose_starter_is_killed_meanwhile_is_ended(tmp_path, monkeypatch):
    """The start runs in a thread, which a greenlet's end does not end."""
    program = child_script(tmp_path, "time.sleep(60)")
    start, begun, made = process._start, [], []

    def slow_start(argv, commands):
        begun.append(True)
        time.sleep(0.2)  # a slow start: this is the case, not a wait
        made.append(start(argv, commands))
        return made[0]

    monkeypatch.setattr(process, "_start", slow_start)
    greenlet = gevent.spawn(process.Process, [program], commands=True)
    wait_until(lambda: begun)
    greenlet.kill()
    wait_until(lambda: made)
    wait_until(lambda: not alive(made[0].pid))


def test_stop_during_the_wait_before_a_new_start_returns_at_once(owner):
    o = owner("sys.exit(1)", backoff=Backoff(3600, 3600))
    wait_until(lambda: o.child.status()["state"] == "waiting")
    o.child.stop(within=LIMIT)
    assert o.child.status()["state"] == "stopped"
    assert o.child._supervisor.ready()


def test_many_restarts_leave_no_descriptor_and_no_greenlet_behind(owner):
    body = 'say("ready"); sys.exit(0)'
    first = owner(body, commands=True)  # what the event loop opens once and for all is open after it
    wait_until(lambda: first.ready)
    first.child.stop()
    before = len(os.listdir("/proc/self/fd"))
    o = owner(body, commands=True, backoff=Backoff(0.001, 0.001))
    wait_until(lambda: len(o.ready) >= 15)
    o.child.stop()
    assert len(os.listdir("/proc/self/fd")) == before
    ours = [one for one in gc.get_objects() if isinstance(one, gevent.Greenlet) and one.name.startswith("test child")]
    assert [one.name for one in ours if not one.dead] == []
