# SPDX-License-Identifier: MPL-2.0
"""A VM that vminfod cannot read: writes say why, and change nothing; what helps goes on from what was read last."""

import pytest

from support.running_daemon import eventually
from support.writing import ended
from vmadm import CannotRead

pytest_plugins = ("support.writers",)


def break_xml(cn, uuid):
    path = f"{cn.root}/etc/zones/{uuid}.xml"
    with open(path, encoding="utf-8") as file:
        before = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write("<zone name='x'><attr </zone>")
    eventually("vminfod has noticed", lambda: uuid in cn.daemon.status()["zoneErrors"])
    return before


@pytest.mark.parametrize(
    "act",
    [
        lambda api, uuid: api.update(uuid, alias="other"),
        lambda api, uuid: api.start(uuid),
        lambda api, uuid: api.stop(uuid),
        lambda api, uuid: api.reboot(uuid),
        lambda api, uuid: api.create_snapshot(uuid, "x"),
        lambda api, uuid: api.load(uuid, fresh=True),
    ],
)
def test_write_says_why_the_vm_cannot_be_read_and_changes_nothing(cn, act):
    uuid = cn.add()
    break_xml(cn, uuid)
    cn.forget_commands()
    with pytest.raises(CannotRead) as raised:
        act(cn.api, uuid)
    text = str(raised.value)
    assert f"VM {uuid} cannot be read: /etc/zones/{uuid}.xml: not well-formed" in text
    assert text.endswith("; nothing was changed")
    assert "vminfod:" not in text and "reach vminfod" not in text
    assert cn.commands() == []


def test_forced_stop_kill_and_delete_go_on_from_what_was_read_last(cn):
    uuid = cn.add()
    pid = cn.vm(uuid)["pid"]
    break_xml(cn, uuid)
    cn.forget_commands()
    assert cn.api.kill(uuid, "HUP")["pid"] == pid
    assert f"kill -HUP {pid}" in cn.commands()
    cn.api.stop(uuid, force=True)
    listed = cn.node.run("zoneadm", "-z", uuid, "list", "-p").stdout
    assert listed.split(":")[2] == "installed"
    cn.api.delete(uuid)
    assert cn.is_gone(uuid)


def test_change_whose_outcome_cannot_be_seen_says_that_it_was_made(cn):
    uuid = cn.add(quota=10)
    # The change is in zfs alone, so that nothing writes the XML behind our back.
    cn.forget_commands()
    cn.control.fault("zfs", "hold", match="set quota")
    child = cn.start_vmadm("update", uuid, "quota=33")
    eventually("zfs runs", lambda: [line for line in cn.commands() if "zfs set quota" in line])
    with open(f"{cn.root}/etc/zones/{uuid}.xml", "w", encoding="utf-8") as file:
        file.write("<zone")
    cn.control.step("zfs")
    code, said = ended(child)
    why = f"the change was made, but the outcome cannot be seen: VM {uuid} cannot be read: /etc/zones/{uuid}.xml: "
    assert code == 1 and said.startswith(why)
    assert cn.node.run("zfs", "get", "-Hpo", "value", "quota", f"zones/{uuid}").stdout.strip() == str(33 << 30)
    cn.api.delete(uuid)
    assert cn.is_gone(uuid)


def test_writes_go_on_while_the_sysinfo_of_the_node_cannot_be_read(cn):
    uuid, sysinfo = cn.add(quota=10), cn.control.sysinfo()
    with open(cn.control.real("/tmp/.sysinfo.json"), "w", encoding="ascii") as file:
        file.write('{"UUID": ')
    eventually("vminfod has noticed", lambda: cn.daemon.status()["sysinfoError"])
    assert cn.daemon.get(f"/vms/{uuid}?fresh=true").status == 504
    assert cn.daemon.get(f"/vms/{uuid}?fresh=true&sysinfo=false").json()["quota"] == 10
    cn.api.update(uuid, quota=11, alias="without-sysinfo")
    assert cn.api.stop(uuid, force=True)["state"] == "stopped"
    assert cn.api.start(uuid)["state"] == "running"
    found = cn.daemon.vm(uuid)
    assert (found["quota"], found["alias"], found["server_uuid"]) == (11, "without-sysinfo", sysinfo["UUID"])
    cn.api.delete(uuid)
    assert cn.is_gone(uuid)
    cn.control.write_sysinfo(sysinfo)
    eventually("it is read again", lambda: not cn.daemon.status()["sysinfoError"])
