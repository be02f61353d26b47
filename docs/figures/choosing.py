"""What reporting the layer with the best test score does: thirteen layers that are equally good."""

from __future__ import annotations

import sys
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
from paper import BAD, GOOD, WIDTH, save
from scipy.optimize import brentq
from scipy.special import expit

N_LAYERS, CLIPS_EACH, TRUTH = 13, 20, 0.7
# Deviations on the logit scale: what is hard in an animal for every layer, and for one layer alone.
COMMON, OWN = 0.7, 0.5
ANIMALS, TRIED = (2, 4, 6, 10, 20, 50), 2000
WAYS = {"best on test": BAD, "chosen on validation": GOOD}


def base_logit() -> float:
    """The logit at which clips are right in `TRUTH` of the cases, over animals and layers."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights, spread = weights / weights.sum(), np.hypot(COMMON, OWN)
    return float(brentq(lambda b: weights @ expit(b + spread * nodes) - TRUTH, -5, 5))


def scores(n_animals: int, random: np.random.Generator) -> np.ndarray:
    """Share of clips that are right, by layer, in parts of so many animals: `[TRIED, N_LAYERS]`."""
    common = COMMON * random.standard_normal((TRIED, n_animals, 1))
    own = OWN * random.standard_normal((TRIED, n_animals, N_LAYERS))
    right = random.binomial(CLIPS_EACH, expit(base_logit() + common + own))
    return right.mean(axis=1) / CLIPS_EACH


def choices() -> pd.DataFrame:
    """Columns `animals`, `way`, `excess`, `low`, `high`: points above the truth, mean and the middle 90 %."""
    random = np.random.default_rng(2)
    rows = []
    for n in ANIMALS:
        test, validation = scores(n, random), scores(n, random)
        chosen = test[np.arange(TRIED), validation.argmax(axis=1)]
        for way, reported in zip(WAYS, (test.max(axis=1), chosen), strict=True):
            points = 100 * (reported - TRUTH)
            low, high = np.quantile(points, [0.05, 0.95])
            rows.append({"animals": n, "way": way, "excess": points.mean(), "low": low, "high": high})
    return pd.DataFrame(rows)


def claims(table: pd.DataFrame) -> list[str]:
    """What the page says of it, word for word."""
    best = table[table["way"] == "best on test"].set_index("animals")["excess"]
    chosen = table[table["way"] == "chosen on validation"]["excess"].abs().max()
    assert chosen < 0.5, chosen
    return [f"{best[4]:.0f} points too high with four test animals", f"{best[20]:.0f} with twenty"]


def draw(table: pd.DataFrame) -> None:
    """Draw both ways over the number of animals that are tested."""
    scale = alt.Scale(domain=list(WAYS), range=list(WAYS.values()))
    base = alt.Chart(table).encode(
        x=alt.X(
            "animals:Q",
            title="Animals in the test part",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(values=list(ANIMALS), grid=False),
        ),
        color=alt.Color("way:N", title=None, scale=scale, legend=alt.Legend(orient="top")),
    )
    y = alt.Y("low:Q", title="Reported less true, points")
    chart = base.mark_area(opacity=0.15).encode(y=y, y2="high:Q") + base.mark_line(point=True).encode(
        y="excess:Q"
    )
    save(chart.properties(width=2 * WIDTH, height=240), Path(__file__).stem)


if __name__ == "__main__":
    found = choices()
    draw(found)
    sys.stdout.write("\n".join(claims(found)) + "\n")
