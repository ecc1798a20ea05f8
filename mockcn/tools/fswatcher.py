# SPDX-License-Identifier: MPL-2.0
"""The platform's file watcher over inotify: it gets on stdin what to watch, and reports changes on stdout, with the
interface and the semantics of the real one, which uses event ports (docs/platform.md, "File watcher").

An event port watches a file, not a name, and knows how the file lost its name. Inotify needs two watches for that:

    on the file itself     content changed (MODIFY), its times set (ATTRIB), file gone for good (DELETE_SELF), file
                           system unmounted
    on its folder          the name was removed, renamed away, or another file was renamed onto it

Always: a change of a watched file that was not yet reported is reported; several can be merged into one event.
        What the folder says is only believed if the path no longer leads to the watched file: it can be older than the
        watch. A file's DELETE_SELF is always believed.
        After a final event the path is not watched; after any other it is, without a gap.
        Each command gets one answer. A modification time that is set to another one counts as a modification, since
        an event port compares that time; chmod and chown, which leave it alone, are not reported.
Less than the real one: a truncation is seen only if the file is found smaller than before, or empty; a mount over
        a file is not reported.

Installed in a mock node, paths are the node's and the node can order faults (link.py), each for the paths that contain
one of the words of `path`: `refuse`, WATCH of them fails; `deaf`, events of them are swallowed; `lost`, those of the
watches on them that stand, each until it is set anew; `abort`, the program aborts when it is asked for one, or
`seconds` later; `stuck`, it then never answers again. `mark` is no fault: an answer to no command, behind all events of
what has happened so far. Run as a program of its own it watches the real file system, so
that FSWATCHER_CMD can name it.
Not here: any knowledge of zones."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import sys
import time
from stat import S_ISLNK

TYPE_CHECKING = False  # typing costs as much as the interpreter's start
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import Optional
else:
    import _signal

USAGE = """usage: fswatcher [-hjr]
  -h  this text
  -j  JSON lines instead of text for people
  -r  say when ready
