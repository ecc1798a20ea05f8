# SPDX-License-Identifier: MPL-2.0
"""ZFS events: what the pools' history says through `sysevent`, translated (docs/platform.md, "ZFS history events").

Each action of the history has a row in EFFECT or POOL_EFFECT. An action that has none is taken for a change of the
dataset that it names: looking once too often costs one `zfs list`, looking once too rarely leaves a VM stale (bug S6).

Hidden datasets: a rollback and an incremental receive work on `D/%rollback`, `D/%recv`, which are gone before one
could look. Their names are cut back to D (bug S7). When such a one is destroyed D has lost nothing.

Always: what comes out names real datasets; an event about a hidden one is about its parent.
Not here: whether a dataset belongs to a VM, and what is read or forgotten for an effect."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional, Union

from jsvalues.dates import epoch_ms
from vminfod.log import Log
from vminfod.watchers.child import READY_WITHIN, Child
from vminfod.watchers.lines import OddEvent
from vminfod.watchers.sysevent import Ready, parse_sysevent, sysevent_child

_CLASS, _SUBCLASS = "EC_zfs", "ESC_ZFS_history_event"
ARGUMENTS = ("-rj", _CLASS, _SUBCLASS)


class Effect(Enum):
    """What an action does to what we know of the dataset. The values are the words of the queue's descriptions."""

    NEW = "fetchAndCopy"  # there is something to read that was not there
    CHANGED = "fetchExpireAndCopy"  # read it again; what is no longer listed is gone
    ROLLED_BACK = "fetchExpireCopyAndRollback"  # the same, and its files were replaced without a file event
    GONE = "expire"
    RENAMED = "fetchExpireAndCopyRenamed"  # the old name is gone, with all below it; `renamed_to` has the new one
    PROMOTED = "fetchExpireAndCopyPromoted"  # snapshots moved here from the origin, which the event does not name
    NOTHING = "nothing"  # nothing that a VM object shows; not passed on


EFFECT = {
    "create": Effect.NEW,
    "clone": Effect.NEW,
    "snapshot": Effect.NEW,
    "set": Effect.CHANGED,
    "inherit": Effect.CHANGED,
    "hold": Effect.CHANGED,
    "release": Effect.CHANGED,
    "defer_destroy": Effect.CHANGED,
    "finish receiving": Effect.CHANGED,
    "rename": Effect.RENAMED,
    "promote": Effect.PROMOTED,
    "clone swap": Effect.ROLLED_BACK,
    "destroy": Effect.GONE,
    "receive": Effect.NOTHING,  # `finish receiving` follows
    "resume receive": Effect.NOTHING,
    "bookmark": Effect.NOTHING,
    "remove bookmark": Effect.NOTHING,
    "permission update": Effect.NOTHING,
}
# Actions that do nothing to any dataset but the one that they name; see plain_dataset().
_PLAIN = frozenset(
    action for action, effect in EFFECT.items() if effect not in (Effect.RENAMED, Effect.PROMOTED, Effect.NOTHING)
)

# Pool-wide events name no dataset. With these the datasets of a whole pool come or go (bug S12). The others (scan
# setup, scan done, set of a pool's property, trim, vdev work) leave the datasets as they are and come in bursts, so
# that an action without a row is left to the next full refresh.
POOL_EFFECT = {
    "create": Effect.CHANGED,
    "import": Effect.CHANGED,
    "open": Effect.CHANGED,
    "export": Effect.CHANGED,
    "destroy": Effect.CHANGED,
    "split": Effect.CHANGED,
}

_HIDDEN = "/%"  # starts the last component of a hidden dataset; a user's dataset cannot have a % in its name
_ROLLBACK = "%rollback"


@dataclass(frozen=True)
class ZfsEvent:
    """`action` happened to the dataset, or to its snapshot if there is one.

    `renamed_to`: the new dataset and snapshot, with Effect.RENAMED only. `detail`: name and value of what was set, or
    one text with an empty value, for the log; can be long and come from a user.
    `time`: seconds since the epoch, from the history. `seen_at`, `date_ms`: as in ZoneEvent."""

    dataset: str
    snapshot: Optional[str]
    pool: str
    action: str
    effect: Effect
    renamed_to: Optional[tuple[str, Optional[str]]]
    detail: tuple[str, str]
    time: int
    seen_at: int
    date_ms: int

    @property
    def name(self) -> str:
        """As zfs writes it: the dataset, with its snapshot if there is one."""
        return self.dataset if self.snapshot is None else f"{self.dataset}@{self.snapshot}"

    @property
    def new_name(self) -> Optional[str]:
        """The same for `renamed_to`."""
        if self.renamed_to is None:
            return None
        dataset, snapshot = self.renamed_to
        return dataset if snapshot is None else f"{dataset}@{snapshot}"

    @property
    def touched(self) -> list[tuple[str, Optional[str]]]:
        """Each dataset that it is about, with the snapshot of it if that is what it is about."""
        first = (self.dataset, self.snapshot)
        return [first] if self.renamed_to is None else [first, self.renamed_to]


@dataclass(frozen=True)
class PoolEvent:
    """The datasets of `pool` came or went, all of them."""

    pool: str
    action: str
    time: int
    seen_at: int
    date_ms: int


