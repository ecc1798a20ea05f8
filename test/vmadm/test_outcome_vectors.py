# SPDX-License-Identifier: MPL-2.0
"""Creates, updates and snapshots do to a VM what the original vmadm did: its object, the zone's XML, datasets, files.

Each recorded case agrees, or all that differs is in a class of docs/vmadm.md, "Where a write differs"; a class without
any difference is no exception.
A stage of its own (`make test-vectors`), since it plays all of them on real mock nodes: some minutes of CPU."""

import re
from pathlib import Path

import pytest

from support import outcome_vectors
from support.outcome_vectors import Difference

pytestmark = pytest.mark.vectors

DONE = r" \(done: .*; not done: .*\)"
NO_ROOM = re.compile(": out of space|: size is (less than current used or reserved|greater than available) space")
TEXTS_OF_TOOLS = (
    "The resource device was not ended; it is left out.",
    "cannot create 'zones/<uuid>': dataset already exists",
)
REMOVED = "; what was made of VM <uuid> has been removed"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "vmadm.md"


def has_several_reasons(case, difference):
    """Both refuse; ours tells what the original tells, and more."""
    if difference.part != "error" or not difference.recorded or not difference.ours:
        return False
    reasons = difference.ours.split("; ")
    return len(reasons) > 1 and difference.recorded in reasons


def tells_what_was_done(case, difference):
    """Both fail in the same command; ours adds that it was one, what was done before, or that it was taken away."""
    if difference.part != "error" or not difference.recorded or not difference.ours:
        return False
    before, told = re.fullmatch(f"(.*?)({DONE}(?:{REMOVED})?|{REMOVED}|)", difference.ours).groups()
    command, _, text = before.rpartition("Command failed: ")
    return bool(told or command) and text.endswith(difference.recorded)


def is_refused_earlier(case, difference):
    """Both fail; the original in the midst of its work, by a step's or a tool's text."""
    if difference.part != "error" or not difference.recorded or not difference.ours:
        return False
    of_a_step = difference.recorded == f"first of 1 error: {difference.ours}"
    return of_a_step or difference.recorded in TEXTS_OF_TOOLS


def has_no_room(case, difference):
    """Only ours fails, in zfs, since the disks of a bhyve VM would need more than its quota."""
    only_ours = difference.part == "error" and difference.recorded is None and case["brand"] == "bhyve"
    about_disks = {"add_disks", "update_disks", "flexible_disk_size"} & case["payload"].keys()
    return only_ours and bool(about_disks) and NO_ROOM.search(difference.ours) is not None


def names_both_boot_disks(case, difference):
    """Or refuses a second one of an update, with which the VM would not start."""
    begin = "multiple boot disks: "
    texts = [text for text in (difference.recorded, difference.ours) if text is not None]
    return difference.part == "error" and difference.ours and all(str(text).startswith(begin) for text in texts)


def has_two_disks_in_a_slot(case, difference):
    text = str(difference.ours)
    return difference.recorded is None and text.startswith("VM has multiple disks in pci_slot ")


def names_a_mac_in_other_letters(case, difference):
    there = {nic.get("mac") for nic in case["base"].get("nics", [])}
    named = {nic.get("mac") for nic in case["payload"].get("update_nics", [])}
    return (
        difference.recorded == "There is no existing NIC with that mac address"
        and difference.ours is None
        and not named & there
        and {mac.lower() for mac in named} <= there
    )


def says_false_as_text(case, difference):
    """`docker: "false"` is no docker container's VM."""
    docker = ("init_name", "init-name", "internal_metadata", "internal-metadata", "restart_init", "restart-init")
    about = any(name in difference.path for name in (*docker, "config/metadata.json"))
    return case["payload"].get("docker") == "false" and about and difference.ours == "unchanged"


def stores_the_size_of_a_resized_disk(case, difference):
    sizes = {str(disk.get("size")) for disk in case["payload"].get("update_disks", [])}
    about = difference.part == "xml_attrs" and difference.path.endswith("] size")
    return about and difference.recorded == "unchanged" and difference.ours in sizes


CLASSES = {
    "several reasons": has_several_reasons,
    "what was done": tells_what_was_done,
    "refused earlier": is_refused_earlier,
    "room in zfs": has_no_room,
    "two boot disks": names_both_boot_disks,
    "taken pci_slot": has_two_disks_in_a_slot,
    "MAC in other letters": names_a_mac_in_other_letters,
    "false as text": says_false_as_text,
    "size in the XML": stores_the_size_of_a_resized_disk,
}


def documented_classes():
    """The first column of the table in the docs."""
    section = DOCS.read_text().partition("## Where a write differs")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))


def classes_of(case, found):
    """The class of each difference; None among them for one that none explains."""
    return {
        next((name for name, explains in CLASSES.items() if explains(case, difference)), None) for difference in found
    }


@pytest.fixture(scope="module")
def results():
    cases = {case["id"]: case for case in outcome_vectors.outcomes()}
    found = outcome_vectors.played(cases.values())
    assert found.keys() == cases.keys()
    return [(cases[name], differences, classes_of(cases[name], differences)) for name, differences in found.items()]


def test_each_recorded_outcome_is_ours_or_differs_in_a_documented_class(results):
    unexplained = {
        case["id"]: [str(each) for each in differences] for case, differences, classes in results if None in classes
    }
    assert not unexplained, f"{len(unexplained)} do not agree: {sorted(unexplained.items())[:5]}"


def test_each_class_of_the_docs_occurs_and_no_other(results):
    used = {name for _, _, classes in results for name in classes} - {None}
    assert used == documented_classes() == set(CLASSES)


def test_what_the_original_cannot_do_is_tried_too(results):
    """Nothing is asked of these but to end without a crash, which would be a difference of no class."""
    assert len([case for case, _, _ in results if case.get("original_defect")]) == 38


def test_a_difference_in_any_part_is_found():
    case = {
        "expect": {"vm_changes": {"quota": 20}, "xml_attrs": {}, "zfs": {}, "files": {"config/tags.json": '{"a":1}'}}
    }
    ours = {
        "vm_changes": {"quota": 20.5},
        "zfs": {"zones/<uuid> quota": "1"},
        "files": {"config/tags.json": '{ "a": 1 }'},
    }
    assert outcome_vectors.differences(case, None, ours) == [
        Difference("vm_changes", "quota", 20, 20.5),
        Difference("zfs", "zones/<uuid> quota", "unchanged", "1"),
    ]
    assert outcome_vectors.differences(case, "no", ours) == [Difference("error", "", None, "no")]
    assert not outcome_vectors.same(1, True, "vm_changes")
