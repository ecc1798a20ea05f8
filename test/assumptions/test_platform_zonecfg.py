# SPDX-License-Identifier: MPL-2.0
"""zonecfg as vmadm uses it: what a script leaves in the XML and the index, and what bad statements do."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator

import pytest

from mockcn import process
from mockcn.process import MockNode
from support.zonemaking import attr, configured, index_line, installed, new_uuid, running, script, state, xml_path

from .conftest import Follower

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE zone PUBLIC "-//Sun Microsystems Inc//DTD Zones//EN" "file:///usr/share/lib/xml/dtd/zonecfg.dtd.1">
"""


@pytest.fixture(scope="module")
def node() -> Iterator[MockNode]:
    """One node for all of this file: each test makes its own zones."""
    with (
        tempfile.TemporaryDirectory(prefix="cn-") as folder,
        process.start(folder + "/node", vms=2, seconds={"install": 0, "boot": 0, "halt": 0}) as running_node,
    ):
        yield running_node


@pytest.fixture
def zonecfg(node: MockNode) -> Callable[..., tuple[int, str]]:
    """zonecfg(zone, words..., stdin=...): (exit status, standard error); there must be nothing on standard output."""

    def run(zone: str, *words: str, stdin: str = "") -> tuple[int, str]:
        done = node.run("zonecfg", "-u", zone, *words, stdin=stdin)
        assert done.stdout == ""
        return done.returncode, done.stderr

    return run


def body(node: MockNode, zone: str) -> list[str]:
    """The lines between the zone element's tags."""
    lines = node.read(f"/etc/zones/{zone}.xml").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("<zone "))
    return [line.strip() for line in lines[start + 1 : -1]]


# -- a new zone --------------------------------------------------------------------------------------------------------


