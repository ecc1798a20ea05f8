# SPDX-License-Identifier: MPL-2.0
"""The examples of docs/vmadm.md do what they show: run in their order on one node, in a shell."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.deadlines import SOON
from support.running_daemon import SBIN
from support.writing import outcome, written_node
from vmadm.cli.usage import WRITES

CHECKOUT = Path(__file__).resolve().parents[2]
SECTION = (CHECKOUT / "docs" / "vmadm.md").read_text().partition("\n## Examples\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```console\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
COMMANDS = [pair for block in BLOCKS for pair in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]
PLACEHOLDER = re.compile(r"\b(UUID|RULE|KVM)\b")
READS = {"list", "lookup", "get", "info", "events"}


def shown_as_pattern(shown, bound):
    """What an example shows, as a pattern: a placeholder is what it was before, or any uuid the first time."""
    known = PLACEHOLDER.sub(lambda match: bound.get(match[1], match[0]), shown)
    parts = PLACEHOLDER.split(known)
    return "".join(
        f"(?P<{part}>[0-9a-f-]{{36}})" if number % 2 else re.escape(part) for number, part in enumerate(parts)
    )


def test_examples_print_what_they_show(tmp_path):
    bound = {}
    with written_node(vms=0) as cn, cn.node.vmadmd():
        path = f"{SBIN}:{cn.root}/usr/sbin:{Path(sys.executable).parent}:/usr/bin:/bin"
        for command, shown in COMMANDS:
            words = PLACEHOLDER.sub(lambda match: bound.get(match[1], match[0]), command)
            done = subprocess.run(
                ["bash", "-c", words],
                env={**cn.environ, "PATH": path},
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SOON,
                check=False,
            )
            text = outcome(done.stdout)
            said = text + "\n" if text else ""
            found = re.fullmatch(shown_as_pattern(shown, bound), said)
            assert found is not None, f"$ {command}\n{said}"
            bound.update(found.groupdict())
        assert set(bound) == {"UUID", "RULE", "KVM"}
        assert os.path.exists(f"{cn.root}/var/fw/rules/{bound['RULE']}.json")
        assert cn.is_gone(bound["UUID"])


@pytest.mark.pure
def test_every_command_has_an_example():
    shown = {word for command, _ in COMMANDS for word in re.findall(r"vmadm ([a-z-]+)", command)}
    assert shown >= {*WRITES, *READS}
