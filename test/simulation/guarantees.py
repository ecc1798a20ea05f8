# SPDX-License-Identifier: MPL-2.0
"""What always holds of the daemon, by name, checked on the record of a round (recording.py). docs/testing.md says in
words what each means.

Always: a guarantee sees only what came over the wire and what was done to the node;
        each gives a list of what broke it, in words that name the listener, the zone and the revision; empty: it held;
        each can be broken alone: what one complains of, another does not have to.
A further guarantee is a function more and a row in GUARANTEES. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Optional

from simulation import truth
from simulation.recording import Chain, Choice, Read, Round, Sample, Segment, Vms

MOST_THREADS = 80
MOST_CHILDREN = 24  # three that watch, and the commands of the moment
RING_EVENTS, RING_BYTES = 10_000, 32 << 20  # docs/http-api.md, "Going on where you were cut"
ALL_WAITING = 64 << 20  # docs/http-api.md, "Clients that do not read"
MOST_DESCRIPTORS, CALM_DESCRIPTORS = 400, 80
MOST_TASKS = 5000

Event = dict[str, Any]


def ordered(record: Round) -> list[str]:
    """Revisions only rise, on each stream and for each reader, whatever connection they come by."""
    found = []
    for name, segment, events in _streams(record):
        newest, seen = segment.first, {segment.first}
        for _, event in events:
            rev = event["rev"]
            if rev < newest and rev not in seen:
                found.append(f"{name}: revision {rev} comes after {newest}")
            if event["epoch"] != segment.epoch:
                found.append(f"{name}: an event of another epoch")
            seen.add(rev)
            newest = max(newest, rev)
    found += _reads_that_go_back(record)
    return found


def _reads_that_go_back(record: Round) -> list[str]:
    """A read that began after something of a later revision had been heard must not be older than that."""
    heard = [(at, event["epoch"], event["rev"]) for _, _, events in _streams(record) for at, event in events]
    heard += [(read.ended, read.epoch, read.rev) for read in record.reads]
    heard.sort(key=lambda one: one[0])
    newest: dict[str, int] = {}
    found, place = [], 0
    for read in sorted(record.reads, key=lambda one: one.began):
        while place < len(heard) and heard[place][0] < read.began:
            _, epoch, rev = heard[place]
            newest[epoch] = max(rev, newest.get(epoch, 0))
            place += 1
        if read.rev < newest.get(read.epoch, 0):
            found.append(f"{read.path} was at {read.rev} after {newest[read.epoch]} had been heard of")
    return found


def unique(record: Round) -> list[str]:
    """Each change comes once: no revision twice, no event that changes nothing, no two events of one revision."""
    found = []
    known: dict[tuple[str, int], Event] = {}
    for name, chain in record.chains.items():
        seen: set[tuple[str, int]] = set()
        for segment in chain.segments:
            for _, event in _changes(segment.events):
                key = (event["epoch"], event["rev"])
                if key in seen or event["rev"] <= segment.first:
                    found.append(f"{name}: revision {event['rev']} comes again")
                seen.add(key)
                if known.setdefault(key, event) != event:
                    found.append(f"{name}: revision {event['rev']} is another event than for another listener")
    for name, before, event in _replayed(record):
        if event["type"] == "modify" and before is not None and before.get(event["zonename"]) == event["vm"]:
            found.append(f"{name}: revision {event['rev']} modifies nothing of {event['zonename']}")
    return found


def complete(record: Round) -> list[str]:
    """Nothing is left out: every revision from the first on, and for who chose, all that was chosen and no more."""
    found = []
    for name, chain in record.chains.items():
        if chain.choice.is_all:
            found += [f"{name}: {what}" for what in _gaps(chain, record.final)]
    found += _chosen_otherwise(record)
    return found


def _gaps(chain: Chain, final: Optional[tuple[str, int]]) -> Iterator[str]:
    last: Optional[tuple[str, int]] = None
    for segment in chain.segments:
        if segment.status != 200:
            continue
        revs = {event["rev"] for _, event in _changes(segment.events)}
        newest = max(revs, default=segment.first)
        lacks = sorted(set(range(segment.first + 1, newest + 1)) - revs)
        if lacks:
            yield f"lacks revisions {_short(lacks)} of {segment.first + 1} to {newest}"
        last = (segment.epoch, newest)
    if final is not None and (last is None or last[0] != final[0] or last[1] < final[1]):
        yield f"has come to {last}, not to {final}, when all was calm"


def _chosen_otherwise(record: Round) -> list[str]:
    """Listeners that chose get just what the same choice makes of the whole stream, as far as both were there."""
    whole: dict[tuple[str, int], tuple[Optional[Vms], Event]] = {}
    for name, before, event in _replayed(record):
        if record.chains[name].choice.is_all:
            whole[event["epoch"], event["rev"]] = (None if before is None else dict(before), event)
    found = []
    for name, chain in record.chains.items():
        if chain.choice.is_all:
            continue
        for segment in chain.segments:
            if segment.status != 200:
                continue
            got = {event["rev"] for _, event in _changes(segment.events)}
            heard = max([event["rev"] for _, event in segment.events], default=segment.first)
            due = {
                rev
                for (epoch, rev), (before, event) in whole.items()
                if epoch == segment.epoch and segment.first < rev <= heard and takes(chain.choice, before, event)
            }
            there = {rev for epoch, rev in whole if epoch == segment.epoch}
            found += [f"{name}: lacks the chosen revisions {_short(sorted(due - got))}"] if due - got else []
            odd = sorted(got & there - due)
            found += [f"{name}: got revisions that it did not choose: {_short(odd)}"] if odd else []
    return found


def takes(choice: Choice, before: Optional[Vms], event: Event) -> bool:
    """Whether who made that choice should get the event (docs/http-api.md, "Choosing what you get")."""
    if choice.types is not None and event["type"] not in choice.types:
        return False
    if choice.uuids is not None and choice.uuids.isdisjoint((event["uuid"], event["zonename"])):
        return False
    if choice.fields is None or event["type"] != "modify":
        return True
    old = (before or {}).get(event["zonename"], {})
    return any(old.get(name, ...) != event["vm"].get(name, ...) for name in choice.fields)


def resumable(record: Round) -> list[str]:
    """Who lost a connection goes on just where it was, and is refused only where that is not possible any more."""
    found = []
    for name, chain in record.chains.items():
        for segment in chain.segments:
            if segment.since is None:
                continue
            epoch, rev = segment.since
            if segment.status == 410:
                body = segment.refusal
                oldest = body.get("oldestRev")
                could = body.get("epoch") == epoch and (oldest or 0) - 1 <= rev <= body.get("rev", -1)
                found += [f"{name}: refused to resume from {rev}, though it could: {body}"] if could else []
            elif segment.status != 200:
                found.append(f"{name}: {segment.status} to since={epoch}:{rev}")
            elif segment.epoch != epoch:
                found.append(f"{name}: resumed over a restart of the daemon, from {rev}")
            else:
                found += [f"{name}: {what}" for what in _resumed_badly(segment, chain.choice)]
    return found


def _resumed_badly(segment: Segment, choice: Choice) -> Iterator[str]:
    """What was missed comes first, beginning with the revision after the one resumed from."""
    revs = [event["rev"] for _, event in _changes(segment.events)]
    if choice.is_all and revs and revs[0] != segment.first + 1:
        yield f"resumed from {segment.first}, but went on with {revs[0]}"
    if segment.ready_rev < segment.first:
        yield f"resumed from {segment.first}, but ready says {segment.ready_rev}"


def replay(record: Round) -> list[str]:
    """What `ready` and the events give is what /vms shows at that revision, order included; and each event leads from
    what was to what is, by its changes."""
    found = []
    reads: dict[tuple[str, int], Any] = {}
    for read in record.reads:
        if read.path != "/vms" or read.status != 200:
            continue
        if reads.setdefault((read.epoch, read.rev), read.body) != read.body:
            found.append(f"/vms shows two things at revision {read.rev}: {_difference(reads, read)}")
    for name, chain in record.chains.items():
        if not chain.choice.is_all:
            continue
        for segment in chain.segments:
            if segment.start is not None:
                found += [f"{name}: {what}" for what in _replay_of(segment, reads)]
    return found


def _replay_of(segment: Segment, reads: dict[tuple[str, int], Any]) -> Iterator[str]:
    vms = dict(segment.start or {})
    yield from _unlike(vms, segment.epoch, segment.first, reads)
    for _, event in _changes(segment.events):
        yield from _misled(vms, event)
        _apply(vms, event)
        yield from _unlike(vms, segment.epoch, event["rev"], reads)


def _unlike(vms: Vms, epoch: str, rev: int, reads: dict[tuple[str, int], Any]) -> Iterator[str]:
    shown = reads.get((epoch, rev))
    if shown is None or shown == list(vms.values()):
        return
    has = {vm["zonename"]: vm for vm in shown}
    names = [name for name in has.keys() | vms.keys() if has.get(name) != vms.get(name)]
    yield f"/vms at revision {rev} is not what the events give: {', '.join(sorted(names)) or 'another order'}"


def _misled(vms: Vms, event: Event) -> Iterator[str]:
    """What the event says of the past must be so."""
    name, old = event["zonename"], vms.get(event["zonename"])
    if event["type"] == "create":
        if old is not None:
            yield f"revision {event['rev']} creates {name}, which is there"
        return
    if old is None:
        if event["type"] != "delete" or "last" in event:  # one that could never be read ends without a last object
            yield f"revision {event['rev']} is a {event['type']} of {name}, which is not there"
        return
    if event["type"] == "delete":
        if event.get("last") != old:
            yield f"revision {event['rev']} deletes {name} with another last object"
        return
    for change in event["changes"]:
        if None not in change["path"]:
            was, now = _at(old, change["path"]), _at(event["vm"], change["path"])
            if was != change.get("oldValue", _NOTHING) or now != change.get("newValue", _NOTHING):
                what = f"{change['prettyPath']} of {name} {change['action']}"
                yield f"revision {event['rev']} says {what}, which is not so"


_NOTHING = object()


def _at(value: Any, path: list[Any]) -> Any:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return _NOTHING
        value = value[key]
    return value


def convergence(record: Round) -> list[str]:
    """When changes stop, what is served is what the node is."""
    return record.differences


def read_after_write(record: Round) -> list[str]:
    """What was confirmed is in every answer to a request that was made later."""
    found = []
    for promise in record.promises:
        for read in promise.reads:
            unkept = _unkept(promise.zonename, promise.expected, read)
            found += [f"after {promise.what}, {read.path}: {what}" for what in unkept]
    return found


def _unkept(zonename: str, expected: Optional[dict[str, Any]], read: Read) -> list[str]:
    if read.status not in (200, 404):
        return []  # an answer that promises nothing
    vms = read.body if isinstance(read.body, list) else [read.body] if read.status == 200 else []
    vm = next((vm for vm in vms if vm["zonename"] == zonename), None)
    if expected is None or vm is None:
        return [] if expected is vm else [f"{zonename} {'is still' if vm else 'is not'} served"]
    return [f"{zonename}: {what}" for what in truth.wrong(expected, vm)]


def isolated(record: Round) -> list[str]:
    """While a writer holds a VM back nobody sees what it changes; what is seen then was meant, or really there."""
    found = []
    for where, at, vm in _shown(record):
        marks = record.meant.get(vm["zonename"])
        mark = truth.mark(vm)
        if marks is None or mark is None:
            continue
        if mark not in marks:
            found.append(f"{where}: {vm['zonename']} shows {mark}, which was never meant")
        elif at < marks[mark]:
            found.append(f"{where}: {vm['zonename']} shows {mark} {marks[mark] - at:.3f} s before its writer had done")
    return found


def _shown(record: Round) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Every VM object that anybody was shown: where, when that had come, the object."""
    for name, segment, events in _streams(record):
        for vm in (segment.start or {}).values():
            yield f"{name}, as it begins", float("inf"), vm  # when that was is not known
        for at, event in events:
            if "vm" in event or "last" in event:
                yield f"{name}, revision {event['rev']}", at, event.get("vm") or event["last"]
    for at, event in record.mirrored:
        if "vm" in event:
            yield "the client's mirror", at, event["vm"]
    reads = [*record.reads, *(read for promise in record.promises for read in promise.reads)]
    for read in reads:
        if read.status == 200:
            for vm in read.body if isinstance(read.body, list) else [read.body]:
                yield read.path, read.ended, vm


