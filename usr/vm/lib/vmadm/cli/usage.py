# SPDX-License-Identifier: MPL-2.0
"""The words that vmadm understands, and its usage text."""

from __future__ import annotations

ALIASES = {"boot": "start", "destroy": "delete", "halt": "stop", "json": "get", "recv": "receive"}

# They change a VM, and live in modules that reads need not import.
WRITES = frozenset(
    (
        "create",
        "create-snapshot",
        "delete",
        "delete-snapshot",
        "install",
        "kill",
        "reboot",
        "receive",
        "reprovision",
        "rollback-snapshot",
        "send",
        "start",
        "stop",
        "update",
        "validate",
    )
)

# Part of vmadm's interface, but out of reach: not in the usage text, and distinguished from words that are wrong.
OUT_OF_REACH = frozenset(("console", "sysrq"))

_COMMANDS = """\
create [-f <file>]
create-snapshot <uuid> <snapshot>
delete <uuid>
delete-snapshot <uuid> <snapshot>
events [-fjr] [uuid]
get <uuid>
info <uuid> [type,...]
install <uuid>
kill [-s <signal>|-<signal>] <uuid>
list [-p] [-H] [-o field,...] [-s field,...] [field=value ...]
lookup [-j] [-1] [-o field,...] [field=value ...]
reboot [-F] <uuid>
receive [-f <file>]
reprovision [-f <file>] <uuid>
rollback-snapshot <uuid> <snapshot>
send <uuid> [target]
start <uuid>
stop [-F] [-t <seconds>] <uuid>
update [-f <file>] <uuid>
    or update <uuid> property=value [property=value ...]
validate create [-f <file>]
validate update <brand> [-f <file>]
"""


def usage_text(program: str) -> str:
    return f"Usage: {program} <command> [options]\n\n{_COMMANDS}\nThe manual page vmadm(8) explains each of them.\n"
