# SPDX-License-Identifier: MPL-2.0
"""`python3 mockcn vmadmd --root DIR`: the mock node's vmadmd, a process of its own (docs/platform.md, "vmadmd").

It has the HTTP API of the platform's, on a unix socket below the node's root, since several nodes share this machine:

    DIR/var/run/vmadmd.sock

    stop   kvm: presses the power button, and halts a VM that is still there when its transition expires
    reset  kvm: answered; a reset of the guest changes no state of its zone
    sysrq  kvm: the guest gets an NMI, or its screen, which is black, is written to /tmp/vm.ppm in its zone
    info, reload_display    kvm and bhyve: a display is a TCP port, opened while the VM runs

Always: a kvm zone that has gone down loses its transition, and is booted anew if that said so, whoever stopped it;
        what it does to the node it does with the node's own tools, as anybody else."""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.server
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from typing import Any, Optional
from urllib.parse import parse_qs, urlsplit

from mockcn.control import Control, NodeGone, OrderRefused
from mockcn.ending import Ending
from mockcn.state import zonexml
from mockcn.state.mounts import write_atomically

SOCKET = "/var/run/vmadmd.sock"
HARDWARE = ("bhyve", "kvm")
RUNNING = ("running", "shutting_down")
QUERIES = ("status", "version", "chardev", "block", "blockstats", "cpus", "pci", "kvm")  # of qemu, in this order
NO_DISPLAY = -1
SCREENSHOT = "/root/tmp/vm.ppm"  # below the zonepath
BLACK_SCREEN = b"P6\n8 4\n255\n" + bytes(8 * 4 * 3)
NOT_THERE = "No such resource"

Answer = tuple[int, str]


