# SPDX-License-Identifier: MPL-2.0
"""What is wrong with a payload, by the property table alone (docs/vm-object.md, "Payloads")."""

import pytest

from support.payload_vectors import recorded_node
from vmadm.payload.asked import not_storable, request_of
from vmadm.payload.change import named
from vmadm.payload.findings import look_through

pytestmark = pytest.mark.pure

IMAGE = "01b2c898-945f-11e1-a523-af1afbe22822"
LX_IMAGE = "63d6e664-3f1f-11e8-aef6-a3120cf8dd9d"
DISK_IMAGE = "e1faace4-e19b-11e5-928b-83849e2fd94a"
NODE = recorded_node()


def looked_through(payload, brand, action):
    """What validation finds, and what cannot be stored."""
    found = look_through(payload, brand, action, NODE)
    found.bad_values += [name for name in not_storable(payload, brand, action) if name not in found.bad_values]
    return found


def texts(payload, brand="joyent-minimal", action="update"):
    return looked_through(payload, brand, action).texts()


def is_good(name, value, brand="joyent-minimal", action="update"):
    found = looked_through({name: value}, brand, action)
    assert found.bad_properties == [], f"{name} is not allowed for {brand} {action}"
    return found.bad_values == []


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        # Text.
        ("hostname", "web0", True),
        ("hostname", "", True),
        ("hostname", None, True),
        ("hostname", "  ", True),
        ("hostname", 5, False),
        ("hostname", True, False),
        ("hostname", ["a"], False),
        # It would end a quoted value of a zonecfg script.
        ("hostname", 'x"; end', False),
        ("package_name", "two\nlines", False),
        # An alias is stored in base64: anything goes.
        ("alias", 'say "no"\n', True),
        ("alias", "café", True),
        ("alias", 5, False),
        # Whole numbers, as numbers or text.
        ("quota", 10, True),
        ("quota", "10", True),
        ("quota", 10.0, True),
        ("quota", "0x10", True),
        ("quota", "", True),
        ("quota", None, True),
        ("quota", 10.5, False),
        ("quota", "10.5", False),
        ("quota", "ten", False),
        ("quota", -1, False),
        ("quota", True, False),
        ("quota", [1], False),
        ("max_swap", 255, False),
        ("max_swap", 256, True),
        ("zlog_max_size", 9223372036854775807, True),
        ("zlog_max_size", 9223372036854775808, False),
        # True or false.
        ("autoboot", True, True),
        ("autoboot", False, True),
        ("autoboot", "true", True),
        ("autoboot", "false", True),
        ("autoboot", 1, True),
        ("autoboot", "1", True),
        ("autoboot", 0, False),
        ("autoboot", "0", False),
        ("autoboot", "yes", False),
        ("autoboot", "", False),
        ("autoboot", None, False),
        # Lists.
        ("resolvers", ["8.8.8.8", "2001:db8::1"], True),
        ("resolvers", "8.8.8.8,8.8.4.4", True),
        ("resolvers", "", True),
        ("resolvers", [], True),
        ("resolvers", None, False),
        ("resolvers", ["8.8.8.8,8.8.4.4"], False),
        ("resolvers", ["nowhere"], False),
        ("resolvers", [True], False),
        ("resolvers", {"a": 1}, False),
        ("limit_priv", ["default", "-proc_fork"], True),
        ("limit_priv", ['x"'], False),
        ("internal_metadata_namespaces", ["a.b-c_1"], True),
        ("internal_metadata_namespaces", ["a b"], False),
        ("remove_tags", ["a", 1], True),
        ("remove_tags", "a,b", True),
        # Maps.
        ("set_tags", {"a": "x", "b": 1, "c": False, "d": 0.5}, True),
        ("set_tags", {}, True),
        ("set_tags", "x", False),
        ("set_tags", {"a": {}}, False),
        ("set_tags", {"a": None}, False),
        ("set_tags", ["a"], False),
        # Lists of objects.
        ("add_nics", [{}], True),
        ("add_nics", [], True),
        ("add_nics", {"0": {}}, False),
        ("add_nics", "x", False),
        ("add_nics", ["x"], False),
        ("add_nics", None, False),
    ],
)
def test_value_of_a_property(name, value, good):
    assert is_good(name, value) is good


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("uuid", IMAGE, True),
        ("uuid", IMAGE.upper(), False),
        ("uuid", "x", False),
        ("uuid", "", False),
        ("image_uuid", IMAGE, True),
        ("image_uuid", 5, False),
        ("zpool", "tank", True),
        ("zpool", "nopool", False),
        ("zpool", 1, False),
        ("zonename", "build-box.1", True),
        ("zonename", "../../etc", False),
        ("zonename", "-x", False),
        ("customer_metadata", {"user-script": 'a "quoted"\nscript'}, True),
        ("customer_metadata", {"a": []}, False),
    ],
)
def test_value_of_a_property_of_new_vms(name, value, good):
    found = looked_through({"image_uuid": IMAGE, name: value}, "joyent", "create")
    assert (name not in found.bad_values) is good


