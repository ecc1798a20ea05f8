# SPDX-License-Identifier: MPL-2.0
"""The zfs properties that the mock node knows: a row each, and the rules for reading and showing values.

Always: a value is kept the way `zfs list -p` shows it, an int for sizes and counts, text for the rest.
The number that a choice has in history events (`compression=15`) is the kernel's, see the recorded events of OpenZFS.
Not here: which dataset has which value, and inheritance (datasets.py)."""

import re
import time
from dataclasses import dataclass, field
from typing import Any, Optional, Union

Value = Union[int, str]

UNLIMITED = 18446744073709551615  # a filesystem_limit or snapshot_limit that is not set, as illumos prints it with -p
SWITCH = {"off": 0, "on": 1}
COMPRESSION = {
    "on": 1,
    "off": 2,
    "lzjb": 3,
    "zle": 14,
    "lz4": 15,
    "gzip": 10,
    "zstd": 16,
    **{f"gzip-{level}": 4 + level for level in range(1, 10)},
}
SUFFIXES = "BKMGTPE"


class BadValue(Exception):
    """A property's text that cannot be taken; the message is zfs's, without the part that names the dataset."""


@dataclass(frozen=True)
class Property:
    """`on` holds the letters of the kinds that have it: f(ilesystem), v(olume), s(napshot)."""

    name: str
    kind: str  # size, quota, limit, count, choice, text, date
    on: str
    default: Value = "-"
    inherits: bool = False
    readonly: bool = False
    choices: dict[str, int] = field(default_factory=dict)
    header: str = ""

    @property
    def heading(self) -> str:
        return self.header or self.name.upper()


def _table() -> dict[str, Property]:
    rows = [
        Property("name", "text", "fvs", readonly=True),
        Property("type", "text", "fvs", readonly=True),
        Property("creation", "date", "fvs", readonly=True),
        Property("createtxg", "count", "fvs", readonly=True),
        Property("guid", "count", "fvs", readonly=True),
        Property("used", "size", "fvs", readonly=True),
        Property("available", "size", "fv", readonly=True, header="AVAIL"),
        Property("referenced", "size", "fvs", readonly=True, header="REFER"),
        Property("written", "size", "fvs", readonly=True),
        Property("usedbysnapshots", "size", "fv", readonly=True, header="USEDSNAP"),
        Property("usedbydataset", "size", "fv", readonly=True, header="USEDDS"),
        Property("usedbychildren", "size", "fv", readonly=True, header="USEDCHILD"),
        Property("usedbyrefreservation", "size", "fv", readonly=True, header="USEDREFRESERV"),
        Property("userrefs", "count", "s", readonly=True),
        Property("origin", "text", "fv", readonly=True),
        Property("clones", "text", "s", readonly=True),
        Property("defer_destroy", "text", "s", readonly=True),
        Property("mounted", "text", "f", readonly=True),
        Property("compressratio", "text", "fvs", "1.00x", readonly=True, header="RATIO"),
        Property("volblocksize", "size", "v", 8192, readonly=True, header="VOLBLOCK"),
        Property("volsize", "size", "vs", 0),
        Property("quota", "quota", "f", 0),
        Property("refquota", "quota", "f", 0),
        Property("reservation", "quota", "fv", 0, header="RESERV"),
        Property("refreservation", "quota", "fv", 0, header="REFRESERV"),
        Property("filesystem_limit", "limit", "f", UNLIMITED, header="FSLIMIT"),
        Property("snapshot_limit", "limit", "fv", UNLIMITED, header="SSLIMIT"),
        Property("recordsize", "size", "f", 131072, inherits=True, header="RECSIZE"),
        Property("compression", "choice", "fv", "off", inherits=True, choices=COMPRESSION, header="COMPRESS"),
        Property("mountpoint", "text", "f", inherits=True),
        Property("zoned", "choice", "f", "off", inherits=True, choices=SWITCH),
        Property("atime", "choice", "f", "on", inherits=True, choices=SWITCH),
        Property("devices", "choice", "f", "on", inherits=True, choices=SWITCH),
        Property("exec", "choice", "f", "on", inherits=True, choices=SWITCH),
        Property("setuid", "choice", "f", "on", inherits=True, choices=SWITCH),
        Property("readonly", "choice", "fv", "off", inherits=True, choices=SWITCH, header="RDONLY"),
        Property("canmount", "choice", "f", "on", choices={"off": 0, "on": 1, "noauto": 2}),
        Property(
            "sync", "choice", "fv", "standard", inherits=True, choices={"standard": 0, "always": 1, "disabled": 2}
        ),
        Property(
            "checksum",
            "choice",
            "fv",
            "on",
            inherits=True,
            choices={"on": 1, "off": 2, "fletcher2": 6, "fletcher4": 7, "sha256": 8},
        ),
        Property("copies", "count", "fv", 1, inherits=True),
        Property("logbias", "choice", "fv", "latency", inherits=True, choices={"latency": 0, "throughput": 1}),
        Property("snapdir", "choice", "f", "hidden", inherits=True, choices={"hidden": 0, "visible": 1}),
        Property("primarycache", "choice", "fv", "all", inherits=True, choices={"none": 0, "metadata": 1, "all": 2}),
        Property("sharenfs", "text", "f", "off", inherits=True),
    ]
    return {row.name: row for row in rows}


