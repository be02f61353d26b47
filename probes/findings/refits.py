"""What is fitted again on training and validation rows scores, beside the fits that validation chose."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from probes.classifiers.interface import trains_by_epochs
from probes.classifiers.registry import CLASSIFIERS
from probes.findings.predicted_rows import RowsSeen, no_rows
from probes.findings.question_findings import SETS_REASON, Designs, Judged
from probes.metrics import points
from probes.results.results_folder import StoredPredictions, read_refits, read_results
from probes.results.selection import CURVE, MAP, R2, all_layers, averages, chosen_fits, scored

if TYPE_CHECKING:
    import pandas as pd

    from probes.statistics import Comparison


@dataclass(frozen=True, kw_only=True, eq=False)
class RefitFinding:
    """The chosen fits of one curve, and the same made again on more rows.

    Attributes:
        question: Model, data set, label, classifier, split and combine, by name.
        layers: What validation chose in the test folds, such as "3-4,7".
        refit: The rows: "train+val".
        metric: What the scores are.
        n_fits: Fits made again: seeds times folds.
        n_train: Mean of the clips that they were made on, and of those that the chosen fits were.
        epochs: Fewest and most epochs of them; zeros where nothing is trained by epochs.
        chosen_score: Mean test score of the fits that validation chose.
        score: Mean test score of the fits made again.
        judged: Their interval.
        difference: The scores of the fits made again less those of the others, on the same test clips; None
            where it is not known.
    """

    question: dict[str, str]
    layers: str
    refit: str
    metric: str
    n_fits: int
    n_train: tuple[float, float]
    epochs: tuple[int, int]
    chosen_score: float
    score: float
    judged: Judged
    difference: Comparison | None

    @property
    def place(self) -> str:
        """Where it looks: ``layer 7``, or ``weighted of layers 0-12``."""
        if self.question["combine"] != "each":
            return f"{self.question['combine']} of layers {self.layers}"
        return f"layer {self.layers}" if self.layers.isdecimal() else f"layers {self.layers}"


def refit_findings(results: str | os.PathLike[str]) -> list[RefitFinding]:
    """What fits made again say, of every curve of a results folder whose chosen fits all were.

    Fits that validation would not choose any more, since others were added, are left out; and so is a curve
    of which some chosen fits were not made again: a mean of some folds is not that of all.

    Raises:
        CorruptData: a table that cannot be read.
    """
    again = read_refits(results)
    if again.empty:
        return []
    chosen = chosen_fits(read_results(results))
    again = scored(again[again["refit_of"].isin(chosen["fingerprint"])])
    stored, designs, seen = StoredPredictions(results), Designs(), RowsSeen()
    return [
        _finding(own, rows, partial(_judged, stored, designs, seen))
        for own, rows in _pairs(chosen, again)
        if set(rows["refit_of"]) == set(own["fingerprint"])
    ]


def _pairs(chosen: pd.DataFrame, again: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Chosen fits of each curve, and the same made again."""
    for name, rows in again.groupby([*CURVE, "refit"], sort=True):
        own = chosen[(chosen[list(CURVE)] == list(name[:-1])).all(axis=1)]
        yield own, rows


def _judged(stored: StoredPredictions, designs: Designs, seen: RowsSeen, fits: pd.DataFrame) -> Judged:
    if (fits["metric"] == MAP).any():
        return Judged(no_rows(SETS_REASON))
    of_numbers = bool((fits["metric"] == R2).any())
    return designs.judged(seen.predicted_rows(stored.of(fits, as_codes=True), fits), of_numbers=of_numbers)


def _finding(own: pd.DataFrame, rows: pd.DataFrame, judge: Any) -> RefitFinding:
    judged, before = judge(rows), judge(own)
    (mean,), (mean_before,) = (
        averages(fits, list(CURVE))["score_test_mean"].to_list() for fits in (rows, own)
    )
    first = rows.iloc[0]
    # Of ours alone: a name in a table must not import anything. Others' epochs may be a solver's iterations.
    known = CLASSIFIERS.get(str(first["classifier"]))
    by_epochs = known is not None and trains_by_epochs(known)
    return RefitFinding(
        question={name: str(first[name]) for name in CURVE},
        layers=all_layers(own),
        refit=str(first["refit"]),
        metric=str(first["metric"]),
        n_fits=len(rows),
        n_train=(float(rows["n_train"].mean()), float(own["n_train"].mean())),
        epochs=(int(rows["n_epochs"].min()), int(rows["n_epochs"].max())) if by_epochs else (0, 0),
        chosen_score=float(mean_before),
        score=float(mean),
        judged=judged,
        difference=judged.compared(before),
    )


def refit_sentence(found: RefitFinding) -> str:
    """What was fitted again and what it changes, in a sentence."""
    name = found.question
    if math.isnan(found.score):
        where = f"{name['label']}, {name['model']} {found.place}"
        return f"{where}: fitted again on {found.refit}, its {found.metric} is not defined."
    text = (
        f"{name['label']}, {name['model']} {found.place}, {name['classifier']}: fitted again on "
        f"{found.refit} it scores {100 * found.score:.1f} % on test, {100 * found.chosen_score:.1f} % before"
    )
    d = found.difference
    if d is None or math.isnan(d.low):
        return text + "."
    alike = "; the two cannot be told apart" if d.low <= 0 <= d.high else ""
    between = f"95 % interval {points(d.low)} to {points(d.high)}"
    return f"{text} ({points(d.difference)} points, {between}{alike})."
