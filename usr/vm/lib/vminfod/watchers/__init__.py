# SPDX-License-Identifier: MPL-2.0
"""The event sources: child processes that are kept running, and what their lines say, translated.

    process.py  pipes.py  lines.py     a process, its pipes, and the lines in them
    child.py  garbage.py               a process that is started, read line by line, and replaced when it fails
    sysevent.py  zonewatcher.py  zpoolwatcher.py    what `sysevent` says about zones and about datasets
    fswatcher.py  filemessages.py      the client of `fswatcher`, which is given the paths to watch
    missing.py                         paths that are not there, and when to try them again
    suspicion.py  trial.py  quarantine.py           paths that the child ends or hangs of
    silence.py                         a source that says nothing while the others speak

Always: a watcher only translates. It never reads the cache, decides about a VM, or emits; platform words stop here."""
