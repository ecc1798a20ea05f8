# SPDX-License-Identifier: MPL-2.0
"""JSON is read alike whether `json` has been imported or not, right or wrong."""

import json
import os
import subprocess
import sys

import pytest

from support.deadlines import SOON
from support.running_daemon import CHECKOUT

GOOD = ['{"a": [1, 2.50, 1e3, null, true]}', " [1]\n", '"\\ud83d\\ude00 \\u00e4"']
WRONG = ["1 2", "{", "[1,", "", "nul", "[NaN]", '"\\ud8', '{"a" 1}', "\ufeff1"]
LIB = os.path.join(CHECKOUT, "usr", "vm", "lib")
READ = """
import sys
sys.path.insert(0, sys.argv[1])
from vminfod.clients import plainjson
assert "json" not in sys.modules
try:
    print(plainjson.pretty(plainjson.parsed_as_spelled(sys.argv[2])))
except plainjson.ParseError as error:
    print("ParseError", error.message)
"""


@pytest.mark.parametrize("text", [*GOOD, *WRONG])
def test_json_is_read_as_by_the_module_json_which_is_imported_only_for_what_is_none(text):
    command = [sys.executable, "-IS", "-X", "utf8", "-c", READ, LIB, text]
    said = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=SOON, check=True).stdout
    try:
        value = json.loads(text)
    except ValueError as error:
        assert said == f"ParseError {error}\n"
        return
    if text == "[NaN]":
        assert said == "ParseError NaN is not JSON\n"
    else:
        assert json.loads(said) == value
        assert "2.50" not in text or "2.50" in said
