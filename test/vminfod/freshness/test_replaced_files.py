# SPDX-License-Identifier: MPL-2.0
"""The folder of the zones' XML, replaced while it is being watched anew: with the old watch its event is lost."""

from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest

from support.recording_log import RecordingLog
from vminfod.freshness.filewatches import FileWatcher, FileWatches, watched_for
from vminfod.freshness.reloads import Reloads
from vminfod.freshness.replacedfiles import ReplacedFiles
from vminfod.freshness.sysinforeads import SysinfoReads
from vminfod.freshness.zoneindex import ZoneIndex
from vminfod.serving.cause import REFRESH
from vmload import parts as part
from vmload.reader import ZONES_FOLDER
from vmload.records import Zone

pytestmark = pytest.mark.pure

U = "0f3d2c1b-6a58-4c97-9e02-7b6a5d4c3e2f"
ZONE = Zone(None, U, "installed", f"/zones/{U}", U, "joyent", 0)
XML = f"/etc/zones/{U}.xml"


class Cache(dict):
    records = dict.get


def test_folder_that_is_replaced_while_it_is_watched_anew_is_looked_at_once_more():
    there = dict.fromkeys([*watched_for(ZONE), ZONES_FOLDER], (1, 1))
    watcher, reloads = create_autospec(FileWatcher, instance=True), create_autospec(Reloads, instance=True)
    watches = FileWatches(watcher, RecordingLog())
    watches.set(ZONE, dict(there))

    def replace(path):
        if path == ZONES_FOLDER:
            there.update({ZONES_FOLDER: (1, 2), XML: (1, 3)})

    watcher.unwatch.side_effect = replace
    watcher.watch.reset_mock()
    replaced_files = ReplacedFiles(
        SimpleNamespace(sources=SimpleNamespace(identities=lambda paths: {path: there[path] for path in paths})),
        Cache({U: SimpleNamespace(zone=ZONE)}),
        watches,
        reloads,
        create_autospec(SysinfoReads, instance=True),
        create_autospec(ZoneIndex, instance=True),
        SimpleNamespace(files=lambda _pool, _what, look: look()),
        RecordingLog(),
    )
    replaced_files.folder_changed(REFRESH)
    replaced_files._looking.join()
    assert [one.args[0] for one in watcher.watch.call_args_list] == [ZONES_FOLDER, ZONES_FOLDER, XML]
    reloads.mark.assert_called_once_with(U, frozenset({part.ZONEXML}), cause=REFRESH)
