# SPDX-License-Identifier: MPL-2.0
"""The manual pages name every command and option that the programs take, and no other; mandoc takes them."""

import contextlib
import io
import re
import subprocess
from pathlib import Path

import pytest

from support.running_daemon import CHECKOUT
from vmadm.cli import cmdline, optiontable
from vmadm.cli.usage import ALIASES, WRITES, help_text, usage_text
from vminfod import client
from vminfod import main as vminfod_main
from vminfod.cli import vminfo_command, zoneevent

MAN = Path(CHECKOUT) / "man"
PAGES = sorted(MAN.glob("man*/*"))
LONG = re.compile(r"(?<![\w-])--([a-z][a-z-]+)")


def page(name):
    [path] = MAN.glob(f"man*/{name}")
    return path.read_text()


def options(page_text):
    """(short ones, long ones) that a page in mdoc describes: `.It Fl j , -json Ar x`."""
    short, long = set(), set()
    for words in re.findall(r"^\.It Fl (.*)$", page_text, re.M):
        for word in re.findall(r"(?:^|, )(-?[\w-]+)", words):
            (long if word.startswith("-") else short).add(word.removeprefix("-"))
    return short, long


@pytest.mark.pure
def test_the_page_of_the_daemon_has_its_options():
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit):
        vminfod_main.main(["--help"])
    short, long = options(page("vminfod.8"))
    assert short == set()
    assert long == set(LONG.findall(printed.getvalue()))


@pytest.mark.pure
def test_the_page_of_zoneevent_has_its_options():
    assert options(page("zoneevent.8")) == ({"i", "l", "h"}, set(LONG.findall(zoneevent.USAGE)))


@pytest.mark.pure
def test_the_page_of_vminfo_has_its_commands_and_their_options():
    text = page("vminfo.8")
    described = re.split(
        r"^\.It Cm (\w+).*$", text.partition(".Sh DESCRIPTION")[2].partition(".Sh ENVIRONMENT")[0], flags=re.M
    )
    commands = dict(zip(described[1::2], described[2::2], strict=True))
    assert set(commands) == {"ping", "help", *vminfo_command.OPTIONS}
    for name, body in commands.items():
        taken = {**vminfo_command.OPTIONS.get(name, {}), **getattr(vminfo_command, "VALUED", {}).get(name, {})}
        taken.pop("h", None)  # said once, for all of them
        assert options(body) == (set(taken), set(taken.values())), name
    assert set(re.findall(r"^\.Cm (\w+)$", text.partition(".Sh DESCRIPTION")[0], re.M)) == set(commands)


def as_mdoc(usage):
    """A line of vmadm's usage as the page writes it."""
    text = usage.replace("[-s <signal>|-<signal>]", "Oo Fl s Ar signal | Fl Ns Ar signal Oc")
    text = text.replace("[--serial|--vnc]", "Oo Fl -serial | Fl -vnc Oc")
    text = text.replace("<nmi|screenshot>", "Cm nmi | screenshot")
    text = re.sub(r"\[-(\w+) (?:<(\w+)>|([\w,.]+))\]", lambda m: f"Oo Fl {m[1]} Ar {m[2] or m[3]} Oc", text)
    text = re.sub(r"\[-(\w+)\]", r"Oo Fl \1 Oc", text)
    text = re.sub(r"\[([\w=]+ \.\.\.|\w+,?\.*)\]", r"Op Ar \1", text)
    text = re.sub(r"<(\w+)>", r"Ar \1", text)
    return re.sub(r"(?<!Ar )\b(\w+=\w+)", r"Ar \1", text)


@pytest.mark.pure
def test_the_page_of_vmadm_has_each_line_of_its_usage():
    usages = usage_text("vmadm").split("\n\n")[1].splitlines()
    expected = {f".It Cm {as_mdoc(usage.strip().removeprefix('or '))}" for usage in usages}
    described = page("vmadm.8").partition(".Sh DESCRIPTION")[2].partition(".Sh ENVIRONMENT")[0]
    assert set(re.findall(r"^\.It Cm .*$", described, re.M)) == expected
    for name in ALIASES:
        assert f"\n.Cm {name}\n" in described


@pytest.mark.pure
def test_the_page_of_vmadm_has_each_option_with_its_long_name():
    """Of the tables that the command itself looks words up in."""
    text = page("vmadm.8")
    known = {option for options in optiontable.OPTIONS.values() for option in options} | set(cmdline.EVERYWHERE)
    assert len(known) > 10
    for option in known:
        only_long = option.letter == option.name
        both = f"Fl {option.letter}" + (f" , -{option.name}" if option.name else "")
        assert (f".It Fl -{option.name}\n" if only_long else both) in text, option.letter


@pytest.mark.pure
def test_help_tells_of_each_command_of_vmadm():
    for command in [*WRITES, *ALIASES, "events", "get", "help", "info", "list", "lookup"]:
        text = help_text("vmadm", command)
        assert text.startswith("Usage:\n  vmadm ") and len(text.splitlines()) >= 3, command
        assert all(len(line) < 100 for line in text.splitlines()), command
    assert help_text("vmadm", "frobnicate") == ""


@pytest.mark.pure
def test_the_page_of_the_client_library_has_its_names():
    text = page("vminfod.client.3")
    named = set(re.findall(r"\b(?:Fn|Vt) (\w+)", text))
    assert set(client.__all__) <= named
    for kind in (client.VminfodClient, client.VminfodEventStream, client.VminfodWatcher):
        methods = {name for name in vars(kind) if not name.startswith("_")}
        assert methods <= named, kind


@pytest.mark.more
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_mandoc_has_nothing_to_say_about_a_page(path):
    """But that the pages of the others are not installed on this machine."""
    linted = subprocess.run(["mandoc", "-Tlint", str(path)], capture_output=True, text=True)
    assert [line for line in linted.stdout.splitlines() if "referenced manual not found" not in line] == []
