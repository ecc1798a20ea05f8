# SPDX-License-Identifier: MPL-2.0
"""VMs by filters and fields: `vms(query)`, and what callers of the original's vmload use."""

import pytest

from support.canned_server import CannedServer, answer
from vminfod.client import HTTPStatusError, VminfodClient
from vminfod.clients.failures import BadPattern

WEB = {"uuid": "w", "alias": "web", "state": "running", "ram": 512, "tags": {"n": 1}, "nics": [{"ip": "10.0.0.1"}]}
DB = {"uuid": "d", "alias": "db", "state": "stopped", "ram": 512, "tags": {}, "nics": [], "zoneid": None}
BARE = {"uuid": "b", "state": "running"}


@pytest.fixture(scope="module")
def client():
    with CannedServer({"/vms": answer([WEB, DB, BARE]), "/vms/w": answer(WEB)}) as server:
        yield VminfodClient("demo", port=server.port)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (None, [WEB, DB, BARE]),
        ({}, [WEB, DB, BARE]),
        ({"state": "running"}, [WEB, BARE]),
        ({"state": "running", "ram": 512}, [WEB]),
        ({"state": None, "alias": "db"}, [DB]),
        ({"tags.n": 1}, [WEB]),
        ({"nics.*.ip": "10.0.0.1"}, [WEB]),
        ({"alias": "~^[WD]"}, [WEB, DB]),
        ({"zoneid": "null"}, []),
        ({"no_such_property": "x"}, []),
        ("state=running&ram=512", [WEB]),
        ("?alias=~%5EW", [WEB]),
        ({"fields": "alias,uuid", "state": "running"}, [{"uuid": "w", "alias": "web"}, {"uuid": "b"}]),
        ({"fields": ["alias"]}, [{"alias": "web"}, {"alias": "db"}]),
        ("fields=alias&uuid=d", [{"alias": "db"}]),
    ],
)
def test_query_chooses_vms_and_fields(client, query, found):
    assert client.vms(query) == found


def test_get_vmobjs_takes_filters_or_a_function(client):
    assert client.get_vmobjs() == [WEB, DB, BARE]
    assert client.get_vmobjs({"ram": "512"}, fields=["uuid"]) == [{"uuid": "w"}, {"uuid": "d"}]
    assert client.get_vmobjs(lambda vm: "alias" not in vm) == [BARE]
    assert client.get_vmobjs(lambda vm: vm["uuid"] != "b", fields=["ram", "alias"])[0] == {"alias": "web", "ram": 512}


def test_get_vmobj(client):
    assert client.get_vmobj("w") == WEB
    assert list(client.get_vmobj("w", fields=["state", "uuid", "x"])) == ["uuid", "state"]
    with pytest.raises(HTTPStatusError) as caught:
        client.get_vmobj("nobody")
    assert caught.value.code == 404


def test_bad_pattern_and_bad_query_are_errors_of_the_caller():
    unreachable = VminfodClient("demo", port=1)
    with pytest.raises(BadPattern):
        unreachable.vms({"alias": "~("})
    with pytest.raises(TypeError):
        unreachable.vms(7)
