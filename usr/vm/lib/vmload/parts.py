# SPDX-License-Identifier: MPL-2.0
"""The parts of what is known about a zone, by the names that tasks and logs show."""

from __future__ import annotations

ZONEADM = "zoneadm_objects"
ZONEINFO = "zoneinfo_objects"
ZONEXML = "zonexml_objects"
LAST_EXITED = "last_exited"
JSON = "json_objects"
DATASETS = "dataset_objects"

# Those that come from the files of a zone. When a file was changed is read together with what is in it.
OF_FILES = frozenset({ZONEXML, LAST_EXITED, JSON})

ALL = frozenset({ZONEADM, ZONEINFO, ZONEXML, LAST_EXITED, JSON, DATASETS})
