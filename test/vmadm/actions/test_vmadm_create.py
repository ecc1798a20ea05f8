# SPDX-License-Identifier: MPL-2.0
"""`vmadm create`: what it runs and writes, what everybody sees, and what is left when it fails."""

import filecmp
import json
import os
import re

import pytest

from support.examples import few, more
from support.writing import BASE_IMAGE, IMAGE, LEGACY_IMAGE, LX_IMAGE, NOBODY, ZVOL_IMAGE
from vmadm import BadPayload, NotReached, VmadmError
from vmadm.actions import firstboot

pytest_plugins = ["support.writers"]

U = "5f0c0c52-6a1e-4d0b-9a57-0a4b1f2d7e11"
PAYLOAD = {"brand": "joyent-minimal", "image_uuid": IMAGE, "alias": "foo"}
NIC = {
    "nic_tag": "external",
    "mac": "b2:1e:ba:a5:6e:71",
    "ip": "10.2.121.70",
    "netmask": "255.255.0.0",
    "gateway": "10.2.121.1",
}


@pytest.fixture(autouse=True)
def _one_vm_at_a_time(request):
    yield
    if "cn" in request.fixturenames:
        cn = request.getfixturevalue("cn")
        cn.control.clear_faults()
        vm = cn.get(U)
        if vm is not None:
            held = [name for name in ("indestructible_zoneroot", "indestructible_delegated") if vm.get(name)]
            cn.api.update(U, dict.fromkeys(held, False))
            cn.api.delete(U)


def root_file(cn, name, uuid=U):
    return cn.node.read(f"/zones/{uuid}/root/{name}")


# What comes of it.


def test_created_vm_runs_when_the_command_returns(cn):
    line = cn.ok("create", payload=PAYLOAD)
    uuid = re.fullmatch(r"Successfully created VM ([0-9a-f-]{36})", line).group(1)
    vm = cn.vm(uuid)
    expected = {
        "state": "running",
        "zone_state": "running",
        "alias": "foo",
        "brand": "joyent-minimal",
        "image_uuid": IMAGE,
        "autoboot": True,
        "quota": 10,
        "max_physical_memory": 256,
        "max_locked_memory": 256,
        "max_swap": 256,
        "tmpfs": 256,
        "max_shm_memory": 256,
        "max_lwps": 2000,
        "cpu_shares": 100,
        "zfs_io_priority": 100,
        "dns_domain": "local",
        "limit_priv": "default",
        "v": 1,
        "nics": [],
        "resolvers": [],
        "tags": {},
        "routes": {},
        "customer_metadata": {},
        "internal_metadata": {},
        "zonepath": f"/zones/{uuid}",
        "zpool": "zones",
        "owner_uuid": "00000000-0000-0000-0000-000000000000",
        "zfs_filesystem": f"zones/{uuid}",
    }
    assert {name: vm.get(name) for name in expected} == expected
    assert not vm.keys() & {"provisioning", "transition", "transition_to", "transition_expire", "failed"}
    cn.api.delete(uuid)


def test_commands_of_a_create_in_their_order(cn):
    cn.forget_commands()
    cn.api.create({**PAYLOAD, "uuid": U, "quota": 5})
    assert cn.commands() == [
        f"imgadm get -P zones {IMAGE}",
        f"zfs list -o name -H zones/{U}",
        f"zonecfg -z {U}",
        f"zoneadm -z {U} install -q 5 -t {IMAGE} -x nodataset",
        "svccfg -s svc:/smartdc/mdata:execute setprop start/timeout_seconds = count: 300",
        f"zonecfg -u {U} remove attr name=provisioning",
        f"zoneadm -u {U} boot -X",
        f"zonecfg -u {U} set autoboot=true",
        f"zonecfg -u {U} remove attr name=transition",
    ]


def test_vm_that_is_not_to_boot(cn):
    vm = cn.api.create({**PAYLOAD, "uuid": U, "autoboot": "false"})
    assert (vm["state"], vm["autoboot"]) == ("stopped", False)
    assert os.path.exists(f"{cn.root}/zones/{U}/root/var/svc/provisioning")


