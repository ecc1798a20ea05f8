# SPDX-License-Identifier: MPL-2.0
"""`vminfo transaction UUID -- COMMAND`: run a command, and have all that it changes of that VM come as one event.

Always: nothing is run unless the VM is held; once the command has run the VM is published, however that went: what it
        did is there.
Exit status: the command's (foreground.py), also where the transaction ended before it; NOT_HELD if there was none."""

from __future__ import annotations

import os

from vminfod.cli.foreground import CannotRun, run
from vminfod.cli.options import BadUsage, parsed_options
from vminfod.cli.stdio import complain
from vminfod.clients.failures import HTTPStatusError, NoTransactions, TransactionOver, VmHeld, VminfodError
from vminfod.clients.transaction import LEAST, MOST, WITHIN, waiting_text, within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Optional

    from vminfod.client import VminfodClient

    Asked = tuple[str, list[str], Optional[float]]  # the VM, the command, seconds that it may be held

NOT_HELD = 125  # as `env` and `timeout` say of themselves: no status of the command, which was not run


def asked(words: list[str], options: Mapping[str, list[str]]) -> Asked:
    """What `words` ask: the VM, perhaps options behind those that were before it, the command. Raises BadUsage,
    BadOption."""
    more, command = parsed_options(words[1:], {}, {"l": "limit"})
    if not command:
        raise BadUsage("The command transaction needs a command that it can run.")
    given = {**options, **more}.get("limit")
    if given is None:
        return words[0], command, None
    text = given[-1]
    if not (text.isascii() and text.replace(".", "", 1).isdigit() and LEAST <= float(text) <= MOST):
        raise BadUsage(f'A limit is a number of seconds from {LEAST:g} to {MOST:g}, not "{text}".')
    return words[0], command, float(text)


def run_held(client: VminfodClient, asked: Asked, environ: Mapping[str, str]) -> int:
    """Run the command while the VM is held; gives the exit status."""
    uuid, command, limit = asked
    name = f"vminfo transaction {os.path.basename(command[0])}"  # no more words of it: they can be secrets
    request = environ.get("REQ_ID") or environ.get("req_id")
    transaction = client.transaction(
        uuid,
        command=name,
        req_id=request,
        limit=limit,
        wait=MOST,  # no other may last longer
        waiting=lambda asked: complain(waiting_text(client, uuid, asked)),
    )
    try:
        held = within(client, environ, [uuid])
        if held is not None:
            complain(f"{held}; nothing was run")
            return NOT_HELD
        transaction.open()
    except VminfodError as error:
        complain(f"{_why(error, uuid)}; nothing was run")
        return NOT_HELD
    try:
        status = run(command, {**environ, WITHIN: f"{environ.get(WITHIN, '')} {transaction.id}".strip()})
    except CannotRun as error:
        transaction.close()
        complain(str(error))
        return error.status
    try:
        transaction.commit()
    except TransactionOver as error:
        complain(f"not all that the command changed came as one event: {error}")
    except VminfodError as error:
        complain(f"the command has run, but vminfod did not say that VM {uuid} is published: {error}")
    return status


def _why(error: VminfodError, uuid: str) -> str:
    if isinstance(error, HTTPStatusError) and error.status_code == 404:
        return f"VM {uuid} not found"
    if isinstance(error, (NoTransactions, VmHeld)):
        return str(error)
    return f"cannot open a transaction on VM {uuid}: {error}"
