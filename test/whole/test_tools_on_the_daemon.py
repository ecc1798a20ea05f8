# SPDX-License-Identifier: MPL-2.0
"""vmadm, vminfo and zoneevent as programs on the real daemon: what they print is what /vms and /events hold.

What is expected is computed here a second time, from the rules and not with the tools' code, for all VMs of the mock
node; where a line can be written down, it is."""

import functools
import json
import os
import queue
import re
import signal
import socket
import subprocess
import threading

import pytest

from mockcn import process
from support.examples import few
from support.following import Follow
from support.running_daemon import SOON, RunningDaemon, eventually
from support.tools import environment, run_tool, start_tool, tool_path

pytest_plugins = ["support.followers"]

NOBODY = "ffffffff-0000-4000-8000-00000000000f"

# The table of columns, as operators know it: FIELD HEADER WIDTH.
COLUMNS = {
    field: (header, int(width))
    for field, header, width in (
        line.split()
        for line in """\
alias ALIAS 10
autoboot AUTOBOOT 8
billing_id BILLING_ID 36
boot_timestamp BOOT_TIMESTAMP 24
brand BRAND 14
cpu_cap CPU_CAP 7
cpu_shares CPU_SHARE 9
cpu_type CPU_TYPE 8
create_timestamp CREATE_TIMESTAMP 24
dns_domain DOMAIN 32
do_not_inventory DNI 5
docker DOCKER 6
exit_status EXIT 4
exit_timestamp EXIT_TIMESTAMP 24
firewall_enabled FIREWALL_ENABLED 16
flexible_disk_size FLEX_DISK_SIZE 14
free_space FREE_SPACE 14
hostname HOSTNAME 32
hvm HVM 5
image_uuid IMAGE_UUID 36
indestructible_delegated INDESTR_DATA 12
indestructible_zoneroot INDESTR_ROOT 12
max_locked_memory MAX_LOCKED 10
max_lwps MAX_LWP 7
max_physical_memory MAX_PHYS 8
max_swap MAX_SWAP 8
owner_uuid OWNER_UUID 36
package_name PACKAGE_NAME 32
package_version PACKAGE_VER 11
pid PID 6
qemu_extra_opts QEMU_EXTRA_OPTS 15
quota QUOTA 5
ram RAM 7
state STATE 16
tmpfs TMPFS 5
type TYPE 4
uuid UUID 36
vcpus VCPUS 5
zfs_io_priority IO_PRIORITY 11
zone_state ZONE_STATE 10
zoneid ZONEID 6
zonename ZONENAME 12
zonepath ZONEPATH 40
zpool ZPOOL 12
""".splitlines()
    )
}
TYPES = {"kvm": "KVM", "bhyve": "BHYV", "lx": "LX"}  # all others: OS


# -- What the tables and filters mean, said again ----------------------------------------------------------------------


def derived(vm):
    """A VM object with the two fields that only the tools have."""
    more = {"type": TYPES.get(vm["brand"], "OS")}
    if vm["brand"] not in ("kvm", "bhyve"):
        more["ram"] = vm["max_physical_memory"]
    return {**vm, **more}


def at(vm, field):
    """The value of a field, None if there is none."""
    here = vm
    for part in field.split("."):
        if isinstance(here, list):
            here = here[int(part)] if int(part) < len(here) else None
        else:
            here = (here or {}).get(part)
    return here


def javascript(value):
    """How a value reads as text."""
    if value is True or value is False:
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(javascript(one) for one in value)
    if isinstance(value, dict):
        return "[object Object]"
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def cell(vm, field, blank):
    value = at(vm, field)
    return blank if value is None or value is False or value == "" else javascript(value)


def table(vms, fields, sort):
    """The listing with its header, of VMs that are listed at all."""
    heads = [COLUMNS.get(field, (field.upper(), 20)) for field in fields]
    sorted_vms = in_order(listed(vms, fields), fields, sort)
    rows = [[head for head, _ in heads], *[[cell(vm, field, "-") for field in fields] for vm in sorted_vms]]
    widths = [width for _, width in heads]
    return "".join(
        "  ".join(text + " " * (width - len(text)) for text, width in zip(row, widths)).rstrip() + "\n" for row in rows
    )


def listed(vms, fields):
    """Those that have any of the columns."""
    tops = {field.split(".")[0] for field in fields}
    return [vm for vm in vms if tops & vm.keys()]


