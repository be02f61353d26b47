"""How many more animals? Parts of the training rows, drawn again and again, that probes are fitted on.

* ``groups``: shares of the training groups (the recordings, the animals), with all their rows.
* ``rows``: shares of the training rows, stratified: of every class about that share.

A draw puts all groups (or rows) in one order, which the split's seed and the draw decide, and a share takes
the first of them: within a draw the 10 % are part of the 20 %. Validation and test rows stay as they are. So
the difference of two shares is what more training data brings, and nothing else. Fits of a curve are kept in
``_curve.parquet``; see `probes.results.learning_curves`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from featurestore.arrays import IntArray
from featurestore.errors import ConfigError, LabelError, did_you_mean
from featurestore.printable import counted
from probes.codes import codes
from probes.splits.interface import Draws, generator

if TYPE_CHECKING:
    from probes.splits import Rows, Split

GROUPS, ROWS = "groups", "rows"
CURVES = (GROUPS, ROWS)
#: Of all training groups or rows. The last, all of them, is part of every curve.
SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
DRAWS = 5
MOST_DRAWS = 1000
# Streams of random numbers apart from the split's own and those of controls.
_STREAM = {GROUPS: 104, ROWS: 105}


def check_curves(curves: Sequence[str], shares: str | None, draws: int | None) -> None:
    """Refuse a curve that cannot be drawn.

    Raises:
        ConfigError: one line that says why.
    """
    for name in curves:
        if name not in CURVES:
            hint = did_you_mean(name, CURVES)
            raise ConfigError(f"curve: expected {' or '.join(CURVES)}, got {name!r}{hint}")
    if not curves and (shares is not None or draws is not None):
        option = "--curve-shares" if shares is not None else "--curve-draws"
        raise ConfigError(f"{option}: says how a curve is drawn; ask for --curve groups or --curve rows too")
    if draws is not None and not 1 <= draws <= MOST_DRAWS:
        raise ConfigError(f"curve draws: expected 1 to {MOST_DRAWS:,}, got {draws}")
    parse_shares(shares)


def parse_shares(text: str | None) -> tuple[float, ...]:
    """Shares of the training data, ascending, from a list of percentages; 1 is always the last.

    >>> parse_shares("30,10")
    (0.1, 0.3, 1.0)

    Raises:
        ConfigError: no such list.
    """
    if text is None:
        return SHARES
    found = {1.0}
    for word in text.split(","):
        try:
            percent = float(word)
        except ValueError:
            percent = math.nan
        if not 0 < percent <= 100:
            raise ConfigError(
                f"curve shares: expected percentages from 0 to 100 such as 10,30,100, got {word.strip()!r}"
            )
        found.add(percent / 100)
    if len(found) == 1:
        raise ConfigError(f"curve shares: expected a share below 100 % too, such as 50,100, got {text!r}")
    return tuple(sorted(found))


def share_size(share: float, n: int) -> int:
    """How many of `n` groups or rows a share is: one at least, and all only at 100 %."""
    return n if share == 1 else min(max(1, math.floor(share * n + 0.5)), n - 1)


def distinct_shares(shares: Sequence[float], counts: Sequence[int]) -> tuple[float, ...]:
    """Shares that differ in what they take.

    Args:
        shares: Ascending.
        counts: Training groups (or rows) of each fold.

    Returns:
        The shares without those that take, in every fold, as many as the next larger one.
    """
    sizes = [[share_size(share, n) for n in counts] for share in shares]
    return tuple(s for i, s in enumerate(shares) if i + 1 == len(shares) or sizes[i] != sizes[i + 1])


def n_drawn_from(curve: str, rows: Rows, split: Split) -> int:
    """What shares are taken of: training groups, or training rows.

    Raises:
        LabelError: rows have no group, or there are too few to leave some out.
    """
    if curve == ROWS:
        if len(split.train) < 2:
            raise LabelError(
                f"{rows.what}: curve rows needs two training rows at least, fold {split.fold} has one"
            )
        return len(split.train)
    without = split.train[rows.group[split.train] == ""]
    if len(without):
        raise LabelError(
            f"{rows.what}: curve groups needs a group for every training row, {len(without)} have none (such "
            f"as {rows.utterance_id[without[0]]!r}); fill the manifest's column {rows.grouped_by!r}, or take "
            "--curve rows"
        )
    n = len(set(rows.group[split.train]))
    if n < 2:
        raise LabelError(
            f"{rows.what}: curve groups needs two training groups at least, fold {split.fold} of split "
            f"{split.name!r} has {n}; name a finer column with --group, or take --curve rows"
        )
    return n


def drawn_rows(curve: str, rows: Rows, split: Split, share: float, draw: int) -> IntArray:
    """The training rows of one share of one draw: positions in ``split.train``, ascending `[n]`.

    They depend on ids, labels, groups, the split and its seed; not on the order of the rows.
    """
    if share == 1:
        return np.arange(len(split.train))
    seed = (split.seed, _STREAM[curve], draw)
    if curve == GROUPS:
        names, group_of = codes(rows.group)  # of all folds: a draw is one order of the groups in each
        of_train = group_of[split.train]
        order = np.argsort(generator(*seed).random(len(names)))
        order = order[np.isin(order, of_train)]
        return np.flatnonzero(np.isin(of_train, order[: share_size(share, len(order))]))
    place = _stratified_places(rows.classes[1][split.train], rows.draws(*seed)[split.train])
    return np.sort(np.argsort(place, kind="stable")[: share_size(share, len(place))])


def _stratified_places(y: IntArray, numbers: Draws) -> Draws:
    """Where each row stands from 0 to 1 `[n]`, so that any first part has about its share of each class.

    The rows of a class, in random order, stand 1/n apart from a random start: systematic sampling with one
    start for each class (Madow & Madow 1944). What stands before a place p is ⌊p·n⌋ or ⌈p·n⌉ rows of n.
    """
    place = np.empty(len(y))
    for label in np.unique(y):
        where = np.flatnonzero(y == label)
        where = where[np.argsort(numbers[where])]
        # The number of the first is the smallest of n: no uniform start. That of its fraction is.
        start = float(numbers[where[0]] * 1e6 % 1)
        place[where] = (np.arange(len(where)) + start) / len(where)
    return place


def few_sentence(curve: str, asked: Sequence[float], kept: Sequence[float], counts: Sequence[int]) -> str:
    """That some shares are left out because they take as many groups or rows as the next; "" where none."""
    left = [share for share in asked if share not in kept]
    if not left:
        return ""
    noun = "training group" if curve == GROUPS else "training row"
    most = max(counts)
    held = counted(most, noun) if min(counts) == most else f"{min(counts):,} to {counted(most, noun)}"
    listed = ", ".join(percent(share) for share in left)
    same = (
        "takes as many as the next larger share and is"
        if len(left) == 1
        else ("take as many as the next larger share and are")
    )
    return f"curve {curve}: with {held} {listed} % {same} left out"


def percent(share: float) -> str:
    """A share in percent, such as ``10`` or ``2.5``."""
    return f"{100 * share:.10g}"
