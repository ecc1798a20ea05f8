# SPDX-License-Identifier: MPL-2.0
"""What a docker container's VM has beside the properties of others: how its output is logged, and three files of its
host that are mounted into it (docs/vmadm.md, "Docker").

Always: pure. What a container gets comes from internal_metadata, whose `docker:` keys belong to sdc-docker, not to
        the tenant; what is no good there is BadPayload before anything is touched."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Optional

from vmadm.errors import BadPayload, VmadmError
from vmadm.payload import addresses
from vmadm.payload.asked import UNSTORABLE
from vmadm.payload.change import Change, Filesystem, MapChange, Maps, Nic
from vmadm.payload.unset import UNSET, said
from vminfod.clients.plainjson import compact
from vmload import Vm

Metadata = Mapping[str, Any]

DRIVER = "docker:logdriver"
DEFAULT_DRIVER = "json-file"
NO_DRIVER = "none"

LOCAL_NAMES = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""

# File below the zonepath's config -> the key that says where it is mounted, and where it is otherwise.
TARGETS = {
    "resolv.conf": ("docker:resolvConfFile", "/etc/resolv.conf"),
    "hosts": ("docker:hostsFile", "/etc/hosts"),
    "hostname": ("docker:hostnameFile", "/etc/hostname"),
}
OS_HOSTS = "/etc/inet/hosts"  # where SmartOS's own images keep theirs; /etc/hosts is a link to it there
HOST_VOLUMES = "docker:hostvolumes"  # JSON: target -> {"url": where its file comes from}
FETCHED = "hostvolumes"  # the folder below the zonepath where those files lie
HOST_KEYS = ("docker:extraHosts", "docker:linkHosts")  # what the files are written again for


@dataclass(frozen=True)
class LogMode:
    """`text` is g--, gt- and so on: global log, tty, and a copy for a driver's service, which `has_service` says."""

    text: str
    has_service: bool


def log_mode(change: Change, vm: Vm) -> Optional[LogMode]:
    """What a docker VM's is to be; None for another VM. `vm` is empty for a new one."""
    if not is_docker(change, vm):
        return None
    asked, old = change.maps.internal_metadata, vm.get("internal_metadata") or {}
    driver = asked.set.get(DRIVER) or (None if DRIVER in asked.remove else old.get(DRIVER)) or DEFAULT_DRIVER
    tty = "t" if asked.set.get("docker:tty", old.get("docker:tty")) else "-"
    if driver == DEFAULT_DRIVER:
        return LogMode(f"g{tty}-", False)
    return LogMode(f"-{tty}-", False) if driver == NO_DRIVER else LogMode(f"g{tty}n", True)


def is_docker(change: Change, vm: Vm) -> bool:
    """Whether the VM is a docker container's after the change."""
    docker = change.properties.docker
    return bool(vm.get("docker")) if docker is UNSET else docker is True


def host_files(change: Change, vm: Vm) -> dict[str, str]:
    """File name -> text. `vm` is empty for a new one. Raises BadPayload."""
    new, metadata = change.properties, change.maps.internal_metadata.applied(vm.get("internal_metadata") or {})
    hostname = said(new.hostname, "") if new.hostname is not UNSET else vm.get("hostname")
    domain = said(new.dns_domain, "") if new.dns_domain is not UNSET else vm.get("dns_domain")
    resolvers = vm.get("resolvers") or () if new.resolvers is UNSET else new.resolvers
    name = hostname or change.uuid
    return {
        "resolv.conf": _resolv_conf(resolvers, [*_search(metadata), *([domain] if domain else [])]),
        "hosts": _hosts(name, _primary_addresses(change, vm), metadata),
        "hostname": f"{name}\n",
    }


def mounts(change: Change, zonepath: str) -> list[Filesystem]:
    """The files as filesystems of a new zone. Raises BadPayload for a place that is no plain path."""
    metadata = change.maps.internal_metadata.set
    found = []
    for file, (key, otherwise) in TARGETS.items():
        default = OS_HOSTS if file == "hosts" and change.brand == "joyent-minimal" else otherwise
        target = str(metadata.get(key) or default)
        if not _is_plain(target):
            raise BadPayload([f'invalid "{key}" internal_metadata: {target} is no plain path'])
        source = f"{zonepath}/config/{file}"
        found.append(Filesystem(target=target, source=source, type="lofs", options=("rw",)))
    return found