def in_order(vms, fields, sort):
    """Sorted by `sort`; a sort field whose first part is no column counts as missing everywhere."""
    tops = {field.split(".")[0] for field in fields}

    def compare(one, other):
        for signed in sort:
            field = signed.lstrip("+-")
            here, there = (at(vm, field) if field.split(".")[0] in tops else None for vm in (one, other))
            if here is None or there is None:
                order = (here is None) - (there is None)
            else:
                order = (here > there) - (here < there)
            if order:
                return -order if signed.startswith("-") else order
        return 0

    return sorted(vms, key=functools.cmp_to_key(compare))


def meets(vm, key, wanted):
    """Does a derived VM object meet one filter?"""
    if ".*." in key:
        top, _, name = key.split(".")
        found = [one.get(name) for one in vm.get(top, [])]
    else:
        found = [at(vm, key)]
    texts = [javascript(value) for value in found if value is not None]
    if wanted.startswith("~"):
        return any(re.search(wanted[1:], text, re.IGNORECASE) for text in texts)
    return wanted in texts


@pytest.fixture(scope="module")
def vms(quiet_daemon: RunningDaemon):
    return [derived(vm) for vm in quiet_daemon.vms()]


def out_of(daemon: RunningDaemon, *words: str) -> str:
    """What a tool prints when all is well."""
    done = daemon.tool(*words)
    assert (done.returncode, done.stderr) == (0, ""), words
    return done.stdout


# -- vmadm list and lookup ---------------------------------------------------------------------------------------------


def test_plain_listing_of_all_vms(quiet_daemon: RunningDaemon, vms):
    expected = table(vms, ["uuid", "type", "ram", "state", "alias"], ["ram", "uuid"])
    assert out_of(quiet_daemon, "vmadm", "list") == expected
    lines = expected.splitlines()
    assert len(lines) == 31
    assert {line[38:42].rstrip() for line in lines[1:]} == {"OS", "LX", "KVM", "BHYV"}
    assert [int(line[44:51]) for line in lines[1:]] == sorted(int(line[44:51]) for line in lines[1:])
    assert out_of(quiet_daemon, "vmadm", "list", "-H") == "".join(line + "\n" for line in lines[1:])


def test_every_column_of_every_vm(quiet_daemon: RunningDaemon, vms):
    fields = sorted(COLUMNS)
    words = ("list", "-o", ",".join(fields), "-s", "uuid")
    assert out_of(quiet_daemon, "vmadm", *words) == table(vms, fields, ["uuid"])
    rows = [":".join(cell(vm, field, "") for field in fields) + "\n" for vm in in_order(vms, fields, ["uuid"])]
    assert out_of(quiet_daemon, "vmadm", *words, "-p") == "".join(rows)
    header = ":".join(COLUMNS[field][0] for field in fields) + "\n"
    assert out_of(quiet_daemon, "vmadm", *words, "-ph") == header + "".join(rows)


def test_dotted_columns_of_every_vm(quiet_daemon: RunningDaemon, vms):
    fields = [
        "nics.0.mac",
        "nics.1.ip",
        "nics.0.ips",
        "disks.0.size",
        "disks.0.boot",
        "pci_devices.0.path",
        "tags.role",
        "tags.monitored",
        "routes.0",
        "alias",
    ]
    assert any(at(vm, "pci_devices.0.path") for vm in vms)
    assert any(at(vm, "disks.0.boot") for vm in vms)
    out = out_of(quiet_daemon, "vmadm", "list", "-o", ",".join(fields), "-s", "nics.0.mac,alias")
    assert out == table(vms, fields, ["nics.0.mac", "alias"])


@pytest.mark.parametrize(
    ("fields", "sort"),
    [
        ("uuid,alias", "ram,uuid"),
        ("uuid,alias,ram", "-ram,alias"),
        ("uuid,zoneid", "zoneid,uuid"),
        ("uuid,zoneid", "-zoneid,+uuid"),
        ("uuid,alias", "-alias"),
        ("uuid,brand,quota", "brand,-quota,uuid"),
        ("uuid,disks.0.size", "disks.1.size,uuid"),
        ("uuid,vcpus,tags.role", "-vcpus,tags.role,-uuid"),
        ("uuid,exit_status", "exit_status,-uuid"),
        ("zonename,uuid", "-zonename"),
        ("vcpus,ram", "-vcpus,ram"),
    ],
)
def test_sorted_listings(quiet_daemon: RunningDaemon, vms, fields, sort):
    out = out_of(quiet_daemon, "vmadm", "list", "-o", fields, "-s", sort)
    assert out == table(vms, fields.split(","), sort.split(","))


