# SPDX-License-Identifier: MPL-2.0
"""Not said at all, as a value of its own: a payload can also say null, false, 0 and "", and each means something else.

    UNSET    the payload does not have the key: nothing is asked
    None     the payload has the key and asks for no value: null, or "" where a number or a text could stand

`if value is UNSET` narrows the type for mypy. UNSET has no truth value on purpose: `if nic.primary` would take "switch
it off" and "not said" for the same."""

from __future__ import annotations

import enum
from typing import Final, NoReturn, TypeVar, Union

T = TypeVar("T")


class Unset(enum.Enum):
    """The type of UNSET, which is its only value."""

    UNSET = "UNSET"

    def __bool__(self) -> NoReturn:
        raise TypeError("UNSET is neither true nor false: compare with `is UNSET`")

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET

Maybe = Union[T, Unset]  # said or not; never None
Nullable = Union[T, None, Unset]  # said, said to be none, or not said


def said(value: Union[T, None, Unset], otherwise: T) -> T:
    """`value`, or `otherwise` where it is UNSET or None."""
    return otherwise if value is UNSET or value is None else value