def test_script_of_a_new_zone_gives_its_xml_one_element_a_line(node: MockNode) -> None:
    zone = new_uuid()
    done = node.run(
        "zonecfg",
        "-z",
        zone,
        stdin=f"""create -b
set zonepath=/zones/{zone}
set brand=joyent-minimal
set uuid={zone}
set ip-type=exclusive
add attr; set name="provisioning"; set type=string; set value=true;end
add attr; set name=transition; set value="provisioning:running:1523467442755"; set type=string; end
set cpu-shares=100
set limitpriv="default"
set max-lwps=2000
set max-shm-memory=268435456
set zfs-io-priority=100
set autoboot=true
add capped-memory; set physical=256m; set locked=128m; set swap=512m; end
add capped-cpu; set ncpus=1.5; end
add attr; set name="alias"; set type=string; set value="Zm9v"; end
set fs-allowed="ufs,pcfs"
add net
set physical=net0
set mac-addr=b2:1e:ba:6:0:71
set global-nic=external
add property (name=gateway, value="10.2.121.1")
add property (name=ips, value="10.2.121.70/16,addrconf")
set vlan-id=20
end
select net mac-addr=b2:1e:ba:6:0:71; add property (name=primary,value="true"); end
""",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = node.read(f"/etc/zones/{zone}.xml")
    assert text.startswith(HEAD)
    debugid = node.run("zoneadm", "-z", zone, "list", "-p").stdout.rstrip("\n").rsplit(":", 1)[1]
    assert (
        text[text.index("<zone ") :]
        == f"""\
<zone name="{zone}" zonepath="/zones/{zone}" autoboot="true" brand="joyent-minimal" ip-type="exclusive" \
limitpriv="default" fs-allowed="ufs,pcfs" debugid="{debugid}">
  <attr name="provisioning" type="string" value="true"/>
  <attr name="transition" type="string" value="provisioning:running:1523467442755"/>
  <rctl name="zone.cpu-shares">
    <rctl-value priv="privileged" limit="100" action="none"/>
  </rctl>
  <rctl name="zone.max-lwps">
    <rctl-value priv="privileged" limit="2000" action="deny"/>
  </rctl>
  <rctl name="zone.max-shm-memory">
    <rctl-value priv="privileged" limit="268435456" action="deny"/>
  </rctl>
  <rctl name="zone.zfs-io-priority">
    <rctl-value priv="privileged" limit="100" action="none"/>
  </rctl>
  <rctl name="zone.max-physical-memory">
    <rctl-value priv="privileged" limit="268435456" action="deny"/>
  </rctl>
  <rctl name="zone.max-locked-memory">
    <rctl-value priv="privileged" limit="134217728" action="deny"/>
  </rctl>
  <rctl name="zone.max-swap">
    <rctl-value priv="privileged" limit="536870912" action="deny"/>
  </rctl>
  <rctl name="zone.cpu-cap">
    <rctl-value priv="privileged" limit="150" action="deny"/>
  </rctl>
  <attr name="alias" type="string" value="Zm9v"/>
  <network physical="net0" mac-addr="b2:1e:ba:06:00:71" vlan-id="20" global-nic="external">
    <net-attr name="gateway" value="10.2.121.1"/>
    <net-attr name="ips" value="10.2.121.70/16,addrconf"/>
    <net-attr name="primary" value="true"/>
  </network>
</zone>
"""
    )


def test_disk_filesystem_and_dataset_have_the_writers_attributes(node: MockNode) -> None:
    zone = configured(
        node,
        "add device",
        "set match=/dev/zvol/rdsk/zones/x/disk0",
        'add property (name=boot, value="true")',
        'add property (name=image-size, value="10240")',
        "end",
        "add fs",
        "set dir=/shared",
        "set special=/zones/shared",
        "set type=lofs",
        'add options "ro"',
        'add options "nodevices"',
        "end",
        "add dataset; set name=zones/x/data; end",
    )
    assert body(node, zone)[2:] == [
        '<device match="/dev/zvol/rdsk/zones/x/disk0">',
        '<net-attr name="boot" value="true"/>',
        '<net-attr name="image-size" value="10240"/>',
        "</device>",
        '<filesystem special="/zones/shared" directory="/shared" type="lofs">',
        '<fsoption name="ro"/>',
        '<fsoption name="nodevices"/>',
        "</filesystem>",
        '<dataset name="zones/x/data"/>',
    ]


def test_new_zone_is_configured_in_the_index_with_its_uuid(node: MockNode) -> None:
    zone = configured(node, pool="tank")
    assert index_line(node, zone) == f"{zone}:configured:/tank/{zone}:{zone}"
    assert state(node, zone) == "configured"


def test_new_zone_has_the_next_debugid(node: MockNode) -> None:
    first, second = configured(node), configured(node)
    numbers = [int(node.run("zoneadm", "-z", zone, "list", "-p").stdout.rsplit(":", 1)[1]) for zone in (first, second)]
    assert numbers[1] == numbers[0] + 1


def test_create_is_refused_for_an_installed_zone(node: MockNode, zonecfg: Callable[..., tuple[int, str]]) -> None:
    zone = installed(node)
    assert zonecfg(zone, "create -b") == (1, f"Zone {zone} already installed; create not allowed.\n")
    assert state(node, zone) == "installed"


def test_create_of_a_configured_zone_is_refused_and_changes_nothing(node: MockNode) -> None:
    zone = configured(node)
    before = node.read(f"/etc/zones/{zone}.xml")
    done = node.run("zonecfg", "-z", zone, "create -b")
    assert done.returncode == 1
    assert node.read(f"/etc/zones/{zone}.xml") == before


def test_zone_without_a_zonepath_is_not_written(node: MockNode) -> None:
    zone = new_uuid()
    done = node.run("zonecfg", "-z", zone, stdin=f"create -b\nset brand=joyent\nset uuid={zone}\n")
    assert done.returncode == 1
    assert "zonepath cannot be empty." in done.stderr
    assert not os.path.exists(xml_path(node, zone))
    assert index_line(node, zone) is None


# -- changes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement, before, after",
    [
        ('select attr name=alias; set value="YmFy"; end', "Zm9v", "YmFy"),
        ('select attr name="alias"; set value=""; end', "Zm9v", ""),
        ("remove -F attr name=alias;", "Zm9v", None),
        ("remove attr name=alias", "Zm9v", None),
        ('remove -F attr name=alias; add attr; set name=alias; set type=string; set value="YQ=="; end', "Zm9v", "YQ=="),
    ],
)
def test_attribute_is_changed_by_one_line_of_words(
    node: MockNode, zonecfg: Callable[..., tuple[int, str]], statement: str, before: str, after: str | None
) -> None:
    zone = configured(node, f'add attr; set name="alias"; set type=string; set value="{before}"; end')
    assert zonecfg(zone, statement) == (0, "")
    assert attr(node, zone, "alias") == after


