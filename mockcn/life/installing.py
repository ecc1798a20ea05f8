# SPDX-License-Identifier: MPL-2.0
"""Installing and uninstalling a zone: index, datasets and folders, in the order that vmadm's waits rely on
(docs/platform.md, "zoneadm that changes").

    configured --> incomplete --> root dataset cloned or made --> quota --> cores dataset --> installed
    installed --> incomplete --> datasets destroyed --> configured

A zone that is being received has its datasets already: installing it touches none, and attaching it makes its cores.
Always: a failure, or a tool that is killed, leaves the zone `incomplete` with what was done so far; uninstall clears it
        up. `zone.busy` is held throughout, the node's lock for one step.
`reached` is called with `incomplete`, `cloned`, `quota`, `cores`, `installed`, and of `incomplete`, `destroyed`,
`configured`, each before it is done. Not here: zoneadm's options (commands/zones/zoneadm_change.py)."""

import os
import time
from dataclasses import dataclass
from typing import Optional

from mockcn.life.transitions import Reached
from mockcn.node import Node
from mockcn.state import zonexml
from mockcn.state.datasets import Snapshot
from mockcn.state.pools import NoDataset
from mockcn.state.zones import Zone, ZoneError

GIB = 1 << 30
CORES_QUOTA = 100 * GIB  # bytes of a zone's cores dataset
FOLDERS = (
    "config",
    "root/etc",
    "root/root",
    "root/tmp",
    "root/var/adm",
    "root/var/log",
    "root/var/svc",
    "root/var/tmp",
)  # below the zonepath, whatever the image has
PRIVATE_MODE = 0o700  # of the zonepath: only root gets into a zone's files from outside


@dataclass(frozen=True)
class Wanted:
    """What zoneadm install was asked for: quota in GiB (None: not said, 0: none), image's uuid or empty."""

    quota: Optional[int] = None
    image: str = ""


def install(node: Node, zone: Zone, wanted: Wanted, reached: Reached) -> None:
    """Raises ZoneError before anything is done, ZfsError or ConnectionError halfway."""
    with zone.busy:
        with node.lock:
            _check_installable(zone)
            _check_filesystems(node, zone)
            receiving = _is_receiving(node, zone)
        reached("incomplete")
        with node.lock:
            node.zones.set_state(zone, "incomplete")
        step = node.pace.install / 4
        time.sleep(step)
        if not receiving:
            _make_datasets(node, zone, wanted, step, reached)
        reached("installed")
        with node.lock:
            node.zones.set_state(zone, "installed")


def _make_datasets(node: Node, zone: Zone, wanted: Wanted, step: float, reached: Reached) -> None:
    reached("cloned")
    with node.lock:
        _make_root(node, zone, wanted.image)
    time.sleep(step)
    reached("quota")
    with node.lock:
        _set_quota(node, zone, wanted.quota)
    time.sleep(step)
    reached("cores")
    with node.lock:
        _make_cores(node, zone)
        make_folders(node, zone)
    time.sleep(step)


def _is_receiving(node: Node, zone: Zone) -> bool:
    """What the brand's script looks for."""
    transition = zonexml.attr(zonexml.parse(node.zones.read_xml(zone)), "transition") or ""
    return transition.startswith("receiving:")


def uninstall(node: Node, zone: Zone, reached: Reached) -> None:
    """Raises ZoneError before anything is done, ZfsError halfway, the zone then is incomplete."""
    with zone.busy:
        with node.lock:
            if zone.kernel is not None:
                raise ZoneError(f"zoneadm: zone '{zone.name}': uninstall operation is invalid for running zones.")
            if zone.state == "configured":
                raise ZoneError(f"zoneadm: zone '{zone.name}': is already in state 'configured'.")
        reached("incomplete")
        with node.lock:
            if zone.state != "incomplete":
                node.zones.set_state(zone, "incomplete")
        reached("destroyed")
        with node.lock:
            names = datasets(node, zone)
        for name in names:
            with node.lock:
                if node.pools.exists(name):
                    node.pools.destroy(node.pools.dataset(name), recursive=True)
        reached("configured")
        with node.lock:
            node.mounts.remove(zone.zonepath)
            node.zones.set_state(zone, "configured")


