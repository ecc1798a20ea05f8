# SPDX-License-Identifier: MPL-2.0
"""The recorded outcomes (test/vectors/vmadm/outcomes.jsonl), played with our vmadm and compared.

    PYTHONPATH=.:usr/vm/lib:test python -m support.outcome_vectors [REGEX]     how the cases of that name differ

A case is a VM (`base`, `before`), an operation on it and what is different afterwards, seen from outside: VM object,
zone XML, datasets, files. A `create` is told by how its VM differs from the one that `base` makes.
Always: what is expected comes from the recording alone; what differs each time (uuids, MACs, times) is a placeholder on
        both sides.
Quick, because commands need no process (direct_tools.py), cases that begin with the same VM follow each other on one
node, and a VM that a case left as it was serves the next one. Each node has a process for itself."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import sys
import tempfile
import threading
import time
import traceback
import uuid as uuids
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from mockcn import process
from support import direct_tools
from support.running_daemon import RunningDaemon
from vmadm import Vmadm, VmadmError, VmNotFound

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "vmadm"
NODES = 3  # at once: a case waits for boots and for the daemon about as long as it computes
PACE = {"install": 0.01, "boot": 0.01, "halt": 0.01, "shutdown": 0.01, "guest": 0.01}  # seconds

Case = dict[str, Any]
Seen = dict[str, dict[str, Any]]  # what was seen, by part and path

PARTS = ("vm_changes", "xml_attrs", "zfs", "files")
GONE = None  # in a recording, the value of what is not there any more


@dataclass(frozen=True)
class Difference:
    """What one case shows otherwise than recorded: a part and a path in it, or `error`, or `crash`."""

    part: str
    path: str
    recorded: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.part} {self.path}: recorded {_short(self.recorded)}, ours {_short(self.ours)}"


def outcomes() -> list[Case]:
    """The lines of outcomes.jsonl."""
    with open(FOLDER / "outcomes.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


# Placeholders.

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
MAC = re.compile(r"(?<![0-9a-f:])(?:[0-9a-f]{1,2}:){5}[0-9a-f]{1,2}(?![0-9a-f:])")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
VRRP = ("00:00:5e:00:01", "0:0:5e:0:1")  # MACs that follow from a number
NO_IMAGE = "00000000-0000"


class Words:
    """Puts a placeholder for each uuid, MAC and time that none of the `given` payloads has."""

    def __init__(self, uuid: str, *given: Any) -> None:
        self._uuid = uuid
        text = json.dumps(given)
        self._known = {*UUID.findall(text.lower()), *MAC.findall(text.lower()), *TIME.findall(text)}

    def text(self, text: str) -> str:
        text = text.replace(self._uuid, "<uuid>").replace(self._uuid.replace("-", ""), "<uuid32>")
        text = re.sub(r"<uuid32>(?:[0-9a-f]{32}|<uuid32>)", "<uuid32><hex32>", text)
        text = UUID.sub(lambda found: self._or(found[0], "<a-uuid>", found[0].startswith(NO_IMAGE)), text)
        text = MAC.sub(lambda found: self._or(found[0], "<a-mac>", self._is_known_mac(found[0])), text)
        return TIME.sub(lambda found: self._or(found[0], "<time>"), text)

    def _or(self, text: str, placeholder: str, fixed: bool = False) -> str:
        return text if fixed or text in self._known else placeholder

    def _is_known_mac(self, mac: str) -> bool:
        return mac.startswith(VRRP) or ":".join(part.zfill(2) for part in mac.split(":")) in self._known

    def any(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.any(each) for each in value]
        if isinstance(value, dict):
            return {self.text(key): self.any(each) for key, each in value.items()}
        return value


# What is seen of a VM.

OTHER_EACH_TIME = {
    "zoneid", "zonedid", "pid", "last_modified", "boot_timestamp", "exit_timestamp", "server_uuid", "datacenter_name",
    "headnode_id", "platform_buildstamp", "init_restarts", "transition_expire", "transition_to",
}  # fmt: skip
SNAPSHOT_FACTS = re.compile(r"snapshots\[.*\]\.(created_at|size)|transition\.expire")
NAMED_BY = {
    "nics": ("interface", "mac"),
    "disks": ("path",),
    "filesystems": ("target",),
    "pci_devices": ("path",),
    "snapshots": ("name",),
}
XML_NAMED_BY = ("physical", "match", "directory", "dir")
ZFS_PROPERTIES = (
    "quota", "reservation", "refreservation", "refquota", "volsize", "volblocksize", "compression", "recordsize",
    "filesystem_limit", "snapshot_limit", "copies",
)  # fmt: skip
POOLS = ("zones", "tank")
FILE_PART = 8000  # characters of a file that count


def _flat(value: Any, path: str, out: dict[str, Any]) -> None:
    """A VM object as paths: `nics[net0].ip`."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            _flat(each, f"{path}.{key}" if path else key, out)
    elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        names = NAMED_BY.get(path.rpartition(".")[2], ())
        for index, each in enumerate(value):
            label = next((str(each[name]) for name in names if name in each), str(index))
            _flat(each, f"{path}[{label}]", out)
    else:
        out[path] = value


