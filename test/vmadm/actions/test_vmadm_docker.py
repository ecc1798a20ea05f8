# SPDX-License-Identifier: MPL-2.0
"""VMs of docker containers on a node: the files that are mounted into them, restarts and signals (docs/vmadm.md,
"Docker")."""

import contextlib
import http.server
import json
import os
import re
import signal
import threading

import pytest

from support.deadlines import SOON
from support.examples import more
from support.writing import BASE_IMAGE, IMAGE, LX_IMAGE
from vmadm import BadPayload, VmadmError

pytest_plugins = ("support.writers",)


def test_new_container_has_its_files_mounted_and_an_id(cn):
    vm = cn.create(docker=True, hostname="web", resolvers=["8.8.8.8"])
    mounted = {each["target"]: each["source"] for each in vm["filesystems"]}
    config = f"{vm['zonepath']}/config"
    assert mounted == {
        "/etc/resolv.conf": f"{config}/resolv.conf",
        "/etc/inet/hosts": f"{config}/hosts",
        "/etc/hostname": f"{config}/hostname",
    }
    assert cn.node.read(f"{config}/hostname") == "web\n"
    assert all(os.path.isfile(f"{cn.root}{vm['zonepath']}/root{target}") for target in mounted)
    found = vm["internal_metadata"]["docker:id"]
    assert re.fullmatch(vm["uuid"].replace("-", "") + "[0-9a-f]{32}", found)
    assert found[32:] != found[:32]
    assert (vm["zlog_mode"], vm["restart_init"]) == ("g--", False)
    assert "docker:id" not in cn.api.update(cn.create()["uuid"], alias="plain")["internal_metadata"]


def test_update_rewrites_the_hosts_and_the_log_mode(cn):
    vm = cn.create(docker=True, internal_metadata={"docker:tty": True})
    changed = {"docker:extraHosts": '["db:1.2.3.4"]', "docker:logdriver": "syslog"}
    after = cn.api.update(vm["uuid"], set_internal_metadata=changed)
    assert cn.node.read(f"{vm['zonepath']}/config/hosts").endswith("\n1.2.3.4\tdb\n")
    assert (after["zlog_mode"], after["app_svc_dependent"]) == ("gtn", True)
    assert after["internal_metadata"]["docker:id"] == vm["internal_metadata"]["docker:id"]
    back = cn.api.update(vm["uuid"], remove_internal_metadata=["docker:logdriver"])
    assert back["zlog_mode"] == "gt-"
    assert "app_svc_dependent" not in back


def test_bad_hosts_are_refused_before_anything_is_touched(cn):
    cn.forget_commands()
    with pytest.raises(BadPayload, match="docker:extraHosts"):
        cn.create(docker=True, internal_metadata={"docker:extraHosts": "nonsense"})
    assert not [line for line in cn.commands() if line.startswith(("zonecfg", "zoneadm", "zfs create", "zfs clone"))]


# Files from a URL.


class Files(http.server.BaseHTTPRequestHandler):
    """/hosts is a file, /binary one of all bytes, /large one too large, /moved and /round lead elsewhere; /slow takes
    until `go_on` is set."""

    contents = {"/hosts": b"1.2.3.4 db\r\n", "/binary": bytes(range(256)), "/large": b"x" * ((10 << 20) + 1)}
    moved = {"/moved": "/hosts", "/round": "/round"}
    asked, go_on = threading.Event(), threading.Event()

    def do_GET(self):
        if self.path == "/slow":
            self.asked.set()
            self.go_on.wait(SOON)
        content = self.contents.get(self.path)
        self.send_response(302 if self.path in self.moved else 404 if content is None else 200)
        if self.path in self.moved:
            self.send_header("Location", self.moved[self.path])
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content or b"")

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def url():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


ADMIN = "930896af-bf8c-48d4-885c-6573a94b1853"
CONFIG = "/opt/smartdc/config/node.config"


@pytest.fixture(scope="module")
def fetching(cn):
    """The zone that fetches, by its uuid, on a node of a data centre."""
    os.makedirs(os.path.dirname(cn.root + CONFIG))
    with open(cn.root + CONFIG, "w", encoding="utf-8") as file:
        file.write(f"datacenter_name='here'\nufds_admin_uuid='{ADMIN}'\n")
    return cn.create(owner_uuid=ADMIN, tags={"smartdc_role": "hostvolume"}, autoboot=True)["uuid"]