def test_generated_uuids_differ(cn):
    first, second = (cn.create(alias="gen")["uuid"] for _ in range(2))
    assert first != second
    cn.api.delete(first)
    cn.api.delete(second)


def test_everything_that_a_payload_can_say(cn):
    vm = cn.create(
        uuid=U,
        ram=512,
        quota=3,
        cpu_cap=150,
        hostname="web0",
        resolvers=["8.8.8.8"],
        nics=[NIC, {"nic_tag": "internal", "ip": "dhcp", "primary": True}],
        tags={"role": "web"},
        routes={"10.0.0.0/8": "10.0.0.1"},
        customer_metadata={"user-script": "a\nb"},
        internal_metadata={"pw": "x"},
        zfs_root_compression="lz4",
        zfs_root_recsize=4096,
        indestructible_zoneroot=False,
        do_not_inventory=True,
        package_name="p",
        filesystems=[{"source": "/zones", "target": "/mnt", "type": "lofs", "options": ["ro"]}],
    )
    assert vm["max_physical_memory"] == 512
    assert (vm["quota"], vm["cpu_cap"], vm["hostname"], vm["resolvers"]) == (3, 150, "web0", ["8.8.8.8"])
    assert (vm["tags"], vm["routes"]) == ({"role": "web"}, {"10.0.0.0/8": "10.0.0.1"})
    assert (vm["customer_metadata"], vm["internal_metadata"]) == ({"user-script": "a\nb"}, {"pw": "x"})
    assert (vm["zfs_root_compression"], vm["zfs_root_recsize"]) == ("lz4", 4096)
    assert vm["filesystems"] == [{"source": "/zones", "target": "/mnt", "type": "lofs", "options": ["ro"]}]
    assert [(nic["interface"], nic.get("primary")) for nic in vm["nics"]] == [("net0", None), ("net1", True)]
    assert vm["do_not_inventory"] is True
    assert '<attr name="do-not-inventory" type="string" value="true"/>' in cn.zone_xml(U)
    assert json.loads(cn.config(U, "metadata")) == {
        "internal_metadata": {"pw": "x"},
        "customer_metadata": {"user-script": "a\nb"},
    }


def test_config_files_of_a_vm_without_any_metadata(cn):
    cn.create(uuid=U)
    assert [cn.config(U, name) for name in ("metadata", "tags", "routes")] == ["{}\n"] * 3


def test_first_nic_is_primary_if_none_is_said_to_be(cn):
    vm = cn.create(uuid=U, nics=[NIC, {"nic_tag": "internal", "ip": "dhcp"}])
    assert [nic.get("primary") for nic in vm["nics"]] == [True, None]


def test_files_in_the_zone(cn):
    cn.create(
        uuid=U,
        hostname="web0",
        nics=[{**NIC, "ips": ["10.2.121.70/16", "10.2.121.71/16", "addrconf"]}, {"nic_tag": "internal", "ip": "dhcp"}],
    )
    assert root_file(cn, "etc/nodename") == "web0\n"
    assert root_file(cn, "etc/hostname.net0") == "10.2.121.70/16 up\n10.2.121.71/16 up\n"
    assert not os.path.exists(f"{cn.root}/zones/{U}/root/etc/hostname.net1")
    assert not os.path.exists(f"{cn.root}/zones/{U}/root/etc/dhcp.net1")
    assert root_file(cn, "etc/addrconf.net0") == ""
    assert root_file(cn, "etc/defaultrouter") == "10.2.121.1\n"
    assert root_file(cn, "var/svc/provisioning") == ""
    assert not os.path.exists(f"{cn.root}/zones/{U}/root/var/adm/utmpx")


