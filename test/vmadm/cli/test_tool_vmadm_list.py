# SPDX-License-Identifier: MPL-2.0
"""`vmadm list` as a program: columns, trimming, order, filters and complaints."""

import pytest

from support.canned_server import CannedServer, answer, body_answer
from support.tools import run_tool

A = "aaaaaaaa-0000-4000-8000-000000000001"
B = "bbbbbbbb-0000-4000-8000-000000000002"
C = "cccccccc-0000-4000-8000-000000000003"
D = "dddddddd-0000-4000-8000-000000000004"

VMS = [
    {
        "zonename": C,
        "uuid": C,
        "brand": "joyent",
        "state": "running",
        "alias": "web",
        "max_physical_memory": 1024,
        "zone_state": "running",
        "zoneid": 12,
        "quota": 10,
        "cpu_cap": 0,
        "autoboot": True,
        "firewall_enabled": False,
        "owner_uuid": "",
        "tags": {"role": "web", "n": 5, "a.b": "dotted"},
        "customer_metadata": {"k": "v=1"},
        "nics": [
            {"mac": "02:08:20:aa:00:01", "ip": "10.0.0.1", "primary": True, "vlan_id": 0},
            {"mac": "02:08:20:aa:00:02", "ip": "10.0.0.2"},
        ],
        "resolvers": ["8.8.8.8"],
        "routes": {"r": "10.9.9.9"},
    },
    {
        "zonename": A,
        "uuid": A,
        "brand": "kvm",
        "state": "stopped",
        "ram": 512,
        "max_physical_memory": 1536,
        "zone_state": "installed",
        "zoneid": None,
        "quota": 10,
        "vcpus": 2,
        "tags": {},
        "nics": [],
        "disks": [{"path": "/dev/zvol/rdsk/zones/x-disk0", "size": 10240, "boot": True, "zpool": "zones"}],
    },
    {
        "zonename": "global-ish",
        "uuid": D,
        "brand": "lx",
        "state": "running",
        "alias": "database",
        "tags": {},
        "max_physical_memory": 256,
        "zone_state": "running",
        "zoneid": 3,
        "quota": 100,
        "nics": [],
    },
    {
        "zonename": B,
        "uuid": B,
        "brand": "bhyve",
        "state": "running",
        "ram": 1024,
        "alias": "a:b",
        "nics": [],
        "max_physical_memory": 2304,
        "zone_state": "running",
        "zoneid": 100,
        "quota": 10,
        "tags": {"role": "db"},
    },
]


@pytest.fixture(scope="module")
def node():
    with CannedServer({"/vms": answer(VMS)}) as server:
        yield server


def listed(node, *arguments):
    code, out, err = run_tool("vmadm", "list", *arguments, port=node.port)
    assert (code, err) == (0, "")
    return out


def order(node, *arguments):
    """The first letters of the uuids in the order of the listing."""
    return "".join(line[0] for line in listed(node, "-H", *arguments).splitlines())


def refused(node, *arguments):
    code, out, err = run_tool("vmadm", "list", *arguments, port=node.port)
    assert (code, out) == (1, "")
    return err


def test_default_listing(node):
    assert (
        listed(node)
        == f"""\
UUID                                  TYPE  RAM      STATE             ALIAS
{D}  LX    256      running           database
{A}  KVM   512      stopped           -
{B}  BHYV  1024     running           a:b
{C}  OS    1024     running           web
"""
    )


def test_header_is_there_without_vms_and_without_matches(node):
    header = "UUID                                  TYPE  RAM      STATE             ALIAS\n"
    assert listed(node, "alias=nobody") == header
    with CannedServer({"/vms": answer([])}) as empty:
        assert listed(empty) == header
        assert listed(empty, "-p") == ""


def test_header_can_be_left_out_and_forced(node):
    assert listed(node, "-H", "-o", "alias", "alias=web") == "web\n"
    assert listed(node, "-p", "-o", "alias,ram", "alias=web") == "web:1024\n"
    assert listed(node, "-p", "-h", "-o", "alias,ram", "alias=web") == "ALIAS:RAM\nweb:1024\n"
    assert listed(node, "-ph", "-o", "alias,ram", "alias=web") == "ALIAS:RAM\nweb:1024\n"