def test_vms_without_any_of_the_columns_are_left_out(quiet_daemon: RunningDaemon, vms):
    with_a_cpu = [vm for vm in vms if "vcpus" in vm]
    assert 0 < len(with_a_cpu) < len(vms)
    assert len(out_of(quiet_daemon, "vmadm", "list", "-H", "-o", "vcpus,disks.0.size").splitlines()) == len(with_a_cpu)


@pytest.mark.parametrize(
    "filters",
    few(
        [
            ["type=OS"],
            ["type=LX"],
            ["type=BHYV"],
            ["type=KVM"],
            ["state=running"],
            ["state=~^(stopp|fail)ed$"],
            ["state=~STOP"],
            ["zone_state=installed", "state=stopped"],
            ["ram=256"],
            ["ram=~^1"],
            ["brand=sn1"],
            ["alias=~-(us|eu)-"],
            ["alias=~☃"],
            ["alias=killed"],
            ["autoboot=false"],
            ["hvm=true"],
            ["zoneid=~."],
            ["tags.role=~."],
            ["tags.monitored=true"],
            ["nics.*.ip=~^10\\."],
            ["nics.1.mac=~:"],
            ["disks.*.size=~0$"],
            ["disks.0.boot=true", "type=BHYV"],
            ["zpool=tank"],
            ["zonename=~^[^0-9]+$"],
            ["indestructible_zoneroot=true"],
            ["nics.*.nic_tag=~admin|external", "ram=~^(128|256)$", "type=OS"],
        ],
        9,
    ),
)
def test_filters_find_the_same_vms_in_both_commands(quiet_daemon: RunningDaemon, vms, filters):
    pairs = [word.split("=", 1) for word in filters]
    found = [vm for vm in vms if all(meets(vm, key, wanted) for key, wanted in pairs)]
    assert 0 < len(found) < len(vms)
    assert out_of(quiet_daemon, "vmadm", "lookup", *filters).splitlines() == [vm["uuid"] for vm in found]
    fields = ["uuid", "type", "ram", "state", "alias"]
    assert out_of(quiet_daemon, "vmadm", "list", *filters) == table(found, fields, ["ram", "uuid"])


@pytest.mark.parametrize("key", ["nics.*.mac", "nics.0.mac", "nics.1.mac"])
def test_mac_of_a_real_nic_is_found_however_it_is_written(quiet_daemon: RunningDaemon, vms, key):
    at_index = 1 if ".1." in key else 0
    owner = next(vm for vm in vms if len(vm["nics"]) > 1 and ":0" in vm["nics"][at_index]["mac"])
    mac = owner["nics"][at_index]["mac"]
    short = ":".join(octet.lstrip("0") or "0" for octet in mac.split(":")).upper()
    assert short != mac
    assert out_of(quiet_daemon, "vmadm", "lookup", f"{key}={short}") == owner["uuid"] + "\n"
    assert out_of(quiet_daemon, "vmadm", "lookup", f"{key}=~{short}") == ""  # an expression is taken as it is


def test_missing_values_are_found_by_no_filter(quiet_daemon: RunningDaemon, vms):
    assert any(vm.get("zoneid", 0) is None or "zoneid" not in vm for vm in vms)
    for word in ("zoneid=", "zoneid=null", "zoneid=undefined", "vcpus=", "tags.nobody=", "nics.9.ip=~.*"):
        assert out_of(quiet_daemon, "vmadm", "lookup", word) == "", word


def test_lookup_as_json(quiet_daemon: RunningDaemon, vms):
    def printed(value):
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"

    found = [vm for vm in vms if vm["type"] == "BHYV"]
    assert json.loads(out_of(quiet_daemon, "vmadm", "lookup", "-j")) == vms
    assert json.loads(out_of(quiet_daemon, "vmadm", "lookup", "-j", "type=BHYV")) == found
    some = [{key: vm[key] for key in vm if key in ("alias", "ram")} for vm in found]  # in the VM's order
    assert out_of(quiet_daemon, "vmadm", "lookup", "-j", "-o", "alias,nics.0.ip,ram", "type=BHYV") == printed(some)
    vcpus = [{"vcpus": vm["vcpus"]} for vm in vms if "vcpus" in vm]
    assert out_of(quiet_daemon, "vmadm", "lookup", "-jo", "vcpus") == printed(vcpus)
    assert out_of(quiet_daemon, "vmadm", "lookup", "-j", "alias=nobody") == "[]\n"


