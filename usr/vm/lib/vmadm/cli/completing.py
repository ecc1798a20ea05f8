# SPDX-License-Identifier: MPL-2.0
"""`vmadm __complete WORD...`: what the word that is being typed, the last one, can become. The shells' completions
(completion/) ask it and do nothing by themselves.

Always: one candidate a line, with a tab and a few words about it where there are some; FILES for any file's name;
        nothing at all, and no error, where nothing is known: a shell that waits for Tab must not be written into;
        nor anything that is no line of printable text; what of a line means something to a shell is for it to quote;
        a VM is found by the beginning of its uuid or of its alias, and its uuid is what is put in."""

from __future__ import annotations

from vmadm.cli.optiontable import OPTIONS
from vminfod.cli.stdio import escaped
from vminfod.clients.failures import VminfodError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from vminfod.client import VminfodClient

FILES = ":files"

# Command -> what stands in the places after it: a VM, a snapshot of it, ... The last one stands in all that follow.
PLACES: Mapping[str, tuple[str, ...]] = {
    "create": (),
    "create-snapshot": ("vm",),
    "console": ("vm",),
    "delete": ("vm",),
    "delete-snapshot": ("vm", "snapshot"),
    "events": ("vm",),
    "get": ("vm",),
    "help": ("command",),
    "info": ("vm", "info"),
    "install": ("vm",),
    "kill": ("vm",),
    "list": ("filter",),
    "lookup": ("filter",),
    "reboot": ("vm",),
    "receive": (),
    "reprovision": ("vm",),
    "rollback-snapshot": ("vm", "snapshot"),
    "send": ("vm", "file"),
    "start": ("vm", "boot"),
    "stop": ("vm",),
    "sysrq": ("vm", "sysrq"),
    "update": ("vm", "property"),
    "validate": ("validate", "brand"),
}
SIGNALS = ("SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGSTOP", "SIGCONT", "SIGTERM", "SIGUSR1", "SIGUSR2")


def completed(client: VminfodClient, words: list[str]) -> str:
    """What is to be printed; `words` after `__complete`. Never raises for want of a daemon."""
    try:
        found = candidates(words, client.vms)
    except VminfodError:
        found = []
    found = [(word, about) for word, about in found if word.isprintable()]
    return "".join([f"{word}\t{escaped(about)}\n" if about else f"{word}\n" for word, about in found])


def candidates(words: list[str], vms: Callable[[dict[str, str]], list[dict[str, Any]]]) -> list[tuple[str, str]]:
    """(candidate, words about it). `vms(query)`: VM objects, as VminfodClient.vms()."""
    from vmadm.cli.usage import ALIASES

    *before, typed = words or [""]
    if not before:
        return _beginning(typed, [(name, "") for name in PLACES])
    command = ALIASES.get(before[0], before[0])
    if command not in PLACES:
        return []
    options = _options(command)
    if options.get(before[-1]):
        return _of_kind(options[before[-1]], typed, [], vms)
    if typed.startswith("-"):
        return _beginning(typed, [(option, "") for option in options])
    operands = _operands(before[1:], options)
    places = PLACES[command]
    if not places:
        return []
    return _of_kind(places[min(len(operands), len(places) - 1)], typed, operands, vms)


def _options(command: str) -> dict[str, str]:
    """An option as it is typed -> what its value is, "" for one that has none."""
    return {
        f"--{option.name}" if option.letter == option.name else f"-{option.off_letter or option.letter}": option.value
        for option in OPTIONS.get(command, ())
        if option.has_effect
    }


def _operands(words: list[str], options: Mapping[str, str]) -> list[str]:
    """Those of `words` that are neither an option nor its value."""
    operands = []
    takes = False
    for word in words:
        if takes:
            takes = False
        elif word in options:
            takes = options[word] != ""
        elif not word.startswith("-"):
            operands.append(word)
    return operands


