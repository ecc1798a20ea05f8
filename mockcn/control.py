# SPDX-License-Identifier: MPL-2.0
"""Orders to a mock node that runs, for tests and people: change it, break it, ask what was asked of it.

    control = Control("/tmp/node")
    control.boot(uuid)
    control.fault("zfs", "fail", match="list", stderr="out of memory\\n", times=2)

Any `key` of a zone is its name or its uuid. Each order has been carried out, files written and events published, when
the method returns. Raises OrderRefused when the node says no, NodeGone when there is no node.
Only the standard library; works under gevent's monkey patching too."""

import json
import os
import socket
from typing import Any, Callable, Optional, Union

POINTER = ".mockcn/socket"
ANSWER_WITHIN = 120  # seconds for one order; a slow boot is one. A churn gets more by its pauses


class OrderRefused(Exception):
    """The node did not carry the order out; `.kind` is the class of the error there."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class NodeGone(Exception):
    """No mock node is running at that root."""


class Control:
    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    def order(self, order: str, **args: Any) -> Any:
        """Send one order by its name (orders.py) and return its result."""
        return self._order(order, args, ANSWER_WITHIN)

    def _order(self, order: str, args: dict[str, Any], within: float) -> Any:
        try:
            with open(os.path.join(self.root, POINTER), encoding="utf-8") as pointer:
                where = pointer.readline().rstrip("\n")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(within)
                connection.connect(where)
                message = b"control\0" + json.dumps({"order": order, "args": args}).encode()
                connection.sendall(len(message).to_bytes(4, "big") + message)
                answer = bytearray()
                while piece := connection.recv(1 << 20):
                    answer += piece
        except TimeoutError as err:
            raise NodeGone(f"the mock node at {self.root} did not answer within {within:g} s") from err
        except OSError as err:
            raise NodeGone(f"no mock node is running at {self.root}: {err}") from err
        if not answer:
            raise NodeGone(f"the mock node at {self.root} ended while it carried out {order}")
        result = json.loads(answer)
        if "error" in result:
            raise OrderRefused(result["error"], result["kind"])
        return result["result"]

    # -- looking ---------------------------------------------------------------------------------------------------

    def zones(self) -> list[dict[str, Any]]:
        """All zones but the global one: zonename, uuid, state, brand, zonepath, is_vm, zoneid."""
        result: list[dict[str, Any]] = self.order("zones")
        return result

    def vms(self) -> list[dict[str, Any]]:
        """The zones that are VMs, likewise."""
        return [zone for zone in self.zones() if zone["is_vm"]]

    def datasets(self, under: str = "") -> list[str]:
        """Names of all filesystems and volumes that begin with `under`."""
        result: list[str] = self.order("datasets", under=under)
        return result

    def snapshots_of(self, dataset: str) -> list[str]:
        result: list[str] = self.order("snapshots_of", dataset=dataset)
        return result

    def dump(self) -> dict[str, Any]:
        """The node's whole state at one moment, see dump.py: zones, datasets and sysinfo, as it has them itself."""
        result: dict[str, Any] = self.order("dump")
        return result

    def calls(self, tool: Optional[str] = None) -> list[dict[str, Any]]:
        """The newest 10,000 calls of tools, oldest first: tool, argv, pid, time (seconds since the epoch)."""
        return [call for call in self.order("calls")["calls"] if tool in (None, call["tool"])]

    def call_counts(self) -> dict[str, int]:
        """How often each tool was called since the start or forget_calls()."""
        result: dict[str, int] = self.order("calls")["counts"]
        return result

    def forget_calls(self) -> None:
        self.order("forget_calls")

    def sysevent_subscribers(self) -> int:
        """How many `sysevent` have subscribed and live."""
        result: int = self.order("sysevent_subscribers")
        return result

    def children(self, tool: Optional[str] = None) -> list[dict[str, Any]]:
        """The tools that run now: tool, pid, argv (empty if the calls were forgotten since)."""
        result: list[dict[str, Any]] = self.order("children", tool=tool)
        return result

    def real(self, path: str) -> str:
        """Where the node's file `path` really lies."""
        return self.root + path

    # -- VMs and zones ---------------------------------------------------------------------------------------------

    def add_vm(self, **values: Any) -> dict[str, Any]:
        """Create a VM from the fields of mockcn.population.vms.Vm (all optional); uuid, zonename and zonepath of it."""
        result: dict[str, Any] = self.order("add_vm", **values)
        return result

    def remove_vm(self, key: str) -> None:
        """Halt it, destroy its datasets, delete the zone."""
        self.order("remove_vm", key=key)

    def boot(self, key: str, pace: float = 0) -> None:
        """Through all states to running, `pace` seconds between the steps."""
        self.order("boot", key=key, pace=pace)

    def halt(self, key: str, status: int = -1, pace: float = 0) -> None:
        """Down to installed; init ends with wait status `status`, which lastexited shows."""
        self.order("halt", key=key, status=status, pace=pace)

    def power_button(self, key: str) -> None:
        """Ask the guest to shut down, which it does in its time (shutdown=)."""
        self.order("power_button", key=key)

    def nmi(self, key: str) -> None:
        """The guest gets a non-maskable interrupt, and says so on its console."""
        self.order("nmi", key=key)

    def set_pace(self, **seconds: Optional[float]) -> None:
        """How long zones take, in seconds: install=, boot=, halt=, shutdown=, guest= (null: it never gets ready)."""
        self.order("set_pace", **seconds)

    def set_nic_tags(self, tags: list[list[str]]) -> None:
        """All NIC tags of the node: name, mac, link, type of each."""
        self.order("set_nic_tags", tags=tags)

    def init_restart(self, key: str) -> None:
        """The zone's init is started anew in place."""
        self.order("init_restart", key=key)

    def set_index_state(self, key: str, state: str) -> None:
        """configured, incomplete or installed, with its event (what installing and uninstalling do)."""
        self.order("set_index_state", key=key, state=state)

    def set_kernel_state(self, key: str, state: str) -> None:
        """Any kernel state such as `ready` or `down`, to stay in; no event."""
        self.order("set_kernel_state", key=key, state=state)

    def delete_zone(self, key: str) -> None:
        """zonecfg delete: XML and index line go, datasets stay."""
        self.order("delete_zone", key=key)

    # -- files -----------------------------------------------------------------------------------------------------

    def read_xml(self, key: str) -> str:
        result: str = self.order("read_xml", key=key)
        return result

    def edit_xml(self, key: str, change: Union[str, Callable[[str], str]]) -> None:
        """Replace the zone's XML by a text, or by what a function makes of the present one. Need not be good XML."""
        self.order("write_xml", key=key, text=change if isinstance(change, str) else change(self.read_xml(key)))

    def set_attr(self, key: str, name: str, value: Optional[str]) -> None:
        """Set an `<attr>` as it stands in the XML (an alias is base64); None removes it."""
        self.order("set_attr", key=key, name=name, value=value)

    def set_rctl(self, key: str, name: str, limit: Optional[int]) -> None:
        """Set the privileged value of a control such as `zone.cpu-cap`; None removes it."""
        self.order("set_rctl", key=key, name=name, limit=limit)

    def set_memory(self, key: str, mib: int) -> None:
        """Physical, locked memory and swap."""
        self.order("set_memory", key=key, mib=mib)

    def add_nic(self, key: str, nic: dict[str, str]) -> None:
        """interface, mac, vlan_id, nic_tag and net-attrs."""
        self.order("add_nic", key=key, nic=nic)

    def remove_nic(self, key: str, mac: str) -> None:
        self.order("remove_nic", key=key, mac=mac)

    def set_nic(self, key: str, mac: str, name: str, value: Optional[str]) -> None:
        """One net-attr of the nic with that mac; None removes it."""
        self.order("set_nic", key=key, mac=mac, name=name, value=value)

    def write_config(self, key: str, file: str, content: Any, in_place: bool = False) -> None:
        """config/FILE.json (metadata, tags, routes): text as it is, another value as JSON, None removes the file."""
        self.order("write_config", key=key, file=file, content=content, in_place=in_place)

    def write_lastexited(self, key: str, status: int, when: Optional[float] = None) -> None:
        self.order("write_lastexited", key=key, status=status, when=when)

    def sysinfo(self) -> dict[str, Any]:
        result: dict[str, Any] = self.order("sysinfo")
        return result

    def write_sysinfo(self, values: dict[str, Any]) -> None:
        self.order("write_sysinfo", values=values)

    def corrupt(self, path: str, content: str = "\x00{{{ not what it was", keep: Optional[int] = None) -> None:
        """Overwrite the node's file `path` in place with rubbish, or cut it after `keep` bytes."""
        self.order("corrupt", path=path, content=content, keep=keep)

    # -- zfs beyond the command ------------------------------------------------------------------------------------

    def write_data(self, dataset: str, size: int) -> None:
        """`size` more bytes of data; the platform has no event for that."""
        self.order("write_data", dataset=dataset, size=size)

    def receive(self, dataset: str, snap: str, written: int = 1 << 20, interrupted: bool = False) -> None:
        """zfs receive: a new filesystem, or the next snapshot of an old one by way of %recv."""
        self.order("receive", dataset=dataset, snap=snap, written=written, interrupted=interrupted)

    def set_vdev(self, name: str, vdev: str = "raidz", ashift: int = 12) -> None:
        """What the pool is made of, as zdb shows it: `mirror`, `raidz`; sectors of 1 << `ashift` bytes."""
        self.order("set_vdev", name=name, vdev=vdev, ashift=ashift)

    def pool_export(self, name: str) -> None:
        """The pool and its datasets go; the event names no dataset."""
        self.order("pool_export", name=name)

    def pool_import(self, name: str) -> None:
        self.order("pool_import", name=name)

    def scrub(self, name: str) -> None:
        """History events of the whole pool, without a dataset's name."""
        self.order("scrub", name=name)

    # -- events ----------------------------------------------------------------------------------------------------

    def publish(
        self, klass: str, subclass: str, data: Optional[dict[str, Any]], channel: Optional[str] = None, **more: Any
    ) -> None:
        """Any system event."""
        self.order("publish", klass=klass, subclass=subclass, data=data, channel=channel, **more)

    def ping(self) -> None:
        """The event without attributes on the zones' channel."""
        self.order("ping")

    def raw_line(self, line: str, match: str = "") -> int:
        """Print a line (bring your own newline) in every `sysevent` whose arguments hold `match`; how many."""
        result: int = self.order("raw_line", line=line, match=match)
        return result

    def mark(self) -> None:
        """Print a line that is in order and means nothing in every `sysevent` and `fswatcher`, behind all that was
        published and all changes of files so far: who has read it has read those, too."""
        self.order("mark")

    def drop_events(self, times: Optional[int] = 1, match: str = "", chance: float = 1) -> None:
        """Lose the next `times` events that hold `match` (None: all, until cleared), each with probability `chance`."""
        self.order("event_rule", kind="drop", times=times, match=match, chance=chance)

    def overflow(self, times: int) -> None:
        """The kernel's queue is full: the next `times` events of all sorts are lost."""
        self.drop_events(times)

    def duplicate_events(self, times: Optional[int] = 1, match: str = "", chance: float = 1) -> None:
        self.order("event_rule", kind="duplicate", times=times, match=match, chance=chance)

    def delay_events(self, seconds: float, times: Optional[int] = 1, match: str = "", chance: float = 1) -> None:
        self.order("event_rule", kind="delay", times=times, match=match, chance=chance, seconds=seconds)

    def reorder_events(self, times: Optional[int] = 1, match: str = "", chance: float = 1) -> None:
        """Keep an event back until the next one that matches has gone (0.2 s at most)."""
        self.order("event_rule", kind="reorder", times=times, match=match, chance=chance)

    def clear_event_rules(self) -> None:
        self.order("clear_event_rules")

    # -- faults ----------------------------------------------------------------------------------------------------

    def fault(self, tool: str, kind: str, match: str = "", times: Optional[int] = 1, **options: Any) -> None:
        """Make the next `times` calls of `tool` (None: all) whose arguments hold `match` go wrong (docs/mockcn.md)."""
        self.order("fault", tool=tool, kind=kind, match=match, times=times, **options)

    def clear_faults(self, tool: Optional[str] = None) -> None:
        self.order("clear_faults", tool=tool)

    def step(self, tool: str) -> int:
        """Let the call of `tool` that is held go on, one for each fault of the kind `hold`, or the next one that comes;
        how many such faults there are."""
        result: int = self.order("step", tool=tool)
        return result

    def held(self, tool: str) -> int:
        """How many calls of `tool` a fault keeps waiting now. With `when="after"` their answers are made already."""
        result: int = self.order("held", tool=tool)
        return result

    def tell(self, tool: str, kind: str, **options: Any) -> int:
        """A fault that takes effect now in the running fswatchers; how many there were."""
        result: int = self.order("tell", tool=tool, kind=kind, **options)
        return result

    def kill_child(self, tool: str, number: int = 9, match: str = "") -> list[int]:
        """Signal the running tools of that name whose arguments hold `match`; their pids."""
        result: list[int] = self.order("kill_child", tool=tool, number=number, match=match)
        return result

    # -- many of them ----------------------------------------------------------------------------------------------

    def churn(self, count: int, seed: int = 1, pause: float = 0, kinds: Optional[list[str]] = None) -> list[str]:
        """`count` random valid operations, `pause` seconds apart, the same for the same seed; a line for each."""
        args = {"count": count, "seed": seed, "pause": pause, "kinds": kinds}
        result: list[str] = self._order("churn", args, ANSWER_WITHIN + 2 * count * pause)
        return result
