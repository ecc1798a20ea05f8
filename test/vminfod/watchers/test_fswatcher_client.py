# SPDX-License-Identifier: MPL-2.0
"""The client of the file watcher: with the mock node's fswatcher on real files, and with children that misbehave."""

import os
import signal
import sys
from pathlib import Path

import gevent
import pytest

from support.child_script import child_script
from support.deadlines import SOON
from support.recording_log import RecordingLog
from support.said import said
from vminfod.watchers.filemessages import Answer, ChildError, FileChange, Ready, parse_message, unwatchable
from vminfod.watchers.fswatcher import FsWatcher
from vminfod.watchers.lines import BadLine
from vminfod.watchers.missing import FOLDERS_EVERY, RETRIES, RETRY_EVERY, SWEEP_EVERY, Missing

LIMIT = SOON
OURS = Path(__file__).parents[3] / "mockcn" / "tools" / "fswatcher.py"

RUN_OURS = f"os.execv({sys.executable!r}, [{sys.executable!r}, {str(OURS)!r}, *sys.argv[1:]])"

# A child under the test's control: the body gets key, word, path of each command.
PARROT = """
def answer(key, code):
    say('{{"type":"response","time":%s,"key":%s,"code":%d,"pathname":"x","message":"m","result":"?"}}'
        % (now(), key, code))
def event(path, changes, final):
    say('{{"type":"event","time":%s,"changes":%s,"pathname":"%s","revents":0,"final":%s}}'
        % (now(), str(changes).replace("'", '"'), path, str(final).lower()))
def now(): return list(divmod(time.monotonic_ns(), 10**9))
n = times_started()
commands = 0
say('{{"type":"ready","time":%s}}' % now())
for line in sys.stdin:
    key, word, path = line.split()
    commands += 1
    with open(__file__ + ".commands", "a") as file: file.write(word + " " + path + "\\n")
{body}
"""


class Owner:
    def __init__(self, program, **options):
        self.log = RecordingLog()
        self.events, self.missed = [], []
        self.watcher = FsWatcher(
            program, log=self.log, on_event=self.events.append, on_missed=self.missed.append, **options
        )
        self.watcher.child._backoff._next = self.watcher.child._backoff._first = 0.01
        self.watcher.start()

    def kinds(self, path):
        return [event.kind for event in self.events if event.path == str(path)]


@pytest.fixture
def owner(tmp_path):
    made = []

    def make(program=None, **options):
        program = program or child_script(tmp_path, RUN_OURS, "fswatcher")
        made.append(Owner(program, **options))
        assert made[-1].watcher.wait_ready(LIMIT)
        return made[-1]

    yield make
    for one in made:
        one.watcher.stop()


@pytest.fixture
def parrot(owner, tmp_path):
    def make(body, **options):
        indented = "\n".join("    " + line for line in body.strip().splitlines())
        o = owner(child_script(tmp_path, PARROT.format(body=indented), "parrot"), **options)
        o.commands = lambda: (
            (tmp_path / "parrot.commands").read_text().splitlines() if (tmp_path / "parrot.commands").exists() else []
        )
        return o

    return make


def wait_until(condition):
    with gevent.Timeout(LIMIT):
        while not condition():
            gevent.sleep(0.005)


# --- with the real program ---


def test_change_of_a_watched_file_is_reported_with_its_flags(owner, tmp_path):
    o, file = owner(), tmp_path / "a.xml"
    file.write_text("one")
    o.watcher.watch(str(file))
    assert o.watcher.wait_answered(LIMIT)
    assert o.watcher.watching == [str(file)]
    with file.open("a") as out:
        out.write("two")
    wait_until(lambda: o.events)
    assert (o.events[0].path, o.events[0].kind, o.events[0].flags) == (str(file), "change", ("FILE_MODIFIED",))


def test_file_replaced_by_rename_is_a_change(owner, tmp_path):
    o, file = owner(), tmp_path / "a.xml"
    file.write_text("one")
    o.watcher.watch(str(file))
    assert o.watcher.wait_answered(LIMIT)
    (tmp_path / "new").write_text("two")
    (tmp_path / "new").rename(file)
    wait_until(lambda: o.events)
    assert (o.events[0].kind, o.events[0].flags) == ("change", ("FILE_EXCEPTION", "FILE_RENAME_TO"))