def test_all_gateways_and_ipv6_addresses_of_the_primary_nic(cn):
    ips = ["10.2.121.70/16", "fd00::5/64", "dhcp"]
    cn.create(
        uuid=U,
        nics=[
            {"nic_tag": "internal", "ips": ["192.0.2.5/24"], "gateways": ["192.0.2.1"]},
            {"nic_tag": "external", "ips": ips, "gateways": ["10.2.121.1", "10.2.121.2"], "primary": True},
        ],
    )
    assert root_file(cn, "etc/hostname.net0") == "192.0.2.5/24 up\n"
    assert root_file(cn, "etc/hostname.net1") == "10.2.121.70/16 up\nfd00::5/64 up\n"
    assert root_file(cn, "etc/dhcp.net1") == ""
    assert root_file(cn, "etc/defaultrouter") == "10.2.121.1\n10.2.121.2\n"


def test_delegated_dataset(cn):
    vm = cn.create(
        uuid=U,
        delegate_dataset=True,
        zfs_data_compression="gzip",
        indestructible_delegated=True,
        indestructible_zoneroot=True,
    )
    assert vm["datasets"] == [f"zones/{U}/data"]
    assert vm["zfs_data_compression"] == "gzip"
    assert (vm["indestructible_delegated"], vm["indestructible_zoneroot"]) == (True, True)


def test_delegated_dataset_does_not_inherit_the_roots_properties(cn):
    vm = cn.create(uuid=U, delegate_dataset=True, zfs_root_compression="lz4", zfs_root_recsize=1024)
    assert (vm.get("zfs_data_compression"), vm["zfs_data_recsize"]) == (None, 131072)


def test_shared_volume_of_its_own(cn):
    volume = "11111111-2222-4333-8444-555555555555"
    vm = cn.create(uuid=U, filesystems=[{"source": volume, "target": "/data", "type": "lofs"}])
    assert vm["filesystems"] == [{"source": f"/zones/{U}/volumes/{volume}", "target": "/data", "type": "lofs"}]
    assert os.path.isdir(f"{cn.root}/zones/{U}/volumes/{volume}")
    assert f"zones/{U}/volumes/{volume}" in cn.control.datasets()


def test_shared_volume_mounted_at_two_places_is_one_dataset(cn):
    volume = "11111111-2222-4333-8444-555555555555"
    places = [{"source": volume, "target": target, "type": "lofs"} for target in ("/data", "/more")]
    vm = cn.create(uuid=U, filesystems=places)
    assert {each["source"] for each in vm["filesystems"]} == {f"/zones/{U}/volumes/{volume}"}
    cn.ok("delete", U)
    assert not [name for name in cn.control.datasets() if U in name]


def test_volume_begins_with_what_the_image_has_in_its_place(cn):
    places = [{"source": "create-volume", "target": target, "type": "lofs"} for target in ("/var/adm", "/new")]
    vm = cn.create(uuid=U, filesystems=places)
    source = {each["target"]: cn.root + each["source"] for each in vm["filesystems"]}
    image = f"{cn.root}/zones/{IMAGE}/root/var/adm"
    assert sorted(os.listdir(source["/var/adm"])) == sorted(os.listdir(image)) != []
    for name in os.listdir(image):
        assert filecmp.cmp(f"{image}/{name}", f"{source['/var/adm']}/{name}", shallow=False)
    assert os.listdir(source["/new"]) == []
    cn.api.delete(U)


def test_volume_over_what_is_no_folder_makes_nothing(cn):
    with pytest.raises(VmadmError, match="/root/etc/release"):
        cn.create(uuid=U, filesystems=[{"source": "create-volume", "target": "/etc/release", "type": "lofs"}])
    assert cn.is_gone(U)


def test_vm_on_another_pool(own_cn):
    pools = own_cn.node.run("zpool", "list", "-H", "-o", "name").stdout.split()
    if "tank" not in pools:
        pytest.skip("the mock node has one pool")
    vm = own_cn.create(uuid=U, zpool="tank")
    assert (vm["zpool"], vm["zonepath"]) == ("tank", f"/tank/{U}")


def test_zonename_of_its_own(cn):
    vm = cn.create(uuid=U, zonename="buildbox1")
    assert (vm["uuid"], vm["zonename"], vm["zonepath"]) == (U, "buildbox1", "/zones/buildbox1")
    assert cn.api.update(U, quota=2)["quota"] == 2
    assert cn.api.start(U)["state"] == "running"
    cn.api.delete(U)
    assert cn.get(U) is None


