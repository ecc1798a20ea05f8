# SPDX-License-Identifier: MPL-2.0
"""One payload under way from text to Change: what is good of it, and what was found wrong so far.

Always: what is bad is left out of the request, so that the checks behind go on, and all that is wrong is reported
        in one go; `texts` grows in the order in which the original looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vmadm.payload import Payload, asked, memoryrules, otherlists
from vmadm.payload.change import Request
from vmadm.payload.findings import Findings, look_through
from vmadm.payload.nodefacts import NodeFacts

NIC_LISTS = ("nics", "add_nics", "update_nics", "remove_nics")


@dataclass
class Underway:
    """See the head of the module. `memory` is what the memory properties come to."""

    brand: str
    action: str
    node: NodeFacts
    payload: Payload
    found: Findings = field(default_factory=Findings)
    texts: list[str] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)

    def request(self, given_memory: dict[str, Any], old: Mapping[str, Any]) -> Request:
        """What is asked, typed, as far as it is good. Memory that is given is first brought within its limits; `old` is
        the VM, empty on create."""
        brand, action = self.brand, self.action
        given = {name: value for name, value in given_memory.items() if asked.is_allowed(name, brand, action)}
        bad = memoryrules.bad_nulls(self.payload, brand)
        self.memory = memoryrules.with_memory(given, dict(old), brand) if given and not bad else given
        settled = {**self.payload, **{name: self.memory[name] for name in given if name in self.payload}}
        self.found = look_through(settled, brand, action, self.node)
        self.found.missing_properties += otherlists.missing_members(self.payload, brand, action)
        for name in [*bad, *asked.not_storable(self.payload, brand, action)]:
            if name not in self.found.bad_values:
                self.found.bad_values.append(name)
        self._forget_sizes_of_bad_images()
        self.texts = self.found.texts() + asked.both_forms(self.payload)
        return asked.request_of(self.payload, brand, action, self.found)

    def objects(self, verb: str, name: str) -> list[Payload]:
        """The good objects of a list as they were given, in the order of the request's."""
        return asked.good_objects(self.payload, verb, name, self.brand, self.action, self.found)

    def has_bad_nics(self) -> bool:
        """Whether a NIC was left out because something of it is bad."""
        wrong = [*self.found.bad_values, *self.found.missing_properties]
        return any(name.split(".")[0] in NIC_LISTS for name in wrong)

    def _forget_sizes_of_bad_images(self) -> None:
        """A good image would have given its size."""
        images = [name for name in self.found.bad_values if name.endswith(".image_uuid")]
        sizes = {name.removesuffix("image_uuid") + "image_size" for name in images}
        self.found.missing_properties = [name for name in self.found.missing_properties if name not in sizes]
