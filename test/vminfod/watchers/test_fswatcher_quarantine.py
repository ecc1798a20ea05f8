# SPDX-License-Identifier: MPL-2.0
"""Paths that the file watcher's child ends or hangs of: whatever the path, however many and whenever it strikes, the
others are watched, the path is named, and it is watched again once it does no harm any more."""

import contextlib
import os
from unittest.mock import create_autospec

import gevent
import pytest
from gevent.event import Event

from support.child_script import child_script
from support.deadlines import SOON
from support.examples import more
from support.processes import children_of, is_alive
from support.recording_log import RecordingLog
from vminfod.watchers import quarantine
from vminfod.watchers.fswatcher import FsWatcher
from vminfod.watchers.quarantine import Quarantine
from vminfod.watchers.trial import Trial

LIMIT = SOON

# A file watcher that only answers. It ends, or hangs, of the paths in the file `bad` beside it, each line a path and
# what happens: "abort", "kill", "exit" or "hang" at once, "batch" with the answers before it unwritten, or a number of
# seconds after which it aborts.
PROGRAM = """
import select
def now(): return list(divmod(time.monotonic_ns(), 10**9))
def bad():
    try: lines = open(os.path.join(os.path.dirname(__file__), "bad")).read().splitlines()
    except FileNotFoundError: lines = []
    return dict(line.split() for line in lines)
def die(*_):
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stderr.write("Abort: it is bad\\n"); sys.stderr.flush(); os.abort()
signal.signal(signal.SIGALRM, die)
times_started()
say('{"type":"ready","time":%s}' % now())
rest, out, answered = b"", b"", 0
while True:
    piece = os.read(0, 65536)
    if not piece: break
    *lines, rest = (rest + piece).split(b"\\n")
    for line in lines:
        key, word, path = line.decode().split()
        how = bad().get(path) if word == "WATCH" else None
        if how == "crowded":  # it takes more paths than one process on trial is asked for
            how = "abort" if answered > 3 else None
        answered += 1
        if how in ("abort", "kill", "exit", "hang"):
            os.write(1, out); out = b""
        if how in ("abort", "batch"): die()
        if how == "kill": os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit": sys.exit(1)
        if how == "hang": time.sleep(3600)
        if how: signal.setitimer(signal.ITIMER_REAL, float(how))
        with open(__file__ + ".asked", "a") as file: file.write("%d %s %s\\n" % (os.getpid(), word, path))
        out += b'{"type":"response","time":%s,"key":%s,"code":0}\\n' % (str(now()).encode(), key.encode())
    os.write(1, out); out = b""
"""


class Owner:
    """A watcher whose program has `bad` paths."""

    def __init__(self, folder, **options):
        self.folder = folder
        self.program = child_script(folder, PROGRAM)
        self.log = RecordingLog()
        self.events, self.missed = [], []
        self.watcher = FsWatcher(
            self.program, log=self.log, on_event=self.events.append, on_missed=self.missed.append, **options
        )
        self.watcher.child._backoff._next = self.watcher.child._backoff._first = 0.01

    def bad(self, **how):
        """What is bad from now on: path (without its slash) and how."""
        (self.folder / "new").write_text("".join(f"/{path} {what}\n" for path, what in how.items()))
        (self.folder / "new").rename(self.folder / "bad")

    def watch(self, *names):
        for name in names:
            self.watcher.watch(f"/{name}")

    def asked(self):
        """Commands that were answered, as the number of a process and words."""
        try:
            return (self.folder / "child.asked").read_text().splitlines()
        except FileNotFoundError:
            return []

    def quarantined(self):
        return [entry["path"] for entry in self.watcher.status()["quarantine"]]

    def wait_for(self, watching, quarantined):
        """Wait until exactly these (names) are watched, and those in quarantine."""
        watching, quarantined = sorted(f"/{name}" for name in watching), sorted(f"/{name}" for name in quarantined)
        with gevent.Timeout(LIMIT, AssertionError(f"{self.watcher.watching} {self.quarantined()}")):
            while (self.watcher.watching, self.quarantined()) != (watching, quarantined):
                gevent.sleep(0.01)


