# SPDX-License-Identifier: MPL-2.0
"""What the list of zones gives: records, their keys, and the ways in which zoneadm fails (docs/platform.md, "zoneadm
list")."""

import pytest

from support.handmade_node import HandmadeNode, U, uuid, zone_xml
from vmload import zoneadm
from vmload.loaderror import LoadError

A, B = uuid(0xA), uuid(0xB)


@pytest.fixture
def node(tmp_path):
    return HandmadeNode(tmp_path)


def record(line):
    """The single record that a line gives."""
    (zone,) = zoneadm.parse((line + "\n").encode()).values()
    return zone


@pytest.mark.pure
def test_each_field_of_a_line_is_in_the_record():
    zone = record(f"7:web01:running:/zones/web01:{A}:joyent-minimal:excl:41")
    assert (zone.zoneid, zone.zonename, zone.state, zone.zonepath, zone.uuid, zone.brand, zone.zonedid) == (
        7,
        "web01",
        "running",
        "/zones/web01",
        A,
        "joyent-minimal",
        41,
    )
    assert isinstance(zone.zoneid, int)
    assert isinstance(zone.zonedid, int)


@pytest.mark.pure
def test_zone_that_is_not_in_the_kernel_has_no_zoneid():
    assert record(f"-:{A}:installed:/zones/{A}:{A}:bhyve:excl:42").zoneid is None


@pytest.mark.pure
def test_empty_debug_id_is_zero_and_not_null():
    assert record(f"-:{A}:configured:/zones/{A}:{A}:bhyve:excl:").zonedid == 0


@pytest.mark.pure
def test_debug_id_that_is_no_number_is_null():
    assert record(f"-:{A}:configured:/zones/{A}:{A}:bhyve:excl:-").zonedid is None


@pytest.mark.pure
@pytest.mark.parametrize(
    "state",
    ["configured", "incomplete", "installed", "ready", "mounted", "running", "shutting_down", "down", "hibernating"],
)
def test_every_state_passes_through_even_an_unknown_one(state):
    assert record(f"-:{A}:{state}:/zones/{A}:{A}:joyent:excl:1").state == state


@pytest.mark.pure
def test_white_space_at_the_end_of_a_line_is_dropped():
    assert record(f"-:{A}:installed:/zones/{A}:{A}:joyent:excl:42 \t\r").zonedid == 42


@pytest.mark.pure
@pytest.mark.parametrize(
    "line",
    [
        "garbage",
        f"-:{A}:installed:/zones/{A}:{A}:joyent:excl",  # 7 fields
        f"-:{A}:installed:/zones/{A}:{A}:joyent:excl:42:x",  # 9 fields
        f"-:{A}:installed:/zones/a\\:b:{A}:joyent:excl:42",  # an escaped colon is not undone
        "",
        "   ",
        ":" * 8,
    ],
)
def test_line_without_exactly_eight_fields_is_skipped_and_its_neighbours_are_kept(line):
    text = f"{line}\n7:{B}:running:/zones/{B}:{B}:joyent:excl:43\n{line}\n"
    assert list(zoneadm.parse(text.encode())) == [B]


@pytest.mark.pure
def test_line_that_was_not_ended_does_not_count():
    text = f"7:{B}:running:/zones/{B}:{B}:joyent:excl:43\n-:{A}:installed:/zones/{A}:{A}:joyent:excl:42"
    assert list(zoneadm.parse(text.encode())) == [B]


@pytest.mark.pure
def test_no_output_gives_no_zone():
    assert zoneadm.parse(b"") == {}


@pytest.mark.pure
def test_bytes_that_are_no_text_are_no_error():
    text = b"\xff\xfe:\x00\n" + f"7:{B}:running:/zones/{B}:{B}:joyent:excl:43\n".encode()
    assert list(zoneadm.parse(text)) == [B]


# -- the key


