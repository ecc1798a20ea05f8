# SPDX-License-Identifier: MPL-2.0
"""Who holds a VM, who waits for it, and that neither is without bounds."""

from unittest import mock

import gevent
import pytest

from support.deadlines import SOON
from vminfod.serving import holds
from vminfod.serving.cause import REQUEST, Cause
from vminfod.serving.holds import End, Holds, StillHeld, TooMany, Transaction, Writer

pytestmark = pytest.mark.pure


def wanted(zonename="z", command="update"):
    return Transaction(zonename, zonename, Writer(command, None, 7, 0), 60)


def waiting_for(held, *transactions):
    """A greenlet for each that waits for its turn, in this order."""
    greenlets = []
    for one in transactions:
        greenlets.append(gevent.spawn(held.take, one, 60.0))
        gevent.sleep(0)
    return greenlets


def test_what_is_held_is_kept_back_but_for_the_reading_that_ends_it():
    held, holder, cause = Holds(), wanted(), Cause("vmadm")
    assert not held.keeps_back("z", REQUEST) and held.is_readable("z")
    held.take(holder, 0)
    assert held.keeps_back("z", REQUEST) and held.keeps_back("z", None) and held.keeps_back("z", cause)
    assert not held.keeps_back("y", REQUEST) and not held.is_readable("z")
    held.read_for(holder, cause)
    assert not held.keeps_back("z", cause) and held.is_readable("z")
    assert held.keeps_back("z", Cause("vmadm")), "an equal cause is another's"
    held.release(holder)
    assert not held.keeps_back("z", REQUEST)


def test_vm_goes_from_hand_to_hand_without_a_moment_between():
    held, first, second, third = Holds(), wanted(), wanted(), wanted()
    held.take(first, 0)
    greenlets = waiting_for(held, second, third)
    held.release(first)
    assert held.holder("z") is second and held.keeps_back("z", REQUEST)
    held.release(second)
    assert held.holder("z") is third
    gevent.joinall(greenlets, timeout=SOON, raise_error=True)
    held.release(third)
    assert held.holder("z") is None
    for one in (first, second, third):
        held.left(one)
    assert list(held) == [] and held.find(first.id) is None


def test_who_is_told_to_end_while_it_waits_is_passed_over_and_forgotten():
    held, first, second, third = Holds(), wanted(), wanted(), wanted()
    held.take(first, 0)
    leaving, staying = waiting_for(held, second, third)
    assert second.finish(End.ABORTED)
    gevent.joinall([leaving], timeout=SOON)
    assert isinstance(leaving.exception, StillHeld)
    assert held.find(second.id) is None and list(held) == [first, third]
    held.release(first)
    assert held.holder("z") is third
    gevent.joinall([staying], timeout=SOON, raise_error=True)


def test_who_is_told_to_end_when_it_is_its_turn_has_its_turn():
    """It ends then, and hands the VM on."""
    held, first, second = Holds(), wanted(), wanted()
    held.take(first, 0)
    greenlets = waiting_for(held, second)
    held.release(first)
    second.finish(End.ABORTED)
    gevent.joinall(greenlets, timeout=SOON, raise_error=True)
    assert held.holder("z") is second


def test_greenlet_that_is_killed_while_it_waits_leaves_nothing_behind():
    held, first, second = Holds(), wanted(), wanted()
    held.take(first, 0)
    [greenlet] = waiting_for(held, second)
    greenlet.kill()
    assert list(held) == [first]
    held.release(first)
    assert held.holder("z") is None


def test_wait_that_is_over_says_who_holds_the_vm():
    held, first = Holds(), wanted(command="create")
    held.take(first, 0)
    with pytest.raises(StillHeld) as raised:
        held.take(wanted(), 0)
    assert raised.value.holder is first
    assert str(raised.value).endswith("by pid 7: create")


def test_first_word_about_the_end_counts():
    one = wanted()
    assert one.finish(End.COMMITTED, 5.0)
    assert not one.finish(End.ABORTED)
    assert (one.end, one.timeout) == (End.COMMITTED, 5.0)


def test_those_open_and_waiting_are_bounded_together():
    held = Holds()
    with mock.patch.object(holds, "MOST", 3):
        held.take(wanted("a"), 0)
        held.take(wanted("b"), 0)
        [greenlet] = waiting_for(held, wanted("a"))
        for zonename in ("a", "c"):
            with pytest.raises(TooMany):
                held.take(wanted(zonename), 0)
        assert len(list(held)) == 3
        greenlet.kill()
        held.take(wanted("c"), 0)


def test_expired_one_is_listed_until_its_connection_ends():
    held, one = Holds(), wanted()
    held.take(one, 0)
    one.finish(End.EXPIRED)
    held.release(one)
    assert [shown.dump()["state"] for shown in held] == ["expired"]
    assert one.overdue >= 0 and held.find(one.id) is one
    held.left(one)
    assert list(held) == [] and held.find(one.id) is None
