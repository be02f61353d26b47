"""What the values of a document have to be: small checks that are put together to the shape of a whole.

A check takes a value and the place it stands in, and raises a `ShapeError` that names the place, what was
expected there, and what is::

    SPLIT = fields({"label": text, "fold": whole(0, 10_000), "parts": by_name(many(text))})
    SPLIT(value, "splits[0]")
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from featurestore.printable import printable
from featurestore.untrusted.documents import INT_MAX, DocumentError

Check = Callable[[Any, str], None]
_SHOWN = 40


class ShapeError(DocumentError):
    """A value of a document that is of another kind or range than belongs there: one clause."""


def refuse(value: Any, where: str, expected: str) -> ShapeError:
    """The error for a value that is not as expected."""
    try:
        shown = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    return ShapeError(printable(f"{where or 'the document'}: expected {expected}, got {shown}"))


def anything(value: Any, where: str) -> None:
    """Any value."""


def text(value: Any, where: str) -> None:
    """A text."""
    if not isinstance(value, str):
        raise refuse(value, where, "a text")


def yes_or_no(value: Any, where: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise refuse(value, where, "true or false")


def whole(low: int = 0, high: int = INT_MAX) -> Check:
    """A whole number from `low` to `high`."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            upper = f" to {high:,}" if high < INT_MAX else " on"
            raise refuse(value, where, f"a whole number from {low:,}{upper}")

    return check


def number(low: float = -math.inf, high: float = math.inf, *, nan: bool = False) -> Check:
    """A finite number from `low` to `high`; with `nan` it may be NaN, or None, too."""

    def check(value: Any, where: str) -> None:
        if nan and (value is None or (isinstance(value, float) and math.isnan(value))):
            return
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not low <= value <= high:
            among = "" if low == -math.inf and high == math.inf else f" from {low:g} to {high:g}"
            raise refuse(value, where, f"a finite number{among}")

    return check


def one_of(*values: Any) -> Check:
    """One of these."""

    def check(value: Any, where: str) -> None:
        if not any(value == v and type(value) is type(v) for v in values):
            raise refuse(value, where, f"one of {', '.join(map(str, values))}")

    return check


def either(expected: str, *checks: Check) -> Check:
    """What one of these takes; `expected` says what that is."""

    def check(value: Any, where: str) -> None:
        for one in checks:
            try:
                return one(value, where)
            except ShapeError:
                continue
        raise refuse(value, where, expected)

    return check


def nothing_or(inner: Check) -> Check:
    """None, or what `inner` takes."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def many(inner: Check, least: int = 0, most: int | None = None) -> Check:
    """A list of `inner`, of `least` to `most` items."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) < least or (most is not None and len(value) > most):
            size = "" if not least and most is None else f" of {least} to {'any' if most is None else most}"
            raise refuse(value, where, f"a list{size}")
        for i, item in enumerate(value):
            inner(item, f"{where}[{i}]")

    return check


def by_name(inner: Check) -> Check:
    """An object with any names, each with an `inner`."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise refuse(value, where, "an object")
        for name, item in value.items():
            inner(item, f"{where}.{name}" if where else name)

    return check


def fields(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these names; others are let be."""
    all_of = {**required, **(optional or {})}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise refuse(value, where, "an object")
        for name, inner in all_of.items():
            if name in value:
                inner(value[name], f"{where}.{name}" if where else name)
            elif name in required:
                raise ShapeError(f"{where or 'the document'}: lacks {name!r}")

    return check


def exactly(required: Mapping[str, Check]) -> Check:
    """An object with these names and no others."""
    inner = fields(required)

    def check(value: Any, where: str) -> None:
        inner(value, where)
        odd = [name for name in value if name not in required]
        if odd:
            raise ShapeError(printable(f"{where or 'the document'}: expected no {odd[0]!r}"))

    return check


def row_of(*cells: Check) -> Check:
    """A list with just these, one after the other."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) != len(cells):
            raise refuse(value, where, f"a list of {len(cells)}")
        for i, (inner, item) in enumerate(zip(cells, value, strict=True)):
            inner(item, f"{where}[{i}]")

    return check