def test_unique_lookup_counts_what_would_be_printed(quiet_daemon: RunningDaemon, vms):
    killed = next(vm["uuid"] for vm in vms if vm["alias"] == "killed")
    assert out_of(quiet_daemon, "vmadm", "lookup", "-1", "alias=killed") == killed + "\n"
    assert [vm["uuid"] for vm in json.loads(out_of(quiet_daemon, "vmadm", "lookup", "-1j", "alias=killed"))] == [killed]
    running = sum(vm["state"] == "running" for vm in vms)
    for words, count in ((["state=running"], running), (["alias=nobody"], 0), (["-j", "-o", "vcpus", "type=OS"], 0)):
        done = quiet_daemon.tool("vmadm", "lookup", "-1", *words)
        message = f"Requested unique lookup but found {count} results.\n"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


# -- One VM, all VMs, the daemon ---------------------------------------------------------------------------------------


def test_each_vm_is_printed_as_it_is_served(quiet_daemon: RunningDaemon, vms):
    for vm in vms:
        served = quiet_daemon.get(f"/vms/{vm['zonename']}").body
        expected = json.dumps(json.loads(served), indent=2, ensure_ascii=False) + "\n"
        assert out_of(quiet_daemon, "vminfo", "vm", vm["zonename"]) == expected
        assert out_of(quiet_daemon, "vmadm", "get", vm["uuid"]) == expected
    assert any(vm["uuid"] != vm["zonename"] for vm in vms)
    assert out_of(quiet_daemon, "vmadm", "json", vms[0]["uuid"], "more", "words").startswith("{\n  ")


def test_whole_list_is_printed_as_it_is_served(quiet_daemon: RunningDaemon):
    served = json.loads(quiet_daemon.get("/vms").body)
    assert out_of(quiet_daemon, "vminfo", "vms") == json.dumps(served, indent=2, ensure_ascii=False) + "\n"


def test_status_for_people_says_what_status_says(quiet_daemon: RunningDaemon):
    assert out_of(quiet_daemon, "vminfo", "ping") == "pong\n"
    strange = quiet_daemon.events("?vms=false", {"User-Agent": 'evil\x1b[31m"quoted"\\'})
    nameless = quiet_daemon.events("?vms=false")
    try:
        eventually("nobody else listens", lambda: len(quiet_daemon.status()["eventsListeners"]) == 2)
        status = quiet_daemon.status(full=True)
        text = out_of(quiet_daemon, "vminfo", "status", "-f")
        as_json = json.loads(out_of(quiet_daemon, "vminfo", "status", "--json", "--full"))
        plain = out_of(quiet_daemon, "vminfo", "status")
    finally:
        strange.close()
        nameless.close()
    time = r"\d+\.\d{9}s \([\d.]+(ns|us|ms|s|m|h|d)\)"
    first, second = strange.ready["uuid"], nameless.ready["uuid"]
    fswatcher = status["fswatcher"]
    expected = [
        r"state: running \(working\)",
        f"pid: {quiet_daemon.process.pid}",
        f"uptime: {time}",
        r"rss: \d+\.\d\dmb",
        "numVms: 30",
        "queue",
        "  paused: false",
        "  idle: true",
        "  npending: 0",
        "  nqueued: 0",
        "fullRefresh",
        f"  lastRefresh: {time}",
        *(
            [
                rf"  refreshLog: \({len(status['refreshLog'])} items\)",
                *[
                    rf"    - {len(one['cacheChanges'])} cacheChanges / {len(one['vmChanges'])} vmChanges - {time} ago"
                    for one in status["refreshLog"]
                ],
            ]
            if status["refreshLog"]
            else []
        ),
        "fswatcher",
        "  running: true",
        f"  pid: {fswatcher['watcher_pid']}",
        f"  watching: {len(fswatcher['watching'])}",
        f"  tryingToWatch: {len(fswatcher['not_yet_watching'])}",
        "  pendingActions: 0",
        r"eventsListeners: \(2 listeners\)",
        re.escape(r'  - evil\u001b[31m"quoted"\\'),
        f"    {first} created {time} ago",
        "",
        "  - -",
        f"    {second} created {time} ago",
        "",
    ]
    lines = text.split("\n")
    assert lines.pop() == ""
    assert [bool(re.fullmatch(want, line)) for want, line in zip(expected, lines, strict=True)] == [True] * len(lines)
    assert "fswatcher" not in plain
    assert "refreshLog" not in plain
    assert as_json.keys() == status.keys()
    assert (as_json["pid"], as_json["numVms"]) == (quiet_daemon.process.pid, 30)
    without = json.loads(out_of(quiet_daemon, "vminfo", "status", "-j"))
    assert without.keys() == quiet_daemon.status(full=False).keys()


