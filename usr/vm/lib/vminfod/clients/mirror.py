# SPDX-License-Identifier: MPL-2.0
"""The watcher's copy of the daemon's VMs, and where in the daemon's history it stands. No threads, no I/O.

Always: `vms` is what the daemon served at revision `rev` of its run `epoch`, except on the way of events_towards().
        A daemon of the original kind has no revisions: epoch and rev are None then, and there is nothing to resume
        from.
But for this: a VM whose zone exists while the daemon cannot read it stays as it was last seen (`unreadable`), until an
event or a list says what became of it. To a mirror, such a VM is not gone."""

from __future__ import annotations

from vminfod.clients.failures import ParseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Optional

    from vminfod.clients.shapes import Event, Vm

# The identifiers that distinguish the elements of arrays, as the daemon's own diff has them.
IDENTIFIERS = {"nics": "mac", "disks": "path"}


class Mirror:
    """All VMs by zonename."""

    def __init__(self) -> None:
        self.vms: dict[str, Vm] = {}
        self.epoch: Optional[str] = None
        self.rev: Optional[int] = None
        self.position: Optional[str] = None  # `EPOCH:REV` to resume from; None when only a new list will do
        self.unreadable: frozenset[str] = frozenset()  # zones that the list lacked although they exist
        self._past: set[str] = set()  # epochs that were left, one for each restart of the daemon

    def fill(self, vms: dict[str, Vm], ready: Event) -> None:
        """Take over the list that came with a ready event, and stand where that says."""
        self.unreadable = unreadable_zones(ready) - vms.keys()
        self.vms = {**vms, **{name: vm for name, vm in self.vms.items() if name in self.unreadable}}
        if self.epoch is not None and self.epoch != ready.get("epoch"):
            self._past.add(self.epoch)
        self._move_to(ready.get("epoch"), ready.get("rev"))

    def has_shown(self, epoch: str, rev: int) -> bool:
        """Has the mirror reached revision `rev` of the daemon's run `epoch`, or left that run behind?"""
        return epoch in self._past or (epoch == self.epoch and self.rev is not None and rev <= self.rev)

    def _move_to(self, epoch: Any, rev: Any) -> None:
        known = isinstance(epoch, str) and isinstance(rev, int)
        self.epoch = epoch if known else None
        self.rev = rev if known else None
        self.position = f"{epoch}:{rev}" if known else None

    def continues_at(self, ready: Event) -> bool:
        """Does a feed with this ready event, which brought no list, go on where the mirror stands?"""
        return self.position is not None and ready.get("epoch") == self.epoch

    def step_of(self, event: Event) -> str:
        """Where an event stands: "next" to be applied, "known" already (or a heartbeat), or behind a "gap"."""
        rev = event.get("rev")
        heartbeat = event["type"] == "heartbeat"
        if self.rev is None or not isinstance(rev, int):
            return "known" if heartbeat else "next"
        if event.get("epoch", self.epoch) != self.epoch:
            return "gap"
        if rev <= self.rev:
            return "known"
        return "next" if rev == self.rev + 1 and not heartbeat else "gap"

    def as_seen_from_here(self, event: Event) -> Optional[Event]:
        """An event in which the daemon creates a VM that was kept meanwhile, as the modify that it is here; None if
        nothing has changed. All others are as they came."""
        from vminfod.diff import diff

        vm, old = event.get("vm"), self.vms.get(str(event.get("zonename")))
        kept = event.get("zonename") in self.unreadable
        if event["type"] != "create" or not kept or old is None or not isinstance(vm, dict):
            return event
        changes = diff(old, vm, IDENTIFIERS)
        return {**event, "type": "modify", "changes": changes} if changes else None

    def apply(self, event: Event) -> None:
        """Take an event in. Raises ParseError for one without zonename or VM object."""
        zonename, vm = event.get("zonename"), event.get("vm")
        if not isinstance(zonename, str) or (event["type"] != "delete" and not isinstance(vm, dict)):
            raise ParseError("VminfodEventStream got an event without zonename or VM")
        self.unreadable -= {zonename}
        if event["type"] == "delete":
            self.vms.pop(zonename, None)
        else:
            assert isinstance(vm, dict)
            self.vms[zonename] = vm
        if self.rev is not None and isinstance(event.get("rev"), int):
            self._move_to(self.epoch, event["rev"])

    def events_towards(self, vms: dict[str, Vm], ready: Event) -> Iterator[Event]:
        """The events that lead from the mirror to `vms`, as if the daemon had sent them: deletes first, so that a
        reader never sees two VMs with the address of one. Apply each before taking the next, and fill() in the end:
        the diff takes arrays in another order for equal. Without `rev`, since they are no revisions of the daemon's."""
        from vminfod.diff import diff

        unreadable = unreadable_zones(ready)
        for zonename in [name for name in self.vms if name not in vms and name not in unreadable]:
            last = self.vms[zonename]
            yield {
                "type": "delete",
                "date": ready["date"],
                "zonename": zonename,
                "uuid": last.get("uuid"),
                "last": last,
            }
        for zonename, vm in vms.items():
            old = self.vms.get(zonename)
            kind = "create" if old is None else "modify"
            uuid = vm.get("uuid")
            event: Event = {"type": kind, "date": ready["date"], "zonename": zonename, "uuid": uuid, "vm": vm}
            if old is not None:
                event["changes"] = diff(old, vm, IDENTIFIERS)
                if not event["changes"]:
                    continue
            yield event


def unreadable_zones(ready: Event) -> frozenset[str]:
    """The zones that exist and are not in a ready event's list, because the daemon could not read them."""
    names = ready.get("unreadable")
    return frozenset(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else frozenset()
