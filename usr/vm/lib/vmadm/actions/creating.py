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
from typing import Optional

from vmadm.actions import checks, lifecycle
from vmadm.actions.conflicts import check_tags_of
from vmadm.actions.deleting import clean_up, exists
from vmadm.actions.failing import give_up
from vmadm.actions.following import Follower
from vmadm.actions.outcome import Expected, confirmed, exactly
from vmadm.actions.session import Session
from vmadm.actions.steps import Step, Steps
from vmadm.actions.updating import write_config
from vmadm.errors import NotReached, VmadmError, VmNotFound
from vmadm.node import volumes, zfs, zonecfg, zonecfg_blocks, zoneroot
from vmadm.node.machine import INSTALL_LIMIT
from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload import metadata
from vmadm.payload.normalise import DEFAULT_BRAND, MAPS, for_create, renamed
from vmadm.payload.propertychecks import is_unset
from vmload import Vm, brands
from vmload.uuids import is_uuid

PROVISION_LIMIT = 300.0  # seconds; for a hardware VM once for each 4 GiB of memory
RAM_A_LIMIT = 4096  # MiB
LOOK_EVERY = 0.1  # seconds between looks whether the zone's services are done
REPOSITORY = "root/etc/svc/repository.db"  # of the zone's services
CREATE_VOLUME = "create-volume"  # as the source of a filesystem: make one


def create(session: Session, payload: Vm) -> Vm:
    """Make the VM; gives it as it then is. Raises VmadmError."""
    brand = checks.check_brand(DEFAULT_BRAND if is_unset(payload.get("brand")) else payload["brand"])
    given = renamed({**payload, "brand": brand}, brand)
    uuid = given["uuid"] if is_uuid(given.get("uuid")) else str(uuids.uuid4())
    given.setdefault("uuid", uuid)
    name = f"VM.js createZone ({uuid})"
    making = _Making(session, name, uuid)
    try:
        _look(session, uuid, name)  # no lock file before vminfod has answered
        with session.config_lock(uuid):
            checks.check_create(session, given, brand, _look(session, uuid, name), name)
            making.make(for_create(given, brand, uuid))
        return making.boot()
    except _NotProvisioned:
        raise
    except (VmadmError, KeyboardInterrupt) as error:
        raise making.cleaned_up(error) from error


class _NotProvisioned(NotReached):
    """The zone's own services were not done in time."""

    tells_all = True