def test_words_are_joined_to_one_line(node: MockNode, zonecfg: Callable[..., tuple[int, str]]) -> None:
    zone = configured(node)
    assert zonecfg(zone, "set", "autoboot=true;", "set", "cpu-shares=7") == (0, "")
    assert 'autoboot="true"' in node.read(f"/etc/zones/{zone}.xml")
    assert '<rctl-value priv="privileged" limit="7" action="none"/>' in body(node, zone)


def test_selected_element_moves_to_the_end(node: MockNode, zonecfg: Callable[..., tuple[int, str]]) -> None:
    zone = configured(node)
    assert zonecfg(zone, stdin='select attr name=vm-version; set value="2"; end\n') == (0, "")
    assert body(node, zone)[-1] == '<attr name="vm-version" type="string" value="2"/>'


def test_control_is_replaced_and_cleared(node: MockNode, zonecfg: Callable[..., tuple[int, str]]) -> None:
    zone = configured(node, "set max-lwps=2000")
    assert zonecfg(zone, "set max-lwps=3000") == (0, "")
    assert [line for line in body(node, zone) if "limit" in line] == [
        '<rctl-value priv="privileged" limit="3000" action="deny"/>'
    ]
    assert zonecfg(zone, "clear max-lwps") == (0, "")
    assert not [line for line in body(node, zone) if "rctl" in line]
    assert zonecfg(zone, "clear max-lwps") == (1, "clear max-lwps: No such property with that id\n")


def test_fs_allowed_is_cleared(node: MockNode, zonecfg: Callable[..., tuple[int, str]]) -> None:
    zone = configured(node, 'set fs-allowed="ufs"')
    assert zonecfg(zone, "clear fs-allowed") == (0, "")
    assert "fs-allowed" not in node.read(f"/etc/zones/{zone}.xml")


def test_selected_memory_keeps_what_is_not_set(node: MockNode, zonecfg: Callable[..., tuple[int, str]]) -> None:
    zone = configured(node, "add capped-memory; set physical=256m; set locked=256m; set swap=512m; end")
    assert zonecfg(zone, stdin="select capped-memory; set physical=128m; set locked=128m; end\n") == (0, "")
    text = "".join(body(node, zone))
    assert [f'limit="{mib << 20}"' in text for mib in (128, 256, 512)] == [True, False, True]


def test_locked_memory_above_physical_is_refused(node: MockNode, zonecfg: Callable[..., tuple[int, str]]) -> None:
    zone = configured(node, "add capped-memory; set physical=256m; set locked=256m; set swap=512m; end")
    assert zonecfg(zone, "select capped-memory; set physical=128m; end") == (
        1,
        "The locked cap must be less than or equal to the physical cap.\n"
        "The resource capped-memory was not ended; it is left out.\n",
    )
    assert f'limit="{128 << 20}"' not in node.read(f"/etc/zones/{zone}.xml")


@pytest.mark.parametrize("ncpus, limit", [("1", 100), ("0.29", 29), ("1.1500000000000001", 115), ("0.01", 1)])
def test_cpu_cap_is_hundred_times_ncpus(
    node: MockNode, zonecfg: Callable[..., tuple[int, str]], ncpus: str, limit: int
) -> None:
    zone = configured(node)
    assert zonecfg(zone, f"add capped-cpu; set ncpus={ncpus}; end") == (0, "")
    assert f'limit="{limit}"' in node.read(f"/etc/zones/{zone}.xml")
    assert zonecfg(zone, "remove capped-cpu") == (0, "")
    assert "zone.cpu-cap" not in node.read(f"/etc/zones/{zone}.xml")


