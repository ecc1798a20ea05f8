# SPDX-License-Identifier: MPL-2.0
"""When zoneadm's word that there is no such zone is believed. zoneadm and the index of zones are stand-ins that say
what a test wants, one answer after the other."""

from types import SimpleNamespace

import mock
import pytest

from vmload import zoneadm
from vmload.commands import Commands
from vmload.loaderror import CommandFailed, LoadError, NoVm, ZoneGone
from vmload.records import Zone
from vmload.zonesources import ZoneSources

pytestmark = pytest.mark.pure

U, V = "5b0e7ae8-9c1a-4b7e-8f63-00000000000a", "5b0e7ae8-9c1a-4b7e-8f63-00000000000b"
ZONE = Zone(None, U, "installed", f"/zones/{U}", U, "joyent", 0)
GONE = ZoneGone(f"zoneadm: {U}: No such zone configured")
HEAD = "# a comment: of words\nglobal:installed:/\n"
LINE = f"{U}:installed:/zones/{U}:{U}\n"


def find(key, *said, indexes=()):
    """What comes of it when zoneadm has just these answers, and the index these texts or errors; and whether all of
    them were asked for."""
    commands = mock.create_autospec(Commands, instance=True)
    commands.zone.side_effect = said
    texts = iter(indexes)

    def index():
        text = next(texts)
        if isinstance(text, Exception):
            raise text
        return zoneadm.parse_index((HEAD + text).encode())

    sources = ZoneSources(None, SimpleNamespace(index=index), commands, None)
    try:
        found = sources.find(key)
    except LoadError as error:
        found = error
    assert commands.zone.call_count == len(said) and next(texts, None) is None
    return found


def test_zone_that_is_there_costs_no_look_at_the_index():
    assert find(U, ZONE) == ZONE


def test_zone_that_the_index_does_not_name_either_is_gone():
    assert find(U, GONE, indexes=[f"{V}:installed:/zones/{V}:{V}\n"]) is GONE


@pytest.mark.parametrize("line", [LINE, f"web01:installed:/zones/web01:{U}\n"])
def test_one_that_the_index_names_by_name_or_uuid_is_asked_for_again(line):
    assert find(U, GONE, ZONE, indexes=[line]) == ZONE


def test_one_that_the_index_names_still_cannot_be_read():
    found = find(U, GONE, GONE, indexes=[LINE, LINE])
    assert isinstance(found, CommandFailed) and not isinstance(found, ZoneGone)
    assert str(found) == f"{GONE}: but /etc/zones/index names it"


def test_one_that_leaves_the_index_meanwhile_is_gone():
    assert find(U, GONE, GONE, indexes=[LINE, ""]) is GONE


@pytest.mark.parametrize("before", [[], [LINE]])
def test_while_the_index_cannot_be_read_none_is_gone(before):
    trouble = LoadError("EIO: i/o error, open '/etc/zones/index'", "EIO")
    assert find(U, *[GONE] * (1 + len(before)), indexes=[*before, trouble]) is trouble


def test_zone_that_is_no_vm_when_asked_again_is_none():
    assert isinstance(find("buildbox", GONE, None, indexes=["buildbox:installed:/zones/buildbox:\n"]), NoVm)


@pytest.mark.parametrize(
    "line, zones",
    [
        (LINE, {U: U}),
        (f"web01:configured:/zones/web01:{U}\n", {"web01": U}),
        (f"{U}:configured:/zones/{U}:\n", {U: U}),
        (f"{U}:configured:/zones/{U}\n", {U: U}),
        (f'{U}:configured:"/zones/a:b":{V}\n', {U: V}),
        ("buildbox:installed:/zones/buildbox:\n", {"buildbox": None}),
        ("buildbox\n", {"buildbox": None}),
        (f"{LINE.rstrip()}", {}),
        ("\n:\n", {}),
    ],
)
def test_index_names_vms_by_the_rule_for_lines_of_zoneadm(line, zones):
    assert zoneadm.parse_index((HEAD + line).encode()) == zones
