# SPDX-License-Identifier: MPL-2.0
"""What vmadm's writes cause on a node appears in the daemon's events: each row of the check list in docs/platform.md,
"What a change must cause".

The changes are made with the platform's own tools, as vmadm makes them, and nothing else tells the daemon of them."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any, Optional

import pytest

from mockcn import process
from mockcn.process import MockNode
from support.deadlines import SOON
from support.running_daemon import EventLines, RunningDaemon
from support.settling import settle
from support.zonemaking import SMARTOS, configured, installed, new_uuid, running, script, until

GONE = object()  # the action `removed`


@pytest.fixture(scope="module")
def node() -> Iterator[MockNode]:
    """A fast node for all tests of this file: each makes its own zones."""
    seconds = {"install": 0.0, "boot": 0.0, "halt": 0.0, "shutdown": 0.05, "guest": 0.1}
    with (
        tempfile.TemporaryDirectory(prefix="cn-") as folder,
        process.start(folder + "/node", vms=3, seconds=seconds) as running_node,
    ):
        yield running_node


@pytest.fixture
def unhurried(node: MockNode) -> Iterator[None]:
    """Zones that take their time, so that a busy machine does not merge their states into one event."""
    node.control.set_pace(boot=2, halt=2)
    yield
    node.control.set_pace(boot=0, halt=0)


@pytest.fixture(scope="module")
def daemon(node: MockNode) -> Iterator[RunningDaemon]:
    with RunningDaemon(node.root).start() as started:
        yield started


class Watching:
    """The events from now on, by VM."""

    def __init__(self, daemon: RunningDaemon) -> None:
        self._events: EventLines = daemon.events()

    def changes_until(self, zone: str, *wanted: tuple[str, Any]) -> list[dict[str, Any]]:
        """All change records of the zone until each of the wanted (path, new value or GONE) was among them."""
        records: list[dict[str, Any]] = []
        missing = list(wanted)
        while missing:
            event = self._events.until(lambda one: one.get("zonename") == zone and one["type"] == "modify")
            for record in event["changes"]:
                records.append(record)
                seen = (record["prettyPath"], GONE if record["action"] == "removed" else record.get("newValue"))
                missing = [one for one in missing if one != seen]
        return records

    def change(self, zone: str, path: str) -> dict[str, Any]:
        """The next change record of the zone with that path."""
        while True:
            for record in self.event(zone, "modify")["changes"]:
                if record["prettyPath"] == path:
                    return dict(record)

    def event(self, zone: str, kind: str) -> dict[str, Any]:
        """The zone's next event of that type."""
        return self._events.until(lambda one: one.get("zonename") == zone and one["type"] == kind)

    def vm_after(self, zone: str, *wanted: tuple[str, Any]) -> dict[str, Any]:
        """The VM object of the first event after which it has all the wanted values; GONE: it lacks the key."""

        def there(one: dict[str, Any]) -> bool:
            vm = one.get("vm", {})
            return one.get("zonename") == zone and all(
                key not in vm if value is GONE else vm.get(key) == value for key, value in wanted
            )

        result: dict[str, Any] = self._events.until(there)["vm"]
        return result

    def close(self) -> None:
        self._events.close()


INSTALL = ((1, ("zone_state", "incomplete")), (1, ("quota", 0)), (1, ("quota", 10)), (2, ("zone_state", "installed")))
# The third step tells of `ready` once more: a reading that this begins must not see the pid of what comes next.
BOOT = ((2, ("zone_state", "ready")), (1, None), (1, ("zone_state", "running")))

Parts = tuple[tuple[int, Optional[tuple[str, Any]]], ...]


class Stepwise:
    """A zoneadm of which each part is seen before the next is done: else a busy machine merges them into one event."""

    def __init__(self, node: MockNode, daemon: RunningDaemon, watching: Watching) -> None:
        self._node, self._daemon, self._watching = node, daemon, watching

    def run(self, zone: str, parts: Parts, *words: str) -> list[dict[str, Any]]:
        """The change records; `parts`: of how many steps each is (docs/mockcn.md), and what is seen of it, if
        anything is."""
        control, records = self._node.control, []
        control.fault("zoneadm", "hold", match=" ".join(words), at="each", times=None)
        command = threading.Thread(target=lambda: self._node.run("zoneadm", "-z", zone, *words, check=True))
        command.start()
        for steps, seen in parts:
            settle(self._daemon)
            for _ in range(steps):
                control.step("zoneadm")
            if seen is not None:
                records += self._watching.changes_until(zone, seen)
        command.join(SOON)
        control.clear_faults("zoneadm")
        return records


