# SPDX-License-Identifier: MPL-2.0
"""From the platform to VM objects: parse -> records -> assemble.

    zoneadm, kstat, zfs list, zone XML, config files      (text and bytes, as the platform gives them)
        |  zoneadm.py zoneinfo.py datasets.py zonexml.py configfiles.py: pure parsers
        v
    records                                               (records.py: frozen values)
        |  vmobj.py: pure assembly, by the tables in properties.py and brands.py
        v
    VM object                                             (a dict, ready for JSON)

Only system.py touches the node: it runs commands and reads files under a root folder. commands.py and
reader.py know which command or file gives which record, loader.py drives both for one VM or for all.

Not here: caching, events, HTTP. This package needs the standard library only and blocks while it works."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Vm = dict[str, "Any"]  # a VM object, ready for JSON: its properties are those of docs/vm-object.md
