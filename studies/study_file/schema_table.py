"""The keys of a study file as tables for people, made from the schema."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from studies.study_file.schema import (
    Cluster,
    Confounding,
    Contrast,
    Corpus,
    Extraction,
    Job,
    Model,
    Part,
    Probing,
    Reporting,
    Study,
)

# Heading, map, and the map whose keys may stand there too.
_PARTS: tuple[tuple[str, type[Part], type[Part] | None], ...] = (
    ("study", Study, None),
    ("corpora.NAME", Corpus, None),
    ("models.NAME", Model, Extraction),
    ("extract, corpora.NAME.extract", Extraction, None),
    ("probings.NAME", Probing, None),
    ("contrasts.NAME", Contrast, None),
    ("confounds", Confounding, None),
    ("report", Reporting, None),
    ("cluster", Cluster, Job),
    ("cluster.extract, cluster.probe", Job, None),
)


def schema_tables() -> str:
    """Markdown: a table for each kind of map, with the type and the meaning of every key."""
    parts = []
    for heading, part, base in _PARTS:
        inherited = set(base.model_fields) if base is not None else set()
        rows = [
            f"| `{name}` | {_type(part, name)} | {_meaning(field)} |"
            for name, field in part.model_fields.items()
            if name not in inherited
        ]
        more = f"\nAnd every key of `{_heading_of(base)}`.\n" if base is not None else ""
        parts.append(
            f"### `{heading}`\n\n| key | value | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n" + more
        )
    return "\n".join(parts)


def _heading_of(part: type[Part]) -> str:
    return next(heading for heading, found, _ in _PARTS if found is part).split(",")[0]


def _meaning(field: FieldInfo) -> str:
    needed = " Needed." if field.is_required() else ""
    default = field.default
    is_said = default in (None, PydanticUndefined, {}) or isinstance(default, BaseModel)
    given = "" if is_said or needed else f" Default: {_shown(default)}."
    return f"{field.description}{needed}{given}".replace("|", "\\|")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"`[{', '.join(value)}]`" if isinstance(value, list) else f"`{value}`"


def _type(part: type[Part], name: str) -> str:
    """What a value may be, in words, by the JSON Schema of the key."""
    schema = part.model_json_schema()
    return _words(schema["properties"][name], schema.get("$defs", {}))


def _words(schema: dict[str, Any], parts: dict[str, Any]) -> str:
    if "anyOf" in schema:
        words = [_words(s, parts) for s in schema["anyOf"] if s.get("type") != "null"]
        return " or ".join(dict.fromkeys(words))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{v}`" for v in schema.get("enum", [schema.get("const")]))
    if "$ref" in schema:
        return "a map"
    kind = schema.get("type")
    if kind == "array":
        return f"a list of {_plural(_words(schema.get('items', {}), parts))}"
    if kind == "object":
        return "a map"
    names = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    return names.get(kind, "anything") if isinstance(kind, str) else "anything"


def _plural(words: str) -> str:
    return " or ".join(f"{word}s" for word in words.split(" or "))