def no_false_delete(record: Round) -> list[str]:
    """What was not taken from the node is not deleted, on a stream or in a list: a list that lacks it must say so."""
    found = []
    for name, chain in record.chains.items():
        for segment in chain.segments:
            for at, event in segment.events:
                if event["type"] == "delete" and not _is_gone(record, event["zonename"], at):
                    found.append(f"{name}: revision {event['rev']} deletes {event['zonename']}, which is still there")
            if segment.start is not None and segment.since is None and segment.status == 200:
                lacks = record.lasting - segment.start.keys() - segment.unreadable - record.gone.keys()
                found += [f"{name}: ready lacks {zone} and does not say so" for zone in sorted(lacks)]
    for at, event in record.mirrored:
        if event["type"] == "delete" and not _is_gone(record, event["zonename"], at):
            found.append(f"the client's mirror deletes {event['zonename']}, which is still there")
    for read in record.reads:
        if read.path == "/vms" and read.status == 200:
            lacks = record.lasting - {vm["zonename"] for vm in read.body} - read.unreadable
            lacks = {zone for zone in lacks if not _is_gone(record, zone, read.ended)}
            found += [f"/vms at revision {read.rev} lacks {zone} and does not say so" for zone in sorted(lacks)]
    return found


def _is_gone(record: Round, zonename: str, at: float) -> bool:
    return record.gone.get(zonename, at + 1) <= at