@pytest.mark.pure
def test_the_uuid_field_is_the_key_whatever_the_zone_is_called():
    assert list(zoneadm.parse(f"-:web01:installed:/zones/web01:{A}:joyent:excl:1\n".encode())) == [A]


@pytest.mark.pure
@pytest.mark.parametrize("key", [A.upper(), "x" * 36])
def test_the_uuid_field_counts_by_its_length_alone(key):
    zones = zoneadm.parse(f"-:web01:installed:/zones/web01:{key}:joyent:excl:1\n".encode())
    assert list(zones) == [key]
    assert zones[key].uuid == key


@pytest.mark.pure
@pytest.mark.parametrize("field", ["", "short", A + "0"])
def test_without_a_uuid_field_a_zone_named_by_a_uuid_takes_that(field):
    zones = zoneadm.parse(f"-:{A}:installed:/zones/{A}:{field}:joyent:excl:1\n".encode())
    assert list(zones) == [A]
    assert zones[A].uuid == A


@pytest.mark.pure
@pytest.mark.parametrize("name", ["buildbox", "global", A.upper(), A[:-1], A + "0", A.replace("-", "")])
def test_without_a_uuid_field_any_other_zone_is_left_out(name):
    assert zoneadm.parse(f"-:{name}:configured:/zones/{name}::joyent:excl:\n".encode()) == {}


# -- how it is run


def test_all_zones_are_asked_for_with_one_call(node):
    node.zone()
    node.vms()
    assert [call["args"] for call in node.calls("zoneadm")] == [["list", "-p", "-c"]]


def test_one_vm_is_asked_for_by_its_uuid_twice(node):
    node.zone()
    node.vm()
    assert [call["args"] for call in node.calls("zoneadm")] == [["-z", U, "-u", U, "list", "-p"]]


def test_key_that_is_no_uuid_is_asked_for_by_name(node):
    with pytest.raises(LoadError):
        node.vm("web01")
    assert [call["args"] for call in node.calls("zoneadm")] == [["-z", "web01", "list", "-p"]]


def test_upper_case_uuid_is_a_name(node):
    with pytest.raises(LoadError):
        node.vm(U.upper())
    assert [call["args"] for call in node.calls("zoneadm")] == [["-z", U.upper(), "list", "-p"]]


# -- errors


def test_node_with_the_global_zone_alone_has_no_vm(node):
    assert node.vms() == {}


def test_unknown_vm_is_enoent_with_the_text_of_zoneadm(node):
    with pytest.raises(LoadError) as caught:
        node.vm(U)
    assert (caught.value.code, str(caught.value)) == ("ENOENT", f"zoneadm: {U}: No such zone configured")


def test_vm_asked_for_by_its_zone_name_is_not_found(node):
    node.zone(A, name="web01")
    with pytest.raises(LoadError) as caught:
        node.vm("web01")
    assert (caught.value.code, str(caught.value)) == ("ENOENT", "VM web01 not found in zoneadm")


def test_uuid_that_is_only_another_vms_zone_name_is_not_found(node):
    node.zone(A, name=B)
    with pytest.raises(LoadError) as caught:
        node.vm(B)
    assert (caught.value.code, str(caught.value)) == ("ENOENT", f"VM {B} not found in zoneadm")


def test_the_global_zone_is_never_a_vm(node):
    with pytest.raises(LoadError) as caught:
        node.vm("global")
    assert (caught.value.code, str(caught.value)) == ("ENOENT", "VM global not found in zoneadm")


def test_zone_without_any_uuid_is_invisible(node):
    node.zone_line("-:buildbox:configured:/zones/buildbox::joyent:excl:")
    node.file("etc/zones/buildbox.xml", zone_xml("buildbox"))
    assert node.vms() == {}


