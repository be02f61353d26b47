"""How firmly validation rows choose a layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.arrays import Float64Array
from featurestore.errors import ConfigError
from probes.number_scores import NUMBER_METRICS, group_sums
from probes.statistics.comparison import Comparison, compare_influences
from probes.statistics.count_metrics import hit_counts, said_counts
from probes.statistics.design import Design, label_rows
from probes.statistics.influence import Influence, influences
from probes.statistics.multiplicity import holm
from probes.statistics.number_metrics import seeds_of_numbers
from probes.statistics.refusal import FEWEST_GROUPS

ALPHA = 0.05
# Resamples times groups that are drawn at once: 32 MB of float64.
_CELLS_AT_ONCE = 4_000_000
# Resamples times groups that are kept for the next layers that are asked of: 16 to 32 MB.
_CELLS_KEPT = 16_000_000


@dataclass(frozen=True, kw_only=True)
class LayerChoice:
    """Which layer validation rows choose, and how firmly.

    Attributes:
        layers: Names of the layers, in the order given `[L]`.
        scores: Validation score of each, the mean over seeds `[L]`.
        chosen: The layer with the highest score, the first of equals.
        chosen_share: Share of resamples of groups that choose each layer `[L]`; NaN where too few groups.
        p_holm: Of each layer against the chosen one, paired by group, by Holm within this family `[L]`; NaN
            for the chosen one and where it could not be tested.
        not_worse: Layers that cannot be told from the chosen one, which is among them.
        comparisons: The chosen layer less each other one, in order; None for the chosen one.
        n_groups: Groups that validated.
        reason: Why nothing is said of other layers, or "".
    """

    layers: tuple[Any, ...]
    scores: Float64Array
    chosen: Any
    chosen_share: Float64Array
    p_holm: Float64Array
    not_worse: tuple[Any, ...]
    comparisons: tuple[Comparison | None, ...]
    n_groups: int
    reason: str = ""


def layer_choice(
    target: npt.ArrayLike,
    predictions: Sequence[npt.ArrayLike],
    group: npt.ArrayLike | None = None,
    *,
    layers: Sequence[Any] | None = None,
    metric: str = "uar",
    n_resamples: int = 10_000,
    seed: int = 0,
    classes: npt.ArrayLike | None = None,
) -> LayerChoice:
    """How firmly validation rows choose a layer.

    Groups are drawn with replacement (Efron & Tibshirani 1993, ch. 8: the unit that was sampled); in each
    resample the layer with the highest score is chosen, the first of equals. The share that chooses a layer
    describes this choice; it is no probability that the layer is best. Which layers cannot be told from the
    chosen one is asked of paired tests.

    Args:
        target: Class of each validation row `[n]`.
        predictions: For each layer predicted classes `[n]` or `[S, n]`; scores for `auroc_macro` and `map`,
            where a resample's score is its first-order approximation from the groups' influences.
        group: Group of each row `[n]`; None: every row is a group of its own.
        layers: Names of the layers; default 0, 1, ….
        metric: One of `METRICS`.
        n_resamples: How many times groups are drawn.
        seed: Of the draws.
        classes: For scores: the class of each column.

    Raises:
        ConfigError: No layers, unequal lengths, missing values.
    """
    names = tuple(range(len(predictions)) if layers is None else layers)
    if not names or len(names) != len(predictions):
        raise ConfigError(
            f"layers: expected a name for each of {len(predictions)} predictions, one at least; "
            f"got {len(names)}"
        )
    if n_resamples < 1:
        raise ConfigError(f"n_resamples: expected 1 at least; got {n_resamples}")
    scores = influences(target, predictions, group, metric=metric, classes=classes)
    estimates = np.array([s.estimate for s in scores])
    best = int(np.argmax(estimates))
    n_groups = scores[0].design.n_groups
    if n_groups < FEWEST_GROUPS:
        return _undecided(names, estimates, best, n_groups)
    compared = tuple(None if i == best else compare_influences(scores[best], s) for i, s in enumerate(scores))
    adjusted = holm([np.nan if c is None else c.p for c in compared])
    return LayerChoice(
        layers=names,
        scores=estimates,
        chosen=names[best],
        chosen_share=_shares(scores, predictions, n_resamples, seed),
        p_holm=adjusted,
        not_worse=tuple(n for n, p in zip(names, adjusted, strict=True) if not p <= ALPHA),
        comparisons=compared,
        n_groups=n_groups,
        reason=next((c.reason for c in compared if c is not None and np.isnan(c.p)), ""),
    )


def _undecided(names: tuple[Any, ...], scores: Float64Array, best: int, n_groups: int) -> LayerChoice:
    """The choice of too few groups: nothing is said of the other layers."""
    nothing = np.full(len(names), np.nan)
    return LayerChoice(
        layers=names,
        scores=scores,
        chosen=names[best],
        chosen_share=nothing,
        p_holm=nothing.copy(),
        not_worse=names,
        comparisons=(None,) * len(names),
        n_groups=n_groups,
        reason=f"{n_groups} groups validated; {FEWEST_GROUPS} are needed to say how firmly they choose",
    )


def _shares(
    scores: Sequence[Influence], predictions: Sequence[npt.ArrayLike], n_resamples: int, seed: int
) -> Float64Array:
    design = scores[0].design
    draws = _draws(design.n_groups, n_resamples, seed)
    chosen = np.zeros(len(scores))
    resampled = _resampler(scores, predictions)
    few = n_resamples * design.n_groups <= _CELLS_KEPT
    for times in _kept_draws(design.n_groups, n_resamples, seed) if few else draws:
        drawn = np.round(resampled(times.astype(np.float64)), 12)  # [n, L]; equal but for rounding is equal
        chosen += np.bincount(drawn.argmax(axis=1), minlength=len(scores))
    return np.asarray(chosen / n_resamples, dtype=np.float64)


def _draws(n_groups: int, n_resamples: int, seed: int) -> Iterator[npt.NDArray[Any]]:
    """How often each group is drawn in each resample, some `[B, G]` at a time."""
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS_AT_ONCE // n_groups)
    for start in range(0, n_resamples, step):
        n = min(step, n_resamples - start)
        times = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n)
        yield times.astype(np.min_scalar_type(n_groups))


@lru_cache(maxsize=1)
def _kept_draws(n_groups: int, n_resamples: int, seed: int) -> tuple[npt.NDArray[Any], ...]:
    """`_draws`, of which all models of a question have the same."""
    return tuple(_draws(n_groups, n_resamples, seed))


def _resampler(scores: Sequence[Influence], predictions: Sequence[npt.ArrayLike]) -> Any:
    """A function from how often each group is drawn `[B, G]` to scores `[B, L]`."""
    design, metric = scores[0].design, scores[0].metric
    if design.number is not None:
        return _number_resampler(design, predictions, metric)
    if metric == "f1_macro":
        return _f1_resampler(design, predictions)
    if metric in ("uar", "accuracy"):
        hits = [hit_counts(design, label_rows(design, p)) for p in predictions]
        rows = design.counts
        if metric == "accuracy":
            hits, rows = [h.sum(1, keepdims=True) for h in hits], design.rows[:, None]
        # One product for all layers: [G, L * C].
        all_hits = np.concatenate(hits, axis=1)

        def resampled(times: Float64Array) -> Float64Array:
            below = times @ rows
            above = (times @ all_hits).reshape(len(times), len(hits), -1)
            return np.stack([_mean_ratio(above[:, i], below) for i in range(len(hits))], axis=1)

        return resampled
    slope = np.stack([s.by_group.mean(axis=1) for s in scores], axis=1)
    value = np.array([s.estimate for s in scores])
    return lambda times: value + (times - 1) @ slope


def _number_resampler(design: Design, predictions: Sequence[npt.ArrayLike], metric: str) -> Any:
    assert design.number is not None
    seeds = [seeds_of_numbers(p, design.n_rows) for p in predictions]
    sums = [group_sums(design.number, guess, design.group) for guess in seeds]  # [S, G, 8] of each layer

    def resampled(times: Float64Array) -> Float64Array:
        scores = [NUMBER_METRICS[metric](np.einsum("bg,sgk->bsk", times, of)).mean(axis=1) for of in sums]
        # Of one group drawn again and again nothing may be defined: then no layer is better than another.
        return np.asarray(np.nan_to_num(np.stack(scores, axis=1), nan=-np.inf), dtype=np.float64)

    return resampled


def _f1_resampler(design: Design, predictions: Sequence[npt.ArrayLike]) -> Any:
    coded = [label_rows(design, p) for p in predictions]
    parts = [[(hit_counts(design, g[None]), said_counts(design, g)) for g in seeds] for seeds in coded]

    def resampled(times: Float64Array) -> Float64Array:
        rows = times @ design.counts
        out = []
        for seeds in parts:
            each = [_mean_ratio(2 * (times @ h), rows + times @ said, rows) for h, said in seeds]
            out.append(np.mean(each, axis=0))
        return np.stack(out, axis=1)

    return resampled


def _mean_ratio(above: Float64Array, below: Float64Array, rows: Float64Array | None = None) -> Float64Array:
    """Mean over the classes that a resample holds: `[B, C]` to `[B]`."""
    occurs = (below if rows is None else rows) > 0
    ratio = np.where(occurs, above / np.where(below > 0, below, 1), 0)
    return np.asarray(ratio.sum(axis=1) / occurs.sum(axis=1), dtype=np.float64)
