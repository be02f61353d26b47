"""What kind of value an option of a corpus takes; most take a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from featurestore.errors import ConfigError

OptionKind = Literal["text", "list", "flag", "whole", "number"]
_KINDS: Mapping[str, OptionKind] = {
    "label_column": "list",
    "columns": "list",
    "words": "flag",
    "esc10": "flag",
    "time_expanded": "flag",
    "keep_empty": "flag",
    "sample_rate_hz": "whole",
    "events": "whole",
    "window_s": "number",
    "shift_s": "number",
    "min_confidence": "number",
}
_WORDS = {
    "text": "a text",
    "list": "a list of texts",
    "flag": "true or false",
    "whole": "a whole number",
    "number": "a number",
}
#: Of what corpora take, these alone name a place.
PLACES = ("audio",)


def kind_of(option: str) -> OptionKind:
    """The kind of an option, by its name with underscores."""
    return _KINDS.get(option, "text")


def option_value(option: str, value: Any) -> Any:
    """A value of a document as a reader takes it: a list as a tuple, a number in place of a text as text.

    Raises:
        ConfigError: it is of another kind.
    """
    kind = kind_of(option)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "list" and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if kind == "text" and (isinstance(value, str) or is_number):
        return str(value)
    fits = {
        "flag": isinstance(value, bool),
        "whole": isinstance(value, int) and is_number,
        "number": is_number,
    }
    if not fits.get(kind, False):
        raise ConfigError(f"option {option}: expected {_WORDS[kind]}, got {value!r}")
    return float(value) if kind == "number" else value
