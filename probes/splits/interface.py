"""What a splitter is given and what it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from featurestore.arrays import IntArray, TextArray
from featurestore.errors import LabelError
from probes.codes import codes

#: A number for each row.
Draws = npt.NDArray[np.float64]

PARTS = ("train", "val", "test")
SHARES = (0.7, 0.2, 0.1)  # train, val, test of the paper
TRAIN, VAL, TEST, LEFT_OUT = 0, 1, 2, -1


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Labelled rows of one data set; all arrays are text `[n]`, "" where nothing is given.

    Attributes:
        utterance_id: Unique names.
        label: The class of each row, never "".
        group: What must not straddle a split.
        grouped_by: Name of the column that `group` holds.
        numbers: What is to be predicted where these are numbers, as texts; `label` is then one class, so that
            rows are drawn as they come. None for classes.
        part: The manifest's own split: train, val, test or "".
        fold: Cells of the column that ``fold:COLUMN`` names; None for other splits.
        place: Place of each row in the manifest, counted from 0 `[n]`; None where it is not known.
        n_manifest: Rows of the whole manifest, labelled or not.
        what: Names the label and the data set in messages.
    """

    utterance_id: TextArray
    label: TextArray
    group: TextArray
    part: TextArray
    fold: TextArray | None = None
    place: IntArray | None = None
    n_manifest: int = 0
    what: str = "label"
    grouped_by: str = "group"
    numbers: TextArray | None = None

    def __len__(self) -> int:
        return len(self.utterance_id)

    @cached_property
    def classes(self) -> tuple[TextArray, IntArray]:
        """Classes in sorted order `[C]`, and the position of each row's class `[n]`."""
        return codes(self.label)

    @cached_property
    def by_id(self) -> IntArray:
        """Positions that sort the rows by id: the order that every draw is made in `[n]`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        # UTF-8 sorts as Python's text does, ten times faster on a million rows.
        ids = pa.array(self.utterance_id, type=pa.large_string())
        return np.asarray(pc.sort_indices(ids)).astype(np.int64)

    def draws(self, *seed: int) -> Draws:
        """A uniform number for each row `[n]` that depends on ids and seed alone."""
        out = np.empty(len(self))
        out[self.by_id] = np.random.Generator(np.random.PCG64(_entropy(seed))).random(len(self))
        return out


@dataclass(frozen=True, kw_only=True)
class Split:
    """Positions of the rows of each part, ascending in the order of the rows given.

    Attributes:
        train: Rows that are learned from `[n_train]`.
        val: Rows that choose epoch, hyper-parameters and layer.
        test: Rows that are scored once.
        name: What was asked for ("random", "group-kfold:5[bird]").
        seed: Seed of the draw.
        fold: Which of the splits of that name.
        missing: Classes without a row in a part, by part.
    """

    train: IntArray
    val: IntArray
    test: IntArray
    name: str
    seed: int
    fold: int = 0
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def parts(self) -> tuple[tuple[str, IntArray], ...]:
        """``(name, positions)`` of train, val and test."""
        return (("train", self.train), ("val", self.val), ("test", self.test))

    def part_of_rows(self, n: int) -> TextArray:
        """Name of the part of each of the `n` rows that were split, "" where it is in none."""
        part = np.full(n, "", dtype=object)
        for name, where in self.parts():
            part[where] = name
        return part


@dataclass(frozen=True, kw_only=True)
class SplitSpec:
    """A split as it was asked for, taken apart.

    Attributes:
        text: As written, such as "nested:5x3" or "group[bird]".
        kind: Name in the registry.
        n_folds: Folds of which each is tested once; 0 where the kind has none.
        n_inner: Inner folds of each (nested splits); otherwise 1.
        column: Label column (``fold:COLUMN``).
        group: Column whose values are held out together (``group[COLUMN]``); "" for the manifest's `group`.
    """

    text: str
    kind: str
    n_folds: int = 0
    n_inner: int = 1
    column: str = ""
    group: str = ""

    def outer(self, fold: int) -> int:
        """Which test fold the split number `fold` has."""
        return fold // self.n_inner

    def inner(self, fold: int) -> int:
        """Which inner fold of its test fold the split number `fold` is; 0 where there is one."""
        return fold % self.n_inner


#: The part of each row `[n]`, or how to draw it: folds that nobody asks for are then not drawn.
Assigned = IntArray | Callable[[], IntArray]


class Draw(Protocol):
    """A splitter: yields the part of each row (`TRAIN`, `VAL`, `TEST`, `LEFT_OUT`) `[n]`, split by split."""

    def __call__(self, rows: Rows, seed: int, spec: SplitSpec) -> Iterator[Assigned]:
        """Draw."""
        ...


def groups_of(rows: Rows, spec: SplitSpec, at_least: int) -> tuple[TextArray, IntArray]:
    """Groups in sorted order and each row's position among them.

    Raises:
        LabelError: a row has none, or there are fewer than `at_least`.
    """
    without = np.flatnonzero(rows.group == "")
    if len(without):
        raise LabelError(
            f"{rows.what}: split {spec.text!r} needs a group for every row, {len(without)} have none "
            f"(such as {rows.utterance_id[without[0]]!r}); fill the manifest's column {rows.grouped_by!r}, "
            "or hold recordings out with --group path"
        )
    groups, group_of = codes(rows.group)
    if len(groups) < at_least:
        fewer = f"ask for {len(groups)} folds, " if 3 <= len(groups) < spec.n_folds else ""
        raise LabelError(
            f"{rows.what}: split {spec.text!r} needs at least {at_least} groups, found {len(groups)} "
            f"({', '.join(map(repr, groups))}); {fewer}{_finer(rows)}"
        )
    return groups, group_of


def _finer(rows: Rows) -> str:
    """What to do where there are too few groups."""
    if rows.grouped_by == "path":
        return "name a finer column with --group, or choose --split random, which holds no recording out"
    return "name a finer column with --group, such as --group path (recordings)"


def generator(*seed: int) -> np.random.Generator:
    """PCG64, whose stream NumPy promises to keep, on every machine. Only `random` is asked of it."""
    return np.random.Generator(np.random.PCG64(_entropy(seed)))


def _entropy(seed: tuple[int, ...]) -> int | list[int]:
    return seed[0] if len(seed) == 1 else list(seed)
