# SPDX-License-Identifier: MPL-2.0
"""`vmadm create`: make a VM.

    configured --install--> incomplete --> provisioning --boot, the zone's services are done--> running
                                                  \\-- autoboot=false --> stopped

Each step that readers can see ends with a fresh read, so that those who follow events see the steps one by one.
Always: a create that fails, or is interrupted, takes away what it has made and says so. The exception is a zone whose
        own services do not get done in time: it is marked `failed`, stopped, and left to be looked at.
Always: what was there before is never touched: a zone or a dataset of that name refuses the create.
The config lock is held until the VM is whole, and not while it boots."""

from __future__ import annotations

import time
import uuid as uuids
from dataclasses import replace
from typing import Optional

from vmadm.actions import firewall, firstboot
from vmadm.actions.deleting import clean_up, exists
from vmadm.actions.gathering import check_hypervisor, gather
from vmadm.actions.outcome import Expected, confirmed, exactly, of_create, there_in
from vmadm.actions.readying import made_ready
from vmadm.actions.session import Session
from vmadm.actions.steps import Step, Steps
from vmadm.actions.updating import write_config
from vmadm.errors import BadPayload, VmadmError, VmNotFound
from vmadm.node import hostfiles, volumes, zfs, zonecfg, zonecfg_blocks
from vmadm.node.machine import INSTALL_LIMIT
from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload import Payload, dockerhost, metadata
from vmadm.payload.change import Change, Elements, Filesystem, Properties, named
from vmadm.payload.nodefacts import facts_needed
from vmadm.payload.parsing import brand_of, parse_create, uuid_of
from vmadm.payload.unset import UNSET, said
from vmload import Vm, brands
from vmload.uuids import is_uuid

RAM_A_LIMIT = 4096  # MiB; the time for provisioning is once for each, with a hardware VM
CREATE_VOLUME = "create-volume"  # as the source of a filesystem: make one


def create(session: Session, payload: Payload) -> Vm:
    """Make the VM; gives it as it then is. Raises VmadmError."""
    brand_of(payload)
    uuid = uuid_of(payload)
    name = f"VM.js createZone ({uuid})"
    making = _Making(session, name, uuid)
    try:
        _look(session, uuid, name)  # no lock file before vminfod has answered
        with session.config_lock(uuid):
            if _look(session, uuid, name) is not None:
                raise BadPayload([f"VM with UUID {uuid} already exists"])
            making.make(parse_create(payload, gather(session, facts_needed(payload), name, uuid), uuid))
        return making.boot()
    except firstboot.NotProvisioned:
        raise
    except (VmadmError, KeyboardInterrupt) as error:
        raise making.cleaned_up(error) from error