def _of_kind(
    kind: str, typed: str, operands: list[str], vms: Callable[[dict[str, str]], list[dict[str, Any]]]
) -> list[tuple[str, str]]:
    if kind == "vm":
        return _vms(typed, vms({"fields": "uuid,alias,state"}))
    if kind == "file":
        return [(FILES, "")]
    if kind == "fields":
        return _fields(typed)
    if kind == "filter":
        return _filters(typed, vms)
    if kind == "property":
        return _properties(typed, operands, vms)
    if kind == "snapshot":
        found = vms({"fields": "uuid,snapshots", "uuid": operands[0]})
        return _beginning(typed, [(s["name"], s.get("created_at", "")) for vm in found for s in vm["snapshots"]])
    if kind == "info":
        from vmload import brands

        found = vms({"fields": "brand", "uuid": operands[0]})
        return _beginning(typed, [(each, "") for vm in found for each in brands.info_types(vm["brand"])])
    if kind == "brand":
        from vmload import brands

        is_update = bool(operands) and operands[0] == "update"
        return _beginning(typed, [(name, "") for name in sorted(brands.table()["brands"])] if is_update else [])
    fixed = {
        "command": tuple(PLACES),
        "signal": SIGNALS,
        "seconds": (),
        "boot": ("order=", "disk=", "cdrom="),
        "sysrq": ("nmi", "screenshot"),
        "validate": ("create", "update"),
    }
    return _beginning(typed, [(word, "") for word in fixed[kind]])


def _beginning(typed: str, words: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(word, about) for word, about in words if word.startswith(typed)]


def _vms(typed: str, vms: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [
        (vm["uuid"], f"{vm.get('alias', '-')}, {vm.get('state', '-')}")
        for vm in vms
        if vm["uuid"].startswith(typed) or str(vm.get("alias", "")).startswith(typed)
    ]


def _fields(typed: str) -> list[tuple[str, str]]:
    """After -o and -s: the last of the fields that are joined by commas."""
    from vmadm.cli.fields import COLUMNS

    done, comma, last = typed.rpartition(",")
    sign = "-" if last.startswith("-") else ""
    return [
        (f"{done}{comma}{sign}{name}", "")
        for name in COLUMNS
        if name.startswith(last.removeprefix("-")) and name not in done.split(",")
    ]


def _filters(typed: str, vms: Callable[[dict[str, str]], list[dict[str, Any]]]) -> list[tuple[str, str]]:
    """FIELD=, and then the values that VMs have there."""
    from vmadm.cli.fields import COLUMNS
    from vminfod.clients.vmfilter import as_text

    field, equals, begun = typed.partition("=")
    if not equals:
        return [(f"{name}=", "") for name in COLUMNS if name.startswith(typed)]
    values = sorted({as_text(vm[field]) for vm in vms({"fields": field}) if field in vm})
    return [(f"{field}={value}", "") for value in values if value.startswith(begun)]


def _properties(
    typed: str, operands: list[str], vms: Callable[[dict[str, str]], list[dict[str, Any]]]
) -> list[tuple[str, str]]:
    """PROPERTY= that an update of this VM may have, and for true and false their other value."""
    from vmload import properties

    found = vms({"uuid": operands[0]})
    if not found:
        return []
    brand = str(found[0].get("brand"))
    allowed = [
        name
        for name, row in properties.table().items()
        if "." not in name and "update" in ((row["payload"] or {}).get("allowed") or {}).get(brand, ())
        if row["payload"]["type"] not in ("object-array", "object", "flat-object")
    ]
    name, equals, begun = typed.partition("=")
    if not equals:
        return [(f"{each}=", str(found[0].get(each, ""))) for each in allowed if each.startswith(typed)]
    if name in allowed and properties.table()[name]["payload"]["type"] == "boolean":
        return [(f"{name}={value}", "") for value in ("true", "false") if value.startswith(begun)]
    now = found[0].get(name)
    return [(f"{name}={now}", "as it is")] if name in allowed and str(now or "").startswith(begun) and now else []
