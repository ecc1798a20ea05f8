# SPDX-License-Identifier: MPL-2.0
"""`python3 mockcn --root DIR`: lay out a node, say that it is ready, stay until a signal ends it, clear up.

`python3 mockcn ctl --root DIR ...` talks to a node that runs (ctl.py)."""

import argparse
import json
import os
import sys
import time

if __package__ in (None, ""):  # started as a folder: make the folder above importable, as `python3 -m` does
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from mockcn import ctl
from mockcn.ending import Ending
from mockcn.layout import Layout, RootInUse
from mockcn.life import filtering, vmadmd
from mockcn.node import Node
from mockcn.orders import Orders
from mockcn.population import filling, importer
from mockcn.progress import say
from mockcn.server import Server

PARENT_EVERY = 1.0  # seconds between looks whether the parent still lives

ABOUT = """A mock SmartOS compute node, for running and testing vminfod where there is no SmartOS.

Lays out under DIR what vminfod reads: etc/zones/*.xml and index, zones/<uuid>/config/*.json, tmp/.sysinfo.json, and
executables with the platform's interfaces: usr/sbin/zoneadm, usr/sbin/zfs, usr/sbin/sysevent, usr/bin/kstat and
usr/vm/sbin/fswatcher. For what writes there are also usr/sbin/zonecfg, zlogin, imgadm, nictagadm and more, and zones
install, boot and stop over time. They talk to this process, which holds the node's state and stays until SIGTERM or
Ctrl-C; then it removes what it made."""
EXAMPLES = """examples:
  python3 mockcn --root /tmp/node                         a node with 30 VMs
  python3 mockcn --root /tmp/node --vms 1000 --snapshots 50000
  python3 mockcn --root /tmp/node --boot-seconds 5        zones that boot slowly
  python3 mockcn --root /tmp/node --vms 0 --import DIR    the zones whose XML files are in DIR, and no others
  /tmp/node/usr/sbin/zoneadm list -p -c                   in a second terminal: ask it
  python3 mockcn ctl --root /tmp/node --help              ... change it, break it

When the node is ready one line of JSON appears on standard output: {"ready":true,"root":DIR,...}."""


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog="mockcn", description=ABOUT, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument(
        "--root", required=True, metavar="DIR", help="folder to lay the node out in; must be empty or not there"
    )
    words.add_argument(
        "--vms", type=int, default=30, metavar="N", help="number of VMs (30); from 30 on the odd ones too"
    )
    words.add_argument(
        "--snapshots", type=int, default=0, metavar="M", help="further snapshots, spread over the VMs (0)"
    )
    words.add_argument("--seed", type=int, default=1, help="same seed, same node (1)")
    words.add_argument(
        "--import",
        action="append",
        default=[],
        dest="imports",
        metavar="DIR",
        help="also take the zone XML files (*.xml) in DIR, unchanged; can be given again",
    )
    words.add_argument("--install-seconds", type=float, metavar="S", help="how long zoneadm install takes (0.3)")
    words.add_argument("--boot-seconds", type=float, metavar="S", help="from ready to running (0.3)")
    words.add_argument("--halt-seconds", type=float, metavar="S", help="from shutting_down to installed (0.1)")
    words.add_argument(
        "--shutdown-seconds", type=float, metavar="S", help="until a guest that was asked to shut down does (0.3)"
    )
    words.add_argument(
        "--guest-seconds",
        type=float,
        metavar="S",
        help="from running until the guest is done with its /var/svc/provisioning (0.5)",
    )
    words.add_argument(
        "--no-kernel-mounts", action="store_true", help="mount only what needs no privilege: folders of snapshots"
    )
    words.add_argument("--keep", action="store_true", help="leave the files under DIR when ending")
    words.add_argument("--with-parent", type=int, metavar="PID", help="end also when the parent is no longer PID")
    return words


def pace(options: argparse.Namespace) -> dict[str, float]:
    """The seconds that were given, by the names that pace.py has for them."""
    given = {name: getattr(options, f"{name}_seconds") for name in ("install", "boot", "halt", "shutdown", "guest")}
    return {name: seconds for name, seconds in given.items() if seconds is not None}


def main(argv: list[str]) -> int:
    if argv[:1] == ["ctl"]:
        return ctl.main(argv[1:])
    if argv[:1] == ["vmadmd"]:
        return vmadmd.main(argv[1:])
    options = parser().parse_args(argv)
    for folder in options.imports:
        if not os.path.isdir(folder):
            say(f"--import {folder}: no such folder")
            return 1
    if options.vms < 0 or options.snapshots < 0:
        say("--vms and --snapshots take numbers from 0 on")
        return 1
    if any(seconds < 0 for seconds in pace(options).values()):
        say("seconds are numbers from 0 on")
        return 1
    ending = Ending()
    try:
        layout = Layout(options.root)
    except (RootInUse, OSError) as err:
        say(str(err))
        return 1
    try:
        return run(layout, options, ending)
    finally:
        if options.keep:
            layout.close()
        else:
            layout.remove()


def run(layout: Layout, options: argparse.Namespace, ending: Ending) -> int:
    started = time.monotonic()
    node = Node(layout, options.seed, kernel_mounts=not options.no_kernel_mounts)
    node.pace.change(pace(options))
    node.zones.booting = lambda zone: filtering.load(node, zone)

    def progress(line: str) -> None:
        say(line)
        if ending.is_asked():
            raise KeyboardInterrupt

    try:
        filling.populate(node, options.vms, options.snapshots, progress)
        for folder in options.imports:
            importer.take(node, folder)
    except KeyboardInterrupt:
        return 1
    orders = Orders(node)
    server = Server(node, orders)
    orders.server = server
    layout.install_tools()
    server.start()
    layout.point_to_socket()
    print(
        json.dumps(
            {
                "ready": True,
                "root": layout.root,
                "vms": node.vm_count(),
                "pid": os.getpid(),
                "seconds": round(time.monotonic() - started, 3),
            },
            separators=(",", ":"),
        ),
        flush=True,
    )
    while not ending.wait(PARENT_EVERY if options.with_parent else None):
        if os.getppid() != options.with_parent:
            say("the process that started this node is gone, so the node ends too")
            break
    server.stop()
    node.overlays.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
