"""What the columns of a Hugging Face data set are: audio, a class, a set of classes, or a plain value.

Parquet files that ``datasets`` writes say so in their schema, under the key ``huggingface``
(``{"info": {"features": {NAME: {"_type": "ClassLabel", "names": […]}}}}``, datasets 5.2,
``Features.to_dict``). Others are known by the types of their columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from featurestore.untrusted.documents import DocumentError, parse_json

_LISTS = ("Sequence", "List", "LargeList")


@dataclass(frozen=True)
class Feature:
    """What a column is.

    Attributes:
        kind: ``audio``; ``value``: a text, a number, a date; ``set``: a list of such; ``other``.
        names: of the classes that whole numbers stand for; None where they are no classes.
    """

    kind: Literal["audio", "value", "set", "other"]
    names: tuple[str, ...] | None = None


OTHER = Feature("other")


def schema_features(schema: Any) -> dict[str, Feature]:
    """Features by column, of an Arrow schema.

    Raises:
        DocumentError: its ``huggingface`` metadata is not to be read.
    """
    found = {name: _of_type(schema.field(name).type) for name in schema.names}
    said = (schema.metadata or {}).get(b"huggingface")
    if said is None:
        return found
    document = parse_json(said)
    info = document.get("info") if isinstance(document, dict) else None
    features = info.get("features") if isinstance(info, dict) else None
    if isinstance(features, dict):
        found |= {name: of_json(features[name]) for name in found if name in features}
    return found


def of_json(said: Any) -> Feature:
    """A feature as ``datasets`` writes it down.

    Raises:
        DocumentError: class names are no list of texts.
    """
    if isinstance(said, list) and len(said) == 1:  # a list, until datasets 3
        return _set_of(of_json(said[0]))
    if not isinstance(said, dict):
        return OTHER
    kind = said.get("_type")
    if kind == "Audio":
        return Feature("audio")
    if kind == "ClassLabel":
        return Feature("value", class_names(said.get("names")))
    if kind == "Value":
        return OTHER if "binary" in str(said.get("dtype")) else Feature("value")
    if kind in _LISTS:
        inner = said.get("feature")
        found = _set_of(of_json(inner))
        is_measured = isinstance(inner, dict) and "float" in str(inner.get("dtype"))
        return OTHER if is_measured else found
    return OTHER


def class_names(said: Any) -> tuple[str, ...]:
    """Names in order, of a list, or of a mapping from ``"0"``, ``"1"``, … as cards have it.

    Raises:
        DocumentError: it is neither.
    """
    if isinstance(said, Mapping):
        numbers = [str(i) for i in range(len(said))]
        by_number = {str(k): v for k, v in said.items()}
        said = [by_number.get(i) for i in numbers]
    if not isinstance(said, list) or not all(isinstance(name, str | int) for name in said):
        raise DocumentError("expected the names of its classes as a list of texts")
    return tuple(map(str, said))


def _set_of(inner: Feature) -> Feature:
    return Feature("set", inner.names) if inner.kind == "value" else OTHER


def _of_type(kind: Any) -> Feature:
    """A column's feature by its Arrow type."""
    import pyarrow.types as t

    if t.is_dictionary(kind):
        kind = kind.value_type
    if t.is_struct(kind):
        names = {kind.field(i).name for i in range(kind.num_fields)}
        return Feature("audio") if names == {"bytes", "path"} else OTHER
    if t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind):
        inner = kind.value_type
        return (
            Feature("set") if t.is_string(inner) or t.is_large_string(inner) or t.is_integer(inner) else OTHER
        )
    is_nested = (
        t.is_nested(kind) or t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind)
    )
    return OTHER if is_nested or t.is_null(kind) else Feature("value")