def bounded(record: Round) -> list[str]:
    """What the daemon holds has limits: events that can be resumed over, what waits for listeners, descriptors,
    threads, children."""
    found = []
    for sample in record.samples:
        found += [f"{name} is {value}, more than {most}" for name, value, most in _limits(sample) if value > most]
    return found


def _limits(sample: Sample) -> list[tuple[str, int, int]]:
    return [
        ("events to resume over", sample.ring_events, RING_EVENTS),
        ("bytes to resume over", sample.ring_bytes, RING_BYTES),
        ("bytes that wait for all clients", sample.waiting_bytes, ALL_WAITING),
        ("bytes that wait for one listener", sample.backlog_bytes, sample.allowed_bytes),
        ("threads", sample.threads, MOST_THREADS),
        ("children", sample.children, MOST_CHILDREN),
        ("descriptors", sample.descriptors, CALM_DESCRIPTORS if sample.calm else MOST_DESCRIPTORS),
        ("tasks that wait", sample.queued, MOST_TASKS),
    ]


def alive(record: Round) -> list[str]:
    """The daemon answers within its time, does not end by itself, and nothing fails in it by its own fault."""
    return record.trouble


GUARANTEES: dict[str, Callable[[Round], list[str]]] = {
    "Ordered": ordered,
    "Unique": unique,
    "Complete": complete,
    "Resumable": resumable,
    "Replay": replay,
    "Convergence": convergence,
    "Read-after-write": read_after_write,
    "Isolated": isolated,
    "No-false-delete": no_false_delete,
    "Bounded": bounded,
    "Alive": alive,
}


