"""Which rows train, which choose, which are scored."""

from __future__ import annotations

from probes.splits.base import PARTS, IntArray, Rows, Split, SplitSpec, TextArray
from probes.splits.registry import (
    KINDS,
    check_split,
    default_split,
    iter_splits,
    make_split,
    make_splits,
    parse_split,
)
from probes.splits.single import sarkar2025

__all__ = [
    "KINDS",
    "PARTS",
    "IntArray",
    "Rows",
    "Split",
    "SplitSpec",
    "TextArray",
    "check_split",
    "default_split",
    "iter_splits",
    "make_split",
    "make_splits",
    "parse_split",
    "sarkar2025",
]
