# SPDX-License-Identifier: MPL-2.0
"""What a hardware VM boots from this once: `vmadm start UUID order=cd,once=d cdrom=/image.iso,ide` (docs/vmadm.md).

Always: pure; nothing of it is kept in the VM's configuration, so that its next boot is as ever."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from vmadm.errors import VmadmError
from vmload import brands

ORDER = "order"
MEDIA = ("disk", "cdrom")  # of a drive; the operands have the same names


class BadBootOptions(VmadmError):
    """An operand of `start` that is none, or lacks a part; the text is the whole message."""


@dataclass(frozen=True)
class Drive:
    """A drive that the VM has in this boot only."""

    media: str  # of MEDIA
    path: str  # of one of the VM's disks, or of a file below its root
    model: str


@dataclass(frozen=True)
class BootOptions:
    order: Optional[str] = None  # in qemu's words, what stands behind `order=`
    drives: tuple[Drive, ...] = ()

    def __bool__(self) -> bool:
        return self.order is not None or bool(self.drives)


NOTHING = BootOptions()


def from_words(words: Iterable[str]) -> BootOptions:
    """The operands of `start` behind the uuid. Raises BadBootOptions."""
    return boot_options([(key, value) for key, _, value in [word.partition("=") for word in words]])


def boot_options(asked: Iterable[tuple[str, str]]) -> BootOptions:
    """Pairs such as ("order", "cd,once=d"), ("cdrom", "/image.iso,ide"). Raises BadBootOptions."""
    order: Optional[str] = None
    drives = []
    for key, value in asked:
        if key == ORDER:
            if order is not None:
                raise BadBootOptions("You can only specify 'order' once when starting a VM")
            if not value:
                raise BadBootOptions("Parameter to order must be a boot order, such as cd,once=d")
            order = value
        elif key in MEDIA:
            path, _, model = value.partition(",")
            if not path or not model:
                raise BadBootOptions(f"Parameter to {key} must be: path,model")
            drives.append(Drive(key, path, model))
        else:
            raise BadBootOptions(f"Invalid argument to start: {key}")
    return BootOptions(order, tuple(drives))


def bad_model(drive: Drive, brand: str) -> Optional[str]:
    """What is wrong with a drive's model in a VM of that brand; None if nothing is."""
    models = brands.facts(brand)["disk_models"]
    if drive.model in models:
        return None
    return f'"{drive.model}" is not a valid disk model for {brand} brand. Valid are: {",".join(models)}'