PROPERTIES = _table()
ALIASES = {
    "recsize": "recordsize",
    "refreserv": "refreservation",
    "reserv": "reservation",
    "refer": "referenced",
    "avail": "available",
    "volblock": "volblocksize",
    "compress": "compression",
    "usedsnap": "usedbysnapshots",
    "usedds": "usedbydataset",
    "usedchild": "usedbychildren",
    "usedrefreserv": "usedbyrefreservation",
    "rdonly": "readonly",
    "fslimit": "filesystem_limit",
    "sslimit": "snapshot_limit",
    "ratio": "compressratio",
}


def find(name: str) -> Optional[Property]:
    """The row of a property or alias; a user property (`module:name`) gets one made for it; None if there is none."""
    name = name.lower()
    if ":" in name:
        return Property(name, "text", "fvs", "-", inherits=True)
    return PROPERTIES.get(ALIASES.get(name, name))


def parse(prop: Property, text: str) -> Value:
    """The value that `text` sets. Raises BadValue with zfs's words."""
    if prop.kind == "choice":
        if text not in prop.choices:
            raise BadValue(f"'{prop.name}' must be one of '{' | '.join(prop.choices)}'")
        return text
    if prop.kind == "text":
        return text
    if text == "none" and prop.kind in ("quota", "limit"):
        return 0 if prop.kind == "quota" else UNLIMITED
    value = parse_size(text)
    if prop.name in ("recordsize", "volblocksize") and (value < 512 or value > 1 << 20 or value & (value - 1)):
        raise BadValue(f"'{prop.name}' must be power of 2 from 512B to 1M")
    return value


def parse_size(text: str) -> int:
    """Bytes of a size such as `10737418240`, `10g`, `1.5G` or `64MB`. Raises BadValue."""
    match = re.fullmatch(r"(\d+|\d*\.\d+)(?:([bkmgtpeBKMGTPE])(?:i?[bB])?)?", text)
    if match is None or text == "":
        raise BadValue(f"bad numeric value '{text}'")
    number, suffix = match.groups()
    shift = 10 * SUFFIXES.index(suffix.upper()) if suffix else 0
    return int(number) << shift if "." not in number else int(float(number) * (1 << shift))


def event_text(prop: Property, value: Value) -> str:
    """The value as history events have it: choices and unlimited limits as numbers."""
    return str(prop.choices[str(value)]) if prop.kind == "choice" and value in prop.choices else str(value)


def show(prop: Property, value: Any, parsable: bool) -> str:
    """The value as zfs list and get print it."""
    if value is None or value == "-":
        return "-"
    if parsable:
        return str(value)
    if prop.kind == "date":
        return time.strftime("%a %b %e %k:%M %Y", time.gmtime(value))
    if (prop.kind == "quota" and value == 0) or (prop.kind == "limit" and value == UNLIMITED):
        return "none"
    if prop.kind in ("size", "quota"):
        return human(value)
    return str(value)


def human(size: int) -> str:
    """A size in at most five characters: `0`, `512`, `128K`, `1.02M`."""
    index = 0
    while size >= 1 << (10 * (index + 1)) and index < len(SUFFIXES) - 1:
        index += 1
    if index == 0:
        return str(size)
    unit = 1 << (10 * index)
    if size % unit == 0:
        return f"{size // unit}{SUFFIXES[index]}"
    for digits in (2, 1, 0):
        text = f"{size / unit:.{digits}f}{SUFFIXES[index]}"
        if len(text) <= 5:
            return text
    return text