def test_missing_file_is_not_watched_until_it_appears_and_then_reported_as_created(owner, tmp_path):
    o, file = owner(), tmp_path / "later.json"
    o.watcher.watch(str(file))
    assert o.watcher.wait_answered(LIMIT)
    assert (o.watcher.watching, o.watcher.not_yet_watching) == ([], [str(file)])
    file.write_text("{}")
    wait_until(lambda: o.events)
    assert [(event.kind, event.flags) for event in o.events] == [("create", ())]
    assert (o.watcher.watching, o.watcher.not_yet_watching) == ([str(file)], [])


def test_file_that_is_there_at_once_is_not_reported_as_created(owner, tmp_path):
    o, file = owner(), tmp_path / "a.xml"
    file.write_text("one")
    o.watcher.watch(str(file))
    assert o.watcher.wait_answered(LIMIT)
    assert o.events == []


def test_deleted_file_is_watched_again_at_once_and_reported_when_it_is_back(owner, tmp_path):
    o, file = owner(), tmp_path / "a.xml"
    file.write_text("one")
    o.watcher.watch(str(file))
    assert o.watcher.wait_answered(LIMIT)
    for _ in range(3):
        o.events.clear()
        file.unlink()
        wait_until(lambda: o.events)
        assert o.kinds(file) == ["delete"]
        file.write_text("back")
        wait_until(lambda: "create" in o.kinds(file))
        assert o.watcher.watching == [str(file)]


def test_unwatched_file_is_reported_no_more(owner, tmp_path):
    o, file, other = owner(), tmp_path / "a.xml", tmp_path / "b.xml"
    for path in (file, other):
        path.write_text("one")
        o.watcher.watch(str(path))
    o.watcher.unwatch(str(file))
    assert o.watcher.wait_answered(LIMIT)
    file.unlink()
    other.unlink()
    wait_until(lambda: o.events)
    assert o.kinds(file) == []
    assert o.watcher.not_yet_watching == [str(other)]


@pytest.mark.parametrize("requests", ["W", "WW", "WUW", "WUWUW", "U", "WU", "WUU", "WUWU"])
def test_last_request_wins(owner, tmp_path, requests):
    o, file = owner(), tmp_path / "a.xml"
    file.write_text("one")
    for request in requests:
        (o.watcher.watch if request == "W" else o.watcher.unwatch)(str(file))
    assert o.watcher.wait_answered(LIMIT)
    wanted = [str(file)] if requests[-1] == "W" else []
    assert o.watcher.watching == wanted
    assert o.watcher.not_yet_watching == []
    file.write_text("two")
    o.watcher.watch(str(tmp_path))  # its answer comes after what the write caused
    assert o.watcher.wait_answered(LIMIT)
    assert bool(o.kinds(file)) is bool(wanted)


def test_watches_asked_for_before_the_child_is_ready_are_set_when_it_is(tmp_path):
    program = child_script(tmp_path, RUN_OURS, "fswatcher")
    o = Owner(program)
    try:
        o.watcher.watch(str(tmp_path))
        assert o.watcher.not_yet_watching == [str(tmp_path)]
        assert o.watcher.wait_answered(0) is False
        wait_until(lambda: o.watcher.watching == [str(tmp_path)])
    finally:
        o.watcher.stop()


def test_thousands_of_files_are_watched_without_waiting_for_each_answer(owner, tmp_path):
    o = owner()
    paths = []
    for number in range(2000):
        path = tmp_path / f"{number}.json"
        path.write_text("{}")
        paths.append(str(path))
        o.watcher.watch(paths[-1])
    assert o.watcher.wait_answered(LIMIT)
    assert o.watcher.watching == sorted(paths)


