# SPDX-License-Identifier: MPL-2.0
"""Zone statistics of the kernel (docs/platform.md, "Kernel statistics") and the node's sysinfo."""

import pytest

from support.handmade_node import SERVER, HandmadeNode, U, canonical, uuid
from vmload import zoneinfo
from vmload.loaderror import LoadError

A, B = uuid(0xA), uuid(0xB)  # equal in their first 30 characters

SYSINFO = ["server_uuid", "platform_buildstamp", "datacenter_name", "headnode_id"]


@pytest.fixture
def node(tmp_path):
    return HandmadeNode(tmp_path)


SOME = f"""zones:0:global:boot_time\t1773400000
zones:0:global:init_pid\t1
zones:0:global:zonename\tglobal
zones:7:{A[:30]}:boot_time\t1773403200
zones:7:{A[:30]}:class\tzone_misc
zones:7:{A[:30]}:crtime\t1042.118273645
zones:7:{A[:30]}:init_pid\t20417
zones:7:{A[:30]}:init_restarts\t0
zones:7:{A[:30]}:nsec_user\t62924235726
zones:7:{A[:30]}:snaptime\t98231.552310877
zones:7:{A[:30]}:zonename\t{A}
"""


def stats(text):
    return {
        name: (zone.boot_time, zone.init_pid, zone.init_restarts)
        for name, zone in zoneinfo.by_name(zoneinfo.parse(text.encode())).items()
    }


@pytest.mark.pure
def test_the_three_statistics_are_read_as_text_and_all_others_ignored():
    assert stats(SOME)[A] == ("1773403200", "20417", "0")


@pytest.mark.pure
def test_zones_whose_names_are_cut_to_the_same_text_are_distinguished():
    assert A[:30] == B[:30]
    more = SOME + "".join(
        f"zones:9:{B[:30]}:{stat}\t{value}\n"
        for stat, value in [("boot_time", "5"), ("init_pid", "6"), ("init_restarts", "7"), ("zonename", B)]
    )
    found = stats(more)
    assert (found[A], found[B]) == (("1773403200", "20417", "0"), ("5", "6", "7"))


@pytest.mark.pure
def test_order_of_the_statistics_does_not_matter():
    assert stats("".join(sorted(SOME.splitlines(keepends=True), reverse=True)))[A] == ("1773403200", "20417", "0")


@pytest.mark.pure
def test_group_without_its_zone_name_is_ignored():
    assert A not in stats("".join(line for line in SOME.splitlines(keepends=True) if not line.endswith(A + "\n")))


@pytest.mark.pure
def test_statistic_that_is_not_there_is_none():
    assert stats(f"zones:7:x:zonename\t{A}\nzones:7:x:init_pid\t5\n")[A] == (None, "5", None)


@pytest.mark.pure
@pytest.mark.parametrize(
    "line", ["garbage", "zones:7:init_pid\t99", "zones:7:a:b:init_pid\t99", "zones:7:x:init_pid 99", "\t", ""]
)
def test_line_of_another_shape_is_ignored(line):
    assert stats(line + "\n" + SOME + line + "\n")[A] == ("1773403200", "20417", "0")


@pytest.mark.pure
def test_left_side_ends_at_the_first_tab():
    assert stats(f"zones:7:x:zonename\t{A}\nzones:7:x:init_pid\t5\t6\n")[A][1] == "5\t6"


@pytest.mark.pure
def test_no_output_gives_nothing():
    assert zoneinfo.parse(b"") == {}


# -- in the VM object


def test_running_vm_has_what_the_kernel_says(node):
    node.zone()
    node.stats(U, boot_time=1773403200, init_pid=20417, init_restarts=0, nsec_user=3)
    vm = node.vm()
    assert canonical([vm["boot_timestamp"], vm["pid"], vm["init_restarts"]]) == canonical(
        ["2026-03-13T12:00:00.000Z", 20417, 0]
    )


def test_statistics_of_all_zones_are_read_with_one_call(node):
    node.zone()
    node.zone(A)
    node.vms()
    assert [call["args"] for call in node.calls("kstat")] == [["-p", "-m", "zones", "-c", "zone_misc"]]


def test_statistics_of_one_zone_are_read_with_one_call(node):
    node.zone()
    node.zone(A)
    node.stats(U, boot_time=1, init_pid=2, init_restarts=3)
    node.vm()
    (call,) = node.calls("kstat")
    assert call["args"][:5] == ["-p", "-m", "zones", "-c", "zone_misc"]
    assert call["args"][5:] in ([], ["-i", "7"])  # it may ask for the zone's instance alone


def test_vm_that_is_not_in_the_kernel_has_none_of_the_three(node):
    node.zone(state="installed")
    node.stats(A, boot_time=1, init_pid=2, init_restarts=3)
    assert {"boot_timestamp", "pid", "init_restarts"} & set(node.vm()) == set()


def test_vm_in_the_kernel_that_does_not_run_has_them(node):
    node.zone(state="ready")
    node.stats(U, boot_time=1773403200, init_pid=20417, init_restarts=1)
    vm = node.vm()
    assert (vm["state"], vm["pid"], vm["init_restarts"]) == ("ready", 20417, 1)


