"""What pydantic finds wrong with plain values, in words for whoever wrote the file: expected, and got."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from featurestore.errors import did_you_mean
from featurestore.printable import enumerated

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
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
}

#: Where something stands in a file: the keys, and the numbers of list items, from the root on.
Place = tuple[str | int, ...]


def place_text(place: Place) -> str:
    """``probings.main.classifiers[1]``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def shown(value: Any) -> str:
    """A value in a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a map" if value else "an empty map"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def mistake_place(error: Mapping[str, Any]) -> Place:
    """Where an error of pydantic is; of a key that is wrong itself, the key."""
    return tuple(part for part in error["loc"] if part != "[key]")


def mistake_text(error: Mapping[str, Any], root: type[BaseModel]) -> str:
    """What an error of pydantic says, for a file whose whole is a `root`."""
    place, kind, got = mistake_place(error), str(error["type"]), error["input"]
    context = error.get("ctx", {})
    if kind == "missing":
        return f"expected a key {place[-1]!r} ({_description(root, place)})"
    if kind == "extra_forbidden":
        known = list(_fields_at(root, place[:-1]))
        hint = did_you_mean(str(place[-1]), known) or f"; there are {enumerated(known)}"
        return f"unknown key {place[-1]!r}{hint}"
    if kind == "literal_error":
        allowed = _allowed(context["expected"])
        return f"expected one of {', '.join(allowed)}, got {shown(got)}{did_you_mean(str(got), allowed)}"
    if kind == "value_error":
        text = str(context["error"])
        return text if "got" in text else f"{text}; got {shown(got)}"
    return f"expected {_expectation(kind, context)}, got {shown(got)}"


def _allowed(expected: str) -> list[str]:
    """``'a', 'b' or 'c'`` → a, b, c."""
    return [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]


def _expectation(kind: str, context: Mapping[str, Any]) -> str:
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind in _BOUNDS:
        word, name = _BOUNDS[kind]
        return f"{word} {context[name]:,}"
    if kind == "too_short":
        return "at least one entry"
    return kind.replace("_", " ")


def _fields_at(root: type[BaseModel], place: Place) -> Mapping[str, Any]:
    """The fields of the map at a place of the schema; none where there is no such map."""
    at: Any = root
    for part in place:
        at = _inner(at, part)
    return at.model_fields if isinstance(at, type) and issubclass(at, BaseModel) else {}


def _description(root: type[BaseModel], place: Place) -> str:
    field = _fields_at(root, place[:-1]).get(str(place[-1]))
    return str(field.description).rstrip(".") if field is not None and field.description else "needed"


def _inner(at: Any, part: str | int) -> Any:
    """The type of one entry of a type."""
    if isinstance(at, type) and issubclass(at, BaseModel):
        field = at.model_fields.get(str(part))
        return None if field is None else _plain(field.annotation)
    if typing.get_origin(at) is dict:
        return _plain(typing.get_args(at)[1])
    if typing.get_origin(at) is list:
        return _plain(typing.get_args(at)[0])
    return None


def _plain(annotation: Any) -> Any:
    """A type without ``| None``."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(a for a in typing.get_args(annotation) if a is not type(None))
    return annotation
