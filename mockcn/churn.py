# SPDX-License-Identifier: MPL-2.0
"""Random valid operations on a node: whatever administrators, agents and the platform do to it, in any order.

Always: the same node, seed and kinds give the same operations. An operation that fits nothing at the moment is passed
over and another one chosen, so that `count` really happen; each gives a line that says what it did.
A kind is a method below without its leading `do_`; WEIGHTS says how often it is drawn."""

import base64
import random
import time
from typing import Optional

from mockcn import edits
from mockcn.node import Node
from mockcn.population.identities import uuid_from
from mockcn.population.vms import Vm, settle, unsettle
from mockcn.state.datasets import Dataset, Snapshot
from mockcn.state.properties import find, parse
from mockcn.state.zones import Zone, ZoneError

WEIGHTS = {
    "alias": 3,
    "memory": 2,
    "cpu_cap": 2,
    "flag": 2,
    "nic_add": 1,
    "nic_remove": 1,
    "nic_change": 1,
    "transition": 1,
    "failed": 1,
    "config": 4,
    "config_removed": 1,
    "config_in_place": 1,
    "boot": 3,
    "halt": 3,
    "init_restart": 2,
    "zfs_set": 4,
    "zfs_inherit": 2,
    "snapshot": 5,
    "snapshot_destroy": 3,
    "snapshot_rename": 1,
    "hold": 2,
    "release": 2,
    "rollback": 2,
    "receive": 2,
    "data_child": 2,
    "volume": 2,
    "foreign": 3,
    "foreign_rename": 1,
    "promote": 1,
    "scrub": 1,
    "sysinfo": 1,
    "vm_add": 1,
    "vm_remove": 1,
}
TRIES = 200  # draws in a row that fitted nothing, before it is given up
FEWEST_VMS = 3  # vm_remove leaves at least these
WORDS = ["amber", "basalt", "cedar", "delta", "ember", "fjord", "\u00fcber", "line\nbreak", 'quo"te', ""]


class NothingFits(Exception):
    """None of the kinds asked for can happen on this node."""


def churn(node: Node, count: int, seed: int, pause: float, kinds: Optional[list[str]]) -> list[str]:
    """Do `count` operations, `pause` seconds apart, of the named kinds or of all; what was done."""
    random_one = _Churn(node, seed)
    chosen = kinds or list(WEIGHTS)
    weights = [WEIGHTS[kind] for kind in chosen]
    done: list[str] = []
    tries = 0
    while len(done) < count:
        kind = random_one.random.choices(chosen, weights)[0]
        line = getattr(random_one, f"do_{kind}")()
        tries = 0 if line else tries + 1
        if line:
            done.append(f"{kind} {line}")
            time.sleep(pause)
        elif tries > TRIES:
            raise NothingFits(f"none of {', '.join(chosen)} can happen here")
    return done


