# SPDX-License-Identifier: MPL-2.0
"""Which options each command of vmadm has: one table for who takes the words apart and for what Tab offers.

Always: what is here is taken; usage.py and the manual page say what it does."""

from __future__ import annotations

from vmadm.cli.cmdline import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = (Option("f", "file", value="file"),)
_FORCE = Option("F", "force")

OPTIONS: Mapping[str, tuple[Option, ...]] = {
    "console": (Option("serial", "serial"), Option("vnc", "vnc")),  # no letters: -v has a meaning of its own
    "create": _FILE,
    "events": (Option("f", "full"), Option("j", "json"), Option("r", "ready")),
    "kill": (Option("s", "signal", value="signal"),),
    "list": (
        Option("h", "header", off_letter="H"),
        Option("p", "parsable"),
        Option("o", "order", value="fields"),
        Option("s", "sortby", value="fields"),
    ),
    "lookup": (Option("1", "unique"), Option("j", "json"), Option("o", "output", value="fields")),
    "reboot": (_FORCE, Option("t", "timeout", value="seconds", has_effect=False)),
    "receive": _FILE,
    "reprovision": _FILE,
    "stop": (_FORCE, Option("t", "timeout", value="seconds")),
    "update": _FILE,
    "validate": _FILE,
}
