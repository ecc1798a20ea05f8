# SPDX-License-Identifier: MPL-2.0
"""What a docker container's VM gets of its host: log mode, and the text of three files (docs/vmadm.md, "Docker")."""

import pytest

from support.payload_vectors import recorded_node
from vmadm.errors import BadPayload
from vmadm.payload.dockerhost import LogMode, host_files, log_mode, mounts
from vmadm.payload.parsing import parse_create, parse_update

pytestmark = pytest.mark.pure

U = "0c6f1f0e-0000-4000-8000-00000000000a"
NODE = recorded_node()
LOCAL = (
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
    "ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)


def created(metadata=None, **payload):
    image = "01b2c898-945f-11e1-a523-af1afbe22822"
    whole = {"brand": "joyent-minimal", "image_uuid": image, "docker": True, "internal_metadata": metadata or {}}
    return parse_create({**whole, **payload}, NODE, U)


def updated(payload, metadata, **vm):
    there = {"uuid": U, "zonename": U, "zpool": "zones", "brand": "joyent-minimal", "docker": True, "nics": []}
    return {**there, "internal_metadata": metadata, "state": "stopped", "max_physical_memory": 256, **vm}, payload


@pytest.mark.parametrize(
    ("metadata", "mode"),
    [
        ({}, LogMode("g--", False)),
        ({"docker:tty": True}, LogMode("gt-", False)),
        ({"docker:logdriver": "none"}, LogMode("---", False)),
        ({"docker:logdriver": "none", "docker:tty": True}, LogMode("-t-", False)),
        ({"docker:logdriver": "syslog"}, LogMode("g-n", True)),
        ({"docker:logdriver": "syslog", "docker:tty": True}, LogMode("gtn", True)),
    ],
)
def test_log_mode_of_a_new_vm(metadata, mode):
    assert log_mode(created(metadata), {}) == mode


def test_other_vms_have_no_log_mode():
    assert log_mode(created({"docker:tty": True}, docker=False), {}) is None


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"set_internal_metadata": {"docker:logdriver": "none"}}, "-t-"),
        ({"remove_internal_metadata": ["docker:logdriver"]}, "gt-"),
        ({"set_internal_metadata": {"docker:tty": False}}, "g-n"),
        ({"alias": "x"}, "gtn"),
    ],
)
def test_log_mode_after_an_update_counts_what_stays(payload, text):
    vm, payload = updated(payload, {"docker:logdriver": "syslog", "docker:tty": True})
    mode = log_mode(parse_update(payload, vm, NODE), vm)
    assert mode is not None and mode.text == text


def test_files_of_a_plain_container():
    assert host_files(created(), {}) == {"resolv.conf": "search local\n", "hosts": LOCAL, "hostname": f"{U}\n"}


def test_files_tell_resolvers_hosts_and_names():
    nic = {"nic_tag": "external", "ips": ["10.0.0.2/24", "fd00::2/64", "dhcp"], "primary": True}
    metadata = {
        "docker:dnssearch": '["a.com","b.com"]',
        "docker:extraHosts": '["db:1.2.3.4","six:fd00::9"]',
        "docker:linkHosts": "10.0.0.9\tlinked\n",
    }
    change = created(metadata, nics=[nic], resolvers=["8.8.8.8", "1.1.1.1"], hostname="web", dns_domain="d.com")
    assert host_files(change, {}) == {
        "resolv.conf": "nameserver 8.8.8.8\nnameserver 1.1.1.1\nsearch a.com b.com d.com\n",
        "hosts": f"fd00::2\tweb\n10.0.0.2\tweb\n{LOCAL}1.2.3.4\tdb\nfd00::9\tsix\n10.0.0.9\tlinked\n",
        "hostname": "web\n",
    }


def test_update_writes_the_vm_as_it_will_be():
    nics = [{"mac": "02:08:20:00:00:01", "interface": "net0", "ips": ["10.0.0.2/24"], "primary": True}]
    payload = {"hostname": "new", "set_internal_metadata": {"docker:extraHosts": '["a:1.2.3.4"]'}}
    vm, payload = updated(payload, {"docker:linkHosts": "x\ty\n"}, nics=nics, dns_domain="d.com", resolvers=["9.9.9.9"])
    assert host_files(parse_update(payload, vm, NODE), vm) == {
        "resolv.conf": "nameserver 9.9.9.9\nsearch d.com\n",
        "hosts": f"10.0.0.2\tnew\n{LOCAL}1.2.3.4\ta\nx\ty\n",
        "hostname": "new\n",
    }


@pytest.mark.parametrize("text", ["nonsense", '{"a":1}', '["no colon"]', "[1]"])
def test_extra_hosts_that_are_none_are_refused(text):
    with pytest.raises(BadPayload, match='^invalid "docker:extraHosts" internal_metadata: '):
        host_files(created({"docker:extraHosts": text}), {})


def test_search_list_that_is_none_is_ignored():
    assert host_files(created({"docker:dnssearch": "nonsense"}), {})["resolv.conf"] == "search local\n"


def test_mounts_cover_the_files_of_the_brand_or_where_metadata_says():
    found = mounts(created({"docker:hostnameFile": "/run/hostname"}), f"/zones/{U}")
    assert [(each.source, each.target, each.type, each.options) for each in found] == [
        (f"/zones/{U}/config/resolv.conf", "/etc/resolv.conf", "lofs", ("rw",)),
        (f"/zones/{U}/config/hosts", "/etc/inet/hosts", "lofs", ("rw",)),
        (f"/zones/{U}/config/hostname", "/run/hostname", "lofs", ("rw",)),
    ]


@pytest.mark.parametrize("path", ["etc/hosts", "/etc/../../x", "/etc//hosts", "/", "/etc/./hosts", "/a\nb", '/a"b'])
def test_mount_at_a_path_that_leads_elsewhere_is_refused(path):
    with pytest.raises(BadPayload, match='invalid "docker:hostsFile" internal_metadata: '):
        mounts(created({"docker:hostsFile": path}), "/zones/x")
