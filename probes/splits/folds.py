"""Splits that come in folds: every row is tested once.

In k-fold splits fold i is tested, the next one chooses, the rest trains (the rotation of the HEAR
benchmark). In nested splits the rows that choose are drawn from what is not tested, anew for every
fold, so that the folds' sizes leave training as large as it can be.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial

import numpy as np

from featurestore.arrays import IntArray
from featurestore.errors import LabelError
from featurestore.names import is_whole_number
from probes.codes import codes
from probes.splits.grouping import DEAL_GROUPS, deal_groups, group_counts
from probes.splits.interface import LEFT_OUT, TEST, TRAIN, VAL, Assigned, Rows, SplitSpec, groups_of
from probes.splits.single import rank_in_class

MAX_FOLDS = 500
INNER_SHARES = (7, 2)  # train and val, of what is not test


def kfold(rows: Rows, seed: int, spec: SplitSpec) -> Iterator[IntArray]:
    """K folds; sizes of folds and of every class in them differ by one row at most."""
    yield from _rotate(_deal_rows(rows, seed, spec), spec.n_folds)


def group_kfold(rows: Rows, seed: int, spec: SplitSpec, *, stratify: bool = False) -> Iterator[IntArray]:
    """K folds of whole groups, of nearly equal size, or with nearly equal shares of every class."""
    groups, group_of = groups_of(rows, spec, spec.n_folds)
    outer = _deal_outer(group_counts(rows, group_of, len(groups)), seed, spec, stratify=stratify)
    yield from _rotate(outer[group_of], spec.n_folds)


def nested(rows: Rows, seed: int, spec: SplitSpec) -> Iterator[IntArray]:
    """K outer folds; inside each training part J inner folds, or one draw of 2/9 of every class."""
    outer = _deal_rows(rows, seed, spec)
    for i in range(spec.n_folds):
        assigned = np.where(outer == i, TEST, TRAIN)
        inside = np.flatnonzero(outer != i)
        class_of, draws = rows.classes[1][inside], rows.draws(seed, 1 + i)[inside]
        if spec.n_inner == 1:
            rank, size = rank_in_class(class_of, draws)
            n_val = np.maximum((INNER_SHARES[1] / sum(INNER_SHARES) * size + 0.5).astype(np.int64), size >= 2)
            yield _with_val(assigned, inside[rank < n_val])
            continue
        inner = np.empty(len(inside), dtype=np.int64)
        inner[np.lexsort((draws, class_of))] = np.arange(len(inside)) % spec.n_inner
        for j in range(spec.n_inner):
            yield _with_val(assigned, inside[inner == j])


def group_nested(rows: Rows, seed: int, spec: SplitSpec, *, stratify: bool = False) -> Iterator[Assigned]:
    """`nested` with whole groups throughout, or also with nearly equal shares of every class."""
    # Two groups at least inside every training part, and one for each inner fold.
    groups, group_of = groups_of(rows, spec, max(spec.n_folds, 3, spec.n_inner + 1))
    counts = group_counts(rows, group_of, len(groups))
    outer = _deal_outer(counts, seed, spec, stratify=stratify)
    for i in range(spec.n_folds):
        inside = _Inside(counts, outer == i, group_of, (seed, 1 + i), spec.n_inner, stratify=stratify)
        yield from (partial(inside.part, j) for j in range(spec.n_inner))


def leave_one_group_out(rows: Rows, seed: int, spec: SplitSpec) -> Iterator[Assigned]:
    """Every group is tested once; of the others whole groups near 2/9 of the rows choose."""
    groups, group_of = groups_of(rows, spec, 3)
    if len(groups) > MAX_FOLDS:
        raise LabelError(
            f"{rows.what}: split 'logo' would make {len(groups)} folds, at most {MAX_FOLDS} are made; "
            "choose --split group-kfold:10"
        )
    counts = group_counts(rows, group_of, len(groups))
    for i in range(len(groups)):
        inside = _Inside(counts, np.arange(len(groups)) == i, group_of, (seed, 1 + i), 1, stratify=False)
        yield partial(inside.part, 0)


def by_fold_column(rows: Rows, seed: int, spec: SplitSpec) -> Iterator[IntArray]:
    """Folds that a label column gives, such as ESC-50's and HEAR's; rows without one are left out."""
    if rows.fold is None:
        raise LabelError(f"{rows.what}: split {spec.text!r} needs the column {spec.column!r}")
    given = rows.fold != ""
    names, found = codes(rows.fold[given])
    if not 3 <= len(names) <= MAX_FOLDS:
        raise LabelError(
            f"{rows.what}: split {spec.text!r} needs 3 to {MAX_FOLDS} folds, column {spec.column!r} "
            f"has {len(names)} ({', '.join(map(repr, names[:5]))}{', …' * (len(names) > 5)})"
        )
    if all(is_whole_number(str(n)) for n in names):  # 10 comes after 9
        rank = np.argsort(np.argsort([int(n) for n in names], kind="stable"), kind="stable")
        found = rank[found]
    fold = np.full(len(rows), LEFT_OUT)
    fold[given] = found
    yield from _rotate(fold, len(names))


def _rotate(fold: IntArray, n_folds: int) -> Iterator[IntArray]:
    for i in range(n_folds):
        assigned = np.where(fold == i, TEST, np.where(fold == (i + 1) % n_folds, VAL, TRAIN))
        yield np.where(fold == LEFT_OUT, LEFT_OUT, assigned)


def _with_val(assigned: IntArray, val: IntArray) -> IntArray:
    out = assigned.copy()
    out[val] = VAL
    return out


def _deal_rows(rows: Rows, seed: int, spec: SplitSpec) -> IntArray:
    """Fold of each row `[n]`: rows sorted by class, then by chance, are dealt out in turn."""
    n_folds = spec.n_folds
    if len(rows) < n_folds:
        raise LabelError(
            f"{rows.what}: split {spec.text!r} needs at least {n_folds} rows, found {len(rows)}; "
            "ask for fewer folds"
        )
    fold = np.empty(len(rows), dtype=np.int64)
    fold[np.lexsort((rows.draws(seed), rows.classes[1]))] = np.arange(len(rows)) % n_folds
    return fold


def _deal_outer(counts: IntArray, seed: int, spec: SplitSpec, *, stratify: bool) -> IntArray:
    """Fold of each group `[G]`."""
    return deal_groups(counts, [1] * spec.n_folds, (seed,), stratify=stratify, rotate=True)


class _Inside:
    """Chooses validation groups among those that are not tested, `n_inner` times; drawn when asked for."""

    def __init__(
        self,
        counts: IntArray,
        tested: np.ndarray,
        group_of: IntArray,
        seed: tuple[int, ...],
        n_inner: int,
        *,
        stratify: bool,
    ) -> None:
        self._inside = np.flatnonzero(~tested)
        self._shares = INNER_SHARES if n_inner == 1 else (1,) * n_inner
        if len(self._inside) < len(self._shares):
            raise LabelError(
                f"a fold leaves {len(self._inside)} groups to train and choose with, {len(self._shares)} are "
                "needed; ask for fewer inner folds"
            )
        self._counts, self._tested, self._group_of, self._seed = counts, tested, group_of, seed
        self._stratify = stratify

    @cached_property
    def _dealt(self) -> IntArray:
        work = DEAL_GROUPS // max(1, len(self._counts) // 10)
        # `rotate` is for folds that train two at a time; here all but one train.
        return deal_groups(
            self._counts[self._inside], self._shares, self._seed, stratify=self._stratify, work=work
        )

    def part(self, j: int) -> IntArray:
        """The part of each row in the inner fold `j`."""
        chooses = 1 if self._shares == INNER_SHARES else j
        out = np.where(self._tested, TEST, TRAIN)
        out[self._inside[self._dealt == chooses]] = VAL
        return out[self._group_of]
