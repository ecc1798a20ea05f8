# SPDX-License-Identifier: MPL-2.0
"""The ordinary VMs of a mock node: of every brand, with what such VMs have."""

import random
from typing import Any

from mockcn.population import images
from mockcn.population.identities import mac_from, uuid_from
from mockcn.population.vms import Vm

BASE_TIME = 1767225600  # 2026-01-01, seconds since the epoch: when the node was set up
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


def nics(source: random.Random, number: int, kind: str) -> list[dict[str, str]]:
    prefix = "eth" if kind in ("lx", "docker-lx") else "net"
    nics = []
    for place in range(source.choice([1, 1, 2, 3])):
        tag, net, vlan = [
            ("external", f"192.0.{2 + number // 200 % 50}", "20"),
            ("internal", "10.0.64", "64"),
            ("storage", "172.16.9", ""),
        ][place]
        address = f"{net}.{number % 200 + 20}"
        nic = {"interface": f"{prefix}{place}", "mac": mac_from(source)}
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


def files(source: random.Random, alias: str, docker: bool) -> dict[str, Any]:
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


def ordinary(source: random.Random, number: int) -> Vm:
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
        nics=nics(source, number, kind),
        files=files(source, alias, kind.startswith("docker")),
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