@pytest.fixture
def stepwise(node: MockNode, daemon: RunningDaemon, watching: Watching) -> Stepwise:
    return Stepwise(node, daemon, watching)


@pytest.fixture
def watching(daemon: RunningDaemon) -> Iterator[Watching]:
    watcher = Watching(daemon)
    yield watcher
    watcher.close()


def new_zone(node: MockNode, watching: Watching, *more: str) -> str:
    """A zone that is installed, and whose last event of that has been heard."""
    zone = installed(node, *more)
    watching.vm_after(zone, ("zone_state", "installed"), ("quota", 10))
    return zone


def values(records: list[dict[str, Any]], path: str) -> list[Any]:
    """The new values that a path took, in order."""
    return [record.get("newValue") for record in records if record["prettyPath"] == path]


def wait_for_the_next_second(path: str) -> None:
    """Until a file that is touched now gets a last_modified other than the one it has."""
    second = int(os.stat(path).st_mtime)
    while int(time.time()) <= second:
        time.sleep(0.01)


def test_new_xml_and_index_line_are_a_create_event_with_a_full_vm(node: MockNode, watching: Watching) -> None:
    zone = configured(
        node,
        'add attr; set name="alias"; set type=string; set value="Zm9v"; end',
        'add attr; set name=transition; set value="provisioning:running:1523467442755"; set type=string; end',
        'add attr; set name="provisioning"; set type=string; set value=true;end',
    )
    vm = watching.event(zone, "create")["vm"]
    assert (vm["uuid"], vm["alias"], vm["brand"], vm["zone_state"]) == (zone, "foo", "joyent-minimal", "configured")
    assert (vm["state"], vm["provisioning"], vm["transition_to"], vm["transition_expire"]) == (
        "provisioning",
        True,
        "running",
        1523467442755,
    )
    assert "zfs_filesystem" not in vm


def test_changed_xml_is_a_modify_with_the_property_and_last_modified(node: MockNode, watching: Watching) -> None:
    zone = new_zone(node, watching, 'add attr; set name="alias"; set type=string; set value="Zm9v"; end')
    wait_for_the_next_second(node.control.real(f"/etc/zones/{zone}.xml"))
    node.run("zonecfg", "-u", zone, stdin='select attr name=alias; set value="YmFy"; end\n', check=True)
    records = watching.changes_until(zone, ("alias", "bar"))
    assert [record["prettyPath"] for record in records] == ["alias", "last_modified"]


def test_touched_xml_is_a_modify_of_last_modified(node: MockNode, watching: Watching) -> None:
    zone = new_zone(node, watching)
    os.utime(node.control.real(f"/etc/zones/{zone}.xml"), (2_000_000_000, 2_000_000_000))
    assert watching.changes_until(zone, ("last_modified", "2033-05-18T03:33:20.000Z"))


def test_each_state_of_an_install_appears(node: MockNode, watching: Watching, stepwise: Stepwise) -> None:
    zone = configured(node)
    watching.event(zone, "create")
    records = stepwise.run(zone, INSTALL, "install", "-q", "10", "-t", SMARTOS, "-x", "nodataset")
    assert values(records, "zone_state") == ["incomplete", "installed"]
    assert values(records, "quota") == [0, 10]
    added = {record["prettyPath"]: record["newValue"] for record in records if record["action"] == "added"}
    assert (added["zfs_filesystem"], added["zpool"], added["zfs_root_recsize"]) == (f"zones/{zone}", "zones", 131072)


def test_boot_goes_by_way_of_ready_with_pid_0(node: MockNode, watching: Watching, stepwise: Stepwise) -> None:
    zone = new_zone(node, watching)
    records = stepwise.run(zone, BOOT, "boot", "-X")
    assert values(records, "zone_state") == ["ready", "running"]
    assert values(records, "pid")[0] == 0
    assert values(records, "pid")[-1] > 1
    assert values(records, "boot_timestamp")[0] == "1970-01-01T00:00:00.000Z"
    assert values(records, "zoneid")[0] > 0