@pytest.mark.parametrize("brand", ["joyent", *more("builder")])
def test_joyent_brands(cn, brand):
    vm = cn.api.create({"uuid": U, "brand": brand, "image_uuid": BASE_IMAGE})
    assert (vm["state"], vm["brand"]) == ("running", brand)


def test_brand_is_joyent_unless_said(cn):
    assert cn.api.create({"uuid": U, "image_uuid": BASE_IMAGE, "autoboot": False})["brand"] == "joyent"


def test_lx(cn):
    vm = cn.api.create(
        {
            "uuid": U,
            "brand": "lx",
            "image_uuid": LX_IMAGE,
            "kernel_version": "4.3.0",
            "nics": [{"nic_tag": "admin", "ip": "dhcp"}],
        }
    )
    assert (vm["state"], vm["kernel_version"], vm["nics"][0]["interface"]) == ("running", "4.3.0", "eth0")


def test_docker(cn):
    vm = cn.api.create({**PAYLOAD, "uuid": U, "docker": True})
    assert (vm["docker"], vm["restart_init"], vm["init_name"]) == (True, False, "/usr/vm/sbin/dockerinit")
    assert re.fullmatch(f"{U.replace('-', '')}[0-9a-f]{{32}}", vm["internal_metadata"]["docker:id"])
    assert vm["internal_metadata_namespaces"] == ["docker"]


def test_nowait_leaves_the_transition_to_others(cn):
    vm = cn.api.create({**PAYLOAD, "uuid": U, "nowait": True})
    assert (vm["zone_state"], vm["state"], vm["transition_to"]) == ("running", "provisioning", "running")


def test_bhyve(cn):
    vm = cn.api.create(
        {
            "uuid": U,
            "brand": "bhyve",
            "ram": 1024,
            "vcpus": 2,
            "quota": 2,
            "autoboot": False,
            "disks": [
                {"image_uuid": ZVOL_IMAGE, "image_size": 10240, "model": "virtio", "boot": True},
                {"size": 512, "model": "virtio"},
            ],
        }
    )
    assert (vm["state"], vm["quota"], vm["vcpus"]) == ("stopped", 2, 2)
    assert [(disk["path"], disk["size"]) for disk in vm["disks"]] == [
        (f"/dev/zvol/rdsk/zones/{U}/disk0", 10240),
        (f"/dev/zvol/rdsk/zones/{U}/disk1", 512),
    ]
    assert [disk["pci_slot"] for disk in vm["disks"]] == ["0:4:0", "0:4:1"]
    cn.api.delete(U)
    assert cn.is_gone(U)


@pytest.mark.parametrize(
    ("vdev", "ashift", "asked", "block"),
    [
        ("raidz", 12, {}, 32768),
        *more(("raidz", 9, {}, 8192)),
        ("mirror", 12, {}, 8192),
        ("raidz", 12, {"block_size": 512}, 512),
    ],
)
def test_blocks_of_a_new_volume_suit_the_pool(cn, vdev, ashift, asked, block):
    cn.control.set_vdev("zones", vdev, ashift)
    try:
        disks = [{"size": 64, "model": "virtio", **asked}]
        room = {"flexible_disk_size": 1024}
        vm = cn.api.create({"uuid": U, "brand": "bhyve", "ram": 1024, "autoboot": False, "disks": disks, **room})
        assert vm["disks"][0]["block_size"] == block
        assert cn.node.run("zfs", "get", "-Hpo", "value", "volblocksize", f"zones/{U}/disk0").stdout == f"{block}\n"
        after = cn.api.update(U, add_disks=[{"size": 64, "model": "virtio"}])
        assert after["disks"][1]["block_size"] == (8192 if vdev == "mirror" or ashift == 9 else 32768)
    finally:
        cn.control.set_vdev("zones", "mirror", 12)


def test_pool_that_cannot_be_asked_for_its_blocks_makes_nothing(cn):
    cn.control.fault("zdb", "fail", stderr="zdb: can't open 'zones': I/O error\n")
    disks = [{"size": 64, "model": "virtio"}]
    text = cn.fails("create", payload={"uuid": U, "brand": "bhyve", "ram": 1024, "disks": disks})
    assert "I/O error" in text
    assert cn.is_gone(U)