def seen_vm(vm: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    _flat({key: value for key, value in vm.items() if key not in OTHER_EACH_TIME}, "", flat)
    return {key: value for key, value in flat.items() if not SNAPSHOT_FACTS.fullmatch(key)}


def seen_xml(path: str) -> dict[str, Any]:
    try:
        zone = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        return {}
    out: dict[str, Any] = {f"zone@{key}": value for key, value in zone.attrib.items() if key != "debugid"}
    for element in zone:
        name = element.get("name")
        if element.tag == "attr":
            value = element.get("value")
            if name == "transition":
                value = re.sub(r":\d{10,}:", ":<ms>:", value or "")
            if name != "create-timestamp":
                out[f"attr {name}"] = value
            continue
        if element.tag == "rctl":
            out[f"rctl {name}"] = [dict(sorted(each.attrib.items())) for each in element]
            continue
        label = next((element.get(key) for key in XML_NAMED_BY if element.get(key)), name or "")
        where = f"{element.tag}[{label}]"
        out.update({f"{where}@{key}": value for key, value in element.attrib.items()})
        for each in element:
            if each.get("value") is None:
                out[f"{where} {each.tag} {each.get('name')}"] = True
            else:
                out[f"{where} {each.get('name')}"] = each.get("value")
    return out


def seen_zfs(listing: str, uuid: str) -> dict[str, Any]:
    out = {}
    for line in listing.splitlines():
        name, kind, *values = line.split("\t")
        if uuid in name and kind == "snapshot":
            out[f"{name} type"] = kind
        elif uuid in name:
            shown = zip(ZFS_PROPERTIES, values, strict=True)
            out.update({f"{name} {prop}": value for prop, value in shown if value != "-"})
    return out


def seen_files(root: str, uuid: str) -> dict[str, Any]:
    out = {}
    for top in [f"{root}/{pool}/{uuid}" for pool in POOLS]:
        for folder in (f"{top}/config", f"{top}/root/etc"):
            for where, _, names in os.walk(folder):
                for path in [os.path.join(where, name) for name in names]:
                    try:
                        with open(path, encoding="utf-8", errors="replace") as file:
                            out[os.path.relpath(path, top)] = file.read(FILE_PART)
                    except OSError:
                        out[os.path.relpath(path, top)] = "<unreadable>"
    return out


def changes(before: Seen, after: Seen) -> Seen:
    """What is different, with the value afterwards; GONE for what is not there any more."""
    out = {}
    for part in PARTS:
        old, new = before[part], after[part]
        out[part] = {
            key: new.get(key)
            for key in sorted({*old, *new})
            if (key in old) != (key in new) or not same(old.get(key), new.get(key), part)
        }
    return out


def same(one: Any, two: Any, part: str) -> bool:
    """1 and true are not the same; files with the same JSON are."""
    if one == two and type(one) is type(two):
        return True
    if part == "files" and isinstance(one, str) and isinstance(two, str):
        try:
            return bool(json.loads(one) == json.loads(two))
        except ValueError:
            return one.rstrip("\n") == two.rstrip("\n")
    return False


# Playing.

NOTHING: Seen = {part: {} for part in PARTS}
BEFORE_DELETE = {"indestructible_zoneroot": False, "indestructible_delegated": False}


class BaseFailed(Exception):
    """The VM that the case begins with could not be made."""


class Stage:
    """One node on which cases are played, one after the other."""

    def __init__(self, root: str, port: int) -> None:
        self._root = root
        self._api = Vmadm(root=root, port=port)
        self._made: dict[str, Seen] = {}  # what creating a base makes, by the base
        self._left: Optional[tuple[str, str]] = None  # base and uuid of a VM that the case before left as it was

    def close(self) -> None:
        """Take away the VM that waits for another case."""
        if self._left is not None:
            _, uuid = self._left
            self._left = None
            self._purge(uuid)

    def play(self, case: Case) -> list[Difference]:
        """How the case differs from what is recorded."""
        try:
            error, moved = self._played(case)
        except BaseFailed as failed:
            return [Difference("base", "", None, str(failed))]
        except Exception as crash:  # noqa: BLE001 a traceback is what no case may end in
            where = traceback.extract_tb(crash.__traceback__)[-1]
            told = f"{type(crash).__name__}: {crash} at {os.path.basename(where.filename)}:{where.lineno}"
            return [Difference("crash", "", None, told)]
        return differences(case, error, moved)

    def _played(self, case: Case) -> tuple[Optional[str], Seen]:
        key = json.dumps(case["base"], sort_keys=True)
        before = case.get("before", [])
        may_share = case["op"] != "create" and not before
        if self._left is not None and not (may_share and self._left[0] == key):
            self.close()
        shared, uuid = self._left is not None, self._left[1] if self._left else str(uuids.uuid4())
        self._left = None
        words = Words(uuid, case["base"], before, case["payload"])
        untouched = False
        try:
            if case["op"] == "create":
                start = self._plain(case["base"])
            else:
                for step in [] if shared else [{"op": "create", "payload": case["base"]}, *before]:
                    failed = self._run(step["op"], uuid, step["payload"])
                    if failed is not None:
                        raise BaseFailed(failed)
                start = self._look(uuid, words)
            error = self._run(case["op"], uuid, case["payload"])
            after = self._look(uuid, words)
            failed_create = case["op"] == "create" and error is not None
            moved = changes(NOTHING if failed_create else start, after)
            untouched = may_share and not any(moved.values())
            return None if error is None else words.text(error), moved
        finally:
            if untouched:
                self._left = (key, uuid)
            else:
                self._purge(uuid)

    def _plain(self, base: Any) -> Seen:
        if base is None:
            return NOTHING
        key = json.dumps(base, sort_keys=True)
        if key not in self._made:
            uuid = str(uuids.uuid4())
            failed = self._run("create", uuid, base)
            if failed is not None:
                raise BaseFailed(failed)
            self._made[key] = self._look(uuid, Words(uuid, base))
            self._purge(uuid)
        return self._made[key]

    def _run(self, operation: str, uuid: str, payload: Any) -> Optional[str]:
        """Do it; the last line of the error, if there was one."""
        payload = json.loads(json.dumps(payload).replace("<uuid>", uuid))
        try:
            if operation == "create":
                self._api.create(payload if "uuid" in payload else {**payload, "uuid": uuid})
            elif operation == "update":
                self._api.update(uuid, payload)
            else:
                getattr(self._api, operation.replace("-", "_"))(uuid, payload["name"])
        except VmadmError as error:
            return [line.strip() for line in str(error).splitlines() if line.strip()][-1]
        return None

    def _look(self, uuid: str, words: Words) -> Seen:
        try:
            vm = self._api.load(uuid, fresh=True)
        except VmNotFound:
            vm = None
        columns = ",".join(("name", "type", *ZFS_PROPERTIES))
        status, listing, said = direct_tools.call(
            self._root, "zfs", ("list", "-Hp", "-t", "all", "-o", columns), b"", 60.0
        )
        assert status == 0, said
        parts = {
            "vm_changes": {} if vm is None else seen_vm(vm),
            "xml_attrs": seen_xml(f"{self._root}/etc/zones/{uuid}.xml"),
            "zfs": seen_zfs(listing.decode(), uuid),
            "files": seen_files(self._root, uuid),
        }
        return {part: words.any(seen) for part, seen in parts.items()}

    def _purge(self, uuid: str) -> None:
        try:
            vm = self._api.load(uuid, fresh=True)
            if BEFORE_DELETE.keys() & vm.keys():
                self._api.update(uuid, BEFORE_DELETE)
            self._api.delete(uuid)
        except VmNotFound:
            return


def differences(case: Case, error: Optional[str], moved: Seen) -> list[Difference]:
    """A recorded operation against ours: its error, and what it changed."""
    if case.get("original_defect"):
        return []  # nothing is asked but not to crash
    expect = case["expect"]
    recorded = expect.get("error")
    found = [] if recorded == error else [Difference("error", "", recorded, error)]
    if (recorded is None) != (error is None) or "partial" in expect:
        return found  # what a failed command of the original leaves behind is told, not asked for
    for part in PARTS:
        one, two = expect.get(part, {}), moved.get(part, {})
        for path in sorted({*one, *two}):
            if not (path in one and path in two and same(one[path], two[path], part)):
                found.append(Difference(part, path, one.get(path, "unchanged"), two.get(path, "unchanged")))
    return found


def _short(value: Any, most: int = 300) -> str:
    text = json.dumps(value)
    return text if len(text) <= most else text[:most] + "..."


# All of them.


def played(cases: Iterable[Case], nodes: int = NODES) -> dict[str, list[Difference]]:
    """The differences of each case, by its name."""
    groups: queue.SimpleQueue[list[Case]] = queue.SimpleQueue()
    for group in _grouped(cases):
        groups.put(group)
    results: dict[str, list[Difference]] = {}
    failures: list[BaseException] = []
    with direct_tools.for_vmadm():
        threads = [threading.Thread(target=_work, args=[groups, results, failures]) for _ in range(nodes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return results


def _grouped(cases: Iterable[Case]) -> list[list[Case]]:
    """Those with the same base together, the largest groups first, and in a group first those that change nothing."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(json.dumps(case["base"], sort_keys=True), []).append(case)
    for group in groups.values():
        group.sort(key=lambda case: (case["op"] == "create", "before" in case, _is_change(case)))
    return sorted(groups.values(), key=len, reverse=True)


def _is_change(case: Case) -> bool:
    expect = case["expect"] or {}
    return "error" not in expect and any(expect.get(part) for part in PARTS)


def _work(
    groups: queue.SimpleQueue[list[Case]], results: dict[str, list[Difference]], failures: list[BaseException]
) -> None:
    try:
        with _stage() as stage:
            while not groups.empty():
                try:
                    group = groups.get_nowait()
                except queue.Empty:
                    return
                for case in group:
                    results[case["id"]] = stage.play(case)
                stage.close()
    except BaseException as error:  # noqa: BLE001 raised again where the threads are awaited
        failures.append(error)


@contextmanager
def _stage() -> Iterator[Stage]:
    folder = tempfile.mkdtemp(prefix="cn-")
    try:
        with (
            process.start(os.path.join(folder, "node"), vms=0, seconds=PACE) as node,
            RunningDaemon(node.root, "--log-level", "error", program=direct_tools.__file__).start() as daemon,
        ):
            yield Stage(node.root, daemon.port)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(words: list[str]) -> int:
    """Play the cases whose name matches; tell how they differ."""
    chosen = [case for case in outcomes() if not words or re.search(words[0], case["id"])]
    begun, cpu = time.monotonic(), os.times()
    results = played(chosen)
    after = os.times()
    for name, found in sorted(results.items()):
        for difference in found:
            print(f"{name}  {difference}")
    differing = [name for name, found in results.items() if found]
    used = sum(after[:4]) - sum(cpu[:4])
    print(
        f"{len(results)} cases, {len(differing)} differ; {time.monotonic() - begun:.0f} s, {used:.0f} s of CPU",
        file=sys.stderr,
    )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
