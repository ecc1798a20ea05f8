# SPDX-License-Identifier: MPL-2.0
"""Which brands a payload can name, and what is said of another one."""

from __future__ import annotations

from typing import Any, Optional

from vmload import brands

NO_BRAND = "undefined"


def bad_brand(brand: Any) -> Optional[Any]:
    """What `vmadm validate` shows as the bad brand; None if VMs of the brand can be made and changed."""
    if isinstance(brand, str) and brands.is_supported(brand):
        return None
    return brand if brand or isinstance(brand, (list, dict)) else NO_BRAND