@pytest.mark.parametrize(
    ("change", "text"),
    [({"Bhyve Capable": False}, "Bhyve not supported"), ({}, 'sysinfo does not have "Bhyve Capable" property')],
)
def test_bhyve_where_the_machine_cannot(cn, change, text):
    sysinfo = cn.control.sysinfo()
    plain = {key: value for key, value in sysinfo.items() if key != "Bhyve Capable"}
    cn.control.write_sysinfo({**plain, **change})
    try:
        payload = {"uuid": U, "brand": "bhyve", "ram": 1024, "disks": [{"size": 64, "model": "virtio"}]}
        assert cn.fails("create", payload=payload) == text
        assert cn.is_gone(U)
        cn.api.create({**PAYLOAD, "uuid": U})
    finally:
        cn.control.write_sysinfo(sysinfo)


def test_cpu_shares_beyond_the_most_there_are(cn):
    assert cn.create(uuid=U, cpu_shares=70000)["cpu_shares"] == 65535


def test_cloud_inits_disk_has_room_of_its_own(cn):
    vm = cn.api.create(
        {
            "uuid": U,
            "brand": "bhyve",
            "ram": 1024,
            "autoboot": False,
            "flexible_disk_size": 2048,
            "disks": [{"size": 512, "model": "virtio"}],
            "internal_metadata": {"cloudinit_datasource": "nocloud"},
        }
    )
    path = f"/dev/zvol/rdsk/zones/{U}/disk1"
    assert (vm["flexible_disk_size"], vm["internal_metadata"]["cloudinit_nocloud_path"]) == (2064, path)
    assert [(disk["path"], disk["size"], disk["boot"]) for disk in vm["disks"][1:]] == [(path, 16, False)]


def test_kvm(cn):
    vm = cn.api.create({"uuid": U, "brand": "kvm", "ram": 1024, "disks": [{"size": 512, "model": "virtio"}]})
    assert (vm["state"], vm["autoboot"], vm["max_physical_memory"]) == ("running", True, 2048)
    assert [(disk["path"], disk["size"]) for disk in vm["disks"]] == [(f"/dev/zvol/rdsk/zones/{U}-disk0", 512)]
    assert 'autoboot="false"' in cn.zone_xml(U)
    cn.api.delete(U)
    assert cn.is_gone(U)


# Refused before anything is touched.


def test_uuid_in_use(cn):
    cn.create(uuid=U, alias="first")
    assert cn.fails("create", payload={**PAYLOAD, "uuid": U}) == f"VM with UUID {U} already exists"
    assert cn.vm(U)["alias"] == "first"


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"brand": "sol10"}, 'Invalid brand while validating payload: "sol10"'),
        ({"brand": 5}, 'Invalid brand while validating payload: "5"'),
        ({"brand": "joyent"}, "Missing required properties: image_uuid"),
        ({"brand": "lx", "image_uuid": LX_IMAGE}, "Missing required properties: kernel_version"),
        ({"brand": "joyent", "image_uuid": NOBODY}, "Invalid value(s) for: image_uuid"),
        ({"brand": "joyent", "image_uuid": LX_IMAGE}, "Invalid value(s) for: image_uuid"),
        ({**PAYLOAD, "zpool": "nopool"}, "Invalid value(s) for: zpool,image_uuid"),
        ({**PAYLOAD, "uuid": "x"}, "Invalid value(s) for: uuid"),
        ({**PAYLOAD, "quota": "x", "alias": 5}, "Invalid value for quota: null:number; Invalid value(s) for: alias"),
        (
            {**PAYLOAD, "nics": [NIC, NIC]},
            f"Cannot add multiple NICs with the same MAC: {NIC['mac']}; "
            "Cannot add multiple NICs with the same IP: 10.2.121.70/16",
        ),
        ({**PAYLOAD, "nics": [NIC], "add_nics": []}, 'Cannot specify both "nics" and "add_nics"'),
        ({**PAYLOAD, "nics": [{"nic_tag": "nosuch"}]}, 'Invalid nic tag "nosuch"'),
        ({"brand": "kvm", "disks": [{"size": 1}]}, 'missing .model option for disk: {"size":1,"media":"disk"}'),
        (
            {"brand": "joyent", "image_uuid": LEGACY_IMAGE},
            f"provisioning dataset {LEGACY_IMAGE} with brand joyent is not supported",
        ),
    ],
)
def test_bad_payload_makes_nothing(cn, payload, text):
    index = cn.node.read("/etc/zones/index")
    assert cn.fails("create", payload=payload) == text
    assert cn.node.read("/etc/zones/index") == index