# -- What can be wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "err"),
    [
        (["vmadm", "get", NOBODY], 1, f"zoneadm: {NOBODY}: No such zone configured\n"),
        (["vmadm", "json", NOBODY], 1, f"zoneadm: {NOBODY}: No such zone configured\n"),
        (["vmadm", "get", "global"], 2, "Invalid or missing UUID for get\nUsage: "),
        (["vmadm", "json"], 2, "Invalid or missing UUID for json\nUsage: "),
        (["vmadm", "get", "0c6f1f0e00004000-8000-000000000001--"], 2, "Invalid or missing UUID for get\nUsage: "),
        (
            ["vmadm", "get", "../../../ping?x=%2f--------------------"[:36]],
            2,
            "Invalid or missing UUID for get\nUsage: ",
        ),
        (["vmadm", "get", "-x", NOBODY], 2, "Unknown option: -x\nUsage: "),
        (["vmadm", "list", "server_uuid=x"], 1, 'Invalid filter key: "server_uuid"\n'),
        (["vmadm", "lookup", "nics.0.ips=x"], 1, 'Invalid lookup key: "nics.0.ips"\n'),
        (["vmadm", "lookup", "alias=~("], 1, 'Invalid regular expression "(": '),
        (["vmadm", "list", "alias=~*"], 1, 'Invalid regular expression "*": '),
        (["vmadm", "list", "-o", "nics.*.ip"], 1, 'Invalid order key: "nics.*.ip"\n'),
        (["vmadm", "list", "-o", "bogus", "-s", "-other"], 1, "invalid sort field: -other\n"),
        (["vmadm", "list", "-o", "bogus"], 1, "invalid order field: bogus\n"),
        (["vmadm", "lookup", "-o", "uuid"], 1, "Cannot specify -o without -j\n"),
        (["vmadm", "list", "-z"], 2, "Unknown option: -z\nUsage: "),
        (["vmadm", "events", NOBODY], 1, f"VM {NOBODY} not found\n"),
        (["vmadm", "bogus"], 2, 'Invalid command: "bogus".\nUsage: '),
        (["vmadm"], 2, "Usage: "),
        (["vminfo", "vm", NOBODY], 1, "bad statusCode: 404\n"),
        (["vminfo", "vm", "../ping"], 1, "bad statusCode: 404\n"),
        (["vminfo", "vm", ""], 1, "bad statusCode: 404\n"),
    ],
)
def test_errors_on_stderr(quiet_daemon: RunningDaemon, words, code, err):
    done = quiet_daemon.tool(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(err)
    if code == 1:
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "out", "err"),
    [
        (["status", "-z"], "Usage: vminfo", "illegal option -- z\n"),
        (["events", "-q"], "Usage: vminfo", "illegal option"),
        (["bogus"], "Unknown command: bogus\n\nUsage: vminfo", ""),
        ([], "A command is needed.\n\nUsage: vminfo", ""),
        (["vm"], "The command vm needs the name of a zone.\n\nUsage: vminfo", ""),
    ],
)
def test_wrong_words_for_vminfo(quiet_daemon: RunningDaemon, words, out, err):
    done = quiet_daemon.tool("vminfo", *words)
    assert done.returncode == 1
    assert done.stdout.startswith(out)
    assert done.stderr.startswith(err)
    assert bool(done.stderr) == bool(err)