def test_killed_child_is_replaced_all_is_watched_again_and_the_owner_hears_of_it_after_that(owner, tmp_path):
    o, file, missing = owner(), tmp_path / "a.xml", tmp_path / "missing"
    file.write_text("one")
    watched_when_reported = []
    o.watcher._on_missed = lambda reason: watched_when_reported.append((reason, list(o.watcher.watching)))
    o.watcher.watch(str(file))
    o.watcher.watch(str(missing))
    assert o.watcher.wait_answered(LIMIT)
    os.kill(o.watcher.child.pid, signal.SIGKILL)
    wait_until(lambda: watched_when_reported)
    assert watched_when_reported == [("fswatcher: started again", [str(file)])]
    assert o.watcher.not_yet_watching == [str(missing)]
    with file.open("a") as out:
        out.write("two")
    wait_until(lambda: o.kinds(file))
    assert o.kinds(file) == ["change"]


def test_nothing_counts_as_watched_while_there_is_no_child(owner, tmp_path):
    o, file = owner(), tmp_path / "a.xml"
    file.write_text("one")
    o.watcher.watch(str(file))
    assert o.watcher.wait_answered(LIMIT)
    o.watcher.stop()
    assert (o.watcher.watching, o.watcher.not_yet_watching) == ([], [str(file)])


# --- with children that misbehave ---


def test_path_that_the_child_would_misread_is_refused_alone(parrot, tmp_path):
    o = parrot("answer(key, 0)")
    for bad in ("/a b", "/a\tb", "/a\nb", "/a\0b", "/a\x0bb", " /a", "relative", "", "/" + "x" * 256, "/x" * 600):
        o.watcher.watch(bad)
        o.watcher.watch(bad)
    o.watcher.watch("/good")
    assert o.watcher.wait_answered(LIMIT)
    assert o.commands() == ["WATCH /good"]
    assert "/a b" in o.watcher.not_yet_watching
    assert len(o.log.at(50)) == 10
    o.watcher.unwatch("/a b")
    assert "/a b" not in o.watcher.not_yet_watching


def test_watch_and_unwatch_again_and_again_send_one_command_each(parrot):
    o = parrot("answer(key, 0)")
    for _ in range(3):
        o.watcher.watch("/a")
    for _ in range(3):
        o.watcher.unwatch("/a")
    o.watcher.unwatch("/never")
    assert o.watcher.wait_answered(LIMIT)
    assert o.commands() == ["WATCH /a", "UNWATCH /a"]


def test_unwatch_of_a_missing_path_sends_nothing(parrot):
    o = parrot("answer(key, 1)")
    o.watcher.watch("/a")
    assert o.watcher.wait_answered(LIMIT)
    o.watcher.unwatch("/a")
    o.watcher.watch("/b")
    assert o.watcher.wait_answered(LIMIT)
    assert o.commands()[:2] == ["WATCH /a", "WATCH /b"]


def test_missing_path_that_is_unwatched_is_tried_no_more_and_the_others_are(parrot):
    """L4: those of VMs that are gone were tried for ever."""
    o = parrot("answer(key, 1)")
    o.watcher.watch("/a")
    o.watcher.watch("/b")
    assert o.watcher.wait_answered(LIMIT)
    o.watcher.unwatch("/a")
    tries = o.commands().count("WATCH /a")
    wait_until(lambda: o.commands().count("WATCH /b") >= tries + 4)
    assert o.commands().count("WATCH /a") <= tries + 1, "one can have been on its way"


def test_answers_in_any_order_are_matched_by_their_key(parrot):
    o = parrot("""
waiting = globals().setdefault("waiting", [])
waiting.append((key, path))
if len(waiting) == 3:
    for key, path in reversed(waiting): answer(key, 1 if path == "/b" else 0)
""")
    for path in ("/a", "/b", "/c"):
        o.watcher.watch(path)
    assert o.watcher.wait_answered(LIMIT)
    assert (o.watcher.watching, o.watcher.not_yet_watching) == (["/a", "/c"], ["/b"])


def test_answer_is_judged_by_its_code_and_not_by_its_words(parrot):
    """The text of an errno can be that of another call (OS-8020)."""
    o = parrot("""
code, words = (0, "stat(2) failed with errno 2: No such file") if path == "/a" else (1, "started watching path")
say('{"type":"response","time":%s,"key":%s,"code":%d,"pathname":"x","message":"%s","result":"%s"}'
    % (now(), key, code, words, "FAIL" if path == "/a" else "SUCCESS"))""")
    for path in ("/a", "/b"):
        o.watcher.watch(path)
    assert o.watcher.wait_answered(LIMIT)
    assert (o.watcher.watching, o.watcher.not_yet_watching) == (["/a"], ["/b"])