def judge(record: Round) -> dict[str, list[str]]:
    """The guarantees that did not hold, and what broke each."""
    found = {name: check(record) for name, check in GUARANTEES.items()}
    return {name: broken for name, broken in found.items() if broken}


# --------------------------------------------------------------------------------------------------------------------


def _changes(events: list[tuple[float, Event]]) -> Iterator[tuple[float, Event]]:
    return (pair for pair in events if pair[1]["type"] != "heartbeat")


def _streams(record: Round) -> Iterator[tuple[str, Segment, list[tuple[float, Event]]]]:
    for name, chain in record.chains.items():
        for segment in chain.segments:
            yield name, segment, segment.events


def _replayed(record: Round) -> Iterator[tuple[str, Optional[Vms], Event]]:
    """Each event with the VMs before it, None where the listener cannot know them; the VMs are only lent."""
    for name, chain in record.chains.items():
        for segment in chain.segments:
            vms = None if segment.start is None else dict(segment.start)
            for _, event in _changes(segment.events):
                yield name, vms, event
                if vms is not None:
                    _apply(vms, event)


def _apply(vms: Vms, event: Event) -> None:
    if event["type"] == "delete":
        vms.pop(event["zonename"], None)
    else:
        vms[event["zonename"]] = event["vm"]


def _difference(reads: dict[tuple[str, int], Any], read: Read) -> str:
    other = {vm["zonename"]: vm for vm in reads[read.epoch, read.rev]}
    return ", ".join(sorted(vm["zonename"] for vm in read.body if other.get(vm["zonename"]) != vm)) or "another order"


def _short(revs: list[int]) -> str:
    return ", ".join(map(str, revs[:5])) + (f" and {len(revs) - 5} more" if len(revs) > 5 else "")
