# SPDX-License-Identifier: MPL-2.0
"""Finding the VM that a command is about, with the words that have always been said where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vmadm.actions.session import Session, not_found
from vmadm.errors import VmNotFound
from vmload import Vm


def look_for(session: Session, uuid: str, name: str, *, last_known: bool = False) -> Vm:
    """The VM, for the commands whose word for "no such VM" has always been the status code. `last_known`: of a VM that
    cannot be read the object that was read last. Raises VmNotFound, CannotRead."""
    with not_found_as_ever(uuid):
        return session.look_or_last_known(uuid, name) if last_known else session.look(uuid, name)


def known(session: Session, uuid: str, name: str) -> Vm:
    """The VM as it is served, for the commands that only turn to it. Raises VmNotFound, as look_for()."""
    with not_found_as_ever(uuid):
        return session.known(uuid, name)


@contextmanager
def not_found_as_ever(uuid: str) -> Iterator[None]:
    """The word of those commands for a VM that is not there to begin with."""
    try:
        yield
    except VmNotFound as error:
        if str(error) != not_found(uuid):
            raise
        raise VmNotFound("bad statusCode: 404") from error


def present(session: Session, vm: Vm, name: str) -> Vm:
    """The VM read anew, where the command already had it. Raises VmNotFound, and what Session.fresh() does."""
    found = session.fresh(vm["zonename"], name)
    if found is None:
        raise VmNotFound(f"VM {vm['uuid']} was deleted meanwhile")
    return found