class _Churn:
    def __init__(self, node: Node, seed: int) -> None:
        self.node = node
        self.random = random.Random(seed)

    # -- picking ---------------------------------------------------------------------------------------------------

    def _zone(self, *states: str) -> Optional[Zone]:
        """A VM with readable XML, in one of these states if any are named."""
        with self.node.lock:
            fit = [
                zone
                for zone in self.node.zones.zones.values()
                if zone.is_vm and zone.name != "garbage" and (not states or zone.shown_state in states)
            ]
        return self.random.choice(fit) if fit else None

    def _dataset(self) -> Optional[Dataset]:
        """A dataset that some VM uses: its root, a volume of it, or its delegated one."""
        zone = self._zone("installed", "running", "ready")
        with self.node.lock:
            if zone is None or not self.node.pools.exists(zone.zonepath[1:]):
                return None
            root = self.node.pools.dataset(zone.zonepath[1:])
            fit = [root, *root.sorted_children()]
            if root.parent is not None:
                fit += [
                    child
                    for label, child in sorted(root.parent.children.items())
                    if label.startswith(root.label + "-disk")
                ]
        return self.random.choice(fit)

    def _snapshot(self) -> Optional[Snapshot]:
        """A snapshot of a VM's dataset that nothing was cloned from."""
        dataset = self._dataset()
        fit = [snap for snap in dataset.snapshots.values() if not snap.clones] if dataset else []
        return self.random.choice(fit) if fit else None

    def _number(self) -> int:
        return self.random.randrange(100_000)

    # -- zone configuration ----------------------------------------------------------------------------------------

    def do_alias(self) -> Optional[str]:
        zone = self._zone()
        if zone is None:
            return None
        alias = f"{self.random.choice(WORDS)}-{self._number()}"
        edits.set_attr(self.node, zone, "alias", base64.b64encode(alias.encode()).decode())
        return f"{zone.name} {alias!r}"

    def do_memory(self) -> Optional[str]:
        zone = self._zone()
        if zone is None:
            return None
        mib = self.random.choice([128, 256, 512, 1000, 2048, 4096])
        edits.set_memory(self.node, zone, mib)
        return f"{zone.name} {mib} MiB"

    def do_cpu_cap(self) -> Optional[str]:
        zone = self._zone()
        if zone is None:
            return None
        cap = self.random.choice([None, 50, 100, 150, 400])
        edits.set_rctl(self.node, zone, "zone.cpu-cap", cap)
        return f"{zone.name} {cap}"

    def do_flag(self) -> Optional[str]:
        zone = self._zone()
        if zone is None:
            return None
        name = self.random.choice(["firewall-enabled", "maintain-resolvers", "do-not-inventory", "archive-on-delete"])
        value = self.random.choice(["true", "false", None])
        edits.set_attr(self.node, zone, name, value)
        return f"{zone.name} {name}={value}"

    def do_transition(self) -> Optional[str]:
        zone = self._zone()
        if zone is None:
            return None
        value = self.random.choice([None, None, "stopping:stopped:1773403317000", "provisioning:running:1773403317000"])
        edits.set_attr(self.node, zone, "transition", value)
        return f"{zone.name} {value}"

    def do_failed(self) -> Optional[str]:
        zone = self._zone()
        if zone is None:
            return None
        value = self.random.choice([None, None, "provisioning"])
        edits.set_attr(self.node, zone, "failed", value)
        return f"{zone.name} {value}"

    def _macs(self, zone: Zone) -> list[str]:
        return [
            line.split('mac-addr="')[1].split('"')[0]
            for line in edits.read_xml(self.node, zone).splitlines()
            if 'mac-addr="' in line
        ]

    def do_nic_add(self) -> Optional[str]:
        zone = self._zone()
        if zone is None or len(self._macs(zone)) > 5:
            return None
        number = self._number()
        mac = f"02:08:20:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
        if mac in self._macs(zone):
            return None
        edits.add_nic(
            self.node,
            zone,
            {
                "interface": f"net{len(self._macs(zone))}",
                "mac": mac,
                "nic_tag": "external",
                "vlan_id": str(number % 4000),
                "ip": "dhcp",
                "ips": "dhcp",
            },
        )
        return f"{zone.name} {mac}"

    def do_nic_remove(self) -> Optional[str]:
        zone = self._zone()
        macs = self._macs(zone) if zone else []
        if zone is None or not macs:
            return None
        mac = self.random.choice(macs)
        edits.remove_nic(self.node, zone, mac)
        return f"{zone.name} {mac}"

    def do_nic_change(self) -> Optional[str]:
        zone = self._zone()
        macs = self._macs(zone) if zone else []
        if zone is None or not macs:
            return None
        mac, address = self.random.choice(macs), f"198.51.100.{self.random.randrange(2, 250)}"
        edits.set_nic(self.node, zone, mac, "ip", address)
        edits.set_nic(self.node, zone, mac, "ips", f"{address}/24")
        return f"{zone.name} {mac} {address}"

    # -- config files ----------------------------------------------------------------------------------------------

    def _config(self, in_place: bool) -> Optional[str]:
        zone = self._zone("installed", "running")
        if zone is None:
            return None
        file = self.random.choice(["tags", "metadata", "routes"])
        word, number = self.random.choice(WORDS), self._number()
        content: dict[str, object] = {
            "tags": {"role": word, str(number): True, "n": number},
            "metadata": {"customer_metadata": {word or "empty": str(number)}, "internal_metadata": {"n": number}},
            "routes": {f"10.{number % 250}.0.0/16": "192.0.2.1"},
        }
        self.node.make_folder(zone.zonepath + "/config")
        edits.write_config(self.node, zone, file, content[file], in_place=in_place)
        return f"{zone.name} {file} {number}"

    def do_config(self) -> Optional[str]:
        return self._config(in_place=False)

    def do_config_in_place(self) -> Optional[str]:
        return self._config(in_place=True)

    def do_config_removed(self) -> Optional[str]:
        zone = self._zone("installed", "running")
        file = self.random.choice(["tags", "routes"])
        try:
            if zone is None:
                return None
            edits.write_config(self.node, zone, file, None)
        except FileNotFoundError:
            return None
        return f"{zone.name} {file}"

    def do_sysinfo(self) -> Optional[str]:
        values = {**self.node.sysinfo, "Live Image": f"2026{self._number():05d}T000000Z"}
        with self.node.lock:
            self.node.write_sysinfo(values)
        return str(values["Live Image"])

    # -- zone states -----------------------------------------------------------------------------------------------

    def do_boot(self) -> Optional[str]:
        zone = self._zone("installed")
        if zone is None:
            return None
        edits.boot(self.node, zone)
        return zone.name

    def do_halt(self) -> Optional[str]:
        zone = self._zone("running")
        if zone is None:
            return None
        status = self.random.choice([-1, 0, 256, 9, 139])
        edits.halt(self.node, zone, status)
        return f"{zone.name} {status}"

    def do_init_restart(self) -> Optional[str]:
        zone = self._zone("running")
        if zone is None:
            return None
        with self.node.lock:
            self.node.zones.init_restart(zone)
        return zone.name

    def do_vm_add(self) -> Optional[str]:
        vm = Vm(
            uuid_from(self.random),
            self.random.choice(["joyent", "joyent-minimal", "lx", "bhyve", "kvm"]),
            alias=f"added-{self._number()}",
            delegated=self.random.random() < 0.3,
            state=self.random.choice(["running", "stopped"]),
            snapshots=["vmsnap-first"],
            files={"tags": {"added": True}},
        )
        if vm.brand in ("bhyve", "kvm"):
            vm.disks.append({"boot": "true", "model": "virtio", "media": "disk", "size": "1024"})
            vm.delegated = False
        settle(self.node, vm)
        return f"{vm.uuid} {vm.brand}"

    def do_vm_remove(self) -> Optional[str]:
        zone = self._zone("installed", "running")
        if zone is None or self.node.vm_count() <= FEWEST_VMS:
            return None
        try:
            unsettle(self.node, zone)
        except ZoneError:
            return None
        return zone.name

    # -- zfs -------------------------------------------------------------------------------------------------------

    def do_zfs_set(self) -> Optional[str]:
        dataset = self._dataset()
        if dataset is None:
            return None
        settings = [("compression", self.random.choice(["off", "lz4", "gzip", "on"]))]
        if dataset.kind == "filesystem":
            settings += [
                ("quota", self.random.choice(["0", "300G", "12345678901234"])),
                ("recordsize", self.random.choice(["8K", "128K"])),
                ("atime", "off"),
                ("filesystem_limit", self.random.choice(["none", "20"])),
                ("refquota", "400G"),
            ]
        name, text = self.random.choice(settings)
        with self.node.lock:
            self.node.pools.set(dataset, [self.node.pools.check_set(dataset, name, text)])
        return f"{dataset.name} {name}={text}"

    def do_zfs_inherit(self) -> Optional[str]:
        dataset = self._dataset()
        if dataset is None:
            return None
        name = self.random.choice(["compression", "recordsize"] if dataset.kind == "filesystem" else ["compression"])
        prop = find(name)
        assert prop is not None
        with self.node.lock:
            self.node.pools.inherit(dataset, prop)
        return f"{dataset.name} {name}"

    def do_snapshot(self) -> Optional[str]:
        dataset = self._dataset()
        name = self.random.choice(["vmsnap-c", "backup-", "indestructible"])
        name += "" if name == "indestructible" else str(self._number())
        if dataset is None or name in dataset.snapshots:
            return None
        with self.node.lock:
            dataset.space_written(self._number() * 512)
            self.node.pools.snapshot(
                [f"{dataset.name}@{name}"],
                recursive=self.random.random() < 0.1
                and not any(name in below.snapshots for below in dataset.descendants()),
            )
        return f"{dataset.name}@{name}"

    def do_snapshot_destroy(self) -> Optional[str]:
        snapshot = self._snapshot()
        if snapshot is None or snapshot.holds:
            return None
        with self.node.lock:
            self.node.pools.destroy_snapshots([snapshot])
        return snapshot.full_name

    def do_snapshot_rename(self) -> Optional[str]:
        snapshot = self._snapshot()
        new = f"vmsnap-r{self._number()}"
        if snapshot is None or new in snapshot.parent.snapshots:
            return None
        old = snapshot.full_name
        with self.node.lock:
            self.node.pools.rename_snapshot([snapshot], new)
        return f"{old} @{new}"

    def do_hold(self) -> Optional[str]:
        snapshot = self._snapshot()
        tag = self.random.choice(["keep", "do_not_destroy"])
        if snapshot is None or tag in snapshot.holds:
            return None
        with self.node.lock:
            self.node.pools.hold([snapshot], tag)
        return f"{snapshot.full_name} {tag}"

    def do_release(self) -> Optional[str]:
        snapshot = self._snapshot()
        if snapshot is None or not snapshot.holds:
            return None
        tag = sorted(snapshot.holds)[0]
        with self.node.lock:
            self.node.pools.release([snapshot], tag)
        return f"{snapshot.full_name} {tag}"

    def do_rollback(self) -> Optional[str]:
        snapshot = self._snapshot()
        if snapshot is None:
            return None
        names = list(snapshot.parent.snapshots)
        newer = [snapshot.parent.snapshots[name] for name in names[names.index(snapshot.name) + 1 :]]
        if any(snap.holds or snap.clones for snap in newer):
            return None
        with self.node.lock:
            self.node.pools.rollback(snapshot, destroy_newer=True)
        return f"{snapshot.full_name}, {len(newer)} newer"

    def do_receive(self) -> Optional[str]:
        dataset = self._dataset()
        name = f"vmsnap-recv{self._number()}"
        if dataset is None or dataset.kind != "filesystem" or name in dataset.snapshots:
            return None
        with self.node.lock:
            self.node.pools.receive(dataset.name, name)
        return f"{dataset.name}@{name}"

    def do_data_child(self) -> Optional[str]:
        dataset = self._dataset()
        if dataset is None or dataset.label != "data":
            return None
        with self.node.lock:
            fit = [child for child in dataset.sorted_children() if not any(s.holds for s in child.snapshots.values())]
            if fit and self.random.random() < 0.5:
                gone = self.random.choice(fit)
                self.node.pools.destroy(gone, recursive=True, with_clones=True)
                return f"destroy {gone.name}"
            name = f"{dataset.name}/c{self._number()}"
            if self.node.pools.exists(name):
                return None
            self.node.pools.create(name)
        return f"create {name}"

    def do_volume(self) -> Optional[str]:
        dataset = self._dataset()
        if dataset is None or dataset.kind != "volume":
            return None
        size = (1024 + self._number() % 4096) << 20
        prop = find("volsize")
        assert prop is not None
        with self.node.lock:
            self.node.pools.set(dataset, [(prop, parse(prop, str(size)))])
        return f"{dataset.name} {size}"

    def _foreign(self) -> list[Dataset]:
        with self.node.lock:
            return [
                child
                for root in self.node.pools.roots()
                for child in root.sorted_children()
                if child.label.startswith("foreign-")
            ]

    def do_foreign(self) -> Optional[str]:
        """A dataset that is no VM's comes, or one goes."""
        fit = [dataset for dataset in self._foreign() if not any(s.clones for s in dataset.snapshots.values())]
        with self.node.lock:
            if fit and self.random.random() < 0.4:
                gone = self.random.choice(fit)
                self.node.pools.destroy(gone, recursive=True)
                return f"destroy {gone.name}"
            name = f"{self.random.choice([root.name for root in self.node.pools.roots()])}/foreign-{self._number()}"
            if self.node.pools.exists(name):
                return None
            self.node.pools.create(name)
            self.node.pools.snapshot([f"{name}@base"])
        return f"create {name}"

    def do_foreign_rename(self) -> Optional[str]:
        fit = self._foreign()
        if not fit:
            return None
        dataset = self.random.choice(fit)
        old, new = dataset.name, f"{dataset.name.split('/')[0]}/foreign-{self._number()}"
        with self.node.lock:
            if self.node.pools.exists(new):
                return None
            self.node.pools.rename(dataset, new)
        return f"{old} {new}"

    def do_promote(self) -> Optional[str]:
        fit = [dataset for dataset in self._foreign() if dataset.snapshots]
        if not fit:
            return None
        origin = self.random.choice(fit)
        name = f"{origin.name.split('/')[0]}/foreign-{self._number()}"
        with self.node.lock:
            if self.node.pools.exists(name):
                return None
            clone = self.node.pools.clone(next(iter(origin.snapshots.values())), name)
            self.node.pools.promote(clone)
        return f"{name} over {origin.name}"

    def do_scrub(self) -> Optional[str]:
        with self.node.lock:
            name = self.node.pools.roots()[0].name
            self.node.pools.scrub(name)
        return name
