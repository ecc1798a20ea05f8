# SPDX-License-Identifier: MPL-2.0
"""Filters as a library: what they take, where they may run."""

import signal
import threading

import pytest

from support.deadlines import SOON
from vminfod.clients import patterntime
from vminfod.clients.failures import BadPattern
from vminfod.clients.patterntime import PatternTooSlow, matches
from vminfod.clients.vmfilter import filters_of, matching

FOREVER = ("^(a+)+$", ["a" * 60 + "!"])


def in_a_thread(act):
    """What `act` gives or raises, run in another thread than the main one."""
    ended = []

    def run():
        try:
            ended.append(act())
        except Exception as error:  # noqa: BLE001 - handed to who asked
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(SOON)
    return ended[0]


def test_values_that_are_no_text():
    vms = [{"n": 1, "b": True}, {"n": 2, "b": False}, {"n": None}]
    assert matching(vms, filters_of({"b": True})) == vms[:1]
    assert matching(vms, filters_of({"n": 2.0})) == vms[1:2]
    assert matching(vms, filters_of({})) == vms


@pytest.mark.parametrize("run", [lambda act: act(), in_a_thread], ids=["main thread", "another thread"])
def test_pattern_in_any_thread(run):
    assert run(lambda: matches("^É.$", ["éa", "e", "xé1"])) == [True, False, False]


def test_pattern_that_takes_too_long_is_ended_in_the_main_thread(monkeypatch):
    monkeypatch.setattr(patterntime, "LIMIT", 0.1)
    before = signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(PatternTooSlow):
        matches(*FOREVER)
    assert signal.getsignal(signal.SIGVTALRM) is before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


@pytest.mark.more
def test_pattern_that_takes_too_long_is_ended_in_another_thread():
    assert isinstance(in_a_thread(lambda: matches(*FOREVER)), PatternTooSlow)


def test_bad_pattern_in_another_thread():
    error = in_a_thread(lambda: filters_of({"alias": "~("}))
    assert type(error) is BadPattern
    assert str(error) == 'Invalid regular expression "(": unterminated group'