def test_property_without_its_statistic_is_absent(node):
    node.zone()
    node.stats(U, init_pid=20417)
    vm = node.vm()
    assert vm["pid"] == 20417
    assert {"boot_timestamp", "init_restarts"} & set(vm) == set()


def test_statistics_of_before_init_runs_are_served_as_they_are(node):
    node.zone(state="ready")
    node.stats(U, boot_time=0, init_pid=4294967295, init_restarts=0)
    vm = node.vm()
    assert (vm["boot_timestamp"], vm["pid"]) == ("1970-01-01T00:00:00.000Z", 4294967295)


def test_pid_that_is_no_number_is_null(node):
    node.zone()
    node.stats(U, init_pid="-")
    assert node.vm()["pid"] is None


@pytest.mark.parametrize("name", ["web01", A])
def test_vm_whose_zone_name_is_not_its_uuid_has_none_of_the_three(node, name):
    node.zone(name=name)
    node.stats(name, boot_time=1, init_pid=2, init_restarts=3)
    assert {"boot_timestamp", "pid", "init_restarts"} & set(node.vm()) == set()


@pytest.mark.parametrize("fault", [{"exit": 1, "stderr": "kstat: no\n"}, {"signal": 9}])
def test_kstat_that_fails_fails_the_load(node, fault):
    node.zone()
    node.fault("kstat", **fault)
    with pytest.raises(LoadError):
        node.loader().load_all()


@pytest.mark.parametrize("garbage", [b"\xff\x00 garbage\n", b"", b"zones:0:global:zonename\tglo"])
def test_kstat_that_prints_garbage_or_is_cut_short_fails_the_load(node, garbage):
    # else a load would take pid and boot time from every VM that runs, and give them back with the next
    node.zone()
    node.fault("kstat", stdout=garbage)
    with pytest.raises(LoadError):
        node.loader().load_all()


def test_zone_that_leaves_the_kernel_during_its_load_has_no_statistics(node):
    # asked for an instance that is not there, kstat prints nothing and exits 1 or 0
    node.zone()
    node.fault("kstat", stdout=b"", exit=1)
    assert "pid" not in node.vm()


# -- sysinfo


def test_sysinfo_gives_four_properties_untranslated(node):
    node.sysinfo(
        {
            "UUID": SERVER,
            "Live Image": "20260312T000000Z",
            "Datacenter Name": "emy-10",
            "Headnode ID": 3,
            "Hostname": "cn-7",
            "Uptime": 5,
        }
    )
    node.zone()
    vm = node.vm()
    assert canonical([vm[key] for key in SYSINFO]) == canonical([SERVER, "20260312T000000Z", "emy-10", 3])


def test_sysinfo_key_that_is_not_there_leaves_its_property_out(node):
    node.sysinfo({"UUID": SERVER})
    node.zone()
    vm = node.vm()
    assert vm["server_uuid"] == SERVER
    assert {"platform_buildstamp", "datacenter_name", "headnode_id"} & set(vm) == set()


@pytest.mark.parametrize(("value", "served"), [("3", '"3"'), (None, "null"), (3.0, "3"), (["a"], '["a"]')])
def test_sysinfo_value_of_another_type_is_copied(node, value, served):
    node.sysinfo({"Headnode ID": value})
    node.zone()
    assert canonical(node.vm()["headnode_id"]).replace("\n", "").replace(" ", "") == served


@pytest.mark.parametrize("text", ["", "{", '{"UUID": "x"', '{"UUID": NaN}', "GARBAGE", b"\xff\xfe", "[" * 100000])
def test_sysinfo_that_is_no_json_costs_its_four_properties_and_is_reported(node, text):
    node.sysinfo(text)
    node.zone()
    loaded = node.loader().load_all()
    assert loaded.errors == {}
    assert loaded.vms[U]["state"] == "running"
    assert set(SYSINFO) & set(loaded.vms[U]) == set()
    assert loaded.warnings != []
    assert all(isinstance(warning, str) for warning in loaded.warnings)


@pytest.mark.parametrize("text", ["null", "[]", "5", '"text"'])
def test_sysinfo_that_is_json_but_no_object_costs_its_four_properties(node, text):
    node.sysinfo(text)
    node.zone()
    vm = node.vms()[U]
    assert set(SYSINFO) & set(vm) == set()


def test_sysinfo_that_is_missing_costs_its_four_properties_and_is_reported(node):
    node.sysinfo(None)
    node.zone()
    loaded = node.loader().load_all()
    assert "server_uuid" not in loaded.vms[U]
    assert loaded.warnings != []
    assert "server_uuid" not in node.vm()


def test_sysinfo_that_cannot_be_read_costs_its_four_properties_and_is_reported(node):
    node.unreadable("tmp/.sysinfo.json")
    node.zone()
    loaded = node.loader().load_all()
    assert "server_uuid" not in loaded.vms[U]
    assert loaded.warnings != []


def test_good_node_gives_no_warning(node):
    node.zone()
    assert node.loader().load_all().warnings == []


def test_good_sysinfo_is_read_again_by_each_load(node):
    node.zone()
    loader = node.loader()
    loader.load_all()
    node.sysinfo({"UUID": "other"})
    assert loader.load_all().vms[U]["server_uuid"] == "other"
