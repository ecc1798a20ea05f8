# SPDX-License-Identifier: MPL-2.0
"""Each guarantee of the simulation holds on a record in which all is well, and complains of one that is broken."""

import copy
import json

import pytest

from simulation.guarantees import GUARANTEES, judge
from simulation.recording import Chain, Choice, Promise, Read, Round, Sample, Segment

pytestmark = pytest.mark.pure

EPOCH = "e1"


def vm(name, alias):
    of_writer = {"package_version": alias, "zfs_filesystem": f"zones/{name}"}
    return {"zonename": name, "uuid": name, "alias": alias, "state": "running", **of_writer}


def event(kind, rev, name, **more):
    return {"type": kind, "zonename": name, "uuid": name, "epoch": EPOCH, "rev": rev, **more}


def modify(rev, name, old, new):
    changes = [{"prettyPath": "alias", "path": ["alias"], "action": "changed", "oldValue": old, "newValue": new}]
    return event("modify", rev, name, vm=vm(name, new), changes=changes)


def events():
    """From revision 1, at which A and B are there, to 5."""
    return [
        (2.0, modify(2, "A", "a1", "a2")),
        (3.0, event("create", 3, "C", vm=vm("C", "c1"))),
        (4.0, event("delete", 4, "B", last=vm("B", "b1"))),
        (5.0, modify(5, "C", "c1", "c2")),
    ]


def start():
    return {"A": vm("A", "a1"), "B": vm("B", "b1")}


def read(at, rev, body, **more):
    return Read(at, at + 0.1, "/vms", 200, EPOCH, rev, body, **more)


def good():
    """A round in which all is well: one listener stays, one is cut after revision 3 and resumes, one chose."""
    whole = Segment(None, 200, EPOCH, 1, 1, start(), events=events())
    cut = Segment(None, 200, EPOCH, 1, 1, start(), events=events()[:2], ended="we")
    middle = {"A": vm("A", "a2"), "B": vm("B", "b1"), "C": vm("C", "c1")}
    resumed = Segment((EPOCH, 3), 200, EPOCH, 3, 4, middle, events=events()[2:])
    heartbeat = (5.5, {"type": "heartbeat", "epoch": EPOCH, "rev": 5})
    chosen = Segment(None, 200, EPOCH, 1, 1, None, events=[*events()[2:3], heartbeat])
    return Round(
        chains={
            "whole": Chain(Choice(), [whole]),
            "resuming": Chain(Choice(), [cut, resumed]),
            "choosing": Chain(Choice(types=frozenset(["delete"])), [chosen]),
        },
        reads=[
            read(1.0, 1, list(start().values())),
            read(3.1, 3, list(middle.values())),
            read(6.0, 5, [vm("A", "a2"), vm("C", "c2")]),
        ],
        promises=[Promise("a write", "A", {"alias": "a2"}, (read(6.0, 5, [vm("A", "a2")]),))],
        samples=[sample()],
        gone={"B": 3.5},
        lasting=frozenset("AB"),
        meant={"A": {("a1", None): float("-inf"), ("a2", None): 1.9}},
        final=(EPOCH, 5),
    )


def sample(**more):
    usual = dict.fromkeys(["rss", "descriptors", "threads", "greenlets", "children", "ring_events", "ring_bytes"], 10)
    usual |= dict.fromkeys(["waiting_bytes", "backlog_bytes", "queued"], 0)
    return Sample(**{**usual, "calm": True, "allowed_bytes": 1000, "listeners": 3, "rev": 5, **more})


def stream(record, name="whole"):
    return record.chains[name].segments[-1].events


def swap(record):
    found = stream(record)
    found[1:3] = [found[2], found[1]]


def go_back(record):
    record.reads[2] = read(6.0, 4, record.reads[2].body)


def repeat(record):
    found = stream(record)
    found.insert(2, found[1])


def resend(record):
    stream(record, "resuming").insert(0, events()[1])


def change_nothing(record):
    stream(record).append((5.2, modify(6, "C", "c2", "c2")))


def tell_two_stories(record):
    stream(record)[0] = (2.0, modify(2, "A", "a1", "a3"))


def leave_out(record):
    del stream(record)[1]


def stop_early(record):
    del stream(record)[-1]


def leave_out_what_was_chosen(record):
    del stream(record, "choosing")[0]


def send_what_was_not_chosen(record):
    stream(record, "choosing").insert(0, events()[1])


