# SPDX-License-Identifier: MPL-2.0
"""The stand-in for libkstat: compiled, put into a node's root folder, and told what its kernel knows (libkstat.c)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from support.deadlines import SOON

PLACE = "lib/64/libkstat.so.1"
SOURCE = Path(__file__).with_suffix(".c")

# The types that the kernel gives to what `kstat -p` prints as text alone.
UINT32, UINT64, STRING = 2, 4, 9
TYPES = {"boot_time": UINT64, "zonename": STRING}
NO_STATISTICS = ("class", "crtime", "snaptime")  # the command prints them with the others


def built(folder: Path, *options: str) -> Path:
    """The library, compiled into `folder`."""
    library = folder / "libkstat.so.1"
    words = ["gcc", "-Wall", "-Werror", "-Wno-format-truncation", "-shared", "-fPIC", "-O1"]
    subprocess.run([*words, *options, "-o", str(library), str(SOURCE), "-ldl"], check=True, timeout=SOON)
    return library


class LibKstat:
    """The library in the node at `root`. Its kernel knows nothing until kernel() is called."""

    def __init__(self, root: str | Path, library: Path):
        self.path = Path(root) / PLACE
        self.path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, self.path)

    def remove(self) -> None:
        """Take it out of the node again."""
        shutil.rmtree(self.path.parent)

    def kernel(self, *lines: str) -> None:
        """What the kernel knows from now on, in the words of libkstat.c."""
        new = Path(f"{self.path}.new")
        new.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        os.replace(new, f"{self.path}.kernel")

    def kernel_of(self, printed: str) -> None:
        """The same from what the command `kstat -p` printed."""
        self.kernel(*lines_of(printed))

    def calls(self) -> list[str]:
        """Which functions were called so far, and what was wrong with the last."""
        log = Path(f"{self.path}.calls")
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def zone(kid: int, zoneid: int, name: str, *more: str, boot_time: int = 5, init_pid: int = 6) -> list[str]:
    """A zone in the kernel, in the words of libkstat.c, with `more` lines behind."""
    return [
        f"kstat {kid} zones {zoneid} zone_misc 1 {name}",
        f"stat {UINT64} nsec_user 12",
        f"stat {UINT64} boot_time {boot_time}",
        f"stat {UINT32} init_pid {init_pid}",
        f"stat {UINT32} init_restarts 0",
        f"stat {STRING} zonename {name}",
        *more,
    ]


def lines_of(printed: str) -> list[str]:
    """What `kstat -p` printed, in the words of libkstat.c; other kernel statistics stand around the zones'."""
    lines = ["kstat 1 unix 0 misc 1 system_misc", f"stat {UINT32} nproc 77"]
    last = None
    for line in printed.splitlines():
        key, _, value = line.partition("\t")
        module, instance, _, statistic = key.split(":")
        if instance != last:
            name = value_of(printed, f"{module}:{instance}:", "zonename")
            lines += [f"kstat {100 + int(instance)} {module} {instance} zone_misc 1 {name}"]
            last = instance
        if statistic not in NO_STATISTICS:
            kind = TYPES.get(statistic, UINT64 if statistic.startswith("nsec_") else UINT32)
            lines.append(f"stat {kind} {statistic} {value}")
    return [*lines, "kstat 2 cpu 0 misc 1 sys", f"stat {UINT64} bread 1"]


def value_of(printed: str, start: str, statistic: str) -> str:
    """The value of a statistic of the group whose lines begin with `start`."""
    return next(
        line.partition("\t")[2]
        for line in printed.splitlines()
        if line.startswith(start) and line.partition("\t")[0].endswith(f":{statistic}")
    )
