# SPDX-License-Identifier: MPL-2.0
"""What `make run` does: a mock node, vminfod on it, the list of its VMs, then its changes as they happen.

Always: whatever happens, and however it ends, no process and no file of it is left behind.
It starts the product's programs as an operator would and imports nothing of it."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

_CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SBIN = os.path.join(_CHECKOUT, "usr", "vm", "sbin")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOP_SECONDS = 20.0  # for a process to end when it is asked to; then it is killed


class _Over(Exception):
    """It is over before it began: the text says why."""


class _Stop(BaseException):
    """Somebody wants us to stop: Ctrl-C, a terminal that goes away, a kill."""


class _Signals:
    """Signals become _Stop, but not while a process is being started: nothing could take it down then."""

    def __init__(self) -> None:
        self._held = self._pending = False

    def listen(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, self._take)

    def _take(self, *_: object) -> None:
        self._pending = True
        if not self._held:
            raise _Stop

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._pending:
            raise _Stop


_signals = _Signals()


def main() -> int:
    """Run until Ctrl-C; 1 if something could not be started."""
    options = _options()
    _signals.listen()
    status = 0
    cleanup = contextlib.ExitStack()
    try:
        _run(options, cleanup)
    except _Over as over:
        print(f"make run: {over}", file=sys.stderr)
        status = 1
    except _Stop:
        print()
    # Taking down takes a moment; a second Ctrl-C must not leave half of it.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    cleanup.close()
    print("everything is taken down")
    return status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--vms", type=int, default=30, help="VMs on the node (30)")
    parser.add_argument("--snapshots", type=int, default=0, help="additional snapshots (0)")
    parser.add_argument("--port", type=int, default=9090, help="the daemon's port (9090)")
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of zone XML files to add to the node",
    )
    return parser.parse_args()


def _run(options: argparse.Namespace, cleanup: contextlib.ExitStack) -> None:
    _check_port(options.port)
    with _signals.hold():
        folder = tempfile.mkdtemp(prefix="mockcn-")
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
    root = os.path.join(folder, "node")
    print(f"a mock compute node with {options.vms} VMs, in {root}", flush=True)
    words = ["--root", root, "--vms", str(options.vms), "--snapshots", str(options.snapshots)]
    for imported in options.imports:
        words += ["--import", imported]
    mock = _start(cleanup, [sys.executable, os.path.join(_CHECKOUT, "mockcn"), *words], stdout=subprocess.PIPE)
    if not mock.stdout.readline():
        raise _Over("the mock node did not start")

    log = os.path.join(folder, "vminfod.log")
    print(f"vminfod on port {options.port}, logging to {log}", flush=True)
    with open(log, "wb") as file:
        arguments = ["--root", root, "--port", str(options.port)]
        daemon = _start(cleanup, [sys.executable, os.path.join(_SBIN, "vminfod"), *arguments], stdout=file)
    environment = {**os.environ, "VMINFOD_PORT": str(options.port), "VMINFOD_HOST": "127.0.0.1"}
    _wait_until_served(daemon, environment)
    subprocess.run([os.path.join(_SBIN, "vmadm"), "list"], env=environment, check=False)
    _say_what_to_type(root, options.port, environment)
    _show_changes(cleanup, daemon, mock, environment)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise _Over(f"port {port} cannot be had ({error}): choose another, as in make run PORT=9091") from error


def _start(cleanup: contextlib.ExitStack, command: list[str], **pipes: object) -> subprocess.Popen:
    # Sessions of their own: a Ctrl-C is for us, and we take them down in order.
    with _signals.hold():
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **pipes)
        cleanup.callback(_stop, child)
    return child


def _stop(child: subprocess.Popen) -> None:
    child.terminate()
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _wait_until_served(daemon: subprocess.Popen, environment: dict[str, str]) -> None:
    ping = [os.path.join(_SBIN, "vminfo"), "ping"]
    started = said = time.monotonic()
    while subprocess.run(ping, env=environment, capture_output=True, check=False).returncode != 0:
        if daemon.poll() is not None:
            raise _Over("vminfod ended before it served anything; the line above says why")
        if time.monotonic() - said > 1.0:
            said = time.monotonic()
            print(f"vminfod loads the node ({said - started:.0f} s)", flush=True)
        time.sleep(0.1)


def _say_what_to_type(root: str, port: int, environment: dict[str, str]) -> None:
    lookup = [os.path.join(_SBIN, "vmadm"), "lookup", "state=running"]
    running = subprocess.run(lookup, env=environment, capture_output=True, text=True, check=False).stdout.split()
    uuid = running[0] if running else "UUID"
    sbin = os.path.relpath(_SBIN)
    print("\nIn a second terminal, from the same folder:\n")
    if port != 9090:
        print(f"  export VMINFOD_PORT={port}")
    print(f"  export VMADM_ROOT={root}")
    print(f"  {sbin}/vmadm list")
    print(f"  {sbin}/vmadm get {uuid}")
    print(f"  {sbin}/vmadm update {uuid} alias=changed-by-vmadm")
    print(f"  {sbin}/vminfo transaction {uuid} -- {root}/usr/sbin/zfs set quota=78g zones/{uuid}")
    print(f"  {sbin}/vminfo status")
    print(f"  {root}/usr/sbin/zfs set quota=77g zones/{uuid}")
    print(f"  {sys.executable if 'venv' not in sys.executable else 'python3'} mockcn ctl --root {root} --help")
    print("\nChanges as they happen (Ctrl-C takes everything down):\n", flush=True)


def _show_changes(
    cleanup: contextlib.ExitStack, daemon: subprocess.Popen, mock: subprocess.Popen, environment: dict[str, str]
) -> None:
    events = _start(cleanup, [os.path.join(_SBIN, "vminfo"), "events"], env=environment)
    ended = threading.Event()
    for child in (daemon, mock, events):
        threading.Thread(target=lambda child=child: (child.wait(), ended.set()), daemon=True).start()
    # A wait with a limit: one without would not let a signal through on every platform.
    while not ended.wait(1.0):
        continue
    raise _Over("one of the programs ended by itself; see above")


if __name__ == "__main__":
    sys.exit(main())