def test_child_that_says_nothing_for_long_is_asked_for_something(parrot, monkeypatch):
    monkeypatch.setattr("vminfod.watchers.fswatcher.SILENT", 0.3)
    o = parrot("answer(key, 0)")
    o.watcher.watch("/a")
    wait_until(lambda: len(o.commands()) >= 3)
    assert set(o.commands()) == {"WATCH /a"}
    assert o.events == []
    assert o.watcher.watching == ["/a"]


def test_events_of_a_path_whose_unwatch_is_under_way_are_dropped(parrot):
    o = parrot("""
if word == "UNWATCH": event(path, ["FILE_MODIFIED"], False)
answer(key, 0)""")
    o.watcher.watch("/a")
    o.watcher.unwatch("/a")
    assert o.watcher.wait_answered(LIMIT)
    assert o.events == []


def test_final_event_without_deletion_is_a_deletion_with_a_warning(parrot):
    o = parrot("""
answer(key, 0)
if commands == 1: event(path, ["FILE_EXCEPTION", "FILE_RENAME_FROM"], True)""")
    o.watcher.watch("/a")
    wait_until(lambda: len(o.events) == 2)
    assert o.kinds("/a") == ["delete", "create"]
    assert "watch ended without a deletion" in [record.msg for record in o.log.at(40)]
    assert o.commands() == ["WATCH /a", "WATCH /a"]


def test_identical_events_in_one_moment_are_all_reported(parrot):
    o = parrot("""
answer(key, 0)
for _ in range(5): event(path, ["FILE_MODIFIED"], False)""")
    o.watcher.watch("/a")
    wait_until(lambda: len(o.events) == 5)


def test_file_that_could_not_be_watched_again_after_an_event_is_watched_again(parrot):
    o = parrot("""
answer(key, 0)
if commands == 1:
    event(path, ["FILE_MODIFIED"], False)
    say('{"type":"error","time":%s,"key":0,"code":4,"message":"cannot associate"}' % now())""")
    o.watcher.watch("/a")
    wait_until(lambda: o.kinds("/a") == ["change", "create"])
    assert o.commands() == ["WATCH /a", "WATCH /a"]
    assert o.watcher.watching == ["/a"]


@pytest.mark.parametrize(
    "line", ["garbage", "{}", '{"type":"other","time":[1,2]}', '{"type":"event","time":[1,2],"pathname":"/unknown"}']
)
def test_line_that_makes_no_sense_is_skipped_and_the_owner_hears_of_it(parrot, line):
    o = parrot(f"say({line!r}); answer(key, 0)")
    o.watcher.watch("/a")
    assert o.watcher.wait_answered(LIMIT)
    assert len(o.missed) == 1
    assert o.watcher.status()["skippedLines"] == 1


def test_event_for_an_unknown_path_and_answer_to_no_command_do_no_harm(parrot):
    o = parrot('event("/unknown", ["FILE_MODIFIED"], False); answer(4711, 0); answer(key, 0)')
    o.watcher.watch("/a")
    assert o.watcher.wait_answered(LIMIT)
    assert o.events == []
    assert o.watcher.watching == ["/a"]


def test_error_message_for_a_command_counts_as_its_failure(parrot):
    o = parrot('say(\'{"type":"error","time":%s,"key":%s,"code":3,"message":"unknown command"}\' % (now(), key))')
    o.watcher.watch("/a")
    assert o.watcher.wait_answered(LIMIT)
    assert o.watcher.not_yet_watching == ["/a"]


def test_child_that_does_not_answer_is_replaced(parrot):
    o = parrot("if n > 1: answer(key, 0)", answer_within=2)
    o.watcher.watch("/a")
    wait_until(lambda: o.watcher.watching == ["/a"])
    wait_until(lambda: o.missed)
    assert o.watcher.status()["restarts"] == 1
    assert o.watcher.status()["lastError"].startswith("WATCH /a: timeout exceeded")
    [record] = [record for record in o.log.at(50) if record.fields.get("code")]
    assert record.fields["code"] == "ETIMEOUT"


