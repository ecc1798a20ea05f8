# SPDX-License-Identifier: MPL-2.0
"""Text to numbers, and numbers to JSON (docs/platform.md, "Numbers and names", docs/vm-object.md, "How text becomes a
value" and "Numbers, dates and units")."""

import json
import math

import pytest

from jsvalues.numberrule import number
from support.handmade_node import HandmadeNode, U, canonical, device, nic, rctl

NUMBERS = [
    ("", 0),
    ("   ", 0),
    ("\t\n", 0),
    ("0", 0),
    ("12", 12),
    (" 12 ", 12),
    ("\t12\n", 12),
    ("007", 7),
    ("-5", -5),
    ("+5", 5),
    ("-0", 0),
    ("1.5", 1.5),
    (".5", 0.5),
    ("5.", 5),
    ("-.5", -0.5),
    ("+1.25", 1.25),
    ("1e3", 1000),
    ("1E3", 1000),
    ("1e+3", 1000),
    ("25e-2", 0.25),
    ("1.5e1", 15),
    (".5e1", 5),
    ("5.e1", 50),
    ("0x1F", 31),
    ("0X1f", 31),
    ("0o17", 15),
    ("0O17", 15),
    ("0b101", 5),
    ("0B101", 5),
    (" 0x10 ", 16),
    ("0x00", 0),
    ("1773403317.52104", 1773403317.52104),
    ("9007199254740993", 9007199254740993),  # above 2^53: stays exact
    ("18446744073709551615", 18446744073709551615),
]

NO_NUMBERS = [
    "-",
    "+",
    ".",
    "-.",
    "e5",
    "1e",
    "1e+",
    "abc",
    "12abc",
    "1 2",
    "1,5",
    "--1",
    "+-1",
    "1.2.3",
    "1e1.5",
    "true",
    "null",
    "1_0",
    "0x_1",
    "1_0.5",
    "1e1_0",  # Python takes these
    "nan",
    "NaN",
    "inf",
    "-inf",
    "Infinity",
    "infinity",  # and these
    "\u0661\u0662",
    "\uff11",
    "\u00b2",  # and digits that are not ASCII
    "0x",
    "0o",
    "0b",
    "0xg",
    "0b2",
    "0o8",
    "0x1.5",
    "-0x10",
    "+0x10",
    "-0b1",
    "0x 1",
    "x10",
    "10L",
    "0x1p3",
    "\x00",
    "1\x00",
]


@pytest.mark.pure
@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_text_by_the_number_rule_is_this_number(text, value):
    assert number(text) == value


@pytest.mark.pure
@pytest.mark.parametrize("text", NO_NUMBERS)
def test_text_that_is_no_number_is_none(text):
    assert number(text) is None


@pytest.mark.pure
def test_integers_above_2_to_the_53_keep_their_low_digits_and_their_type():
    assert isinstance(number("9007199254740993"), int)


@pytest.mark.pure
@pytest.mark.parametrize("text", ["1" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000, "0b" + "1" * 20000])
def test_digits_without_end_are_no_error(text):
    value = number(text)  # no double holds it; Python's int() refuses above 4300 digits
    assert value is None or isinstance(value, (int, float))


@pytest.fixture
def node(tmp_path):
    return HandmadeNode(tmp_path)


def ram(node, text):
    node.zone(attrs={"ram": text})
    return json.dumps(node.vm()["ram"], allow_nan=False)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("10240.0", "10240"),
        ("1e3", "1000"),
        ("-0.0", "0"),
        ("0.5", "0.5"),
        ("0x10", "16"),
        ("", "0"),
        ("9007199254740993", "9007199254740993"),
        ("-", "null"),
        ("abc", "null"),
        ("NaN", "null"),
        ("Infinity", "null"),
        ("1e999", "null"),
        ("-1e999", "null"),
    ],
)
def test_whole_numbers_are_written_as_integers_and_no_number_as_null(node, text, written):
    # docs/vm-object.md, "Numbers, dates and units"; what no double can hold has no JSON form either
    assert ram(node, text) == written


def test_a_number_too_long_for_a_double_costs_no_vm_and_leaves_valid_json(node):
    node.zone(attrs={"ram": "1" * 5000})
    vm = node.loader().load_all().vms[U]
    assert "Infinity" not in json.dumps(vm["ram"])


@pytest.mark.parametrize(
    ("limit", "mib"),
    [
        ("268435456", "256"),
        ("0", "0"),
        ("", "0"),
        ("x", "null"),
        ("524288", "0.5"),
        ("1", "9.5367431640625e-07"),
        ("268435457", "256.0000009536743"),
        ("18446744073709551615", "17592186044416"),  # as doubles: 2^64 / 2^20
    ],
)
def test_bytes_become_mib_unrounded(node, limit, mib):
    # 268435457 / 1048576 = 256 + 2^-20, of which the shortest decimal is 256.0000009536743 (docs/vm-object.md,
    # "Numbers, dates and units")
    node.zone(inner=rctl("zone.max-swap", limit))
    assert json.dumps(node.vm()["max_swap"]) == mib


