"""How sure a score is: intervals, comparisons and choices of layer, from groups of rows that belong together.

Pure functions on arrays; nothing is read or written here. `design` codes and checks what is given,
`count_metrics` and `rank_metrics` take a score with one group left out, `influence` makes of it what each
group adds to the error, `variance` sums that, `refusal` says where no interval is given, `interval`,
`comparison` and `layer_choice` answer, `multiplicity` corrects for many questions.
``docs/statistics.md`` says why.
"""

from __future__ import annotations

from probes.statistics.comparison import Comparison, compare, compare_influences, compare_uar, contrast
from probes.statistics.design import CodedLabels
from probes.statistics.influence import METRICS, Influence, influence, influences
from probes.statistics.interval import (
    NOT_CONTAINED,
    Interval,
    interval_of,
    metric_interval,
    recall_intervals,
    uar_interval,
)
from probes.statistics.layer_choice import LayerChoice, layer_choice
from probes.statistics.multiplicity import holm
from probes.statistics.pooled_ratio import ratio_influence

__all__ = [
    "METRICS",
    "NOT_CONTAINED",
    "CodedLabels",
    "Comparison",
    "Influence",
    "Interval",
    "LayerChoice",
    "compare",
    "compare_influences",
    "compare_uar",
    "contrast",
    "holm",
    "influence",
    "influences",
    "interval_of",
    "layer_choice",
    "metric_interval",
    "ratio_influence",
    "recall_intervals",
    "uar_interval",
]