def test_added_capped_memory_that_is_there_is_refused(node: MockNode, zonecfg: Callable[..., tuple[int, str]]) -> None:
    zone = configured(node, "add capped-cpu; set ncpus=1; end")
    status, text = zonecfg(zone, "add capped-cpu; set ncpus=2; end")
    assert (status, text.splitlines()[0]) == (1, "The capped-cpu resource already exists.")
    assert 'limit="100"' in node.read(f"/etc/zones/{zone}.xml")


def test_nic_is_found_by_its_mac_however_it_is_written(node: MockNode, zonecfg: Callable[..., tuple[int, str]]) -> None:
    zone = configured(
        node,
        "add net",
        "set physical=net0",
        "set mac-addr=2:8:20:0:a:b",
        "end",
        "add net",
        "set physical=net1",
        "set mac-addr=02:08:20:00:0a:0c",
        "end",
    )
    assert zonecfg(zone, 'select net mac-addr=02:08:20:0:0A:0b; add property (name=primary,value="true"); end') == (
        0,
        "",
    )
    assert zonecfg(zone, "remove net mac-addr=2:8:20:0:a:c") == (0, "")
    assert body(node, zone)[2:] == [
        '<network physical="net0" mac-addr="02:08:20:00:0a:0b">',
        '<net-attr name="primary" value="true"/>',
        "</network>",
    ]


def test_property_of_a_nic_is_removed(node: MockNode, zonecfg: Callable[..., tuple[int, str]]) -> None:
    zone = configured(
        node,
        "add net",
        "set physical=net0",
        "set mac-addr=2:8:20:0:0:1",
        'add property (name=primary, value="true")',
        "end",
    )
    drop = 'remove {}property (name=primary,value="true"); end'
    assert zonecfg(zone, "select net mac-addr=2:8:20:0:0:1; " + drop.format("")) == (0, "")
    assert body(node, zone)[2:] == ['<network physical="net0" mac-addr="02:08:20:00:00:01"/>']
    assert zonecfg(zone, "select net mac-addr=2:8:20:0:0:1; " + drop.format("-F ")) == (0, "")
    assert zonecfg(zone, "select net mac-addr=2:8:20:0:0:1; " + drop.format("")) == (
        1,
        "remove property: No such property with that id\n",
    )


def test_device_and_filesystem_are_removed_by_path(node: MockNode, zonecfg: Callable[..., tuple[int, str]]) -> None:
    zone = configured(
        node,
        "add device",
        "set match=/dev/zvol/rdsk/zones/x/disk0",
        "end",
        "add fs",
        "set dir=/a",
        "set special=/b",
        "set type=lofs",
        "end",
    )
    assert zonecfg(zone, "remove -F device match=/dev/zvol/rdsk/zones/x/disk0") == (0, "")
    assert zonecfg(zone, "remove fs dir=/a") == (0, "")
    assert len(body(node, zone)) == 2


def test_values_keep_characters_that_xml_and_zonecfg_use(
    node: MockNode, zonecfg: Callable[..., tuple[int, str]]
) -> None:
    zone = configured(node)
    assert zonecfg(zone, stdin="add attr; set name=odd; set type=string; set value=\"a;b=<c>&(d),'e'\"; end\n") == (
        0,
        "",
    )
    assert attr(node, zone, "odd") == "a;b=&lt;c&gt;&amp;(d),'e'"


# -- bad statements ----------------------------------------------------------------------------------------------------


def test_missing_resource_is_an_error_without_force_only(
    node: MockNode, zonecfg: Callable[..., tuple[int, str]]
) -> None:
    zone = configured(node)
    assert zonecfg(zone, "remove attr name=none") == (1, "remove attr: No such resource with that id\n")
    assert zonecfg(zone, "remove -F attr name=none") == (0, "")
    assert zonecfg(zone, "select attr name=none") == (1, "select attr: No such resource with that id\n")