@pytest.mark.parametrize(
    "words",
    [
        ["vmadm", "list"],
        ["vmadm", "lookup"],
        ["vmadm", "get", NOBODY],
        ["vmadm", "events"],
        ["vminfo", "ping"],
        ["vminfo", "status"],
        ["vminfo", "vms"],
        ["vminfo", "vm", "z"],
        ["vminfo", "events"],
    ],
)
def test_no_daemon_is_one_clear_line(words):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    prefix = "cannot reach vminfod: " if words[0] == "vmadm" else ""
    assert tuple(run_tool(*words, port=port)) == (1, "", f"{prefix}connect ECONNREFUSED 127.0.0.1:{port}\n")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["vmadm", "list"], 0),
        (["vmadm", "lookup", "-j"], 0),
        (["vmadm", "help"], 0),
        (["vminfo", "vms"], 0),
        (["vminfo", "status"], 0),
        (["vminfo", "ping"], 0),
        (["vminfo"], 1),
        (["vminfo", "bogus"], 1),
        (["vminfo", "help"], 0),
        (["zoneevent", "-h"], 0),
        (["vmadm", "events"], 0),
        (["vminfo", "events", "-rj"], 0),
        (["zoneevent"], 0),
    ],
)
def test_reader_that_is_gone_ends_every_command_quietly(quiet_daemon: RunningDaemon, words, code):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [tool_path(words[0]), *words[1:]],
            env=environment(quiet_daemon.port),
            stdout=writer,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=SOON,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["vmadm", "bogus"], 2),
        (["vmadm", "get", NOBODY], 1),
        (["vminfo", "vm", NOBODY], 1),
        (["zoneevent", "-q"], 1),
    ],
)
def test_exit_code_stays_without_a_reader_of_stderr(quiet_daemon: RunningDaemon, words, code):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [tool_path(words[0]), *words[1:]],
            env=environment(quiet_daemon.port),
            stderr=writer,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=SOON,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stdout) == (code, b"")


@pytest.mark.parametrize("words", [["vmadm", "list"], ["vminfo", "vms"], ["vmadm", "events", "-r"]])
def test_full_disk_is_one_line(quiet_daemon: RunningDaemon, words):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [tool_path(words[0]), *words[1:]],
            env=environment(quiet_daemon.port),
            stdout=full,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=SOON,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"cannot write: No space left on device\n")


# -- Events ------------------------------------------------------------------------------------------------------------


class Running:
    """A tool that runs on, and its lines as they come."""

    def __init__(self, daemon: RunningDaemon, tool: str, *words: str):
        self.name = " ".join([tool, *words])
        self.child = start_tool(tool, *words, port=daemon.port)
        self._lines: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for line in self.child.stdout:
            self._lines.put(line.decode())

    def line(self) -> str:
        """The next line; queue.Empty if none comes."""
        return self._lines.get(timeout=SOON)

    def end(self) -> tuple[int, str, str]:
        """Exit code, the lines that were not taken, and stderr, when it has ended by itself."""
        code = self.child.wait(SOON)
        self._thread.join(SOON)
        left = []
        while not self._lines.empty():
            left.append(self._lines.get())
        return code, "".join(left), self.child.stderr.read().decode()

    def close(self):
        self.child.kill()
        self.child.wait()
        self._thread.join(SOON)
        self.child.stdout.close()
        self.child.stderr.close()


@pytest.fixture
def run(shared_daemon: RunningDaemon):
    """run(tool, words...): started, and listening when this returns."""
    tools = []

    def start(tool: str, *words: str, daemon: RunningDaemon = shared_daemon) -> Running:
        # By their uuids: a stream of the test before may end meanwhile, so their number says nothing.
        before = streams(daemon).keys()
        tools.append(Running(daemon, tool, *words))
        eventually(f"{tool} listens", lambda: streams(daemon).keys() - before)
        return tools[-1]

    yield start
    for tool in tools:
        tool.close()


def streams(daemon: RunningDaemon) -> dict:
    """The open streams by their uuids."""
    return daemon.status(full=False)["eventsListeners"]


def listeners(daemon: RunningDaemon) -> list[str]:
    """The user agents of the open streams, up to the host's name."""
    host = f" - {socket.gethostname()}/"
    return sorted(one.get("userAgent", "-").partition(host)[0] for one in streams(daemon).values())


