# SPDX-License-Identifier: MPL-2.0
"""A compute node written by hand: a root folder with a few files and three fake tools, for tests of what a load yields.

A test states what matters to it and gets dull defaults for the rest: one pool `zones`, a `joyent` zone that runs, its
root dataset, a sysinfo file. Nothing here knows how the loader works, and nothing is clever: the tools `zoneadm`, `zfs`
and `kstat` answer from the text and rows that the test gave, write down how they were called, and fail when told to.
They are processes, as on a node; the answers are given here (tool_server.py).

Always: files are in place when a method returns; each call of a tool is one of `calls()`; the answer of `zfs`
        follows types, columns, depth and parents as the platform does (docs/platform.md, "zfs list"), in the order in
        which the rows were given.
Not here: events, writing commands, a population. That is the mock compute node's work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Optional, Union
from xml.sax.saxutils import quoteattr

from support import tool_server
from support.tool_server import Answer

U = "0f3d2c1b-6a58-4c97-9e02-7b6a5d4c3e2f"
SERVER = "44454c4c-3300-1052-8050-b7c04f4d4232"
UNLIMITED = "18446744073709551615"
CREATED = 1767225600  # 2026-01-01T00:00:00Z, in seconds
CHANGED = 1773403317  # 2026-03-13T12:01:57Z, in seconds: every file's mtime unless a test gives one
DOCTYPE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE zone PUBLIC "-//Sun Microsystems Inc//DTD Zones//EN" '
    '"file:///usr/share/lib/xml/dtd/zonecfg.dtd.1">\n'
)
# The 17 columns of a whole load (docs/platform.md, "zfs list").
COLUMNS = [
    "compression",
    "creation",
    "filesystem_limit",
    "mountpoint",
    "name",
    "quota",
    "recsize",
    "refquota",
    "refreservation",
    "snapshot_limit",
    "type",
    "usedbysnapshots",
    "userrefs",
    "volblocksize",
    "volsize",
    "written",
    "zoned",
]


class HandmadeNode:
    """A node under `root`; an empty folder becomes one with the pool `zones`, the global zone and a sysinfo file."""

    def __init__(self, root: Path) -> None:
        self.root = root / "node"
        self._rows: list[dict[str, str]] = []
        self._zones: list[str] = []
        self._statistics: list[str] = []
        self._faults: dict[str, dict[str, Any]] = {}
        self._calls: list[dict[str, Any]] = []
        for folder in ("etc/zones", "tmp"):
            (self.root / folder).mkdir(parents=True)
        tools = {"zoneadm": ("sbin", self._zoneadm), "zfs": ("sbin", self._zfs), "kstat": ("bin", self._kstat)}
        for tool, (folder, answer) in tools.items():
            tool_server.shared().install(self.root, tool, f"usr/{folder}/{tool}", partial(self._run, tool, answer))
        self.sysinfo({"UUID": SERVER, "Live Image": "20260312T000000Z"})
        self.file("etc/zones/index", "global:installed:/\n")  # of the global zone alone; a test names others
        self.zone_line("0:global:running:/::liveimg:shared:0")
        self.stats("global", 0, boot_time=CREATED, init_pid=1, init_restarts=0)
        self.dataset("zones")

    # -- files

    def file(self, path: str, content: Union[str, bytes], mtime: Optional[float] = CHANGED) -> Path:
        """Write a file under the root (folders are made); `mtime` in seconds."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        if mtime is not None:
            os.utime(target, (mtime, mtime))
        return target

    def unreadable(self, path: str) -> None:
        """Put a folder in the file's place: reading it is EISDIR, for root too."""
        target = self.root / path.lstrip("/")
        target.unlink(missing_ok=True)
        target.mkdir(parents=True)

    def loop(self, path: str) -> None:
        """Put a symbolic link to itself in the file's place: opening it is ELOOP."""
        target = self.root / path.lstrip("/")
        target.unlink(missing_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(target)

    def sysinfo(self, content: Any) -> None:
        """A dict as JSON, text as it is, None for no file."""
        if content is None:
            (self.root / "tmp/.sysinfo.json").unlink()
        else:
            self.file("tmp/.sysinfo.json", content if isinstance(content, (str, bytes)) else json.dumps(content))

    def config(
        self, name: str, content: Union[str, bytes], zonepath: str = "/zones/" + U, mtime: float = CHANGED
    ) -> None:
        """One of metadata.json, routes.json, tags.json, under ZONEPATH/config."""
        self.file(f"{zonepath}/config/{name}", content, mtime)

    def last_exited(self, text: Union[str, bytes], zonepath: str = "/zones/" + U, mtime: float = CHANGED) -> None:
        self.file(zonepath + "/lastexited", text, mtime)

    # -- zones

    def zone(
        self,
        uuid: str = U,
        *,
        name: Optional[str] = None,
        brand: str = "joyent",
        state: str = "running",
        zonepath: Optional[str] = None,
        zoneid: Optional[str] = None,
        zonedid: str = "41",
        attrs: Optional[dict[str, str]] = None,
        inner: str = "",
        top: Optional[dict[str, str]] = None,
        xml: Union[str, bytes, None] = "",
        root_dataset: Optional[dict[str, Any]] = None,
        listed: bool = True,
    ) -> str:
        """A VM. `attrs` are <attr> elements, `inner` is raw XML inside <zone>, `top` adds attributes to <zone> itself.
        `xml` is the whole text in place of those, None for no file. `root_dataset` are columns of the root dataset,
        `listed=False` leaves the dataset out. Gives the zone's name."""
        name = uuid if name is None else name
        zonepath = "/zones/" + name if zonepath is None else zonepath
        if zoneid is None:
            zoneid = "7" if state in ("running", "ready", "shutting_down", "down", "mounted") else "-"
        self.zone_line(":".join([zoneid, name, state, zonepath, uuid, brand, "excl", zonedid]))
        if xml is not None:
            text = xml or zone_xml(name, brand, zonepath, attrs=attrs, inner=inner, top=top)
            self.file(f"etc/zones/{name}.xml", text)
        if listed:
            self.dataset(zonepath.lstrip("/"), **(root_dataset or {}))
        return name

    def zone_line(self, line: str) -> None:
        """One line of `zoneadm list -p`, as it is."""
        self._zones.append(line)

    def stats(self, zonename: str, instance: int = 7, **stats: Any) -> None:
        """Zone statistics as `kstat -p` prints them; the name part is cut to 30 characters, as in the kernel."""
        lines = [
            f"zones:{instance}:{zonename[:30]}:{stat}\t{value}\n"
            for stat, value in sorted({"class": "zone_misc", "zonename": zonename, **stats}.items())
        ]
        self.kstat_text("".join(lines))

    def kstat_text(self, text: str) -> None:
        """More output of kstat, as it is."""
        self._statistics.append(text)

    # -- datasets

    def dataset(self, name: str, **columns: Any) -> None:
        """A filesystem."""
        self.row(
            {
                "compression": "off",
                "creation": CREATED,
                "filesystem_limit": UNLIMITED,
                "mountpoint": "/" + name,
                "quota": 0,
                "recsize": 131072,
                "refquota": 0,
                "refreservation": 0,
                "snapshot_limit": UNLIMITED,
                "usedbysnapshots": 0,
                "written": 163840,
                "zoned": "off",
                "type": "filesystem",
                **columns,
                "name": name,
            }
        )

    def volume(self, name: str, volsize: Any, **columns: Any) -> None:
        """A zvol; `volsize` in bytes."""
        self.row(
            {
                "compression": "off",
                "creation": CREATED,
                "refreservation": 0,
                "snapshot_limit": UNLIMITED,
                "usedbysnapshots": 0,
                "volblocksize": 8192,
                "written": 12288,
                "volsize": volsize,
                "type": "volume",
                **columns,
                "name": name,
            }
        )

    def snapshot(self, name: str, **columns: Any) -> None:
        """A snapshot, DATASET@SNAP."""
        self.row({"creation": CREATED, "userrefs": 0, "written": 0, "type": "snapshot", **columns, "name": name})

    def row(self, columns: dict[str, Any]) -> None:
        """A row of any sort; a column that is not given prints as `-`."""
        self._rows.append({column: str(columns.get(column, "-")) for column in COLUMNS})

    # -- faults, and what was run

    def fault(
        self,
        tool: str,
        *,
        exit: Optional[int] = None,
        stderr: Optional[str] = None,
        stdout: Union[str, bytes, None] = None,
        signal: Optional[int] = None,
        cut: int = 0,
    ) -> None:
        """From now on the tool ends so; `stdout` replaces its output, `cut` takes bytes off the end of it."""
        given = {"exit": exit, "stderr": stderr, "stdout": stdout, "signal": signal, "cut": cut}
        self._faults[tool] = {name: value for name, value in given.items() if value is not None}

    def calls(self, tool: Optional[str] = None) -> list[dict[str, Any]]:
        """Each run of a tool so far: tool, args."""
        return [call for call in list(self._calls) if tool is None or call["tool"] == tool]

    def forget_calls(self) -> None:
        self._calls.clear()

    # -- what the tools answer

    def _run(self, tool: str, answer: Callable[[list[str]], Answer], words: list[str]) -> Answer:
        """The answer, or what the fault says instead."""
        self._calls.append({"tool": tool, "args": words})
        fault = self._faults.get(tool, {})
        right = answer(words)
        out = _bytes(fault.get("stdout", right.stdout))
        return Answer(
            stdout=out[: len(out) - fault.get("cut", 0)],
            stderr=_bytes(fault.get("stderr", right.stderr)),
            status=fault.get("exit", right.status),
            signal=fault.get("signal"),
        )

    def _zoneadm(self, words: list[str]) -> Answer:
        lines = [line for text in self._zones for line in text.split("\n") if line]
        if words == ["list", "-p", "-c"]:
            return Answer("".join(line + "\n" for line in lines).encode())
        if len(words) == 4 and words[0] == "-z" and words[2:] == ["list", "-p"]:
            key, uuid = words[1], None
        elif len(words) == 6 and words[0] == "-z" and words[2] == "-u" and words[4:] == ["list", "-p"]:
            key, uuid = words[1], words[3]
        else:
            return Answer(stderr=b"zoneadm: usage\n", status=2)
        found = [line for line in lines if uuid and _field(line, 4) == uuid]
        found = found or [line for line in lines if _field(line, 1) == key]
        if not found:
            return Answer(stderr=f"zoneadm: {key}: No such zone configured\n".encode(), status=1)
        return Answer((found[0] + "\n").encode())

    def _zfs(self, words: list[str]) -> Answer:
        if words[:3] != ["list", "-H", "-p"] or not {"-t", "-o", "-d"} <= set(words):
            return Answer(stderr=b"usage: zfs list\n", status=2)
        types, fields, depth = (words[words.index(option) + 1] for option in ("-t", "-o", "-d"))
        parents = words[9:]
        absent = [parent for parent in parents if not any(row["name"] == parent for row in self._rows)]
        out = []
        for row in self._rows:
            tops = parents or [row["name"].partition("@")[0].split("/")[0]]
            levels = [_levels_below(row["name"], top) for top in tops]
            if row["type"] in types.split(",") and any(level is not None and level <= int(depth) for level in levels):
                out.append("\t".join(row[field] for field in fields.split(",")) + "\n")
        err = "".join(f"cannot open '{parent}': dataset does not exist\n" for parent in absent)
        return Answer("".join(out).encode("utf-8", "surrogateescape"), err.encode(), 1 if absent else 0)

    def _kstat(self, words: list[str]) -> Answer:
        return Answer("".join(self._statistics).encode())

    # -- loading

    def loader(self) -> Any:
        from support.loading import Loads  # late: the node itself needs nothing of the product

        return Loads(str(self.root))

    def vm(self, key: str = U) -> dict[str, Any]:
        """The VM object of a single load, as a client that parses the JSON sees it. Raises what the loader raises."""
        return as_json(self.loader().load(key))

    def vms(self) -> dict[str, Any]:
        """zone name -> VM object of a full load in which nothing may go wrong."""
        loaded = self.loader().load_all()
        assert {name: str(error) for name, error in loaded.errors.items()} == {}
        return as_json(loaded.vms)


def _bytes(text: Union[str, bytes]) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _field(line: str, number: int) -> str:
    """A field of a line of zoneadm; empty if it has fewer."""
    return (line.split(":") + [""] * 8)[number]


def _levels_below(name: str, parent: str) -> Optional[int]:
    """Levels from parent to name; None if it is not under it. A snapshot is one deeper than its dataset; it can be a
    parent too, with nothing below it."""
    if "@" in parent:
        return 0 if name == parent else None
    dataset, at, _ = name.partition("@")
    if dataset != parent and not dataset.startswith(parent + "/"):
        return None
    return dataset.count("/") - parent.count("/") + (1 if at else 0)


def zone_xml(
    name: str,
    brand: str = "joyent",
    zonepath: str = "",
    *,
    attrs: Optional[dict[str, str]] = None,
    inner: str = "",
    top: Optional[dict[str, str]] = None,
) -> str:
    """The text of a zone configuration."""
    head = {
        "name": name,
        "zonepath": zonepath or "/zones/" + name,
        "autoboot": "true",
        "brand": brand,
        "ip-type": "exclusive",
        "limitpriv": "default",
        "debugid": "41",
        **(top or {}),
    }
    lines = [attr(key, value) for key, value in (attrs or {}).items()]
    return "{}<zone {}>\n{}{}\n</zone>\n".format(
        DOCTYPE, " ".join(f"{k}={quote(v)}" for k, v in head.items()), "".join(lines), inner
    )


def attr(name: str, value: str) -> str:
    return f'  <attr name="{name}" type="string" value={quote(value)}/>\n'


def rctl(name: str, limit: str, action: str = "deny", priv: str = "privileged") -> str:
    return f'<rctl name="{name}"><rctl-value priv="{priv}" limit="{limit}" action="{action}"/></rctl>\n'


def net_attr(name: str, value: str) -> str:
    return f'<net-attr name="{name}" value={quote(value)}/>'


def device(match: str, **net_attrs: str) -> str:
    """A <device>; `_` in a name stands for `-`."""
    inner = "".join(net_attr(name.replace("_", "-"), value) for name, value in net_attrs.items())
    return f"<device match={quote(match)}>{inner}</device>\n"


def nic(physical: str, attributes: str = "", **net_attrs: str) -> str:
    """A <network>; `attributes` is raw text for more attributes of the element."""
    inner = "".join(net_attr(name, value) for name, value in net_attrs.items())
    return f"<network physical={quote(physical)} {attributes}>{inner}</network>\n"


def quote(text: str) -> str:
    """An XML attribute value with its quotes; line breaks and tabs survive as character references."""
    return quoteattr(text, {"\n": "&#10;", "\t": "&#9;", "\r": "&#13;"})


def uuid(n: int) -> str:
    """The n-th of a row of UUIDs."""
    return f"5b0e7ae8-9c1a-4b7e-8f63-{n:012x}"


def as_json(value: Any) -> Any:
    """What is left after a trip through JSON text; NaN and infinities are no JSON and fail here."""
    return json.loads(json.dumps(value, allow_nan=False))


def canonical(value: Any) -> str:
    """JSON text with sorted keys, to compare with types: 10240 is not 10240.0, true is not 1."""
    return json.dumps(value, sort_keys=True, allow_nan=False, indent=1)
