"""Two probes of one UAR, and what a single clip of a class is worth in InfantMarmosetsVox."""

from __future__ import annotations

import sys
from pathlib import Path

import altair as alt
import pandas as pd
from paper import BAD, GOOD, HEIGHT, MUTED, WIDTH, save

# Clips of the eleven call types of InfantMarmosetsVox (Sarkar & Magimai-Doss 2023).
CALLS = (1283, 27977, 36582, 1408, 728, 686, 1676, 23, 293, 2064, 202)
TESTED = 0.1
# Recalls of five classes with so many clips each, under two made-up probes.
CLIPS = (1000, 400, 200, 50, 10)
RECALLS = {"probe A": (0.95, 0.85, 0.75, 0.55, 0.40), "probe B": (0.60, 0.65, 0.70, 0.75, 0.80)}


def two_probes() -> pd.DataFrame:
    """Columns `probe`, `class`, `clips`, `recall`."""
    return pd.DataFrame(
        [
            {"probe": probe, "class": f"{n:,} clips", "clips": n, "recall": recall}
            for probe, recalls in RECALLS.items()
            for n, recall in zip(CLIPS, recalls, strict=True)
        ]
    )


def worth() -> pd.DataFrame:
    """Columns `clips`, `tested`, `points`: what a test clip moves UAR by, a tenth being tested."""
    rows = [{"clips": n, "tested": max(1, round(TESTED * n))} for n in sorted(CALLS)]
    table = pd.DataFrame(rows)
    return table.assign(points=100 / len(CALLS) / table["tested"])


def claims() -> list[str]:
    """What the page says of it, word for word."""
    probes = two_probes()
    said = []
    for probe, rows in probes.groupby("probe"):
        uar, accuracy = rows["recall"].mean(), (rows["recall"] * rows["clips"]).sum() / rows["clips"].sum()
        said.append(f"{probe} | {100 * uar:.0f} % | {100 * accuracy:.0f} %")
    rarest = worth().iloc[0]
    return [*said, f"{rarest['points']:.1f} points of UAR"]


def draw() -> None:
    """Draw recalls on the left, the worth of a clip on the right."""
    order = [f"{n:,} clips" for n in CLIPS]
    probes = (
        alt.Chart(two_probes())
        .mark_bar()
        .encode(
            x=alt.X("class:N", title=None, sort=order, axis=alt.Axis(labelAngle=-35)),
            xOffset="probe:N",
            y=alt.Y("recall:Q", title="Recall", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
            color=alt.Color(
                "probe:N", title=None, scale=alt.Scale(range=[GOOD, BAD]), legend=alt.Legend(orient="top")
            ),
        )
        .properties(width=WIDTH, height=HEIGHT)
    )
    clip = (
        alt.Chart(worth().assign(name=lambda t: t["clips"].map("{:,}".format)))
        .mark_point(color=MUTED, filled=True, size=70, opacity=1)
        .encode(
            x=alt.X(
                "name:N",
                title="Clips of the class",
                sort=[f"{n:,}" for n in sorted(CALLS)],
                axis=alt.Axis(labelAngle=-35),
            ),
            y=alt.Y(
                "points:Q",
                title="Points of UAR per test clip",
                scale=alt.Scale(type="log", domain=[0.001, 10]),
                axis=alt.Axis(values=[0.001, 0.01, 0.1, 1, 10]),
            ),
        )
        .properties(width=WIDTH, height=HEIGHT)
    )
    save(alt.hconcat(probes, clip).resolve_scale(color="independent"), Path(__file__).stem)


if __name__ == "__main__":
    draw()
    sys.stdout.write("\n".join(claims()) + "\n")