def resume_late(record):
    del stream(record, "resuming")[0]


def refuse(record):
    body = {"epoch": EPOCH, "rev": 5, "oldestRev": 2}
    record.chains["resuming"].segments[1] = Segment((EPOCH, 3), 410, refusal=body, ended="daemon")


def resume_over_a_restart(record):
    record.chains["resuming"].segments[1].since = ("e0", 3)


def show_something_else(record):
    record.reads[1].body[0]["alias"] = "a9"


def show_another_order(record):
    record.reads[1].body.reverse()


def show_two_things(record):
    record.reads.append(read(6.5, 5, [vm("A", "a2"), vm("C", "c9")]))


def lie_about_the_past(record):
    stream(record)[0][1]["changes"][0]["oldValue"] = "a0"


def delete_another(record):
    stream(record)[2][1]["last"]["alias"] = "b0"


def differ(record):
    record.differences = ["A: alias is 'a2', not 'a3'"]


def break_a_promise(record):
    record.promises = [Promise("a write", "A", {"alias": "a3"}, record.promises[0].reads)]


def show_what_was_deleted(record):
    record.promises = [Promise("a delete", "A", None, record.promises[0].reads)]


def show_what_nobody_meant(record):
    record.reads[2].body[0]["zfs_snapshot_limit"] = 7


def show_too_early(record):
    record.meant["A"]["a2", None] = 2.5


def delete_falsely(record):
    record.gone = {}


def mirror_deletes(record):
    record.mirrored.append((3.0, event("delete", 4, "A")))


def list_without(record):
    record.reads[1] = read(3.1, 3, record.reads[1].body[1:])


def begin_without(record):
    del record.chains["whole"].segments[0].start["A"]


BREAKS = [
    ("Ordered", swap),
    ("Ordered", go_back),
    ("Unique", repeat),
    ("Unique", resend),
    ("Unique", change_nothing),
    ("Unique", tell_two_stories),
    ("Complete", leave_out),
    ("Complete", stop_early),
    ("Complete", leave_out_what_was_chosen),
    ("Complete", send_what_was_not_chosen),
    ("Resumable", resume_late),
    ("Resumable", refuse),
    ("Resumable", resume_over_a_restart),
    ("Replay", show_something_else),
    ("Replay", show_another_order),
    ("Replay", show_two_things),
    ("Replay", lie_about_the_past),
    ("Replay", delete_another),
    ("Convergence", differ),
    ("Read-after-write", break_a_promise),
    ("Read-after-write", show_what_was_deleted),
    ("Isolated", show_what_nobody_meant),
    ("Isolated", show_too_early),
    ("No-false-delete", delete_falsely),
    ("No-false-delete", mirror_deletes),
    ("No-false-delete", list_without),
    ("No-false-delete", begin_without),
    ("Bounded", lambda record: record.samples.append(sample(ring_events=10_001))),
    ("Bounded", lambda record: record.samples.append(sample(backlog_bytes=1001))),
    ("Bounded", lambda record: record.samples.append(sample(threads=500))),
    ("Bounded", lambda record: record.samples.append(sample(descriptors=81))),
    ("Alive", lambda record: record.trouble.append("no answer")),
]


def test_all_hold_when_all_is_well():
    assert judge(good()) == {}


@pytest.mark.parametrize("name, break_it", BREAKS, ids=[f"{name}-{how.__name__}" for name, how in BREAKS])
def test_a_guarantee_complains_of_what_breaks_it(name, break_it):
    record = copy.deepcopy(good())
    break_it(record)
    assert name in judge(record)


def test_every_guarantee_is_broken_by_something():
    assert {name for name, _ in BREAKS} == set(GUARANTEES)


def test_a_list_may_lack_a_zone_that_it_says_it_lacks():
    record = good()
    lacking = [one for one in record.reads[1].body if one["zonename"] != "B"]
    record.reads.insert(1, read(2.5, 2, lacking, unreadable=frozenset("B")))
    assert "No-false-delete" not in judge(record)


def test_refusing_what_is_not_kept_any_more_is_right():
    for body in ({"epoch": EPOCH, "rev": 9, "oldestRev": 5}, {"epoch": "e2", "rev": 9, "oldestRev": 1}):
        record = good()
        record.chains["resuming"].segments[1:] = [Segment((EPOCH, 3), 410, refusal=body, ended="daemon")]
        assert "Resumable" not in judge(record), json.dumps(body)