def test_what_is_not_answered_is_counted_until_it_is(parrot):
    o = parrot(
        'answer(key, 1 if path == "/missing" else 0) if path != "/late" or os.path.exists(__file__ + ".go") else 0'
    )
    for path in ("/late", "/a", "/missing", "/not/wanted"):
        o.watcher.watch(path)
    o.watcher.unwatch("/not/wanted")
    wait_until(lambda: o.watcher.watching == ["/a"])
    wait_until(lambda: [path for path, _ in o.watcher.unanswered()] == ["/late"])
    Path(o.watcher.child._argv[0] + ".go").touch()
    o.watcher.unwatch("/late")
    o.watcher.watch("/late")
    wait_until(lambda: o.watcher.watching == ["/a", "/late"])
    assert o.watcher.unanswered() == []


def test_keys_start_again_at_one_after_the_last(parrot):
    o = parrot("""
with open(__file__ + ".keys", "a") as file: file.write(key + "\\n")
answer(key, 0)""")
    o.watcher._next_key = 2**32 - 1
    o.watcher.watch("/a")
    o.watcher.watch("/b")
    assert o.watcher.wait_answered(LIMIT)
    keys = Path(o.watcher.child._argv[0] + ".keys").read_text().split()
    assert keys == ["4294967295", "1"]


def test_dump_has_what_status_shows(parrot):
    o = parrot('answer(key, 0) if path == "/a" else None')
    o.watcher.watch("/b")
    o.watcher.watch("/a")
    wait_until(lambda: o.watcher.watching == ["/a"])
    dump = o.watcher.dump()
    assert dump["watching"] == ["/a"]
    assert dump["not_yet_watching"] == ["/b"]
    assert dump["watcher_pid"] == o.watcher.child.pid
    assert dump["running"] is True
    [(key, action)] = dump["pending_actions"].items()
    assert key == "1"
    assert action["cmd"] == "1 WATCH /b"
    assert [type(part) for part in action["started"]] == [int, int]
    assert list(dump["message_delays"]) == ["1"]


def test_program_can_be_named_in_the_environment(monkeypatch, tmp_path):
    program = child_script(
        tmp_path,
        """
assert sys.argv[1:] == ["-r", "-j"]
say('{"type":"ready","time":[1,2]}'); time.sleep(60)""",
    )
    monkeypatch.setenv("FSWATCHER_CMD", program)
    o = Owner("/nowhere/fswatcher")
    try:
        assert o.watcher.wait_ready(LIMIT)
    finally:
        o.watcher.stop()


# --- the parts ---


@pytest.mark.pure
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"type":"ready","time":[98200,417733011]}', Ready(98200417733011)),
        (
            b'{"type":"response","time":[1,2],"key":1,"code":0,"pathname":"/a","message":"m","result":"SUCCESS"}',
            Answer(1000000002, 1, True),
        ),
        (
            b'{"type":"response","time":[1,2],"key":2,"code":1,"pathname":"/a","message":"m","result":"FAIL"}',
            Answer(1000000002, 2, False),
        ),
        (
            b'{"type":"event","time":[1,2],"changes":["FILE_MODIFIED"],"pathname":"/a","revents":2,"final":false}',
            FileChange(1000000002, "/a", ("FILE_MODIFIED",), False),
        ),
        (
            b'{"type":"error","time":[1,2],"key":0,"code":1,"message":"invalid command line"}',
            ChildError(1000000002, 0, 1, "invalid command line"),
        ),
    ],
)
def test_each_message_is_read(line, message):
    assert parse_message(said(line)) == message


@pytest.mark.pure
@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"x",
        b"[]",
        b"null",
        b'{"type":"ready"}',
        b'{"type":"ready","time":[1]}',
        b'{"type":"ready","time":[1,"2"]}',
        b'{"type":"ready","time":[1,true]}',
        b'{"type":"response","time":[1,2],"key":"1","code":0}',
        b'{"type":"response","time":[1,2],"key":1}',
        b'{"type":"event","time":[1,2],"changes":[],"final":false}',
        b'{"type":"event","time":[1,2],"changes":"x","pathname":"/a","final":false}',
        b'{"type":"event","time":[1,2],"changes":[],"pathname":"/a","final":0}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_line_that_is_no_message_is_bad(bad):
    with pytest.raises(BadLine):
        parse_message(said(bad))