@pytest.mark.parametrize("load", ["load_all", "load"])
def test_any_other_failure_of_zoneadm_carries_its_stderr_and_no_code(node, load):
    node.zone()
    node.fault("zoneadm", exit=2, stderr="zoneadm: out of memory\nwould not list\n \n")
    with pytest.raises(LoadError) as caught:
        node.loader().load_all() if load == "load_all" else node.loader().load(U)
    assert (caught.value.code, str(caught.value)) == (None, "zoneadm: out of memory\nwould not list")


def test_second_line_after_no_such_zone_hides_it(node):
    text = f"zoneadm: {U}: No such zone configured\nand something else"
    node.fault("zoneadm", exit=1, stderr=text + "\n")
    with pytest.raises(LoadError) as caught:
        node.vm()
    assert (caught.value.code, str(caught.value)) == (None, text)


def test_no_such_zone_counts_at_the_end_of_a_longer_text(node):
    text = f"warning: odd\nzoneadm: {U}: No such zone configured"
    node.fault("zoneadm", exit=1, stderr=text + "\n")
    with pytest.raises(LoadError) as caught:
        node.vm()
    assert (caught.value.code, str(caught.value)) == ("ENOENT", text)


def test_zoneadm_that_is_killed_fails_the_load(node):
    node.zone()
    node.fault("zoneadm", signal=9)
    with pytest.raises(LoadError):
        node.loader().load_all()


def test_zoneadm_that_is_not_there_fails_the_load_as_a_load_error(node):
    (node.root / "usr/sbin/zoneadm").unlink()
    with pytest.raises(LoadError):
        node.loader().load_all()


def test_words_on_stderr_of_a_zoneadm_that_succeeds_are_no_error(node):
    node.zone()
    node.fault("zoneadm", exit=0, stderr="zoneadm: a warning\n")
    assert list(node.vms()) == [U]


@pytest.mark.parametrize(
    "line",
    [
        "-:{0}::/zones/{0}:{0}:joyent:excl:1",  # no state
        "-:{0}:installed:/zones/{0}:{0}::excl:1",  # no brand
        "-:{0}:installed::{0}:joyent:excl:1",  # no zonepath
        "-:{0}:installed:zones/{0}:{0}:joyent:excl:1",  # zonepath not absolute
    ],
)
def test_record_that_lacks_what_every_vm_has_fails_that_vm_alone(node, line):
    # docs/vm-object.md, "From records to an object" and "Errors" last row
    node.zone()
    node.zone_line(line.format(A))
    node.file(f"etc/zones/{A}.xml", zone_xml(A))
    loaded = node.loader().load_all()
    assert list(loaded.vms) == [U]
    assert {name: error.code for name, error in loaded.errors.items()} == {A: None}
    with pytest.raises(LoadError) as caught:
        node.vm(A)
    assert caught.value.code is None


def test_record_without_a_zone_name_cannot_be_loaded(node):
    node.zone_line(f"-::installed:/zones/{A}:{A}:joyent:excl:1")
    with pytest.raises(LoadError):
        node.vm(A)
    node.zone()
    assert U in node.loader().load_all().vms


# -- output that cannot be whole: a list that lacks zones must not look like a node that lost them


@pytest.mark.parametrize("garbage", [b"GARBAGE\n", b"GARBAGE", b"\xff\xfe\x00\n", b""])
def test_list_of_zones_that_is_garbage_fails_the_load(node, garbage):
    node.zone()
    node.fault("zoneadm", stdout=garbage)
    with pytest.raises(LoadError):
        node.loader().load_all()


@pytest.mark.parametrize("cut", [1, 30])
def test_list_of_zones_that_was_cut_short_fails_the_load(node, cut):
    node.zone()
    node.fault("zoneadm", cut=cut)
    with pytest.raises(LoadError):
        node.loader().load_all()


def test_zone_with_a_colon_in_its_path_is_skipped_and_costs_no_other(node):
    node.zone()
    node.zone_line(f"-:{A}:installed:/zones/a\\:b:{A}:joyent:excl:42")
    assert list(node.vms()) == [U]