def test_halt_adds_the_exit_and_removes_what_ran(node: MockNode, watching: Watching) -> None:
    zone = running(node)
    watching.vm_after(zone, ("zone_state", "running"))
    node.run("zoneadm", "-u", zone, "halt", "-X", check=True)
    records = watching.changes_until(
        zone,
        ("state", "stopped"),
        ("zone_state", "installed"),
        ("zoneid", None),
        ("pid", GONE),
        ("boot_timestamp", GONE),
        ("exit_status", 0),
    )
    added = {record["prettyPath"]: record["newValue"] for record in records if record["action"] == "added"}
    assert "exit_timestamp" in added
    node.run("zoneadm", "-u", zone, "boot", "-X", check=True)
    watching.changes_until(zone, ("exit_status", GONE), ("exit_timestamp", GONE), ("zone_state", "running"))


@pytest.mark.parametrize("command", ["/usr/sbin/shutdown -y -g 0 -i 5", "/sbin/shutdown -h now"])
def test_shutdown_from_inside_appears_as_halted(node: MockNode, watching: Watching, command: str) -> None:
    zone = running(node)
    watching.vm_after(zone, ("zone_state", "running"))
    node.run("zlogin", zone, command, check=True)
    vm = watching.vm_after(zone, ("state", "stopped"), ("pid", GONE))
    assert vm["exit_status"] == 0


@pytest.mark.usefixtures("unhurried")
def test_reboot_appears_as_running_that_was_not_running(node: MockNode, watching: Watching) -> None:
    zone = running(node)
    watching.vm_after(zone, ("zone_state", "running"))
    node.run("zlogin", zone, "/usr/sbin/shutdown -y -g 0 -i 6", check=True)
    records = watching.changes_until(zone, ("zone_state", "running"))
    assert values(records, "zone_state")[-1] == "running"
    assert [record["oldValue"] for record in records if record["prettyPath"] == "zone_state"][-1] != "running"


def test_killed_container_appears_with_its_exit_status(node: MockNode, watching: Watching) -> None:
    zone = running(node, 'add attr; set name="docker"; set type=string; set value="true"; end')
    pid = watching.vm_after(zone, ("zone_state", "running"))["pid"]
    node.run("kill", "-9", str(pid), check=True)
    assert watching.vm_after(zone, ("state", "stopped"))["exit_status"] == -9


def test_uninstall_removes_the_dataset_properties(node: MockNode, watching: Watching) -> None:
    zone = new_zone(node, watching)
    node.run("zoneadm", "-u", zone, "uninstall", "-F", check=True)
    watching.changes_until(
        zone,
        ("zone_state", "configured"),
        ("zfs_filesystem", GONE),
        ("zpool", GONE),
        ("quota", GONE),
        ("zfs_root_recsize", GONE),
    )


@pytest.mark.parametrize(
    "setting, path, shown",
    [
        ("quota=20g", "quota", 20),
        ("quota=none", "quota", 0),
        ("recsize=8192", "zfs_root_recsize", 8192),
        ("compression=lz4", "zfs_root_compression", "lz4"),
        ("filesystem_limit=5", "zfs_filesystem_limit", 5),
        ("snapshot_limit=7", "zfs_snapshot_limit", 7),
    ],
)
def test_zfs_set_changes_the_property(node: MockNode, watching: Watching, setting: str, path: str, shown: Any) -> None:
    zone = new_zone(node, watching)
    node.run("zfs", "set", setting, f"zones/{zone}", check=True)
    watching.changes_until(zone, (path, shown))


def test_snapshots_come_and_go(node: MockNode, watching: Watching) -> None:
    zone = new_zone(node, watching)
    node.run("zfs", "snapshot", f"zones/{zone}@vmsnap-monday", check=True)
    added = watching.change(zone, "snapshots.*")
    assert (added["action"], added["newValue"]["name"]) == ("added", "monday")
    node.run("zfs", "destroy", f"zones/{zone}@vmsnap-monday", check=True)
    removed = watching.change(zone, "snapshots.*")
    assert (removed["action"], removed["oldValue"]["name"]) == ("removed", "monday")


