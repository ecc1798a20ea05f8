# SPDX-License-Identifier: MPL-2.0
"""VM objects of a node, loaded in the test's own process by the parts that the daemon uses: one, or all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vmload.loader import Loader, assemble
from vmload.loaderror import LoadError, ZoneGone


@dataclass(frozen=True)
class Loaded:
    """`vms`: zone name -> VM object, in zoneadm's order. `errors`: zone name -> why that one is not in `vms`.
    `warnings`: what else was not as it should be."""

    vms: dict[str, dict[str, Any]]
    errors: dict[str, LoadError]
    warnings: list[str]


class Loads:
    """Loads from the node at `root`, again and again by one Loader."""

    def __init__(self, root: str) -> None:
        self._loader = Loader(root)

    def load(self, key: str) -> dict[str, Any]:
        """The VM whose uuid is `key`, as an event about it would have it read. Raises LoadError."""
        zone = self._loader.sources.find(key)
        if zone.uuid != key:
            raise ZoneGone(f"VM {key} not found in zoneadm")
        return assemble(self._loader.read(zone), self._loader.read_sysinfo().value)

    def load_all(self) -> Loaded:
        """Every VM, as a full refresh reads them. Raises LoadError."""
        node = self._loader.read_all()
        loaded = Loaded({}, dict(node.errors), [] if node.sysinfo.warning is None else [node.sysinfo.warning])
        for zonename, records in node.zones.items():
            try:
                loaded.vms[zonename] = assemble(records, node.sysinfo.value)
            except LoadError as error:
                loaded.errors[zonename] = error
        return loaded
