# SPDX-License-Identifier: MPL-2.0
"""What a line of a child says, for the functions that translate it."""

from vminfod.watchers.lines import BadLine, json_objects


def said(line):
    """The JSON object that the line is; raises the BadLine if it is none."""
    [record] = json_objects([line])
    if isinstance(record, BadLine):
        raise record
    return record
