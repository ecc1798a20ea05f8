# SPDX-License-Identifier: MPL-2.0
"""The command: run a seed, or a file of steps again, and say which guarantees held.

python -m simulation --seed 7 --rounds 4 --steps FILE        # what it does goes into FILE
python -m simulation --replay FILE"""

import argparse
import json
import sys

from simulation.generator import plan
from simulation.running import run
from simulation.seeds import short_plans
from simulation.steps import parse


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=4, help="each has a theme of faults and ends in a calm (4)")
    parser.add_argument("--length", type=int, default=24, help="ordinary operations a round (24)")
    parser.add_argument("--vms", type=int, default=30)
    parser.add_argument("--steps", default="", metavar="FILE", help="where the steps are written")
    parser.add_argument("--replay", metavar="FILE", help="run the steps of this file instead")
    parser.add_argument("--patience", type=float, default=90.0, help="seconds that a calm may take (90)")
    parser.add_argument("--daemon-log", default="", metavar="FILE", help="where all that the daemon logs is written")
    parser.add_argument("--short", type=int, metavar="PART", help="run this part of what the tests run")
    parser.add_argument("--json", action="store_true", help="print only which guarantees broke, and by what")
    parser.add_argument("--log", action="store_true", help="print what was done")
    options = parser.parse_args()
    if options.replay:
        with open(options.replay, encoding="utf-8") as file:
            chosen = parse(file.read())
        result = run(chosen, "", options.patience, options.daemon_log)
        result.path = options.replay
    elif options.short is not None:
        chosen = short_plans()[options.short]
        result = run(chosen, options.steps, options.patience, options.daemon_log)
    else:
        chosen = plan(options.seed, options.rounds, options.length, vms=options.vms)
        result = run(chosen, options.steps, options.patience, options.daemon_log)
    if options.json:
        print(json.dumps(result.broken))
        return 0
    if options.log:
        print("\n".join(result.log))
    counted = f"{result.rounds} rounds, {result.events} events, {result.reads} reads, {result.promises} promises"
    print(f"seed {chosen.seed}: {counted}, {result.seconds:.1f} s")
    print(result)
    return 1 if result.broken else 0


sys.exit(main())
