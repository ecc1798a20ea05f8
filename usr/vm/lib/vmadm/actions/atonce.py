# SPDX-License-Identifier: MPL-2.0
"""All that a command does to its VM, seen by everybody at once (docs/vmadm.md, "What a read shows meanwhile"): a
transaction of vminfod's, from before the first look at the VM to the look at the outcome.

    with at_once(session, uuid, name, "update") as held:
        vm = held.vm                    # as it is now; from here on everybody else sees the VM as it was
        ...                             # steps; the session's reads see what they did
        vm = held.outcome()             # now everybody sees it

Always: it is asked for when the config lock is held, and no lock is waited for within it but zonecfg's: so two writers
        cannot wait for each other (node/locks.py).
        Whoever reads the VM through vminfod (vmadmd, fwadm, the zone's metadata service) is told after the outcome.
        Where there are no transactions, with an older vminfod or without its socket, all is as it was before there were
        any: each step is seen when it is done. So it is when one ends early, by its limit or with vminfod.
        A command within another one (a rollback starts its VM) is part of that one's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Optional

from vmadm.actions.session import FRESH_LIMIT, MADE, Session, nothing_changed, unreadable
from vmadm.errors import CannotRead, DaemonAway, NotReached, VmadmError
from vminfod.client import HTTPStatusError, NoTransactions, TransactionOver, VmHeld, VminfodError
from vminfod.clients.failures import ConnectionFailed
from vminfod.clients.transaction import MOST, waiting_text, within
from vmload import Vm

NOT_FOUND = 404


class at_once:  # noqa: N801 - it reads as what it is: a statement
    """See the head of the module. `word` is what the event's cause calls the command. Entering raises VmNotFound,
    CannotRead, NotReached (another transaction held the VM for too long) and DaemonAway: nothing was touched."""

    vm: Vm

    def __init__(self, session: Session, uuid: str, name: str, word: str) -> None:
        self._session, self._uuid, self._name, self._word = session, uuid, name, word
        self._is_ours = False

    def __enter__(self) -> at_once:
        if self._session.transaction is None:
            self._open()
        try:
            self.vm = self._session.look(self._uuid, self._name)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._end()

    def outcome(self) -> Optional[Vm]:
        """Show everybody what was done; the VM as it is then, None if there is none any more. Raises CannotRead and
        DaemonAway, which say that the change was made."""
        transaction = self._session.transaction
        if transaction is None or not self._is_ours:
            return self._session.fresh(self._uuid, self._name)
        try:
            return transaction.commit()
        except (TransactionOver, ConnectionFailed) as error:
            self._session.log.warning("the transaction ended early", extra={"uuid": self._uuid, "err": str(error)})
        except VminfodError as error:
            why = unreadable(self._uuid, error) if isinstance(error, HTTPStatusError) else error
            if isinstance(why, CannotRead):
                raise CannotRead(f"{MADE}the outcome cannot be seen: {why}") from error
            raise DaemonAway(f"{MADE}vminfod did not tell the outcome: {error}") from error
        finally:
            self._end()
        return self._session.fresh(self._uuid, self._name)

    def given_up(self) -> Optional[Vm]:
        """It went wrong: let everybody see what is there, and give it, if vminfod answers."""
        self._end()
        return self._session.show(self._uuid, self._name)

    def _open(self, again: bool = True) -> None:
        session, uuid = self._session, self._uuid
        client = session.client(self._name, FRESH_LIMIT)
        transaction = client.transaction(
            uuid,
            command=self._word,
            req_id=session.req_id,
            limit=MOST,  # we end it when we end, however that is; this is for a vmadm that hangs
            wait=MOST,  # no other can last longer
            waiting=lambda asked: session.tell(waiting_text(client, uuid, asked)),
        )
        try:
            transaction.open()
        except NoTransactions as error:
            session.log.debug("each step is seen by itself", extra={"uuid": uuid, "err": str(error)})
            return
        except HTTPStatusError as error:
            if error.status_code != NOT_FOUND:
                raise nothing_changed(error) from error
            session.look(uuid, self._name)  # one that is seconds old may not be served yet, but is from now on
            if again:
                self._open(again=False)
            return
        except VmHeld as error:
            raise NotReached(f"{error}; nothing was changed") from error
        except VminfodError as error:
            raise nothing_changed(error) from error
        session.transaction, self._is_ours = transaction, True

    def _end(self) -> None:
        if self._is_ours:
            transaction, self._session.transaction, self._is_ours = self._session.transaction, None, False
            if transaction is not None:
                transaction.close()


def check_not_within(session: Session, environ: Mapping[str, str], uuids: list[str]) -> None:
    """A command that was started within somebody's transaction cannot change that VM: it would wait for itself. Raises
    VmadmError if one of the `uuids` is held by it."""
    try:
        why_not = within(session.client("vmadm"), environ, uuids)
    except VminfodError as error:
        raise nothing_changed(error) from error
    if why_not is not None:
        raise VmadmError(f"{why_not}, and vmadm has one of its own: run it before or after; nothing was changed")
