# SPDX-License-Identifier: MPL-2.0
"""`vmadm info`: what it asks vmadmd, and what it says when it cannot (docs/platform.md, "vmadmd")."""

import pytest

from support.canned_server import CannedServer, answer, plain_answer
from support.tools import run_tool
from vmadm.cli.info import info_of
from vmadm.errors import CommandFailed
from vminfod.client import VminfodClient

U = "0c6f1f0e-0000-4000-8000-00000000000a"
PREFIX = f"Unable to get VM info for VM {U}: "


def vm(brand="kvm", state="running"):
    return {"uuid": U, "brand": brand, "state": state}


def asked(*words, brand="kvm"):
    """The path that vmadmd is asked."""
    with CannedServer({f"/vm/{U}/info": answer({"vnc": {"port": 5900}})}) as vmadmd:
        said = info_of(vm(brand), list(words), VminfodClient("test", port=vmadmd.port))
        assert said == {"vnc": {"port": 5900}}
        return vmadmd.requests[0].path


def test_types_are_separated_by_commas_and_blanks_and_default_to_all():
    assert asked() == f"/vm/{U}/info?types=all"
    assert asked("vnc", brand="bhyve") == f"/vm/{U}/info?types=vnc"
    assert asked("block,cpus", "pci, spice") == f"/vm/{U}/info?types=block,cpus,pci,spice"


@pytest.mark.parametrize(
    ("given", "words", "message"),
    [
        (vm(state="stopped"), [], 'Unable to get info for vm from state "stopped", must be "running" or "stopping".'),
        (vm(brand="joyent"), [], "no info types supported for brand joyent"),
        (vm(), ["vnc,bogus"], "unknown info type bogus"),
        (vm(brand="bhyve"), ["spice"], "unknown info type spice"),
    ],
)
def test_what_cannot_be_asked_is_said_before_asking(given, words, message):
    with CannedServer({}) as vmadmd, pytest.raises(CommandFailed) as caught:
        info_of(given, words, VminfodClient("test", port=vmadmd.port))
    assert str(caught.value) == PREFIX + message
    assert vmadmd.requests == []


def test_refusal_of_vmadmd_names_the_status():
    with CannedServer({f"/vm/{U}/info": plain_answer(500, "no")}) as vmadmd, pytest.raises(CommandFailed) as caught:
        info_of(vm(), [], VminfodClient("test", port=vmadmd.port))
    assert str(caught.value) == f"{PREFIX}Unable to get info from vmadmd, query returned 500."


def test_vmadmd_that_is_down_is_one_line():
    with CannedServer({}) as vmadmd:
        port = vmadmd.port
    with pytest.raises(CommandFailed) as caught:
        info_of(vm(), [], VminfodClient("test", port=port))
    assert str(caught.value) == f"{PREFIX}connect ECONNREFUSED 127.0.0.1:{port}"


def test_command_asks_vminfod_for_the_vm_first():
    with CannedServer({f"/vms/{U}": answer(vm(brand="lx")), "/vms": answer([])}) as server:
        assert tuple(run_tool("vmadm", "info", U, port=server.port)) == (
            1,
            "",
            f"{PREFIX}no info types supported for brand lx\n",
        )
        other = U.replace("0c", "ff")
        assert tuple(run_tool("vmadm", "info", other, port=server.port)) == (
            1,
            "",
            f"zoneadm: {other}: No such zone configured\n",
        )
    code, out, err = run_tool("vmadm", "info", "bogus")
    assert (code, out, err.splitlines()[0]) == (2, "", "Invalid or missing UUID for info")
