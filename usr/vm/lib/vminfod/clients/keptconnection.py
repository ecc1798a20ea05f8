# SPDX-License-Identifier: MPL-2.0
"""A connection to vminfod's unix socket that carries one request after another: for what lives as long as it does.

Always: there is no second try and no other address: who loses such a connection has lost what hung on it."""

from __future__ import annotations

from vminfod.clients.connection import LOCAL_HOST, Exchange
from vminfod.clients.httpwire import request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from vminfod.clients.identity import Identity


class Kept(Exchange):
    """To the unix socket at `path`. Raises OSError where there is none.

    Each request comes after the answer to the one before. After an error nobody knows what comes next: close it."""

    def __init__(self, identity: Identity, path: str, *, deadline: Optional[float]) -> None:
        self._begin("connect", path, deadline, None)
        self._identity = identity
        self._socket = self._locally_connected(path)

    def ask(
        self,
        method: str,
        path: str,
        body: Optional[bytes] = None,
        *,
        deadline: Optional[float],
        waiting: Optional[Callable[[], object]] = None,
    ) -> tuple[int, bytes]:
        """(status, body) of the answer; `deadline` and `waiting` as of Exchange. Raises VminfodError."""
        self._begin(method, path, deadline, waiting)
        identity = self._identity
        agent = identity.user_agent()
        self._send(request(method, path, host=LOCAL_HOST, port=identity.port, user_agent=agent, keeps=True, body=body))
        return self.status(), self.whole_body()
