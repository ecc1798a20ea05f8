# SPDX-License-Identifier: MPL-2.0
"""Which missing files are to be tried again, and when: often at first, then all together now and then; where their
folder is watched, when that reports something.

Always: a path waits in one of these ways or not at all.
Not here: the asking, the clock, the waiting. Times are monotonic nanoseconds."""

RETRY_EVERY, RETRIES = 200_000_000, 10  # ns between tries in the first phase; tries in all, the first one included
SWEEP_EVERY = 10_000_000_000  # ns between tries of all that are still missing
FOLDERS_EVERY = 600_000_000_000  # ns between tries of those whose folder would report them


class Missing:
    """Paths that could not be watched."""

    def __init__(self, now: int) -> None:
        self._soon: dict[str, int] = {}  # path: when
        self._late: dict[str, None] = {}  # with the next sweep
        self._in_folders: dict[str, dict[str, None]] = {}  # folder: its paths; none without any
        self._sweep_at, self._folders_at = now + SWEEP_EVERY, now + FOLDERS_EVERY

    def add(self, path: str, tries: int, now: int) -> None:
        """The path was tried `tries` times since it was last watched."""
        if tries < RETRIES:
            self._soon[path] = now + RETRY_EVERY
        else:
            self._late[path] = None

    def add_in(self, folder: str, path: str) -> None:
        """The path would be reported by its folder."""
        self._in_folders.setdefault(folder, {})[path] = None

    def waits_in(self, folder: str, path: str) -> bool:
        """Whether the path waits for its folder."""
        return path in self._in_folders.get(folder, ())

    def discard(self, path: str) -> None:
        self._soon.pop(path, None)
        self._late.pop(path, None)
        folder = folder_of(path)
        if self.waits_in(folder, path):
            del self._in_folders[folder][path]
            if not self._in_folders[folder]:
                del self._in_folders[folder]

    def clear(self) -> None:
        self._soon.clear()
        self._late.clear()
        self._in_folders.clear()

    def due(self, now: int) -> list[str]:
        """Takes out what is to be tried now."""
        paths = [path for path, when in self._soon.items() if when <= now]
        for path in paths:
            del self._soon[path]
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_EVERY
            paths += self._late
            self._late.clear()
        if now >= self._folders_at:
            self._folders_at = now + FOLDERS_EVERY
            paths += [path for waiting in self._in_folders.values() for path in waiting]
            self._in_folders.clear()
        return paths

    def due_in(self, folder: str) -> list[str]:
        """Takes out what is to be tried since something happened in the folder, or to it."""
        return list(self._in_folders.pop(folder, ()))


def folder_of(path: str) -> str:
    """The folder that the path is in."""
    return path.rpartition("/")[0]