@pytest.mark.pure
@pytest.mark.parametrize(
    ("changes", "final", "kind", "forced"),
    [
        ([], False, "event", False),
        (["FILE_ATTRIB"], False, "event", False),
        (["MOUNTEDOVER"], False, "event", False),
        (["FILE_MODIFIED"], False, "change", False),
        (["FILE_TRUNC", "FILE_ATTRIB"], False, "change", False),
        (["FILE_EXCEPTION", "FILE_RENAME_TO"], False, "change", False),
        (["FILE_DELETE", "FILE_EXCEPTION"], True, "delete", False),
        (["FILE_MODIFIED", "UNMOUNTED"], False, "delete", False),
        (["FILE_MODIFIED"], True, "delete", True),
        (["FILE_EXCEPTION", "FILE_RENAME_FROM"], True, "delete", True),
    ],
)
def test_kind_of_a_change(changes, final, kind, forced):
    change = FileChange(0, "/a", tuple(changes), final)
    assert (change.kind, change.kind_was_forced) == (kind, forced)


@pytest.mark.pure
@pytest.mark.parametrize("path", ["/a", "/zones/" + "x" * 255, "/ü", "/a" * 511, "/a\udcff"])
def test_ordinary_paths_can_be_watched(path):
    assert unwatchable(path) is None


@pytest.mark.pure
def test_missing_path_is_tried_often_at_first_and_then_with_each_sweep():
    missing = Missing(now=0)
    now = 0
    for tries in range(1, RETRIES):
        missing.add("/a", tries, now)
        assert missing.due(now + RETRY_EVERY - 1) == []
        now += RETRY_EVERY
        assert missing.due(now) == ["/a"]
        assert missing.due(now) == []
    missing.add("/a", RETRIES, now)
    missing.add("/b", RETRIES + 5, now)
    assert missing.due(SWEEP_EVERY - 1) == []
    assert missing.due(SWEEP_EVERY) == ["/a", "/b"]
    missing.add("/b", RETRIES, SWEEP_EVERY)
    missing.discard("/b")
    assert missing.due(3 * SWEEP_EVERY) == []


def test_missing_path_whose_folder_is_watched_is_tried_when_that_reports_something():
    missing = Missing(now=0)
    missing.add_in("/f", "/f/a")
    missing.add_in("/f", "/f/b")
    missing.add_in("/g", "/g/c")
    assert missing.due(10 * SWEEP_EVERY) == []
    missing.discard("/f/b")
    assert missing.due_in("/f") == ["/f/a"]
    assert missing.due_in("/f") == []
    assert missing.due(FOLDERS_EVERY) == ["/g/c"], "now and then all the same"


def test_missing_file_of_a_watched_folder_costs_no_tries_and_is_reported_when_it_appears(owner, tmp_path):
    folder, late = tmp_path / "config", tmp_path / "config" / "late.json"
    folder.mkdir()
    o = owner()
    for path in (folder, late):
        o.watcher.watch(str(path))
    assert o.watcher.wait_answered(LIMIT)
    assert o.watcher._missing.waits_in(str(folder), str(late))
    late.write_text("{}")
    wait_until(lambda: o.kinds(late) == ["create"])


def test_missing_file_whose_folder_is_missing_too_is_reported_when_both_appear(owner, tmp_path):
    folder, late = tmp_path / "config", tmp_path / "config" / "late.json"
    o = owner()
    for path in (tmp_path, folder, late):
        o.watcher.watch(str(path))
    assert o.watcher.wait_answered(LIMIT)
    folder.mkdir()
    wait_until(lambda: o.kinds(folder))
    late.write_text("{}")
    wait_until(lambda: o.kinds(late))


def test_missing_file_is_reported_though_its_folder_is_watched_no_more(owner, tmp_path):
    folder, late = tmp_path / "config", tmp_path / "config" / "late.json"
    folder.mkdir()
    o = owner()
    for path in (folder, late):
        o.watcher.watch(str(path))
    assert o.watcher.wait_answered(LIMIT)
    o.watcher.unwatch(str(folder))
    late.write_text("{}")
    wait_until(lambda: o.kinds(late) == ["create"])
