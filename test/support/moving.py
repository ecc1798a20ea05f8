# SPDX-License-Identifier: MPL-2.0
"""Two nodes, VMs that move from one to the other, and bundles taken apart and put together by hand.

The fixture that gives the nodes is in movers.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Optional

from support.running_daemon import SBIN
from support.writing import IMAGE, LIMIT, ZVOL_IMAGE, WrittenNode, outcome
from vmadm import Vmadm, VmadmError

VMADM = os.path.join(SBIN, "vmadm")
MOTD = "a text that moves along\n"
ON_DISK = b"data on a disk, " * 100


@dataclass
class Two:
    """`one` is where VMs come from, `other` where they go."""

    one: WrittenNode
    other: WrittenNode

    def bundle(self, uuid: str) -> bytes:
        """What is sent of the VM, with the library."""
        with tempfile.TemporaryFile() as file:
            self.one.api.send(uuid, file)
            file.seek(0)
            return file.read()

    def command(self, stream: bytes, *words: str) -> tuple[int, str]:
        """(exit code, what is said in the end) of `vmadm receive`."""
        done = subprocess.run(
            [VMADM, "receive", *words],
            input=stream,
            capture_output=True,
            env=self.other.environ,
            timeout=LIMIT,
            check=False,
        )
        assert done.stdout == b""
        return done.returncode, outcome(done.stderr.decode())

    def receive(self, stream: bytes) -> tuple[int, str]:
        """The same without a process of its own, which costs more than all that it does."""
        lines: list[str] = []
        api = Vmadm(root=self.other.root, port=self.other.daemon.port, tell=lines.append)
        try:
            with pouring(stream) as source:
                lines.append(f"Successfully received VM {api.receive(source)['uuid']}")
        except VmadmError as error:
            lines.append(str(error))
            return error.exit_code, outcome("\n".join(lines))
        return 0, outcome("\n".join(lines))

    def received(self, stream: bytes) -> dict[str, Any]:
        """The VM that comes of it, with the library."""
        with pouring(stream) as source:
            return self.other.api.receive(source)

    def start_receive(self) -> subprocess.Popen[bytes]:
        """A receive that runs; its standard input and what it says are pipes. The interpreter itself, for signals."""
        return subprocess.Popen(
            [sys.executable, "-IS", "-X", "utf8", VMADM, "receive"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self.other.environ,
        )

    def is_served(self, uuid: str) -> Optional[dict[str, Any]]:
        """The VM on the other node as it really is now."""
        answer = self.other.daemon.get(f"/vms/{uuid}?fresh=true")
        return answer.json() if answer.status == 200 else None

    def datasets(self, uuid: str) -> list[str]:
        """Those of the VM on the other node, without its cores."""
        return sorted(name for name in self.other.control.datasets() if uuid in name and "/cores/" not in name)


@contextmanager
def pouring(stream: bytes) -> Iterator[int]:
    """A pipe's end that gives the stream."""
    read_end, write_end = os.pipe()

    def pour() -> None:
        left = memoryview(stream)
        try:
            while left:
                left = left[os.write(write_end, left) :]
        except BrokenPipeError:
            return
        finally:
            os.close(write_end)

    thread = threading.Thread(target=pour, daemon=True)
    thread.start()
    try:
        yield read_end
    finally:
        os.close(read_end)
        thread.join(LIMIT)


def runs(node: WrittenNode, word: str) -> bool:
    """Whether a `zfs WORD` with a stream runs on the node now."""
    pids = {call["pid"] for call in node.control.calls("zfs") if call["argv"][0] == word and "-nvP" not in call["argv"]}
    return any(child["pid"] in pids for child in node.control.children("zfs"))


def os_vm(two: Two, **more: Any) -> str:
    """A stopped zone with files, a delegated dataset, tags and metadata on the one node; its uuid."""
    made = {"alias": "caf\u00e9", "quota": 20, "tags": {"a": 1}, "customer_metadata": {"k": "v" * 600}, **more}
    uuid: str = two.one.create(delegate_dataset=True, image_uuid=IMAGE, **made)["uuid"]
    with open(f"{two.one.root}/zones/{uuid}/root/etc/motd", "w") as file:
        file.write(MOTD)
    return uuid


def hardware_vm(two: Two, brand: str, **more: Any) -> str:
    """A stopped VM with two disks, one of them with data, on the one node; its uuid."""
    disks = [{"image_uuid": ZVOL_IMAGE, "boot": True, "model": "virtio"}, {"size": 16, "model": "virtio"}]
    vm = two.one.api.create({"brand": brand, "ram": 512, "autoboot": False, "disks": disks, **more})
    with open(two.one.root + vm["disks"][1]["path"], "r+b") as file:
        file.seek(1 << 20)
        file.write(ON_DISK)
    return str(vm["uuid"])


def head(name: str, size: int = 0, padded: int = 0) -> bytes:
    """A header as the format has it."""
    fields = ("MAGIC-VMBUNDLE", "1", "CHECKSUM", name, str(size), str(padded))
    return b"".join(field.encode() + b"\0" for field in fields).ljust(512, b"\0")


def split(bundle: bytes) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    """(VM object, [(dataset, its stream)]) of a bundle."""
    size, padded = (int(field) for field in bundle[:512].split(b"\0")[4:6])
    chunks = bundle[512 + padded :].split(b"MAGIC-VMBUNDLE\0")[1:]
    parts = [b"MAGIC-VMBUNDLE\0" + chunk for chunk in chunks]
    return json.loads(bundle[512 : 512 + size]), [(part.split(b"\0")[3].decode(), part[512:]) for part in parts]


def cut(bundle: bytes, part: float = 0.5) -> bytes:
    """The bundle to somewhere within the stream of its first dataset."""
    padded = int(bundle[:512].split(b"\0")[5])
    begin = 512 + padded + 512
    end = bundle.find(b"MAGIC-VMBUNDLE", begin)
    return bundle[: begin + int(((end if end > 0 else len(bundle)) - begin) * part)]


def joined(vm: Any, chunks: list[tuple[str, bytes]]) -> bytes:
    """The bundle of it."""
    text = vm if isinstance(vm, bytes) else json.dumps(vm, indent=2).encode() + b"\n"
    padded = -(-len(text) // 512) * 512
    first = head("JSON", len(text), padded) + text.ljust(padded, b"\0")
    return first + b"".join(head(name) + stream for name, stream in chunks)
