# SPDX-License-Identifier: MPL-2.0
"""`vmadm list`, `lookup`, `get` and `info`: ask vminfod, then format (docs/vmadm.md).

Always: everything that can be wrong with the words is said before vminfod is asked, except for the names of columns,
which the original checked afterwards: scripts see the same first error as before."""

from __future__ import annotations

import os

from vmadm.cli.cmdline import parsed_words, uuid_operand
from vmadm.cli.optiontable import OPTIONS
from vmadm.errors import CommandFailed
from vminfod.cli.stdio import WHY_UNREADABLE, on_terminal, put, say_incomplete
from vminfod.client import HTTPStatusError, ParseError, vm_path
from vminfod.clients.httpwire import percent_encoded
from vminfod.clients.plainjson import parsed_as_spelled, pretty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from vminfod.client import VminfodClient

CLIENT_NAME = "vmload/index"  # what the reads of vmadm have always called themselves in User-Agent


def list_vms(client: VminfodClient, words: list[str]) -> None:
    """`list [-p] [-H] [-o F,..] [-s F,..] [k=v ...]`. Raises CommandFailed, VminfodError."""
    from vmadm.cli.listing import DEFAULT_ORDER, DEFAULT_SORT, check_columns, check_starred, table
    from vmadm.cli.matching import checked_filters, found, operands, question_for
    from vminfod.cli import colours

    options, left = parsed_words(words, OPTIONS["list"])
    order = options.get("o", DEFAULT_ORDER).split(",")
    sort = options.get("s", DEFAULT_SORT).split(",")
    wanted = operands(left)
    filters = checked_filters(wanted, kind="filter")
    check_starred(order, sort)
    vms, unreadable = _vms(client, question_for(wanted, order))
    check_columns(order, sort)
    parsable = "p" in options
    header = options.get("h", "false" if parsable else "true") == "true"
    shown = on_terminal()
    of_state = colours.OF_STATE if shown and not parsable and colours.wanted(os.environ) else {}
    lines = table(
        found(vms, filters), order=order, sort=sort, parsable=parsable, header=header, shown=shown, of_state=of_state
    )
    put(lines, is_escaped=shown)
    say_incomplete(unreadable)


def lookup(client: VminfodClient, words: list[str]) -> None:
    """`lookup [-j] [-1] [-o F,..] [k=v ...]`. Raises CommandFailed, VminfodError."""
    from vmadm.cli.lookup import found_text
    from vmadm.cli.matching import checked_filters, found, operands, question_for

    options, left = parsed_words(words, OPTIONS["lookup"])
    if "o" in options and "j" not in options:
        raise CommandFailed("Cannot specify -o without -j")
    wanted = operands(left)
    filters = checked_filters(wanted, kind="lookup")
    keys = options["o"].split(",") if "o" in options else None
    listed, unreadable = _vms(client, question_for(wanted, keys if "j" in options else ["uuid"]))
    vms = found(listed, filters)
    try:
        put(found_text(vms, as_json="j" in options, keys=keys, unique="1" in options))
    finally:  # also where none was found: it may be among those
        say_incomplete(unreadable)


def get(client: VminfodClient, words: list[str], command: str) -> None:
    """`get <uuid>`, `command` as typed. Raises BadUsage, CommandFailed, VminfodError."""
    _, left = parsed_words(words, ())
    put(pretty(_vm(client, uuid_operand(left, command))) + "\n")


def info(client: VminfodClient, words: list[str], limit: float, root: str) -> None:
    """`info <uuid> [type,...]` of a VM of the node at `root`; vmadmd may take `limit` seconds, too, 0 for no limit.

    Raises BadUsage, CommandFailed, VminfodError."""
    from vmadm.cli.info import info_of, vmadmd_of

    _, left = parsed_words(words, ())
    vm = _vm(client, uuid_operand(left, "info"))
    vmadmd = vmadmd_of(root, CLIENT_NAME, limit)
    put(pretty(info_of(vm, left[1:], vmadmd)) + "\n")


def _vm(client: VminfodClient, uuid: str) -> dict[str, Any]:
    """vminfod knows VMs by zonename, and a zone's name need not be its uuid (OS-6453). Raises CommandFailed."""
    try:
        named: dict[str, Any] = client.get(vm_path(uuid), parse=parsed_as_spelled)
        return named
    except HTTPStatusError as error:
        if error.code != 404:
            raise
    vms, unreadable = _vms(client, f"?uuid={percent_encoded(uuid)}")
    for vm in vms:
        if vm.get("uuid") == uuid:
            return vm
    if uuid in unreadable:
        raise CommandFailed(f"VM {uuid} exists but cannot be read: {WHY_UNREADABLE}")
    raise CommandFailed(f"zoneadm: {uuid}: No such zone configured")


def _vms(client: VminfodClient, query: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The VMs that `query` asks for, or more, and the names of zones that the list lacks. Raises CommandFailed,
    VminfodError."""
    try:
        return client.vms_and_unreadable(query, parse=parsed_as_spelled)
    except ParseError as error:
        raise CommandFailed(f"vminfod did not answer with a list of VMs: {error}") from error