def parse_zfs_event(record: dict[str, Any], seen_at: int) -> Union[ZfsEvent, PoolEvent, Ready, None]:
    """One line of the ZFS events. None: not for us. BadLine or OddEvent: no use, for the reason given."""
    event = parse_sysevent(record)
    if isinstance(event, Ready):
        return event
    if (event.klass, event.subclass) != (_CLASS, _SUBCLASS):
        return None
    data = event.data
    pool, action, time = data.get("pool_name"), data.get("history_internal_name"), data.get("history_time")
    if not isinstance(pool, str) or not pool:
        raise OddEvent("ZFS event without a pool")
    if not isinstance(action, str) or not action:
        raise OddEvent("ZFS event without an action")
    if not isinstance(time, int) or isinstance(time, bool):
        raise OddEvent("ZFS event without a time")
    name = data.get("history_dsname")
    if name is None:
        if POOL_EFFECT.get(action, Effect.NOTHING) is Effect.NOTHING:
            return None
        return PoolEvent(pool, action, time, seen_at, event.date_ms)
    if not isinstance(name, str):
        raise OddEvent("ZFS event whose dataset is no text")
    text = data.get("history_internal_str")
    text = text if isinstance(text, str) else ""

    dataset, snapshot = _split(name)
    effect = EFFECT.get(action, Effect.CHANGED)
    dataset, effect = _without_hidden(dataset, effect)
    if effect is Effect.NOTHING:
        return None
    renamed_to = _new_name(dataset, text) if effect is Effect.RENAMED else None
    if effect is Effect.RENAMED and renamed_to is None:
        effect = Effect.CHANGED  # the new name is not given: all we know is that the old one has changed
    detail, _, value = text.partition("=")
    return ZfsEvent(
        dataset, snapshot, pool, action, effect, renamed_to, (detail.strip(), value), time, seen_at, event.date_ms
    )


def plain_dataset(record: dict[str, Any]) -> Optional[str]:
    """The dataset of a line of which parse_zfs_event() would make an event about just that dataset, or a snapshot of
    it; None for any other line, and for some such.

    For storms: events of datasets that are nobody's are told by this name alone, at a third of what an event costs."""
    try:
        data = record["data"]
        is_plain = (
            data["history_internal_name"] in _PLAIN
            and type(data["history_time"]) is int
            and type(data["pool_name"]) is str
            and data["pool_name"] != ""
            and "mountpoint" not in data["history_internal_str"]  # says where the dataset is from now on
            and record["type"] == "event"
            and record["class"] == _CLASS
            and record["subclass"] == _SUBCLASS
            and epoch_ms(record["date"]) is not None
        )
        dataset, at, snapshot = data["history_dsname"].partition("@")
    except (KeyError, TypeError, AttributeError):  # not what such a line looks like
        return None
    is_plain = is_plain and _HIDDEN not in dataset and "@" not in snapshot and bool(snapshot or not at)
    return dataset or None if is_plain else None


def _split(name: str) -> tuple[str, Optional[str]]:
    """Dataset and snapshot. OddEvent if it is no name of either."""
    dataset, at, snapshot = name.partition("@")
    if not dataset or (at and not snapshot) or "@" in snapshot:
        raise OddEvent("ZFS event with an impossible dataset")
    return dataset, snapshot if at else None


def _without_hidden(dataset: str, effect: Effect) -> tuple[str, Effect]:
    """The real dataset that a hidden one stands for, and what the effect on that is."""
    parent, sign, hidden = dataset.partition(_HIDDEN)
    if not sign:
        return dataset, effect
    if effect is Effect.GONE or ("%" + hidden == _ROLLBACK and effect is not Effect.ROLLED_BACK):
        return parent, Effect.NOTHING
    return parent, effect


def _new_name(dataset: str, text: str) -> Optional[tuple[str, Optional[str]]]:
    """The new name in the text of a rename: `-> zones/new`, or `-> @new` for a snapshot of `dataset`."""
    sign, _, name = text.strip().partition(" ")
    if sign != "->" or not name.strip():
        return None
    new_dataset, at, snapshot = name.strip().partition("@")
    return new_dataset or dataset, snapshot if at else None


def zpool_watcher(
    tool: str,
    *,
    log: Log,
    on_event: Callable[[Union[ZfsEvent, PoolEvent]], object],
    passes_over: Callable[[str, int], bool] = lambda dataset, seen_at: False,
    on_missed: Callable[[str], object],
    ready_within: float = READY_WITHIN,
) -> Child:
    """The child that follows the pools, to be started by the caller. `tool` is the path of `sysevent`.

    `passes_over(dataset, seen_at)`: an event that does something to this dataset, and to no other, came; whether its
    owner has no use for it. Then that is all that is said of it.
    `on_missed(reason)`: events may have been lost, so that every dataset has to be looked at again."""

    def on_record(record: dict[str, Any], seen_at: int) -> bool:
        dataset = plain_dataset(record)
        if dataset is not None and passes_over(dataset, seen_at):
            return False
        event = parse_zfs_event(record, seen_at)
        if isinstance(event, Ready):
            return True
        if isinstance(event, ZfsEvent) and event.action not in EFFECT:
            log.warn("unknown ZFS action, taken for a change", action=event.action, dataset=event.name)
        if event is not None:
            on_event(event)
        return False

    command = [tool, *ARGUMENTS]
    return sysevent_child(
        "zpool watcher", command, log=log, on_record=on_record, on_missed=on_missed, ready_within=ready_within
    )