class Guests:
    """The hardware VMs of the node at `root`, as vmadmd knows them."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self._control = Control(self.root)
        self._lock = threading.Lock()
        self._displays: dict[str, Display] = {}
        self._timers: dict[str, threading.Timer] = {}

    # Requests.

    def stop(self, uuid: str, seconds: float) -> Answer:
        """Press the power button, and see to it that the VM is down when its time is over."""
        vm = self._vm(uuid)
        if vm is None:
            return 500, f"Unable to load VM {uuid}"
        if vm["brand"] != "kvm":
            return 500, f'vmadmd only handles "stop" for: kvm(your brand is: {vm["brand"]})'
        with self._lock:
            before = self._timers.pop(uuid, None)
            if before is not None:
                before.cancel()
            timer = self._timers[uuid] = threading.Timer(seconds, self._expired, [uuid])
            timer.daemon = True
            timer.start()
        self._control.power_button(uuid)
        return 202, f"Stopped {uuid}"

    def reset(self, uuid: str) -> Answer:
        _, refusal = self._running_kvm(uuid, "reset", "reset vm")
        return refusal or (202, f"Sent reset to {uuid}")

    def sysrq(self, uuid: str, request: str) -> Answer:
        vm, refusal = self._running_kvm(uuid, "sysrq", "send sysrq to vm")
        if refusal is not None:
            return refusal
        if request == "nmi":
            self._control.nmi(uuid)
        else:
            write_atomically(f"{self.root}{vm['zonepath']}{SCREENSHOT}", BLACK_SCREEN)
        return 202, f"Sent sysrq to {uuid}"

    def _running_kvm(self, uuid: str, word: str, doing: str) -> tuple[dict[str, Any], Optional[Answer]]:
        """The VM that is asked for `word`; and the refusal, if it is none that can do it."""
        vm = self._vm(uuid)
        if vm is None:
            return {}, (500, f"Unable to load VM {uuid}")
        if vm["brand"] != "kvm":
            return vm, (500, f'vmadmd only handles "{word}" for kvm (your brand is: {vm["brand"]})')
        if vm["state"] not in RUNNING:
            return vm, (500, f'Unable to {doing} from state "{vm["state"]}", must be "running".')
        return vm, None

    def reload_display(self, uuid: str) -> Answer:
        vm = self._vm(uuid)
        if vm is None:
            return 404, f"Unable to load VM {uuid}"
        self._close_display(uuid)
        self._open_display(vm)
        return 202, f"Sent request to reload VNC for {uuid}"

    def info(self, uuid: str, types: list[str]) -> Optional[dict[str, Any]]:
        """None for what is not known."""
        vm = self._vm(uuid)
        if vm is None or vm["state"] not in RUNNING or vm["brand"] not in HARDWARE:
            return None
        known = [*QUERIES, "vnc", "spice"] if vm["brand"] == "kvm" else ["vnc"]
        wanted = known if not types or "all" in types else types
        if set(wanted) - set(known):
            return None
        if uuid not in self._displays:
            self._open_display(vm)
        display = self._displays.get(uuid)
        facts: dict[str, Any] = {query: _queried(query, vm) for query in QUERIES if query in wanted}
        for protocol in ("vnc", "spice"):
            if protocol in wanted:
                facts[protocol] = display.facts() if display and display.protocol == protocol else {}
        return facts

    # What happens by itself.

    def changed(self, zonename: str, newstate: str) -> None:
        """A zone event."""
        vm = self._vm(zonename)
        if vm is None or vm["brand"] not in HARDWARE:
            return
        if newstate == "running":
            self._close_display(vm["uuid"])
            self._open_display(vm)
        elif newstate in ("shutting_down", "uninitialized"):
            self._close_display(vm["uuid"])
        if newstate == "uninitialized" and vm["brand"] == "kvm":
            self._went_down(vm)

    def close(self) -> None:
        for uuid in list(self._displays):
            self._close_display(uuid)

    def _expired(self, uuid: str) -> None:
        vm = self._vm(uuid)
        if vm is None or vm["transition"] is None:
            return
        state, _, expire = vm["transition"]
        left = expire / 1000 - time.time()
        if state != "stopping":
            return
        if left > 0:  # asked for with less time than the transition has
            time.sleep(left)
        self._tool("zoneadm", "-u", uuid, "halt", "-X")

    def _went_down(self, vm: dict[str, Any]) -> None:
        with self._lock:
            timer = self._timers.pop(vm["uuid"], None)
            if timer is not None:
                timer.cancel()
        if vm["transition"] is None:
            return
        said = self._tool("zonecfg", "-u", vm["uuid"], "remove attr name=transition")
        if NOT_THERE not in said and vm["transition"][1] == "start":
            self._tool("zoneadm", "-u", vm["uuid"], "boot", "-X")

    # The node.

    def _vm(self, key: str) -> Optional[dict[str, Any]]:
        """What is known of a VM by its uuid or zonename: brand, state, attrs, transition as (state, to, ms)."""
        try:
            zone = next(zone for zone in self._control.zones() if key in (zone["uuid"], zone["zonename"]))
            with open(f"{self.root}/etc/zones/{zone['zonename']}.xml", encoding="utf-8") as file:
                element = zonexml.parse(file.read())
        except (StopIteration, OSError, zonexml.NotXml, NodeGone, OrderRefused):
            return None
        attrs = {attr.get("name", ""): attr.get("value", "") for attr in element.findall("attr")}
        state, _, rest = attrs.get("transition", "").partition(":")
        to, _, expire = rest.partition(":")
        transition = (state, to, int(expire)) if expire.isdigit() else None
        disks = [device.get("match", "") for device in element.findall("device")]
        return {**zone, "attrs": attrs, "transition": transition, "disks": disks}

    def _tool(self, name: str, *words: str) -> str:
        """What the tool said on standard error."""
        done = subprocess.run(
            [f"{self.root}/usr/sbin/{name}", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        return done.stderr

    # Displays.

    def _open_display(self, vm: dict[str, Any]) -> None:
        attrs = vm["attrs"]
        spice = _number(attrs.get("spice-port"))
        protocol, port = ("spice", spice) if spice and spice > 0 else ("vnc", _number(attrs.get("vnc-port")) or 0)
        if vm["state"] not in RUNNING or port == NO_DISPLAY:
            return
        password = base64.b64decode(attrs.get(f"{protocol}-password", "")).decode("utf-8", "replace")
        with self._lock, contextlib.suppress(OSError):  # the port is somebody else's: no display, as on a real node
            self._displays[vm["uuid"]] = Display(protocol, port, password)

    def _close_display(self, uuid: str) -> None:
        with self._lock:
            display = self._displays.pop(uuid, None)
        if display is not None:
            display.close()


class Display:
    """A remote display: a port that is open. Raises OSError where it cannot be opened."""

    def __init__(self, protocol: str, port: int, password: str) -> None:
        self.protocol, self._password = protocol, password
        self._listening = socket.create_server(("127.0.0.1", port))

    def facts(self) -> dict[str, Any]:
        host, port = self._listening.getsockname()
        facts = {"host": host, "port": port}
        if self.protocol == "vnc" and port >= 5900:
            facts["display"] = port - 5900
        return {**facts, "password": self._password} if self._password else facts

    def close(self) -> None:
        self._listening.close()


def _queried(query: str, vm: dict[str, Any]) -> Any:
    """What qemu's monitor says."""
    attrs = vm["attrs"]
    if query == "status":
        return {"running": True, "singlestep": False, "status": "running"}
    if query == "version":
        return {"qemu": {"micro": 1, "minor": 14, "major": 0}, "package": " (SmartOS)"}
    if query == "cpus":
        return [{"current": number == 0, "CPU": number} for number in range(_number(attrs.get("vcpus")) or 1)]
    if query == "block":
        return [{"device": f"disk{number}", "inserted": {"file": path}} for number, path in enumerate(vm["disks"])]
    return {"enabled": True, "present": True} if query == "kvm" else []


