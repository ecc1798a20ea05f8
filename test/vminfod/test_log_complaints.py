# SPDX-License-Identifier: MPL-2.0
"""A complaint that repeats is one record a minute, with a count; what differs in its subject is another complaint."""

import json
import os

import pytest

from vminfod import log
from vminfod.log import PAUSE, Complaints


class Written:
    def __init__(self):
        self.now = 0.0
        self.records = []
        self.complaints = Complaints(lambda *record: self.records.append(record), lambda: self.now)

    def add(self, msg="lost", **fields):
        self.complaints.add(log.ERROR, msg, fields)


@pytest.mark.pure
def test_repeats_are_counted_and_written_once_a_minute():
    written = Written()
    for _ in range(100):
        written.add(zonename="a", tries=written.now)
        written.now += 1.0
    written.complaints.flush()
    assert [fields.get("repeated") for _, _, fields in written.records] == [None, 59, 40]
    assert written.records[1][2]["tries"] == PAUSE - 1.0


@pytest.mark.pure
def test_another_zone_is_another_complaint_and_another_pid_is_not():
    written = Written()
    written.add(zonename="a")
    written.add(zonename="b")
    written.add("child lost", reason="process 17 ended")
    written.add("child lost", reason="process 18 ended")
    assert len(written.records) == 3


@pytest.mark.pure
def test_unknown_action_on_many_datasets_is_one_complaint():
    written = Written()
    for number in range(1000):
        written.add("unknown action", action="frobnicate", dataset=f"tank/x{number}")
    written.add("unknown action", action="defrobnicate", dataset="tank/x0")
    assert [fields["action"] for _, _, fields in written.records] == ["frobnicate", "defrobnicate"]


@pytest.mark.pure
def test_what_came_once_is_not_written_again():
    written = Written()
    written.add()
    written.now = PAUSE * 2
    written.complaints.flush(written.now)
    assert len(written.records) == 1


@pytest.fixture
def logged(tmp_path):
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    logger, handler = log.start("test", "info", fd)
    yield logger, lambda: [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    handler.pop_application()
    os.close(fd)


class Expected(Exception):
    code = "ETIMEDOUT"


def test_stack_is_for_what_was_not_expected(logged):
    logger, records = logged
    logger.error("one", err=Expected("zfs hangs"))
    logger.error("two", err=ValueError("a fault"))
    one, two = [record["err"] for record in records()]
    assert one == {"message": "zfs hangs", "name": "Expected", "code": "ETIMEDOUT"}
    assert "ValueError: a fault" in two["stack"]


def test_child_log_keeps_its_fields_through_repeats(logged):
    logger, records = logged
    child = logger.child(child="fswatcher")
    for _ in range(3):
        child.warn("odd")
    logger.close()
    assert [(r["child"], r.get("repeated")) for r in records()] == [("fswatcher", None), ("fswatcher", 2)]