Commands on standard input: KEY WATCH PATH, KEY UNWATCH PATH, KEY STATUS
"""

COMMAND_MOST = 1054  # bytes with the newline; what is longer goes on as the next command, as with the real one
KEY_MOST = 2**64 - 1
READ_MOST = 1 << 18  # bytes in one read of inotify, and of stdin

# Event names and values in the order in which they are listed.
FILE_DELETE, FILE_MODIFIED, FILE_RENAME_FROM, FILE_RENAME_TO = 0x10, 0x2, 0x40, 0x20
FILE_TRUNC, MOUNTEDOVER, UNMOUNTED = 0x100000, 0x40000000, 0x20000000
FILE_EXCEPTION = FILE_DELETE | FILE_RENAME_FROM | FILE_RENAME_TO | UNMOUNTED | MOUNTEDOVER
NAMES = (
    ("FILE_ACCESS", 0x1),
    ("FILE_ATTRIB", 0x4),
    ("FILE_DELETE", FILE_DELETE),
    ("FILE_EXCEPTION", FILE_EXCEPTION),
    ("FILE_MODIFIED", FILE_MODIFIED),
    ("FILE_RENAME_FROM", FILE_RENAME_FROM),
    ("FILE_RENAME_TO", FILE_RENAME_TO),
    ("FILE_TRUNC", FILE_TRUNC),
    ("FILE_NOFOLLOW", 0x10000000),
    ("MOUNTEDOVER", MOUNTEDOVER),
    ("UNMOUNTED", UNMOUNTED),
)
FINAL = FILE_DELETE | FILE_RENAME_FROM | UNMOUNTED | MOUNTEDOVER

# inotify(7)
IN_MODIFY, IN_ATTRIB, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF = (
    0x2,
    0x4,
    0x40,
    0x80,
    0x100,
    0x200,
    0x400,
)
IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED, IN_MASK_ADD = 0x2000, 0x4000, 0x8000, 0x20000000
FILE_MASK = IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MASK_ADD
FOLDER_MASK = IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MASK_ADD
IN_ENTRY_CHANGED = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO  # what changes the content of a folder
HEAD = struct.Struct("iIII")

STAT_REFUSED = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP)


class Refused(Exception):
    """A WATCH that fails; str() is the message of the answer."""


class Inode:
    """One inotify watch: of a file, of a folder for names in it, or of both."""

    def __init__(self, wd: int) -> None:
        self.wd = wd
        self.files: list[Watch] = []  # that are this inode; more than one through links
        self.names: dict[bytes, list[Watch]] = {}  # that have a name in this folder


class Watch:
    """One path that is watched. `file` and `folder` hold this watch in their lists exactly while it is attached."""

    def __init__(self, path: bytes, real: bytes) -> None:
        self.path = path  # as given
        self.real = real  # with the root before it
        self.file: Optional[Inode] = None
        self.folder: Optional[Inode] = None
        self.name = b""
        self.identity = (0, 0)  # device and inode
        self.size = 0
        self.modified = 0  # modification time, nanoseconds since the epoch
        self.pending = 0  # FILE_ flags that were seen but not yet reported
        self.gone = False  # the file itself has ceased to exist
        self.lost = False  # by a fault: nothing is reported of it any more


class Inotify:
    """The kernel's side: attaches and detaches watches, and turns what it reads into `pending` flags."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._add_watch = libc.inotify_add_watch
        self._rm_watch = libc.inotify_rm_watch
        self.descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._inodes: dict[int, Inode] = {}

    def attach(self, watch: Watch) -> None:
        """Watch the file that `watch.real` leads to now. OSError from stat; Refused if inotify will not have it."""
        found = os.lstat(watch.real)
        target = os.path.realpath(watch.real) if S_ISLNK(found.st_mode) else watch.real
        folder, watch.name = os.path.split(target)
        try:
            watch.folder = self._inode(folder or b"/", FOLDER_MASK)
            watch.folder.names.setdefault(watch.name, []).append(watch)
            watch.file = self._inode(target, FILE_MASK)
            watch.file.files.append(watch)
            # Last, so that a file that takes the name from here on has another identity than the one remembered.
            found = os.stat(watch.real)
        except (OSError, Refused):
            self.detach(watch)
            raise
        watch.identity = (found.st_dev, found.st_ino)
        watch.size, watch.modified = found.st_size, found.st_mtime_ns
        watch.gone = False

    def detach(self, watch: Watch) -> None:
        file, folder = watch.file, watch.folder
        watch.file = watch.folder = None
        if file is not None:
            file.files.remove(watch)
            self._forget(file)
        if folder is not None:
            others = folder.names[watch.name]
            others.remove(watch)
            if not others:
                del folder.names[watch.name]
            self._forget(folder)

    def _inode(self, path: bytes, mask: int) -> Inode:
        wd = self._add_watch(self.descriptor, path, mask)
        if wd < 0:
            number = ctypes.get_errno()
            if number in (errno.ENOENT, errno.ENOTDIR):  # it went away just now: stat would have said so
                raise OSError(number, os.strerror(number))
            raise Refused(f"port_associate(3c) failed with errno {number}: {os.strerror(number)}")
        inode = self._inodes.get(wd)
        if inode is None:
            inode = self._inodes[wd] = Inode(wd)
        return inode

    def _forget(self, inode: Inode) -> None:
        if not inode.files and not inode.names and self._inodes.pop(inode.wd, None) is not None:
            self._rm_watch(self.descriptor, inode.wd)

    def read(self, everything: dict[bytes, Watch]) -> dict[Watch, None]:
        """Takes what the kernel has and flags the watches concerned, which are returned in the order of their first
        event. `everything` is flagged if the kernel's queue has overflowed."""
        touched: dict[Watch, None] = {}
        try:
            batch = os.read(self.descriptor, READ_MOST)
        except BlockingIOError:
            return touched
        at = 0
        while at < len(batch):
            wd, mask, _cookie, length = HEAD.unpack_from(batch, at)
            at += HEAD.size + length
            if mask & IN_Q_OVERFLOW:
                for watch in everything.values():
                    watch.pending |= FILE_MODIFIED
                    touched[watch] = None
                continue
            inode = self._inodes.get(wd)
            if inode is None:
                continue
            if length:
                named = inode.names.get(batch[at - length : at].rstrip(b"\0"))
                if named:
                    flag_names(named, mask, touched)
            if inode.files:
                # What is written into a file does not change the folder that it is in.
                flag_files(inode.files, mask & ~IN_MODIFY if length else mask, touched)
            if mask & IN_IGNORED:  # the kernel has dropped this watch
                del self._inodes[wd]
        return touched


