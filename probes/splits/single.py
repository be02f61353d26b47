"""Splits that are drawn once: given, at random, by group, and the paper's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from featurestore.arrays import IntArray
from featurestore.errors import LabelError
from probes.splits.grouping import cut_groups, deal_groups, group_counts
from probes.splits.interface import (
    LEFT_OUT,
    PARTS,
    SHARES,
    TEST,
    TRAIN,
    VAL,
    Draws,
    Rows,
    SplitSpec,
    groups_of,
)


def by_column(rows: Rows, seed: int, spec: SplitSpec) -> Iterator[IntArray]:
    """The manifest's `split` column; rows that name no part are left out."""
    counts = {part: int((rows.part == part).sum()) for part in PARTS}
    empty = [part for part, n in counts.items() if n == 0]
    if empty:
        found = ", ".join(f"{n} {part}" for part, n in counts.items())
        raise LabelError(
            f"{rows.what}: split 'column' needs rows in train, val and test, found {found}; "
            "fill the manifest's split column or choose --split group or random"
        )
    assigned = np.full(len(rows), LEFT_OUT)
    for code, part in enumerate(PARTS):
        assigned[rows.part == part] = code
    yield assigned


def at_random(rows: Rows, seed: int, spec: SplitSpec) -> Iterator[IntArray]:
    """70/20/10 of the rows of every class.

    A class of three rows or more has at least one in each part; of two, train and test get one
    each; a single row trains.
    """
    rank, size = rank_in_class(rows.classes[1], rows.draws(seed))
    n_test = np.maximum((SHARES[2] * size + 0.5).astype(np.int64), size >= 2)
    n_val = np.maximum((SHARES[1] * size + 0.5).astype(np.int64), size >= 3)
    yield np.where(rank < n_test, TEST, np.where(rank < n_test + n_val, VAL, TRAIN))


def rank_in_class(class_of: IntArray, draws: Draws) -> tuple[IntArray, IntArray]:
    """Each row's place within its class when sorted by draw, and the size of its class `[n]`."""
    order = np.lexsort((draws, class_of))
    sizes = np.bincount(class_of)
    first = np.cumsum(sizes) - sizes
    rank = np.empty(len(class_of), dtype=np.int64)
    rank[order] = np.arange(len(class_of)) - first[class_of[order]]
    return rank, sizes[class_of]


def by_group(rows: Rows, seed: int, spec: SplitSpec) -> Iterator[IntArray]:
    """Whole groups, near 70/20/10 of the rows; see `cut_groups`."""
    groups, group_of = groups_of(rows, spec, 3)
    yield cut_groups(group_counts(rows, group_of, len(groups)), seed)[group_of]


def by_stratified_group(rows: Rows, seed: int, spec: SplitSpec) -> Iterator[IntArray]:
    """Whole groups, near 70/20/10 of the rows of every class; see `deal_groups`."""
    groups, group_of = groups_of(rows, spec, 3)
    counts = group_counts(rows, group_of, len(groups))
    yield deal_groups(counts, (7, 2, 1), (seed,), stratify=True)[group_of]


def by_paper(rows: Rows, seed: int, spec: SplitSpec) -> Iterator[IntArray]:
    """`sarkar2025` over all rows of the manifest, in its order; the seed is the paper's."""
    if rows.place is None:
        raise LabelError(f"{rows.what}: split 'sarkar2025' needs the order of the manifest's rows")
    assigned = np.empty(rows.n_manifest, dtype=np.int64)
    for part, where in enumerate(sarkar2025(rows.n_manifest)):
        assigned[where] = part
    yield assigned[rows.place]


def sarkar2025(n: int) -> tuple[IntArray, IntArray, IntArray]:
    """Train, val and test of the paper's released code, row for row, in its order of rows.

    `torch.utils.data.random_split` of n rows into int(0.7 n), int(0.2 n) and the rest with
    `torch.Generator().manual_seed(42)`.
    """
    import torch

    order = torch.randperm(n, generator=torch.Generator().manual_seed(42)).numpy()
    first, second = int(0.7 * n), int(0.7 * n) + int(0.2 * n)
    return order[:first], order[first:second], order[second:]
