# SPDX-License-Identifier: MPL-2.0
"""The event sources: child processes that are kept running, and what their lines say, translated.

    child.py        a process that is started, read line by line, and replaced when it fails
    zonewatcher.py  zpoolwatcher.py    what `sysevent` says about zones and about datasets
    fswatcher.py                       the client of `fswatcher`, which is told what to watch

Always: a watcher only translates. It never reads the cache, decides about a VM, or emits; platform words stop here."""