def test_cells_for_missing_null_empty_false_and_zero(node):
    fields = "uuid,owner_uuid,firewall_enabled,zoneid,billing_id,cpu_cap,autoboot"
    assert listed(node, "-p", "-o", fields, f"uuid={C}") == f"{C}:::12::0:true\n"
    assert listed(node, "-p", "-o", fields, f"uuid={A}") == f"{A}::::::\n"
    line = listed(node, "-H", "-o", "firewall_enabled,zoneid,cpu_cap,autoboot,uuid,owner_uuid", f"uuid={C}")
    assert line == f"-                 12      0        true      {C}  -\n"


def test_parsable_output_escapes_nothing(node):
    assert listed(node, "-p", "-o", "alias,type", "type=BHYV") == "a:b:BHYV\n"


def test_long_cells_are_not_cut(node):
    assert (
        listed(node, "-o", "zonename,alias", f"uuid={C}")
        == f"""\
ZONENAME      ALIAS
{C}  web
"""
    )


def test_dotted_columns_are_twenty_wide(node):
    assert (
        listed(node, "-o", "nics.0.ip,nics.1.mac,tags.role,routes.r,uuid", f"uuid={C}")
        == f"""\
NICS.0.IP             NICS.1.MAC            TAGS.ROLE             ROUTES.R              UUID
10.0.0.1              02:08:20:aa:00:02     web                   10.9.9.9              {C}
"""
    )


def test_every_listable_field_has_its_header_and_width(node):
    table = {
        "alias": ("ALIAS", 10),
        "autoboot": ("AUTOBOOT", 8),
        "billing_id": ("BILLING_ID", 36),
        "boot_timestamp": ("BOOT_TIMESTAMP", 24),
        "brand": ("BRAND", 14),
        "cpu_cap": ("CPU_CAP", 7),
        "cpu_shares": ("CPU_SHARE", 9),
        "cpu_type": ("CPU_TYPE", 8),
        "create_timestamp": ("CREATE_TIMESTAMP", 24),
        "dns_domain": ("DOMAIN", 32),
        "do_not_inventory": ("DNI", 5),
        "docker": ("DOCKER", 6),
        "exit_status": ("EXIT", 4),
        "exit_timestamp": ("EXIT_TIMESTAMP", 24),
        "firewall_enabled": ("FIREWALL_ENABLED", 16),
        "flexible_disk_size": ("FLEX_DISK_SIZE", 14),
        "free_space": ("FREE_SPACE", 14),
        "hostname": ("HOSTNAME", 32),
        "hvm": ("HVM", 5),
        "image_uuid": ("IMAGE_UUID", 36),
        "indestructible_delegated": ("INDESTR_DATA", 12),
        "indestructible_zoneroot": ("INDESTR_ROOT", 12),
        "max_locked_memory": ("MAX_LOCKED", 10),
        "max_lwps": ("MAX_LWP", 7),
        "max_physical_memory": ("MAX_PHYS", 8),
        "max_swap": ("MAX_SWAP", 8),
        "owner_uuid": ("OWNER_UUID", 36),
        "package_name": ("PACKAGE_NAME", 32),
        "package_version": ("PACKAGE_VER", 11),
        "pid": ("PID", 6),
        "qemu_extra_opts": ("QEMU_EXTRA_OPTS", 15),
        "quota": ("QUOTA", 5),
        "ram": ("RAM", 7),
        "state": ("STATE", 16),
        "tmpfs": ("TMPFS", 5),
        "type": ("TYPE", 4),
        "uuid": ("UUID", 36),
        "vcpus": ("VCPUS", 5),
        "zfs_io_priority": ("IO_PRIORITY", 11),
        "zone_state": ("ZONE_STATE", 10),
        "zoneid": ("ZONEID", 6),
        "zonename": ("ZONENAME", 12),
        "zonepath": ("ZONEPATH", 40),
        "zpool": ("ZPOOL", 12),
    }
    fields = sorted(table)
    header = "  ".join(table[field][0].ljust(table[field][1]) for field in fields)
    assert listed(node, "-o", ",".join(fields), "alias=nobody") == header.rstrip() + "\n"


def test_vm_without_any_of_the_columns_is_not_listed(node):
    assert listed(node, "-o", "alias") == "ALIAS\nweb\ndatabase\na:b\n"
    assert listed(node, "-o", "vcpus,tags.role", f"uuid={A}") == "VCPUS  TAGS.ROLE\n2      -\n"


