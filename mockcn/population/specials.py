# SPDX-License-Identifier: MPL-2.0
"""The odd VMs of a mock node: one for each rare part of a VM object, and for each rare state.

Always: they are made in one order, since all draw from one source: the same seed gives the same VMs."""

import random
from typing import Any

from mockcn.population import images
from mockcn.population.identities import uuid_from
from mockcn.population.machine import SECOND_POOL
from mockcn.population.ordinary import BASE_TIME, ODD_TEXTS, files, nics
from mockcn.population.vms import NO_OWNER, Vm

FIRST_CREATED, BETWEEN = BASE_TIME + 5_000_000, 4321  # seconds


class Maker:
    """Makes VMs with what they have in common. `created` is when the last one was."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self.created = FIRST_CREATED

    def __call__(self, alias: str, brand: str = "joyent-minimal", **more: Any) -> Vm:
        self.created += BETWEEN
        more.setdefault("nics", nics(self._source, self._source.randrange(100, 190), brand)[:1])
        more.setdefault("owner", uuid_from(random.Random(3)))
        more.setdefault("files", files(self._source, alias, docker=False))
        return Vm(
            uuid_from(self._source),
            brand,
            alias=alias,
            created=self.created,
            package="sdc_256",
            image=images.fitting(brand)[0],
            **more,
        )


def specials(source: random.Random) -> list[Vm]:
    """All of them, in the order of the index."""
    vm = Maker(source)
    return [*_on_their_way(vm), *_of_odd_places(vm), _odd_texts(vm), *_of_odd_hardware(vm), *_half_there(vm)]


def _on_their_way(vm: Maker) -> list[Vm]:
    """Stopped, failed, or between two states."""
    stopped = vm("stopped-by-hand", state="stopped", last_exit=3328, snapshots=["vmsnap-monday", "vmsnap-tuesday"])
    failed = vm("failed-install", state="stopped", attrs={"failed": "provisioning"})
    provisioning = vm(
        "being-provisioned",
        state="running",
        attrs={"provisioning": "true", "transition": f"provisioning:running:{(vm.created + 600) * 1000}"},
    )
    receiving = vm(
        "arriving",
        state="configured",
        delegated=True,
        attrs={"transition": f"receiving:stopped:{(vm.created + 86400) * 1000}"},
    )
    receiving.receiving = {
        "uuid": receiving.uuid,
        "brand": "joyent-minimal",
        "alias": "arriving",
        "zfs_filesystem": receiving.root_dataset,
        "zpool": receiving.pool,
    }
    return [stopped, failed, provisioning, receiving]


def _of_odd_places(vm: Maker) -> list[Vm]:
    """Of another brand, name or pool, or with datasets that are held."""
    foreign = vm("legacy-brand", "sn1", state="stopped")
    named = vm("named-by-hand", "joyent", zonename="pagila-standby")
    elsewhere = vm(
        "on-the-second-pool",
        "joyent",
        pool=SECOND_POOL,
        delegated=True,
        indestructible="root",
        snapshots=["vmsnap-only"],
    )
    kept = vm(
        "indestructible",
        "joyent",
        delegated=True,
        indestructible="root,data",
        data_children=["archive"],
        snapshots=["vmsnap-keep", "nightly-1"],
    )
    return [foreign, named, elsewhere, kept]


def _odd_texts(vm: Maker) -> Vm:
    return vm(
        "odd-texts \u2603 \u00e9",
        "joyent",
        hostname="odd",
        files={
            "metadata": {
                "customer_metadata": {str(place): text for place, text in enumerate(ODD_TEXTS)}
                | {"zeta": 1.5, "alpha": None, "list": [1, "two"]},
                "internal_metadata": {"a.b/c": "\u2028"},
            },
            "tags": {"10": True, "2": "two", "b\u00e4r": "\u00fc", 'quote"d': "line\nbreak"},
            "routes": {"192.0.2.0/24": "192.0.2.1", "0.0.0.0/1": "nics[0]"},
        },
    )


def _of_odd_hardware(vm: Maker) -> list[Vm]:
    """With a device of the host, and with an ISO image for a disk."""
    passthrough = vm(
        "with-a-card",
        "bhyve",
        vcpus=8,
        ram=32768,
        quota=1,
        state="running",
        disks=[
            {
                "boot": "true",
                "model": "nvme",
                "media": "disk",
                "image-size": "10240",
                "image-uuid": images.fitting("disk")[1],
                "pci-slot": "0:4:0",
                "guest-block-size": "4096",
            },
            {"boot": "false", "model": "virtio", "media": "disk", "size": "2048", "notrim": "true"},
        ],
        pci_devices=[
            {"match": "/devices/pci@0,0/pci8086,340a@3/pci15d9,a711@0:gpu0", "model": "passthru", "pci-slot": "0:8:0"}
        ],
        attrs={"bootrom": "uefi", "bhyve-extra-opts": "-H -P", "flexible-disk-size": "20480"},
    )
    stopping = vm(
        "going-down",
        "kvm",
        ram=2048,
        state="running",
        autoboot=False,
        disks=[
            {
                "boot": "true",
                "model": "virtio",
                "media": "disk",
                "image-size": "10240",
                "image-uuid": images.fitting("disk")[0],
            },
            {"match": "/zones/shared/install.iso", "boot": "false", "model": "ide", "media": "cdrom"},
        ],
        attrs={
            "transition": f"stopping:stopped:{(vm.created + 60) * 1000}",
            "vnc-port": "5901",
            "qemu-opts": "LW5vZGVmYXVsdHM=",
            "cpu-type": "host",
            "vga": "std",
        },
    )
    return [passthrough, stopping]


def _half_there(vm: Maker) -> list[Vm]:
    """Without files, datasets or a uuid in the index, or killed by a signal."""
    bare = vm("no-files-at-all", "lx", files={}, nics=[], state="stopped", attrs={"kernel-version": "4.3.0"})
    half = vm("half-installed", state="incomplete", datasets_exist=False)
    planned = vm("only-configured", state="configured", owner=NO_OWNER)
    nameless = vm("uuid-only-in-its-name", "joyent", index_uuid="")
    dead = vm(
        "killed",
        "lx",
        state="stopped",
        last_exit=139,
        attrs={"docker": "true", "kernel-version": "4.3.0", "init-name": "/native/usr/vm/sbin/dockerinit"},
    )
    return [bare, half, planned, nameless, dead]
