# SPDX-License-Identifier: MPL-2.0
"""Who lives on the mock node, and how it comes and goes."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from mockcn import process
from mockcn.process import CHECKOUT, MockNode, NotStarted
from support.deadlines import SOON

BRANDS = {"joyent", "joyent-minimal", "lx", "kvm", "bhyve", "builder"}
EVERYTHING = "name,type,quota,refquota,creation,written,usedbysnapshots,userrefs,volsize,zoned,compression,mountpoint"


def every_xml(node: MockNode) -> dict[str, str]:
    return {zone["zonename"]: node.read(f"/etc/zones/{zone['zonename']}.xml") for zone in node.control.vms()}


def beginning(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(4096)


def picture(node: MockNode) -> dict[str, object]:
    """All that the node's files and tools show at the start, but for dates of the day."""
    files = {}
    for folder, _, names in os.walk(node.root):
        for name in names:
            path = os.path.join(folder, name)
            shown = path[len(node.root) :]
            if not shown.startswith(("/usr", "/.mockcn")):
                date = int(os.stat(path).st_mtime) if "/config/" in shown or shown.endswith("lastexited") else 0
                # Disks are long and mostly hole: their beginning tells one from another.
                files[shown] = (Path(path).read_bytes() if "/zvol/" not in shown else beginning(path), date)
    return {
        "files": files,
        "zones": node.run("zoneadm", "list", "-p", "-c").stdout,
        "datasets": node.run("zfs", "list", "-Hp", "-t", "all", "-o", EVERYTHING).stdout,
    }


def test_same_seed_gives_the_same_node_and_another_seed_another(root: str) -> None:
    pictures = []
    for seed in (4, 4, 5):
        with process.start(root, vms=30, snapshots=50, seed=seed) as node:
            pictures.append(picture(node))
    assert pictures[0] == pictures[1]
    assert pictures[0]["zones"] != pictures[2]["zones"]


@pytest.mark.parametrize("count", [0, 1, 7, 30, 31])
def test_there_are_as_many_vms_as_asked_for(root: str, count: int) -> None:
    with process.start(root, vms=count) as node:
        assert node.ready["vms"] == count
        assert len(node.control.vms()) == count


def test_every_brand_is_there_with_docker_ones_and_an_unsupported_one(quiet_node: MockNode) -> None:
    brands = {zone["brand"] for zone in quiet_node.control.vms()}
    assert brands > BRANDS
    assert len(brands) == len(BRANDS) + 1
    docker = {
        re.search(r'brand="([^"]+)"', xml)[1]  # type: ignore[index]
        for xml in every_xml(quiet_node).values()
        if '"docker"' in xml
    }
    assert docker == {"joyent-minimal", "lx"}


def test_most_vms_run_and_every_other_state_is_there(quiet_node: MockNode) -> None:
    states = Counter(zone["state"] for zone in quiet_node.control.vms())
    assert set(states) == {"running", "installed", "configured", "incomplete"}
    assert states["running"] > 30 / 2
    transitions = " ".join(every_xml(quiet_node).values())
    for text in (
        'value="receiving:stopped:',
        'value="provisioning:running:',
        'value="stopping:stopped:',
        'name="failed"',
        'name="provisioning"',
    ):
        assert text in transitions


def test_rare_parts_of_a_vm_object_are_all_there(quiet_node: MockNode) -> None:
    xml = " ".join(every_xml(quiet_node).values())
    for text in (
        "passthru",
        "<dataset ",
        "<filesystem ",
        "<fsoption ",
        'name="resolvers"',
        "flexible-disk-size",
        "install.iso",
        "addrconf",
        "allowed_ips",
        "vlan-id",
        'name="qemu-opts"',
        "zone.cpu-cap",
    ):
        assert text in xml
    assert any(xml.count("<network ") == 3 for xml in every_xml(quiet_node).values())
    assert any(xml.count("<device ") == 3 for xml in every_xml(quiet_node).values())


def test_zone_without_uuid_and_names_that_are_no_uuid_are_there(quiet_node: MockNode) -> None:
    zones = quiet_node.control.zones()
    assert [zone["zonename"] for zone in zones if not zone["is_vm"]] == ["buildbox"]
    assert [zone["zonename"] for zone in zones if zone["is_vm"] and zone["uuid"] != zone["zonename"]] == [
        "pagila-standby"
    ]


def test_texts_in_metadata_and_tags_are_of_every_sort(quiet_node: MockNode) -> None:
    texts = ""
    for zone in quiet_node.control.vms():
        path = f"{quiet_node.root}{zone['zonepath']}/config"
        for name in os.listdir(path) if os.path.isdir(path) else ():
            texts += json.dumps(json.loads(Path(path, name).read_text()), ensure_ascii=False)
    for text in ("\u00e9", "\u2603", "\\n", '\\"', "\U0001f600", '"10": true', "docker:"):
        assert text in texts


