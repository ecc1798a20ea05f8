# SPDX-License-Identifier: MPL-2.0
"""What is on a mock node besides VMs: sysinfo, pools with their own datasets, images, a zone made by hand."""

import random

from mockcn.node import MAIN_POOL_GUID, Node
from mockcn.population import images
from mockcn.population.identities import uuid_from
from mockcn.population.ordinary import BASE_TIME
from mockcn.state.zones import Zone

SECOND_POOL = "tank"


def set_up(node: Node) -> None:
    source = random.Random(node.seed)
    node.write_sysinfo(
        {
            "Live Image": "20260312T000000Z",
            "System Type": "SunOS",
            "Boot Time": str(BASE_TIME),
            "Datacenter Name": "mock-1",
            "SDC Version": "7.0",
            "Manufacturer": "Mock",
            "Product": "Compute Node",
            "HW Version": "1",
            "UUID": uuid_from(source),
            "Hostname": "headnode",
            "CPU Physical Cores": 2,
            "CPU Total Cores": 32,
            "MiB of Memory": "262144",
            "Zpool": "zones",
            "Zpool Disks": "c1t0d0",
            "Headnode ID": 0,
            "Setup": "true",
            "VM Capable": True,
            "Bhyve Capable": True,
            "Admin IP": "10.99.99.7",
        }
    )
    pools = node.pools
    pools.add_pool("zones", MAIN_POOL_GUID)
    pools.add_pool(SECOND_POOL, MAIN_POOL_GUID ^ 0x5DEECE66D)
    for pool in pools.pools.values():
        pool.root.creation = BASE_TIME
    pools.create("zones/archive", creation=BASE_TIME)
    pools.create("zones/config", {"mountpoint": "legacy"}, creation=BASE_TIME)
    pools.create("zones/cores", {"compression": "gzip", "mountpoint": "/zones/global/cores"}, creation=BASE_TIME)
    pools.create("zones/cores/global", {"quota": 10 << 30}, creation=BASE_TIME)
    pools.create(
        "zones/dump", {"compression": "off", "checksum": "off"}, volsize=8 << 30, sparse=True, creation=BASE_TIME
    )
    pools.create("zones/swap", volsize=16 << 30, creation=BASE_TIME)
    pools.create("zones/opt", {"mountpoint": "legacy"}, creation=BASE_TIME)
    pools.create("zones/usbkey", {"mountpoint": "legacy"}, creation=BASE_TIME)
    pools.create("zones/var", {"mountpoint": "/var"}, creation=BASE_TIME)
    pools.create("zones/shared", creation=BASE_TIME)
    pools.create(f"{SECOND_POOL}/backup", {"compression": "lz4"}, creation=BASE_TIME)
    pools.create(f"{SECOND_POOL}/backup/weekly", creation=BASE_TIME)
    pools.snapshot([f"{SECOND_POOL}/backup@2026-w01"], creation=BASE_TIME)
    for name in pools.pools:
        images.put_in_place(node, name, BASE_TIME)
    node.make_folder("/zones/archive")


def add_zones_that_are_no_vms(node: Node) -> None:
    """A zone made by hand, without a uuid anywhere: zoneadm shows it, and no daemon serves it."""
    with node.lock:
        node.zones.add(
            Zone("buildbox", "", "/zones/buildbox", "configured", "joyent"),
            (
                b'<?xml version="1.0" encoding="UTF-8"?>\n'
                b'<!DOCTYPE zone PUBLIC "-//Sun Microsystems Inc//DTD Zones//EN" '
                b'"file:///usr/share/lib/xml/dtd/zonecfg.dtd.1">\n'
                b'<zone name="buildbox" zonepath="/zones/buildbox" autoboot="false" brand="joyent" '
                b'ip-type="exclusive"/>\n'
            ),
        )