def host_volumes(
    filesystems: Iterable[Filesystem], maps: Maps, root: str, texts: list[str]
) -> tuple[tuple[Filesystem, ...], Maps]:
    """The filesystems of a new container, those from a URL with the place of the fetched file as their source, and the
    maps, which say where it comes from. `root` is the root dataset."""
    found: list[Filesystem] = []
    urls: dict[str, Any] = {}
    for each in filesystems:
        if not each.source.startswith(("http://", "https://")):
            found.append(each)
        elif not _is_plain(each.target) or UNSTORABLE.search(each.source) is not None:
            texts.append(f"invalid filesystem {each.target}: a file from a URL needs a plain path and a plain URL")
        else:
            found.append(replace(each, source=f"/{root}/{FETCHED}{each.target}"))
            urls[each.target] = {"url": each.source}
    if not urls:
        return tuple(found), maps
    metadata = maps.internal_metadata
    told = MapChange(set={**metadata.set, HOST_VOLUMES: compact(urls)}, remove=metadata.remove)
    return tuple(found), replace(maps, internal_metadata=told)


def host_volumes_of(vm: Vm) -> dict[str, str]:
    """Path below the zonepath -> URL of the files that a container still has mounted. What was mounted in the place of
    one is somebody else's, and is left out. Raises VmadmError for metadata that is none."""
    text = (vm.get("internal_metadata") or {}).get(HOST_VOLUMES)
    if not vm.get("docker") or not text:
        return {}
    try:
        urls = {target: str(each["url"]) for target, each in json.loads(str(text)).items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise VmadmError(f'invalid "{HOST_VOLUMES}" internal_metadata: {text}') from error
    found = {}
    for filesystem in vm.get("filesystems") or []:
        inside = str(filesystem.get("source")).removeprefix(f"{vm['zonepath']}/")
        if filesystem.get("target") in urls and inside.startswith(f"{FETCHED}/") and _is_plain(f"/{inside}"):
            found[inside] = urls[filesystem["target"]]
    return found


def _is_plain(path: str) -> bool:
    """An absolute path without detours, that zonecfg can store."""
    names = path.split("/")
    return not names[0] and len(names) > 1 and UNSTORABLE.search(path) is None and not {"", ".", ".."} & {*names[1:]}


def _resolv_conf(resolvers: Iterable[str], search: list[str]) -> str:
    lines = [f"nameserver {resolver}\n" for resolver in resolvers]
    return "".join(lines) + (f"search {' '.join(search)}\n" if search else "")


def _search(metadata: Metadata) -> list[str]:
    """A list that is none is ignored, as ever."""
    try:
        found = json.loads(str(metadata.get("docker:dnssearch") or "[]"))
    except (ValueError, RecursionError):
        return []
    return [str(each) for each in found] if isinstance(found, list) else []


def _hosts(name: str, own: list[str], metadata: Metadata) -> str:
    lines = [f"{address}\t{name}\n" for address in reversed(own)]
    lines.append(LOCAL_NAMES)
    for each in _extra_hosts(metadata):
        host, _, address = each.partition(":")
        lines.append(f"{address}\t{host}\n")
    lines.append(str(metadata.get("docker:linkHosts") or ""))
    return "".join(lines)


def _extra_hosts(metadata: Metadata) -> list[str]:
    text = metadata.get("docker:extraHosts")
    try:
        found = json.loads(str(text)) if text else []
    except (ValueError, RecursionError) as error:
        raise BadPayload([f'invalid "docker:extraHosts" internal_metadata: {error}']) from error
    if not isinstance(found, list) or not all(isinstance(each, str) and ":" in each for each in found):
        raise BadPayload([f'invalid "docker:extraHosts" internal_metadata: a list of "NAME:IP" is expected: {text}'])
    return found


def _primary_addresses(change: Change, vm: Vm) -> list[str]:
    """The static addresses of the primary NIC after the change."""
    touched: dict[str, Nic] = {nic.mac: nic for nic in (*change.nics.add, *change.nics.update)}
    primary = change.new_primary or next((nic.mac for nic in touched.values() if nic.primary is True), None)
    primary = primary or next((nic["mac"] for nic in vm.get("nics") or [] if nic.get("primary")), None)
    if primary in touched:
        ips: Iterable[str] = said(touched[primary].ips, ())
    else:
        ips = next((addresses.present_ips(nic) for nic in vm.get("nics") or [] if nic["mac"] == primary), ())
    return [addresses.address_of(ip) for ip in addresses.static(ips)]
