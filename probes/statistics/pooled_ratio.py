"""Ratios of counts that are summed over groups: precision, recall and F1 of events, with groups left out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featurestore.errors import ConfigError
from probes.statistics.count_metrics import ratio_or_nan
from probes.statistics.design import Design
from probes.statistics.influence import Influence, made_influence


def ratio_influence(
    metric: str, names: npt.ArrayLike, above: npt.ArrayLike, below: npt.ArrayLike
) -> Influence:
    """Influence of each group on ratios of sums; their mean over classes is the score.

    Classes whose sum below is 0 are left out: the ratio is not defined.

    Args:
        metric: name of the score, such as ``precision``.
        names: classes `[K]`.
        above: what each group adds above the line, `[G, K]`.
        below: what it adds below, `[G, K]`; nowhere less than above.

    Raises:
        ConfigError: shapes differ, or a group adds more above than below.
    """
    a, b = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    classes = np.asarray(names, dtype=object)
    if a.ndim != 2 or a.shape != b.shape or classes.shape != a.shape[1:]:
        raise ConfigError(
            f"expected counts [groups, classes] above and below, got {a.shape}, {b.shape} for {classes.shape}"
        )
    if not ((a >= 0) & (a <= b)).all():
        raise ConfigError("expected counts from 0, above the line no more than below")
    total_above, total_below = a.sum(axis=0), b.sum(axis=0)
    used = total_below > 0
    values = ratio_or_nan(total_above, total_below)
    without = ratio_or_nan(total_above - a, total_below - b)
    nobody = np.zeros((len(a), 0), dtype=bool)
    design = Design(classes, nobody, None, np.arange(len(a)), b, b.sum(axis=1))
    return made_influence(metric, design, classes, values, without, b, 1, keep=used)
