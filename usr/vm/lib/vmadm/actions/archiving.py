# SPDX-License-Identifier: MPL-2.0
"""What a delete keeps of a VM that has `archive_on_delete`: its object, its configuration, its datasets' properties and
its logs, in /zones/archive/UUID (docs/vmadm.md, "Archives").

Always: the archive appears whole, by a rename, and one that is there is left alone. What lies in the zone's root is a
        tenant's: links there are copied as links, and nothing is reached through one.
A part that cannot be had is logged, and stops neither the archive nor the delete."""

from __future__ import annotations

import time
from collections.abc import Iterator

from vmadm.actions.session import Session
from vmadm.node.rootswap import existing
from vmadm.node.zonefolder import ZoneFolder
from vminfod.clients.plainjson import pretty
from vmload import Vm

ARCHIVES = "/zones/archive"

# Folder of the archive -> (folder below the zonepath, how the names of what is kept of it begin).
Kept = tuple[tuple[str, str, str], ...]
OF_ALL: Kept = (("platform", "logs", "platform.log"),)
OF_KVM: Kept = (("vmlogs", "root/tmp", "vm"),)
OF_DOCKER: Kept = (("dockerinit", "root/var/log", "sdc-dockerinit.log"), ("docker", "logs", "stdio.log."))
OF_LX: Kept = (("logs", "root/var/log", "triton.log"),)
OF_OTHERS: Kept = (("svclogs", "root/var/svc/log", ""), ("admmsgs", "root/var/adm", "messages"))
FOLDERS = ("config", "cores")  # of the zonepath, kept whole
STARTVM = "root/startvm"
STDIO = "logs/stdio.log"


def archive(session: Session, vm: Vm) -> None:
    """Keep what is to be kept of a VM whose zone is down. Raises NotWritten where there is no place for it."""
    node = session.node
    target = f"{ARCHIVES}/{vm['uuid']}"
    if node.exists(target):
        return
    making = target + ".new"
    node.make_folder(ARCHIVES)
    ZoneFolder(node, ARCHIVES).remove_folder(f"{vm['uuid']}.new")  # of a delete that was killed
    node.make_folder(making)
    node.write(f"{making}/vm.json", pretty(vm) + "\n")
    session.try_to("archive the datasets", lambda: _dump_datasets(session, vm, f"{making}/zfs.dump"), uuid=vm["uuid"])
    for source, place in (*_of_node(vm), *_of_zone(session, vm)):
        folder = f"{making}/{place}".rpartition("/")[0]
        node.make_folder(folder)
        _copy(session, vm, source, f"{making}/{place}")
    node.rename(making, target)


def _of_node(vm: Vm) -> Iterator[tuple[str, str]]:
    yield f"/etc/zones/{vm['zonename']}.xml", "zone.xml"


def _of_zone(session: Session, vm: Vm) -> Iterator[tuple[str, str]]:
    """(path of the node, place in the archive) of each file and folder below the zonepath."""
    folder = ZoneFolder(session.node, vm["zonepath"])
    for place, where, begin in _kept(vm):
        for name in _names(session, folder, where):
            if name.startswith(begin) and (place != "vmlogs" or ".log" in name):
                yield folder.path(f"{where}/{name}"), f"{place}/{name}"
    for name in FOLDERS:
        if folder.exists(name):
            yield folder.path(name), name
    if vm["brand"] == "kvm" and folder.is_file(STARTVM):
        yield folder.path(STARTVM), "startvm"
    if vm.get("docker") and folder.is_file(STDIO):
        yield folder.path(STDIO), f"docker/stdio.log.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"


def _names(session: Session, folder: ZoneFolder, inside: str) -> list[str]:
    """What is in a folder of the zone, with no link on the way to it."""
    names: list[str] = []
    session.try_to(f"look into {folder.path(inside)}", lambda: names.extend(folder.names(inside)))
    return names


def _kept(vm: Vm) -> Kept:
    if vm["brand"] == "kvm":
        return OF_ALL + OF_KVM
    if vm.get("docker"):
        return OF_ALL + OF_DOCKER
    return OF_ALL + (OF_LX if vm["brand"] == "lx" else OF_OTHERS)


def _copy(session: Session, vm: Vm, source: str, target: str) -> None:
    session.try_to(f"archive {source}", lambda: session.node.must("cp", "-RP", source, target), uuid=vm["uuid"])


def _dump_datasets(session: Session, vm: Vm, path: str) -> None:
    """All properties of the VM's datasets and their snapshots, as `zfs get` prints them."""
    root = vm["zonepath"].lstrip("/")
    pool, _, label = root.partition("/")
    disks = [str(disk["zfs_filesystem"]) for disk in vm.get("disks") or [] if disk.get("zfs_filesystem")]
    outside = [disk for disk in disks if not disk.startswith(root + "/")]
    names = sorted(existing(session.node, [root, f"{pool}/cores/{label}", *outside]))
    text = session.node.must("zfs", "get", "-rpH", "all", *names).stdout if names else ""
    session.node.write(path, text)