def test_all_errors_of_a_payload_come_together(cn):
    with pytest.raises(BadPayload) as raised:
        cn.api.create(
            {"brand": "lx", "quota": "x", "resolvers": ["a"], "zfs_root_compression": "z", "nics": [{"ip": "dhcp"}]}
        )
    assert [error.partition(":")[0].partition(" for")[0] for error in raised.value.errors] == [
        "Invalid value",
        "Invalid value(s)",
        "Missing required properties",
        "invalid or missing .nic_tag option",
        "invalid compression type",
    ]


def test_dataset_in_the_way_is_left_alone(cn):
    cn.node.run("zfs", "create", f"zones/{U}", check=True)
    assert cn.fails("create", payload={**PAYLOAD, "uuid": U}) == (
        f"dataset zones/{U} exists already: if a create that was killed left it, remove it with zfs destroy -r"
    )
    assert f"zones/{U}" in cn.control.datasets()
    cn.node.run("zfs", "destroy", f"zones/{U}", check=True)


def test_without_the_daemon_nothing_is_made(own_cn):
    index = own_cn.node.read("/etc/zones/index")
    own_cn.daemon.stop()
    assert own_cn.fails("create", payload=PAYLOAD).endswith("; nothing was changed")
    assert own_cn.node.read("/etc/zones/index") == index


# Failures on the way: nothing is left.

CLEANED = f"what was made of VM {U} has been removed"


@pytest.mark.parametrize(
    ("tool", "match", "options"),
    few(
        [
            ("zonecfg", f"-z {U}", {}),
            ("zonecfg", f"-z {U}", {"at": "commit"}),
            ("zoneadm", "install", {}),
            ("zoneadm", "install", {"at": "cloned"}),
            ("zoneadm", "install", {"at": "quota"}),
            ("zoneadm", "install", {"at": "installed"}),
            ("zfs", f"set compression=lz4 zones/{U}", {}),
            ("zfs", f"snapshot zones/{U}@indestructible", {}),
            ("zfs", "hold do_not_destroy", {}),
            ("zfs", f"create -o compression=off zones/{U}/data", {}),
            ("zonecfg", "add dataset", {}),
            ("zonecfg", "remove attr name=provisioning", {}),
            ("zoneadm", "boot", {}),
            ("zoneadm", "boot", {"at": "ready"}),
            ("zonecfg", "remove attr name=transition", {}),
        ],
        3,
    ),
)
def test_failing_tool_at_each_step(cn, tool, match, options):
    cn.control.fault(tool, "fail", match=match, stderr="no such luck\n", **options)
    payload = {
        **PAYLOAD,
        "uuid": U,
        "zfs_root_compression": "lz4",
        "indestructible_zoneroot": True,
        "delegate_dataset": True,
        "indestructible_delegated": True,
    }
    text = cn.fails("create", payload=payload)
    assert text.startswith("first of 1 error: Command failed: no such luck")
    assert text.endswith(CLEANED)
    assert cn.is_gone(U)
    cn.control.clear_faults()
    assert cn.api.create(payload)["state"] == "running"