@pytest.mark.parametrize("below, path", [("", "indestructible_zoneroot"), ("/data", "indestructible_delegated")])
def test_held_snapshot_makes_a_dataset_indestructible(
    node: MockNode, watching: Watching, below: str, path: str
) -> None:
    zone = new_zone(node, watching)
    dataset = f"zones/{zone}{below}"
    if below:
        node.run("zfs", "create", dataset, check=True)
        node.run("zonecfg", "-u", zone, f"add dataset; set name={dataset}; end", check=True)
    node.run("zfs", "snapshot", f"{dataset}@indestructible", check=True)
    node.run("zfs", "hold", "do_not_destroy", f"{dataset}@indestructible", check=True)
    watching.changes_until(zone, (path, True))
    node.run("zfs", "release", "do_not_destroy", f"{dataset}@indestructible", check=True)
    node.run("zfs", "destroy", f"{dataset}@indestructible", check=True)
    watching.changes_until(zone, (path, GONE))


def test_renamed_config_file_changes_the_maps_keys(node: MockNode, watching: Watching) -> None:
    zone = new_zone(node, watching)
    folder = node.control.real(f"/zones/{zone}/config")
    for content, wanted in (
        ({"role": "db"}, ("tags.role", "db")),
        ({"role": "web"}, ("tags.role", "web")),
        ({}, ("tags.role", GONE)),
    ):
        with open(f"{folder}/tags.json.new", "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.rename(f"{folder}/tags.json.new", f"{folder}/tags.json")
        watching.changes_until(zone, wanted)


def test_removed_zone_is_a_delete_event_and_then_not_found(
    node: MockNode, daemon: RunningDaemon, watching: Watching
) -> None:
    zone = configured(node)
    watching.event(zone, "create")
    node.run("zonecfg", "-u", zone, "delete -F", check=True)
    watching.event(zone, "delete")
    assert daemon.vm(zone) is None


def test_nic_that_is_added_appears_whole(node: MockNode, watching: Watching) -> None:
    zone = new_zone(node, watching)
    node.run(
        "zonecfg",
        "-u",
        zone,
        stdin="""add net
set physical=net0
set mac-addr=b2:1e:ba:5:6e:71
set global-nic=external
add property (name=gateway, value="10.2.121.1")
add property (name=gateways, value="10.2.121.1")
add property (name=netmask, value="255.255.0.0")
add property (name=ip, value="10.2.121.70")
add property (name=ips, value="10.2.121.70/16")
end
""",
        check=True,
    )
    record = watching.change(zone, "nics.*")
    assert record["newValue"] == {
        "interface": "net0",
        "mac": "b2:1e:ba:05:6e:71",
        "nic_tag": "external",
        "gateway": "10.2.121.1",
        "gateways": ["10.2.121.1"],
        "netmask": "255.255.0.0",
        "ip": "10.2.121.70",
        "ips": ["10.2.121.70/16"],
    }


def test_whole_create_shows_the_lines_of_the_design_in_their_order(
    node: MockNode, watching: Watching, stepwise: Stepwise
) -> None:
    zone = new_uuid()
    node.run(
        "zonecfg",
        "-z",
        zone,
        stdin=script(
            zone,
            'add attr; set name="alias"; set type=string; set value="Zm9v"; end',
            'add attr; set name=transition; set value="provisioning:running:1523467442755"; set type=string; end',
            "set autoboot=true",
        ),
        check=True,
    )
    watching.event(zone, "create")
    records = stepwise.run(zone, INSTALL, "install", "-q", "10", "-t", SMARTOS, "-x", "nodataset")
    marker = node.control.real(f"/zones/{zone}/root/var/svc/provisioning")
    with open(marker, "w", encoding="ascii"):
        pass
    records += stepwise.run(zone, BOOT, "boot", "-X")
    until("the guest is ready", lambda: not os.path.exists(marker))
    node.run("zonecfg", "-u", zone, "remove attr name=transition", check=True)
    records += watching.changes_until(zone, ("transition_to", GONE))
    lines = [
        (one["prettyPath"], one["action"])
        for one in records
        if one["prettyPath"] in ("zone_state", "quota", "zfs_filesystem", "zoneid", "pid", "state", "transition_to")
    ]
    assert lines == [
        ("zone_state", "changed"),
        ("quota", "added"),
        ("zfs_filesystem", "added"),
        ("quota", "changed"),
        ("zone_state", "changed"),
        ("zone_state", "changed"),
        ("zoneid", "changed"),
        ("pid", "added"),
        ("zone_state", "changed"),
        ("pid", "changed"),
        ("state", "changed"),
        ("transition_to", "removed"),
    ]
    assert values(records, "zone_state") == ["incomplete", "installed", "ready", "running"]
    assert values(records, "state") == ["running"]
