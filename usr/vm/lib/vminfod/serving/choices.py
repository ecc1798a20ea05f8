# SPDX-License-Identifier: MPL-2.0
"""The lists that are asked for with less in them than /vms: some properties, of the VMs that meet some conditions.

Always: the VMs come in the order of /vms, their properties in their own order, and each value as it stands there;
        a list is made when first asked for, and shared by all who ask for the same at that revision (shared.py);
        a parameter that is no property of a VM is ignored, as ever, and so is a pattern (`~...`): trying one can take
        very long. So whoever asks has to look at what it gets."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from jsvalues.members import as_text, values
from vminfod.serving import jsontext
from vminfod.serving.cache import Cache, as_array
from vminfod.serving.shared import SharedLists
from vmload.properties import table


@dataclass(frozen=True)
class Choice:
    """`fields`: the top-level properties that are left in; None: all. `wanted`: pairs of a name, such as `state`,
    `tags.role` or `nics.*.ip`, and the text of its value; all must be met."""

    fields: Optional[frozenset[str]] = None
    wanted: frozenset[tuple[str, str]] = frozenset()

    def taken_from(self, vm: dict[str, Any]) -> dict[str, Any]:
        """What is left of `vm`: nothing if it does not meet the conditions."""
        for name, text in self.wanted:
            if not any(as_text(value) == text for value in values(vm, name)):
                return {}
        return vm if self.fields is None else {name: value for name, value in vm.items() if name in self.fields}


def wanted_of(query: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """The conditions among the parameters of a request."""
    return frozenset(
        (name, text) for name, text in query.items() if name.partition(".")[0] in _names() and not text.startswith("~")
    )


@functools.cache
def _names() -> frozenset[str]:
    return frozenset(name for name, entry in table().items() if entry["in_vm_object"])


class Choices:
    """Makes the lists. `lists`: where they are shared."""

    def __init__(self, cache: Cache, lists: SharedLists):
        self._cache = cache
        self._lists = lists

    def list(self, choice: Choice) -> bytes:
        """The list as a JSON array. A VM of which nothing is left is not in it."""
        return self._lists.get(choice, lambda: as_array(list(self._pieces(choice))))

    def _pieces(self, choice: Choice) -> Iterable[bytes]:
        for entry in self._cache.entries():
            left = choice.taken_from(entry.vm)
            if left:
                yield entry.body if left is entry.vm else jsontext.encode(left)