def _number(text: Optional[str]) -> Optional[int]:
    try:
        return int(text or "")
    except ValueError:
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    guests: Guests

    def do_GET(self) -> None:
        self._answer(*self._get(*self._asked()))

    def do_POST(self) -> None:
        parts, words = self._asked()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("utf-8", "replace")
        words.update({name: values[-1] for name, values in parse_qs(body).items()})
        self._answer(*self._post(parts, words))

    def _get(self, parts: list[str], words: dict[str, str]) -> Answer:
        if len(parts) != 3 or (parts[0], parts[2]) != ("vm", "info"):
            return 404, ""
        facts = self.guests.info(parts[1], [each for each in words.get("types", "").split(",") if each])
        return (500, "") if facts is None else (200, json.dumps(facts, indent=2))

    def _post(self, parts: list[str], words: dict[str, str]) -> Answer:
        if len(parts) != 2 or parts[0] != "vm":
            return 404, ""
        action, seconds = words.get("action"), words.get("timeout", "")
        if action == "stop" and seconds.replace(".", "", 1).isdigit():
            return self.guests.stop(parts[1], float(seconds))
        if action == "reset":
            return self.guests.reset(parts[1])
        if action == "reload_display":
            return self.guests.reload_display(parts[1])
        if action == "sysrq" and words.get("request") in ("nmi", "screenshot"):
            return self.guests.sysrq(parts[1], words["request"])
        return 400, ""

    def _asked(self) -> tuple[list[str], dict[str, str]]:
        asked = urlsplit(self.path)
        words = {name: values[-1] for name, values in parse_qs(asked.query).items()}
        return asked.path.strip("/").split("/"), words

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        if status != 404:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *words: Any) -> None:
        sys.stderr.write(f"vmadmd: {format % words}\n")


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def follow(guests: Guests, events: subprocess.Popen[str]) -> None:
    """Hand on each change of a zone; the end of the stream is the end of the node."""
    assert events.stdout is not None
    for line in events.stdout:
        event = json.loads(line)
        if event.get("class") == "status":
            guests.changed(event["data"]["zonename"], event["data"]["newstate"])
    os.kill(os.getpid(), signal.SIGTERM)


def main(argv: list[str]) -> int:
    words = argparse.ArgumentParser(prog="mockcn vmadmd", description="The helper of hardware VMs on a mock node.")
    words.add_argument("--root", required=True, metavar="DIR", help="the root folder of a mock node that runs")
    guests = Guests(words.parse_args(argv).root)
    path = guests.root + SOCKET
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    events = subprocess.Popen(
        [f"{guests.root}/usr/sbin/sysevent", "-rj", "-c", "com.sun:zones:status"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    ending = Ending()
    assert events.stdout is not None
    if not events.stdout.readline():
        sys.stderr.write(f"vmadmd: no mock node runs at {guests.root}\n")
        return 1
    threading.Thread(target=follow, args=[guests, events], name="zone events", daemon=True).start()
    # The name of a socket has to be short, and a root's need not be.
    os.chdir(os.path.dirname(path))
    with Server(os.path.basename(path), type("Bound", (Handler,), {"guests": guests})) as server:
        threading.Thread(target=server.serve_forever, name="requests", daemon=True).start()
        print(json.dumps({"ready": True, "socket": path}), flush=True)
        ending.wait()
        server.shutdown()
    events.terminate()
    events.wait()
    guests.close()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return 0
