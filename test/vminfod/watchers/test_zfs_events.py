# SPDX-License-Identifier: MPL-2.0
"""ZFS events: what is made of each line of `sysevent -rj EC_zfs ESC_ZFS_history_event` (docs/platform.md, "ZFS history
events")."""

import json

import gevent
import pytest

from support.child_script import child_script
from support.deadlines import SOON
from support.recording_log import RecordingLog
from support.said import said
from vminfod.watchers.lines import BadLine, OddEvent
from vminfod.watchers.sysevent import Ready
from vminfod.watchers.zpoolwatcher import Effect, PoolEvent, ZfsEvent, parse_zfs_event, zpool_watcher

U = "5b0e7ae8-9c1a-4b7e-8f63-2d1f0c9a4e11"
LIMIT = SOON
READY = '{"date":"2026-03-13T12:00:00.042Z","type":"ready"}'
QUOTA_SET = (
    '{"date":"2026-03-13T12:01:10.220Z","type":"event","vendor":"SUNW","publisher":"zfs","class":"EC_zfs",'
    '"subclass":"ESC_ZFS_history_event","pid":0,"data":{"pool_name":"zones","pool_guid":14466837440529934112,'
    '"history_internal_name":"set","history_hostname":"headnode",'
    '"history_dsname":"zones/5b0e7ae8-9c1a-4b7e-8f63-2d1f0c9a4e11","history_internal_str":"quota=10737418240",'
    '"history_dsid":1187,"history_txg":482211,"history_time":1773403270}}'
)


def line(action="set", dsname=f"zones/{U}", text=" ", **data):
    record = json.loads(QUOTA_SET)
    record["data"].update(history_internal_name=action, history_dsname=dsname, history_internal_str=text, **data)
    record["data"] = {name: value for name, value in record["data"].items() if value is not None}
    return json.dumps(record).encode()


def parsed(*args, **data):
    return parse_zfs_event(said(line(*args, **data)), 0)


@pytest.mark.pure
def test_ready_line():
    assert parse_zfs_event(said(READY.encode()), 5) == Ready()


@pytest.mark.pure
def test_property_set_on_a_dataset():
    assert parse_zfs_event(said(QUOTA_SET.encode()), 5) == ZfsEvent(
        dataset=f"zones/{U}",
        snapshot=None,
        pool="zones",
        action="set",
        effect=Effect.CHANGED,
        renamed_to=None,
        detail=("quota", "10737418240"),
        time=1773403270,
        seen_at=5,
        date_ms=1773403270220,
    )


@pytest.mark.pure
@pytest.mark.parametrize(
    ("action", "effect"),
    [
        ("create", Effect.NEW),
        ("clone", Effect.NEW),
        ("snapshot", Effect.NEW),
        ("set", Effect.CHANGED),
        ("hold", Effect.CHANGED),
        ("release", Effect.CHANGED),
        ("finish receiving", Effect.CHANGED),
        ("inherit", Effect.CHANGED),
        ("promote", Effect.PROMOTED),
        ("clone swap", Effect.ROLLED_BACK),
        ("destroy", Effect.GONE),
        ("defer_destroy", Effect.CHANGED),
        ("an action of the future", Effect.CHANGED),
        ("error", Effect.CHANGED),
        ("SET", Effect.CHANGED),
    ],
)
def test_effect_of_each_action(action, effect):
    event = parsed(action)
    assert (event.dataset, event.action, event.effect) == (f"zones/{U}", action, effect)


@pytest.mark.pure
@pytest.mark.parametrize("action", ["receive", "resume receive", "bookmark", "remove bookmark", "permission update"])
def test_action_that_changes_nothing_that_is_shown_is_not_passed_on(action):
    assert parsed(action) is None


@pytest.mark.pure
def test_snapshot_is_split_off():
    event = parsed("snapshot", f"zones/{U}@vmsnap-monday")
    assert (event.dataset, event.snapshot, event.name) == (f"zones/{U}", "vmsnap-monday", f"zones/{U}@vmsnap-monday")
    assert parsed("destroy", "zones/x@s").effect is Effect.GONE


@pytest.mark.pure
@pytest.mark.parametrize("name", ["zones/a@b@c", "", "@s", "zones/a@", "zones/a@@"])
def test_impossible_name_is_odd(name):
    with pytest.raises(OddEvent):
        parsed("set", name)


@pytest.mark.pure
def test_rollback_is_about_the_real_dataset():
    event = parsed("clone swap", f"zones/{U}/%rollback", f"parent={U}")
    assert (event.dataset, event.effect) == (f"zones/{U}", Effect.ROLLED_BACK)


@pytest.mark.pure
@pytest.mark.parametrize("action", ["destroy", "set", "create", "snapshot", "finish receiving", "unheard of"])
def test_anything_else_about_a_rollback_is_dropped(action):
    assert parsed(action, f"zones/{U}/%rollback") is None


@pytest.mark.pure
@pytest.mark.parametrize(
    ("action", "effect"),
    [
        ("receive", None),
        ("finish receiving", Effect.CHANGED),
        ("clone swap", Effect.ROLLED_BACK),
        ("destroy", None),
        ("set", Effect.CHANGED),
    ],
)
def test_incremental_receive_is_about_the_real_dataset_which_it_does_not_destroy(action, effect):
    event = parsed(action, f"zones/{U}/%recv")
    assert (event and event.effect) == effect
    assert event is None or event.dataset == f"zones/{U}"