class _Making:
    """One create under way; `made` is what is to be taken away if it fails (delete.clean_up())."""

    def __init__(self, session: Session, name: str, uuid: str) -> None:
        self.session, self.node, self.name, self.uuid = session, session.node, name, uuid
        self.vm: Vm = {}
        self.made: list[str] = []
        self.steps = Steps(session.check_interrupted)
        self.expire = 0.0
        self.legacy_image = False

    @property
    def root(self) -> str:
        """The root dataset."""
        return f"{self.vm['zpool']}/{self.vm['zonename']}"

    @property
    def folder(self) -> ZoneFolder:
        """What lies below the zonepath."""
        return ZoneFolder(self.node, f"/{self.root}")

    def make(self, vm: Vm) -> None:
        """Everything up to a VM that is stopped, or about to boot. Raises VmadmError."""
        self.vm = vm
        self._check_image()
        self._check_free()
        volumes.place(vm["disks"], brand=vm["brand"], root=self.root, taken=[], pool=vm["zpool"])
        self.steps.run(self._steps())

    def boot(self) -> Vm:
        """Boot it if it is to be, and wait until it is provisioned. Raises VmadmError."""
        if self.vm["autoboot"]:
            self.steps.run([("boot", self._boot)])
            return self._confirmed([])
        return self._confirmed([exactly("state", "stopped")])

    def cleaned_up(self, error: BaseException) -> VmadmError:
        """The error to raise, after taking away what was made."""
        raised = error if isinstance(error, VmadmError) else VmadmError("interrupted")
        if not self.made:
            return raised
        left = clean_up(self.session, self.vm, self.made, self.name)
        if left:
            what = f"could not remove all that was made of it ({'; '.join(left)}): run vmadm delete {self.uuid}"
        else:
            what = f"what was made of VM {self.uuid} has been removed"
        raised.args = (f"{raised}; {what}",)
        return raised

    # Before anything is touched.

    def _check_image(self) -> None:
        brand, image = self.vm["brand"], self.vm.get("image_uuid")
        if brand not in ("joyent", "builder", "lx") or not image:
            return
        dataset = f"{self.vm['zpool']}/{image}"
        mountpoint = self.node.must("zfs", "get", "-H", "-o", "value", "mountpoint", dataset).stdout.strip()
        if brand == "lx":
            return
        support = zoneroot.image_support(ZoneFolder(self.node, mountpoint))
        if not support:
            raise VmadmError(f"provisioning dataset {image} with brand {brand} is not supported")
        self.legacy_image = support == "legacy"

    def _check_free(self) -> None:
        """Nobody else's zone or dataset stands where ours is to be."""
        if self.node.exists(f"/etc/zones/{self.vm['zonename']}.xml"):
            raise VmadmError(f"zone {self.vm['zonename']} exists already")
        if exists(self.node, self.root):
            raise VmadmError(f"dataset {self.root} exists already")

    # The steps.

    def _steps(self) -> list[Step]:
        vm = self.vm
        steps: list[Step] = []
        if brands.is_hvm(vm["brand"]):
            steps.append(("disks", self._make_disks))
        steps += [("zonecfg", self._configure), ("install", self._install)]
        given = {name: vm[name] for name in zfs.ROOT_PROPERTIES if name in vm}
        if given:
            steps.append(
                ("zfs properties", lambda: zfs.set_properties(self.node, given, {"zfs_filesystem": self.root}))
            )
        if vm.get("indestructible_zoneroot"):
            steps.append(("indestructible zoneroot", lambda: zfs.make_indestructible(self.node, self.root)))
        if vm.get("delegate_dataset"):
            steps.append(("delegated dataset", self._delegate))
        steps += [
            ("config files", self._write_config),
            ("filesystems", self._add_volumes),
            ("files in the zone", self._prepare_root),
            ("remove the provisioning mark", self._unmark),
        ]
        return steps

    def _make_disks(self) -> None:
        if self.vm["brand"] == "bhyve":
            self.made.append(self.root)
            self.node.must("zfs", "create", self.root)
        for disk in self.vm["disks"]:
            if "zfs_filesystem" in disk and not disk.get("nocreate"):
                if exists(self.node, disk["zfs_filesystem"]):
                    raise VmadmError(f"dataset {disk['zfs_filesystem']} exists already")
                if self.vm["brand"] != "bhyve":
                    self.made.append(disk["zfs_filesystem"])
                volumes.create_volumes(self.node, [disk])

    def _configure(self) -> None:
        vm = self.vm
        now = time.time()
        seconds = PROVISION_LIMIT
        if brands.is_hvm(vm["brand"]):
            seconds *= max(1, vm["ram"] // RAM_A_LIMIT)
        self.expire = now + seconds
        plain = {**vm, "filesystems": [fs for fs in vm["filesystems"] if not _is_volume(fs)]}
        script = zonecfg.create_script(
            plain, created=_iso(now), transition_expire=int(self.expire * 1000) if vm["autoboot"] else None
        )
        self.made.append("zone")
        self.session.must_zonecfg(self.uuid, script=script, zonename=vm["zonename"])
        self._confirmed([])

    def _install(self) -> None:
        vm = self.vm
        words = ["-z", vm["zonename"], "install", "-q", str(vm["quota"])]
        if vm["brand"] == "bhyve":
            words += ["-x", "nodataset"]
        elif vm.get("image_uuid"):
            words += ["-t", vm["image_uuid"], "-x", "nodataset"]
        if self.root not in self.made:
            self.made.append(self.root)
        self.node.must("zoneadm", *words, limit=INSTALL_LIMIT)
        if vm["brand"] == "bhyve" and vm["quota"]:
            volumes = [disk for disk in vm["disks"] if "zfs_filesystem" in disk]
            zfs.set_bhyve_quota(self.node, {**vm, "disks": volumes, "zfs_filesystem": self.root}, vm["quota"] * zfs.GIB)
        self._confirmed(
            [
                exactly("zone_state", "installed"),
                exactly("zfs_filesystem", self.root),
                exactly("zpool", vm["zpool"]),
                exactly("zonepath", f"/{self.root}"),
            ]
        )

    def _delegate(self) -> None:
        vm, data = self.vm, f"{self.root}/data"
        options = []
        for name, prop in (("zfs_data_compression", "compression"), ("zfs_data_recsize", "recsize")):
            if vm.get(name):
                options += ["-o", f"{prop}={vm[name]}"]
        self.node.must("zfs", "create", *options, data)
        self.session.must_zonecfg(self.uuid, zonecfg.add_dataset(data))
        if vm.get("indestructible_delegated"):
            zfs.make_indestructible(self.node, data)

    def _write_config(self) -> None:
        """An image can bring config files of its own: they go first."""
        self.folder.remove_folder("config")
        self.folder.make_folder("config")
        there = {"zonepath": f"/{self.root}"}
        write_config(self.session, there, dict.fromkeys(metadata.FILES, metadata.EMPTY_FILE))
        changed = {name: self.vm[name] for name in MAPS if self.vm[name]}
        write_config(self.session, there, metadata.file_contents(changed, {}))

    def _add_volumes(self) -> None:
        for filesystem in [fs for fs in self.vm["filesystems"] if _is_volume(fs)]:
            volume = filesystem["source"] if filesystem["source"] != CREATE_VOLUME else str(uuids.uuid4())
            source = f"/{self.root}/volumes/{volume}"
            self.folder.make_folder(f"volumes/{volume}")
            lines = zonecfg_blocks.filesystem_lines([{**filesystem, "source": source, "type": "lofs"}])
            self.session.must_zonecfg(self.uuid, script="\n".join(lines) + "\n")

    def _prepare_root(self) -> None:
        vm = self.vm
        zoneroot.prepare(self.folder, vm, legacy_image=self.legacy_image)
        if brands.facts(vm["brand"])["mdata_restart"]:
            seconds = vm.get("mdata_exec_timeout", zoneroot.MDATA_TIMEOUT)
            self.session.try_to(
                "set the metadata service's time limit", lambda: self._set_timeout(seconds), uuid=self.uuid
            )

    def _set_timeout(self, seconds: int) -> None:
        """Before the first boot, so that nothing can be swapped between the check and svccfg."""
        self.folder.check_no_link("root/etc/svc")
        if self.folder.exists(REPOSITORY) and not self.folder.is_file(REPOSITORY):
            raise VmadmError(f"{self.folder.path(REPOSITORY)} is no file")
        words = ("-s", zoneroot.MDATA_SERVICE, "setprop", "start/timeout_seconds", "=", "count:", str(seconds))
        repository = self.node.real(self.folder.path(REPOSITORY))
        self.node.must("svccfg", *words, environ={"SVCCFG_REPOSITORY": repository})

    def _unmark(self) -> None:
        self.session.must_zonecfg(self.uuid, zonecfg.REMOVE_PROVISIONING)
        vm = self.vm
        wanted = [exactly("provisioning", None), *(exactly(name, vm[name]) for name in MAPS)]
        wanted += [exactly(name, True) for name in ("indestructible_zoneroot",) if vm.get(name)]
        self._confirmed(wanted)

    # Booting.

    def _boot(self) -> None:
        session, uuid = self.session, self.uuid
        before = self._confirmed([])
        with Follower(session, self.vm["zonename"], f"VM.js startZone ({uuid})") as follower:
            check_tags_of(self.node, before)
            lifecycle.boot(session, before)
            if self.vm.get("nowait"):
                # Whoever asked for this waits for the services, and takes the transition away.
                follower.until(_runs, lifecycle.START_LIMIT, f"timed out waiting for VM {uuid} to boot")
                return
            self._wait_provisioned()
            lifecycle.remove_transition(session, before)
            follower.until(lifecycle.has_run(before), lifecycle.START_LIMIT, f"timed out waiting for VM {uuid} to run")

    def _wait_provisioned(self) -> None:
        while self.folder.exists(f"root/{zoneroot.PROVISIONING}"):
            self.session.check_interrupted()
            if time.time() > self.expire:
                self._fail()
            time.sleep(LOOK_EVERY)

    def _fail(self) -> None:
        session, uuid = self.session, self.uuid
        with session.held():
            give_up(session, uuid)
            session.show(self.vm["zonename"], self.name)
        raise _NotProvisioned(
            f"VM {uuid} is left in state failed: timed out waiting for /var/svc/provisioning to move for {uuid}"
        )

    def _confirmed(self, wanted: list[Expected]) -> Vm:
        return confirmed(self.session, self.vm["zonename"], wanted, self.name, f"VM {self.uuid} was made")


def _look(session: Session, uuid: str, name: str) -> Optional[Vm]:
    try:
        return session.look(uuid, name)
    except VmNotFound:
        return None


def _is_volume(filesystem: Vm) -> bool:
    source = str(filesystem.get("source"))
    return source == CREATE_VOLUME or is_uuid(source)


def _runs(vm: Optional[Vm]) -> bool:
    return vm is not None and vm.get("zone_state") == "running"


def _iso(seconds: float) -> str:
    milliseconds = int(seconds * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000)) + f".{milliseconds % 1000:03d}Z"
