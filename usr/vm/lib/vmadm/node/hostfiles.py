# SPDX-License-Identifier: MPL-2.0
"""The files of a docker container's host that its VM has mounted: resolv.conf, hosts and hostname of its config folder
(docs/vmadm.md, "Docker").

A lofs mount needs a file to cover. Always: that is a regular one in the zone's own root, never behind a link; a link
in its place is replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vmadm.node.zonefolder import ZoneFolder


def write(folder: ZoneFolder, files: Mapping[str, str]) -> None:
    """Write the files of the VM whose zonepath is `folder`. Raises NotWritten."""
    for file, text in files.items():
        folder.write(f"config/{file}", text)


def make_files(folder: ZoneFolder, targets: Iterable[str]) -> None:
    """Make the files that mounts at these paths in the zone cover. Raises NotWritten for a folder or a device in the
    place of one."""
    for target in targets:
        if not folder.is_file(f"root{target}"):
            folder.write(f"root{target}", "")