class _Making:
    """One create under way; `made` is what is to be taken away if it fails (delete.clean_up())."""

    def __init__(self, session: Session, name: str, uuid: str) -> None:
        self.session, self.node, self.name, self.uuid = session, session.node, name, uuid
        self._change: Optional[Change] = None
        self.made: list[str] = []
        self.steps = Steps(session.check_interrupted, session.step)
        self.expire = 0.0
        self.legacy_image = False
        self.config_files: dict[str, str] = {}  # below the zonepath: name -> text
        self.host_files: dict[str, str] = {}  # of a docker container's VM
        self.host_mounts: list[Filesystem] = []

    @property
    def change(self) -> Change:
        """What is made; there is one once the payload has been parsed."""
        assert self._change is not None
        return self._change

    @property
    def vm(self) -> Properties:
        """The new VM's properties."""
        return self.change.properties

    @property
    def root(self) -> str:
        """The root dataset."""
        return f"{self.change.zpool}/{self.change.zonename}"

    @property
    def folder(self) -> ZoneFolder:
        """What lies below the zonepath."""
        return ZoneFolder(self.node, f"/{self.root}")

    def make(self, change: Change) -> None:
        """Everything up to a VM that is stopped, or about to boot. Raises VmadmError."""
        self._change = change
        self.config_files = metadata.file_contents(metadata.changed_maps(change.maps, {}), {})
        if dockerhost.is_docker(change, {}):
            self.host_files = dockerhost.host_files(change, {})
            self.host_mounts = dockerhost.mounts(change, f"/{self.root}")
        check_hypervisor(self.node, change.brand)
        self._check_image()
        # Who makes another of that name at the same moment waits, and finds it taken: zonecfg would change this one.
        with self.session.config_lock(change.zonename):
            self._check_free()
            self.steps.run(self._steps())

    def boot(self) -> Vm:
        """Boot it if it is to be, and wait until it is provisioned. Raises VmadmError."""
        if self.vm.autoboot is True:
            self.steps.run([("boot", self._boot)])
            return self._confirmed([])
        return self._confirmed([exactly("state", "stopped")])

    def cleaned_up(self, error: BaseException) -> VmadmError:
        """The error to raise, after taking away what was made."""
        raised = error if isinstance(error, VmadmError) else VmadmError("interrupted")
        if not self.made:
            return raised
        where = {"uuid": self.uuid, "zonename": self.change.zonename, "zpool": self.change.zpool}
        left = clean_up(self.session, where, self.made, self.name)
        if left:
            what = f"could not remove all that was made of it ({'; '.join(left)}): run vmadm delete {self.uuid}"
        else:
            what = f"what was made of VM {self.uuid} has been removed"
        raised.args = (f"{raised}; {what}",)
        return raised

    # Before anything is touched.

    def _check_image(self) -> None:
        brand, image = self.change.brand, said(self.vm.image_uuid, "")
        if brand == "bhyve" and image:
            raise BadPayload([f"image_uuid is for a zone's root, and a bhyve VM has none: name {image} in disks"])
        if image:
            self.legacy_image = firstboot.check_image(self.node, brand, self.change.zpool, image)

    def _check_free(self) -> None:
        """No other zone or dataset stands where ours is to be."""
        if self.node.exists(f"/etc/zones/{self.change.zonename}.xml"):
            raise VmadmError(f"zone {self.change.zonename} exists already")
        for dataset in (self.root, *(disk.volume for disk in self.change.disks.add if disk.volume is not None)):
            if exists(self.node, dataset):
                raise VmadmError(f"dataset {dataset} exists already: {zfs.LEFT_BY_A_CREATE}")

    # The steps.

    def _steps(self) -> list[Step]:
        vm = self.vm
        steps: list[Step] = []
        if brands.is_hvm(self.change.brand):
            steps.append(("disks", self._make_disks))
        steps += [("zonecfg", self._configure), ("install", self._install)]
        settings = named(vm)
        if settings.keys() & zfs.ROOT_PROPERTIES.keys():
            steps.append(
                ("zfs properties", lambda: zfs.set_properties(self.node, settings, {"zfs_filesystem": self.root}))
            )
        if vm.indestructible_zoneroot is True:
            steps.append(("indestructible zoneroot", lambda: zfs.make_indestructible(self.node, self.root)))
        if vm.delegate_dataset is True:
            steps.append(("delegated dataset", self._delegate))
        steps += [
            ("config files", self._write_config),
            ("filesystems", self._add_volumes),
            *([("files of the host", self._mount_host_files)] if self.host_mounts else []),
            ("files in the zone", self._prepare_root),
            *([("firewall", self._add_to_firewall)] if self.change.nics.add else []),
            ("remove the provisioning mark", self._unmark),
        ]
        return steps

    def _make_disks(self) -> None:
        change = self.change
        if change.brand == "bhyve":
            self.made.append(self.root)
            self.node.must("zfs", "create", self.root)
        else:
            self.made += [disk.volume for disk in change.disks.add if disk.volume is not None]
        volumes.create_volumes(self.node, change.disks.add, self.root, self.uuid)

    def _configure(self) -> None:
        change, now, seconds = self.change, time.time(), firstboot.LIMIT
        if brands.is_hvm(change.brand):
            seconds *= max(1, said(change.properties.ram, 0) // RAM_A_LIMIT)
        self.expire = now + seconds
        plain = Elements(add=tuple(each for each in change.filesystems.add if not self._comes_later(each)))
        script = zonecfg.create_script(
            replace(change, filesystems=plain),
            created=_iso(now),
            transition_expire=int(self.expire * 1000) if change.properties.autoboot is True else None,
        )
        self.made.append("zone")
        self.session.must_zonecfg(self.uuid, script=script, zonename=change.zonename)
        self._confirmed([])

    def _install(self) -> None:
        change, quota = self.change, said(self.vm.quota, 0)
        words = ["-z", change.zonename, "install", "-q", str(quota)]
        if change.brand == "bhyve":
            words += ["-x", "nodataset"]
        elif said(self.vm.image_uuid, ""):
            words += ["-t", str(self.vm.image_uuid), "-x", "nodataset"]
        if self.root not in self.made:
            self.made.append(self.root)
        self.node.must("zoneadm", *words, limit=INSTALL_LIMIT)
        if change.brand == "bhyve":
            zfs.set_bhyve_quota(self.node, self.root, quota, said(self.vm.flexible_disk_size, 0))
        self._confirmed(
            [
                exactly("zone_state", "installed"),
                exactly("zfs_filesystem", self.root),
                exactly("zpool", change.zpool),
                exactly("zonepath", f"/{self.root}"),
            ]
        )

    def _delegate(self) -> None:
        vm, data = self.vm, f"{self.root}/data"
        options = []
        for value, prop in ((vm.zfs_data_compression, "compression"), (vm.zfs_data_recsize, "recsize")):
            if value is not UNSET and value:
                options += ["-o", f"{prop}={value}"]
        self.node.must("zfs", "create", *options, data)
        self.session.must_zonecfg(self.uuid, zonecfg.add_dataset(data))
        if vm.indestructible_delegated is True:
            zfs.make_indestructible(self.node, data)

    def _write_config(self) -> None:
        """An image can bring config files of its own: they go first."""
        self.folder.remove_folder("config")
        self.folder.make_folder("config")
        there = {"zonepath": f"/{self.root}"}
        write_config(self.session, there, dict.fromkeys(metadata.FILES, metadata.EMPTY_FILE))
        write_config(self.session, there, self.config_files)

    def _comes_later(self, filesystem: Filesystem) -> bool:
        """Whether its source is made below the root, once there is one."""
        return _is_volume(filesystem) or filesystem.source.startswith(f"/{self.root}/{dockerhost.FETCHED}/")

    def _add_volumes(self) -> None:
        for filesystem in [each for each in self.change.filesystems.add if self._comes_later(each)]:
            if _is_volume(filesystem):
                filesystem = self._with_volume(filesystem)
            lines = zonecfg_blocks.filesystem_lines([filesystem])
            self.session.must_zonecfg(self.uuid, script="\n".join(lines) + "\n")

    def _with_volume(self, filesystem: Filesystem) -> Filesystem:
        """The filesystem on a dataset of its own, which begins with what the image has in its place."""
        volume = filesystem.source if filesystem.source != CREATE_VOLUME else str(uuids.uuid4())
        dataset = f"{self.root}/volumes/{volume}"
        for name in (f"{self.root}/volumes", dataset):
            if not exists(self.node, name):
                self.node.must("zfs", "create", name)
        inside = f"root/{filesystem.target.strip('/')}"
        if self.folder.exists(inside):
            self.folder.check_no_link(inside)
            self.node.must("rsync", "--numeric-ids", "-aq", f"{self.folder.path(inside)}/", f"/{dataset}")
        return replace(filesystem, source=f"/{dataset}", type="lofs")

    def _mount_host_files(self) -> None:
        hostfiles.write(self.folder, self.host_files)
        hostfiles.make_files(self.folder, [mount.target for mount in self.host_mounts])
        lines = zonecfg_blocks.filesystem_lines(self.host_mounts)
        self.session.must_zonecfg(self.uuid, script="\n".join(lines) + "\n")

    def _prepare_root(self) -> None:
        firstboot.prepare(self.session, self.folder, self.change, legacy_image=self.legacy_image)

    def _add_to_firewall(self) -> None:
        firewall.came(self.session, {"uuid": self.uuid, "nics": self.change.nics.add}, self.name)

    def _unmark(self) -> None:
        self.session.must_zonecfg(self.uuid, zonecfg.REMOVE_PROVISIONING)
        mounted = [there_in("filesystems", "target", mount.target) for mount in self.host_mounts]
        self._confirmed([exactly("provisioning", None), *of_create(self.change), *mounted])

    # Booting.

    def _boot(self) -> None:
        before = made_ready(self.session, self._confirmed([]))
        firstboot.first_boot(self.session, before, self.expire, self.name, nowait=self.vm.nowait is True)

    def _confirmed(self, wanted: list[Expected]) -> Vm:
        return confirmed(self.session, self.change.zonename, wanted, self.name, f"VM {self.uuid} was made")


def _look(session: Session, uuid: str, name: str) -> Optional[Vm]:
    try:
        return session.look(uuid, name)
    except VmNotFound:
        return None


def _is_volume(filesystem: Filesystem) -> bool:
    return filesystem.source == CREATE_VOLUME or is_uuid(filesystem.source)


def _iso(seconds: float) -> str:
    milliseconds = int(seconds * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000)) + f".{milliseconds % 1000:03d}Z"
