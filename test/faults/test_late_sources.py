# SPDX-License-Identifier: MPL-2.0
"""Whatever one source of a VM does, what the others say of it is served soon: beside what that one said last. What
hangs is named, and when it answers the object is true again, without a refresh."""

import base64
import itertools
import json
import os
import re
from contextlib import contextmanager

import pytest

from support import hangingfolder
from support.convergence import assert_converges
from support.deadlines import SOON
from support.examples import more
from support.hangingfolder import HangingFolder
from support.running_daemon import RunningDaemon, eventually

pytest_plugins = ["support.onenode"]
pytestmark = pytest.mark.long

needs_fuse = pytest.mark.skipif(not hangingfolder.available(), reason="needs FUSE, and root's right to mount")

_numbers = itertools.count()

SHORT = "3"  # seconds that a source has, where a test waits for its end; more than nobody waits for it


@pytest.fixture
def node(one_node):
    """One for all tests of this file, well again after each."""
    yield one_node
    one_node.control.clear_faults()


def running_vms(node, daemon):
    """VMs that all tools are asked about, and that show a quota."""
    return sorted(
        vm["uuid"]
        for vm in daemon.vms()
        if (vm["zonepath"], vm["zone_state"]) == (f"/zones/{vm['uuid']}", "running")
        and vm["brand"] not in ("kvm", "bhyve")
        and not vm["firewall_enabled"]
    )


class Changes:
    """A change from each source of one VM. Each is seen on the stream, or is not."""

    def __init__(self, node, daemon, uuid):
        self.node, self.uuid, self.daemon = node, uuid, daemon
        self.stream = daemon.events(f"?zonename={uuid}")
        self.old = daemon.vm(uuid)
        self.number = next(_numbers)  # what other tests have not set
        self.new = {}

    def comes(self, name, value):
        self.new[name] = value
        return self.stream.until(lambda event: event["vm"].get(name) == value)

    def zfs(self):
        quota = self.old["quota"] + 1
        self.node.run("zfs", "set", f"quota={quota}G", f"zones/{self.uuid}", check=True)
        return "quota", quota

    def files(self):
        self.node.control.write_config(self.uuid, "tags", {"number": self.number})
        return "tags", {"number": self.number}

    def kstat(self):
        self.node.control.init_restart(self.uuid)
        return "init_restarts", self.old["init_restarts"] + 1

    def xml(self):
        self.node.control.set_attr(self.uuid, "alias", base64.b64encode(b"a%d" % self.number).decode())
        return "alias", f"a{self.number}"

    def zoneadm(self):
        self.node.control.halt(self.uuid)
        return "zone_state", "installed"

    def all_but(self, one):
        """In an order in which each can be seen: of a zone that is halted the kernel says nothing."""
        return [change for change in (self.zfs, self.files, self.kstat, self.xml, self.zoneadm) if change != one]


@pytest.mark.parametrize("tool", ["zfs", *more("zoneadm", "kstat")])
def test_all_else_of_a_vm_is_followed_while_a_tool_hangs_for_it(node, daemon_on_it, tool):
    daemon, uuid = daemon_on_it
    changes = Changes(node, daemon, uuid)
    zoneid = next(zone["zoneid"] for zone in node.control.zones() if zone["uuid"] == uuid)
    words = {"kstat": f"-i {zoneid}", "zfs": f"-d 1 zones/{uuid}", "zoneadm": uuid}[tool]
    node.control.fault(tool, "hold", match=words, times=None)
    hanging = getattr(changes, tool)
    name, value = hanging() if tool != "zoneadm" else ("zone_state", "installed")
    fresh = daemon.raw()
    fresh.send(f"GET /vms/{uuid}?fresh=true&timeout=120 HTTP/1.1\r\n\r\n".encode())
    eventually("it hangs", lambda: node.control.children(tool))
    for change in changes.all_but(hanging):
        if (tool, change) != ("kstat", changes.zoneadm):
            event = changes.comes(*change())
            assert event["vm"][name] == changes.old[name], "what it said before"
    if tool == "zoneadm":
        hanging()
    named = f"{tool} of {uuid} runs " if tool == "kstat" else f"{tool} list of {uuid} runs "
    eventually("it is named", lambda: hangs(daemon, named))
    assert any(reason.startswith(named) for reason in daemon.status()["health"]["reasons"])
    assert uuid in daemon.status()["reloading"] and node.control.children(tool), "it still hangs"
    node.control.clear_faults(tool)
    changes.comes(name, value)
    answer = fresh.answer().json()
    if answer["zone_state"] == "installed":
        del changes.new["init_restarts"]  # the kernel knows nothing of it any more
    assert {key: answer[key] for key in changes.new} == changes.new
    assert_converges(daemon)
    if answer["zone_state"] == "installed":
        node.control.boot(uuid)
    fresh.close()
    changes.stream.close()