def mount(url, target="/etc/given"):
    return {"source": url, "target": target, "type": "lofs", "options": ["ro"]}


def fetched(cn, vm, target="/etc/given"):
    with open(f"{cn.root}{vm['zonepath']}/hostvolumes{target}", "rb") as file:
        return file.read()


def test_file_from_a_url_is_mounted_and_fetched_at_each_start(cn, fetching, url):
    sources = [mount(f"{url}/hosts"), mount(f"{url}/binary", "/opt/it's/data"), mount(f"{url}/moved", "/m")]
    vm = cn.create(docker=True, filesystems=sources)
    uuid, folder = vm["uuid"], f"{vm['zonepath']}/hostvolumes"
    mounted = {each["target"]: each["source"] for each in vm["filesystems"] if each["source"].startswith(folder)}
    assert mounted == {each["target"]: folder + each["target"] for each in sources}
    assert json.loads(vm["internal_metadata"]["docker:hostvolumes"]) == {
        each["target"]: {"url": each["source"]} for each in sources
    }
    assert not os.path.exists(cn.root + folder)
    cn.forget_commands()
    cn.ok("start", uuid)
    found = [fetched(cn, vm, each["target"]) for each in sources]
    assert found == [b"1.2.3.4 db\r\n", bytes(range(256)), b"1.2.3.4 db\r\n"]
    assert os.stat(f"{cn.root}{folder}/m").st_mode & 0o777 == 0o444
    calls = [line for line in cn.commands() if "curl" in line]
    assert all(call.startswith(f"zlogin -Q {fetching} /opt/local/bin/curl -sS -f -m 60 ") for call in calls)
    assert len(calls) == 3
    cn.ok("stop", "-F", uuid)
    cn.api.update(uuid, remove_filesystems=["/m"])
    os.unlink(f"{cn.root}{folder}/m")
    os.unlink(f"{cn.root}{folder}/etc/given")
    cn.ok("start", uuid)
    assert fetched(cn, vm) == b"1.2.3.4 db\r\n"
    assert not os.path.exists(f"{cn.root}{folder}/m")
    cn.api.delete(uuid)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/none", "error: 404"),
        ("/large", "Maximum file size exceeded"),
        *more(("/round", "Maximum redirects followed")),
    ],
)
def test_file_that_cannot_be_had_keeps_the_container_from_booting(cn, fetching, url, path, why):
    vm = cn.create(docker=True, filesystems=[mount(url + path), mount(f"{url}/hosts", "/etc/other")])
    text = cn.fails("start", vm["uuid"])
    assert f"cannot fetch {url}{path}: " in text
    assert text.endswith(why)
    assert not os.path.exists(f"{cn.root}{vm['zonepath']}/hostvolumes/etc/given")
    assert cn.vm(vm["uuid"])["state"] == "stopped"
    cn.api.delete(vm["uuid"])


def test_interrupted_start_waits_for_no_file(cn, fetching, url):
    vm = cn.create(docker=True, filesystems=[mount(f"{url}/slow")])
    starting = cn.start_vmadm("start", vm["uuid"])
    try:
        assert Files.asked.wait(SOON)
        starting.send_signal(signal.SIGINT)
        _, err = starting.communicate(timeout=SOON)
    finally:
        Files.go_on.set()
        starting.kill()
        starting.wait()
    assert starting.returncode == 130, err
    assert "Traceback" not in err
    assert not os.path.exists(f"{cn.root}{vm['zonepath']}/hostvolumes/etc/given")
    assert cn.vm(vm["uuid"])["state"] == "stopped"
    cn.api.delete(vm["uuid"])


def test_create_that_boots_fetches_and_a_failure_takes_the_container_away(cn, fetching, url):
    vm = cn.create(docker=True, filesystems=[mount(f"{url}/hosts")], autoboot=True)
    assert (vm["state"], fetched(cn, vm)) == ("running", b"1.2.3.4 db\r\n")
    cn.api.delete(vm["uuid"])
    uuid = "1d1f0c5e-6f6e-4b8e-9a55-0f2c8c2b7d11"
    with pytest.raises(VmadmError, match="404"):
        cn.create(uuid=uuid, docker=True, filesystems=[mount(f"{url}/none")], autoboot=True)
    assert cn.is_gone(uuid)


