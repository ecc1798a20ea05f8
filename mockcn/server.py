# SPDX-License-Identifier: MPL-2.0
"""The node's socket: tools and control connect here, each connection has a thread.

A connection starts with one message, four bytes of length and words joined by NUL (tools/link.py):

    run      TOOL PID WORD...   a thin tool; answered by frames `o` (stdout), `e` (stderr) and last `x` (exit status)
                                or `k` (end yourself by this signal); `i` asks for its stdin, which comes as one
                                message more, `r` for so many bytes of it, which come likewise
    hello    TOOL PID WORD...   a tool that works by itself; an `f` frame (fault) now, and others when orders come
    control  JSON               answered by one JSON text, then closed

Always: whatever a client does (dies midway, sends nonsense, never reads), only its own connection ends.
Always: the fault that applies to a call is decided before the command runs."""

import json
import os
import socket
import struct
import threading
from typing import Any, Callable, Optional

from mockcn.commands import (
    brandscripts,
    copying,
    dladm,
    imgadm,
    kstat,
    mounting,
    nictagadm,
    processes,
    simple,
    sysevent,
)
from mockcn.commands.firewall import fwadm, ipf
from mockcn.commands.output import CommandFailed, Output
from mockcn.commands.zfs import zfs
from mockcn.commands.zones import zlogin, zoneadm, zonecfg
from mockcn.faulty_output import FaultyOutput, ToolEnds
from mockcn.incoming import LONGEST_MESSAGE, Incoming
from mockcn.layout import BRAND_SCRIPTS
from mockcn.node import Node
from mockcn.progress import say
from mockcn.state.events import Subscriber
from mockcn.state.faults import Fault

BACKLOG = 512  # connections waiting to be taken: a burst of tools is no reason to refuse one
COMMANDS: dict[str, Callable[[Node, list[str], Output], int]] = {
    "zoneadm": zoneadm.main,
    "zonecfg": zonecfg.main,
    "zfs": zfs.main,
    "kstat": kstat.main,
    "imgadm": imgadm.main,
    "nictagadm": nictagadm.main,
    "zlogin": zlogin.main,
    "zpool": simple.zpool,
    "zdb": simple.zdb,
    "prctl": simple.prctl,
    "dladm": dladm.main,
    "svccfg": simple.silent,
    "svcadm": simple.silent,
    "svcs": simple.silent,
    "mount": mounting.mount,
    "umount": mounting.umount,
    "kill": processes.kill,
    "pwait": processes.pwait,
    "ptree": processes.ptree,
    "cp": copying.cp,
    "rsync": copying.rsync,
    **dict.fromkeys(BRAND_SCRIPTS.values(), brandscripts.install),
    "fwadm": fwadm.main,
    "ipf": ipf.ipf,
    "ipfstat": ipf.ipfstat,
    "bhyvectl": processes.bhyvectl,
}


class Client:
    """One connection. `gone` is set when the other side has closed it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.gone = Incoming(connection)
        self.tool = ""
        self.pid = 0
        self._sending = threading.Lock()

    def frame(self, kind: bytes, payload: bytes) -> None:
        """Send one frame. Raises ConnectionError or OSError when the other side is gone."""
        with self._sending:
            self.connection.sendall(kind + struct.pack(">I", len(payload)) + payload)

    def order(self, payload: bytes) -> bool:
        """Send an order to a tool that listens. False if it has just gone."""
        try:
            self.frame(b"f", payload)
        except OSError:
            return False
        return True

    def signal(self, number: int) -> bool:
        """Send it a signal. False if it has just gone."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def ask(self, wanted: Optional[int] = None) -> bytes:
        """The tool's standard input, or the next `wanted` bytes of it. Raises EOFError when the tool ends instead."""
        self.frame(b"i" if wanted is None else b"r", b"" if wanted is None else struct.pack(">I", wanted))
        return self.gone.message()