@pytest.fixture
def daemon_on_it(node):
    """What hangs does so until the test lets it go."""
    with RunningDaemon(node.root, "--zone-limit", "600").start() as daemon:
        yield daemon, running_vms(node, daemon)[0]


def hanging_config(node, uuid):
    """The VM's config folder, whose files hang when they are told to."""
    node.control.write_config(uuid, "tags", {})
    path = node.control.real(f"/zones/{uuid}/config")
    files = {name: b"{}" for name in os.listdir(path) if name.endswith(".json")}
    return HangingFolder(path, {**files, "tags.json": b'{"pool":"well"}'})


@contextmanager
def held(folder):
    """Its files hang in this block; and no longer, so that a daemon can end."""
    folder.hold()
    try:
        yield
    finally:
        folder.heal()


@pytest.fixture
def sick(node):
    """A running VM, and that folder of it."""
    uuid = node.control.add_vm(brand="joyent", state="running")["uuid"]
    with hanging_config(node, uuid) as folder:
        yield uuid, folder


def hangs(daemon, words):
    return any(re.match(words, reason) for reason in json.loads(daemon.get("/health").body)["reasons"])


def assert_waits_for(daemon, uuid, what):
    """A fresh read that ends at its limit says what it waits for: on a busy machine not the first one, which may not
    have come so far."""
    said = rf"VM not read within 0\.3 s: waiting for {what}, which runs \d+\.\d s"

    def says_so():
        answer = daemon.get(f"/vms/{uuid}?fresh=true&timeout=0.3")
        assert answer.status == 504
        return re.fullmatch(said, answer.body.decode())

    eventually(f"it waits for {what}", says_so)


def assert_gets_well(daemon):
    """Also the file watcher, which may have hung of those files, too."""
    status = {}

    def is_well():
        status.update(daemon.status())
        return not (status["health"]["reasons"] or status["reloading"] or status["zoneErrors"])

    try:
        eventually("all is well", is_well)
    except AssertionError as error:
        shown = {name: status[name] for name in ("health", "reloading", "zoneErrors", "children")}
        raise AssertionError(f"{error}: {shown}") from None


@needs_fuse
def test_all_else_of_a_vm_is_followed_while_its_files_hang(node, sick):
    uuid, folder = sick
    with RunningDaemon(node.root).start() as daemon:
        changes = Changes(node, daemon, uuid)
        with held(folder):
            folder.files["tags.json"] = b'{"pool":"well again"}'
            assert_waits_for(daemon, uuid, f"reading the files of zone {uuid}")
            assert folder.asked.is_set()
            for change in changes.all_but(changes.files):
                event = changes.comes(*change())
                assert event["vm"]["tags"] == {"pool": "well"}, "what they said before"
            eventually("what hangs is named", lambda: hangs(daemon, f"reading the files of zone {uuid} runs "))
        changes.comes("tags", {"pool": "well again"})
        assert_gets_well(daemon)
        assert_converges(daemon)
        changes.stream.close()


@needs_fuse
def test_files_that_are_past_their_limit_hold_up_nothing_else(node, sick):
    uuid, folder = sick
    with RunningDaemon(node.root, "--zone-limit", SHORT).start() as daemon:
        changes = Changes(node, daemon, uuid)
        with held(folder):
            folder.files["tags.json"] = b'{"pool":"well again"}'
            assert daemon.get(f"/vms/{uuid}?fresh=true&timeout=60").status == 504
            eventually("they are given up", lambda: uuid in daemon.status()["zoneErrors"])
            for change in changes.all_but(changes.files):
                changes.comes(*change())
            assert uuid in daemon.status()["zoneErrors"]
        # By itself it would be tried again within a minute.
        eventually("they are read again", lambda: daemon.get(f"/vms/{uuid}?fresh=true&timeout=60").status == 200)
        changes.comes("tags", {"pool": "well again"})
        assert_gets_well(daemon)
        assert_converges(daemon)
        changes.stream.close()