def datasets(node: Node, zone: Zone) -> list[str]:
    """The datasets that go with the zone: cores, delegated ones elsewhere, the root with all below it."""
    root = zone.zonepath.lstrip("/")
    names = [_cores(zone)]
    try:
        element = zonexml.parse(node.zones.read_xml(zone))
        names += [
            child.get("name", "")
            for child in element.findall("dataset")
            if not child.get("name", "").startswith(root + "/")
        ]
    except (OSError, zonexml.NotXml):
        pass  # unreadable: then nothing but its own place is known
    return [*names, root]


def _check_installable(zone: Zone) -> None:
    where = f"zoneadm: zone '{zone.name}': "
    if zone.state == "installed":
        raise ZoneError(f"{where}is already installed.")
    if zone.state == "incomplete":
        raise ZoneError(f"{where}zone is incomplete; uninstall required.")


def _check_filesystems(node: Node, zone: Zone) -> None:
    try:
        element = zonexml.parse(node.zones.read_xml(zone))
    except (OSError, zonexml.NotXml) as err:
        raise ZoneError(f"zoneadm: {zone.name}: Invalid document") from err
    for filesystem in element.findall("filesystem"):
        source = filesystem.get("special", "")
        if filesystem.get("type") == "lofs" and not os.path.exists(node.real(source)):
            raise ZoneError(
                f"could not verify fs {filesystem.get('directory')}: could not access {source}: "
                f"No such file or directory\nzoneadm: zone {zone.name} failed to verify"
            )


def _image(node: Node, pool: str, uuid: str) -> Snapshot:
    """The snapshot that zones are cloned from: @final, else the newest. Raises NoDataset."""
    snapshots = node.pools.dataset(f"{pool}/{uuid}").snapshots
    if not snapshots:
        raise NoDataset(f"{pool}/{uuid}@final")
    return snapshots.get("final") or list(snapshots.values())[-1]


def _make_root(node: Node, zone: Zone, image: str) -> None:
    root = zone.zonepath.lstrip("/")
    if image:
        node.pools.clone(_image(node, root.split("/")[0], image), root)
    elif not node.pools.exists(root):  # a bhyve VM has it already, with its disks below
        node.pools.create(root)


def _set_quota(node: Node, zone: Zone, quota: Optional[int]) -> None:
    if quota:
        # Disks of bhyve lie below the root dataset: a quota would count them, refquota does not.
        name = "refquota" if zone.brand == "bhyve" else "quota"
        root = node.pools.dataset(zone.zonepath.lstrip("/"))
        node.pools.set(root, [node.pools.check_set(root, name, str(quota * GIB))])


def _cores(zone: Zone) -> str:
    pool, _, label = zone.zonepath.lstrip("/").partition("/")
    return f"{pool}/cores/{label}"


def _make_cores(node: Node, zone: Zone) -> None:
    name = _cores(zone)
    parent = name.rsplit("/", 1)[0]
    if not node.pools.exists(parent):
        node.pools.create(parent, {"mountpoint": f"/{parent.split('/')[0]}/global/cores"})
    if not node.pools.exists(name):
        node.pools.create(name, {"quota": CORES_QUOTA, "mountpoint": f"{zone.zonepath}/cores"})


def make_folders(node: Node, zone: Zone) -> None:
    """What each zone has below its zonepath, whatever the image brought."""
    for folder in FOLDERS:
        _make_inside(node.real(zone.zonepath), folder.split("/"))
    os.chmod(node.real(zone.zonepath), PRIVATE_MODE)


def _make_inside(path: str, names: list[str]) -> None:
    """The folders of a path, down to the first link: where that leads is the image's business, and may be outside."""
    for name in names:
        path = os.path.join(path, name)
        if os.path.islink(path):
            return
        os.makedirs(path, exist_ok=True)


def detach(node: Node, zone: Zone) -> None:
    """Installed to configured, the datasets stay. Raises ZoneError."""
    with zone.busy, node.lock:
        if zone.kernel is not None:
            raise ZoneError(f"zoneadm: zone '{zone.name}': detach operation is invalid for running zones.")
        if zone.state != "installed":
            raise ZoneError(f"zoneadm: zone '{zone.name}': must be installed before detach.")
        node.zones.set_state(zone, "configured")


def attach(node: Node, zone: Zone) -> None:
    """Configured to installed, with datasets that are there already. Raises ZoneError."""
    with zone.busy, node.lock:
        _check_installable(zone)
        if not node.pools.exists(zone.zonepath.lstrip("/")):
            raise ZoneError(f"zoneadm: zone '{zone.name}': cannot attach, there is no {zone.zonepath}")
        _make_cores(node, zone)
        node.zones.set_state(zone, "installed")
