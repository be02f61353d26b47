"""How learning curves look in a terminal."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from probes.questions.curve import GROUPS, percent
from probes.report.tables import percent as score_percent
from probes.results.learning_curves import QUESTION, LastStep, last_steps, learning_curves, unsettled_sentence
from studies.terminal.screen import console


def print_learning_curves(results: str | Path, only: Collection[tuple[str, ...]]) -> None:
    """A small table for each learning curve of a results folder, and whether it still rises.

    Args:
        results: Folder of `fs probe --curve`.
        only: Questions to show: model, data set, label, classifier, split, combine, and the kind of curve.
    """
    out, table = console(), learning_curves(results)
    steps = {tuple(step.question.values()): step for step in last_steps(results)}
    for name, rows in table.groupby(list(QUESTION), sort=False):
        if (*name[:6], name[7]) in only:
            _print_curve(rows, steps.get(tuple(name)))
    contents = [s.contents() for n, s in steps.items() if (*n[:6], n[7]) in only]
    for text in dict.fromkeys(filter(None, contents)):
        out.print(text, style="dim")


def _print_curve(rows: pd.DataFrame, step: LastStep | None) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    first = rows.iloc[0]
    by_groups = first["curve"] == GROUPS
    grouped = by_groups or bool((rows["n_train_groups"] > 0).any())
    of = "training groups" if by_groups else "training clips"
    named = f" ({first['group']})" if by_groups and first["group"] != "group" else ""
    seed = f", seed {first['split_seed']}" if first["split_seed"] else ""
    title = (
        f"curve over {of}{named} · {first['label']} · {first['dataset']} · {first['model']} "
        f"{first['place']} · {first['classifier']} · split: {first['split']}{seed}"
    )
    # Text, never markup: names come from data and may hold brackets.
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    heads = [
        "share %",
        *(["groups"] if grouped else []),
        "clips",
        f"{first['metric']} %",
        "±",
        "chance %",
        "draws",
        "lack a class",
    ]
    for head in heads:
        table.add_column(head, justify="right")
    for row in rows.to_dict("records"):
        spread = "" if math.isnan(row["score_std"]) else f"{100 * row['score_std']:.1f}"
        lacking = f"{100 * row['lacking']:.0f} %" if row["lacking"] else ""
        table.add_row(
            percent(row["share"]),
            *([f"{row['n_train_groups']:.4g}"] if grouped else []),
            f"{row['n_train']:,.0f}",
            score_percent(row["score_mean"]),
            spread,
            score_percent(row["chance"]),
            str(row["n_draws"]),
            lacking,
        )
    out = console()
    out.print(table)
    if step is not None:
        out.print(step.sentence())
    if late := unsettled_sentence(rows):
        out.print(f"note: {late}", style="yellow")
    out.print()
