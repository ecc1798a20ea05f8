# SPDX-License-Identifier: MPL-2.0
"""How long things take on the node, in seconds. Zero is for tests that do not want to wait.

The defaults keep the proportions of a small VM on a real node, at about a tenth of the time."""

from dataclasses import dataclass, fields
from typing import Any, Optional


@dataclass
class Pace:
    install: float = 0.3  # zoneadm install, from `incomplete` to `installed`
    boot: float = 0.3  # from `ready`, when the kernel has the zone, to `running`
    halt: float = 0.1  # from `shutting_down` to `installed`
    shutdown: float = 0.3  # a guest that was asked to shut down, until it does
    guest: Optional[float] = 0.5  # from `running` until the guest is done with /var/svc/provisioning; None: never

    def change(self, values: dict[str, Any]) -> None:
        """Set some by name. Raises ValueError for a name or number that makes no sense."""
        known = {field.name for field in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"the pace has {', '.join(sorted(known))}, not {name!r}")
            if value is None and name == "guest":
                continue
            if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
                raise ValueError(f"the pace {name} is a number of seconds from 0 on, not {value!r}")
        for name, value in values.items():
            setattr(self, name, value)
