# SPDX-License-Identifier: MPL-2.0
"""Replay: `ready` and the events after it, applied in order, are what /vms shows, at every revision (design invariant
2), while everything that can happen to a node happens."""

import threading

import pytest

from support.convergence import Listener, assert_converges
from support.examples import few
from support.settling import settle

pytestmark = pytest.mark.vms(30)

OPERATIONS, PARTS = 360, 3


class Pictures:
    """/vms as it was at some revisions, taken as fast as they come while something else happens."""

    def __init__(self, daemon):
        self._daemon = daemon
        self.at = {}
        self.error = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self):
        while not self._done.wait(0.01):
            try:
                self.take()
            except Exception as error:  # noqa: BLE001 the test shows it
                self.error = error
                return

    def take(self):
        answer = self._daemon.get("/vms")
        vms = {vm["zonename"]: vm for vm in answer.json()}
        rev = int(answer.headers["x-vminfod-rev"])
        assert self.at.setdefault(rev, vms) == vms, f"/vms has shown two things at revision {rev}"
        return rev

    def end(self):
        self._done.set()
        self._thread.join()
        assert self.error is None, self.error


@pytest.mark.parametrize("seed", few([1, 20260], 1))
def test_ready_and_events_give_what_is_served_at_every_revision(node, daemon, seed):
    pictures = Pictures(daemon)
    whole = Listener(daemon)
    node.control.churn(OPERATIONS // PARTS, seed=seed)
    midway = Listener(daemon)
    cut = Listener(daemon)
    node.control.churn(OPERATIONS // PARTS, seed=seed + 1)
    cut.close()
    node.control.churn(OPERATIONS // PARTS, seed=seed + 2)
    resumed = Listener(daemon, f"?since={cut.epoch}:{cut.rev}", start=cut.vms)
    settle(daemon)
    pictures.end()
    last = pictures.take()

    for listener in (whole, midway, resumed):
        listener.caught_up(last)
        checked = [rev for rev in pictures.at if rev >= listener.first]
        for rev in checked:
            assert listener.at[rev] == pictures.at[rev], f"at revision {rev}"
        assert len(checked) > 5
        listener.close()
    assert last > OPERATIONS // 4, "the node did not change enough for this to mean anything"
    assert resumed.first == cut.rev < last
    # What a listener kept over the cut is what another saw who was there all the time.
    assert resumed.at[cut.rev] == whole.at[cut.rev]
    assert sorted(whole.at) == list(range(whole.first, last + 1))
    assert_converges(daemon)


def test_served_order_is_that_of_the_events(node, daemon):
    """A client that keeps its VMs in the order of ready and create has the order of /vms."""
    listener = Listener(daemon)
    node.control.churn(60, seed=5, kinds=["vm_add", "vm_remove", "alias"])
    settle(daemon)
    answer = daemon.get("/vms")
    listener.caught_up(int(answer.headers["x-vminfod-rev"]))
    assert [vm["zonename"] for vm in answer.json()] == list(listener.vms)
    listener.close()