def test_datasets_are_those_of_vms_and_others(quiet_node: MockNode) -> None:
    names = quiet_node.run("zfs", "list", "-H", "-t", "all", "-o", "name").stdout.split("\n")
    for pattern in (
        r"zones/cores/.+",
        r"zones/var",
        r"tank/backup/weekly",
        r"tank/[0-9a-f-]{36}/data",
        r"zones/[0-9a-f-]{36}@final",
        r"zones/[0-9a-f-]{36}-disk0",
        r"zones/[0-9a-f-]{36}/disk1",
        r"zones/[0-9a-f-]{36}/data/[a-z]+",
        r".*@vmsnap-.*",
        r".*@backup-.*",
        r"zones/pagila-standby",
    ):
        assert any(re.fullmatch(pattern, name) for name in names), pattern


def test_indestructible_snapshots_are_held_on_root_and_data(quiet_node: MockNode) -> None:
    lines = quiet_node.run("zfs", "list", "-H", "-t", "snapshot", "-o", "name,userrefs").stdout.splitlines()
    held = [line.split("\t")[0].split("/", 1)[1] for line in lines if line.endswith("\t1")]
    assert all(name.endswith("@indestructible") for name in held)
    assert sorted("/data@" in name for name in held) == [False, False, True]


def test_receiving_vm_has_its_payload_file_and_no_dataset(quiet_node: MockNode) -> None:
    uuid = next(name for name, xml in every_xml(quiet_node).items() if 'value="receiving:' in xml)
    assert json.loads(quiet_node.read(f"/etc/zones/{uuid}-receiving.json"))["zfs_filesystem"] == f"zones/{uuid}"
    assert quiet_node.control.datasets(f"zones/{uuid}") == []


def test_extra_snapshots_are_spread(root: str) -> None:
    def snapshots(node: MockNode) -> list[str]:
        return node.run("zfs", "list", "-H", "-t", "snapshot", "-o", "name").stdout.split()

    with process.start(root, vms=10) as node:
        before = len(snapshots(node))
    with process.start(root, vms=10, snapshots=1000) as node:
        after = snapshots(node)
        assert len(after) == before + 1000
        assert len({name.split("@")[0] for name in after if "@vmsnap-auto-" in name}) >= 10


@pytest.mark.more
def test_big_node_gets_ready_and_lists_everything(root: str) -> None:
    with process.start(root, vms=1000, snapshots=100_000) as node:
        assert node.ready["vms"] == 1000
        listed = node.run("zfs", "list", "-H", "-p", "-t", "snapshot", "-o", "name").stdout.count("\n")
        assert listed > 100_000


def test_churn_is_the_same_for_the_same_seed_and_leaves_a_consistent_node(root: str) -> None:
    done = []
    for _ in range(2):
        with process.start(root, vms=30) as node:
            said = node.said()
            done.append(node.control.churn(300, seed=9))
            assert node.said() == said
            kept = node.run("zfs", "list", "-Hp", "-t", "all", "-o", EVERYTHING, "-d", "9").stdout
            fresh = node.run("zfs", "list", "-Hp", "-t", "all", "-o", EVERYTHING + ",used", "-d", "9").stdout
            assert kept == "".join(line.rsplit("\t", 1)[0] + "\n" for line in fresh.splitlines())
    assert done[0] == done[1]
    assert len(done[0]) == 300
    assert len({line.split()[0] for line in done[0]}) > 20


def test_churn_does_only_what_it_is_asked_for(node: MockNode) -> None:
    assert {line.split()[0] for line in node.control.churn(20, kinds=["alias", "snapshot"])} == {"alias", "snapshot"}


def test_real_zone_files_are_taken_unchanged_and_get_a_state_to_fit(root: str, vectors: Path) -> None:
    folder = vectors / "vmload-xml"
    with process.start(root, vms=0, imports=[folder]) as node:
        zones = {zone["zonename"]: zone for zone in node.control.vms()}
        assert len(zones) == len(list(folder.glob("*.xml")))
        assert Path(node.root, "etc/zones/lx-zone.xml").read_bytes() == (folder / "lx.xml").read_bytes()
        assert Path(node.root, "etc/zones/garbage.xml").read_bytes() == (folder / "garbage.xml").read_bytes()
        assert re.fullmatch(r"[0-9a-f-]{36}", zones["lx-zone"]["uuid"])
        assert zones["garbage"]["state"] == "installed"
        assert zones["lx-zone"]["brand"] == "lx"
        shown = node.run("zoneadm", "-z", "lx-zone", "list", "-p").stdout
        assert shown == f"-:lx-zone:installed:/zones/lx-zone:{zones['lx-zone']['uuid']}:lx:shared:1\n"
        kvm = "5a02245a-422c-4e0a-c5f8-fd6fac1ac04e"
        sizes = node.run("zfs", "list", "-Hp", "-t", "volume", "-o", "name,volsize").stdout
        assert f"zones/{kvm}-disk0\t10737418240\n" in sizes
        assert f"zones/{kvm}-disk1\t104857600\n" in sizes
        delegated = "zones/e9f6d7c2-49c5-4b54-9414-ca1405663e4f/data"
        assert node.run("zfs", "get", "-Ho", "value", "zoned", delegated).stdout == "on\n"


