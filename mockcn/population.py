# SPDX-License-Identifier: MPL-2.0
"""Who lives on the node: VMs of every brand, and everything on a real node that is no VM.

Always: the same seed, number of VMs and of snapshots give the same node, dates and ids included (boot times, zone ids,
file dates too; only what happens later carries the time of day).
Always: exactly as many VMs as asked for. A VM is a zone that has a uuid, in whatever state. From 30 on the odd ones
(SPECIALS) take the place of the last ordinary ones, so that the parts of a VM object that are rare are all there.
Not here: what a VM is made of (vms.py)."""

import random
import sys
import time
from typing import Any, Callable

from mockcn import images
from mockcn.node import MAIN_POOL_GUID, Node
from mockcn.state.zones import Zone
from mockcn.vms import NO_OWNER, Vm, settle

BASE_TIME = 1767225600  # 2026-01-01, seconds since the epoch: when the node was set up
SPECIALS_FROM = 30  # VMs: below that there is no room for the odd ones
SECOND_POOL = "tank"
NAMES = ["web", "db", "cache", "api", "queue", "build", "mail", "dns", "log", "auth", "search", "proxy"]
DOMAINS = ["eu", "us", "ap"]
PACKAGES = [
    ("sdc_128", 128, 5),
    ("sdc_256", 256, 10),
    ("sdc_512", 512, 15),
    ("g4-general-1G", 1024, 25),
    ("g4-general-4G", 4096, 100),
    ("g4-highcpu-8G", 8192, 200),
]
ORDINARY = [
    "joyent-minimal",
    "bhyve",
    "lx",
    "joyent",
    "kvm",
    "docker",
    "docker-lx",
    "builder",
    "joyent-minimal",
    "joyent",
    "lx",
    "bhyve",
]
ODD_TEXTS = [
    "caf\u00e9 \u2603 \u4e16\u754c",
    'he said "no"',
    "two\nlines\tand a tab",
    "back\\slash / slash",
    "\U0001f600 astral",
    "",
]


def populate(node: Node, vms: int, snapshots: int, progress: Callable[[str], None]) -> None:
    """Fill an empty node. Nothing of this is an event."""
    node.quiet(True)
    try:
        _the_node_itself(node)
        descriptions = describe(node.seed, vms)
        said = time.monotonic()
        for number, vm in enumerate(descriptions, 1):
            settle(node, vm)
            if time.monotonic() - said > 1:
                said = time.monotonic()
                progress(f"{number} of {len(descriptions)} VMs are in place")
        if vms >= SPECIALS_FROM:
            _zones_that_are_no_vms(node)
        spread_snapshots(node, descriptions, snapshots, progress)
    finally:
        node.quiet(False)


def describe(seed: int, count: int) -> list[Vm]:
    """The VMs of a node, in the order of the index."""
    specials = _specials(random.Random(seed * 7919 + 13)) if count >= SPECIALS_FROM else []
    ordinary = [_ordinary(random.Random(seed * 1_000_003 + number), number) for number in range(count - len(specials))]
    return ordinary + specials


# -- ordinary ones -----------------------------------------------------------------------------------------------------


def uuid_from(source: random.Random) -> str:
    digits = f"{source.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _mac(source: random.Random) -> str:
    return ":".join(["90", "b8", "d0", *(f"{source.randrange(256):02x}" for _ in range(3))])


def _nics(source: random.Random, number: int, kind: str) -> list[dict[str, str]]:
    prefix = "eth" if kind in ("lx", "docker-lx") else "net"
    nics = []
    for place in range(source.choice([1, 1, 2, 3])):
        tag, net, vlan = [
            ("external", f"192.0.{2 + number // 200 % 50}", "20"),
            ("internal", "10.0.64", "64"),
            ("storage", "172.16.9", ""),
        ][place]
        address = f"{net}.{number % 200 + 20}"
        nic = {"interface": f"{prefix}{place}", "mac": _mac(source)}
        if vlan:
            nic["vlan_id"] = vlan
        nic.update(
            {
                "nic_tag": tag,
                "gateway": f"{net}.1",
                "gateways": f"{net}.1",
                "netmask": "255.255.255.0",
                "ip": address,
                "ips": f"{address}/24",
                "network_uuid": uuid_from(random.Random(tag)),
            }
        )
        if place == 0 and source.random() < 0.3:
            nic["ips"] = f"{address}/24,addrconf"
        if place == 1 and source.random() < 0.5:
            nic.update({"allow_ip_spoofing": "true", "allowed_ips": f"{net}.250,{net}.251"})
        if kind in ("kvm", "bhyve"):
            nic["model"] = "virtio"
        if place == 0:
            nic["primary"] = "true"
        nics.append(nic)
    return nics


