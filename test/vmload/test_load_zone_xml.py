# SPDX-License-Identifier: MPL-2.0
"""The walk through a zone's XML (docs/vm-object.md, "The zone XML", docs/platform.md, "The zone XML file"), and the
recorded vectors for it."""

import json
import os
from pathlib import Path

import pytest

from support.handmade_node import DOCTYPE, HandmadeNode, U, attr, canonical, device, nic, rctl, zone_xml
from vmload import zonexml
from vmload.reader import Reader
from vmload.records import FileRecords
from vmload.system import System

CHECKOUT = Path(__file__).resolve().parents[2]


def vectors():
    """The folder with NAME.xml and NAME.json or NAME.fail."""
    given = Path(os.environ.get("VMINFOD_VECTORS") or CHECKOUT.parent / "shared" / "vectors")
    return given / "vmload-xml" if (given / "vmload-xml").is_dir() else given


def parse(inner="", brand="joyent", **kw):
    """The part of the VM object that comes from the XML alone."""
    return zonexml.parse(zone_xml(U, brand, inner=inner, **kw).encode())


def more(inner="", brand="joyent", **kw):
    """What the content adds to the four properties that every zone here has."""
    vm = parse(inner, brand, **kw)
    return {key: value for key, value in vm.items() if key not in ("zonename", "autoboot", "brand", "limit_priv")}


def test_file_of_the_same_bytes_is_not_parsed_again_and_of_others_it_is_whatever_its_time_and_size(tmp_path):
    node = HandmadeNode(tmp_path)
    node.zone(U, attrs={"hostname": "one"})
    path, reader = node.root / f"etc/zones/{U}.xml", Reader(System(str(node.root)))
    xml, made_of = reader.zone_xml(U)
    assert xml["hostname"] == "one"
    before, stat, text = FileRecords(xml=xml, xml_hash=made_of), path.stat(), path.read_text()
    path.write_text(text)
    assert reader.zone_xml(U, before)[0] is xml
    path.write_text(text.replace('value="one"', 'value="two"'))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert reader.zone_xml(U, before)[0]["hostname"] == "two"


# -- recorded vectors

CASES = [
    "bhyve-disk-sort",
    "c673ec7c-aca9-4a4c-a4be-52fa82b2f0cd",
    "garbage",
    "kvm-disk-sort",
    "lx",
    "maximal-joyent",
    "minimal-joyent",
]


@pytest.mark.pure
@pytest.mark.parametrize("case", CASES)
def test_recorded_zone_gives_the_recorded_object(case):
    if not (vectors() / (case + ".xml")).exists():
        pytest.skip("the recorded vectors are not here; VMINFOD_VECTORS names their folder")
    text = (vectors() / (case + ".xml")).read_bytes()
    if (vectors() / (case + ".fail")).exists():
        wanted = json.loads((vectors() / (case + ".fail")).read_text())
        with pytest.raises(Exception) as caught:  # noqa: PT011, B017
            zonexml.parse(text)
        assert {"code": caught.value.code, "message": str(caught.value)} == wanted
    else:
        assert canonical(zonexml.parse(text)) == canonical(json.loads((vectors() / (case + ".json")).read_text()))


@pytest.mark.pure
def test_every_recorded_vector_is_a_case_here():
    if not vectors().is_dir():
        pytest.skip("the recorded vectors are not here; VMINFOD_VECTORS names their folder")
    assert sorted(path.stem for path in vectors().glob("*.xml")) == CASES


# -- elements


@pytest.mark.pure
def test_smallest_zone_gives_its_attributes_and_an_empty_list_of_nics():
    assert canonical(parse()) == canonical(
        {"zonename": U, "autoboot": True, "brand": "joyent", "limit_priv": "default", "nics": []}
    )


@pytest.mark.pure
def test_zonepath_ip_type_and_debug_id_in_the_xml_are_dropped():
    assert more(top={"zonepath": "/wrong", "ip-type": "shared", "debugid": "9"}) == {"nics": []}