class Server:
    def __init__(self, node: Node, orders: Any) -> None:
        self._node = node
        self._orders = orders
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(node.layout.socket)
        self._listening.listen(BACKLOG)
        self._lock = threading.Lock()
        self._clients: set[Client] = set()
        self._stopping = False

    def start(self) -> None:
        threading.Thread(target=self._accept, name="accept", daemon=True).start()

    def stop(self) -> None:
        """Take no more connections, close those there are, and leave the node's lock held: nothing changes any more."""
        self._stopping = True
        self._listening.close()
        for client in self.clients():
            try:
                client.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it was faster
        self._node.lock.acquire()

    def clients(self, tool: Optional[str] = None) -> list[Client]:
        """Connections of tools that run now."""
        with self._lock:
            return [client for client in self._clients if tool in (None, client.tool)]

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._listening.accept()
            except OSError as err:
                if self._stopping:
                    return
                say(f"cannot take a connection: {err}")
                threading.Event().wait(0.1)
                continue
            threading.Thread(target=self._serve, args=[connection], name="client", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        client = Client(connection)
        with self._lock:
            self._clients.add(client)
        try:
            self._talk(client)
        except (OSError, EOFError):
            pass  # the tool died or was killed: nothing of the node depends on it
        except Exception as err:  # noqa: BLE001 - a fault of ours in one call must not take the node down
            say(f"{client.tool or 'a client'}: {type(err).__name__}: {err}")
        finally:
            with self._lock:
                self._clients.discard(client)
            connection.close()

    def _talk(self, client: Client) -> None:
        size = struct.unpack(">I", _exactly(client.connection, 4))[0]
        if size > LONGEST_MESSAGE:
            return
        verb, _, rest = _exactly(client.connection, size).partition(b"\0")
        if verb == b"control":
            answer = json.dumps(self._orders.carry_out(json.loads(rest))).encode()
            client.connection.sendall(answer)
            return
        tool, pid, *words = rest.decode("utf-8", "surrogateescape").split("\0")
        client.tool, client.pid = tool, int(pid)
        fault = self._node.faults.called(tool, words, client.pid)
        if verb == b"hello":
            client.frame(b"f", encode_fault(fault.words() if fault else {}))
            client.gone.wait()
        elif verb == b"run":
            self._run(client, tool, words, fault)

    def _run(self, client: Client, tool: str, words: list[str], fault: Optional[Fault]) -> None:
        send = client.frame if fault is None else FaultyOutput(client.frame, client.gone, fault)
        output = Output(send, client.gone, client.ask)
        try:
            if isinstance(send, FaultyOutput):
                output.strike = send.reached
                send.before()
            status = self._command(client, tool, words, output)
            output.flush()
            if isinstance(send, FaultyOutput):
                status = send.after(status)
        except CommandFailed as err:
            output.error(err.message)
            status = err.status
        except ToolEnds as err:
            if err.signal is not None:
                client.frame(b"k", str(err.signal).encode())
                return
            status = err.status
        except Exception as err:
            client.frame(b"e", f"{tool}: the mock node failed: {type(err).__name__}: {err}\n".encode())
            client.frame(b"x", b"1")
            raise
        client.frame(b"x", str(status).encode())

    def _command(self, client: Client, tool: str, words: list[str], output: Output) -> int:
        if tool == "sysevent":
            return sysevent.main(self._node, words, output, lambda subscriber: _close_with(client, subscriber))
        return COMMANDS[tool](self._node, words, output)


def encode_fault(words: dict[str, str]) -> bytes:
    """A fault or order as an `f` frame holds it."""
    return "\0".join(part for pair in words.items() for part in pair).encode("utf-8", "surrogateescape")


def _close_with(client: Client, subscriber: Subscriber) -> None:
    """End the subscription as soon as the tool is gone."""

    def wait() -> None:
        client.gone.wait()
        subscriber.close()

    threading.Thread(target=wait, name=f"close {client.pid}", daemon=True).start()


def _exactly(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        piece = connection.recv(min(1 << 20, size - len(received)))
        if not piece:
            raise EOFError
        received += piece
    return bytes(received)
