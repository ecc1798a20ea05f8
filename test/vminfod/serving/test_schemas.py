# SPDX-License-Identifier: MPL-2.0
"""The JSON Schemas that the daemon serves: what they say of objects that came from elsewhere. That each object and
event of the other tests is as they say is looked at where it is read (support/schemacheck.py)."""

import copy
import json

import fastjsonschema
import pytest

from support import schemacheck
from vminfod.serving import schemas
from vmload import properties

VM = {
    "zonename": "54aa5b0e-9a2f-4c3e-8c41-7d1f2a6b9e10",
    "brand": "bhyve",
    "uuid": "54aa5b0e-9a2f-4c3e-8c41-7d1f2a6b9e10",
    "zone_state": "installed",
    "zonepath": "/zones/54aa5b0e-9a2f-4c3e-8c41-7d1f2a6b9e10",
    "state": "stopped",
    "resolvers": ["8.8.8.8"],
    "nics": [{"mac": "c2:0:0:0:0:1", "vlan_id": 3, "primary": True, "ips": ["dhcp"]}],
    "disks": [{"path": "/dev/zvol/rdsk/zones/x", "missing": True, "size": 1024.5}],
    "snapshots": [{"name": "a", "size": None, "created_at": "2026-01-02T03:04:05.000Z"}],
    "quota": 10,
    "tags": {"anything": [{"at": "all"}]},
}
MARK = {"date": "2026-01-02T03:04:05.000Z", "epoch": "54aa5b0e-9a2f-4c3e-8c41-7d1f2a6b9e10", "rev": 7}
MODIFY = {
    "type": "modify",
    **MARK,
    "zonename": "z",
    "uuid": "u",
    "vm": VM,
    "changes": [
        {"prettyPath": "nics.*.ip", "path": ["nics", None, "ip"], "action": "added", "newValue": 1, "ident": "m"}
    ],
    "cause": {"source": "zfs", "dataset": "zones/x", "action": "set", "latency_ms": 0.1},
}


def changed(value, path, to):
    """A copy in which the member at `path` is `to`, or is gone if that is KeyError."""
    value = copy.deepcopy(value)
    *way, last = path
    inner = value
    for step in way:
        inner = inner[step]
    if to is KeyError:
        del inner[last]
    else:
        inner[last] = to
    return value


@pytest.mark.pure
def test_a_vm_and_an_event_as_the_documents_show_them_are_good():
    schemacheck.check_vm(VM)
    schemacheck.check_vm(
        {**VM, "tags": None, "routes": [], "customer_metadata": 1}
    )  # what a guest wrote into its files
    schemacheck.check_event(MODIFY)
    schemacheck.check_event({"type": "ready", **MARK, "uuid": "s", "vms": json.dumps([VM])})
    schemacheck.check_event({"type": "heartbeat", **MARK})


@pytest.mark.pure
@pytest.mark.parametrize(
    "path, to",
    [
        (["quota"], "10"),
        (["state"], None),
        (["zonepath"], KeyError),
        (["nics"], {}),
        (["nics", 0, "vlan_id"], "3"),
        (["nics", 0, "ips"], "dhcp"),
        (["disks", 0, "size"], "1024"),
        (["snapshots", 0, "created_at"], 5),
        (["missing"], {"disks": "x"}),
        (["strange"], 1),
        (["nics", 0, "strange"], 1),
    ],
)
def test_a_vm_that_is_otherwise_is_not(path, to):
    wrong = changed(VM, path, to)
    with pytest.raises(AssertionError):
        schemacheck.check_vm(wrong)
    with pytest.raises(AssertionError):
        schemacheck.check_event({**MODIFY, "vm": wrong})


@pytest.mark.pure
@pytest.mark.parametrize(
    "path, to",
    [
        (["rev"], "7"),
        (["rev"], KeyError),
        (["cause"], KeyError),
        (["cause", "latency_ms"], -1),
        (["changes", 0, "action"], "altered"),
        (["changes", 0, "path"], []),
        (["changes", 0, "path"], [1]),
        (["vm"], KeyError),
        (["strange"], 1),
    ],
)
def test_an_event_that_is_otherwise_is_not(path, to):
    with pytest.raises(AssertionError):
        schemacheck.check_event(changed(MODIFY, path, to))


@pytest.mark.pure
def test_clients_bear_members_of_newer_daemons():
    """What is served is open; only the tests look at it more closely."""
    validate = fastjsonschema.compile(json.loads(schemas.of_event()))
    validate({**MODIFY, "vm": {**VM, "strange": 1}, "strange": 1})


@pytest.mark.pure
def test_each_property_of_the_table_is_in_the_schema_with_its_unit():
    known = json.loads(schemas.of_vm())["properties"]
    for name, row in properties.table().items():
        if row["in_vm_object"]:
            owner, _, member = name.partition(".*.")
            schema = known[owner]["items"]["properties"][member] if member else known[name]
            assert schema.get("description") == row["unit"], name
    assert known["quota"] == {"type": ["number", "null"], "description": "GiB"}


def test_objects_recorded_of_the_platform_are_good(vectors):
    """Parts of VM objects: what the original makes of a zone's XML alone."""
    recorded = sorted((vectors / "vmload-xml").glob("*.json"))
    assert recorded
    for path in recorded:
        read = json.loads(path.read_text())
        schemacheck.check_vm({**changed(VM, ["disks"], KeyError), **read})


def test_the_daemon_serves_both(quiet_daemon):
    for path, made in (("/schema/vm.json", schemas.of_vm()), ("/schema/event.json", schemas.of_event())):
        answer = quiet_daemon.get(path)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.body == made
