# SPDX-License-Identifier: MPL-2.0
"""Files from a URL that a container has mounted, fetched before it boots (docs/vmadm.md, "Docker").

The node itself fetches nothing from where a tenant says: a zone of the operator's, tagged as the one for this, does.
Always: what is fetched lies below the zonepath's `hostvolumes`, which the zone itself cannot reach; a file appears
        whole or not at all, and a VM one of whose files cannot be had is not started."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from typing import Any

from vmadm.actions.session import Session
from vmadm.errors import ToolFailed, VmadmError
from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload import dockerhost
from vmload import Vm

CONFIGS = ("/opt/smartdc/config/node.config", "/usbkey/config")  # of the data centre; the first that is there
ADMIN = "ufds_admin_uuid"
ROLE = "hostvolume"  # the tag smartdc_role of the zone that fetches
MOST = 10 << 20  # bytes of a file
SECONDS = 60  # for each file
SLACK = 30.0  # seconds more for the command itself, which has that limit, to end
CURL = ("/opt/local/bin/curl", "-sS", "-f", "-m", str(SECONDS), "--max-filesize", str(MOST), "-L", "--max-redirs", "2")


def fetch(session: Session, vm: Vm, name: str) -> None:
    """Fetch all of them, at once. Raises VmadmError."""
    wanted = dockerhost.host_volumes_of(vm)
    if not wanted:
        return
    session.step("fetch the container's files")
    zonename = _fetching_zone(session, name)
    folder = ZoneFolder(session.node, vm["zonepath"])
    with ExitStack() as stack:
        children = {
            inside: stack.enter_context(session.node.started("zlogin", "-Q", zonename, *CURL, _quoted(url), **_STREAMS))
            for inside, url in wanted.items()
        }
        for inside, child in children.items():
            content = _fetched(child, wanted[inside])
            folder.write(inside, content.decode("utf-8", "surrogateescape"), 0o444)


_STREAMS: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def _fetching_zone(session: Session, name: str) -> str:
    config = next((text for path in CONFIGS if (text := session.node.read(path)) is not None), None)
    if config is None:
        raise VmadmError("Unable to find SDC config file.")
    settings = dict(line.strip().split("=", 1) for line in config.splitlines() if "=" in line)
    admin = settings.get(ADMIN, "").strip("\"'")
    if not admin:
        raise VmadmError("Unable to find admin UUID in SDC config.")
    found = [
        vm["zonename"]
        for vm in session.vms(name)
        if vm.get("owner_uuid") == admin
        and vm.get("state") == "running"
        and (vm.get("tags") or {}).get("smartdc_role") == ROLE
    ]
    if len(found) != 1:
        raise VmadmError(f'Incorrect number of VMs when looking for "{ROLE}" zone: expected 1, got: {len(found)}')
    return str(found[0])


def _quoted(url: str) -> str:
    """As one word for the shell in that zone."""
    return "'" + url.replace("'", "%27") + "'"


def _fetched(child: subprocess.Popen[bytes], url: str) -> bytes:
    try:
        content, stderr = child.communicate(timeout=SECONDS + SLACK)
    except subprocess.TimeoutExpired as error:
        raise ToolFailed(f"cannot fetch {url}: zlogin did not end in time", tool="zlogin", stderr="") from error
    if child.returncode != 0:
        said = stderr.decode("utf-8", "replace").strip() or f"Child exited non-zero: {child.returncode}"
        raise ToolFailed(f"cannot fetch {url}: {said}", tool="zlogin", stderr=said)
    if len(content) > MOST:
        raise VmadmError(f"cannot fetch {url}: it has more than {MOST} bytes")
    return content