@pytest.mark.pure
def test_recorded_incremental_receive():
    recorded = [
        ("receive", "zones/rx/%recv", " "),
        ("finish receiving", "zones/rx/%recv", "snap=s9"),
        ("clone swap", "zones/rx/%recv", "parent=rx"),
        ("snapshot", "zones/rx@s9", " "),
        ("destroy", "zones/rx/%recv", "(bptree, mintxg=374)"),
    ]
    events = [event for event in (parsed(*one) for one in recorded) if event is not None]
    assert [(event.name, event.effect) for event in events] == [
        ("zones/rx", Effect.CHANGED),
        ("zones/rx", Effect.ROLLED_BACK),
        ("zones/rx@s9", Effect.NEW),
    ]


@pytest.mark.pure
@pytest.mark.parametrize(
    ("old", "text", "new"),
    [
        ("zones/a", "-> zones/b", "zones/b"),
        ("zones/a", "-> zones/q/b3", "zones/q/b3"),
        ("zones/a@s2", "-> @s2x", "zones/a@s2x"),
        ("zones/a@s2", "-> zones/a@s2x", "zones/a@s2x"),
    ],
)
def test_rename_tells_both_names(old, text, new):
    event = parsed("rename", old, text)
    assert (event.name, event.effect, event.new_name) == (old, Effect.RENAMED, new)


@pytest.mark.pure
@pytest.mark.parametrize("text", [" ", "", None, "->", "-> ", "to zones/b"])
def test_rename_without_the_new_name_is_a_change_of_the_old_one(text):
    event = parsed("rename", "zones/a", text)
    assert (event.effect, event.renamed_to, event.new_name) == (Effect.CHANGED, None, None)


@pytest.mark.pure
@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("quota=1", ("quota", "1")),
        ("com.x:y=a=b", ("com.x:y", "a=b")),
        (" ", ("", "")),
        ("", ("", "")),
        (None, ("", "")),
        ("(bptree, mintxg=18)", ("(bptree, mintxg", "18)")),
        ("blank", ("blank", "")),
        (7, ("", "")),
    ],
)
def test_details_are_split_at_the_first_equals_sign(text, detail):
    assert parsed("set", text=text).detail == detail


@pytest.mark.pure
@pytest.mark.parametrize(
    "missing",
    [
        {"pool_name": None},
        {"pool_name": 7},
        {"pool_name": ""},
        {"history_time": None},
        {"history_time": "now"},
        {"history_time": True},
        {"history_time": 1.5},
    ],
)
def test_event_without_pool_or_time_is_odd(missing):
    with pytest.raises(OddEvent):
        parsed(**missing)


@pytest.mark.pure
@pytest.mark.parametrize("action", [None, 7, "", ["set"]])
def test_event_without_action_is_odd(action):
    with pytest.raises(OddEvent):
        parsed(action)


@pytest.mark.pure
@pytest.mark.parametrize("dsname", [7, ["zones"], True])
def test_event_whose_dataset_is_no_text_is_odd(dsname):
    with pytest.raises(OddEvent):
        parsed(dsname=dsname)


@pytest.mark.pure
def test_event_without_data_is_odd():
    record = json.loads(QUOTA_SET)
    del record["data"]
    with pytest.raises(OddEvent):
        parse_zfs_event(said(json.dumps(record).encode()), 0)


@pytest.mark.pure
@pytest.mark.parametrize("action", ["import", "export", "destroy", "create", "open", "split"])
def test_pool_that_comes_or_goes(action):
    assert parse_zfs_event(said(line(action, None)), 5) == PoolEvent("zones", action, 1773403270, 5, 1773403270220)


@pytest.mark.pure
@pytest.mark.parametrize("action", ["scan setup", "scan done", "set", "vdev attach", "trim", "unheard of"])
def test_other_event_of_a_whole_pool_is_not_for_us(action):
    assert parsed(action, None) is None


@pytest.mark.pure
@pytest.mark.parametrize(
    ("klass", "subclass"), [("EC_zfs", "ESC_ZFS_scrub_start"), ("EC_zone", "ESC_ZFS_history_event")]
)
def test_other_class_is_not_for_us(klass, subclass):
    record = json.loads(QUOTA_SET)
    record.update({"class": klass, "subclass": subclass})
    assert parse_zfs_event(said(json.dumps(record).encode()), 0) is None


@pytest.mark.pure
@pytest.mark.parametrize("bad", [b"garbage", b"{}", QUOTA_SET.encode()[:-1], b"\xff\xfe"])
def test_line_that_is_no_message_is_bad(bad):
    with pytest.raises(BadLine):
        parse_zfs_event(said(bad), 0)


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_watcher_translates_lines_and_skips_odd_ones_however_they_come(tmp_path, size):
    text = b"\n".join(
        [READY.encode(), QUOTA_SET.encode(), line("set", "a@b@c"), line("import", None), line("unheard of"), b""]
    )
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    program = child_script(
        tmp_path,
        f"""
assert sys.argv[1:] == ["-rj", "EC_zfs", "ESC_ZFS_history_event"], sys.argv
for piece in {pieces!r}: os.write(1, piece)
time.sleep(60)""",
    )
    events, missed, log = [], [], RecordingLog()
    child = zpool_watcher(program, log=log, on_event=events.append, on_missed=missed.append)
    child.start()
    try:
        with gevent.Timeout(LIMIT):
            while len(events) < 3:
                gevent.sleep(0.005)
        assert [event.action for event in events] == ["set", "import", "unheard of"]
        assert child.status()["skippedLines"] == 1
        assert missed == []
        assert "unknown ZFS action, taken for a change" in [record.msg for record in log.at(40)]
    finally:
        child.stop()
