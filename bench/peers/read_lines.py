# SPDX-License-Identifier: MPL-2.0
"""A loop that reads lines from standard input and parses each: the least that following a tool can cost. Prints the
processor seconds that it used."""

import json
import sys
import time


def main() -> None:
    for line in sys.stdin.buffer:
        json.loads(line)
    print(time.process_time())


if __name__ == "__main__":
    main()
