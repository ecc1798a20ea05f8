# SPDX-License-Identifier: MPL-2.0
"""All benchmarks, one after the other, as `make bench` runs them: each in a process of its own, its figures in
a JSON file.

    python3 -m bench.everything [--tiny] [--into bench/results] [--minutes 15]

A script that does not end in its share of the time is stopped, and said; the others go on. The exit status is 1 if one
failed or was stopped."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time

from bench import CHECKOUT, table

# Script -> its options here, so that all together keep within the time. Each on its own has larger sizes.
SCRIPTS: dict[str, list[str]] = {
    "front": ["--rounds", "5", "--milliseconds", "1000"],
    "latency": ["--rounds", "5"],
    "zonestate": ["--rounds", "5"],
    "fanout": ["--rounds", "5"],
    "storm": ["--rounds", "3"],
    "startup": ["--rounds", "3"],
    "refresh": ["--rounds", "3"],
    "idle": ["--rounds", "3"],
    "holding": ["--rounds", "3", "--milliseconds", "1000"],
    "updating": ["--rounds", "3", "--runs", "5"],
    "tools": ["--rounds", "3", "--runs", "5"],
    "growth": ["--rounds", "2"],
}


def run(script: str, words: list[str], limit: float) -> str:
    """Run it for at most `limit` seconds; says how it went: `good`, or what was wrong."""
    child = subprocess.Popen([sys.executable, "-m", f"bench.{script}", *words], cwd=CHECKOUT, start_new_session=True)
    try:
        status = child.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGINT)  # its own clean-up takes down node and daemon
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        return f"stopped after {limit:.0f} s"
    return "good" if status == 0 else f"ended with {status}"


def leave_table(folder: str) -> None:
    """The table of all figures, printed and as a file beside them."""
    text = table.text(folder)
    print(f"\n{text}", flush=True)
    with open(os.path.join(folder, "table.md"), "w", encoding="utf-8") as file:
        file.write(text)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m bench.everything", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: shows that all of them work")
    parser.add_argument("--into", default=os.path.join(CHECKOUT, "bench", "results"), help="folder for the JSON files")
    parser.add_argument("--minutes", type=float, default=15.0, help="that all together may take (15)")
    options = parser.parse_args()
    os.makedirs(options.into, exist_ok=True)
    until = time.monotonic() + options.minutes * 60
    went: dict[str, str] = {}
    for script, words in SCRIPTS.items():
        print(f"\n== {script}", flush=True)
        words = ["--tiny"] if options.tiny else words
        path = os.path.join(options.into, f"{script}.json")
        left = until - time.monotonic()
        went[script] = run(script, [*words, "--json", path], left) if left > 1 else "not run: the time is over"
    if not options.tiny:
        leave_table(options.into)
    print()
    for script, how in went.items():
        print(f"{script:<10} {how}")
    return 0 if set(went.values()) == {"good"} else 1


if __name__ == "__main__":
    sys.exit(main())
