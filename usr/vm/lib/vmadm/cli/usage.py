# SPDX-License-Identifier: MPL-2.0
"""The words that vmadm understands, and its usage text."""

from __future__ import annotations

ALIASES = {"boot": "start", "destroy": "delete", "halt": "stop", "json": "get", "recv": "receive"}

# They change a VM or sit on it, and live in modules that reads need not import.
WRITES = frozenset(
    (
        "console",
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
        "sysrq",
        "update",
        "validate",
    )
)

_COMMANDS = """\
create [-f <file>]
create-snapshot <uuid> <snapshot>
console [--serial|--vnc] <uuid>
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
start <uuid> [option=value ...]
stop [-F] [-t <seconds>] <uuid>
sysrq <uuid> <nmi|screenshot>
update [-f <file>] <uuid>
    or update <uuid> property=value [property=value ...]
validate create [-f <file>]
validate update <brand> [-f <file>]
"""


# Command -> what it does, for `vmadm help COMMAND`; the manual page says more.
ABOUT = {
    "create": "Make a VM of a payload, a JSON object in the file or on standard input, and boot it if it is to.",
    "create-snapshot": "Take a snapshot of all that belongs to the VM, under this name.",
    "console": "Sit down at the VM's console. Ctrl-] leaves it; of a zone's, Ctrl-] and a dot at the start of a line. "
    "--serial: only of a hardware VM. --vnc: print where the VM's VNC display is.",
    "delete": "Stop the VM and destroy it with its data; its snapshots and disks go, too.",
    "delete-snapshot": "Destroy that snapshot.",
    "events": "Print what changes, of all VMs or of one, until Ctrl-C. -j: as JSON, -f: whole dates and names, "
    "-r: also the first event.",
    "get": "Print the VM object as JSON.",
    "help": "Print the commands, or what one of them does.",
    "info": "Print what the hypervisor says of a running VM, as JSON; all of it without types.",
    "install": "Finish a VM whose datasets were received by hand: it is then like any other.",
    "kill": "Send a signal, SIGTERM without -s, to the VM's first process.",
    "list": "Print a table of VMs, of those that meet all conditions. -o: the columns, -s: what it is sorted by "
    "(-field: downwards), -p: columns parted by colons, -H: without the header. field=~x is a regular expression.",
    "lookup": "Print the uuids of the VMs that meet all conditions. -j: the VM objects as JSON, -o: only these "
    "properties of them, -1: it is an error if there is not just one.",
    "reboot": "Stop the VM and start it. -F: at once, without asking its processes to end.",
    "receive": "Take in a VM that `vmadm send` wrote, from the file or standard input; or its JSON object, whose "
    "datasets are then received by hand.",
    "reprovision": "Put the VM on another image: its root dataset is replaced, all else stays. The payload has the "
    "image_uuid.",
    "rollback-snapshot": "Set the VM back to that snapshot: it is stopped, what came later is gone, and it is booted "
    "again.",
    "send": "Write the VM with all its data to standard output, for `vmadm receive` on another node. It is stopped.",
    "start": "Boot the VM. A kvm VM takes boot options, for this time only: order=cd,once=d, what it boots from and in "
    "which order; disk=path,model and cdrom=path,model, further drives.",
    "stop": "Shut the VM down. -F: at once; -t: how many seconds it has before it is halted.",
    "sysrq": "Send an NMI to a hardware VM (nmi), or have a kvm VM's screen written to /tmp/vm.ppm in its zone "
    "(screenshot).",
    "update": "Change properties of the VM: a payload in the file or on standard input, or pairs behind the uuid.",
    "validate": "Say what is wrong with a payload, without making or changing anything.",
}


def help_text(program: str, word: str) -> str:
    """What `vmadm help WORD` prints; "" for a word that is no command."""
    command = ALIASES.get(word, word)
    if command not in ABOUT:
        return ""
    usages = [line.strip().removeprefix("or ") for line in _COMMANDS.splitlines()]
    fitting = [f"  {program} {usage}" for usage in usages if usage.split()[0] == command] or [f"  {program} {command}"]
    others = [other for other, name in ALIASES.items() if name == command]
    also = f"\nAnother name of it: {', '.join(others)}.\n" if others else ""
    return "Usage:\n" + "\n".join(fitting) + f"\n\n{_wrapped(ABOUT[command])}\n{also}"


def _wrapped(text: str) -> str:
    """In lines of at most 78 characters. (textwrap would cost each command its import.)"""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) > 77:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


def usage_text(program: str) -> str:
    return f"Usage: {program} <command> [options]\n\n{_COMMANDS}\nThe manual page vmadm(8) explains each of them.\n"