@pytest.fixture
def owner(tmp_path, monkeypatch):
    monkeypatch.setattr("vminfod.watchers.quarantine.FIRST_WAIT", 3600.0)  # a test that wants another try asks for it
    made = []

    def make(**options):
        made.append(Owner(tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.watcher.stop()


def names(count, start=0):
    return [f"f{number}" for number in range(start, start + count)]


@pytest.mark.parametrize("how", ["abort", *more("kill", "exit"), "batch"])
def test_path_that_ends_the_child_is_left_out_and_the_others_are_watched(owner, how):
    o = owner()
    o.bad(f7=how)
    o.watch(*names(12))
    o.watcher.start()
    o.wait_for([name for name in names(12) if name != "f7"], ["f7"])
    assert "/f7" in o.watcher.not_yet_watching
    # It ended once, and what followed was found out beside it. A kill can come from outside: one more has to follow.
    assert o.watcher.status()["restarts"] == (2 if how == "kill" else 1)
    [logged] = [record for record in o.log.at(50) if "path" in record.fields]
    assert logged.fields["path"] == "/f7"


def test_reason_says_how_the_child_ended_and_what_it_said_last(owner):
    o = owner()
    o.bad(f1="abort")
    o.watch("f1")
    o.watcher.start()
    o.wait_for([], ["f1"])
    [entry] = o.watcher.status()["quarantine"]
    assert entry["reason"] == "signal 6 Abort: it is bad"
    assert entry["tries"] == 1
    assert entry["since"]
    assert entry["ago"].endswith("s)")


def test_several_paths_among_two_hundred_asked_in_one_go(owner):
    o = owner()
    bad = {"f0": "batch", "f63": "abort", "f64": "exit", "f120": "batch", "f199": "kill"}
    o.bad(**bad)
    o.watch(*names(200))
    o.watcher.start()
    o.wait_for([name for name in names(200) if name not in bad], bad)


def test_path_that_is_asked_for_while_all_is_well(owner):
    o = owner()
    o.bad(f5="abort")
    o.watcher.start()
    o.watch(*names(5))
    o.wait_for(names(5), [])
    o.watch("f5")
    o.wait_for(names(5), ["f5"])
    o.watch("f6")
    o.wait_for([*names(5), "f6"], ["f5"])


def test_path_that_ends_the_child_some_time_after_its_answer(owner):
    o = owner()
    o.bad(f3="0.3")
    o.watch(*names(8))
    o.watcher.start()
    o.wait_for([name for name in names(8) if name != "f3"], ["f3"])
    # The one that runs may have been asked for it before it was found out, and ends of it in a moment.
    doomed = o.watcher.child.pid
    with contextlib.suppress(ProcessLookupError, TypeError):
        os.kill(doomed, 9)
    o.watch("f9")
    with gevent.Timeout(LIMIT):
        while o.watcher.child.pid in (None, doomed):
            gevent.sleep(0.01)
    o.wait_for([*[name for name in names(8) if name != "f3"], "f9"], ["f3"])
    asked = {line.partition(" ")[2] for line in o.asked() if line.startswith(f"{o.watcher.child.pid} ")}
    assert asked == {f"WATCH /{name}" for name in [*names(8), "f9"] if name != "f3"}


def test_path_of_which_the_child_hangs(owner):
    o = owner(answer_within=2)
    o.bad(f2="hang")
    o.watch(*names(6))
    o.watcher.start()
    o.wait_for([name for name in names(6) if name != "f2"], ["f2"])
    [entry] = o.watcher.status()["quarantine"]
    assert entry["reason"] == "no answer within 2 s"


def test_who_asks_hears_of_what_is_harmless_while_the_search_goes_on(tmp_path):
    o = Owner(tmp_path)
    o.bad(f3="hang", f4="hang", f7="abort")
    paths = [f"/{name}" for name in names(40)]
    acquitted = []
    trial = Trial([o.program], o.log, answer_within=1)
    guilty = trial.guilty(paths, 0.05, acquitted.extend)
    assert sorted(guilty) == ["/f3", "/f4", "/f7"]
    assert sorted(acquitted) == sorted(set(paths) - set(guilty)), "each once"


def test_suspect_that_is_harmless_is_watched_while_the_others_are_on_trial(owner):
    o = owner(answer_within=1)
    verdict = Event()

    def guilty(paths, _stay, acquit):
        acquit([path for path in paths if path != "/f2"])
        verdict.wait()
        return {"/f2": "it hangs"}

    o.watcher._suspicion._trial = create_autospec(Trial, instance=True)
    o.watcher._suspicion._trial.guilty.side_effect = guilty
    o.bad(f2="hang")
    o.watch(*names(6))
    o.watcher.start()
    well = [name for name in names(6) if name != "f2"]
    o.wait_for(well, [])
    [(path, seconds)] = o.watcher.unanswered()
    assert path == "/f2"
    assert seconds >= 1, "since it was first asked for, and not since the child was replaced"
    verdict.set()
    o.wait_for(well, ["f2"])
    assert o.watcher.unanswered() == [], "what is in quarantine is shown as that"


def test_path_that_ends_only_the_child_that_watches_is_found_out_in_the_end(owner):
    """What a process on trial survives alone, the crowded one does not."""
    o = owner()
    o.watcher.start()
    o.watch(*names(6))
    o.wait_for(names(6), [])
    o.bad(f6="crowded")
    o.watch("f6")
    o.wait_for(names(6), ["f6"])


def test_quarantine_outlives_the_child(owner):
    o = owner()
    o.bad(f1="abort")
    o.watch(*names(4))
    o.watcher.start()
    o.wait_for(["f0", "f2", "f3"], ["f1"])
    for _ in range(3):
        before = o.watcher.status()["restarts"]
        os.kill(o.watcher.child.pid, 9)
        with gevent.Timeout(LIMIT):
            while o.watcher.status()["restarts"] == before or not o.watcher.child.running:
                gevent.sleep(0.01)
        o.wait_for(["f0", "f2", "f3"], ["f1"])
        assert o.watcher.status()["restarts"] == before + 1


@pytest.mark.long
def test_later_try_is_made_alone_and_lifts_the_quarantine_when_it_goes_well(owner, monkeypatch):
    monkeypatch.setattr(quarantine, "FIRST_WAIT", 0.2)
    monkeypatch.setattr(quarantine, "MOST_WAIT", 0.2)
    o = owner()
    o.bad(f1="abort", f2="abort")
    o.watch(*names(4))
    o.watcher.start()
    o.wait_for(["f0", "f3"], ["f1", "f2"])
    with gevent.Timeout(LIMIT):
        while o.watcher.status()["quarantine"][0]["tries"] < 3:
            gevent.sleep(0.01)
    assert o.watcher.status()["restarts"] == 1, "tries that fail do not harm the child that watches"
    o.events.clear()
    o.bad(f2="abort")
    o.wait_for(["f0", "f1", "f3"], ["f2"])
    assert [(event.path, event.kind) for event in o.events] == [("/f1", "create")], "it may have changed meanwhile"


def test_path_that_is_not_wanted_any_more_is_not_shown_and_tried_no_more(owner, monkeypatch):
    o = owner()
    o.bad(f1="abort")
    o.watch(*names(3))
    o.watcher.start()
    o.wait_for(["f0", "f2"], ["f1"])
    o.watcher.unwatch("/f1")
    o.wait_for(["f0", "f2"], [])
    assert "/f1" not in o.watcher.not_yet_watching


def test_path_that_is_wanted_anew_is_tried_alone_first(owner):
    o = owner()
    o.bad(f1="abort")
    o.watch(*names(3))
    o.watcher.start()
    o.wait_for(["f0", "f2"], ["f1"])
    o.watcher.unwatch("/f1")
    o.watch("f1")
    o.wait_for(["f0", "f2"], ["f1"])
    assert o.watcher.status()["restarts"] == 1
    o.bad()
    o.watcher.unwatch("/f1")
    o.watch("f1")
    o.wait_for(names(3), [])
    assert o.watcher.status()["restarts"] == 1


def test_child_that_is_killed_while_it_is_asked_puts_nothing_in_quarantine(owner):
    o = owner()
    o.watcher.start()
    assert o.watcher.wait_ready(LIMIT)
    for round_ in range(5):
        o.watch(*names(200, 200 * round_))
        pid = o.watcher.child.pid
        if pid is not None:
            os.kill(pid, 9)
        with gevent.Timeout(LIMIT):
            while not o.watcher.child.running:
                gevent.sleep(0.001)
    o.wait_for(names(1000), [])
    assert not [record for record in o.log.at(50) if "path" in record.fields]


def test_tool_that_ends_whatever_it_is_asked_for_puts_no_path_in_quarantine(owner):
    o = owner()
    (o.folder / "child").write_text((o.folder / "child").read_text().replace("how = bad().get(path)", 'how = "abort"'))
    o.watch(*names(20))
    o.watcher.start()
    with gevent.Timeout(LIMIT):
        while not [record for record in o.log.at(50) if "whatever it is asked for" in record.msg]:
            gevent.sleep(0.01)
    assert o.quarantined() == []


def test_nothing_of_a_trial_is_left_after_stop(owner):
    before = set(children_of(os.getpid()))
    o = owner()
    o.bad(f2="hang")
    o.watch(*names(8))
    o.watcher._answer_within = o.watcher._suspicion._trial._answer_within = 0.5
    o.watcher.start()
    started = o.folder / "child.starts"
    with gevent.Timeout(LIMIT):
        while not started.exists() or len(started.read_text()) < 2:  # the second one is on trial
            gevent.sleep(0.01)
    o.watcher.stop()
    assert not any(map(is_alive, set(children_of(os.getpid())) - before))


def test_paths_around_what_answers_again_are_tried_at_once_and_no_others(owner):
    o = owner()
    bad = {"a": "abort", "a/b": "abort", "a/b/c": "exit", "ab": "abort", "d/e": "abort"}
    o.bad(**bad)
    o.watch("f0", *bad)
    o.watcher.start()
    o.wait_for(["f0"], bad)
    o.bad(**{"a/b/c": "exit"})
    o.watcher.answers_again("/a/b")
    o.wait_for(["f0", "a", "a/b"], ["a/b/c", "ab", "d/e"])
    with gevent.Timeout(LIMIT):
        while not (entry := o.watcher.status()["quarantine"][0])["tries"] > 1:
            gevent.sleep(0.01)
    assert (entry["path"], entry["reason"]) == ("/a/b/c", "exit status 1"), "it was tried, and still ends the child"
    o.bad()
    o.watcher.answers_again("/a/b/c")
    o.wait_for(["f0", "a", "a/b", "a/b/c"], ["ab", "d/e"])
    assert o.watcher.status()["restarts"] == 1, "tries that fail do not harm the child that watches"


def test_hundreds_of_paths_of_a_pool_that_is_well_again_are_tried_together(owner):
    o = owner()
    bad = dict.fromkeys(names(40), "abort")
    o.bad(**bad)
    o.watch(*bad)
    o.watcher.start()
    o.wait_for([], bad)
    tried = len((o.folder / "child.starts").read_text())
    o.bad()
    o.watcher.answers_again("/")
    o.wait_for(bad, [])
    assert len((o.folder / "child.starts").read_text()) == tried + 1


@pytest.mark.pure
def test_what_is_hastened_while_it_is_tried_is_tried_once_more():
    one = Quarantine()
    for path in ("/a", "/b", "/c"):
        one.add(path, "it hangs", 1.0, now=0)
    one.hasten_around("/")
    assert one.take_due(1) == ["/a", "/b", "/c"]
    one.hasten("/b")
    for path in ("/a", "/b", "/c"):
        one.add(path, "it hangs", 1.0, now=1)
    assert one.take_due(2) == ["/b"]
    one.postpone("/b", now=2)
    assert one.take_due(3) == []


@pytest.mark.pure
def test_waits_between_tries_double_and_one_path_is_due_at_a_time(monkeypatch):
    monkeypatch.setattr(quarantine, "FIRST_WAIT", 5.0)
    monkeypatch.setattr("vminfod.backoff.JITTER", 0)
    one = Quarantine()
    second = 10**9
    one.add("/a", "it aborts", 1.0, now=0)
    one.add("/b", "it aborts", 1.0, now=second)
    assert "/a" in one
    assert "/c" not in one
    assert one.take_due(5 * second - 1) == []
    assert one.take_due(7 * second) == ["/a"]
    one.add("/a", "it aborts", 1.0, now=7 * second)
    assert one.take_due(7 * second) == ["/b"]
    one.lift("/b")
    assert one.take_due(17 * second - 1) == []
    assert one.take_due(17 * second) == ["/a"]
    assert one.shown("/a", 17 * second)["tries"] == 2
    for _ in range(10):
        one.add("/a", "it aborts", 1.0, now=0)
    assert one.take_due(int(quarantine.MOST_WAIT * second)) == ["/a"], "never more than this"
    one.hasten("/a")
    assert one.take_due(3) == ["/a"]
