# SPDX-License-Identifier: MPL-2.0
"""What the daemon takes for granted about `fswatcher` (docs/platform.md, "File watcher"), asked of the mock node's one.

With FSWATCHER_CMD in the environment that program is asked instead."""

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.deadlines import SOON

OURS = Path(__file__).parents[2] / "mockcn" / "tools" / "fswatcher.py"
COMMAND = [os.environ["FSWATCHER_CMD"]] if "FSWATCHER_CMD" in os.environ else [sys.executable, str(OURS)]
LIMIT = SOON


class Fswatcher:
    """The running program: commands in, messages out, each of them with a deadline."""

    def __init__(self, *flags):
        self.process = subprocess.Popen(
            [*COMMAND, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._unread = b""
        self._last_key = 0

    def send(self, text):
        self.process.stdin.write(text.encode() if isinstance(text, str) else text)
        self.process.stdin.flush()

    def line(self):
        deadline = time.monotonic() + LIMIT
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            assert ready, "no line within the limit"
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, "fswatcher has ended"
            self._unread += more
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode()

    def message(self):
        """The next message without its time, which is checked."""
        message = json.loads(self.line())
        seconds, nanoseconds = message.pop("time")
        assert abs(seconds + nanoseconds / 1e9 - time.monotonic()) < LIMIT
        return message

    def command(self, words):
        self._last_key += 1
        self.send(f"{self._last_key} {words}\n")
        answer = self.message()
        assert answer["key"] == self._last_key
        return answer

    def watch(self, path):
        assert self.command(f"WATCH {path}")["result"] == "SUCCESS"

    def events(self):
        """All events before the answer to a STATUS that is sent now; what happened before it is then reported."""
        self._last_key += 1
        self.send(f"{self._last_key} STATUS\n")
        seen = []
        while True:
            message = self.message()
            if message.get("key") == self._last_key:
                return seen
            seen.append(message)

    def flags(self, path):
        """All flags of all events of `path` so far, and whether the last one was final."""
        events = [event for event in self.events() if event["pathname"] == str(path)]
        return set().union(*(event["changes"] for event in events)), bool(events) and events[-1]["final"]

    def watched(self):
        return sorted(self.command("STATUS")["data"]["files"])


@pytest.fixture
def start():
    started = []

    def run(*flags):
        started.append(Fswatcher(*flags))
        return started[-1]

    yield run
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.fixture
def fswatcher(start):
    running = start("-r", "-j")
    assert running.message() == {"type": "ready"}
    return running


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text("one")
    return path


# --- flags, commands, answers ---


def test_help_goes_to_stdout():
    done = subprocess.run([*COMMAND, "-h"], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT)
    assert done.returncode == 0
    assert b"usage" in done.stdout.lower()
    assert done.stderr == b""


def test_bad_flag_is_a_usage_error():
    done = subprocess.run([*COMMAND, "-x"], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT)
    assert done.returncode == 1
    assert b"usage" in done.stderr.lower()
    assert done.stdout == b""


def test_without_r_nothing_is_said_at_the_start(start):
    fswatcher = start("-j")
    fswatcher.send("1 STATUS\n")
    assert fswatcher.message()["type"] == "response"


def test_end_of_stdin_ends_it_with_a_line_on_stderr(fswatcher):
    out, err = fswatcher.process.communicate(timeout=LIMIT)
    assert fswatcher.process.returncode == 0
    assert out == b""
    assert err.count(b"\n") == 1


def test_members_of_messages_have_their_order_and_no_white_space(fswatcher, file):
    fswatcher.send(f"7 WATCH {file}\n")
    line = fswatcher.line()
    assert list(json.loads(line)) == ["type", "time", "key", "code", "pathname", "message", "result"]
    assert line.startswith('{"type":"response","time":[')
    assert f'],"key":7,"code":0,"pathname":"{file}","message":"port_associate(3c) started watching path",' in line
    fswatcher.send("8 STATUS\n")
    assert list(json.loads(fswatcher.line())) == ["type", "time", "key", "code", "result", "data"]
    file.write_text("two")
    assert list(json.loads(fswatcher.line())) == ["type", "time", "changes", "pathname", "revents", "final"]
    fswatcher.send("9 NONSENSE\n")
    line = fswatcher.line()
    while '"event"' in line:
        line = fswatcher.line()
    assert list(json.loads(line)) == ["type", "time", "key", "code", "message"]


def test_watch_of_a_watched_path_succeeds(fswatcher, file):
    fswatcher.watch(file)
    assert fswatcher.command(f"WATCH {file}") == {
        "type": "response",
        "key": 2,
        "code": 0,
        "pathname": str(file),
        "message": "already watching",
        "result": "SUCCESS",
    }
    assert fswatcher.watched() == [str(file)]


@pytest.mark.parametrize("name", ["missing", "a.xml/below-a-file", "loop"])
def test_watch_of_what_cannot_be_found_fails_and_is_not_watched(fswatcher, file, name):
    (file.parent / "loop").symlink_to("loop")
    answer = fswatcher.command(f"WATCH {file.parent / name}")
    assert (answer["code"], answer["result"], answer["pathname"]) == (1, "FAIL", str(file.parent / name))
    assert answer["message"].startswith("stat(2) failed with errno ")
    assert fswatcher.watched() == []


def test_unwatch_ends_the_reports(fswatcher, file):
    fswatcher.watch(file)
    answer = fswatcher.command(f"UNWATCH {file}")
    assert (answer["code"], answer["message"]) == (0, f"no longer watching '{file}'")
    file.write_text("two")
    file.unlink()
    assert fswatcher.events() == []
    assert fswatcher.watched() == []


def test_unwatch_of_an_unwatched_path_fails(fswatcher, file):
    answer = fswatcher.command(f"UNWATCH {file}")
    assert (answer["code"], answer["result"]) == (1, "FAIL")
    assert answer["message"] == f"not watching '{file}', cannot unwatch"


def test_status_lists_files_and_the_pid(fswatcher, file):
    fswatcher.watch(file)
    answer = fswatcher.command("STATUS")
    assert answer == {
        "type": "response",
        "key": 2,
        "code": 0,
        "result": "SUCCESS",
        "data": {"files": [str(file)], "files_count": 1, "pid": fswatcher.process.pid},
    }


@pytest.mark.parametrize(
    ("line", "code", "key"),
    [
        ("x WATCH /etc/passwd", 1, 0),
        ("", 1, 0),
        ("5", 1, 0),
        ("-1 STATUS", 1, 0),
        ("5 WATCH", 1, 0),
        ("5 UNWATCH", 1, 0),
        ("5 STATUS /etc/passwd", 1, 0),
        ("0 STATUS", 2, 0),
        ("000 STATUS", 2, 0),
        ("5 watch /etc/passwd", 3, 5),
        ("18446744073709551615 LIST", 3, 18446744073709551615),
        ("18446744073709551616 STATUS", 1, 0),
    ],
)
def test_command_that_makes_no_sense_gets_an_error_message(fswatcher, line, code, key):
    fswatcher.send(line + "\n")
    answer = fswatcher.message()
    assert (answer["type"], answer["code"], answer["key"]) == ("error", code, key)
    assert isinstance(answer["message"], str)


def test_leading_zeros_of_a_key_are_dropped(fswatcher):
    fswatcher.send("0042 STATUS\n")
    assert fswatcher.message()["key"] == 42


def test_path_ends_at_white_space(fswatcher, file):
    assert fswatcher.command(f"WATCH {file} and more")["pathname"] == str(file)
    assert fswatcher.command(f"UNWATCH \t{file}\tx")["pathname"] == str(file)


def test_command_that_is_too_long_goes_on_as_the_next_one(fswatcher, file):
    start = "1 WATCH " + str(file)
    fswatcher.send(start + " " * (1054 - len(start)) + "2 STATUS\n")
    assert fswatcher.message()["key"] == 1
    assert fswatcher.message()["key"] == 2


def test_commands_are_read_whole_byte_by_byte_and_many_at_once(fswatcher):
    for byte in b"1 STATUS\n":
        fswatcher.send(bytes([byte]))
    assert fswatcher.message()["key"] == 1
    fswatcher.send("".join(f"{key} STATUS\n" for key in range(2, 200)))
    assert [fswatcher.message()["key"] for _ in range(2, 200)] == list(range(2, 200))


def test_path_comes_back_as_it_was_given(fswatcher, file):
    odd = f"{file.parent}/../{file.parent.name}//a.xml"
    fswatcher.watch(odd)
    file.write_text("two")
    assert fswatcher.message()["pathname"] == odd


def test_path_with_quotes_and_non_ascii_is_valid_json(fswatcher, tmp_path):
    path = tmp_path / 'q"\\\x01ü'
    path.write_text("x")
    assert fswatcher.command(f"WATCH {path}")["pathname"] == str(path)


# --- events ---


def test_written_file_is_modified_and_stays_watched(fswatcher, file):
    fswatcher.watch(file)
    with file.open("a") as out:
        out.write("more")
    assert fswatcher.message() == {
        "type": "event",
        "changes": ["FILE_MODIFIED"],
        "pathname": str(file),
        "revents": 2,
        "final": False,
    }
    with file.open("a") as out:
        out.write("again")
    assert fswatcher.message()["changes"] == ["FILE_MODIFIED"]
    assert fswatcher.watched() == [str(file)]


def test_truncated_file_is_modified_and_truncated(fswatcher, file):
    fswatcher.watch(file)
    os.truncate(file, 0)
    event = fswatcher.message()
    assert event["changes"] == ["FILE_MODIFIED", "FILE_TRUNC"]
    assert event["revents"] == 0x100002
    assert event["final"] is False


def test_chmod_read_and_another_link_are_not_reported(fswatcher, file):
    fswatcher.watch(file)
    file.chmod(0o600)
    times = file.stat()
    os.utime(file, ns=(1, times.st_mtime_ns))
    file.read_text()
    os.link(file, file.parent / "b")
    (file.parent / "b").unlink()
    assert fswatcher.events() == []


def test_modification_time_that_is_set_is_a_modification(fswatcher, file):
    fswatcher.watch(file)
    os.utime(file, (1, 1))
    assert fswatcher.message() == {
        "type": "event",
        "changes": ["FILE_MODIFIED"],
        "pathname": str(file),
        "revents": 2,
        "final": False,
    }
    os.utime(file, (1, 1))
    assert fswatcher.events() == []


def test_time_set_on_an_empty_file_does_not_look_like_a_truncation(fswatcher, file):
    file.write_text("")
    fswatcher.watch(file)
    os.utime(file, (1, 1))
    assert fswatcher.flags(file) == ({"FILE_MODIFIED"}, False)


def test_time_set_on_the_file_that_took_the_name_is_reported(fswatcher, file):
    fswatcher.watch(file)
    other = file.parent / "new"
    other.write_text("two")
    other.rename(file)
    assert "FILE_RENAME_TO" in fswatcher.message()["changes"]
    os.utime(file, (1, 1))
    assert fswatcher.flags(file) == ({"FILE_MODIFIED"}, False)


def test_neighbours_in_the_folder_are_not_reported(fswatcher, file):
    fswatcher.watch(file)
    other = file.parent / "other.xml"
    other.write_text("x")
    other.rename(file.parent / "third.xml")
    (file.parent / "third.xml").unlink()
    assert fswatcher.events() == []


def test_deleted_file_is_final_and_forgotten(fswatcher, file):
    fswatcher.watch(file)
    file.unlink()
    assert fswatcher.message() == {
        "type": "event",
        "changes": ["FILE_DELETE", "FILE_EXCEPTION"],
        "pathname": str(file),
        "revents": 16,
        "final": True,
    }
    assert fswatcher.watched() == []
    file.write_text("new")
    assert fswatcher.events() == []


def test_file_that_is_deleted_while_somebody_has_it_open_is_final(fswatcher, file):
    fswatcher.watch(file)
    with file.open():
        file.unlink()
        assert fswatcher.flags(file) == ({"FILE_DELETE", "FILE_EXCEPTION"}, True)


def test_file_deleted_and_made_anew_at_once_is_final_all_the_same(fswatcher, file):
    for _ in range(20):
        fswatcher.watch(file)
        file.unlink()
        file.write_text("new")
        changes, final = fswatcher.flags(file)
        assert final
        assert "FILE_RENAME_TO" not in changes
        assert fswatcher.watched() == []


def test_file_renamed_away_is_final(fswatcher, file):
    fswatcher.watch(file)
    file.rename(file.parent / "elsewhere")
    assert fswatcher.message() == {
        "type": "event",
        "changes": ["FILE_EXCEPTION", "FILE_RENAME_FROM"],
        "pathname": str(file),
        "revents": 64,
        "final": True,
    }
    assert fswatcher.watched() == []


def test_file_onto_which_another_is_renamed_stays_watched(fswatcher, file):
    fswatcher.watch(file)
    for content in ("two", "three"):
        fresh = file.parent / ".tmp"
        fresh.write_text(content)
        fresh.rename(file)
        assert fswatcher.message() == {
            "type": "event",
            "changes": ["FILE_EXCEPTION", "FILE_RENAME_TO"],
            "pathname": str(file),
            "revents": 32,
            "final": False,
        }
    with file.open("a") as out:
        out.write("more")
    assert fswatcher.message()["changes"] == ["FILE_MODIFIED"]


def test_file_replaced_again_and_again_is_never_lost(fswatcher, file):
    fswatcher.watch(file)
    for number in range(200):
        fresh = file.parent / f".tmp{number}"
        fresh.write_text("x")
        fresh.rename(file)
    changes, final = fswatcher.flags(file)
    assert changes == {"FILE_EXCEPTION", "FILE_RENAME_TO"}
    assert not final
    with file.open("a") as out:
        out.write("more")
    assert fswatcher.message()["changes"] == ["FILE_MODIFIED"]


def test_every_write_is_followed_by_an_event(fswatcher, file):
    fswatcher.watch(file)
    for _ in range(50):
        with file.open("a") as out:
            out.write("x")
        assert [event["changes"] for event in fswatcher.events()] != []


def test_symbolic_link_is_followed(fswatcher, file):
    link = file.parent / "link"
    link.symlink_to(file)
    fswatcher.watch(link)
    with file.open("a") as out:
        out.write("x")
    assert fswatcher.message()["pathname"] == str(link)
    file.unlink()
    assert fswatcher.flags(link) == ({"FILE_DELETE", "FILE_EXCEPTION"}, True)


def test_two_paths_to_one_file_are_both_reported(fswatcher, file):
    link = file.parent / "link"
    link.symlink_to(file)
    fswatcher.watch(file)
    fswatcher.watch(link)
    with file.open("a") as out:
        out.write("x")
    assert {event["pathname"] for event in fswatcher.events()} == {str(file), str(link)}
    assert fswatcher.command(f"UNWATCH {file}")["code"] == 0
    with file.open("a") as out:
        out.write("x")
    assert {event["pathname"] for event in fswatcher.events()} == {str(link)}


def test_file_in_a_folder_that_is_removed_is_final(fswatcher, tmp_path):
    path = tmp_path / "config" / "tags.json"
    path.parent.mkdir()
    path.write_text("{}")
    fswatcher.watch(path)
    path.unlink()
    path.parent.rmdir()
    assert fswatcher.flags(path) == ({"FILE_DELETE", "FILE_EXCEPTION"}, True)
    path.parent.mkdir()
    path.write_text("{}")
    fswatcher.watch(path)
    path.write_text("{1}")
    assert "FILE_MODIFIED" in fswatcher.flags(path)[0]


def test_watch_after_a_final_event_is_not_hit_by_older_events(fswatcher, file):
    neighbour = file.parent / "b.xml"
    neighbour.write_text("keeps the folder watched")
    fswatcher.watch(neighbour)
    for _ in range(50):
        file.unlink()
        file.write_text("new")
        fswatcher.watch(file)
        assert fswatcher.events() == []
        assert fswatcher.command(f"UNWATCH {file}")["code"] == 0


def test_thousands_of_files_are_watched(fswatcher, tmp_path):
    paths = []
    for zone in range(600):
        folder = tmp_path / f"z{zone}"
        folder.mkdir()
        for name in ("metadata.json", "routes.json", "tags.json"):
            (folder / name).write_text("{}")
            paths.append(folder / name)
    answers = []
    for first in range(0, len(paths), 100):  # not all at once: both pipes would fill up, and nobody would read
        fswatcher.send("".join(f"{first + n + 1} WATCH {path}\n" for n, path in enumerate(paths[first : first + 100])))
        answers += [fswatcher.message() for _ in paths[first : first + 100]]
    assert [answer["key"] for answer in answers] == list(range(1, len(paths) + 1))
    assert {answer["result"] for answer in answers} == {"SUCCESS"}
    paths[777].write_text('{"a":1}')
    assert fswatcher.message()["pathname"] == str(paths[777])
