"""Which rows train, which choose, which are scored.

A *splitter* turns rows into one or more splits; it is one entry of `SPLITTERS`. What it draws
depends on the utterance ids and the seed alone: not on the order of the rows, not on the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt

from featurestore.errors import ConfigError, LabelError

IntArray = npt.NDArray[np.int64]
TextArray = npt.NDArray[np.object_]

PARTS = ("train", "val", "test")
SHARES = (0.7, 0.2, 0.1)  # train, val, test of the paper
GROUP_CANDIDATES = 500


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Labelled rows of one data set; all arrays are text `[n]`, "" where nothing is given.

    Attributes:
        utterance_id: Unique names.
        label: The class of each row, never "".
        group: What must not straddle a split.
        part: The manifest's own split: train, val, test or "".
        what: Names the label and the data set in messages.
    """

    utterance_id: TextArray
    label: TextArray
    group: TextArray
    part: TextArray
    what: str = "label"

    def __len__(self) -> int:
        return len(self.utterance_id)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Positions of the rows of each part, ascending in the order of the rows given.

    Attributes:
        train: Rows that are learned from `[n_train]`.
        val: Rows that choose epoch, hyper-parameters and layer.
        test: Rows that are scored once.
        name: The splitter ("random", "group", "column").
        seed: Seed of the draw.
        missing: Classes without a row in a part, by part.
    """

    train: IntArray
    val: IntArray
    test: IntArray
    name: str
    seed: int
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def parts(self) -> tuple[tuple[str, IntArray], ...]:
        """``(name, positions)`` of train, val and test."""
        return (("train", self.train), ("val", self.val), ("test", self.test))


Splitter = Callable[[Rows, int], list[Split]]


def make_splits(spec: str, rows: Rows, seed: int) -> list[Split]:
    """Draw the split (or the folds) that `spec` names.

    Raises:
        ConfigError: unknown spec.
        LabelError: the rows cannot be split so, or a class has no training row.
    """
    check_split(spec)
    if len(np.unique(rows.label)) < 2:
        only = f"only {rows.label[0]!r}" if len(rows) else "no labelled row"
        raise LabelError(f"{rows.what}: expected at least two classes, found {only}")
    splits = SPLITTERS[spec](rows, seed)
    for split in splits:
        _require_trainable(split, rows)
    return splits


def check_split(spec: str) -> None:
    """Raise a `ConfigError` that lists the known splits unless `spec` is one."""
    if spec not in SPLITTERS:
        close = get_close_matches(spec, SPLITTERS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"split: expected {', '.join(SPLITTERS)}, got {spec!r}{hint}")


def default_split(rows: Rows) -> str:
    """The manifest's own split if it has one, else by group if there are groups, else random."""
    if (rows.part != "").any():
        return "column"
    return "group" if (rows.group != "").any() else "random"


def by_column(rows: Rows, seed: int) -> list[Split]:
    """The manifest's `split` column; rows that name no part are left out."""
    counts = {part: int((rows.part == part).sum()) for part in PARTS}
    empty = [part for part, n in counts.items() if n == 0]
    if empty:
        found = ", ".join(f"{n} {part}" for part, n in counts.items())
        raise LabelError(
            f"{rows.what}: split 'column' needs rows in train, val and test, found {found}; "
            "fill the manifest's split column or choose --split group or random"
        )
    assigned = np.array([PARTS.index(p) if p in PARTS else -1 for p in rows.part])
    return [_split(rows, assigned, "column", seed)]


