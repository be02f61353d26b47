"""Probes of several layers at once, in a panel of layer curves: columns right of the curve, never on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probes.classifiers.layer_combination import COMBINATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from probes.report.figures import SeriesStyle
    from probes.report.load import Question

# Width of a column in layers: its name has to fit below, whatever the number of layers.
COLUMN_LAYERS, COLUMN_SHARE = 1.2, 0.23


def draw_combined(
    ax: Axes, question: Question, styles: dict[str, SeriesStyle], right: float, n_layers: int, rule: str
) -> tuple[float, list[tuple[float, str]]]:
    """One column per way to combine layers: each model's mean and spread.

    Args:
        ax: The panel.
        question: Its question.
        styles: Of the models.
        right: Where the curves end.
        n_layers: Layers the curves span; 0 where there are none.
        rule: Colour of the line between curves and columns.

    Returns:
        Where the panel ends, and places and names of the columns.
    """
    rows = question.combined()
    ways = [name for name in COMBINATIONS if (rows["combine"] == name).any()]
    if not ways:
        return right, []
    width = max(COLUMN_LAYERS, COLUMN_SHARE * n_layers)
    if n_layers:
        ax.axvline(right, color=rule, linewidth=0.8, zorder=1)
    ticks = []
    for i, way in enumerate(ways):
        centre = right + (i + 0.5) * width
        of_way = rows[rows["combine"] == way]
        places = centre + width * 0.6 * (np.arange(len(of_way)) + 0.5 - len(of_way) / 2) / max(len(of_way), 2)
        for x, (_, row) in zip(places, of_way.iterrows(), strict=True):
            style = styles[row["model"]]
            spread = row["score_test_std"]
            ax.errorbar(
                [x],
                [100 * row["score_test_mean"]],
                yerr=None if np.isnan(spread) else [100 * spread],
                color=style.colour,
                marker=style.marker,
                markersize=5,
                elinewidth=1.2,
                capsize=2,
                zorder=3,
            )
        ticks.append((centre, way))
    return right + len(ways) * width, ticks