def _files(source: random.Random, alias: str, docker: bool) -> dict[str, Any]:
    key = f"ssh-ed25519 AAAAC3Nza{source.getrandbits(60):x} ops@{alias}\n"
    customer: dict[str, Any] = {
        "root_authorized_keys": key,
        "user-script": '#!/bin/bash\nset -o errexit\necho "$(hostname) is up"\n',
    }
    if source.random() < 0.4:
        customer[f"note-{source.randrange(10)}"] = source.choice(ODD_TEXTS)
    internal: dict[str, Any] = {"admin_pw": f"{source.getrandbits(64):x}"}
    if docker:
        internal.update(
            {
                "docker:cmd": '["/bin/sh","-c","exec nginx -g \\"daemon off;\\""]',
                "docker:tty": False,
                "docker:logdriver": "json-file",
                "docker:id": f"{source.getrandbits(256):064x}",
            }
        )
    files: dict[str, Any] = {"metadata": {"customer_metadata": customer, "internal_metadata": internal}}
    if source.random() < 0.8:
        tags: dict[str, Any] = {"role": alias.split("-")[0], "tier": source.randrange(3), "monitored": True}
        if source.random() < 0.3:
            tags[str(source.randrange(1, 100))] = source.choice(ODD_TEXTS)
        if docker:
            tags["docker:label:com.example.stack"] = alias
        files["tags"] = tags
    if source.random() < 0.3:
        files["routes"] = {"10.77.0.0/16": "10.0.64.1", "192.0.2.0/24": "nics[0]"}
    return files


def _ordinary(source: random.Random, number: int) -> Vm:
    kind = ORDINARY[number % len(ORDINARY)]
    brand = {"docker": "joyent-minimal", "docker-lx": "lx"}.get(kind, kind)
    alias = f"{source.choice(NAMES)}-{source.choice(DOMAINS)}-{number:02d}"
    package, ram, quota = source.choice(PACKAGES)
    if brand in ("kvm", "bhyve"):
        ram = max(ram, 1024)
    created = BASE_TIME + number * 3600 + source.randrange(3600)
    fit = images.fitting(kind)
    vm = Vm(
        uuid_from(source),
        brand,
        alias=alias,
        ram=ram,
        quota=quota,
        package=package,
        created=created,
        owner=uuid_from(random.Random(number % 7)),
        billing=uuid_from(random.Random(number % 5 + 100)),
        image=fit[number % len(fit)],
        hostname=alias,
        vcpus=source.choice([1, 2, 4]),
        cpu_shares=max(8, ram // 16),
        cpu_cap=source.choice([None, 100, 200, 350]),
        resolvers=source.choice([["8.8.8.8", "8.8.4.4"], ["192.0.2.53"], []]),
        nics=_nics(source, number, kind),
        files=_files(source, alias, kind.startswith("docker")),
        autoboot=source.random() < 0.9,
    )
    vm.snapshots = [
        name for name in ("vmsnap-before-upgrade", "vmsnap-weekly", "backup-20260301") if source.random() < 0.3
    ]
    if number % 11 == 10:
        vm.state, vm.last_exit = "stopped", source.choice([-1, 0, 3328, 9, 139])
    elif source.random() < 0.3:
        vm.last_exit = -1  # it has been stopped once, and runs again
    _by_kind(vm, kind, source)
    return vm


def _by_kind(vm: Vm, kind: str, source: random.Random) -> None:
    """What only some kinds have."""
    if kind in ("kvm", "bhyve"):
        sizes = [source.choice([10240, 20480]), source.choice([512, 1024, 4096])][: source.choice([1, 2])]
        vm.image = source.choice(images.fitting("disk"))
        for place, size in enumerate(sizes):
            disk = {"boot": "true" if place == 0 else "false", "model": "virtio", "media": "disk"}
            if place == 0:
                disk.update({"image-size": str(size), "image-uuid": vm.image})
            else:
                disk["size"] = str(size)
            if kind == "bhyve":
                disk.update({"pci-slot": f"0:4:{place}", "uuid": uuid_from(source)})
            vm.disks.append(disk)
        vm.quota = 10 if kind == "kvm" else 1
    if kind == "bhyve" and source.random() < 0.5:
        vm.attrs["flexible-disk-size"] = "40960"
    if kind in ("lx", "docker-lx"):
        vm.attrs["kernel-version"] = source.choice(["3.13.0", "4.3.0", "5.10.0"])
    if kind.startswith("docker"):
        vm.attrs.update(
            {
                "docker": "true",
                "restart-init": "false",
                "init-name": "/native/usr/vm/sbin/dockerinit" if kind == "docker-lx" else "/usr/vm/sbin/dockerinit",
            }
        )
    if kind in ("joyent", "joyent-minimal") and source.random() < 0.5:
        vm.delegated = True
        vm.data_children = ["pgdata", "wal"] if source.random() < 0.5 else []
        vm.data_props = {"compression": "lz4"} if source.random() < 0.5 else {}
    if kind == "joyent" and source.random() < 0.5:
        vm.filesystems.append(
            {"special": "/zones/shared", "directory": "/shared", "type": "lofs", "options": ["ro", "nodevices"]}
        )
    if source.random() < 0.3:
        vm.root_props["compression"] = source.choice(["lz4", "gzip", "off"])
    if source.random() < 0.2:
        vm.root_props["recordsize"] = 16384
    if source.random() < 0.3:
        vm.attrs["firewall-enabled"] = "true"
    if source.random() < 0.1:
        vm.root_props.update({"filesystem_limit": 10, "snapshot_limit": 100})


# -- odd ones ----------------------------------------------------------------------------------------------------------


def _specials(source: random.Random) -> list[Vm]:
    """One VM for each rare part of a VM object or rare state."""
    created = BASE_TIME + 5_000_000

    def vm(alias: str, brand: str = "joyent-minimal", **more: Any) -> Vm:
        nonlocal created
        created += 4321
        more.setdefault("nics", _nics(source, source.randrange(100, 190), brand)[:1])
        more.setdefault("owner", uuid_from(random.Random(3)))
        more.setdefault("files", _files(source, alias, docker=False))
        return Vm(
            uuid_from(source),
            brand,
            alias=alias,
            created=created,
            package="sdc_256",
            image=images.fitting(brand)[0],
            **more,
        )

    stopped = vm("stopped-by-hand", state="stopped", last_exit=3328, snapshots=["vmsnap-monday", "vmsnap-tuesday"])
    failed = vm("failed-install", state="stopped", attrs={"failed": "provisioning"})
    provisioning = vm(
        "being-provisioned",
        state="running",
        attrs={"provisioning": "true", "transition": f"provisioning:running:{(created + 600) * 1000}"},
    )
    receiving = vm(
        "arriving",
        state="configured",
        delegated=True,
        attrs={"transition": f"receiving:stopped:{(created + 86400) * 1000}"},
    )
    receiving.receiving = {
        "uuid": receiving.uuid,
        "brand": "joyent-minimal",
        "alias": "arriving",
        "zfs_filesystem": receiving.root_dataset,
        "zpool": receiving.pool,
    }
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
    texts = vm(
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
            "transition": f"stopping:stopped:{(created + 60) * 1000}",
            "vnc-port": "5901",
            "qemu-opts": "LW5vZGVmYXVsdHM=",
            "cpu-type": "host",
            "vga": "std",
        },
    )
    bare = vm("no-files-at-all", "lx", files={}, nics=[], state="stopped", attrs={"kernel-version": "4.3.0"})
    half = vm("half-installed", state="incomplete", datasets_exist=False)
    planned = vm("only-configured", state="configured", owner=NO_OWNER)
    nameless = vm("uuid-only-in-its-name", "joyent", index_uuid="")
    dead = vm(
        "killed",
        "docker-lx".replace("docker-", ""),
        state="stopped",
        last_exit=139,
        attrs={"docker": "true", "kernel-version": "4.3.0", "init-name": "/native/usr/vm/sbin/dockerinit"},
    )
    return [
        stopped,
        failed,
        provisioning,
        receiving,
        foreign,
        named,
        elsewhere,
        kept,
        texts,
        passthrough,
        stopping,
        bare,
        half,
        planned,
        nameless,
        dead,
    ]