def compact(value) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def lines_of(event, full=False) -> list[str]:
    """The lines for people."""
    date = event["date"] if full else event["date"].split("T")[1]
    zone = event["zonename"] if full else event["zonename"].split("-")[0]
    alias = event.get("vm", {}).get("alias") or "-"
    alias = alias if len(alias) <= 30 else alias[:27] + "..."
    start = f"[{date}] {zone} {alias} {event['type']}"
    if event["type"] != "modify":
        return [start + "\n"]
    old_new = [
        [compact(change[key]) if key in change else "undefined" for key in ("oldValue", "newValue")]
        for change in event["changes"]
    ]
    return [
        f"{start}: {change['prettyPath']} {change['action']} :: {old} -> {new}\n"
        for change, (old, new) in zip(event["changes"], old_new)
    ]


def test_followers_print_each_event_at_once_in_every_form(follow: Follow, run):
    """Each line is read before the next change is made: nothing waits in a buffer."""
    zonename = follow.add(alias="followed", quota=10)
    people = [run("vminfo", "events"), run("vmadm", "events"), run("vmadm", "events", zonename)]
    in_full = [run("vminfo", "events", "-f"), run("vmadm", "events", "-f"), run("vmadm", "events", "--full", zonename)]
    programs = [run("vminfo", "events", "-j"), run("vmadm", "events", "-jf"), run("vmadm", "events", "-j", zonename)]

    def told(event, by_uuid=True):
        for tools, lines in (
            (people, lines_of(event)),
            (in_full, lines_of(event, full=True)),
            (programs, [compact(event) + "\n"]),
        ):
            for tool in tools[: 3 if by_uuid else 2]:
                assert [tool.line() for _ in lines] == lines, tool.name

    follow.zfs("set", "quota=20g", f"zones/{zonename}")
    event = follow.next()
    short = zonename.split("-")[0]
    assert lines_of(event) == [f"[{event['date'][11:]}] {short} followed modify: quota changed :: 10 -> 20\n"]
    told(event)
    follow.control.set_attr(zonename, "alias", "w7wg4piDwrx4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg=")  # ü ☃ü and 25 times x
    told(follow.next())
    follow.control.write_config(zonename, "tags", {"text": 'a "b"\n\\☃', "number": 1.5})
    told(follow.next())
    other = follow.control.add_vm(alias="of no interest", state="installed")["zonename"]
    for event in follow.until(other, lambda vm: vm.get("alias") == "of no interest"):
        told(event, by_uuid=False)
    follow.settle()
    follow.control.remove_vm(zonename)
    for event in follow.until(zonename, lambda vm: not vm):
        told(event)
    assert event["type"] == "delete"


def test_ready_event_is_printed_where_it_is_asked_for(follow: Follow, run):
    served = follow.daemon.vms()
    uuid = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    for tool in ("vminfo", "vmadm"):
        assert re.fullmatch(r"\[\d\d:\d\d:\d\d\.\d{3}Z\] ready\n", run(tool, "events", "-r").line())
        date = r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\]"
        assert re.fullmatch(rf"{date} ready \(uuid {uuid}\)\n", run(tool, "events", "-fr").line())
    ready = json.loads(run("vminfo", "events", "-jr").line())
    assert (ready["type"], json.loads(ready["vms"])) == ("ready", served)
    ready = json.loads(run("vmadm", "events", "-jr").line())
    assert ready["vms"] == {vm["zonename"]: vm for vm in served}


@pytest.mark.parametrize("words", [["vminfo", "events"], ["vmadm", "events", "-j"], ["zoneevent"]])
def test_follower_whose_reader_goes_leaves_the_daemon_though_nothing_happens(follow: Follow, words):
    before = streams(follow.daemon).keys()
    child = start_tool(*words, port=follow.daemon.port)
    [new] = eventually("it listens", lambda: streams(follow.daemon).keys() - before)
    child.stdout.close()
    assert child.wait(SOON) == 0
    assert child.stderr.read() == b""
    child.stderr.close()
    eventually("the daemon lets it go", lambda: new not in streams(follow.daemon))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_follower_says_in_one_line_that_the_daemon_went(shared_node: process.MockNode, run, number):
    with RunningDaemon(shared_node.root).start() as daemon:
        tools = [run("vminfo", "events", daemon=daemon), run("vmadm", "events", "-j", daemon=daemon)]
        daemon.stop(number)
    for tool, prefix in zip(tools, ("", "cannot reach vminfod: ")):
        code, out, err = tool.end()
        assert (code, out) == (1, "")
        assert err in ("VminfodEventStream ended prematurely\n", f"{prefix}read ECONNRESET\n")


