# SPDX-License-Identifier: MPL-2.0
"""CONTRIBUTING.md keeps its promises: its patches fit the tree as it is, and on a copy with all of them applied the
commands it shows print what it shows."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mockcn import process
from support.deadlines import SOON
from support.ports import free_port
from support.running_daemon import RunningDaemon, eventually

CHECKOUT = Path(__file__).resolve().parents[2]
GUIDE = (CHECKOUT / "CONTRIBUTING.md").read_text()

SECTIONS = {part.partition("\n")[0]: part for part in GUIDE.split("\n## ") if "```diff" in part}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What the guide writes as a command and is none. `vminfod-log TEXT` prints TEXT once the daemon has logged it.
SHELL = """
mockcn() { shift; "$PYTHON" "$CHECKOUT/mockcn" ctl --root "$VMADM_ROOT" "$@"; }
vminfod-log() { for i in $(seq 300); do grep -o -m1 -e "$1" "$LOG" && return; sleep 0.1; done; }
"""


def blocks(section, kind):
    return [text for found, text in BLOCK.findall(SECTIONS[section]) if found == kind]


def apply_patch(tree, patch):
    """Apply a diff whose hunks are found by their text, wherever in the file they stand. It must stand there once."""
    for part in re.split(r"^--- ", patch, flags=re.MULTILINE)[1:]:
        head, *hunks = re.split(r"^@@.*\n", part, flags=re.MULTILINE)
        before, after = re.findall(r"(?:^|\+\+\+ )(\S+)$", head, re.MULTILINE)
        path = tree / after.removeprefix("b/")
        assert before == "/dev/null" or path.exists(), f"{after} is not there"
        text = path.read_text() if path.exists() else ""
        for hunk in hunks:
            lines = hunk.splitlines(keepends=True)
            old = "".join(line[1:] or "\n" for line in lines if not line.startswith("+"))
            new = "".join(line[1:] or "\n" for line in lines if not line.startswith("-"))
            assert not old or text.count(old) == 1, f"{after}: this is there {text.count(old)} times:\n{old}"
            text = text.replace(old, new, 1) if old else new
        path.write_text(text)


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A copy of the product with every patch of the guide."""
    tree = tmp_path_factory.mktemp("tree")
    shutil.copytree(CHECKOUT / "usr", tree / "usr", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "ruff.toml", tree)
    for section in SECTIONS:
        for patch in blocks(section, "diff"):
            apply_patch(tree, patch)
    return tree


@pytest.fixture(scope="module")
def shell(changed):
    """Runs the guide's commands against a daemon of the changed tree; (function, uuid of a running OS zone)."""
    folder = tempfile.mkdtemp(prefix="cn-")  # not pytest's own: those paths are too long for a socket's name
    log = changed / "log"
    with process.start(os.path.join(folder, "node"), vms=12) as node, open(log, "wb") as out:
        port = free_port()
        sbin = changed / "usr" / "vm" / "sbin"
        words = [
            sys.executable,
            str(sbin / "vminfod"),
            "--root",
            node.root,
            "--port",
            str(port),
            "--log-level",
            "debug",
        ]
        daemon = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out)
        probe = RunningDaemon(node.root, port=port)
        probe.process = daemon
        try:
            eventually("the daemon answers", probe.answers)
            uuid = next(vm["uuid"] for vm in probe.vms() if vm["brand"] == "joyent-minimal")
            environ = {
                "PATH": f"{sbin}:{Path(sys.executable).parent}:/usr/bin:/bin",
                "VMADM_ROOT": node.root,
                "VMINFOD_PORT": str(port),
                "PYTHON": sys.executable,
                "CHECKOUT": str(CHECKOUT),
                "LOG": str(log),
            }

            def run(command):
                done = subprocess.run(
                    ["bash", "-c", SHELL + command],
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=SOON,
                    check=False,
                )
                return done.stdout

            yield run, uuid
        finally:
            daemon.terminate()
            daemon.wait(SOON)
    shutil.rmtree(folder, ignore_errors=True)


def test_every_kind_of_addition_has_a_worked_example():
    added = [title for title in SECTIONS if title.startswith("Add ")]
    assert len(added) == 5
    for title in added:
        assert blocks(title, "diff"), title
        assert blocks(title, "console"), title


@pytest.mark.parametrize("section", SECTIONS)
def test_commands_print_what_the_guide_shows(section, shell):
    run, uuid = shell
    for block in blocks(section, "console"):
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            said = run(command.replace("UUID", uuid))
            assert said == shown.replace("UUID", uuid), command


def test_patched_tree_is_written_as_the_rest_is(changed):
    """Its imports are in order, its lines as the formatter leaves them."""
    for words in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "."], cwd=changed, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_hooks_before_a_commit_are_those_of_make_lint():
    hooks = (CHECKOUT / ".pre-commit-config.yaml").read_text()
    makefile = (CHECKOUT / "Makefile").read_text()
    assert set(re.findall(r"repo: (\S+)", hooks)) == {"local"}  # nothing is fetched
    entries = re.findall(r"entry: \.venv/bin/(.+)", hooks)
    assert len(entries) == 3
    for entry in entries:
        program = entry.replace(" --force-exclude", "")
        assert f"$(VENV)/bin/{program}" in makefile, f"make lint does not run {program}"
