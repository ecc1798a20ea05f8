# SPDX-License-Identifier: MPL-2.0
"""How long a test waits for what must come.

Always: a deadline ends a test that would hang; it is never what a test is about. So it is far longer than anything
        takes on a machine whose cores are all busy with something else, and costs nothing where all is well;
        it is longer than the daemon waits until it tries again what failed: a minute at most."""

SOON = 180.0  # seconds, for what takes milliseconds on an idle machine
