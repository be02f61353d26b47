"""What was found of confounds, in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from probes.confounds.explained import QUESTION, sentences
from probes.confounds.layers import R2

if TYPE_CHECKING:
    from rich.console import RenderableType

    from probes.confounds.comparison import Confounds


def confounds_text(found: Confounds) -> list[RenderableType]:
    """What to print, in order: the sentences, then a table for each question."""
    from rich.text import Text

    from featurestore.printable import printable

    out: list[RenderableType] = [Text(printable(s), style="bold yellow") for s in sentences(found.scores)]
    if len(found.scores) and not out:
        out.append(Text("no single confound explains a label", style="green"))
    out.extend(_table(rows, found.layers) for _, rows in found.scores.groupby(QUESTION, sort=False))
    return out


def _table(rows: pd.DataFrame, layers: pd.DataFrame) -> RenderableType:
    from rich import box
    from rich.table import Table

    from featurestore.printable import counted, plain

    first = rows.iloc[0]
    probe = ""
    if pd.notna(first["best_probe_uar"]):
        probe = f", best probe {100 * first['best_probe_uar']:.1f} ({first['best_probe']})"
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=plain(f"{first['label']} · {first['dataset']} · split: {first['split']}"),
        caption=plain(
            f"UAR % on {counted(first['n_test'], 'test clip')} of {counted(first['n_groups'], 'group')}, of "
            f"forests on confounds alone; chance {100 * first['chance']:.1f}{probe}"
        ),
        title_justify="left",
        caption_justify="left",
    )
    right = ("UAR %", "95 %", "known for")
    for name in ("confound", *right, "the layer that knows it best"):
        table.add_column(name, justify="right" if name in right else "left")
    for _, row in rows.iterrows():
        known = f"{row['n_test_known']:,}" if row["n_test_known"] < row["n_test"] else "all"
        ends = "–" if pd.isna(row["ci_low"]) else f"{100 * row['ci_low']:.1f} to {100 * row['ci_high']:.1f}"
        cells = (row["confound"], f"{100 * row['uar']:.1f}", ends, known, _known(row, layers))
        table.add_row(*map(plain, cells))
    return table


def _known(row: pd.Series, layers: pd.DataFrame) -> str:
    """The layer that validation prefers, and how well it knows a confound on the test rows."""
    same = (
        layers[["dataset", "label", "split", "confound"]] == row[["dataset", "label", "split", "confound"]]
    ).all(axis=1)
    of_models = layers[same & layers["model"].isin(str(row["models"]).split(", "))]
    if of_models.empty:
        return "–"
    best = of_models.iloc[int(of_models["on_validation"].to_numpy().argmax())]
    score = best["balanced_accuracy_or_r2"]
    shown = f"R² {round(score, 2) + 0.0:.2f}"
    if best["measure"] != R2:
        shown = f"balanced accuracy {100 * score:.1f} (chance {100 * best['chance']:.1f})"
    return f"{best['model']} layer {best['layer']}: {shown}"
