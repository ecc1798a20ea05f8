# SPDX-License-Identifier: MPL-2.0
"""The program vmadm, to be forked (forking.py): what usr/vm/sbin/vmadm does, with every module loaded that a command of
it may want."""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
from typing import NoReturn

import vmadm
from vmadm.cli.main import main as vmadm_main

for module in pkgutil.walk_packages(vmadm.__path__, "vmadm."):
    importlib.import_module(module.name)


def main(words: list[str]) -> NoReturn:
    gc.disable()
    os._exit(vmadm_main(words, os.environ))
