# SPDX-License-Identifier: MPL-2.0
"""`python3 mockcn ctl --root DIR ORDER ...`: control.py for people, one order a call.

The orders are the methods of Control; their signatures give the words, their docstrings the help."""

import argparse
import inspect
import json
import sys
from typing import Any

from mockcn.control import Control, NodeGone, OrderRefused

EXAMPLES = """examples:
  mockcn ctl --root /tmp/node vms
  mockcn ctl --root /tmp/node halt 5b0e7ae8-9c1a-4b7e-8f63-2d1f0c9a4e11 --status 3328
  mockcn ctl --root /tmp/node set_attr UUID hostname new-name
  mockcn ctl --root /tmp/node write_config UUID tags '{"role":"db"}'
  mockcn ctl --root /tmp/node fault zfs slow --match list --times 3 seconds=2
  mockcn ctl --root /tmp/node churn 100 --pause 0.2

A value that is JSON is taken as that (numbers, null, objects), any other as text. NAME=VALUE gives an order's further
options, such as those of a fault (docs/mockcn.md)."""
NOT_FOR_PEOPLE = ("order", "real")


def orders() -> dict[str, Any]:
    """Name -> method, in the order of control.py."""
    return {
        name: method
        for name, method in vars(Control).items()
        if callable(method) and not name.startswith("_") and name not in NOT_FOR_PEOPLE
    }


def value(text: str) -> Any:
    """JSON if it is, text if not."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog="mockcn ctl",
        description="Change a mock node that runs, or break it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    words.add_argument("--root", required=True, metavar="DIR", help="the node's root folder")
    subcommands = words.add_subparsers(dest="order", required=True, metavar="ORDER")
    for name, method in orders().items():
        about = (inspect.getdoc(method) or name.replace("_", " ")).partition("\n\n")[0]
        sub = subcommands.add_parser(
            name, help=about.split(".")[0].replace("\n", " ").replace("%", "%%"), description=about.replace("%", "%%")
        )
        for parameter in list(inspect.signature(method).parameters.values())[1:]:
            if parameter.kind is parameter.VAR_KEYWORD:
                sub.usage = f"mockcn ctl --root DIR {name} [...] [NAME=VALUE ...]"
                sub.set_defaults(more=True)
            elif parameter.default is parameter.empty:
                sub.add_argument(parameter.name, type=value if parameter.name != "key" else str)
            elif isinstance(parameter.default, bool):
                sub.add_argument(f"--{parameter.name}", action="store_true")
            else:
                sub.add_argument(f"--{parameter.name}", type=value, default=parameter.default, metavar="VALUE")
    return words


def main(argv: list[str]) -> int:
    parsed, further = parser().parse_known_args(argv)
    given = vars(parsed)
    control, name, takes_more = Control(given.pop("root")), given.pop("order"), given.pop("more", False)
    for option in further:
        key, equals, text = option.partition("=")
        if not equals or not takes_more:
            print(f"mockcn ctl: {name} does not take {option}", file=sys.stderr)
            return 2
        given[key] = value(text)
    try:
        result = getattr(control, name)(**given)
    except (OrderRefused, NodeGone) as err:
        print(f"mockcn ctl: {err}", file=sys.stderr)
        return 1
    if isinstance(result, list):
        for item in result:
            print(item if isinstance(item, str) else json.dumps(item, ensure_ascii=False))
    elif result is not None:
        print(result if isinstance(result, str) else json.dumps(result, ensure_ascii=False))
    return 0