def test_interrupt_ends_a_follower_without_a_word(run):
    for words in (["vminfo", "events"], ["vmadm", "events"], ["zoneevent"]):
        tool = run(*words)
        tool.child.send_signal(signal.SIGINT)
        assert tool.end() == (130, "", "")


# -- zoneevent ---------------------------------------------------------------------------------------------------------


def zone_events(events):
    """What zoneevent prints for these events, parsed, the dates aside."""
    told = []
    for event in events:
        if event["type"] == "create":
            states = {"oldstate": "", "newstate": event["vm"]["zone_state"]}
        elif event["type"] == "delete":
            states = {"newstate": ""}
        else:
            change = [one for one in event["changes"] if one["path"] == ["zone_state"]]
            if not change:
                continue
            states = {"oldstate": change[0]["oldValue"], "newstate": change[0]["newValue"]}
        if states["newstate"] == "installed" and states.get("oldstate") != "incomplete":
            states["newstate"] = "uninitialized"
        if states.get("oldstate") == "installed":
            states["oldstate"] = "uninitialized"
        zoneid = event.get("vm", {}).get("zoneid")
        told.append({"zonename": event["zonename"], **states, "zoneid": "-1" if zoneid is None else str(zoneid)})
    return told


def told_by(tool: Running, count: int):
    """So many of its lines, parsed; `when` is checked and left out."""
    lines = [tool.line() for _ in range(count)]
    told = [json.loads(line) for line in lines]
    assert [compact(one) + "\n" for one in told] == lines
    for one in told:
        assert list(one)[-3:] == ["newstate", "zoneid", "when"]
        assert re.fullmatch(r"\d{13}000000", one.pop("when"))
    return told


def test_zoneevent_over_the_life_of_a_zone(follow: Follow, run):
    tool = run("zoneevent", "-i", "a test")
    assert "VM.js events - zoneevent CLI (a test)" in listeners(follow.daemon)
    zonename = follow.control.add_vm(alias="lives", state="installed")["zonename"]
    events = follow.until(zonename, lambda vm: vm.get("alias") == "lives" and vm["zone_state"] == "installed")
    follow.settle()
    for act, state in ((follow.control.boot, "running"), (follow.control.halt, "installed")):
        act(zonename, pace=0.1)
        events += follow.until(zonename, lambda vm, state=state: vm["zone_state"] == state)
        follow.settle()
    follow.control.remove_vm(zonename)
    events += follow.until(zonename, lambda vm: not vm)
    expected = zone_events(events)
    told = told_by(tool, len(expected))
    assert told == expected
    for before, after in zip(told[:-1], told[1:-1]):
        assert after["oldstate"] == before["newstate"] or before["oldstate"] == ""
    states = [one["newstate"] for one in told]
    assert states[-1] == ""
    assert states[-2] == "uninitialized"
    assert states.index("running") < len(states) - 2
    assert told[states.index("running")]["zoneid"] != "-1"
    assert "oldstate" not in told[-1]


def test_zoneevent_survives_restarts_with_one_stream_and_no_event_twice(shared_node: process.MockNode, run):
    """The original opened one stream more after each failure, and then said everything twice, four times, ..."""
    control = shared_node.control
    daemon = RunningDaemon(shared_node.root).start()
    try:
        tool = run("zoneevent", "-l", "warn", daemon=daemon)
        for number in (signal.SIGKILL, signal.SIGTERM):
            daemon.stop(number)
            daemon = RunningDaemon(shared_node.root, port=daemon.port).start()
            eventually("zoneevent is back", lambda daemon=daemon: listeners(daemon))
            for alias in ("one", "two"):
                zonename = control.add_vm(alias=alias, state="running")["zonename"]
                follow_to = told_by(tool, 1)[0]
                assert (follow_to["zonename"], follow_to["oldstate"]) == (zonename, "")
                while follow_to["newstate"] != "running":
                    before, follow_to = follow_to, told_by(tool, 1)[0]
                    assert follow_to["zonename"] == zonename
                    assert follow_to["newstate"] != before["newstate"]
            assert listeners(daemon) == ["VM.js events - zoneevent CLI"]
        assert tool.child.poll() is None
    finally:
        daemon.stop()