def test_reprovisioned_container_has_its_files_again(cn, fetching, url):
    vm = cn.create(docker=True, filesystems=[mount(f"{url}/hosts")], autoboot=True)
    after = cn.api.reprovision(vm["uuid"], {"image_uuid": BASE_IMAGE})
    assert (after["state"], fetched(cn, after)) == ("running", b"1.2.3.4 db\r\n")
    cn.api.delete(vm["uuid"])


def test_node_without_a_data_centre_says_what_is_missing(own_cn):
    cn = own_cn
    vm = cn.create(docker=True, filesystems=[mount("http://127.0.0.1:9/x")])
    uuid = vm["uuid"]
    assert cn.fails("start", uuid) == f"Unable to start VM {uuid}: Unable to find SDC config file."
    os.makedirs(f"{cn.root}/usbkey")
    config = f"{cn.root}/usbkey/config"
    with open(config, "w", encoding="utf-8") as file:
        file.write("datacenter_name=here\n")
    assert cn.fails("start", uuid) == f"Unable to start VM {uuid}: Unable to find admin UUID in SDC config."
    with open(config, "a", encoding="utf-8") as file:
        file.write(f"ufds_admin_uuid={ADMIN}\n")
    cn.create(owner_uuid=ADMIN, tags={"smartdc_role": "hostvolume"})  # it does not run
    assert cn.fails("start", uuid).endswith('looking for "hostvolume" zone: expected 1, got: 0')


@pytest.mark.parametrize("target", ["/a/../../etc/passwd", "relative", "/"])
def test_file_from_a_url_needs_a_plain_place(cn, target):
    with pytest.raises(BadPayload):
        cn.create(docker=True, filesystems=[mount("http://127.0.0.1:9/x", target)])


# Restarts.


def test_restart_by_policy_is_counted_and_a_start_by_hand_begins_anew(cn):
    uuid = cn.create(docker=True, internal_metadata={"docker:restartpolicy": "always"})["uuid"]
    seen = []
    for options in ({"restart": True}, {"restart": True, "restart_delay": 200}, {"restart": True}, {}):
        metadata = cn.api.start(uuid, **options)["internal_metadata"]
        seen.append((metadata["docker:restartcount"], metadata.get("docker:restartdelay")))
        cn.api.stop(uuid, force=True)
    assert seen == [(1, None), (2, 200), (3, 200), (0, 200)]
    stored = json.loads(cn.config(uuid, "metadata"))["internal_metadata"]
    assert (stored["docker:restartcount"], stored["docker:restartdelay"]) == (0, 200)
    cn.api.delete(uuid)


def test_container_without_a_policy_does_not_boot_with_the_node(cn):
    for policy, boots in ((None, False), ("on-failure:3", True)):
        metadata = {"docker:restartpolicy": policy} if policy else {}
        uuid = cn.create(docker=True, internal_metadata=metadata)["uuid"]
        cn.ok("start", uuid)
        assert f'autoboot="{str(boots).lower()}"' in cn.zone_xml(uuid)
        cn.api.delete(uuid)


# Signals.


@pytest.mark.parametrize(("name", "status"), [("INT", 2), *more(("SIGTERM", 15), ("9", 9), ("SIGHUP", 1), ("QUIT", 3))])
def test_signal_ends_a_container_which_shows_by_which(cn, name, status):
    uuid = cn.create(docker=True, autoboot=True)["uuid"]
    cn.ok("kill", "-s", name, uuid)
    vm = cn.api.wait_for(uuid, "stopped")
    assert vm["exit_status"] == -status
    assert cn.fails("kill", uuid) == f"Cannot find running init PID for VM {uuid}"
    cn.api.delete(uuid)


def test_container_runs_on_after_a_signal_that_it_takes_no_notice_of(cn):
    uuid = cn.create(docker=True, autoboot=True)["uuid"]
    pid = cn.vm(uuid)["pid"]
    cn.ok("kill", "-s", "USR1", uuid)
    vm = cn.api.load(uuid, fresh=True)
    assert (vm["state"], vm["pid"]) == ("running", pid)
    cn.api.delete(uuid)


