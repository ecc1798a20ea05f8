# SPDX-License-Identifier: MPL-2.0
"""The steps of a simulation, carried out: each method do_NAME is the step of that name (steps.py).

Always: a step that does not fit what is there (a VM that has gone, a file that is not there) does nothing;
        a zone is named by its place in the node's list, counted round, so that any number fits.
calm() takes back every fault and waits until all must be right: guarantees are judged there."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, Optional

from mockcn.control import NodeGone, OrderRefused
from mockcn.state.mounts import exchange
from simulation.faults import ANNOUNCED, UNANNOUNCED
from simulation.holding import Writer
from simulation.listeners import ask
from simulation.steps import Step
from simulation.world import SYSINFO, World

TOOL_LIMIT = 60.0  # seconds for one vmadm
CHILDREN = {"zones": ("sysevent", "zones:status"), "zfs": ("sysevent", "EC_zfs"), "files": ("fswatcher", "")}


class Actor:
    """Carries out steps on a world. `log`: what was done, a line a step."""

    def __init__(self, world: World):
        self.world = world
        self.control = world.control
        self.log: list[str] = []

    def act(self, step: Step) -> None:
        """Do it, and note what may be deleted because of it."""
        before, since = self.world.names(), time.monotonic()
        do: Callable[..., Optional[str]] = getattr(self, f"do_{step.do}")
        if step.do in UNANNOUNCED:
            self.world.needs_refresh = True
        try:
            said = do(**step.args)
        except (OrderRefused, FileNotFoundError, NotADirectoryError, IsADirectoryError) as refused:
            said = f"does not fit: {refused}"
        except ConnectionError as error:  # if the daemon has ended, that is what the guarantees find
            said = f"no answer: {error}"
        self.world.noting_what_goes(before, since)
        self.log.append(f"{time.monotonic():.3f} {step.line()} -> {said or 'done'}")

    # -- what happens to a node ------------------------------------------------------------------------------------

    def do_wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def do_churn(self, kind: str, seed: int) -> str:
        """One operation of that kind (mockcn/churn.py)."""
        return "; ".join(self.control.churn(1, seed=seed, kinds=[kind]))

    def do_burst(self, count: int, seed: int) -> str:
        """Many operations of all kinds at once."""
        return "; ".join(self.control.churn(count, seed=seed, kinds=ANNOUNCED))

    def do_twice(self, number: int, cap: int, seconds: float) -> str:
        """A zone is changed, and again while the daemon may be reading it."""
        zone = self._zone(number)
        if zone is None:
            return "no such zone"
        self.control.set_rctl(zone["zonename"], "zone.cpu-cap", cap)
        time.sleep(seconds)
        self.control.set_rctl(zone["zonename"], "zone.cpu-cap", cap + 1)
        return str(zone["zonename"])

    def do_resize(self, seed: int) -> str:
        """A volume gets another size, of which there need not be an event."""
        return self.do_churn("volume", seed)

    def do_large(self, number: int, size: int) -> Optional[str]:
        """A guest's metadata become so many bytes large, all of them new, and are read: an event of thrice the size."""
        zone = self._zone(number, brand="joyent")
        if zone is None:
            return "no such zone"
        self.world.measuring.largest = max(self.world.measuring.largest, size)
        self.world.large.add(zone["zonename"])
        text = random.Random(size).randbytes(size // 2).hex()
        self.control.write_config(zone["zonename"], "metadata", {"customer_metadata": {"large": text}})
        with contextlib.suppress(OSError):
            ask(self.world.daemon.port, f"/vms/{zone['zonename']}?fresh=true&timeout=10")
        return str(zone["zonename"])

    def do_shrink(self) -> None:
        """The large metadata are small again."""
        for zone in self.zones():
            if zone["zonename"] in self.world.large:
                self.control.write_config(zone["zonename"], "metadata", {"customer_metadata": {"large": "no more"}})
        self.world.large.clear()

    def do_vmadm(self, words: list[str], number: int) -> str:
        """`vmadm WORD ZONE WORDS`, as an operator does; what it confirms is a promise."""
        zone = self._zone(number, brand="joyent")
        if zone is None or not self.world.is_up:
            return "no such zone"
        command, *rest = words
        if command in ("start", "stop") and 'name="transition"' in self.control.read_xml(zone["zonename"]):
            return "in a transition, whose end it would wait for"  # and nobody ends those that churn begins
        try:
            done = self.world.daemon.tool(
                "vmadm", command, zone["uuid"], *rest, environ={"VMADM_ROOT": self.world.node.root}
            )
        except subprocess.TimeoutExpired:
            if not self.world.tools_fail:  # it may be a tool of vmadm's own that hangs
                self.world.record.trouble.append(f"vmadm {command} did not end within {TOOL_LIMIT} s")
            return "did not end"
        if done.returncode == 0:
            self.world.promise(f"vmadm {' '.join(words)}", zone["zonename"])
        return f"{zone['zonename']} {done.returncode} {done.stderr.strip()[:200]}"

    def do_fresh(self, number: int, cap: int, of: str = "xml") -> str:
        """Something `of` the zone is changed, then GET /vms/ZONE?fresh=true; what that says is a promise. Meanwhile who
        would tell the daemon of the change is stopped: it must have looked by itself."""
        zone = self._zone(number)
        if zone is None or not self.world.is_up:
            return "no such zone"
        tool, match = CHILDREN["zfs" if of == "zfs" else "files"]
        stopped = self.control.kill_child(tool, signal.SIGSTOP, match)
        try:
            with contextlib.suppress(OrderRefused, OSError):  # what is to be changed may be broken
                self._change(zone, cap, of)
            answer = ask(self.world.daemon.port, f"/vms/{zone['zonename']}?fresh=true&timeout=10")[0]
            if answer.status in (200, 404):
                self.world.promise(f"fresh read ({of})", zone["zonename"], answer)
        finally:
            for pid in set(stopped) - self.world.frozen:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        return f"{zone['zonename']} {answer.status}"

    def _change(self, zone: dict[str, Any], number: int, of: str) -> None:
        """Something `of` the zone becomes another one by that number. Raises OrderRefused and OSError."""
        if of == "xml":
            self.control.set_rctl(zone["zonename"], "zone.cpu-cap", number)
        elif of == "tags":
            # In place: that a file is another one would tell the daemon that it has changed.
            self.control.write_config(zone["zonename"], "tags", {"fresh": number}, in_place=True)
        elif of == "zfs":
            self.world.node.run("zfs", "set", f"quota={10 + number % 90}g", zone["zonepath"][1:])
        elif SYSINFO not in self.world.broken:
            self.control.write_sysinfo({**self.control.sysinfo(), "Datacenter Name": f"dc{number}"})

    # -- writers that hold a VM back (holding.py) -------------------------------------------------------------------

    def do_transaction(self, number: int, mark: int, end: str, pause: float, reading: str = "") -> str:
        """Two marks of a zone are changed in a transaction, which ends in that way."""
        writer = self._writer(number, mark)
        return "no such zone" if writer is None else writer.transaction(end, pause, reading)

    def do_writer(self, number: int, mark: int, which: str, kill: Optional[float] = None) -> str:
        """`vmadm update` or `vminfo transaction` changes them, and is killed after so many seconds, if it is."""
        writer = self._writer(number, mark)
        return "no such zone" if writer is None else writer.tool(which, kill)

    def _writer(self, number: int, mark: int) -> Optional[Writer]:
        zone = self._zone(number, brand="joyent")
        if zone is None or not self.world.is_up or any(zone["zonename"] in path for path in self.world.broken):
            return None
        writer = Writer(self.world, zone, mark)
        return writer if writer.old is not None else None

    # -- events on their way ---------------------------------------------------------------------------------------

    def do_late(self, kind: str, chance: float, seconds: float = 0.2) -> None:
        """System events are duplicated, delayed or reordered; none is lost."""
        self.control.order("event_rule", kind=kind, times=None, chance=chance, seconds=seconds)

    def do_lose(self, chance: float) -> None:
        """System events get lost."""
        self.control.drop_events(None, chance=chance)

    def do_deaf(self, number: int) -> Optional[str]:
        """The file watcher reports nothing of a zone's files."""
        zone = self._zone(number)
        if zone is not None:
            self.control.tell("fswatcher", "deaf", path=zone["zonename"])
        return zone and zone["zonename"]

    # -- tools -----------------------------------------------------------------------------------------------------

    def do_tool(self, tool: str, kind: str, times: int, match: str = "", **options: Any) -> None:
        """The next calls of a tool go wrong, for all to see (docs/mockcn.md, "Faults")."""
        self.world.tools_fail = True
        self.control.fault(tool, kind, match=match, times=times, **options)

    def do_untold(self, tool: str, number: int, times: int, **failure: Any) -> str:
        """A zone changes, and the tool that alone can tell what it is now goes wrong when it is asked about that."""
        zone = self._zone(number, "joyent", "running")
        if zone is None:
            return "no such zone"
        name, dataset = zone["zonename"], zone["zonepath"][1:]
        about = {"zoneadm": name, "kstat": f"-i {zone['zoneid']}", "zfs": f"-d 1 {dataset}"}[tool]
        self.do_tool(tool, times=times, match=about, **failure)
        if tool == "zoneadm":
            self.control.halt(name)
        elif tool == "kstat":
            self.control.init_restart(name)
        else:
            self.world.node.run("zfs", "snapshot", f"{dataset}@vmsnap-untold{len(self.log)}")
        return f"{name} {tool}"

    def do_overtaken(self, number: int, seconds: float) -> str:
        """A zone changes, and again while what the daemon has read of it is on its way: of the second change there is
        one event, and no later one makes up for it."""
        zone = self._zone(number, "joyent", "running")
        if zone is None:
            return "no such zone"
        dataset = zone["zonepath"][1:]
        before = self.control.held("zfs")
        # Another's listing may take the fault, or none: then it does no more than to be slow once.
        self.control.fault("zfs", "slow", match=f"-d 1 {dataset}", times=1, seconds=seconds, when="after")
        self.world.node.run("zfs", "snapshot", f"{dataset}@vmsnap-first{len(self.log)}")
        self._wait_held(before, seconds)
        self.world.node.run("zfs", "snapshot", f"{dataset}@vmsnap-second{len(self.log)}")
        return str(zone["zonename"])

    def do_appear(self, number: int, seconds: float) -> str:
        """A VM appears, and its dataset changes while what zfs says of it for the first time is on its way: so far
        nobody knew whose dataset that is. It does not run, and the first of its two zone events is lost: each more
        would have all of it read again."""
        uuid = f"{number:08x}-5eed-4000-8000-000000000000"
        if uuid in self.world.names():
            return "it is there already"
        self.control.fault("zfs", "hold", match=f"-d 1 zones/{uuid}", times=1, when="after")
        before = self.control.held("zfs")
        self.control.drop_events(1, match="com.sun:zones:status")
        self.control.add_vm(brand="joyent", uuid=uuid, state="stopped")
        self._wait_held(before, seconds)
        self.world.node.run("zfs", "snapshot", f"zones/{uuid}@vmsnap-early")
        self.control.step("zfs")
        return uuid

    def do_unheralded(self, number: int) -> str:
        """A VM appears without a zone event: the index of zones is all that tells of it. It does not run, as the events
        of its boot would come later."""
        uuid = f"{number:08x}-1dea-4000-8000-000000000000"
        if uuid in self.world.names():
            return "it is there already"
        self.control.drop_events(None, match="com.sun:zones:status")
        try:
            self.control.add_vm(brand="joyent", uuid=uuid, state="stopped")
        finally:
            self.control.clear_event_rules()
        return uuid

    def do_behind(self, number: int, seconds: float) -> str:
        """A zone changes while a full refresh has read what it was: the refresh knows less than what is served."""
        zone = self._zone(number, "joyent", "running")
        if zone is None or not self.world.is_up:
            return "no such zone"
        self.control.fault("zfs", "slow", match="-d 3", times=1, seconds=seconds, when="after")
        before = self.control.held("zfs")
        self.world.daemon.process.send_signal(signal.SIGHUP)
        self._wait_held(before, seconds)
        self.world.node.run("zfs", "snapshot", f"{zone['zonepath'][1:]}@vmsnap-behind{len(self.log)}")
        return str(zone["zonename"])

    def _wait_held(self, before: int, seconds: float) -> None:
        """Until one more call of zfs than `before` waits, but no longer than a while: a fault may hit another call."""
        until = time.monotonic() + seconds
        while self.control.held("zfs") <= before and time.monotonic() < until:
            time.sleep(0.01)

    def do_lie(self, tool: str, lines: int, times: int, match: str = "") -> None:
        """The next calls of a tool leave out what comes after some lines, and end well."""
        self.world.tools_lie = True
        self.control.fault(tool, "cut", match=match, times=times, lines=lines)

    # -- children --------------------------------------------------------------------------------------------------

    def do_kill(self, child: str, number: int = 9) -> str:
        tool, match = CHILDREN[child]
        return str(self.control.kill_child(tool, number, match))

    def do_freeze(self, child: str) -> str:
        """The child is stopped, and goes on at the next do_thaw or calm()."""
        tool, match = CHILDREN[child]
        pids = self.control.kill_child(tool, signal.SIGSTOP, match)
        self.world.frozen |= set(pids)
        return str(pids)

    def do_thaw(self) -> None:
        for pid in self.world.frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.world.frozen.clear()

    def do_garbage(self, child: str, line: str) -> None:
        """The child prints something that makes no sense."""
        self.control.raw_line(line, match=CHILDREN[child][1])

    # -- files -----------------------------------------------------------------------------------------------------

    def do_break(self, number: int, file: str, how: str, keep: float = 0.5) -> Optional[str]:
        """A file is cut in place, anywhere or behind a tag, filled with rubbish, or a folder stands in its place, until
        do_mend() or calm()."""
        zone = self._zone(number)
        if zone is None:
            return "no such zone"
        path = _path_of(zone, file)
        real = self.control.real(path)
        if path in self.world.broken or not os.path.isfile(real):
            return f"{path} is not there"
        with open(real, "rb") as source:
            self.world.broken[path] = good = source.read()
        if how == "cut":
            self.control.corrupt(path, keep=int(len(good) * keep))
        elif how == "tag":
            self.control.corrupt(path, keep=good.find(b">", int(len(good) * keep * 0.9)) + 1)
        elif how == "rubbish":
            self.control.corrupt(path)
        else:
            os.mkdir(real + ".folder")
            exchange(real, real + ".folder")  # at no time is nothing there: that would be a deleted zone
            os.unlink(real + ".folder")
        return path

    def do_mend(self) -> None:
        """All broken files are what they were."""
        here = {zone["zonename"] for zone in self.zones()}
        for path, good in self.world.broken.items():
            real = self.control.real(path)
            if path != SYSINFO and not any(name in path for name in here):
                continue
            if path == SYSINFO:
                if os.path.isdir(real):
                    shutil.rmtree(real)
                self.control.write_sysinfo(self.control.sysinfo())  # what it should say may have changed meanwhile
                continue
            if os.path.isdir(os.path.dirname(real)):
                _put_back(real, good)
        self.world.broken.clear()

    def do_flicker(self, number: int, seconds: float) -> Optional[str]:
        """The zone's XML is away for a moment, as when it is replaced across file systems."""
        zone = self._zone(number)
        if zone is None:
            return "no such zone"
        real = self.control.real(f"/etc/zones/{zone['zonename']}.xml")
        self.world.record.gone.setdefault(zone["zonename"], time.monotonic())
        os.rename(real, real + ".away")
        time.sleep(seconds)
        os.rename(real + ".away", real)
        return str(zone["zonename"])

    def do_swap(self, number: int, seconds: float) -> Optional[str]:
        """The zone's config folder is moved aside, and a copy is put in its place, in which a file then changes. Where
        what was moved stays, nothing ever happens to the files that were watched."""
        zone = self._zone(number, "joyent", "running")
        folder = zone and self.control.real(f"{zone['zonepath']}/config")
        if zone is None or not os.path.isdir(folder):
            return "no such folder"
        os.rename(folder, f"{folder}.old")
        shutil.copytree(f"{folder}.old", folder)
        if number % 2 == 0:
            shutil.rmtree(f"{folder}.old")
        else:
            os.rename(f"{folder}.old", f"{folder}.{time.monotonic_ns()}")
        time.sleep(seconds)
        self.control.write_config(zone["zonename"], "tags", {"swapped": number}, in_place=True)
        return str(zone["zonename"])

    def do_vanish(self, number: int, tool: str, seconds: float) -> Optional[str]:
        """A VM goes while it is being read: the tool that is asked about it answers late."""
        zones = self.zones()
        zone = self._zone(number)
        if zone is None or len(zones) < 8:
            return "no zone to spare"
        self.control.fault(tool, "slow", seconds=seconds, times=2, when="after")
        self.control.init_restart(zone["zonename"]) if zone["state"] == "running" else self.control.ping()
        self.control.set_attr(zone["zonename"], "alias", "dmFuaXNoaW5n")
        time.sleep(seconds / 2)
        self.control.remove_vm(zone["zonename"])
        return str(zone["zonename"])

    # -- time, listeners, the daemon -------------------------------------------------------------------------------

    def do_clock(self, seconds: float) -> None:
        """The daemon's wall clock steps."""
        self.world.move_clock(seconds)

    def do_stall(self, listener: str) -> None:
        self.world.followers[listener].stall()

    def do_go_on(self, listener: str) -> None:
        self.world.followers[listener].go_on()

    def do_cut(self, listener: str, number: int = 0) -> Optional[str]:
        """A listener loses its connection, and is not there when a zone changes."""
        self.world.followers[listener].leave()
        try:
            return self.do_fresh(number, 17 + len(self.log))
        finally:
            self.world.followers[listener].come_back()

    def do_refresh(self) -> None:
        """The daemon is asked to read the whole node anew, and does."""
        if self.world.is_up:
            self.world.refresh()

    def do_measure(self) -> None:
        self.world.measure(calm=False)

    def do_restart(self, number: int, meanwhile: int, seed: int) -> str:
        """The daemon ends by that signal, things happen, it starts again; more happens while it starts."""
        self.world.end_daemon(number)
        said = self.do_burst(meanwhile, seed)
        more = threading.Thread(target=self._burst_in_background, args=[meanwhile, seed + 1])
        more.start()
        try:
            self.world.start_daemon()
        finally:
            more.join()
        self.world.now_up()
        return said

    def _burst_in_background(self, count: int, seed: int) -> None:
        with contextlib.suppress(OrderRefused, NodeGone):
            self.control.churn(count, seed=seed, pause=0.02, kinds=ANNOUNCED)

    # -- all well again --------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """Take back all faults, have a refresh where something was lost without a sign, and wait until all is right."""
        self.control.clear_event_rules()
        self.control.clear_faults()
        self.world.tools_fail = self.world.tools_lie = False
        self.do_thaw()
        self.do_mend()
        self.do_shrink()
        for follower in self.world.followers.values():
            follower.go_on()
        if not self.world.is_up:
            self.world.start_daemon()
            self.world.now_up()
        if self.world.needs_refresh:
            self.control.kill_child("fswatcher")  # the only end of deafness
            self.world.daemon.process.send_signal(signal.SIGHUP)
            self.world.needs_refresh = False
        self.world.settle()
        self.world.measure(calm=True)
        self.log.append(f"{time.monotonic():.3f} calm -> {json.dumps(self.world.record.differences)}")

    # --------------------------------------------------------------------------------------------------------------

    def zones(self) -> list[dict[str, Any]]:
        """VMs that the steps may act on: those with a name that was made for them and files of their own."""
        return [zone for zone in self.world.zones() if zone["state"] in ("running", "installed")]

    def _zone(self, number: int, brand: str = "", state: str = "") -> Optional[dict[str, Any]]:
        fit = [zone for zone in self.zones() if brand in ("", zone["brand"]) and state in ("", zone["state"])]
        return fit[number % len(fit)] if fit else None


def _path_of(zone: dict[str, Any], file: str) -> str:
    if file == "xml":
        return f"/etc/zones/{zone['zonename']}.xml"
    if file == "sysinfo":
        return SYSINFO
    return f"{zone['zonepath']}/lastexited" if file == "lastexited" else f"{zone['zonepath']}/config/{file}.json"


def _put_back(real: str, content: bytes) -> None:
    """Write a file whole where it was, or where a folder stands; at no time is nothing there."""
    mended = real + ".mended"
    with open(mended, "wb") as file:
        file.write(content)
    if os.path.isdir(real):
        exchange(real, mended)
        shutil.rmtree(mended)
    else:
        os.replace(mended, real)
