"""How whole groups are shared out. Pure: counts in, parts out.

All functions take ``counts [G, C]``, the rows of each class in each group, with groups and classes
in sorted order, so that what they draw does not depend on the order of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from featurestore.arrays import IntArray
from probes.splits.interface import SHARES, Rows, generator

CUT_CANDIDATES = 500
DEAL_CANDIDATES = 50
# Bounds on the work of one draw, so that a corpus of a hundred thousand groups takes seconds: cells
# of `counts` looked at by all cuts, and groups placed by all deals.
CUT_CELLS = 50_000_000
DEAL_GROUPS = 100_000
# Weight of a class of one row. Times 500 folds and ten million rows it stays below 2^63.
CLASS_WEIGHT = 1 << 30


def group_counts(rows: Rows, group_of: IntArray, n_groups: int) -> IntArray:
    """Rows of each class in each group `[G, C]`."""
    classes, class_of = rows.classes
    flat = np.bincount(group_of * len(classes) + class_of, minlength=n_groups * len(classes))
    return flat.reshape(n_groups, len(classes)).astype(np.int64)


def cut_groups(counts: IntArray, seed: int) -> IntArray:
    """Train, val and test of whole groups: part of each `[G]`.

    Of `CUT_CANDIDATES` seeded orders of the groups, each cut where the rows come nearest 70 and
    90 %, the one is taken that leaves the fewest classes out of train, then out of val and test,
    then comes nearest to 70/20/10.
    """
    return _best_cut(counts.tobytes(), counts.shape, seed)


# Every task of a run draws its split anew: of the same groups it is the same.
@lru_cache(maxsize=4)
def _best_cut(cells: bytes, shape: tuple[int, ...], seed: int) -> IntArray:
    counts = np.frombuffer(cells, dtype=np.int64).reshape(shape)
    rng = generator(seed)
    best: tuple[tuple[float, ...], IntArray] | None = None
    for _ in range(int(np.clip(CUT_CELLS // counts.size, 5, CUT_CANDIDATES))):
        order = np.argsort(rng.random(len(counts)), kind="stable")
        candidate, score = _cut(order, counts)
        if best is None or score < best[0]:
            best = (score, candidate)
    assert best is not None
    best[1].flags.writeable = False
    return best[1]


def _cut(order: IntArray, counts: IntArray) -> tuple[IntArray, tuple[float, ...]]:
    """Part of each group when `order` is cut into three, and how bad that is."""
    done = np.cumsum(counts[order].sum(axis=1)) / counts.sum()
    n = len(order)
    first = 1 + int(np.abs(done[: n - 2] - SHARES[0]).argmin())
    target = SHARES[0] + SHARES[1]
    second = first + 1 + int(np.abs(done[first : n - 1] - target).argmin())
    part = np.empty(n, dtype=np.int64)
    part[order[:first]], part[order[first:second]], part[order[second:]] = 0, 1, 2
    by_part = np.stack([counts[part == p].sum(axis=0) for p in range(3)])
    missing = (by_part == 0).sum(axis=1)
    shares = by_part.sum(axis=1) / counts.sum()
    off = float(np.abs(shares - SHARES).sum())
    return part, (float(missing[0]), float(missing[1] + missing[2]), off)


def deal_groups(
    counts: IntArray,
    shares: Sequence[int],
    seed: tuple[int, ...],
    *,
    stratify: bool,
    rotate: bool = False,
    work: int = DEAL_GROUPS,
) -> IntArray:
    """Give each group to the part that lacks most of what the group holds: part of each `[G]`.

    Large groups go first, in an order that chance perturbs; of several such deals the one is taken
    that leaves the fewest classes out of training, then out of any part, then comes nearest to the
    shares. All in whole numbers: no processor rounds differently.

    Args:
        counts: Rows of each class in each group `[G, C]`, G at least the number of parts.
        shares: What each part should get, in proportion: (7, 2, 1).
        seed: Of the perturbations.
        stratify: The shares hold for every class, not for the rows together.
        rotate: Each part is tested once, with the next as validation, and the rest trains;
            otherwise part 0 trains.
        work: Groups placed at most, over all deals (one deal is made in any case).
    """
    rng = generator(*seed)
    sizes = counts.sum(axis=1)
    matter = counts if stratify else sizes[:, None]
    total = matter.sum(axis=0)
    goal = np.outer(shares, total)  # times sum(shares)
    # A class counts by its share of itself, so that rare ones are not drowned.
    weight = CLASS_WEIGHT // np.maximum(total, 1)
    best: tuple[tuple[int, ...], IntArray] | None = None
    for _ in range(int(np.clip(work // len(counts), 1, DEAL_CANDIDATES))):
        order = np.argsort(-sizes * (0.5 + 0.5 * rng.random(len(counts))), kind="stable")
        part, surplus = _deal(order, matter, goal, weight, sum(shares))
        by_part = np.zeros((len(shares), counts.shape[1]), dtype=np.int64)
        np.add.at(by_part, part, counts)
        score = (*_left_out(by_part, rotate), int(np.abs(surplus).sum()))
        if best is None or score < best[0]:
            best = (score, part)
    assert best is not None
    return best[1]


def _deal(
    order: IntArray, matter: IntArray, goal: IntArray, weight: IntArray, whole: int
) -> tuple[IntArray, IntArray]:
    """Part of each group, and what each part then holds too much of each class (weighted) `[P, C]`."""
    part = np.empty(len(order), dtype=np.int64)
    surplus = -goal * weight
    weighted = matter * weight * whole
    empty = set(range(len(goal)))
    for n_left, g in zip(range(len(order), 0, -1), order, strict=True):
        # Least squares: the part where the group adds least to the sum over parts and classes of
        # weight * (held - goal)^2. Below CLASS_WEIGHT * whole * rows, so no overflow.
        gain = surplus @ matter[g]
        if n_left <= len(empty):  # as many groups left as parts without one
            p = min(empty, key=lambda q: (gain[q], q))
        else:
            p = int(gain.argmin())
        part[g] = p
        empty.discard(p)
        surplus[p] += weighted[g]
    return part, surplus


def _left_out(by_part: IntArray, rotate: bool) -> tuple[int, int]:
    """Classes without training rows, and classes missing from a part, summed over splits."""
    missing = int((by_part == 0).sum())
    if not rotate:
        return int((by_part[0] == 0).sum()), missing
    train = by_part.sum(axis=0) - by_part - np.roll(by_part, -1, axis=0)
    return int((train == 0).sum()), missing