def can_be_read(descriptor: int) -> bool:
    """Whether something is there to be read by now."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def flag_names(watches: list[Watch], mask: int, touched: dict[Watch, None]) -> None:
    """Something happened to a name in its folder. The first way of losing the file counts."""
    flag = (
        FILE_DELETE
        if mask & IN_DELETE
        else FILE_RENAME_FROM
        if mask & IN_MOVED_FROM
        else FILE_RENAME_TO
        if mask & IN_MOVED_TO
        else 0
    )
    for watch in watches:
        if flag and not watch.pending & FINAL:
            watch.pending |= flag
            touched[watch] = None


def flag_files(watches: list[Watch], mask: int, touched: dict[Watch, None]) -> None:
    """Something happened to a file, or to the content of a folder that is watched like a file."""
    for watch in watches:
        if mask & (IN_MODIFY | IN_ENTRY_CHANGED):
            watch.pending |= FILE_MODIFIED
            touched[watch] = None
        if mask & IN_ATTRIB:  # its times, mode, owner or number of links: the report finds out
            touched[watch] = None
        if mask & IN_UNMOUNT:
            watch.pending |= UNMOUNTED
            touched[watch] = None
        if mask & IN_DELETE_SELF:
            watch.gone = True
            touched[watch] = None


class Watcher:
    """The program: commands in, messages out."""

    def __init__(self, root: bytes, json: bool) -> None:
        self._root = root
        self._json = json
        self._kernel = Inotify()
        self._watches: dict[bytes, Watch] = {}
        self._out: list[bytes] = []
        self._unread = b""  # the start of a command whose end has not come
        self._faults: list[dict[str, str]] = []
        self._touched: dict[Watch, None] = {}  # something happened to them that was not reported yet
        self._take_orders: Callable[[], None] = lambda: None

    # --- the loop ---

    def run(self, ready: bool, orders: Optional[int], take_order: Callable[[], dict[str, str]]) -> int:
        """`orders` is a descriptor; when it can be read, `take_order()` returns a fault."""
        if ready:
            self._say("ready")
        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(self._kernel.descriptor, select.POLLIN)
        if orders is not None:
            poll.register(orders, select.POLLIN)
            self._take_orders = lambda: self._carry_out(orders, take_order)
        while True:
            self._flush()
            happened = {descriptor for descriptor, _ in poll.poll()}
            self._take_orders()
            if self._kernel.descriptor in happened:
                self._events()
            if 0 in happened:
                text = os.read(0, READ_MOST)
                self._take_orders()
                self._commands(text)
                if not text:
                    self._flush()
                    sys.stderr.write("fswatcher: end of file on standard input, exiting\n")
                    return 0

    def _carry_out(self, orders: int, take_order: Callable[[], dict[str, str]]) -> None:
        """All orders that have come: also between a reading and what is made of it, since they were given before what
        was read there."""
        while can_be_read(orders):
            self.fault(take_order())

    def fault(self, fault: dict[str, str]) -> None:
        if fault.get("kind") == "mark":
            while can_be_read(self._kernel.descriptor):
                self._touched.update(self._kernel.read(self._watches))
            self._report_all()
            self._say("response", key=KEY_MOST, code=0, result="SUCCESS")
        elif fault.get("kind") == "lost":
            for watch in self._watches.values():
                watch.lost = watch.lost or _concerns(fault, watch.path)
        elif fault.get("kind") in ("refuse", "deaf", "abort", "stuck"):
            self._faults.append(fault)

    def _faulty(self, kind: str, path: bytes) -> Optional[dict[str, str]]:
        """The fault of that kind that is meant for the path."""
        for fault in self._faults:
            if fault["kind"] == kind and _concerns(fault, path):
                return fault
        return None

    def _strike(self, path: bytes) -> None:
        """What being asked for the path does to the program."""
        if self._faulty("stuck", path) is not None:
            self._flush()
            while True:
                time.sleep(3600)
        fault = self._faulty("abort", path)
        if fault is not None and "seconds" in fault:
            _signal.signal(_signal.SIGALRM, lambda *_: self._abort(path))
            _signal.setitimer(_signal.ITIMER_REAL, float(fault["seconds"]))
        elif fault is not None:
            self._abort(path)

    def _abort(self, path: bytes, number: int = errno.EIO) -> None:
        """End as the real one does of what it does not expect; what it has said has been written."""
        import resource

        self._flush()
        sys.stderr.write(f"fswatcher: stat(2) of {os.fsdecode(path)} failed with errno {number}\n")
        sys.stderr.flush()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()

    # --- events ---

    def _events(self) -> None:
        self._touched.update(self._kernel.read(self._watches))
        self._take_orders()
        self._report_all()

    def _report_all(self) -> None:
        touched, self._touched = self._touched, {}
        for watch in touched:
            if watch.file is not None:
                self._report(watch)

    def _report(self, watch: Watch) -> None:
        seen, watch.pending = watch.pending, 0
        lost = seen & (FILE_DELETE | FILE_RENAME_FROM | FILE_RENAME_TO)
        seen &= ~lost
        try:
            found = os.stat(watch.real)
        except OSError:
            found = None
        same = found is not None and (found.st_dev, found.st_ino) == watch.identity
        if not same:
            seen |= lost
        if watch.gone and not lost:
            seen |= FILE_DELETE
        elif watch.gone:
            seen |= lost
        if found is not None and seen & FILE_MODIFIED and (found.st_size < watch.size or found.st_size == 0):
            seen |= FILE_TRUNC
        if same and not watch.gone and found is not None and found.st_mtime_ns != watch.modified:
            seen |= FILE_MODIFIED
        if not seen:
            return
        final = found is None or seen & FINAL != 0
        error = None
        if final:
            self._drop(watch)
        elif same and not watch.gone:
            watch.size, watch.modified = (found.st_size, found.st_mtime_ns) if found is not None else (0, 0)
        else:
            error = self._watch_again(watch)
        if watch.lost or self._faulty("deaf", watch.path):
            return
        names = [name for name, value in NAMES if seen & value]
        self._say("event", changes=names, pathname=watch.path, revents=seen, final=final)
        if error is not None:
            self._say("error", key=0, code=4, message=error)

    def _watch_again(self, watch: Watch) -> Optional[str]:
        """Another file has the name now: watch that one. The reason if it cannot be done."""
        self._kernel.detach(watch)
        try:
            self._kernel.attach(watch)
        except (OSError, Refused) as err:
            del self._watches[watch.path]
            return f"cannot watch '{os.fsdecode(watch.path)}' again: {err}"
        return None

    def _drop(self, watch: Watch) -> None:
        self._kernel.detach(watch)
        del self._watches[watch.path]

    # --- commands ---

    def _commands(self, text: bytes) -> None:
        """`text` is what was read; empty at the end of the input, which also ends a command."""
        unread = self._unread + text
        start = 0
        while start < len(unread):
            end = unread.find(b"\n", start, start + COMMAND_MOST) + 1
            if end == 0:
                if len(unread) - start < COMMAND_MOST and text:
                    break
                end = min(start + COMMAND_MOST, len(unread))
            self._command(unread[start:end])
            start = end
        self._unread = unread[start:]

    def _command(self, line: bytes) -> None:
        words = line.split()
        if len(words) < 2 or not words[0].isdigit() or int(words[0]) > KEY_MOST:
            return self._say("error", key=0, code=1, message="invalid command line")
        key, verb = int(words[0]), words[1]
        if key == 0:
            return self._say("error", key=0, code=2, message="invalid key")
        if verb not in (b"WATCH", b"UNWATCH", b"STATUS"):
            return self._say("error", key=key, code=3, message="unknown command")
        if (verb == b"STATUS") == (len(words) > 2):
            return self._say("error", key=0, code=1, message="invalid command line")
        if verb == b"STATUS":
            data = {"files": list(self._watches), "files_count": len(self._watches), "pid": os.getpid()}
            return self._say("response", key=key, code=0, result="SUCCESS", data=data)
        path = words[2]
        try:
            message = self._watch(path) if verb == b"WATCH" else self._unwatch(path)
        except Refused as err:
            return self._say("response", key=key, code=1, pathname=path, message=str(err), result="FAIL")
        return self._say("response", key=key, code=0, pathname=path, message=message, result="SUCCESS")

    def _watch(self, path: bytes) -> str:
        if path in self._watches:
            return "already watching"
        if self._faulty("refuse", path):
            raise Refused("port_associate(3c) failed with errno 13: Permission denied")
        self._strike(path)
        watch = Watch(path, self._root + path)
        try:
            os.stat(watch.real)
            self._kernel.attach(watch)
        except OSError as err:
            if err.errno not in STAT_REFUSED:
                self._abort(path, err.errno or 0)
            raise Refused(f"stat(2) failed with errno {err.errno}: {err.strerror}") from err
        self._watches[path] = watch
        return "port_associate(3c) started watching path"

    def _unwatch(self, path: bytes) -> str:
        watch = self._watches.get(path)
        if watch is None:
            raise Refused(f"not watching '{os.fsdecode(path)}', cannot unwatch")
        self._drop(watch)
        return f"no longer watching '{os.fsdecode(path)}'"

    # --- messages ---

    def _say(self, kind: str, **members: object) -> None:
        seconds, rest = divmod(time.monotonic_ns(), 1_000_000_000)
        if self._json:
            self._out.append(text({"type": kind, "time": [seconds, rest], **members}).encode() + b"\n")
        else:
            shown = " ".join(f"{name}={text(value)}" for name, value in members.items())
            self._out.append(f"{kind} {shown}".rstrip().encode() + b"\n")

    def _flush(self) -> None:
        view = memoryview(b"".join(self._out))
        self._out.clear()
        while view:
            view = view[os.write(1, view) :]


def _concerns(fault: dict[str, str], path: bytes) -> bool:
    words = os.fsencode(fault.get("path", "")).split() or [b""]
    return any(word in path for word in words)


def text(value: object) -> str:
    """`value` as JSON without white space. (The json module would double the time that the tool needs to start.)"""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ",".join([text(element) for element in value]) + "]"
    if isinstance(value, dict):
        return "{" + ",".join([text(name) + ":" + text(member) for name, member in value.items()]) + "}"
    plain = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    plain = plain.replace("\\", "\\\\").replace('"', '\\"').encode("utf-8", "replace").decode()
    if not plain.isprintable():
        plain = "".join([char if char >= " " else f"\\u{ord(char):04x}" for char in plain])
    return '"' + plain + '"'


def main(argv: list[str], in_node: bool = True) -> int:
    """The program with the words `argv` (without its own name); the exit status. It has stdin and stdout to itself."""
    root = b""
    orders: Optional[int] = None
    take_order: Callable[[], dict[str, str]] = dict
    fault: dict[str, str] = {}
    if in_node:
        import link

        fault = link.hello("fswatcher", argv)
        root, orders, take_order = os.fsencode(link.root()), link.fileno(), link.order
    flags = set()
    for word in argv:
        if not word.startswith("-") or set(word[1:]) - set("hjr"):
            sys.stderr.write(f"fswatcher: no such option: {word}\n{USAGE}")
            return 1
        flags |= set(word[1:])
    if "h" in flags:
        sys.stdout.write(USAGE)
        return 0
    try:
        watcher = Watcher(root, json="j" in flags)
    except OSError as err:
        sys.stderr.write(f"fswatcher: cannot set up inotify: {err}\n")
        return 1
    watcher.fault(fault)
    try:
        return watcher.run("r" in flags, orders, take_order)
    except (BrokenPipeError, KeyboardInterrupt):  # the reader has gone
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], in_node=False))
