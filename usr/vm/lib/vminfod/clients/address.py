# SPDX-License-Identifier: MPL-2.0
"""Where vminfod listens, and how an operator points the tools somewhere else.

The environment is read by the command-line tools only: an agent that embeds the client library must not end up
on another daemon because of a variable that it inherited."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 9090


class BadAddress(ValueError):
    """VMINFOD_PORT is no port number; the text is meant for the operator."""


def address_from_environment(environ: Mapping[str, str]) -> tuple[str, int]:
    """(host, port) from VMINFOD_HOST and VMINFOD_PORT; unset and empty ones mean the defaults. Raises BadAddress."""
    host = environ.get("VMINFOD_HOST") or DEFAULT_HOST
    text = environ.get("VMINFOD_PORT") or str(DEFAULT_PORT)
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise BadAddress(f'VMINFOD_PORT must be a number from 1 to 65535, not "{text}"')
    return host, int(text)
