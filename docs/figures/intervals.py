"""Test parts of a probe whose true UAR is known, each with the interval over clips and that over animals."""

from __future__ import annotations

import sys
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
from paper import BAD, GOOD, HEIGHT, INK, MUTED, WIDTH, save
from scipy.optimize import brentq
from scipy.special import expit

from probes.statistics import uar_interval

N_ANIMALS, CLIPS_EACH, N_CLASSES = 10, 20, 5
TRUTH, SPREAD = 0.7, 0.8  # UAR; deviation between animals on the logit scale
SHOWN, TRIED = 40, 1000


def base_logit() -> float:
    """The logit at which clips of animals of this spread are right in `TRUTH` of the cases."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    return float(brentq(lambda b: weights @ expit(b + SPREAD * nodes) - TRUTH, -5, 5))


def test_parts() -> pd.DataFrame:
    """Columns `part`, `over`, `estimate`, `low`, `high`, `holds`."""
    random = np.random.default_rng(1)
    group = np.repeat(np.arange(N_ANIMALS), CLIPS_EACH)
    target = np.tile(np.arange(N_CLASSES), N_ANIMALS * CLIPS_EACH // N_CLASSES)
    base, rows = base_logit(), []
    for part in range(TRIED):
        right = random.random(len(group)) < expit(base + SPREAD * random.standard_normal(N_ANIMALS))[group]
        prediction = np.where(right, target, (target + 1) % N_CLASSES)
        for over, groups in (("clips", None), ("animals", group)):
            i = uar_interval(target, prediction, groups)
            rows.append({"part": part, "over": over, "estimate": i.estimate, "low": i.low, "high": i.high})
    table = pd.DataFrame(rows)
    return table.assign(holds=(table["low"] <= TRUTH) & (table["high"] >= TRUTH))


def claims(table: pd.DataFrame) -> list[str]:
    """What the page says of it, word for word."""
    share = 100 * table.groupby("over")["holds"].mean()
    return [
        f"{share['clips']:.0f} of 100 intervals over clips",
        f"{share['animals']:.0f} of 100 over animals",
    ]


def draw(table: pd.DataFrame) -> None:
    """Draw the first parts side by side, those that miss the truth in another colour."""
    columns = []
    for over in ("clips", "animals"):
        rows = table[(table["over"] == over) & (table["part"] < SHOWN)]
        base = alt.Chart(rows).encode(
            x=alt.X("part:O", title="Test part", axis=alt.Axis(labels=False, ticks=False)),
            color=alt.Color(
                "holds:N",
                title=None,
                scale=alt.Scale(domain=[True, False], range=[GOOD, BAD]),
                legend=None,
            ),
        )
        scale = alt.Scale(domain=[0.35, 0.95], zero=False)
        y = alt.Y("low:Q", title="UAR", scale=scale, axis=alt.Axis(format="%"))
        true = alt.Chart(pd.DataFrame({"y": [TRUTH]})).mark_rule(color=INK, strokeDash=[4, 3])
        truth = true.encode(y=alt.Y("y:Q", scale=scale))
        missed = int((~rows["holds"]).sum())
        title = alt.Title(
            f"over {over}: {missed} of {SHOWN} miss the truth", color=BAD if missed > 4 else MUTED
        )
        columns.append(
            (
                truth
                + base.mark_rule(strokeWidth=2).encode(y=y, y2="high:Q")
                + base.mark_point(filled=True, size=14).encode(y=alt.Y("estimate:Q", scale=scale))
            ).properties(width=WIDTH, height=HEIGHT, title=title)
        )
    save(alt.hconcat(*columns), Path(__file__).stem)


if __name__ == "__main__":
    found = test_parts()
    draw(found)
    sys.stdout.write("\n".join(claims(found)) + "\n")