def xml_value(node, name, text, prop):
    node.zone(attrs={name: text})
    return canonical(node.vm()[prop])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("TRUE", "TRUE"),
        ("True", "True"),
        ("1", "1"),
        ("0", "0"),
        ("", ""),
        (" true", " true"),
        ("yes", "yes"),
        ("null", "null"),
    ],
)
def test_only_true_and_false_to_the_letter_are_booleans(node, text, value):
    assert xml_value(node, "docker", text, "docker") == canonical(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("ZGItMDE=", "db-01"),
        ("ZGItMDE", "db-01"),
        ("YQ", "a"),
        ("YWI", "ab"),  # padding left out
        ("", ""),
        ("ZGIt MDE=", "db-01"),
        (" ZGIt\nMDE= ", "db-01"),
        ("ZG\tIt", "db-"),  # white space
        ("Pj4+", ">>>"),
        ("Pj4-", ">>>"),
        ("Pz8/", "???"),
        ("Pz8_", "???"),  # 3e3e3e and 3f3f3f, both alphabets
        ("Z!G.I*t", "db-"),
        ("Z\u00e9GIt", "db-"),
        ("(ZGIt)", "db-"),  # other characters are skipped
        ("/w==", "\ufffd"),
        ("//4=", "\ufffd\ufffd"),  # ff; ff fe
        ("4oI=", "\ufffd"),  # e2 82: one broken character
        ("YWL/Y2Q=", "ab\ufffdcd"),  # 61 62 ff 63 64
        ("4pyT", "\u2713"),
        ("8J+YgA==", "\U0001f600"),  # e2 9c 93; f0 9f 98 80
        ("bGluZTEKbGluZTI=", "line1\nline2"),
        ("c2F5ICJoaSI=", 'say "hi"'),
        ("!!!", ""),
    ],
)
def test_base64_is_read_leniently(node, text, value):
    assert xml_value(node, "alias", text, "alias") == canonical(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8.8.8.8", ["8.8.8.8"]),
        ("a,b", ["a", "b"]),
        ("a,,b", ["a", "", "b"]),
        ("", [""]),
        (",", ["", ""]),
        (" a, b ", [" a", " b "]),
        ("a,", ["a", ""]),
    ],
)
def test_a_comma_list_is_split_and_nothing_else(node, text, value):
    assert xml_value(node, "resolvers", text, "resolvers") == canonical(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("25,587", [25, 587]),
        ("25,,x", [25, 0, None]),
        ("", [0]),
        (" 25 ,0x10", [25, 16]),
        ("1_0", [None]),
        ("2.50", [2.5]),
    ],
)
def test_a_comma_number_list_takes_each_part_by_the_number_rule(node, text, value):
    node.zone(inner=nic("net0", blocked_outgoing_ports=text))
    assert canonical(node.vm()["nics"][0]["blocked_outgoing_ports"]) == canonical(value)


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("1773403200", "2026-03-13T12:00:00.000Z"),
        ("0", "1970-01-01T00:00:00.000Z"),
        ("", "1970-01-01T00:00:00.000Z"),
        ("1773403200.25", "2026-03-13T12:00:00.250Z"),
        (" 1773403200 ", "2026-03-13T12:00:00.000Z"),
        ("4102444799", "2099-12-31T23:59:59.000Z"),
    ],
)
def test_seconds_become_an_iso_time_with_three_digits_of_milliseconds(node, text, iso):
    node.zone()
    node.stats(U, boot_time=text)
    assert node.vm()["boot_timestamp"] == iso


@pytest.mark.parametrize("text", ["soon", "-", "1e300", "-1e300", "1e999"])
def test_a_boot_time_that_is_no_date_costs_no_vm(node, text):
    node.zone()
    node.stats(U, boot_time=text, init_pid="5")
    vm = node.vm()
    assert vm["pid"] == 5
    assert vm.get("boot_timestamp") is None


def test_no_property_of_an_object_is_a_float_that_is_whole(node):
    # one VM with every sort of arithmetic in it: GiB of quota, MiB of rctl, snapshot and disk
    node.zone(
        brand="bhyve",
        attrs={"flexible-disk-size": "20480", "ram": "1024"},
        inner=rctl("zone.max-swap", "2147483648") + device(f"/dev/zvol/rdsk/zones/{U}/disk0", boot="true"),
        root_dataset={"refquota": 3 << 30},
    )
    node.volume(f"zones/{U}/disk0", 10 << 30, refreservation=11 << 30, usedbysnapshots=1 << 20)
    node.snapshot(f"zones/{U}@vmsnap-a", written=2 << 20)
    vm = node.loader().load(U)

    def floats(value):
        if isinstance(value, float):
            yield value
        elif isinstance(value, dict):
            for inner in value.values():
                yield from floats(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from floats(inner)

    assert [value for value in floats(json.loads(json.dumps(vm))) if math.floor(value) == value] == []
    assert canonical(
        [
            vm["quota"],
            vm["max_swap"],
            vm["disks"][0]["size"],
            vm["disks"][0]["refreservation"],
            vm["snapshots"][0]["size"],
            vm["free_space"],
        ]
    ) == canonical([3, 2048, 10240, 11264, 2, 10239])
