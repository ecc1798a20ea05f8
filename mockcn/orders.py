# SPDX-License-Identifier: MPL-2.0
"""What control can order, inside the node's process. Each public method is an order by its name; its arguments and
result are JSON values. The callers' side, with what each means, is control.py.

Always: an order that is refused answers with an error and has changed nothing."""

import json
import random
from typing import TYPE_CHECKING, Any, Optional

from mockcn import churn, edits
from mockcn.dump import dump
from mockcn.edits import Refused
from mockcn.life import guest
from mockcn.node import Node
from mockcn.population import vms
from mockcn.population.identities import uuid_from
from mockcn.state import zonexml
from mockcn.state.events import ZONE_CHANNEL, Event, Rule, iso_now
from mockcn.state.faults import Fault
from mockcn.state.pools import ZfsError
from mockcn.state.zones import Zone, ZoneError

if TYPE_CHECKING:
    from mockcn.server import Server


class Orders:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._new = random.Random(node.seed + 77)  # uuids of VMs added later
        self.server: Optional[Server] = None

    def carry_out(self, request: dict[str, Any]) -> dict[str, Any]:
        """{"order": name, "args": {...}} -> {"result": ...} or {"error": text, "kind": class name}."""
        order = getattr(self, str(request.get("order")), None)
        if order is None or str(request.get("order")).startswith("_") or request.get("order") == "carry_out":
            return {"error": f"no order is called {request.get('order')!r}", "kind": "Refused"}
        try:
            return {"result": order(**request.get("args", {}))}
        except (
            Refused,
            churn.NothingFits,
            ZoneError,
            ZfsError,
            zonexml.NotXml,
            OSError,
            TypeError,
            ValueError,
            KeyError,
        ) as err:
            return {"error": str(err), "kind": type(err).__name__}

    # -- looking ---------------------------------------------------------------------------------------------------

    def zones(self) -> list[dict[str, Any]]:
        with self._node.lock:
            return [
                {
                    "zonename": zone.name,
                    "uuid": zone.uuid or (zone.name if zone.is_vm else ""),
                    "state": zone.shown_state,
                    "brand": zone.brand,
                    "zonepath": zone.zonepath,
                    "is_vm": zone.is_vm,
                    "zoneid": zone.kernel.zoneid if zone.kernel else None,
                }
                for zone in self._node.zones.zones.values()
            ]

    def datasets(self, under: str = "") -> list[str]:
        with self._node.lock:
            return [
                dataset.name
                for root in self._node.pools.roots()
                for dataset in root.descendants()
                if dataset.name.startswith(under)
            ]

    def snapshots_of(self, dataset: str) -> list[str]:
        with self._node.lock:
            return list(self._node.pools.dataset(dataset).snapshots)

    def dump(self) -> dict[str, Any]:
        return dump(self._node)

    def calls(self) -> dict[str, Any]:
        return self._node.faults.calls()

    def forget_calls(self) -> None:
        self._node.faults.forget_calls()

    def sysevent_subscribers(self) -> int:
        return len(self._node.events.subscribers())

    def events_published(self) -> int:
        return self._node.events.published

    def children(self, tool: Optional[str] = None) -> list[dict[str, Any]]:
        assert self.server is not None
        words = {call["pid"]: call["argv"] for call in self._node.faults.calls()["calls"]}
        return [
            {"tool": client.tool, "pid": client.pid, "argv": words.get(client.pid, [])}
            for client in self.server.clients(tool)
            if client.pid
        ]

    # -- VMs and zones ---------------------------------------------------------------------------------------------

    def add_vm(self, **values: Any) -> dict[str, Any]:
        with self._node.lock:
            values.setdefault("uuid", uuid_from(self._new))
        zone = vms.settle(self._node, vms.Vm(**values))
        return {"uuid": values["uuid"], "zonename": zone.name, "zonepath": zone.zonepath}

    def remove_vm(self, key: str) -> None:
        vms.unsettle(self._node, self._zone(key))

    def boot(self, key: str, pace: float = 0) -> None:
        edits.boot(self._node, self._zone(key), pace)

    def halt(self, key: str, status: int = -1, pace: float = 0) -> None:
        edits.halt(self._node, self._zone(key), status, pace)

    def power_button(self, key: str) -> None:
        guest.ask_to_stop(self._node, self._zone(key), again=False)

    def nmi(self, key: str) -> None:
        guest.got_nmi(self._node, self._zone(key))

    def set_pace(self, **seconds: Any) -> None:
        self._node.pace.change(seconds)

    def set_nic_tags(self, tags: list[list[str]]) -> None:
        if any(len(tag) != 4 for tag in tags):
            raise Refused("a NIC tag has four parts: name, mac, link, type")
        with self._node.lock:
            self._node.nic_tags = [[str(part) for part in tag] for tag in tags]

    def init_restart(self, key: str) -> None:
        with self._node.lock:
            self._node.zones.init_restart(self._zone(key))

    def set_index_state(self, key: str, state: str) -> None:
        if state not in ("configured", "incomplete", "installed"):
            raise Refused(f"the index has no state {state!r}")
        with self._node.lock:
            self._node.zones.set_state(self._zone(key), state)

    def set_kernel_state(self, key: str, state: str) -> None:
        with self._node.lock:
            self._node.zones.set_kernel_state(self._zone(key), state)

    def delete_zone(self, key: str) -> None:
        with self._node.lock:
            self._node.zones.remove(self._zone(key))

    # -- files -----------------------------------------------------------------------------------------------------

    def read_xml(self, key: str) -> str:
        return edits.read_xml(self._node, self._zone(key))

    def write_xml(self, key: str, text: str) -> None:
        edits.write_xml(self._node, self._zone(key), text)

    def set_attr(self, key: str, name: str, value: Optional[str]) -> None:
        edits.set_attr(self._node, self._zone(key), name, value)

    def set_rctl(self, key: str, name: str, limit: Optional[int]) -> None:
        edits.set_rctl(self._node, self._zone(key), name, limit)

    def set_memory(self, key: str, mib: int) -> None:
        edits.set_memory(self._node, self._zone(key), mib)

    def add_nic(self, key: str, nic: dict[str, str]) -> None:
        edits.add_nic(self._node, self._zone(key), nic)

    def remove_nic(self, key: str, mac: str) -> None:
        edits.remove_nic(self._node, self._zone(key), mac)

    def set_nic(self, key: str, mac: str, name: str, value: Optional[str]) -> None:
        edits.set_nic(self._node, self._zone(key), mac, name, value)

    def write_config(self, key: str, file: str, content: Any, in_place: bool = False) -> None:
        edits.write_config(self._node, self._zone(key), file, content, in_place=in_place)

    def write_lastexited(self, key: str, status: int, when: Optional[float] = None) -> None:
        with self._node.lock:
            self._node.zones.write_lastexited(self._zone(key), status, when)

    def write_sysinfo(self, values: dict[str, Any]) -> None:
        with self._node.lock:
            self._node.write_sysinfo(values)

    def sysinfo(self) -> dict[str, Any]:
        return self._node.sysinfo

    # -- zfs beyond the command ------------------------------------------------------------------------------------

    def write_data(self, dataset: str, size: int) -> None:
        with self._node.lock:
            self._node.pools.dataset(dataset).space_written(size)

    def receive(self, dataset: str, snap: str, written: int = 1 << 20, interrupted: bool = False) -> None:
        with self._node.lock:
            self._node.pools.receive(dataset, snap, written=written, interrupted=interrupted)

    def set_vdev(self, name: str, vdev: str, ashift: int) -> None:
        with self._node.lock:
            pool = self._pool(name, exported=False)
            pool.vdev, pool.ashift = vdev, ashift

    def pool_export(self, name: str) -> None:
        """The pool goes away: its datasets are gone from zfs list. Its events name no dataset."""
        with self._node.lock:
            pool = self._pool(name, exported=False)
            self._pool_wide("ESC_ZFS_pool_destroy", name)
            pool.exported = True

    def pool_import(self, name: str) -> None:
        with self._node.lock:
            self._pool(name, exported=True).exported = False
            self._node.pools.pool_event(name, "open", "pool version 5000; software version mock; uts headnode 5.11")
            self._node.pools.pool_event(name, "import", "pool version 5000; software version mock; uts headnode 5.11")
            self._pool_wide("ESC_ZFS_pool_import", name)

    def scrub(self, name: str) -> None:
        with self._node.lock:
            self._pool(name, exported=False)
            self._node.pools.scrub(name)

    # -- events ----------------------------------------------------------------------------------------------------

    def publish(
        self,
        klass: str,
        subclass: str,
        data: Optional[dict[str, Any]],
        channel: Optional[str] = None,
        vendor: str = "sun.com",
        publisher: str = "kernel",
        pid: int = 0,
    ) -> None:
        self._node.events.publish(Event(vendor, publisher, klass, subclass, pid, data, channel))

    def ping(self) -> None:
        """The event without attributes that libzonecfg sends on the zones' channel."""
        self._node.events.publish(Event("sun.com", "zonecfg", "status", "ping", 0, None, ZONE_CHANNEL))

    def raw_line(self, line: str, match: str = "") -> int:
        return self._node.events.raw(line.encode("latin-1", "replace"), match)

    def mark(self) -> None:
        """A line without meaning in every sysevent and fswatcher, behind all that they have to tell by now."""
        line = json.dumps({"date": iso_now(), "type": "event", "class": "mark"})
        self.raw_line(line + "\n")
        self.tell("fswatcher", "mark")

    def event_rule(
        self, kind: str, match: str = "", times: Optional[int] = 1, chance: float = 1, seconds: float = 0.2
    ) -> None:
        if kind not in ("drop", "duplicate", "delay", "reorder"):
            raise Refused(f"events can be dropped, duplicated, delayed or reordered, not {kind!r}")
        self._node.events.add_rule(Rule(kind, match, times, chance, seconds))

    def clear_event_rules(self) -> None:
        self._node.events.clear_rules()

    # -- faults ----------------------------------------------------------------------------------------------------

    def fault(self, tool: str, kind: str, match: str = "", times: Optional[int] = 1, **options: Any) -> None:
        self._node.faults.add(Fault(tool, kind, match, times, options))

    def clear_faults(self, tool: Optional[str] = None) -> None:
        self._node.faults.clear(tool)

    def step(self, tool: str) -> int:
        return self._node.faults.step(tool)

    def held(self, tool: str) -> int:
        return self._node.faults.held(tool)

    def tell(self, tool: str, kind: str, **options: Any) -> int:
        """An order to the tools of that name that run and listen (fswatcher); how many there were."""
        from mockcn.server import encode_fault

        assert self.server is not None
        order = encode_fault(Fault(tool, kind, "", None, options).words())
        return sum(client.order(order) for client in self.server.clients(tool))

    def kill_child(self, tool: str, number: int = 9, match: str = "") -> list[int]:
        """Send a signal to the running tools of that name whose arguments hold `match`; the pids of those that got
        it."""
        assert self.server is not None
        argv = {call["pid"]: " ".join(call["argv"]) for call in self._node.faults.calls()["calls"]}
        chosen = [client for client in self.server.clients(tool) if match in argv.get(client.pid, "")]
        return [client.pid for client in chosen if client.signal(number)]

    def corrupt(self, path: str, content: str = "\x00{{{ not what it was", keep: Optional[int] = None) -> None:
        """Overwrite the node's file in place with rubbish, or cut it after `keep` bytes."""
        with self._node.lock, open(self._node.real(path), "r+b") as file:
            if keep is None:
                file.truncate(0)
                file.write(content.encode("utf-8", "surrogateescape"))
            else:
                file.truncate(keep)

    # -- many of them ----------------------------------------------------------------------------------------------

    def churn(self, count: int, seed: int = 1, pause: float = 0, kinds: Optional[list[str]] = None) -> list[str]:
        return churn.churn(self._node, count, seed, pause, kinds)

    # ----------------------------------------------------------------------------------------------------------------

    def _zone(self, key: str) -> Zone:
        with self._node.lock:
            return self._node.zones.find(key)

    def _pool(self, name: str, *, exported: bool) -> Any:
        pool = self._node.pools.pools.get(name)
        if pool is None or pool.exported is not exported:
            raise Refused(f"there is no pool {name} to {'import' if exported else 'export'}")
        return pool

    def _pool_wide(self, subclass: str, name: str) -> None:
        pool = self._node.pools.pools[name]
        self._node.events.publish(
            Event("SUNW", "zfs", "EC_zfs", subclass, 0, {"pool_name": name, "pool_guid": pool.guid})
        )