@pytest.mark.pure
def test_unknown_attribute_elements_and_attributes_are_dropped():
    assert more(
        attr("no-such-thing", "1") + nic("net0", 'odd="1"', odd="2") + device("/d", odd="3"),
        top={"odd": "4", "pool": "x"},
    ) == {"nics": [{"interface": "net0"}], "device": None, "disks": [{"path": "/d"}]}


@pytest.mark.pure
def test_datasets_keep_the_order_of_the_xml():
    assert more('<dataset name="zones/b"/><dataset name="zones/a"/><dataset name="zones/b"/>')["datasets"] == [
        "zones/b",
        "zones/a",
        "zones/b",
    ]


@pytest.mark.pure
def test_filesystem_has_its_attributes_and_its_options_in_order():
    inner = (
        '<filesystem special="/s" raw="/r" directory="/t" type="lofs"><fsoption name="ro"/>'
        '<fsoption name="nodevices"/></filesystem><filesystem directory="/u" type="tmpfs"/>'
    )
    assert more(inner)["filesystems"] == [
        {"source": "/s", "raw": "/r", "target": "/t", "type": "lofs", "options": ["ro", "nodevices"]},
        {"target": "/u", "type": "tmpfs"},
    ]


@pytest.mark.pure
def test_nic_has_its_attributes_and_its_net_attrs():
    inner = nic(
        "net0",
        'mac-addr="2:8:20:a:b:c" vlan-id="0" global-nic="external" allowed-address="192.0.2.1"',
        ip="192.0.2.1",
        primary="true",
    )
    assert canonical(more(inner)["nics"]) == canonical(
        [
            {
                "interface": "net0",
                "mac": "2:8:20:a:b:c",
                "vlan_id": 0,
                "nic_tag": "external",
                "ip": "192.0.2.1",
                "primary": True,
            }
        ]
    )


@pytest.mark.pure
def test_resource_control_is_named_by_control_privilege_and_action():
    inner = (
        rctl("zone.cpu-cap", "100")
        + rctl("zone.cpu-cap", "7", priv="basic")
        + rctl("zone.cpu-shares", "50", "none")
        + rctl("zone.cpu-shares", "8", "deny")
        + rctl("zone.no-such", "9")
    )
    assert more(inner) == {"cpu_cap": 100, "cpu_shares": 50, "nics": []}


@pytest.mark.pure
def test_values_of_one_control_are_distinguished():
    inner = (
        '<rctl name="zone.max-lwps"><rctl-value priv="basic" limit="1" action="none"/>'
        '<rctl-value priv="privileged" limit="2000" action="deny"/>'
        '<rctl-value priv="privileged" limit="3" action="none"/></rctl>'
    )
    assert more(inner) == {"max_lwps": 2000, "nics": []}


@pytest.mark.pure
@pytest.mark.parametrize("name", ["project.max-lwps", "max-lwps", "process.zone.max-lwps", "cpu-cap"])
def test_controls_that_are_not_of_the_zone_are_ignored(name):
    assert more(rctl(name, "5")) == {"nics": []}


@pytest.mark.pure
def test_later_attribute_replaces_an_earlier_one_in_its_place():
    vm = parse(attr("hostname", "one") + attr("billing-id", "b") + attr("hostname", "two"))
    assert list(vm.items())[-3:] == [("hostname", "two"), ("billing_id", "b"), ("nics", [])]


@pytest.mark.pure
@pytest.mark.parametrize(
    "inner",
    [
        '<mcap physcap="5"/>',
        '<security-flags default="aslr"/>',
        '<wrapper><attr name="hostname" value="no"/><dataset name="no"/><device match="/no"/></wrapper>',
        '<wrapper><network physical="no"/><filesystem directory="/no"/></wrapper>',
        '<dataset-list><dataset name="no"/></dataset-list>',
        '<zone><attr name="hostname" value="no"/></zone>',
        '<rctl-value priv="privileged" limit="5" action="deny"/>',
        '<net-attr name="ip" value="no"/>',
        '<fsoption name="no"/>',
    ],
)
def test_nothing_is_taken_from_an_element_in_the_wrong_place_nor_from_its_children(inner):
    assert more(inner + attr("hostname", "yes")) == {"hostname": "yes", "nics": []}


