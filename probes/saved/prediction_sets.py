"""Sets of classes that hold the true one with a chance that was asked for: split conformal prediction.

A class is in the set of a clip where its probability is at least a bound, which the validation rows decide
(Sadinle, Lei & Wasserman 2019, JASA 114:223: least ambiguous sets). Clips of one recording are no independent
draws, so every group of validation rows counts as one, however many clips it has, and the group of a new clip
as one more (Lee, Barber & Willett 2023, arXiv 2306.06342: hierarchical conformal prediction). Where every row
is a group of its own that is the usual quantile: the ⌈(n+1)·level⌉-th largest probability of a true class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featurestore.arrays import Float64Array, FloatArray, TextArray
from featurestore.errors import ConfigError
from featurestore.manifest.labels import SEPARATOR
from featurestore.printable import counted
from probes.classifiers.multilabel import cells_of
from probes.saved.calibration import ValidationRows
from probes.saved.probe_files import ProbeCard, SavedProbe

# Sums of shares such as 1/10, of millions of rows, are that far off at most.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is promised of new clips, and what that rests on.

    Attributes:
        level: Chance that a set or an interval holds what is true, as it was asked for.
        n_rows: Validation rows that it rests on.
        n_groups: Groups that these are of.
        n_groups_trained: Of these groups those that have training rows too.
    """

    level: float
    n_rows: int
    n_groups: int
    n_groups_trained: int