def test_script_goes_on_after_a_bad_statement_and_commits_the_good_ones(
    node: MockNode, zonecfg: Callable[..., tuple[int, str]]
) -> None:
    zone = configured(node)
    assert zonecfg(zone, stdin="set autoboot=true\nremove attr name=none\nset max-lwps=5\nnonsense\n") == (
        1,
        "remove attr: No such resource with that id\nsyntax error at 'nonsense'\n",
    )
    assert 'autoboot="true"' in node.read(f"/etc/zones/{zone}.xml")
    assert 'limit="5"' in node.read(f"/etc/zones/{zone}.xml")


@pytest.mark.parametrize(
    "statement, text",
    [
        ("set value=x", "Cannot set a resource-specific property from the global scope."),
        ("end", "The end command only makes sense in the resource scope."),
        ("set autoboot=maybe", "autoboot value must be 'true' or 'false'."),
        ("set zonepath=zones/x", "zones/x is not an absolute path."),
        ("add attr; set name=x; set type=string; end; cancel", "value not specified"),
        ("add attr; set physical=x; cancel", "physical: No such property type"),
        (
            "add attr; set name=vm-version; set type=string; set value=x; end; cancel",
            "An attr resource with the name 'vm-version' already exists.",
        ),
        ("add net; add property primary; cancel", "A complex value of name and value was expected for property here."),
        ("set cpu-shares=-1", "cpu-shares: a non-negative integer is required, not '-1'"),
        (
            "add capped-memory; set physical=lots; cancel",
            "physical: a non-negative number with a required scale suffix (K, M, G or T) was expected.",
        ),
        ("delete", "Input not from terminal and -F not specified:\ndelete command ignored, exiting."),
    ],
)
def test_bad_statement_says_why_and_changes_nothing(
    node: MockNode, zonecfg: Callable[..., tuple[int, str]], statement: str, text: str
) -> None:
    zone = configured(node)
    before = os.stat(xml_path(node, zone))
    assert zonecfg(zone, stdin=statement + "\n") == (1, text + "\n")
    after = os.stat(xml_path(node, zone))
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_resource_that_is_never_ended_is_left_out(node: MockNode, zonecfg: Callable[..., tuple[int, str]]) -> None:
    zone = configured(node)
    status, _ = zonecfg(zone, stdin="set max-lwps=9\nadd attr\nset name=x\nset type=string\nset value=1\n")
    assert status == 1
    assert attr(node, zone, "x") is None
    assert 'limit="9"' in node.read(f"/etc/zones/{zone}.xml")


def test_installed_zone_keeps_its_path_and_brand(node: MockNode, zonecfg: Callable[..., tuple[int, str]]) -> None:
    zone = installed(node)
    assert zonecfg(zone, "set brand=lx") == (1, f"Zone {zone} already installed; set brand not allowed.\n")
    assert 'brand="joyent-minimal"' in node.read(f"/etc/zones/{zone}.xml")


@pytest.mark.parametrize("which", [["-z", "no-such-zone"], ["-u", "5f0c0c52-6a1e-4d0b-9a57-000000000000"]])
def test_unknown_zone_is_an_error(node: MockNode, which: list[str]) -> None:
    done = node.run("zonecfg", *which, "set autoboot=true")
    assert done.returncode != 0
    assert "No such zone configured" in done.stderr


def test_unknown_uuid_also_gives_the_usage(node: MockNode) -> None:
    done = node.run("zonecfg", "-u", new_uuid(), stdin="")
    assert done.returncode == 2
    assert "usage:" in done.stderr