@pytest.mark.pure
def test_unknown_elements_can_be_nested_without_end():
    inner = "<a>" * 200_000 + '<attr name="alias" value="no"/>' + "</a>" * 200_000
    assert more(inner + attr("hostname", "yes")) == {"hostname": "yes", "nics": []}


@pytest.mark.pure
def test_net_attr_below_something_unknown_in_a_device_is_not_taken():
    inner = (
        '<device match="/d"><odd><net-attr name="media" value="no"/></odd><net-attr name="boot" value="true"/></device>'
    )
    assert more(inner)["disks"] == [{"path": "/d", "boot": True}]


@pytest.mark.pure
def test_text_between_elements_and_comments_mean_nothing():
    assert more("text <!-- comment --> &amp; more" + attr("hostname", "yes")) == {"hostname": "yes", "nics": []}


@pytest.mark.pure
def test_limit_priv_and_fs_allowed_stay_comma_joined_text():
    vm = parse(top={"limitpriv": "default,-proc_fork", "fs-allowed": "ufs,pcfs"})
    assert (vm["limit_priv"], vm["fs_allowed"]) == ("default,-proc_fork", "ufs,pcfs")


@pytest.mark.pure
def test_entities_and_non_ascii_text_are_decoded():
    assert more(attr("hostname", 'a<b>&"\u00e9\u2713') + '<attr name="billing-id" value="&#x41;&#10;"/>') == {
        "hostname": 'a<b>&"\u00e9\u2713',
        "billing_id": "A\n",
        "nics": [],
    }


# -- devices


@pytest.mark.pure
def test_device_with_the_model_passthru_is_a_pci_device():
    inner = device("/devices/pci0", pci_slot="8:0", model="passthru", boot="true") + device("/d", model="virtio")
    assert more(inner, "bhyve") == {
        "device": None,
        "pci_devices": [{"path": "/devices/pci0", "pci_slot": "8:0", "model": "passthru", "boot": True}],
        "disks": [{"path": "/d", "model": "virtio"}],
        "nics": [],
    }


@pytest.mark.pure
@pytest.mark.parametrize("model", ["Passthru", "passthru ", "pass-through", ""])
def test_model_is_compared_to_the_letter(model):
    assert more(device("/d", model=model), "bhyve")["disks"] == [{"path": "/d", "model": model}]


@pytest.mark.pure
def test_pci_device_alone_leaves_a_bhyve_vm_with_no_disks_and_an_os_zone_without_the_key():
    inner = device("/devices/pci0", model="passthru")
    assert more(inner, "bhyve")["disks"] == []
    assert "disks" not in more(inner, "joyent")


@pytest.mark.pure
@pytest.mark.parametrize("brand", ["joyent", "joyent-minimal", "lx", "builder", "kvm", "bhyve", "strange"])
def test_every_vm_with_a_device_has_the_key_device_with_null(brand):
    vm = more(device("/d"), brand)
    assert vm["device"] is None
    assert vm["disks"] == [{"path": "/d"}]


@pytest.mark.pure
def test_pci_devices_keep_the_order_of_the_xml():
    inner = "".join(device(path, model="passthru") for path in ("/p/disk2", "/p/disk1"))
    assert [item["path"] for item in more(inner, "bhyve")["pci_devices"]] == ["/p/disk2", "/p/disk1"]


# -- defaults by brand


