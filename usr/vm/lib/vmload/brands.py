# SPDX-License-Identifier: MPL-2.0
"""The table of brands, brands.json, and what is asked of it (docs/vm-object.md, "Brands")."""

from __future__ import annotations

import os

from jsvalues.jsonscan import scanned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TABLE = os.path.join(os.path.dirname(__file__), "brands.json")


_read: dict[str, Any] = {}  # what it says, once somebody has asked


def table() -> dict[str, Any]:
    """The whole file: `brands` (brand -> facts) and the facts of unsupported ones. Do not change what it returns."""
    if not _read:
        with open(_TABLE, encoding="utf-8") as file:
            _read.update(scanned(file.read()))
    return _read


def is_supported(brand: str) -> bool:
    """Whether there are facts of `brand`; one without is served all the same."""
    return brand in table()["brands"]


def facts(brand: str) -> dict[str, Any]:
    """The facts of `brand`; those of the brand that stands in for it if it is unsupported (quirk 3)."""
    known: dict[str, Any] = table()["brands"]
    found: dict[str, Any] = known.get(brand) or known[table()["unsupported_brand_reads_as"]]
    return found


def is_hvm(brand: str) -> bool:
    """Whether VMs of `brand` are hardware VMs."""
    return brand in table()["hvm_brands"]


def list_type(brand: str) -> str:
    """The derived field `type` of VMs of `brand`: four characters at most, the width of its column."""
    known = table()["brands"].get(brand)
    kind: str = known["list_type"] if known else table()["unsupported_brand_list_type"]
    return kind


def info_types(brand: str) -> list[str]:
    """What the hypervisor of a running VM of `brand` can be asked for; nothing if it has none."""
    known = table()["brands"].get(brand)
    types: list[str] = known["runtime_info"] if known else []
    return types
