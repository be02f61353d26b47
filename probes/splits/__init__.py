"""Which rows train, which choose, which are scored."""

from __future__ import annotations

from probes.splits.interface import PARTS, Rows, Split, SplitSpec
from probes.splits.registry import (
    GROUP,
    KINDS,
    PATH,
    default_split,
    group_name,
    held_out,
    iter_splits,
    make_split,
    make_splits,
    own_names,
    parse_split,
    with_group,
)
from probes.splits.single import sarkar2025

__all__ = [
    "GROUP",
    "KINDS",
    "PARTS",
    "PATH",
    "Rows",
    "Split",
    "SplitSpec",
    "default_split",
    "group_name",
    "held_out",
    "iter_splits",
    "make_split",
    "make_splits",
    "own_names",
    "parse_split",
    "sarkar2025",
    "with_group",
]