@pytest.mark.pure
@pytest.mark.parametrize(
    ("brand", "disks"),
    [
        ("bhyve", []),
        ("kvm", []),
        ("joyent", None),
        ("joyent-minimal", None),
        ("lx", None),
        ("builder", None),
        ("strange", None),
    ],
)
def test_vm_without_a_device_has_an_empty_list_of_disks_for_hardware_brands_only(brand, disks):
    assert parse(brand=brand).get("disks") == disks


@pytest.mark.pure
@pytest.mark.parametrize(("vm_autoboot", "autoboot"), [("true", True), ("false", False), ("TRUE", "TRUE")])
def test_autoboot_of_kvm_is_its_vm_autoboot(vm_autoboot, autoboot):
    vm = parse(attr("vm-autoboot", vm_autoboot), "kvm", top={"autoboot": "false"})
    assert vm["autoboot"] == autoboot
    assert "vm_autoboot" not in vm


@pytest.mark.pure
def test_kvm_without_vm_autoboot_has_no_autoboot():
    vm = parse(brand="kvm", top={"autoboot": "true"})
    assert {"autoboot", "vm_autoboot"} & set(vm) == set()


@pytest.mark.pure
@pytest.mark.parametrize("brand", ["bhyve", "joyent", "joyent-minimal", "lx", "builder", "strange"])
def test_other_brands_keep_both(brand):
    vm = parse(attr("vm-autoboot", "false"), brand, top={"autoboot": "true"})
    assert (vm["autoboot"], vm["vm_autoboot"]) == (True, False)


# -- sorting


@pytest.mark.pure
@pytest.mark.parametrize(
    ("paths", "ordered"),
    [
        (["/r/U-disk10", "/r/U-disk2", "/r/U-disk0"], ["/r/U-disk0", "/r/U-disk2", "/r/U-disk10"]),
        (["/r/U/disk10", "/r/U/disk2", "/r/U/disk0"], ["/r/U/disk0", "/r/U/disk2", "/r/U/disk10"]),
        (["/r/U/disk1", "/r/U-disk0"], ["/r/U-disk0", "/r/U/disk1"]),
        (
            ["/r/disk2", "/iso", "/r/disk0", "/r/disk1"],
            ["/iso", "/r/disk0", "/r/disk1", "/r/disk2"],
        ),  # none is 0, stable
        (["/r/disk1", "/r/xdisk9", "/r/disk9x", "/r/disk"], ["/r/xdisk9", "/r/disk9x", "/r/disk", "/r/disk1"]),
        (["/b/disk1", "/a/disk1"], ["/b/disk1", "/a/disk1"]),
    ],
)
def test_disks_are_sorted_by_the_number_at_the_end_of_their_path(paths, ordered):
    assert [disk["path"] for disk in parse("".join(map(device, paths)), "bhyve")["disks"]] == ordered


@pytest.mark.pure
def test_disk_without_a_path_sorts_as_number_0():
    inner = device("/r/disk1") + '<device><net-attr name="media" value="disk"/></device>'
    assert parse(inner, "bhyve")["disks"] == [{"media": "disk"}, {"path": "/r/disk1"}]


@pytest.mark.pure
@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["net10", "net2", "net0"], ["net0", "net2", "net10"]),
        (["eth1", "eth0"], ["eth1", "eth0"]),
        (["net1", "vnet0", "net2x", "xnet9", "net"], ["vnet0", "net2x", "xnet9", "net", "net1"]),
    ],
)
def test_nics_are_sorted_by_the_number_of_exactly_net_n(names, ordered):
    assert [item["interface"] for item in parse("".join(map(nic, names)))["nics"]] == ordered


@pytest.mark.pure
def test_nic_without_an_interface_sorts_as_number_0():
    assert parse(nic("net1") + '<network mac-addr="1:2:3:4:5:6"/>')["nics"] == [
        {"mac": "1:2:3:4:5:6"},
        {"interface": "net1"},
    ]


