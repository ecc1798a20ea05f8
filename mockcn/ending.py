# SPDX-License-Identifier: MPL-2.0
"""That a program was asked to end.

Always: a signal may come at any moment, also while it is waited for: nothing that its handler does takes a lock which
        the interrupted thread may hold. (threading.Event does, and then neither goes on.)"""

import os
import select
import signal
from typing import Any, Optional

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Ending:
    """Asked for by any of SIGNALS, from now on. For the main thread."""

    def __init__(self) -> None:
        self._asked, self._asking = os.pipe()  # what is written into it is never read: one word is enough
        os.set_blocking(self._asking, False)
        for number in SIGNALS:
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: Any) -> None:
        try:
            os.write(self._asking, b"!")
        except BlockingIOError:
            return  # it has been asked often enough

    def is_asked(self) -> bool:
        return self.wait(0)

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Until it is asked for, or that many seconds have passed; whether it is."""
        return bool(select.select([self._asked], [], [], timeout)[0])