def test_imported_zone_whose_name_is_taken_is_left_out_with_a_line(root: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.xml").write_text('<zone name="same" zonepath="/zones/same" brand="joyent"/>')
    with process.start(root, vms=0, imports=[tmp_path]) as node:
        assert [zone["zonename"] for zone in node.control.vms()] == ["same"]
        assert "there is a zone same already" in node.said()


# -- coming and going --------------------------------------------------------------------------------------------------


def test_root_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep me")
    with pytest.raises(NotStarted, match="not an empty folder"):
        process.start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_everything_goes_with_the_node(root: str, number: int) -> None:
    os.mkdir(root)
    node = process.start(root, vms=3)
    follower = node.popen("sysevent", "-rj")
    assert follower.stdout is not None
    follower.stdout.readline()
    node.child.send_signal(number)
    assert node.child.wait(SOON) == 0
    assert os.listdir(root) == []
    assert follower.wait(SOON) == 1
    assert b"sysevent: the mock compute node has ended\n" in follower.communicate()[1]


def test_node_ends_with_the_process_that_started_it(root: str) -> None:
    starter = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from mockcn import process; "
        "print(process.start(sys.argv[1], vms=1).pid, flush=True); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", starter, root, CHECKOUT], stdout=subprocess.PIPE, text=True, timeout=SOON, check=True
    )
    assert int(done.stdout) > 0
    deadline = time.monotonic() + 20
    while os.path.exists(root):
        assert time.monotonic() < deadline, "the node outlived its starter"
        time.sleep(0.05)


def test_tools_of_a_node_that_died_say_so_in_one_line(root: str) -> None:
    node = process.start(root, vms=1)
    node.child.kill()
    node.child.wait()
    done = node.run("zfs", "list")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"zfs: no mock compute node is running at .+ \(.+\)\n", done.stderr)
    done = node.run("fswatcher", "-r", "-j")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_kept_files_stay_and_their_tools_say_that_the_node_is_gone(root: str) -> None:
    with process.start(root, vms=1, keep=True) as node:
        pass
    assert os.path.exists(f"{root}/etc/zones/index")
    assert "no mock compute node is running" in node.run("zoneadm", "list").stderr


def test_long_root_works_too(tmp_path: Path) -> None:
    with process.start(tmp_path / ("long-" * 30), vms=1) as node:
        assert node.run("zoneadm", "list").returncode == 0


def test_tools_are_executable_by_path_alone(quiet_node: MockNode) -> None:
    for tool in ("zoneadm", "zfs", "sysevent", "kstat", "fswatcher"):
        assert stat.S_IMODE(os.stat(quiet_node.tool(tool)).st_mode) == 0o755
    done = subprocess.run(
        ["/bin/sh", "-c", f"cd / && exec {quiet_node.tool('zoneadm')} list"],
        env={},
        capture_output=True,
        text=True,
        timeout=SOON,
    )
    assert done.stdout.splitlines()[0] == "global"


def test_help_explains_itself(capfd: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["ctl", "--help"], ["ctl", "--root", "/x", "fault", "--help"]):
        subprocess.run([sys.executable, f"{CHECKOUT}/mockcn", *words], check=True, timeout=SOON)
    shown = capfd.readouterr().out
    for text in ("examples:", "--snapshots", "set_attr", "--times"):
        assert text in shown


def test_people_give_orders_by_ctl(node: MockNode) -> None:
    def ctl(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mockcn", "ctl", "--root", node.root, *words],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=SOON,
        )

    uuid = next(zone["uuid"] for zone in node.control.vms() if zone["state"] == "running")
    assert uuid in ctl("vms").stdout
    assert ctl("write_config", uuid, "tags", '{"role":"db"}').returncode == 0
    assert json.loads(node.read(f"/zones/{uuid}/config/tags.json")) == {"role": "db"}
    assert ctl("halt", uuid, "--status", "256").returncode == 0
    assert ctl("fault", "zoneadm", "fail", "--times", "1", "exit=5").returncode == 0
    assert node.run("zoneadm", "list").returncode == 5
    refused = ctl("halt", uuid)
    assert (refused.returncode, refused.stderr) == (1, f"mockcn ctl: zoneadm: zone '{uuid}': zone is already halted\n")
