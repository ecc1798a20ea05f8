# SPDX-License-Identifier: MPL-2.0
"""Snapshots below the depth at which a VM object shows anything are never listed, however many there are: listing them
made starts and events last as long as there are backups (OS-7666)."""

from support.following import Follow

pytest_plugins = ["support.followers"]

SOME = 20
DEEPEST = 3  # from a pool's root dataset down to a snapshot of a delegated dataset


def listings(control):
    return [call["argv"] for call in control.calls("zfs") if call["argv"][0] == "list"]


def test_what_lies_deep_in_a_delegated_dataset_is_never_listed(alone: Follow):
    zone = alone.add(delegated=True)
    deep = f"zones/{zone}/data/backups/daily"
    alone.zfs("create", "-p", deep)
    for number in range(SOME):
        alone.zfs("snapshot", f"{deep}@{number}")
    alone.zfs("snapshot", f"zones/{zone}@vmsnap-shown")
    alone.until(zone, lambda vm: any(snapshot["name"] == "shown" for snapshot in vm["snapshots"]))

    alone.control.forget_calls()
    alone.zfs("set", "quota=33G", f"zones/{zone}")
    alone.until(zone, lambda vm: vm["quota"] == 33)
    by_event = listings(alone.control)
    assert alone.daemon.get(f"/vms/{zone}?fresh=true").status == 200
    by_request = listings(alone.control)[len(by_event) :]
    assert by_event and by_request

    assert alone.daemon.stop() == 0
    alone.control.forget_calls()
    alone.daemon.start()
    at_start = listings(alone.control)
    assert at_start
    for argv in by_event + by_request + at_start:
        assert int(argv[argv.index("-d") + 1]) <= DEEPEST
        assert "-r" not in argv
        printed = alone.node.run("zfs", *argv).stdout
        assert printed
        assert f"{deep}@" not in printed
    assert [snapshot["name"] for snapshot in alone.daemon.vm(zone)["snapshots"]] == ["shown"]
