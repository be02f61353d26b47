"""What more training data brings: scores over shares of the training groups or rows, and the last step.

Layer and settings are those that validation prefers with all training rows, in every test fold its own; every
share is then shown at this layer. A draw that took the very rows of another (of two groups there are two
halves) counts once.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from featurestore.printable import counted
from probes.classifiers.layer_combination import EACH
from probes.metrics import is_shown_as_zero, points
from probes.questions.curve import GROUPS, percent
from probes.results.results_folder import read_curve
from probes.results.selection import CURVE, R2, UAR, chosen_fits
from probes.splits import group_name, parse_split

#: One learning curve; another draw of the split has other test rows, and a curve of its own.
QUESTION = (*CURVE, "split_seed", "curve")
_FIT = ["outer", "layers", "hparams"]
_FOLDS = ["outer", "fold"]
CONFIDENCE = 0.95
# A fit that was best in the last tenth of its epochs had too few.
LATE_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class LastStep:
    """What the step from the largest share below all to all training data brings.

    Attributes:
        question: `QUESTION` to its values.
        place: The layer, such as ``layer 7``.
        share: The share below, 0 to 1.
        difference: Mean score of all minus that of the share.
        low: Lower end of the 95 % interval; NaN where there is none.
        high: Upper end.
        n_draws: Different draws of the share.
        n_seeds: Fits on all training rows; 0 where a seed changes nothing.
        unsettled: Most fits of the share were best at the end of their epochs.
        metric: What the scores are.
    """

    question: dict[str, Any]
    place: str
    share: float
    difference: float
    low: float
    high: float
    n_draws: int
    n_seeds: int
    unsettled: bool = False
    metric: str = UAR

    @property
    def unit(self) -> str:
        """What shares are taken of: ``groups``, ``clips``."""
        return "groups" if self.question["curve"] == GROUPS else "clips"

    def sentence(self) -> str:
        """Whether the score still rises, and what the interval is."""
        q, size = self.question, points(abs(self.difference))
        name = f"{q['label']}, {q['model']} {self.place}"
        step = f"{name}: from {percent(self.share)} to 100 % of the training {self.unit} {self.metric}"
        if math.isnan(self.low):
            return (
                f"{step} changes by {points(self.difference)} points; one draw has no interval, so that "
                "whether it still rises cannot be told: take more --curve-draws"
            )
        low, high, draws = self.low, self.high, counted(self.n_draws, "draw")
        if low <= 0 <= high:
            found = f"95 % interval {points(low)} to {points(high)} over {draws}"
            return f"{step} changes by {points(self.difference)} points ({found}): cannot be told from flat."
        if is_shown_as_zero(self.difference):
            found = f"95 % interval {points(low)} to {points(high)} over {draws}"
            return f"{step} changes by less than 0.1 points ({found}): more {self.unit} would not help."
        if self.difference < 0:
            found = f"95 % interval {points(-high)} to {points(-low)} over {draws}"
            return f"{step} falls by {size} points ({found}): more {self.unit} like these would not help."
        found = f"95 % interval {points(low)} to {points(high)} over {draws}"
        epochs = ", or more epochs," if self.unsettled else ""
        return f"{step} rises by {size} points ({found}): more {self.unit}{epochs} would help."

    def contents(self) -> str:
        """What the interval holds, and what it does not; "" where there is none."""
        if math.isnan(self.low):
            return ""
        drawn = f"which {self.unit} are drawn"
        if self.n_seeds == 0:
            held = drawn
        elif self.n_seeds == 1:
            held = (
                f"{drawn}, and the one fit on all {self.unit}, whose spread is taken to be that of a draw "
                "(several --seeds measure it)"
            )
        else:
            held = f"{drawn}, and the {self.n_seeds} seeds"
        others = f"not other validation or test clips, nor other {self.unit} than these"
        return f"The interval holds {held}; {others}."


def learning_curves(results: str | os.PathLike[str]) -> pd.DataFrame:
    """One row for each share of each learning curve of a results folder, at the chosen layer.

    Args:
        results: Folder of `fs probe --curve`.

    Returns:
        `QUESTION`, ``place`` (such as "layer 7"), ``group`` (what the groups are called), ``share`` (above 0
        to 1), ``n_draws`` (that differ), ``n_fits``, ``n_train_groups`` and ``n_train`` (clips; means over
        draws and folds), ``metric``, ``score_mean``, ``score_std`` (over draws and seeds, n-1; NaN for one),
        the same as ``uar_mean``, ``uar_std`` (NaN for numbers, whose score is R²), ``chance``, ``lacking``
        (share of draws that lack a class which all training rows have), ``unsettled`` (share of fits that
        were best in the last tenth of their epochs). Empty where no curve was fitted.

    Raises:
        CorruptData: the table cannot be read.
    """
    rows = [
        {**question, "place": place, "group": group_name(parse_split(question["split"])), **row}
        for question, place, fits in _chosen(read_curve(results))
        for row in _points_of(fits)
    ]
    sizes = ("n_draws", "n_fits", "n_train_groups", "n_train")
    scores = ("metric", "score_mean", "score_std", "uar_mean", "uar_std", "chance", "lacking", "unsettled")
    return pd.DataFrame(rows, columns=[*QUESTION, "place", "group", "share", *sizes, *scores])


def last_steps(results: str | os.PathLike[str]) -> list[LastStep]:
    """The last step of each learning curve of a results folder, in the order of `learning_curves`.

    The interval is that of a difference of means by Student's t: of the draws of the share (their means over
    seeds and folds), and of the fits on all training rows, by Welch (1947) where there are several seeds. One
    fit that depends on a seed has no spread to be seen: it is then taken to have that of a draw, as in a
    prediction interval. Fits that depend on no seed have none. All draws are compared with the same score of
    all training rows: without its spread a third of the intervals of flat curves would lie beside 0.

    Raises:
        CorruptData: the table cannot be read.
    """
    return [
        step
        for question, place, fits in _chosen(read_curve(results))
        if (step := _last_step(question, place, fits)) is not None
    ]


def _chosen(table: pd.DataFrame) -> Iterator[tuple[dict[str, Any], str, pd.DataFrame]]:
    """Of each learning curve its fits at the layer and settings that validation chose; see `_whole`."""
    for name, fits in table.groupby(list(QUESTION), sort=True):
        question = dict(zip(QUESTION, name, strict=True))
        of_all = fits[fits["share"] == 1]
        if of_all.empty:  # an interrupted run
            continue
        chosen = chosen_fits(of_all)
        at = chosen[["fold", *_FIT]].drop_duplicates()
        found = fits.merge(at, on=["fold", "layers", "hparams"], how="inner")
        layers = sorted(
            set(chosen["layers"]), key=lambda text: [int(k) for k in text.replace("-", ",").split(",")]
        )
        if question["combine"] != EACH:
            place = f"{question['combine']} of layers {layers[0]}"
        elif len(layers) == 1:
            place = f"layer {layers[0]}"
        else:
            place = f"layers {', '.join(layers)}, chosen in each fold,"
        yield question, place, _whole(found)


def _whole(fits: pd.DataFrame) -> pd.DataFrame:
    """Fits of draws that have all folds (an interrupted run may lack some), each set of rows once."""
    folds = fits.loc[fits["share"] == 1, "fold"].nunique()
    unit = ["share", "draw", "seed"]
    fits = fits[fits.groupby(unit)["fold"].transform("nunique") == folds]
    rows = (
        fits.sort_values("fold")
        .groupby(["share", "draw"])["trained"]
        .agg(lambda names: " ".join(dict.fromkeys(names)))
    )
    first = rows.reset_index().drop_duplicates(["share", "trained"])[["share", "draw"]]
    return fits.merge(first, on=["share", "draw"], how="inner")


def _by_draw_and_seed(fits: pd.DataFrame, column: str) -> pd.Series[Any]:
    """Means over inner folds, then over test folds, by share, draw and seed; NaN where a fold has none."""
    unit = ["share", "draw", "seed"]
    means = fits.groupby([*unit, "outer"])[column].mean().groupby(unit).mean()
    return means.mask(fits[column].isna().groupby([fits[name] for name in unit]).any())


def _score_of(fits: pd.DataFrame) -> tuple[str, str]:
    """What the fits of a curve are scored by, and the column of it."""
    of_numbers = "chance_mae" in fits and bool(fits["chance_mae"].notna().any())
    return (R2, "r2_test") if of_numbers else (UAR, "uar_test")


def _points_of(fits: pd.DataFrame) -> Iterator[dict[str, Any]]:
    metric, column = _score_of(fits)
    scores, chance = _by_draw_and_seed(fits, column), _by_draw_and_seed(fits, "chance")
    most = fits[fits["share"] == 1].groupby("fold")["n_classes_trained"].first()
    lacking = fits["n_classes_trained"] < fits["fold"].map(most)
    for share, of_share in fits.groupby("share"):
        values = scores.loc[share]
        mean, std = values.mean(skipna=False), values.std(skipna=False)
        yield {
            "metric": metric,
            "score_mean": mean,
            "score_std": std,
            "share": share,
            "n_draws": of_share["draw"].nunique(),
            "n_fits": len(of_share),
            "n_train_groups": of_share["n_train_groups"].mean(),
            "n_train": of_share["n_train"].mean(),
            "uar_mean": mean if metric == UAR else math.nan,
            "uar_std": std if metric == UAR else math.nan,
            "chance": chance.loc[share].mean(skipna=False),
            "lacking": lacking[of_share.index].mean(),
            "unsettled": _unsettled(of_share),
        }


def _unsettled(fits: pd.DataFrame) -> float:
    """Share of fits that were best at the end of their epochs; 0 where there are none."""
    allowed = np.array([json.loads(text).get("max_epochs", np.inf) for text in fits["hparams"]], dtype=float)
    return float((fits["best_epoch"].to_numpy(dtype=float) >= LATE_SHARE * allowed).mean())


def unsettled_sentence(curve: pd.DataFrame) -> str:
    """That most fits of some shares of one curve of `learning_curves` had too few epochs; "" where none.

    With fewer rows an epoch has fewer steps: what looks like more data may be more training.
    """
    late = curve[curve["unsettled"] > 0.5]
    if late.empty:
        return ""
    listed = ", ".join(percent(share) for share in late["share"])
    unit = "groups" if curve["curve"].iloc[0] == GROUPS else "clips"
    return (
        f"at {listed} % most fits were best at the end of their epochs; a smaller share has fewer steps, "
        f"so that a rise may come of more steps and not of more {unit}: try a larger max_epochs or a smaller "
        "batch_size with --grid."
    )


def _last_step(question: dict[str, Any], place: str, fits: pd.DataFrame) -> LastStep | None:
    below = fits.loc[fits["share"] < 1, "share"]
    if below.empty:
        return None
    metric, column = _score_of(fits)
    scores, share = _by_draw_and_seed(fits, column), float(below.max())
    if scores.isna().any():
        return None  # R² is not defined in some fold
    full = scores.loc[1.0].to_numpy(dtype=float)
    draws = scores.loc[share].groupby("draw").mean().to_numpy(dtype=float)
    seeded = _is_seeded(str(question["classifier"]))
    low, high = interval(full, draws, seeded=seeded)
    return LastStep(
        question=question,
        place=place,
        share=share,
        difference=float(full.mean() - draws.mean()),
        low=low,
        high=high,
        n_draws=len(draws),
        n_seeds=len(full) if seeded else 0,
        unsettled=_unsettled(fits[fits["share"] == share]) > 0.5,
        metric=metric,
    )


def interval(
    full: npt.NDArray[np.float64], draws: npt.NDArray[np.float64], *, seeded: bool
) -> tuple[float, float]:
    """95 % interval of mean(full) - mean(draws); NaN for one draw. See `last_steps`.

    Args:
        full: Score with all training rows of each seed `[S]`.
        draws: Score of each draw of the share `[D]`.
        seeded: Whether a seed changes what is fitted.
    """
    from scipy.stats import t

    n, s = len(draws), len(full)
    if n < 2:
        return math.nan, math.nan
    spread = float(draws.var(ddof=1))
    of_draws, freedom = spread / n, float(n - 1)
    of_full = 0.0
    if seeded and s == 1:
        of_full = spread
    elif seeded:
        of_full = float(full.var(ddof=1)) / s
        both = of_draws**2 / (n - 1) + of_full**2 / (s - 1)
        freedom = (of_draws + of_full) ** 2 / both if both > 0 else freedom
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(of_draws + of_full)
    middle = float(full.mean() - draws.mean())
    return middle - half, middle + half


def _is_seeded(classifier: str) -> bool:
    """Whether a seed changes what is fitted. Classifiers of other packages are not imported to find out."""
    from probes.classifiers.registry import CLASSIFIERS

    return classifier not in CLASSIFIERS or CLASSIFIERS[classifier].seeded