# What an image has in the places of mounts.


@contextlib.contextmanager
def image_with_link(cn, place, target):
    """Clones of the image have a link at `place`, for as long as this lasts."""
    name, own = f"zones/{IMAGE}", place.replace("/", "-")
    link = f"{cn.root}/{name}/root/{place}"

    def zfs(*words):
        cn.node.run("zfs", *words, check=True)

    os.symlink(target, link)
    zfs("snapshot", f"{name}@{own}")
    os.unlink(link)
    zfs("rename", f"{name}@final", f"{name}@kept")
    zfs("rename", f"{name}@{own}", f"{name}@final")
    try:
        yield
    finally:
        zfs("rename", f"{name}@final", f"{name}@{own}")
        zfs("rename", f"{name}@kept", f"{name}@final")


def test_link_in_the_place_of_a_hosts_file_is_replaced_and_not_followed(cn, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    with image_with_link(cn, "etc/hostname", victim):
        vm = cn.create(docker=True, hostname="web")
    mounted = f"{cn.root}{vm['zonepath']}/root/etc/hostname"
    assert os.path.isfile(mounted)
    assert not os.path.islink(mounted)
    assert victim.read_text() == "untouched"
    assert cn.node.read(f"{vm['zonepath']}/config/hostname") == "web\n"
    cn.api.delete(vm["uuid"])


def test_folder_in_the_place_of_a_hosts_file_makes_no_container(cn):
    uuid = "1d1f0c5e-6f6e-4b8e-9a55-0f2c8c2b7d12"
    with pytest.raises(VmadmError, match="/root/etc/svc"):
        cn.create(uuid=uuid, docker=True, internal_metadata={"docker:hostsFile": "/etc/svc"})
    assert cn.is_gone(uuid)


def test_link_on_the_way_to_a_volumes_place_is_not_followed(cn, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret").write_text("of the node")
    volumes = [{"source": "create-volume", "target": "/srv/data", "type": "lofs"}]
    with image_with_link(cn, "srv", tmp_path):
        vm = cn.create(filesystems=volumes)
    assert os.listdir(cn.root + vm["filesystems"][0]["source"]) == []
    cn.api.delete(vm["uuid"])


def test_link_in_the_place_of_a_volume_makes_no_vm(cn, tmp_path):
    uuid = "1d1f0c5e-6f6e-4b8e-9a55-0f2c8c2b7d13"
    volumes = [{"source": "create-volume", "target": "/opt", "type": "lofs"}]
    with image_with_link(cn, "opt", tmp_path), pytest.raises(VmadmError, match="symbolic link"):
        cn.create(uuid=uuid, filesystems=volumes)
    assert cn.is_gone(uuid)


def test_container_on_lx_has_linuxs_places_and_its_log_by_driver(cn):
    metadata = {"docker:tty": True, "docker:logdriver": "none"}
    vm = cn.create(brand="lx", image_uuid=LX_IMAGE, kernel_version="4.3.0", docker=True, internal_metadata=metadata)
    assert {each["target"] for each in vm["filesystems"]} == {"/etc/resolv.conf", "/etc/hosts", "/etc/hostname"}
    assert (vm["init_name"], vm["zlog_mode"]) == ("/native/usr/vm/sbin/dockerinit", "-t-")
    assert 'name="zlog-mode" type="string" value="-t-"' in cn.zone_xml(vm["uuid"])
    cn.api.delete(vm["uuid"])


def test_vm_becomes_a_containers_and_keeps_its_id_when_it_is_none_any_more(cn):
    vm = cn.create(internal_metadata_namespaces=["mine"])
    uuid = vm["uuid"]
    there = cn.api.update(uuid, docker=True)
    assert there["internal_metadata_namespaces"] == ["mine", "docker"]
    after = cn.api.update(uuid, docker=False)
    assert not after.get("docker")
    assert 'name="docker"' not in cn.zone_xml(uuid)
    assert after["internal_metadata"]["docker:id"] == there["internal_metadata"]["docker:id"]
    cn.api.delete(uuid)
