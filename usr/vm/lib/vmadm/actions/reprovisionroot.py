# SPDX-License-Identifier: MPL-2.0
"""`vmadm reprovision` of an OS zone: another root dataset, with the old one's settings, and all that lies below it.

Always: the new root is whole before it takes the old one's place: config files, files for the first boot. Before the
        old one is given up the VM shows all that is to stay."""

from __future__ import annotations

import time

from vmadm.actions import firstboot, hostvolumes
from vmadm.actions.deleting import sharing_volumes
from vmadm.actions.gathering import check_tags_of
from vmadm.actions.outcome import confirmed, exactly
from vmadm.actions.reprovisionsteps import KEPT, Reprovision
from vmadm.actions.steps import Step
from vmadm.errors import VmNotFound, WrongState
from vmadm.node import hostfiles, zfs
from vmadm.node.rootswap import RootSwap
from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload import dockerhost, metadata
from vmadm.payload.standing import standing
from vminfod.clients.plainjson import compact
from vmload import Vm, brands

STAYS = (*metadata.MAPS, "quota", "datasets", "zfs_filesystem")  # what an OS zone shows as before


class RootReprovision(Reprovision):
    """One under way."""

    swap: RootSwap

    def check(self) -> None:
        vm = self.vm
        if vm.get("indestructible_zoneroot"):
            raise WrongState("indestructible_zoneroot is set, cannot reprovision")
        datasets = vm.get("datasets") or []
        if len(datasets) > 1:
            raise WrongState("cannot support reprovision with multiple delegated datasets")
        if datasets and datasets[0] != f"{self.swap.place}/data":
            raise WrongState(f'cannot support reprovision with non-standard "{datasets[0]}" dataset')
        sharing = [each["uuid"] for each in sharing_volumes(self.session, vm, self.name) if each.get("zoneid")]
        if sharing:
            raise WrongState(f"the following running VMs are sharing its volumes: {compact(sharing)}")
        self.manifest(brands.facts(vm["brand"])["zoneroot_image_types"])
        self._legacy_image = firstboot.check_image(self.node, vm["brand"], vm["zpool"], self.image)
        self._change = standing(vm)
        self._host_files = dockerhost.host_files(self._change, vm) if vm.get("docker") else {}
        check_tags_of(self.node, vm)

    def steps(self) -> list[Step]:
        swap, delegates = self.swap, bool(self.vm.get("datasets"))
        steps: list[Step] = [
            ("clone the image", self._clone),
            ("config files", self._copy_config),
            ("files in the zone", self._prepare),
            ("unmount the cores", swap.unmount_cores),
            *([("take the delegated dataset back", swap.release_data)] if delegates else []),
            ("set the old root aside", swap.set_aside),
            ("put the new root in its place", swap.put_in),
            ("move the datasets below it", swap.carry_over),
            *([("delegate the dataset again", swap.delegate_data)] if delegates else []),
            ("mount the cores", swap.mount_cores),
            ("script of the brand", self.run_script),
            ("look at it", self._look),
            (KEPT, self.keep),
            ("image in the configuration", self.name_image),
            ("destroy the old root", self.remove_old),
            ("boot", self._boot),
        ]
        return steps

    def outcome(self) -> Vm:
        wanted = [exactly("image_uuid", self.image), exactly("transition_to", None)]
        return confirmed(self.session, self.vm["zonename"], wanted, self.name, f"VM {self.uuid} was reprovisioned")

    def _folder(self, dataset: str) -> ZoneFolder:
        return ZoneFolder(self.node, f"/{dataset}")

    def _clone(self) -> None:
        """With all that was set on the old root: quota, limits, compression and so on."""
        settings = {**zfs.local_settings(self.node, self.swap.place), "devices": "off"}
        self.swap.make(self.swap.image_snapshot(self.image, may_make=True), settings)

    def _copy_config(self) -> None:
        """All of the config folder, with the files of the firewall's filter; an image can have brought its own."""
        old, new = self._folder(self.swap.place), self._folder(self.swap.new)
        new.remove_folder("config")
        new.make_folder("config")
        for file in metadata.FILES:
            new.write(f"config/{file}", metadata.EMPTY_FILE)
        names = old.names("config")
        if names:
            paths = [old.path(f"config/{each}") for each in names]
            self.node.must("cp", "-pPR", *paths, new.path("config/"))

    def _prepare(self) -> None:
        new, source = self._folder(self.swap.new), f"{self.vm['zonepath']}/config/"
        if self._host_files:
            hostfiles.write(new, self._host_files)
        mounted = [each for each in self.vm.get("filesystems") or [] if str(each.get("source")).startswith(source)]
        hostfiles.make_files(new, [each["target"] for each in mounted])
        firstboot.prepare(self.session, new, self._change, legacy_image=self._legacy_image)

    def _look(self) -> None:
        """Before the old root is given up: what is to stay is there."""
        wanted = [exactly(name, self.vm.get(name)) for name in STAYS]
        confirmed(self.session, self.vm["zonename"], wanted, self.name, "the new root is in its place")

    def _boot(self) -> None:
        before = self.session.fresh(self.vm["zonename"], self.name)
        if before is None:
            raise VmNotFound(f"VM {self.uuid} was deleted meanwhile")
        hostvolumes.fetch(self.session, before, self.name)
        self.expire = time.time() + firstboot.LIMIT
        firstboot.first_boot(self.session, before, self.expire, self.name)
