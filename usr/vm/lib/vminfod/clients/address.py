# SPDX-License-Identifier: MPL-2.0
"""Where vminfod listens, and how an operator points the tools somewhere else.

On its own node vminfod is asked through a unix socket, which only root can open, where that is there; else, or when a
host or a port was named, over TCP.
The environment is read by the command-line tools only: an agent that embeds the client library must not end up
on another daemon because of a variable that it inherited."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Optional

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 9090
SOCKET = "/var/run/vminfod.sock"  # below the node's root folder
READ_LIMIT = 60.0  # seconds that a read of the tools may take
HIGHEST_PORT = 65535


class BadAddress(ValueError):
    """A variable of the environment that says where and how to ask is no good; the text is meant for the operator."""


def socket_below(root: str) -> str:
    """The path of the unix socket of the vminfod that serves the node in the folder `root`."""
    return root.rstrip("/") + SOCKET


def address_from_environment(environ: Mapping[str, str]) -> tuple[Optional[str], Optional[int], str]:
    """(host, port, unix socket) for a client, from VMINFOD_HOST, VMINFOD_PORT and VMADM_ROOT.

    Host and port are None where the variable is unset or empty; if both are, the socket comes first. Raises
    BadAddress."""
    host = environ.get("VMINFOD_HOST") or None
    text = environ.get("VMINFOD_PORT") or ""
    if text and not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= HIGHEST_PORT):
        raise BadAddress(f'VMINFOD_PORT must be a number from 1 to {HIGHEST_PORT}, not "{text}"')
    return host, int(text) if text else None, socket_below(environ.get("VMADM_ROOT") or "/")


def read_limit(environ: Mapping[str, str], unset: float = READ_LIMIT) -> float:
    """The seconds that a read may take: VMINFOD_TIMEOUT, or `unset`; 0 for no limit. Raises BadAddress."""
    text = environ.get("VMINFOD_TIMEOUT") or ""
    if not text:
        return unset
    whole, _, fraction = text.partition(".")
    if not (text.isascii() and whole.isdigit() and (fraction or "0").isdigit()):
        raise BadAddress(f'VMINFOD_TIMEOUT must be a number of seconds, 0 for no limit, not "{text}"')
    return float(text)
