# SPDX-License-Identifier: MPL-2.0
"""Benchmarks: ours and something fair beside it, in turn in one run, with a ratio at the end (docs/performance.md).

    python3 -m bench.front --tiny        one of them; bench/everything.py has the list

Always: nothing here is imported by the product or fails a test for being slow;
        a script leaves no process and no file."""

import os
import sys

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SBIN = os.path.join(CHECKOUT, "usr", "vm", "sbin")
PEERS = os.path.join(CHECKOUT, "bench", "peers")

# The mock node, the tests' daemon under supervision, and the client library are used as they lie in the checkout.
sys.path[:0] = [os.path.join(CHECKOUT, "test"), os.path.join(CHECKOUT, "usr", "vm", "lib")]
