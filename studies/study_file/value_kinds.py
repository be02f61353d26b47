"""Kinds of values in a study file that pydantic has no word for: layer lists, names, labels by corpus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from featurestore.errors import UserError
from featurestore.layer_list import parse_layers
from featurestore.names import check_name
from featurestore.untrusted.schema_mistakes import shown

_TEXTS = {"type": "array", "items": {"type": "string"}}


def checked_by(check: Callable[[Any], object]) -> AfterValidator:
    """A validator that says what a check of ours says."""

    def validate(value: Any) -> Any:
        try:
            check(value)
        except UserError as error:
            raise ValueError(str(error)) from error
        return value

    return AfterValidator(validate)


def _number_as_text(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _percentages(value: Any) -> Any:
    """``[10, 30, 100]`` as the command line writes it, ``10,30,100``."""
    if isinstance(value, list) and value and all(isinstance(v, int | float) for v in value):
        return ",".join(f"{v:g}" for v in value)
    return _number_as_text(value)


def _distinct(values: Sequence[str]) -> None:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise ValueError(f"expected each name once, got {value!r} twice; keep one")


def _distinct_names(values: list[str]) -> list[str]:
    _distinct(values)
    return values


Text = Annotated[str, StringConstraints(min_length=1)]
#: One word of a command: what stands in a line of a job script must not begin another.
Word = Annotated[
    str,
    BeforeValidator(lambda value: _number_as_text(value)),
    StringConstraints(pattern=r"^[^\s'\"\\$`;&|<>()#]+$"),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer", "minimum": 1}]}),
]
#: One line of shell.
ShellLine = Annotated[str, StringConstraints(pattern=r"^[^\r\n\x00]+$")]
#: At least one; each once.
Names = Annotated[list[Text], Field(min_length=1), AfterValidator(_distinct_names)]
#: A path, relative to the study file's folder, or a URL where a store is meant.
PathText = Text
#: ``0-6,12``, or one number.
Layers = Annotated[
    str,
    BeforeValidator(_number_as_text),
    checked_by(parse_layers),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}]}),
]
#: ``mix``, ``each`` or a number from 0.
Channel = Annotated[
    str,
    BeforeValidator(_number_as_text),
    WithJsonSchema({"anyOf": [{"enum": ["mix", "each"]}, {"type": "integer", "minimum": 0}]}),
]
#: ``10,30,100`` or a list of these percentages.
Shares = Annotated[
    str,
    BeforeValidator(_percentages),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "number"}}]}),
]
#: A size such as ``1.5GB``.
Size = Annotated[
    str,
    BeforeValidator(_number_as_text),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 1}]}),
]
#: A name of one path component, as models and data sets have in a store.
StoreName = Annotated[str, checked_by(lambda name: check_name(name, "store"))]


def _texts(value: Any, what: str) -> list[str]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"expected {what}, got {shown(value)}")
    if wrong := [v for v in value if not isinstance(v, str) or not v]:
        raise ValueError(f"expected {what}, got {shown(wrong[0])} in it")
    _distinct(value)
    return value


def _labels(value: Any) -> Any:
    if not isinstance(value, dict):
        return _texts(value, "a list of label columns, or a map from corpora to such lists")
    for corpus, labels in value.items():
        _texts(labels, f"a list of label columns for corpus {corpus!r}")
    return value


#: Label columns: of all corpora, or by corpus.
LabelsByCorpus = Annotated[
    Any,
    AfterValidator(_labels),
    WithJsonSchema({"anyOf": [_TEXTS, {"type": "object", "additionalProperties": _TEXTS}]}),
]


def _side(value: Any) -> Any:
    if isinstance(value, dict):
        if not value:
            raise ValueError("expected facts such as {domain: animal}, got an empty map")
        for fact, wanted in value.items():
            listed = wanted if isinstance(wanted, list) else [wanted]
            if not listed or not all(isinstance(w, str | int | float | bool) for w in listed):
                got = shown(wanted)
                raise ValueError(f"expected a value, or a list of values, for {fact!r}, got {got}")
        return value
    return _texts(value, "a list of models, or facts such as {domain: animal}")


#: One side of a contrast: models by name, or by facts that all have to hold.
Side = Annotated[
    Any,
    AfterValidator(_side),
    WithJsonSchema({"anyOf": [_TEXTS, {"type": "object", "minProperties": 1}]}),
]


_SETTINGS = "mlp: {learning_rate: [0.001]}"


def _grid(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"expected classifiers with settings, such as {_SETTINGS}, got {shown(value)}")
    for name, settings in value.items():
        if not isinstance(settings, dict):
            raise ValueError(f"expected settings of {name}, such as {_SETTINGS}, got {shown(settings)}")
    return value


#: Settings to try, by classifier.
Grid = Annotated[
    Any,
    AfterValidator(_grid),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "object"}}),
]


def _facts(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"expected facts of your own, such as {{size: base}}, got {shown(value)}")
    for name, fact in value.items():
        if not isinstance(fact, str | int | float | bool):
            raise ValueError(f"expected a value for {name!r}, such as {{size: base}}, got {shown(fact)}")
    return value


#: Facts that contrasts can choose models by.
OwnFacts = Annotated[
    Any,
    AfterValidator(_facts),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}),
]