def test_sort_field_that_is_no_column_sorts_nothing(node):
    assert order(node, "-o", "uuid,alias") == "abcd"
    assert order(node, "-o", "uuid,alias", "-s", "ram") == "cadb"
    assert order(node, "-o", "uuid,ram", "-s", "ram") == "dacb"


def test_sort_directions_and_ties(node):
    assert order(node, "-o", "uuid,quota", "-s", "quota") == "cabd"
    assert order(node, "-o", "uuid,quota", "-s", "-quota") == "dcab"
    assert order(node, "-o", "uuid,quota", "-s", "quota,-uuid") == "cbad"
    assert order(node, "-o", "uuid,quota", "-s", "+quota,+uuid") == "abcd"
    assert order(node, "-o", "uuid,quota", "-s=-quota,uuid") == "dabc"


def test_missing_values_sort_last_and_reversed_first(node):
    assert order(node, "-o", "uuid,zoneid", "-s", "zoneid") == "dcba"
    assert order(node, "-o", "uuid,zoneid", "-s", "-zoneid") == "abcd"
    assert order(node, "-o", "uuid,alias", "-s", "alias") == "bdca"


def test_strings_sort_by_utf_16_code_unit():
    names = ["b", "B", "ä", "\U0001f600", "\uffee", "a"]
    vms = [{"uuid": A, "brand": "lx", "alias": name} for name in names]
    with CannedServer({"/vms": answer(vms)}) as server:
        out = listed(server, "-H", "-o", "alias", "-s", "alias")
    assert out.split() == ["B", "a", "b", "ä", "\U0001f600", "\uffee"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["type=OS"], "c"),
        (["type=LX"], "d"),
        (["type=KVM"], "a"),
        (["type=BHYV"], "b"),
        (["type=BHYVE"], ""),
        (["ram=1024"], "bc"),
        (["ram=256"], "d"),
        (["alias=web"], "c"),
        (["alias=WEB"], ""),
        (["alias="], ""),
        (["owner_uuid="], "c"),
        (["owner_uuid"], "c"),
        (["firewall_enabled=false"], "c"),
        (["autoboot=true"], "c"),
        (["zoneid="], ""),
        (["zoneid=null"], ""),
        (["zoneid=~."], "dbc"),
        (["state=running", "quota=10"], "bc"),
        (["state=stopped", "state=running"], "dbc"),
        (["alias=~A"], "db"),
        (["alias=~^W.B$"], "c"),
        (["ram=~^1"], "bc"),
        (["tags.role=db"], "b"),
        (["tags.n=5"], "c"),
        (["tags.a.b=dotted"], ""),
        (["customer_metadata.k=v=1"], "c"),
        (["nics.0.ip=10.0.0.2"], ""),
        (["nics.1.ip=10.0.0.2"], "c"),
        (["nics.*.ip=10.0.0.2"], "c"),
        (["nics.*.ip=~^10"], "c"),
        (["nics.9.ip=10.0.0.2"], ""),
        (["nics.*.mac=2:8:20:AA:0:2"], "c"),
        (["nics.0.mac=2:8:20:aa:0:1"], "c"),
        (["nics.*.mac=2:8:20:aa:0"], ""),
        (["nics.*.mac=garbage"], ""),
        (["nics.0.vlan_id=0"], "c"),
        (["disks.0.size=10240"], "a"),
        (["disks.*.boot=true"], "a"),
        (["zonename=global-ish"], "d"),
        (["--", "alias=web"], "c"),
    ],
)
def test_filters(node, filters, found):
    assert order(node, *filters) == found


@pytest.mark.parametrize(
    "key",
    [
        "server_uuid",
        "nics.0.ips",
        "nics.ip",
        "nics.x.ip",
        "nics",
        "tags",
        "tags.",
        "routes.r",
        "resolvers.0",
        "filesystems.*.target",
        "pci_devices.0.path",
        "disks.0.path",
        "nics.0.ip.x",
        "",
        "Alias",
    ],
)
def test_unknown_filter_key(node, key):
    assert refused(node, f"{key}=1") == f'Invalid filter key: "{key}"\n'


def test_bad_regular_expression_is_one_line(node):
    err = refused(node, "alias=~[")
    assert err.startswith('Invalid regular expression "[": ')
    assert err.count("\n") == 1