@pytest.mark.parametrize(
    ("tool", "match"), [("zfs", "create -o volblocksize"), ("zfs", f"create zones/{U}"), ("zfs", "clone")]
)
def test_failing_disk(cn, tool, match):
    cn.control.fault(tool, "fail", match=match, stderr="no such luck\n")
    text = cn.fails(
        "create",
        payload={
            "uuid": U,
            "brand": "bhyve",
            "ram": 1024,
            "disks": [{"image_uuid": ZVOL_IMAGE, "model": "virtio"}, {"size": 512, "model": "virtio"}],
        },
    )
    assert "Command failed: no such luck" in text
    assert text.endswith(CLEANED)
    assert cn.is_gone(U)


def test_hanging_zone_can_be_cleaned_up_after(cn):
    cn.control.fault("zoneadm", "die", match="install", at="cores")
    assert cn.fails("create", payload={**PAYLOAD, "uuid": U}).endswith(CLEANED)
    assert cn.is_gone(U)


def test_what_cannot_be_removed_is_reported(cn):
    cn.control.fault("zoneadm", "fail", match="install -q", at="quota", stderr="no\n")
    cn.control.fault("zonecfg", "fail", match="delete -F", stderr="busy\n")
    text = cn.fails("create", payload={**PAYLOAD, "uuid": U})
    assert text.endswith(
        f"could not remove all that was made of it (zone {U}: Command failed: busy): run vmadm delete {U}"
    )
    cn.control.clear_faults()
    cn.ok("delete", U)
    assert cn.is_gone(U)


def test_link_in_an_image_is_not_followed(cn, tmp_path):
    snapshot = f"zones/{IMAGE}"
    link = f"{cn.root}/{snapshot}/root/etc"
    os.makedirs(os.path.dirname(link), exist_ok=True)
    had = os.path.isdir(link) and not os.path.islink(link)
    if had:
        os.rename(link, link + ".kept")
    os.symlink(tmp_path, link)
    cn.node.run("zfs", "snapshot", f"{snapshot}@evil", check=True)
    os.unlink(link)
    if had:
        os.rename(link + ".kept", link)
    # Clones come from @final: stand in for an image whose own root holds the link.
    cn.node.run("zfs", "rename", f"{snapshot}@final", f"{snapshot}@good", check=True)
    cn.node.run("zfs", "rename", f"{snapshot}@evil", f"{snapshot}@final", check=True)
    try:
        done = cn.vmadm("create", payload={**PAYLOAD, "uuid": U})
    finally:
        cn.node.run("zfs", "rename", f"{snapshot}@final", f"{snapshot}@evil", check=True)
        cn.node.run("zfs", "rename", f"{snapshot}@good", f"{snapshot}@final", check=True)
    assert os.listdir(tmp_path) == []
    if done.code:
        assert "is a symbolic link" in done.err
        assert cn.is_gone(U)


def test_fifo_in_an_image_does_not_hang_a_create(cn):
    described = f"{cn.root}/zones/{IMAGE}/root/var/zoneinit/zoneinit.json"
    os.rename(described, described + ".kept")
    os.mkfifo(described)
    try:
        assert "zoneinit.json is a FIFO" in cn.fails("create", payload={**PAYLOAD, "uuid": U, "brand": "joyent"})
    finally:
        os.unlink(described)
        os.rename(described + ".kept", described)
    assert cn.is_gone(U)


def test_zone_that_is_not_provisioned_in_time_is_marked_and_kept(cn, monkeypatch):
    monkeypatch.setattr(firstboot, "LIMIT", 0.5)
    cn.control.set_pace(guest=None)
    try:
        with pytest.raises(NotReached) as raised:
            cn.api.create({**PAYLOAD, "uuid": U})
    finally:
        cn.control.set_pace(guest=0.05)
    assert str(raised.value).endswith(f"timed out waiting for /var/svc/provisioning to move for {U}")
    vm = cn.vm(U)
    assert (vm["state"], vm["failed"], vm["zone_state"]) == ("failed", "provisioning", "installed")
    assert "transition_to" not in vm
    cn.ok("delete", U)
    assert cn.is_gone(U)


def test_zonename_in_use_is_refused(cn):
    cn.create(uuid=U, zonename="buildbox2")
    with pytest.raises(VmadmError, match="zone buildbox2 exists already"):
        cn.create(zonename="buildbox2")
    cn.api.delete(U)
