"""From plain values to a `Study`: what has another shape is a mistake, and is left out to find more."""

from __future__ import annotations

import copy
import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from featurestore.errors import did_you_mean
from featurestore.printable import enumerated
from studies.study_file.document import Document, shown
from studies.study_file.mistakes import Found, Place
from studies.study_file.schema import Study

_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list, such as [a, b]",
    "dict_type": "a map (NAME: …)",
    "model_type": "a map (KEY: VALUE)",
    "model_attributes_type": "a map (KEY: VALUE)",
    "string_too_short": "a text that is not empty",
    "finite_number": "a number",
    "string_pattern_mismatch": "one word or line of shell, without quotes and the like",
}
# Rounds of leaving out what is wrong: each leaves out one level.
_MOST_ROUNDS = 12


def study_of(document: Document, found: Found) -> Study | None:
    """The study of a document; parts that are wrong are noted and left out.

    Returns:
        None where too little is left to look further.
    """
    value = copy.deepcopy(document.value)
    for _ in range(_MOST_ROUNDS):
        try:
            return Study.model_validate(value)
        except ValidationError as error:
            for one in error.errors():
                _note(one, value, found)
            for one in sorted(error.errors(), key=lambda e: -len(e["loc"])):
                _leave_out(value, _place(one))
    return None


def _place(error: Mapping[str, Any]) -> Place:
    """Where an error is; of a key that is wrong itself, the key."""
    return tuple(part for part in error["loc"] if part != "[key]")


def _note(error: Mapping[str, Any], value: Any, found: Found) -> None:
    place, kind, got = _place(error), str(error["type"]), error["input"]
    context = error.get("ctx", {})
    if kind in ("missing", "too_short") and found.has_below(place):
        return  # left out since it was wrong
    if kind == "missing":
        what = _description(place)
        found.add(place[:-1], f"expected a key {place[-1]!r} ({what})")
        return
    if kind == "extra_forbidden":
        known = list(_fields_at(place[:-1]))
        hint = did_you_mean(str(place[-1]), known) or f"; there are {enumerated(known)}"
        found.add(place, f"unknown key {place[-1]!r}{hint}")
        return
    if kind == "literal_error":
        allowed = _allowed(context["expected"])
        hint = did_you_mean(str(got), allowed)
        found.add(place, f"expected one of {', '.join(allowed)}, got {shown(got)}{hint}")
        return
    if kind == "value_error":
        found.add(
            place, str(context["error"]) + ("" if "got" in str(context["error"]) else f"; got {shown(got)}")
        )
        return
    found.add(place, f"expected {_expectation(kind, context)}, got {shown(got)}")


def _allowed(expected: str) -> list[str]:
    """``'a', 'b' or 'c'`` → a, b, c."""
    return [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]


def _expectation(kind: str, context: Mapping[str, Any]) -> str:
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    bounds = {
        "greater_than_equal": ("at least", "ge"),
        "greater_than": ("more than", "gt"),
        "less_than_equal": ("at most", "le"),
    }
    if kind in bounds:
        word, name = bounds[kind]
        return f"{word} {context[name]:,}"
    if kind == "too_short":
        return "at least one entry"
    return kind.replace("_", " ")


def _leave_out(value: Any, place: Place) -> None:
    """Take out what stands at a place, or the innermost thing around it that is there."""
    for n in range(len(place), 0, -1):
        at = value
        try:
            for part in place[: n - 1]:
                at = at[part]
            del at[place[n - 1]]
        except (KeyError, IndexError, TypeError):
            continue
        return


def _fields_at(place: Place) -> Mapping[str, Any]:
    """The fields of the map at a place of the schema; none where there is no such map."""
    at: Any = Study
    for part in place:
        at = _inner(at, part)
    return at.model_fields if isinstance(at, type) and issubclass(at, BaseModel) else {}


def _description(place: Place) -> str:
    field = _fields_at(place[:-1]).get(str(place[-1]))
    return str(field.description).rstrip(".") if field is not None and field.description else "needed"


def _inner(at: Any, part: str | int) -> Any:
    """The type of one entry of a type."""
    if isinstance(at, type) and issubclass(at, BaseModel):
        field = at.model_fields.get(str(part))
        return None if field is None else _plain(field.annotation)
    if typing.get_origin(at) is dict:
        return _plain(typing.get_args(at)[1])
    return None


def _plain(annotation: Any) -> Any:
    """A type without ``| None``."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(a for a in typing.get_args(annotation) if a is not type(None))
    return annotation
