# SPDX-License-Identifier: MPL-2.0
"""`vmadm events`: follow all VMs, or one (docs/vmadm.md).

Agents run `vmadm events -rj [uuid]` and treat anything on stderr as fatal: nothing is said there but the one line with
which it ends, and, on a terminal, that the daemon does not answer."""

from __future__ import annotations

import gc

from vmadm.cli.cmdline import is_uuid, parsed_words
from vmadm.cli.optiontable import OPTIONS
from vmadm.errors import CommandFailed
from vminfod.cli.eventtext import event_text, json_text, ready_text
from vminfod.cli.stdio import end_with_reader, put, say_waiting_to_people
from vminfod.clients.address import address_from_environment, read_limit
from vminfod.clients.connection import READY_TIMEOUT
from vminfod.clients.eventfeed import EventFeed
from vminfod.clients.eventlines import vms_by_zonename
from vminfod.clients.identity import Identity
from vminfod.clients.plainjson import parsed_as_spelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn, Optional

    from vminfod.clients.clientlog import Logger


def follow(words: list[str], environ: Mapping[str, str], log: Logger) -> NoReturn:
    """Print events for ever. Raises CommandFailed for an unknown VM, BadAddress, VminfodError when the stream ends."""
    options, left = parsed_words(words, OPTIONS["events"])
    as_json, full, with_ready = "j" in options, "f" in options, "r" in options
    uuid = left[0] if left and is_uuid(left[0]) else None  # an ill-formed one means all VMs, as it always did
    gc.enable()  # this command lives long
    end_with_reader()
    with_vms = uuid is not None or (as_json and with_ready)  # the snapshot only where it is needed
    query = "" if with_vms else "?vms=false"
    host, port, socket = address_from_environment(environ)
    limit = read_limit(environ, READY_TIMEOUT) or None
    identity = Identity(client_name(uuid, environ), host, port, log, socket)
    waiting = lambda: say_waiting_to_people("/events")  # noqa: E731
    feed = EventFeed(identity, query=query, ready_timeout=limit, parse=parsed_as_spelled, waiting=waiting)
    ready = feed.ready()
    zonename = None
    if with_vms:
        vms = ready["vms"] = vms_by_zonename(ready.get("vms"), parsed_as_spelled)
        zonename = _zonename_of(uuid, vms) if uuid else None
    if with_ready:
        put(json_text(ready) if as_json else ready_text(ready, full=full))
    while True:
        event = feed.next()
        if zonename is None or event.get("zonename") == zonename:
            put(json_text(event) if as_json else event_text(event, full=full))


def client_name(uuid: Optional[str], environ: Mapping[str, str]) -> str:
    """What an operator sees in `vminfo status`."""
    request = environ.get("REQ_ID") or environ.get("req_id")
    name = "VM.js events"
    if uuid:
        name += f" (zonename: {uuid})"
    if request:
        name += f" - (req_id: {request})"
    name += " - vmadm CLI"
    if environ.get("VMADM_IDENT"):
        name += f" - {environ['VMADM_IDENT']}"
    return name


def _zonename_of(uuid: str, vms: Mapping[str, Mapping[str, object]]) -> str:
    """The zone of that VM, whose name need not be its uuid. Raises CommandFailed."""
    if uuid in vms:
        return uuid
    for zonename, vm in vms.items():
        if vm.get("uuid") == uuid:
            return zonename
    raise CommandFailed(f"VM {uuid} not found")
