"""Intervals that hold the true number with a chance that was asked for: split conformal prediction.

An interval is the prediction ± one width, which the absolute residuals of the validation rows decide (Lei et
al. 2018, JASA 113:1094, with one split). As of `probes.saved.prediction_sets`, every group of validation rows
counts as one, however many clips it has. Where every row is a group of its own the width is the
⌈(n+1)·level⌉-th smallest residual.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featurestore.arrays import Float64Array
from featurestore.errors import ConfigError
from probes.saved.prediction_sets import (
    Rule,
    check_level,
    group_sentences,
    least_probability,
    promise,
    require_groups,
    require_unseen,
)
from probes.saved.probe_files import SavedProbe


@dataclass(frozen=True, kw_only=True)
class IntervalRule(Rule):
    """How wide intervals are.

    Attributes:
        half_width: From the prediction to each end, in the unit of the label.
    """

    half_width: float

    def ends(self, predicted: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Lowest and highest number of each interval `[n]`; both belong to it. Rows of NaN have none."""
        return predicted - self.half_width, predicted + self.half_width


def interval_rule(probe: SavedProbe, level: float, folder: Path) -> IntervalRule:
    """What the validation rows of a probe of numbers say of intervals at a level.

    Args:
        probe: That was read.
        level: Chance that an interval holds the true number, above 0 and below 1.
        folder: Of the probe, for messages.

    Raises:
        ConfigError: it has learned from its validation rows, or keeps none; there are too few groups for the
            level.
    """
    check_level(level)
    require_unseen(probe.card, folder)
    rows = probe.validation_numbers
    if rows is None:
        raise ConfigError(f"--sets: {folder} keeps no validation clips; save it again with fs save-probe")
    n_groups = len(np.unique(rows.group))
    require_groups(n_groups, level, folder)
    # The smallest that enough residuals do not exceed is the largest that enough of their negatives reach.
    half_width = -least_probability(-np.abs(rows.predicted - rows.target), rows.group, level)
    return IntervalRule(
        level=level,
        half_width=half_width,
        n_rows=len(rows.target),
        n_groups=n_groups,
        n_groups_trained=int(probe.card.numbers["n_groups_trained"]),
    )


def interval_sentences(rule: IntervalRule) -> list[str]:
    """What intervals were made, and what they promise, a sentence each."""
    return [
        f"intervals at {rule.level:g}: every prediction ± {rule.half_width:.4g}",
        f"an interval holds the number of its clip with a chance of {rule.level:g} or more, "
        + promise(rule, "if these are drawn"),
        "all are of one width: of clips that are harder to tell than most they hold the number less often",
        *group_sentences(rule),
    ]
