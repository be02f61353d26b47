"""What makes two extractions the same: a readable, nested mapping of plain values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

# Grows when our own code changes stored values by more than rounding.
NUMERICS_VERSION = 1


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; equal values give equal text on every machine."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_items(items: Iterable[Any]) -> str:
    """`digest` of a list, one item at a time: the text of a million rows is never whole in memory."""
    hashed, mark = hashlib.sha256(b"["), b""
    for item in items:
        hashed.update(mark + canonical_json(item).encode())
        mark = b","
    hashed.update(b"]")
    return hashed.hexdigest()


def digest_columns(head: str, columns: Iterable[Iterable[Any]]) -> str:
    """BLAKE2b (16 bytes) of a text and of columns of cells as text, in hexadecimal: for large tables."""
    content = hashlib.blake2b(head.encode(), digest_size=16)
    for column in columns:
        content.update("\x1f".join(map(str, column)).encode("utf-8", "surrogatepass"))
    return content.hexdigest()


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping to dotted names: ``{"input": {"rate": 1}}`` → ``{"input.rate": 1}``."""
    flat: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, Mapping):
            flat.update(flatten(item, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = item
    return flat


def diff(stored: Mapping[str, Any], requested: Mapping[str, Any]) -> list[str]:
    """Lines ``name: stored X, requested Y`` for every value that differs; empty when equal."""
    a, b = flatten(stored), flatten(requested)
    absent = "(absent)"
    return [
        f"{name}: stored {_show(a.get(name, absent))}, requested {_show(b.get(name, absent))}"
        for name in sorted(a.keys() | b.keys())
        if a.get(name, absent) != b.get(name, absent)
    ]


def _show(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return text if len(text) <= 60 else text[:57] + "..."