def test_stars_are_for_filters_only(node):
    assert refused(node, "-o", "uuid,nics.*.ip") == 'Invalid order key: "nics.*.ip"\n'
    assert refused(node, "-s", "disks.*.size") == 'Invalid sort key: "disks.*.size"\n'
    assert refused(node, "-s", "disks.*.size", "-o", "filesystems.*.x") == 'Invalid order key: "filesystems.*.x"\n'
    assert refused(node, "-o", "nics.*.ip", "bogus=1") == 'Invalid filter key: "bogus"\n'


def test_unknown_columns_are_refused_after_the_fetch(node):
    assert refused(node, "-o", "uuid,bogus") == "invalid order field: bogus\n"
    assert refused(node, "-s", "-bogus") == "invalid sort field: -bogus\n"
    assert refused(node, "-s", "bogus", "-o", "bogus") == "invalid sort field: bogus\n"
    assert refused(node, "-o", "resolvers.0") == "invalid order field: resolvers.0\n"
    assert refused(node, "-o", "pci_devices.*.path") == "invalid order field: pci_devices.*.path\n"
    assert refused(node, "-o", "-uuid") == "invalid order field: -uuid\n"
    assert refused(node, "-o", "") == "invalid order field: \n"
    with CannedServer({}) as broken:
        assert refused(broken, "-o", "bogus") == "bad statusCode: 404\n"


@pytest.mark.parametrize(
    "words",
    [
        ["-po", "uuid"],
        ["-p", "--order", "uuid"],
        ["-p", "--order=uuid"],
        ["-p", "-o=uuid"],
        ["--pars", "--ord", "uuid"],
        ["-o", "alias", "-o", "uuid", "-p"],
        ["alias=web", "-p", "-o", "uuid"],
        ["-vdp", "-o", "uuid"],
    ],
)
def test_options_in_every_form_that_is_accepted(node, words):
    assert listed(node, *words, "alias=web") == f"{C}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["-H"],
        ["--no-header"],
        ["--no-head"],
        ["--header=false"],
        ["--header", "false"],
        ["-h=false"],
        ["-h", "-H"],
        ["-ph", "--no-parsable", "-H"],
    ],
)
def test_header_switched_off_in_every_form(node, words):
    assert listed(node, *words, "-o", "alias", "alias=web") == "web\n"


@pytest.mark.parametrize("words", [["-h"], ["--header"], ["--h"], ["-header"], ["--header=true"], ["-H", "--header"]])
def test_header_forced_in_every_form(node, words):
    assert listed(node, *words, "-p", "-o", "alias", "alias=web") == "ALIAS\nweb\n"


def test_column_of_a_map_whose_key_has_dots(node):
    assert listed(node, "-p", "-o", "uuid,tags.a.b", "alias=web") == f"{C}:dotted\n"
    assert listed(node, "-h", "-p", "-o", "tags.a.b,uuid", "alias=database") == f"TAGS.A.B:UUID\n:{D}\n"
    assert order(node, "-o", "uuid,tags.a.b", "-s", "tags.a.b,uuid") == "cabd"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--no-order"], "Unknown option: --no-order"),
        (["--parsable=yes"], "Option --parsable is on or off: --parsable=true or --parsable=false, not --parsable=yes"),
        (["-op", "uuid"], "Option -o needs a value."),
        (["-x"], "Unknown option: -x"),
        (["--bogus"], "Unknown option: --bogus"),
        (["-px"], "Unknown option: -px"),
        (["-o"], "Option -o needs a value."),
        (["--sortby"], "Option --sortby needs a value."),
    ],
)
def test_wrong_flags_are_named_above_the_usage(node, words, complaint):
    code, out, err = run_tool("vmadm", "list", *words, port=node.port)
    assert (code, out) == (2, "")
    assert err.startswith(f"{complaint}\nUsage: vmadm <command> [options]\n\n")


def test_lone_surrogate_in_an_alias_does_not_break_the_list():
    with CannedServer({"/vms": body_answer(b'[{"alias":"x\\ud800"}]')}) as server:
        assert listed(server, "-p", "-o", "alias") == "x\\ud800\n"


def test_reads_name_themselves(node):
    listed(node)
    assert node.requests[-1].headers["user-agent"].startswith("vmload/index - ")
