"""Whether a single confound explains a label, in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from featurestore.printable import enumerated
from probes.confounds.catalogue import ALL
from probes.questions.tasks import ProbeTask
from probes.results.results_folder import read_results
from probes.results.selection import UAR, answers, ranked

# Above chance: this share of what is possible, or so near to the best probe.
MUCH, NEAR_PROBE = 0.5, 0.05
# More than guessing reaches, in standard errors.
BEYOND_GUESSING = 2.0
QUESTION = ["dataset", "label", "split", "models"]


@dataclass(frozen=True, kw_only=True)
class BestProbe:
    """The answer that validation prefers among the results for one question."""

    uar: float
    what: str


def best_probe(results: Path, task: ProbeTask) -> BestProbe | None:
    """The best probe of a results folder on the question of a task: same data set, label, split and clips.

    None where the folder has none. Its model, layer and settings are chosen by validation.

    Raises:
        StoreError: the folder holds no results.
    """
    table = read_results(results)
    same = (
        (table["dataset"] == task.dataset)
        & (table["label"] == task.label)
        & (table["split"] == task.split)
        & (table["split_seed"] == task.split_seed)
        & table["clips"].isin(["", task.clips])
    )
    if not same.any():
        return None
    found = answers(table[same])
    found = found[found["metric"] == UAR]
    if found.empty:
        return None
    top = ranked(found).iloc[0]
    return BestProbe(
        uar=float(top["score_test_mean"]),
        what=f"{top['classifier']} on {top['model']}, layer {top['layers']}",
    )


def explains(uar: float, chance: float, guessing_error: float, probe: float | None = None) -> bool:
    """Whether a confound alone says so much of a label that a probe's score may be its own.

    It takes more than half of what lies between chance and 1, or comes within 5 points of the best probe (or
    above it); and is further above chance than two standard errors of guessing.
    """
    if uar <= chance + BEYOND_GUESSING * guessing_error:
        return False
    near = probe is not None and uar >= probe - NEAR_PROBE
    return near or uar - chance > MUCH * (1 - chance)


def sentences(scores: pd.DataFrame) -> list[str]:
    """One sentence for each question in which a single confound explains the label.

    Args:
        scores: See `probes.confounds.comparison.Confounds.scores`.
    """
    return [text for _, rows in scores.groupby(QUESTION, sort=False) if (text := _sentence(rows))]


def _sentence(rows: pd.DataFrame) -> str:
    explaining = rows[rows["explains"].astype(bool)]
    found = explaining[explaining["confound"] != ALL]
    if found.empty:
        return _together(explaining)
    found = found.sort_values("uar", ascending=False, kind="stable")
    top = found.iloc[0]
    name = top["confound"]
    beside = ""
    if pd.notna(top["best_probe_uar"]):
        beside = f", the best probe at {_points(top['best_probe_uar'])}"
    text = (
        f"{name} alone predicts {top['label']} at {_points(top['uar'])} UAR (chance {_points(top['chance'])})"
        f"{beside}: a probe's score may be {name}'s."
    )
    others = enumerated(f"{r['confound']} ({_points(r['uar'])})" for _, r in found.iloc[1:].iterrows())
    return f"{text} So may it be of {others}." if others else text


def _together(explaining: pd.DataFrame) -> str:
    """Of all confounds together, where no single one explains the label and a probe does no better."""
    if explaining.empty or pd.isna(explaining.iloc[0]["best_probe_uar"]):
        return ""
    row = explaining.iloc[0]
    if row["uar"] < row["best_probe_uar"] - NEAR_PROBE:
        return ""
    return (
        f"no single confound explains {row['label']}, but all together predict it at {_points(row['uar'])} "
        f"UAR (chance {_points(row['chance'])}), and the best probe at {_points(row['best_probe_uar'])} is "
        "hardly better, if at all."
    )


def _points(score: Any) -> str:
    return f"{100 * float(score):.1f}"