# -- no VMs ------------------------------------------------------------------------------------------------------------


def _the_node_itself(node: Node) -> None:
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


def _zones_that_are_no_vms(node: Node) -> None:
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


def spread_snapshots(node: Node, vms: list[Vm], count: int, progress: Callable[[str], None]) -> None:
    """`count` more snapshots over the VMs' root datasets, delegated ones and disks, in turns."""
    with node.lock:
        datasets = []
        for vm in vms:
            if vm.state != "configured" and vm.datasets_exist:
                datasets.append(node.pools.dataset(vm.root_dataset))
                datasets += [
                    node.pools.dataset(vm.disk_dataset(place))
                    for place, disk in enumerate(vm.disks)
                    if "match" not in disk
                ]
    if not datasets or not count:
        return
    source, said = random.Random(node.seed + 5), time.monotonic()
    for place, dataset in enumerate(datasets):
        share = count // len(datasets) + (place < count % len(datasets))
        files = node.pools.captured(dataset)
        for number in range(share):
            name = f"vmsnap-auto-{number:04d}" if number % 2 == 0 else f"backup-{number:04d}"
            dataset.written += source.randrange(1 << 22)
            node.pools.take(dataset, name, dataset.creation + 200_000 + 600 * number, files=files)
        if time.monotonic() - said > 1:
            said = time.monotonic()
            progress(f"snapshots are in place on {place + 1} of {len(datasets)} datasets")


def say(line: str) -> None:
    """Progress for people, on standard error."""
    print(f"mockcn: {line}", file=sys.stderr, flush=True)
