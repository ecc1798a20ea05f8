# SPDX-License-Identifier: MPL-2.0
"""`vminfo top`: the node's VMs on a terminal, as they change.

      /events  --a thread--.
                            >-- notes --> the main thread: model, keys, screen
      /status  --a thread--'

Always: only the main thread touches model and screen; the terminal is as it was when the command ends, however it
        does; a daemon that goes away is waited for, and said to be away."""

from __future__ import annotations

import json
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from time import sleep

from jsvalues import dates
from vminfod.cli.stdio import STDOUT, complain, on_terminal, put
from vminfod.cli.topmodel import ORDERS, Model
from vminfod.cli.topview import BAD, BOLD, DIM, GOOD, PLAIN, REVERSED, Choices, once, screen
from vminfod.clients.eventfeed import EventFeed
from vminfod.clients.failures import VminfodError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from vminfod.client import VminfodClient
    from vminfod.clients.identity import Identity

_DRAW_EVERY = 250  # milliseconds, without a key
_STATUS_EVERY = 2.0  # seconds
_AGAIN_AFTER = 1.0  # seconds, when the daemon is away
_ESCAPE_WITHIN = "25"  # milliseconds that belong to one key: ncurses' own second is for slow modems


def print_once(client: VminfodClient) -> int:
    """`vminfo top -1`: what there is now, and the exit code."""
    model = Model()
    model.start(client.get("/vms"))
    model.status = client.status(False)
    put(once(model))
    return 0


def watch(identity: Identity, client: VminfodClient, environ: Mapping[str, str]) -> int:
    """Until q is pressed; the exit code."""
    if not on_terminal(STDOUT) or not on_terminal(0):
        complain("vminfo top needs a terminal; vminfo top -1 prints once")
        return 1
    import curses
    import os

    os.environ.setdefault("ESCDELAY", _ESCAPE_WITHIN)
    notes: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    for what in (lambda: _follow_events(identity, notes), lambda: _follow_status(client, notes)):
        Thread(target=what, daemon=True).start()
    try:
        curses.wrapper(lambda window: _Screen(window, notes, "NO_COLOR" not in environ).run())
    except curses.error as error:
        complain(f"vminfo top cannot use this terminal: {error}; vminfo top -1 prints once")
        return 1
    return 0


def _follow_events(identity: Identity, notes: SimpleQueue[tuple[str, Any]]) -> None:
    waiting = lambda: notes.put(("away", "waiting for it to answer GET /events"))  # noqa: E731
    while True:
        try:
            feed = EventFeed(identity, waiting=waiting)
            notes.put(("ready", json.loads(str(feed.ready()["vms"]))))
            while True:
                event = feed.next()
                notes.put(("event", {**event, "date": dates.of_datetime(event["date"])}))
        except VminfodError as error:
            notes.put(("away", str(error)))
        sleep(_AGAIN_AFTER)


def _follow_status(client: VminfodClient, notes: SimpleQueue[tuple[str, Any]]) -> None:
    while True:
        try:
            notes.put(("status", client.status(False)))
        except VminfodError:
            notes.put(("status", {}))  # why it is away says the other thread
        sleep(_STATUS_EVERY)


class _Screen:
    """The terminal while the command runs. `window`: of curses."""

    def __init__(self, window: Any, notes: SimpleQueue[tuple[str, Any]], in_colour: bool) -> None:
        import curses

        self._curses = curses
        self._window = window
        self._notes = notes
        self._model = Model()
        self._choices = Choices()
        self._looks = {
            PLAIN: 0,
            BOLD: curses.A_BOLD,
            REVERSED: curses.A_REVERSE,
            DIM: curses.A_DIM,
            GOOD: 0,
            BAD: curses.A_BOLD,
        }
        if in_colour and curses.has_colors():
            curses.use_default_colors()
            for number, (look, colour) in enumerate(((GOOD, curses.COLOR_GREEN), (BAD, curses.COLOR_RED)), 1):
                curses.init_pair(number, colour, -1)
                self._looks[look] |= curses.color_pair(number)
        with suppress(curses.error):  # some terminals always show it
            curses.curs_set(0)
        window.timeout(_DRAW_EVERY)

    def run(self) -> None:
        """Until q is pressed."""
        while True:
            self._take_notes()
            self._draw()
            key = self._window.getch()
            if key != -1 and not self._press(key):
                return

    def _take_notes(self) -> None:
        while True:
            try:
                kind, what = self._notes.get_nowait()
            except Empty:
                return
            if kind == "ready":
                self._model.start(what)
            elif kind == "event":
                self._model.apply(what)
            elif kind == "status":
                self._model.status = what
            else:
                self._model.away = what

    def _draw(self) -> None:
        height, width = self._window.getmaxyx()
        self._window.erase()
        for at, (text, look) in enumerate(screen(self._model, self._choices, width, height)):
            try:
                self._window.addstr(at, 0, text, self._looks[look])
            except self._curses.error:
                break  # the last cell of a screen, or one that has just become smaller
        self._window.refresh()

    def _press(self, key: int) -> bool:
        """False to end."""
        curses, choices = self._curses, self._choices
        if choices.typing:
            self._type(key)
        elif key == ord("q"):
            return False
        elif self._model.followed is not None:
            if key in (27, curses.KEY_BACKSPACE, curses.KEY_LEFT, 127):
                self._model.follow(None)
        elif key == ord("/"):
            choices.typing, choices.words = True, ""
        elif key == ord("s"):
            choices.order = ORDERS[(ORDERS.index(choices.order) + 1) % len(ORDERS)]
        elif key == ord("r"):
            choices.backwards = not choices.backwards
        elif key == 27:
            choices.words = ""
        elif key in (10, 13, curses.KEY_ENTER, curses.KEY_RIGHT):
            rows = self._model.sorted_rows(choices.order, choices.backwards, choices.words)
            if rows:
                self._model.follow(rows[min(choices.selected, len(rows) - 1)].uuid)
        else:
            self._move(key)
        return True

    def _type(self, key: int) -> None:
        choices = self._choices
        if key in (10, 13, self._curses.KEY_ENTER):
            choices.typing = False
        elif key == 27:
            choices.typing, choices.words = False, ""
        elif key in (127, 8, self._curses.KEY_BACKSPACE):
            choices.words = choices.words[:-1]
        elif 32 <= key < 127:
            choices.words += chr(key)
        choices.selected = 0

    def _move(self, key: int) -> None:
        curses, choices = self._curses, self._choices
        page = max(1, self._window.getmaxyx()[0] - 8)
        steps = {
            curses.KEY_UP: -1,
            ord("k"): -1,
            curses.KEY_DOWN: 1,
            ord("j"): 1,
            curses.KEY_PPAGE: -page,
            curses.KEY_NPAGE: page,
            curses.KEY_HOME: -len(self._model.rows),
            curses.KEY_END: len(self._model.rows),
        }
        choices.selected = max(0, choices.selected + steps.get(key, 0))
