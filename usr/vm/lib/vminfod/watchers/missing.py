# SPDX-License-Identifier: MPL-2.0
"""Which missing files are to be tried again, and when: often at first, then all together now and then.

Always: a path waits in one of the two ways or not at all.
Not here: the asking, the clock, the waiting. Times are monotonic nanoseconds."""

RETRY_EVERY, RETRIES = 200_000_000, 10  # ns between tries in the first phase; tries in all, the first one included
SWEEP_EVERY = 10_000_000_000  # ns between tries of all that are still missing


class Missing:
    """Paths that could not be watched."""

    def __init__(self, now: int) -> None:
        self._soon: dict[str, int] = {}  # path: when
        self._late: dict[str, None] = {}  # with the next sweep
        self._sweep_at = now + SWEEP_EVERY

    def add(self, path: str, tries: int, now: int) -> None:
        """The path was tried `tries` times since it was last watched."""
        if tries < RETRIES:
            self._soon[path] = now + RETRY_EVERY
        else:
            self._late[path] = None

    def discard(self, path: str) -> None:
        self._soon.pop(path, None)
        self._late.pop(path, None)

    def clear(self) -> None:
        self._soon.clear()
        self._late.clear()

    def due(self, now: int) -> list[str]:
        """Takes out what is to be tried now."""
        paths = [path for path, when in self._soon.items() if when <= now]
        for path in paths:
            del self._soon[path]
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_EVERY
            paths += self._late
            self._late.clear()
        return paths
