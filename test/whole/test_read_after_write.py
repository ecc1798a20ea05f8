# SPDX-License-Identifier: MPL-2.0
"""The promise: what vmadm changed successfully, every read that starts later shows, whatever else goes on.

Several writers change many VMs, each its own at a time, through the library; after each success the change must be in
`GET /vms/UUID` and in `GET /vms`. Each test does a number of writes, however long the machine takes for them.
bench/read_after_write runs longer."""

import itertools
import random
import threading

import pytest

from support.examples import examples
from support.writing import written_node

pytest_plugins = ["support.writers"]

WRITERS = 4
VMS = 12
WRITES = examples(96)  # that each test does, at least


class Writers:
    """Threads that write and read; `.stale` has what a read did not show, `.failed` the errors."""

    def __init__(self, cn, uuids):
        self.cn, self.uuids = cn, uuids
        self._enough = threading.Event()
        self.done, self.stale, self.failed = 0, [], []
        self._count = threading.Lock()

    def run(self, meanwhile=lambda: None, also=lambda: True):
        """Write until WRITES are done and also() is true; meanwhile() is called again and again."""
        threads = [threading.Thread(target=self._work, args=[number]) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            meanwhile()
            threads[0].join(0.05)
            if self.done >= WRITES and also():
                self._enough.set()
        for thread in threads:
            thread.join()
        assert self.failed == []
        assert self.stale == []
        assert self.done >= WRITES

    def _work(self, number):
        source = random.Random(number)
        mine = self.uuids[number::WRITERS]
        for turn in itertools.count():
            if self._enough.is_set():
                return
            uuid, (payload, shown) = source.choice(mine), self._change(number, turn, source)
            try:
                self.cn.api.update(uuid, payload)
                self._look(uuid, shown)
            except Exception as error:  # noqa: BLE001 - a thread of a test: the test tells
                self.failed.append(repr(error))
                return
            with self._count:
                self.done += 1

    @staticmethod
    def _change(number, turn, source):
        value = f"w{number}-{turn}"
        memory = source.choice([128, 256, 512, 1024])
        return source.choice(
            [
                ({"alias": value}, {"alias": value}),
                ({"quota": 20 + turn}, {"quota": 20 + turn}),
                ({"max_physical_memory": memory}, {"max_physical_memory": memory}),
                ({"set_tags": {"v": value}}, {"tags": {"v": value}}),
                ({"hostname": value, "quota": 5 + turn}, {"hostname": value, "quota": 5 + turn}),
                ({"zfs_root_compression": source.choice(["lz4", "gzip"])}, {}),
            ]
        )

    def _look(self, uuid, shown):
        one = self.cn.vm(uuid)
        of_all = next(vm for vm in self.cn.daemon.vms() if vm["uuid"] == uuid)
        for vm in (one, of_all):
            found = {name: vm.get(name) for name in shown}
            if found != shown:
                self.stale.append((uuid, shown, found))


@pytest.fixture
def fleet():
    """A node of its own with VMs that are stopped, so that only vmadm's own work takes time."""
    with written_node(0) as cn:
        yield cn, [cn.add(alias=f"vm{number}", state="stopped", files={"tags": {}}) for number in range(VMS)]


def test_no_read_after_a_write_is_stale(fleet):
    Writers(*fleet).run()


@pytest.mark.more
def test_nor_if_the_node_loses_events_at_random(fleet):
    fleet[0].control.drop_events(None, chance=0.5)
    Writers(*fleet).run()


def test_nor_if_the_node_loses_all_events(fleet):
    fleet[0].control.drop_events(None)
    Writers(*fleet).run()


def test_nor_while_the_file_watcher_is_killed_again_and_again(fleet):
    cn, _ = fleet
    killed = []
    Writers(*fleet).run(lambda: killed.extend(cn.control.kill_child("fswatcher")))
    assert killed


def test_nor_while_everything_is_read_anew():
    with written_node(0, None, "--refresh-interval", "0.2") as cn:
        uuids = [cn.add(alias=f"vm{number}", state="stopped", files={"tags": {}}) for number in range(VMS)]
        Writers(cn, uuids).run(also=lambda: len(cn.daemon.logged("full refresh ended")) > 3)


def test_vms_that_come_and_go_are_shown_and_not_shown(cn):
    def work(number, problems):
        for _ in range(3):
            vm = cn.create(alias=f"w{number}")
            if (cn.get(vm["uuid"]) or {}).get("alias") != f"w{number}":
                problems.append(f"{vm['uuid']} was created and is not shown")
            cn.api.delete(vm["uuid"])
            if cn.get(vm["uuid"]) is not None or vm["uuid"] in [each["uuid"] for each in cn.daemon.vms()]:
                problems.append(f"{vm['uuid']} was deleted and is shown")

    problems = []
    threads = [threading.Thread(target=work, args=[number, problems]) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_states_are_shown_as_soon_as_the_command_returns(cn):
    uuid = cn.add(state="stopped")
    cn.control.drop_events(None, chance=0.5)
    for _ in range(3):
        cn.api.start(uuid)
        assert cn.vm(uuid)["state"] == "running"
        cn.api.stop(uuid, force=True)
        assert cn.vm(uuid)["state"] == "stopped"
    cn.control.clear_event_rules()
