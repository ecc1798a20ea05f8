# SPDX-License-Identifier: MPL-2.0
"""VMs of docker containers on a node: the files of the host that are mounted into them (docs/vmadm.md, "Docker")."""

import os
import re

import pytest

from vmadm import BadPayload

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
