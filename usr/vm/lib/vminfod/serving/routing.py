# SPDX-License-Identifier: MPL-2.0
"""What all routes need: the parameters of a query, answers with the headers that each has, refusals that say why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import parse_qs

import bottle

from vminfod.serving import jsontext
from vminfod.serving.hub import Hub
from vminfod.serving.ready import common_headers


@dataclass(frozen=True)
class Refused(Exception):
    """The request cannot be met: `status` and what to say."""

    status: int
    body: dict[str, Any]


def answer(hub: Hub, status: int, body: Any, headers: Optional[dict[str, str]] = None) -> bottle.HTTPResponse:
    """With the headers that every answer has."""
    response = bottle.HTTPResponse(body, status)
    for name, value in (*common_headers(hub), *(headers or {}).items()):
        response.set_header(name, value)
    if isinstance(body, bytes) and status != 304:
        response.set_header("Content-Length", str(len(body)))
    return response


def refusal(hub: Hub, refused: Refused) -> bottle.HTTPResponse:
    """What the client hears of it."""
    return answer(hub, refused.status, jsontext.encode(refused.body))


class Query(dict[str, str]):
    """The parameters of a request, of a name that came several times the last. What they say raises Refused where it
    makes no sense."""

    @classmethod
    def of_request(cls) -> Query:
        """Those of the request that is being answered."""
        parsed = parse_qs(bottle.request.environ.get("QUERY_STRING", ""), keep_blank_values=True)
        return cls({name: values[-1] for name, values in parsed.items()})

    def names(self, name: str) -> Optional[frozenset[str]]:
        """Those that are joined by commas; None: the parameter is not there."""
        if name not in self:
            return None
        names = frozenset(part for part in self[name].split(",") if part)
        if not names:
            raise self.bad(name, "names joined by commas")
        return names

    def flag(self, name: str, *, default: bool = False) -> bool:
        """True or false; `default`: the parameter is not there."""
        if name not in self:
            return default
        try:
            return {"true": True, "1": True, "false": False, "0": False, "": False}[self[name]]
        except KeyError:
            raise self.bad(name, "true or false") from None

    def seconds(self, name: str, least: float, most: float) -> Optional[float]:
        """A time from `least` to `most`; None: the parameter is not there."""
        if name not in self:
            return None
        try:
            seconds = float(self[name])
        except ValueError:
            seconds = -1.0
        if not least <= seconds <= most:
            raise self.bad(name, f"seconds from {least:g} to {most:g}")
        return seconds

    def bad(self, name: str, wanted: str) -> Refused:
        """To be raised: the parameter is not what is `wanted`."""
        return Refused(400, {"error": f"bad value for {name}: {self[name][:100]!r}; give {wanted}"})
