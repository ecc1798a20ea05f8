# SPDX-License-Identifier: MPL-2.0
"""Fixtures: a node that vmadm changes (writing.py).

`cn` is shared by a module's tests, which change VMs of their own (cn.add(), cn.create()); `own_cn` is for what concerns
the whole node or the daemon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.running_daemon import EventLines
from support.writing import WrittenNode, written_node


@pytest.fixture(scope="module")
def cn(request: pytest.FixtureRequest) -> Iterator[WrittenNode]:
    """Shared by the module. The daemon logs at level info, unless the module has another LOG_LEVEL: a write makes some
    hundred debug records, which few modules read."""
    with written_node(2, None, "--log-level", getattr(request.module, "LOG_LEVEL", "info")) as shared:
        yield shared


@pytest.fixture
def own_cn() -> Iterator[WrittenNode]:
    with written_node(2, None, "--log-level", "info") as own:
        yield own


@pytest.fixture
def events(cn: WrittenNode) -> Iterator[EventLines]:
    """What happens from here on; without the snapshot."""
    opened = cn.daemon.events("?vms=false")
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _no_faults_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "cn" in request.fixturenames:
        request.getfixturevalue("cn").control.clear_faults()
