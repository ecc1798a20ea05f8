# SPDX-License-Identifier: MPL-2.0
"""A mock node ends when it is told to, whatever it is at in that moment."""

import subprocess
import sys

from support.deadlines import SOON
from support.running_daemon import CHECKOUT

ASKED_OFTEN = """
import signal

from mockcn import ending

ending.SIGNALS = (signal.SIGALRM,)
for number in range(200):
    asked = ending.Ending()
    signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 200))
    while not asked.wait(1e-5):
        pass
print("each time")
"""


def test_signal_that_comes_as_it_is_waited_for_ends_the_wait():
    done = subprocess.run(
        [sys.executable, "-c", ASKED_OFTEN], cwd=CHECKOUT, capture_output=True, text=True, timeout=SOON
    )
    assert (done.stdout, done.stderr) == ("each time\n", "")
