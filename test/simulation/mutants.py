# SPDX-License-Identifier: MPL-2.0
"""Whether the simulation sees anything: daemons made worse, each in one way, and the guarantee that each must break.

Always: a mutant is a change of text in a copy of the tree, which must fit exactly once (test_mutants.py);
        it is run by the same short plans that the tests run, so that what they would miss is known;
        every guarantee has at least one mutant that it catches.

    python -m simulation.mutants [--only WORDS]"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from simulation.guarantees import GUARANTEES
from simulation.seeds import PARTS

CHECKOUT = Path(__file__).resolve().parents[2]
LIB = Path("usr/vm/lib/vminfod")
PATIENCE = 15.0  # seconds that a mutant's calm may take
LIMIT = 600.0  # seconds for one part


@dataclass(frozen=True)
class Mutant:
    """`caught_by`: the guarantee that breaks. `file` below LIB; `old`, which is there once, becomes `new`."""

    name: str
    caught_by: str
    file: str
    old: str
    new: str

    def worse(self, text: str) -> str:
        """The text of the file as the mutant has it. ValueError if `old` is not there just once: the daemon has
        changed, and so must this."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name!r} does not fit: {self.file} has its text {text.count(self.old)} times")
        return text.replace(self.old, self.new)


MUTANTS = (
    Mutant(
        "events overtake each other in a backlog",
        "Ordered",
        "serving/listener.py",
        "        self._append(self._piece_of(event))\n        self.stream.on_lines()\n",
        "        self._append(self._piece_of(event))\n"
        "        if len(self._pieces) > 2:\n"
        "            self._pieces[-1], self._pieces[-2] = self._pieces[-2], self._pieces[-1]\n"
        "        self.stream.on_lines()\n",
    ),
    Mutant(
        "a resumed stream repeats the last event",
        "Unique",
        "serving/hub.py",
        "if event.rev > since and selection",
        "if event.rev >= since and selection",
    ),
    Mutant(
        "an event even where nothing has changed",
        "Unique",
        "serving/prepared.py",
        "if not changes and old == vm:",
        "if not changes and old is vm:",
    ),
    Mutant(
        "a resumed stream skips the next event",
        "Complete",
        "serving/hub.py",
        "if event.rev > since and selection",
        "if event.rev > since + 1 and selection",
    ),
    Mutant(
        "a slow listener misses events instead of being cut",
        "Complete",
        "serving/hub.py",
        'self._cut_slow(listener, "its backlog was full")',
        "return",
    ),
    Mutant(
        "a choice of fields is taken for a choice of types alone",
        "Complete",
        "serving/prepared.py",
        'changed = {str(change["path"][0]) for change in changes} | _differing(old, vm)',
        'changed = {str(change["path"][0]) for change in changes[:1]}',
    ),
    Mutant(
        "only who missed nothing may resume",
        "Resumable",
        "serving/hub.py",
        "return epoch == self.epoch and oldest - 1 <= rev <= self.rev",
        "return epoch == self.epoch and oldest - 1 <= rev == self.rev",
    ),
    Mutant(
        "what a file event brings is stored before it is compared",
        "Replay",
        "serving/cache.py",
        "        if is_large(vm, size):\n",
        "        if old is not None and cause is not None and cause.source == 'file':\n"
        "            old.vm, old.body, self._joined = vm, jsontext.encode(vm), None\n"
        "            before = vm\n"
        "        if is_large(vm, size):\n",
    ),
    Mutant(
        "others run between what is served and its event",
        "Replay",
        "serving/cache.py",
        '        body = {"vm": entry.body, "changes": ready.changes_text}\n',
        '        __import__("gevent").sleep(0.02)\n        body = {"vm": entry.body, "changes": ready.changes_text}\n',
    ),
    Mutant(
        "a mark that comes while the zone is read is forgotten",
        "Convergence",
        "freshness/reloads.py",
        "        reading.mark(parts, datasets, cause)\n",
        "        if zonename not in self._greenlets or reading.marked or reading.marked.questions:\n"
        "            reading.mark(parts, datasets, cause)\n",
    ),
    Mutant(
        "a new file watcher is not told what to watch",
        "Convergence",
        "watchers/fswatcher.py",
        "            if known.wanted:\n                known.tries = 0\n                self._ask(known)\n",
        "            if known.wanted:\n                known.tries = 0\n"
        "                if not again:\n                    self._ask(known)\n",
    ),
    Mutant(
        "what could not be read is not tried again",
        "Convergence",
        "freshness/sourcereading.py",
        "            failure, self.failed = self.failed, None\n            self.plan(failure.want)\n",
        "            self.failed = None\n",
    ),
    Mutant(
        "files of a folder that was replaced are not watched anew",
        "Convergence",
        "freshness/filewatches.py",
        "        others = self._replaced(seen)",
        "        others: list[str] = []",
    ),
    Mutant(
        "what happens to datasets of a VM that is not known yet is forgotten",
        "Convergence",
        "freshness/datasetevents.py",
        "            if at >= moment and any(",
        "            if at < 0 and any(",
    ),
    Mutant(
        "a fresh read is answered before it is done",
        "Read-after-write",
        "freshness/freshreads.py",
        "self._reloads.read_fresh(zonename, cause, timeout)",
        "self._reloads.mark(zonename, cause=cause)",
    ),
    Mutant(
        "a fresh read leaves out the files",
        "Read-after-write",
        "freshness/reloads.py",
        "        self.mark(zonename, cause=cause)\n        question.answer.wait(timeout)",
        "        self.mark(zonename, part.ALL - {part.JSON}, cause=cause)\n        question.answer.wait(timeout)",
    ),
    Mutant(
        "a fresh read leaves out the sysinfo",
        "Read-after-write",
        "freshness/freshreads.py",
        "sysinfo = self._sysinfo_reads.begin_fresh(REQUEST) if with_sysinfo else None",
        "sysinfo = None",
    ),
    Mutant(
        "what is read of a VM that is held is applied",
        "Isolated",
        "serving/holds.py",
        "        return holder is not None and (holder.cause is None or holder.cause is not cause)\n",
        "        return False\n",
    ),
    Mutant(
        "what a writer holds back is published",
        "Isolated",
        "serving/holds.py",
        "        return holder is not None and (holder.cause is None or holder.cause is not cause)\n\n"
        "    def is_readable(self, zonename: str) -> bool:\n",
        "        return False\n\n    def is_readable(self, zonename: str) -> bool:\n        return True\n",
    ),
    Mutant(
        "what a list lacks is deleted",
        "No-false-delete",
        "freshness/secondlook.py",
        "            if zonename in node.zones or zonename in node.errors:\n                continue\n",
        "            if zonename in node.zones or zonename in node.errors:\n                continue\n"
        "            gone.append(zonename)\n            continue\n",
    ),
    Mutant(
        "what the first list lacks is deleted",
        "No-false-delete",
        "freshness/doubts.py",
        "        if not unlisted and not lack:\n",
        "        if not lack:\n",
    ),
    Mutant(
        "what cannot be read is deleted",
        "No-false-delete",
        "freshness/reloads.py",
        "            want.hear(error)\n",
        "            self._cache.drop(zonename, want.cause or REFRESH)\n            want.hear(error)\n",
    ),
    Mutant(
        "all events are kept to resume over",
        "Bounded",
        "serving/hub.py",
        "while len(self._ring) > self.limits.ring_events or self._ring_bytes > self.limits.ring_bytes:",
        "while len(self._ring) > self.limits.ring_events * 1000:",
    ),
    Mutant(
        "a listener may leave unread what it likes",
        "Bounded",
        "serving/hub.py",
        "too_large = listener.unsent and listener.unsent + len(event.chunk) > bound",
        "too_large = listener.unsent > 1000 * bound",
    ),
    Mutant(
        "a file that cannot be read ends the daemon",
        "Alive",
        "freshness/asking.py",
        "        except LoadError as error:\n            asking.error = error\n",
        "        except LoadError as error:\n            raise SystemExit(1) from error\n",
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="WORDS", help="those whose name holds these words")
    chosen = [one for one in MUTANTS if parser.parse_args().only in one.name]
    missed = 0
    for mutant in chosen:
        began = time.monotonic()
        broken = trial(mutant)
        caught = mutant.caught_by in broken
        missed += not caught
        verdict = f"caught by {mutant.caught_by}" if caught else f"NOT CAUGHT BY {mutant.caught_by}"
        print(f"{verdict}: {mutant.name} ({time.monotonic() - began:.0f} s)", flush=True)
        for name, found in broken.items():
            print(f"    {name}: {found[0][:160]}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} mutants were caught by the guarantee that they break")
    return 1 if missed else 0


def trial(mutant: Optional[Mutant]) -> dict[str, list[str]]:
    """The guarantees that the mutant breaks, in the first part of the short runs in which the right one breaks, or all
    parts. None: the daemon as it is."""
    broken: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = Path(folder)
        for part in ("usr", "mockcn", "test"):
            shutil.copytree(CHECKOUT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        if mutant is not None:
            path = tree / LIB / mutant.file
            path.write_text(mutant.worse(path.read_text(encoding="utf-8")), encoding="utf-8")
        for part in range(PARTS):
            broken |= _run(tree, part)
            if mutant is not None and mutant.caught_by in broken:
                break
    return broken


def _run(tree: Path, part: int) -> dict[str, list[str]]:
    paths = os.pathsep.join(str(tree / part) for part in ("", "usr/vm/lib", "test"))
    words = ["--short", str(part), "--patience", str(PATIENCE), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "simulation", *words],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    try:
        broken: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise RuntimeError(f"the run gave no result: {done.stdout[-500:]} {done.stderr[-2000:]}") from None
    return broken


if __name__ == "__main__":
    assert set(GUARANTEES) == {mutant.caught_by for mutant in MUTANTS}
    sys.exit(main())