@pytest.mark.pure
@pytest.mark.parametrize(
    ("targets", "ordered"),
    [(["/b", "/a"], ["/b", "/a"]), (["10", "9", "/a"], ["/a", "9", "10"]), (["/b1", "/a0"], ["/b1", "/a0"])],
)
def test_filesystems_are_sorted_only_where_the_target_is_a_number(targets, ordered):
    inner = "".join(f'<filesystem directory="{target}"/>' for target in targets)
    assert [item["target"] for item in parse(inner)["filesystems"]] == ordered


# -- text that is not well-formed, or not all there (docs/platform.md, "The zone XML file")


def failure(text):
    with pytest.raises(Exception) as caught:  # noqa: PT011, B017
        zonexml.parse(text)
    return getattr(caught.value, "code", "no .code"), str(caught.value)


@pytest.mark.pure
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"GARBAGE\n", "syntax error"),
        (b"<zone><attr></zone>", "mismatched tag"),
        (b'<zone brand="joyent"/><zone/>', "junk after document element"),
        (b'<zone brand="a" brand="b">', "duplicate attribute"),
        (b'<zone brand="\xff\xff">', "not well-formed (invalid token)"),
        (b'<zone brand="joyent">&nosuch;</zone>', "undefined entity"),
        (b"<zone><a b=c></zone>", "not well-formed (invalid token)"),
    ],
)
def test_ill_formed_text_gives_the_bare_message_of_the_parser(text, message):
    assert failure(text) == ("PARSE_ERROR", message)


@pytest.mark.pure
def test_text_that_stops_anywhere_is_an_error():
    """After each byte: between two tokens, too, where expat alone would wait for more."""
    inner = attr("hostname", "web") + device("/d", boot="true") + nic("net0", ip="192.0.2.1") + "<!-- no end -->"
    whole = zone_xml(U, "bhyve", inner=inner).encode()
    end = whole.index(b"</zone>") + len(b"</zone>")
    root = whole.index(b"<zone ")
    codes = {size: failure(whole[:size])[0] for size in range(end)}
    assert {code for size, code in codes.items() if size > whole.index(b">", root)} == {"PARSE_ERROR"}
    assert zonexml.parse(whole[:end]) == zonexml.parse(whole)


@pytest.mark.pure
@pytest.mark.parametrize(
    "text", [b"", b"   \n", DOCTYPE.encode(), b"<zone/>", b'<zone name="x"/>', b'<other brand="joyent"/>']
)
def test_zone_without_a_brand_is_an_error_without_a_code(text):
    assert failure(text)[0] is None


def test_external_dtd_is_never_fetched(tmp_path):
    dtd = tmp_path / "zone.dtd"
    dtd.write_text('<!ATTLIST zone brand CDATA "from-the-dtd">')
    text = f'<!DOCTYPE zone SYSTEM "file://{dtd}"><zone name="x"/>'
    assert failure(text.encode())[0] is None


def test_a_zone_with_thousands_of_elements_is_read(tmp_path):
    node = HandmadeNode(tmp_path)
    node.zone(inner="".join(nic(f"net{n}") for n in range(3000)))
    assert len(node.vm()["nics"]) == 3000


def test_what_is_unknown_is_one_note_however_much_it_is():
    notes = []
    many = "".join(f'<attr name="foo{number}" type="string" value="secret"/>' for number in range(5000))
    zonexml.parse(zone_xml(U, "joyent", inner=many).encode(), lambda *note: notes.append(note))
    named = ", ".join(f"property zone.attr.foo{number}" for number in range(3))
    assert notes == [("warn", f"unknown in the zone XML: {named} and 4997 more")]
    notes.clear()
    inner = f'<attr name="{"x" * 100_000}" value="1"/><what><is/></what><what/>'
    zonexml.parse(zone_xml(U, "joyent", inner=inner).encode(), lambda *note: notes.append(note))
    [(level, text)] = notes
    assert (level, len(text) < 400, text.endswith(", element zone.what")) == ("error", True, True)