# -- files and events --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "info attr name=vm-version\n", "remove -F attr name=no\n"])
def test_script_that_changes_nothing_writes_nothing(node: MockNode, text: str) -> None:
    zone = configured(node)
    before = os.stat(xml_path(node, zone))
    assert node.run("zonecfg", "-u", zone, stdin=text).returncode == 0
    after = os.stat(xml_path(node, zone))
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_commit_renames_a_new_file_onto_the_xml(node: MockNode, follow: Callable[..., Follower]) -> None:
    zone = configured(node)
    watcher = follow("fswatcher", "-j", "-r")
    assert watcher.record()["type"] == "ready"
    assert watcher.child.stdin is not None
    watcher.child.stdin.write(f"1 WATCH /etc/zones/{zone}.xml\n2 WATCH /etc/zones/index\n".encode())
    watcher.child.stdin.flush()
    assert [watcher.record()["result"] for _ in range(2)] == ["SUCCESS", "SUCCESS"]
    node.run("zonecfg", "-u", zone, "set autoboot=true", check=True)
    event = watcher.record()
    assert (event["pathname"], event["changes"]) == (f"/etc/zones/{zone}.xml", ["FILE_EXCEPTION", "FILE_RENAME_TO"])
    node.run("zonecfg", "-u", zone, "set uuid=" + new_uuid(), check=True)
    assert [watcher.record()["pathname"] for _ in range(2)] == [f"/etc/zones/{zone}.xml", "/etc/zones/index"]
    assert [name for name in os.listdir(node.root + "/etc/zones") if zone in name] == [f"{zone}.xml"]


def test_only_a_new_and_a_deleted_zone_make_events(node: MockNode, zone_events: Follower) -> None:
    zone = configured(node)
    node.run("zonecfg", "-u", zone, "set autoboot=true", check=True)
    node.run("zonecfg", "-u", zone, "delete -F", check=True)
    records = [zone_events.record() for _ in range(2)]
    assert [
        (record["class"], record["subclass"], record["data"]["zonename"], record["data"]["newstate"])
        for record in records
    ] == [("status", "change", zone, "configured"), ("status", "change", zone, "")]


@pytest.mark.parametrize("make", [configured, installed])
def test_delete_removes_xml_and_index_line_in_any_state(node: MockNode, make: Callable[[MockNode], str]) -> None:
    zone = make(node)
    assert node.run("zonecfg", "-u", zone, "delete -F").returncode == 0
    assert not os.path.exists(xml_path(node, zone))
    assert index_line(node, zone) is None
    assert state(node, zone) == ""


def test_zone_deleted_while_it_runs_stays_in_the_kernel_until_it_halts(node: MockNode) -> None:
    zone = running(node)
    assert node.run("zonecfg", "-u", zone, "delete -F").returncode == 0
    assert index_line(node, zone) is None
    assert state(node, zone) == "running"
    node.run("zoneadm", "-z", zone, "halt", check=True)
    assert state(node, zone) == ""


def test_info_prints_an_attribute(node: MockNode) -> None:
    zone = configured(node)
    done = node.run("zonecfg", "-u", zone, "info attr name=vm-version")
    assert (done.returncode, done.stdout) == (0, "attr:\n\tname: vm-version\n\ttype: string\n\tvalue: 1\n")
    done = node.run("zonecfg", "-u", zone, "info", "attr", "name=none")
    assert (done.returncode, done.stdout) == (0, "No such attr resource.\n")


def test_info_prints_a_disk_and_its_properties_as_a_script_would_write_them(node: MockNode) -> None:
    path = f"/dev/zvol/rdsk/zones/{new_uuid()}/disk0"
    device = f'add device; set match="{path}"; add property (name=boot,value="true"); end'
    zone = configured(node, device, 'set limitpriv="default,-file_link_any"', brand="bhyve")
    done = node.run("zonecfg", "-u", zone, f'info device match="{path}"')
    assert (done.returncode, done.stdout) == (
        0,
        f'device:\n\tmatch: {path}\n\tproperty: (name=boot, value="true")\n',
    )
    assert node.run("zonecfg", "-u", zone, "info limitpriv").stdout == 'limitpriv: "default,-file_link_any"\n'


def test_info_quotes_a_value_with_blanks(node: MockNode) -> None:
    zone = configured(node, 'add attr; set name="note"; set type=string; set value="two words; and more"; end')
    assert '\tvalue: "two words; and more"\n' in node.run("zonecfg", "-u", zone, "info attr name=note").stdout


def test_script_can_come_from_a_file(node: MockNode, tmp_path: os.PathLike[str]) -> None:
    zone, path = new_uuid(), os.path.join(tmp_path, "script")
    with open(path, "w", encoding="utf-8") as file:
        file.write(script(zone))
    assert node.run("zonecfg", "-z", zone, "-f", path).returncode == 0
    assert state(node, zone) == "configured"