@needs_fuse
def test_vm_that_is_deleted_while_its_files_hang_is_seen_as_deleted(node):
    made = node.control.add_vm(brand="joyent", state="installed")["uuid"]
    with hanging_config(node, made) as folder, RunningDaemon(node.root).start() as daemon:
        stream = daemon.events(f"?zonename={made}")
        with held(folder):
            fresh = daemon.raw()
            fresh.send(f"GET /vms/{made}?fresh=true&timeout=120 HTTP/1.1\r\n\r\n".encode())
            folder.asked.wait(SOON)
            node.control.delete_zone(made)
            assert stream.until(lambda event: event["type"] == "delete")["zonename"] == made
            assert fresh.answer().status == 404
            assert daemon.get(f"/vms/{made}").status == 404
        assert_converges(daemon)
        fresh.close()
        stream.close()


@needs_fuse
def test_vm_that_comes_while_its_files_hang_is_unreadable_until_all_of_it_is_known(node):
    with RunningDaemon(node.root).start() as daemon:
        made = node.control.add_vm(brand="joyent", state="installed")["uuid"]
        eventually("it is served", lambda: daemon.get(f"/vms/{made}").status == 200)
        with hanging_config(node, made) as folder:
            xml = node.control.read_xml(made)
            os.unlink(node.control.real(f"/etc/zones/{made}.xml"))
            eventually("it is no VM meanwhile", lambda: daemon.get(f"/vms/{made}").status == 404)
            stream = daemon.events(f"?zonename={made}")
            with held(folder):
                folder.files["tags.json"] = b'{"pool":"well again"}'
                node.control.edit_xml(made, xml)
                folder.asked.wait(SOON)
                eventually("it is named", lambda: made in daemon.get("/vms").headers.get("x-vminfod-unreadable", ""))
                assert hangs(daemon, f"1 VM unreadable: {made}")
                assert daemon.get(f"/vms/{made}").status == 404
            created = stream.until(lambda event: event["zonename"] == made)
            assert (created["type"], created["vm"]["tags"]) == ("create", {"pool": "well again"})
            assert_gets_well(daemon)
            assert_converges(daemon)
            stream.close()
        node.control.delete_zone(made)


@needs_fuse
def test_all_else_of_a_vm_is_followed_while_its_xml_hangs(node):
    """A link to a file on a pool that gets sick."""
    made = node.control.add_vm(brand="joyent", state="running")["uuid"]
    path, elsewhere = node.control.real(f"/etc/zones/{made}.xml"), node.control.real("/var/tmp/sick")
    os.makedirs(elsewhere)
    text = node.control.read_xml(made).encode()
    with HangingFolder(elsewhere, {"it.xml": text}) as folder:
        os.unlink(path)
        os.symlink(f"{elsewhere}/it.xml", path)
        with RunningDaemon(node.root).start() as daemon:
            changes = Changes(node, daemon, made)
            with held(folder):
                folder.files["it.xml"] = text.replace(
                    b"</zone>", b'<attr name="alias" type="string" value="bmV3"/></zone>'
                )
                assert_waits_for(daemon, made, f"reading the XML of zone {made}")
                assert folder.asked.is_set()
                for change in (changes.zfs, changes.files, changes.kstat):
                    event = changes.comes(*change())
                    assert event["vm"].get("alias") == changes.old.get("alias"), "what it said before"
                eventually("what hangs is named", lambda: hangs(daemon, f"reading the XML of zone {made} runs "))
            changes.comes("alias", "new")
            assert_gets_well(daemon)
            assert_converges(daemon)
            changes.stream.close()
        os.unlink(path)
    # For the other tests of this node: a zone without XML is nothing that is well.
    node.control.edit_xml(made, text.decode())
    node.control.remove_vm(made)