def at_random(rows: Rows, seed: int) -> list[Split]:
    """70/20/10 of the rows of every class.

    A class of three rows or more has at least one in each part; of two, train and test get one
    each; a single row trains.
    """
    order = np.argsort(rows.utterance_id, kind="stable")
    draw = np.empty(len(rows))
    draw[order] = np.random.Generator(np.random.PCG64(seed)).random(len(rows))
    assigned = np.zeros(len(rows), dtype=np.int64)
    for label in np.unique(rows.label):
        members = np.flatnonzero(rows.label == label)
        members = members[np.argsort(draw[members])]
        n = len(members)
        n_test = max(int(SHARES[2] * n + 0.5), int(n >= 2))
        n_val = max(int(SHARES[1] * n + 0.5), int(n >= 3))
        assigned[members[:n_test]] = 2
        assigned[members[n_test : n_test + n_val]] = 1
    return [_split(rows, assigned, "random", seed)]


def by_group(rows: Rows, seed: int) -> list[Split]:
    """Whole groups, near 70/20/10 of the rows.

    Of `GROUP_CANDIDATES` seeded orders of the groups, each cut where the rows come nearest 70 and
    90 %, the one is taken that leaves the fewest classes out of train, then out of val and test,
    then comes nearest to 70/20/10.
    """
    without = np.flatnonzero(rows.group == "")
    if len(without):
        raise LabelError(
            f"{rows.what}: split 'group' needs a group for every row, {len(without)} have none "
            f"(such as {rows.utterance_id[without[0]]!r}); fill the manifest's group column"
        )
    groups, group_of = np.unique(rows.group, return_inverse=True)
    if len(groups) < 3:
        raise LabelError(
            f"{rows.what}: split 'group' needs at least 3 groups, found {len(groups)} "
            f"({', '.join(map(repr, groups))}); choose --split random or a finer group"
        )
    classes, class_of = np.unique(rows.label, return_inverse=True)
    counts = np.zeros((len(groups), len(classes)), dtype=np.int64)
    np.add.at(counts, (group_of, class_of), 1)
    generator = np.random.Generator(np.random.PCG64(seed))
    best: tuple[tuple[float, ...], IntArray] | None = None
    for _ in range(GROUP_CANDIDATES):
        order = np.argsort(generator.random(len(groups)), kind="stable")
        candidate, score = _cut(order, counts)
        if best is None or score < best[0]:
            best = (score, candidate)
    assert best is not None
    return [_split(rows, best[1][group_of], "group", seed)]


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


#: Splitters by name. A splitter may return several splits (folds).
SPLITTERS: dict[str, Splitter] = {"column": by_column, "random": at_random, "group": by_group}


def sarkar2025(n: int) -> tuple[IntArray, IntArray, IntArray]:
    """Train, val and test of the paper's released code, row for row, in its order of rows.

    `torch.utils.data.random_split` of n rows into int(0.7 n), int(0.2 n) and the rest with
    `torch.Generator().manual_seed(42)`.
    """
    import torch

    order = torch.randperm(n, generator=torch.Generator().manual_seed(42)).numpy()
    first, second = int(0.7 * n), int(0.7 * n) + int(0.2 * n)
    return order[:first], order[first:second], order[second:]


def _split(rows: Rows, assigned: IntArray, name: str, seed: int) -> Split:
    parts = [np.flatnonzero(assigned == p) for p in range(3)]
    classes = set(rows.label[assigned >= 0])
    missing = {
        part: tuple(sorted(classes - set(rows.label[where])))
        for part, where in zip(PARTS, parts, strict=True)
    }
    return Split(train=parts[0], val=parts[1], test=parts[2], name=name, seed=seed, missing=missing)


def _require_trainable(split: Split, rows: Rows) -> None:
    if split.missing["train"]:
        label = split.missing["train"][0]
        n = {part: int((rows.label[where] == label).sum()) for part, where in split.parts()}
        raise LabelError(
            f"{rows.what}: split {split.name!r} leaves class {label!r} without training rows "
            f"({n['val']} in val, {n['test']} in test); choose another --split or --split-seed, "
            "or leave the class out"
        )
    for part, where in split.parts():
        if len(where) == 0:
            raise LabelError(
                f"{rows.what}: split {split.name!r} leaves no row for {part} of {len(rows)} rows; "
                "more rows are needed"
            )
