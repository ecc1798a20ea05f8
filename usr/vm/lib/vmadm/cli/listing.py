# SPDX-License-Identifier: MPL-2.0
"""The table of `vmadm list`: trim, sort, print (docs/vmadm.md).

Surprising, but scripts rely on it: each VM is trimmed to the columns that are printed *before* it is sorted. So a
sort field that is no column sorts nothing, and a VM that has none of the columns is not listed at all."""

from __future__ import annotations

from vmadm.cli.fields import COLUMNS, DOTTED_WIDTH, is_column, is_starred, value
from vmadm.errors import CommandFailed
from vminfod.cli.colours import painted
from vminfod.cli.stdio import escaped
from vminfod.clients.vmfilter import MISSING, as_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

NO_COLOURS: Mapping[str, str] = {}
DEFAULT_ORDER = "uuid,type,ram,state,alias"
DEFAULT_SORT = "ram,uuid"
COLUMN_GAP = "  "
PARSABLE_GAP = ":"


class BadField(CommandFailed):
    """A field that is no column."""


def check_starred(order: list[str], sort: list[str]) -> None:
    """Refuse `nics.*.ip` and its like, which are filters only. Raises BadField."""
    for kind, names in (("order", order), ("sort", sort)):
        for field in names:
            if is_starred(_unsigned(field)):
                raise BadField(f'Invalid {kind} key: "{field}"')


def check_columns(order: list[str], sort: list[str]) -> None:
    """Refuse every other name that is no column. Raises BadField."""
    for kind, names in (("sort", sort), ("order", order)):
        for field in names:
            if not is_column(_unsigned(field) if kind == "sort" else field):
                raise BadField(f"invalid {kind} field: {field}")


def table(
    vms: list[dict[str, Any]],
    *,
    order: list[str],
    sort: list[str],
    parsable: bool,
    header: bool,
    shown: bool,
    of_state: Mapping[str, str] = NO_COLOURS,
) -> str:
    """All lines of the listing, each with its newline; `vms` have their derived fields already.

    `shown` on a terminal: what would drive it is escaped, before the columns are measured. `of_state`: the colours of
    states (vminfod.cli.colours)."""
    rows = [[value(vm, field) for field in order] for vm in arranged(vms, order=order, sort=sort)]
    cells = [[cell_text(cell, blank="" if parsable else "-") for cell in row] for row in rows]
    if header:
        cells.insert(0, [_header(field) for field in order])
    if shown:
        cells = [[escaped(cell) for cell in row] for row in cells]
    if parsable:
        lines = [PARSABLE_GAP.join(row) for row in cells]
    else:
        widths = [COLUMNS[field][1] if field in COLUMNS else DOTTED_WIDTH for field in order]
        lines = [COLUMN_GAP.join(map(str.ljust, row, widths)).rstrip() for row in cells]
        if of_state and "state" in order:
            start = sum(width + len(COLUMN_GAP) for width in widths[: order.index("state")])
            lines = [_painted(line, start, row[order.index("state")], of_state) for line, row in zip(lines, cells)]  # noqa: B905
    return "".join([line + "\n" for line in lines])


def _painted(line: str, start: int, state: str, of_state: Mapping[str, str]) -> str:
    """`line` with its state in colour, if that stands where it should: what is too wide moves what follows it."""
    end = start + len(state)
    if line[start:end] != state or state not in of_state:
        return line
    return line[:start] + painted(state, of_state[state]) + line[end:]


def arranged(vms: list[dict[str, Any]], *, order: list[str], sort: list[str]) -> list[dict[str, Any]]:
    """`vms` trimmed to the top-level names of `order`, empty ones dropped, sorted by `sort`."""
    names = dict.fromkeys([field.partition(".")[0] for field in order])
    trimmed = [kept for kept in [{name: vm[name] for name in names if name in vm} for vm in vms] if kept]
    for field in reversed(sort):  # sorting is stable: the least important field first
        trimmed.sort(key=_sort_key(_unsigned(field)), reverse=field.startswith("-"))
    return trimmed


def cell_text(cell: Any, *, blank: str) -> str:
    """What is printed for a value; `false` and empty text count as nothing."""
    return blank if cell is MISSING or cell is False or cell == "" else as_text(cell)


def _sort_key(field: str) -> Callable[[dict[str, Any]], tuple[int, Any]]:
    return lambda vm: _rank(value(vm, field))


def _rank(cell: Any) -> tuple[int, Any]:
    """Numbers by size, then everything else by UTF-16 code units as JavaScript sorts, then missing values."""
    if cell is MISSING:
        return (2, 0)
    if isinstance(cell, (int, float)):
        return (0, cell)
    return (1, as_text(cell).encode("utf-16-be", "surrogatepass"))


def _unsigned(field: str) -> str:
    return field[1:] if field[:1] in ("+", "-") else field


def _header(field: str) -> str:
    return COLUMNS[field][0] if field in COLUMNS else field.upper()