@dataclass(frozen=True, kw_only=True)
class SetRule(Rule):
    """Which classes are in a set.

    Attributes:
        least: Lowest probability of a class in a set, as the classifier gives it.
        hardest: The class whose validation rows have it in their sets least often.
        hardest_share: In what share of them.
        hardest_rows: How many there are.
    """

    least: float
    hardest: str
    hardest_share: float
    hardest_rows: int

    def members(self, scores: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether each class is in the set of each row `[n, C]`; rows of NaN have none."""
        return np.asarray(scores >= self.least)


def set_rule(probe: SavedProbe, level: float, folder: Path) -> SetRule:
    """What the validation rows of a probe say of sets at a level.

    Args:
        probe: That was read.
        level: Chance that a set holds the true class, above 0 and below 1.
        folder: Of the probe, for messages.

    Raises:
        ConfigError: the probe gives no probabilities or has label sets; it keeps no validation rows, or has
            learned from them; there are too few groups for the level.
    """
    rows = _usable_rows(probe, level, folder)
    group = rows.group
    assert group is not None
    n_groups = len(np.unique(group))
    require_groups(n_groups, level, folder)
    of_class = rows.scores[np.arange(len(rows.scores)), rows.target]
    least = least_probability(of_class, group, level)
    covered, n = (np.bincount(rows.target, w, len(probe.card.classes)) for w in (of_class >= least, None))
    share = np.where(n > 0, covered / np.maximum(n, 1), np.inf)
    k = int(share.argmin())
    return SetRule(
        level=level,
        least=least,
        n_rows=len(of_class),
        n_groups=n_groups,
        n_groups_trained=int(probe.card.calibration.get("n_groups_trained", 0)),
        hardest=probe.card.classes[k],
        hardest_share=float(share[k]),
        hardest_rows=int(n[k]),
    )


def least_probability(
    of_class: FloatArray | Float64Array, group: npt.NDArray[np.int32], level: float
) -> float:
    """The largest bound that the true classes of enough rows reach.

    Of K groups each has a share of 1/(K+1), its rows have equal parts of that; the rest is that of the group
    that is to come, of which nothing is known. The rows at the bound or above have `level` together, or more.

    Args:
        of_class: Probability of the true class of each row, or what else is high where a row is met `[n]`.
        group: Code of the group of each row `[n]`.
        level: Above 0, at most K/(K+1).
    """
    _, of_row, sizes = np.unique(group, return_inverse=True, return_counts=True)
    share: Float64Array = 1 / ((len(sizes) + 1) * sizes[of_row])
    order = np.argsort(-of_class, kind="stable")
    reached = np.flatnonzero(np.cumsum(share[order]) >= level - _ROUNDING)
    return float(of_class[order[reached[0]]])


def set_cells(members: npt.NDArray[np.bool_], classes: Sequence[str]) -> TextArray:
    """The sets as text `[n]`, as label sets are written: ``a|b``; ``|`` where no class is in it."""
    return cells_of(members, classes)


def set_sentences(rule: SetRule, size: npt.NDArray[np.int64]) -> list[str]:
    """What sets were made, and what they promise, a sentence each.

    Args:
        rule: That made them.
        size: Classes in each set that was made `[n]`.
    """
    return [
        f"sets at {rule.level:g}: every class with a probability of {rule.least:.4g} or more; "
        f"{size.mean() if len(size) else 0:.2f} classes on average, "
        f"{counted(int((size == 1).sum()), 'clip')} with one, "
        f"{counted(int((size == 0).sum()), 'clip')} with none",
        f"a set holds the class of its clip with a chance of {rule.level:g} or more, "
        + promise(rule, "if these are of the probe's classes and drawn"),
        f"that is no promise for each class: of {counted(rule.hardest_rows, 'validation clip')} of "
        f"{rule.hardest} {100 * rule.hardest_share:.0f} % have it in their sets",
        *group_sentences(rule),
    ]


def promise(rule: Rule, condition: str) -> str:
    """Over what a chance is an average, and on which condition: the end of a sentence."""
    alone = rule.n_groups == rule.n_rows
    return (
        "on average over new "
        + ("clips" if alone else "groups and their clips")
        + f", {condition} as the "
        + counted(rule.n_rows, "validation clip")
        + ("" if alone else f" of {counted(rule.n_groups, 'group')}")
        + " were"
    )


def group_sentences(rule: Rule) -> list[str]:
    """Where groups break the promise, a sentence each."""
    said = []
    if rule.n_groups == rule.n_rows:
        said.append(
            "each validation clip counts as a group of its own; where several are of one recording the "
            "chance is not kept: train with a column group"
        )
    if rule.n_groups_trained:
        said.append(
            f"{rule.n_groups_trained:,} of the {counted(rule.n_groups, 'group')} have training clips too, so "
            "for clips of other groups the chance is not kept: train with --split group"
        )
    return said


def _usable_rows(probe: SavedProbe, level: float, folder: Path) -> ValidationRows:
    card, rows = probe.card, probe.validation
    check_level(level)
    if card.multilabel:
        raise ConfigError(
            f"--sets: {folder} predicts sets of labels, any number of which can be right; sets that hold the "
            "one right class are of probes of single labels"
        )
    if not card.probabilistic:
        raise ConfigError(
            f"--sets: scores of {card.classifier} are no probabilities; train mlp, linear, logreg, lda or knn"
        )
    require_unseen(card, folder)
    if rows is None or rows.group is None:
        raise ConfigError(
            f"--sets: {folder} does not keep its validation clips with their groups (none were of its "
            "classes, or an earlier version saved it); save it again with fs save-probe"
        )
    _require_plain_classes(card.classes, folder)
    return rows


def check_level(level: float) -> None:
    """Refuse a chance that is none.

    Raises:
        ConfigError: one line.
    """
    if not 0 < level < 1:
        raise ConfigError(f"--sets: expected a share above 0 and below 1, such as 0.9, got {level:g}")


def require_unseen(card: ProbeCard, folder: Path) -> None:
    """Refuse a probe that has learned from its validation rows.

    Raises:
        ConfigError: one line.
    """
    if card.refit:
        raise ConfigError(
            f"--sets: {folder} was fitted again on its validation clips, so they say nothing of new ones; "
            "save it without --refit"
        )


def require_groups(n_groups: int, level: float, folder: Path) -> None:
    """Refuse a level that so many groups cannot tell.

    Raises:
        ConfigError: one line that says how many it takes.
    """
    needed = math.ceil(level / (1 - level) - _ROUNDING)
    if n_groups >= needed:
        return
    most = math.floor(1000 * n_groups / (n_groups + 1)) / 1000
    raise ConfigError(
        f"--sets {level:g}: expected validation clips of at least {counted(needed, 'group')} (a clip without "
        f"a group is one), {folder} keeps those of {n_groups:,}; ask for at most {most:g}, or train where "
        "validation has more groups"
    )


def _require_plain_classes(classes: Sequence[str], folder: Path) -> None:
    for name in classes:
        if SEPARATOR in name:
            raise ConfigError(
                f"--sets: {folder}: class {name!r} cannot stand in a set, whose classes are joined with "
                f"{SEPARATOR!r}; rename it in the manifest, and train again"
            )