@pytest.mark.parametrize(
    ("member", "value", "good"),
    [
        ("mac", "b2:1e:ba:a5:6e:71", True),
        ("mac", "2:8:20:a1:b2:c3", True),
        ("mac", "b21ebaa56e71", True),
        ("mac", "b2:1e:ba:a5:6e", False),
        ("mac", "b2:1e:ba:a5:6e:zz", False),
        ("vlan_id", 4095, True),
        ("vlan_id", 4096, False),
        ("vlan_id", "20", True),
        ("vlan_id", "x", False),
        ("mtu", 575, False),
        ("mtu", 9000, True),
        ("mtu", 9001, False),
        ("allowed_dhcp_cids", ["0x0102"], True),
        ("allowed_dhcp_cids", ["0x012"], False),
        ("allowed_dhcp_cids", ["0102"], False),
        ("allowed_dhcp_cids", ["0x" + "00" * 256], False),
        ("primary", True, True),
        ("primary", "maybe", False),
        ("nic_tag", "external", True),
        ("nic_tag", 'a"b', False),
        ("network_uuid", "x", False),
    ],
)
def test_value_of_a_member_of_a_nic(member, value, good):
    found = looked_through({"add_nics": [{}, {member: value}]}, "joyent", "update")
    assert found.bad_values == ([] if good else [f"nics.*.{member}"])


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("512", True),
        ("512/4096", True),
        ("500", False),
        ("512/", False),
        ("0", False),
    ],
)
def test_sector_size_of_a_bhyve_disk(value, good):
    found = looked_through({"add_disks": [{"guest_block_size": value, "size": 1}]}, "bhyve", "update")
    assert (found.bad_values == []) is good


def test_all_that_is_wrong_is_told_in_one_go():
    payload = {
        "quota": "much",
        "alias": 5,
        "add_nics": [{"vlan_id": 5000}, {"mac": "x"}],
        "remove_nics": {},
        "ram": "some",
    }
    assert texts(payload) == [
        "Invalid value for quota: null:number",
        "Invalid value for ram: null:number",
        "Invalid value(s) for: alias,nics.*.vlan_id,nics.*.mac,remove_nics",
    ]


def test_map_given_as_a_word_is_a_bad_value():
    assert texts({"set_tags": "x"}) == ["Invalid value(s) for: set_tags"]


@pytest.mark.parametrize(
    ("brand", "missing"),
    [
        ("joyent", ["image_uuid"]),
        ("joyent-minimal", ["image_uuid"]),
        ("builder", ["image_uuid"]),
        ("lx", ["image_uuid", "kernel_version"]),
        ("kvm", []),
        ("bhyve", []),
    ],
)
def test_what_a_new_vm_of_each_brand_must_be_told(brand, missing):
    assert looked_through({"brand": brand}, brand, "create").missing_properties == missing


def test_bad_values_are_told_before_missing_ones():
    assert texts({"brand": "lx", "image_uuid": "x"}, "lx", "create") == [
        "Invalid value(s) for: image_uuid",
        "Missing required properties: kernel_version",
    ]


def test_blank_counts_as_missing():
    assert texts({"brand": "lx", "image_uuid": LX_IMAGE, "kernel_version": ""}, "lx", "create") == [
        "Missing required properties: kernel_version"
    ]


def test_nothing_is_missing_from_an_update():
    assert texts({}) == []


@pytest.mark.parametrize(
    ("name", "brand", "action"),
    [
        ("image_uuid", "joyent", "update"),
        ("state", "joyent", "update"),
        ("nonsense", "joyent", "update"),
        ("vcpus", "joyent", "create"),
        ("docker", "joyent", "create"),
        ("kernel_version", "joyent", "create"),
        ("tmpfs", "bhyve", "update"),
        ("nics", "joyent", "update"),
        ("add_nics", "joyent", "create"),
        ("cpu_type", "bhyve", "create"),
        ("com1", "kvm", "create"),
    ],
)
def test_property_that_is_not_allowed_is_noted_and_not_asked(name, brand, action):
    found = looked_through({name: "1"}, brand, action)
    assert found.bad_properties == [name]
    assert dict(request_of({name: "1"}, brand, action, found).items()) == {}


def asked(payload, brand):
    return request_of(payload, brand, "update", looked_through(payload, brand, "update"))


def test_what_is_not_allowed_is_dropped_from_lists_of_objects_too():
    payload = {"alias": "x", "nonsense": 1, "state": "running", "add_nics": [{"mac": "1:2:3:4:5:6", "model": "virtio"}]}
    request = asked(payload, "joyent")
    assert [name for name, _ in request.items()] == ["alias", "add_nics"]
    assert named(request.nics.add[0]) == {"mac": "01:02:03:04:05:06"}


def test_members_of_an_update_of_disks_are_fewer_than_of_new_ones():
    disk = {"path": "/dev/x", "image_uuid": DISK_IMAGE, "compression": "lz4"}
    assert named(asked({"add_disks": [disk]}, "kvm").disks.add[0]) == disk
    assert named(asked({"update_disks": [disk]}, "kvm").disks.update[0]) == {"path": "/dev/x", "compression": "lz4"}
