"""How fits that were made again look in a terminal."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

from featurestore.printable import plain
from probes.findings.refits import RefitFinding, refit_findings, refit_sentence
from probes.findings.sentences import interval_text
from probes.metrics import points
from probes.report.tables import percent
from probes.results.selection import CURVE
from studies.terminal.screen import console


def print_refits(results: str | Path, only: Collection[tuple[str, ...]]) -> None:
    """A table of what was fitted again, beside what validation chose, and what that changes.

    Args:
        results: Folder of `fs probe --refit`.
        only: Curves to show, see `probes.results.selection.CURVE`.
    """
    from rich import box
    from rich.table import Table

    found = [f for f in refit_findings(results) if tuple(f.question[n] for n in CURVE) in only]
    if not found:
        return
    table = Table(
        title="fitted again on training and validation rows",
        title_style="bold",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("question")
    for head in ("clips", "epochs", "test %", "95 %", "before %", "difference"):
        table.add_column(head, justify="right")
    for f in found:
        name = f.question
        text = f"{name['label']} · {name['dataset']} · {name['model']} {f.place} · {name['classifier']}"
        low, high = f.epochs
        table.add_row(
            plain(f"{text} · split: {name['split']}"),
            f"{f.n_train[0]:,.0f}",
            "" if not high else str(low) if low == high else f"{low}-{high}",
            percent(f.score),
            interval_text(f.judged.interval),
            percent(f.chosen_score),
            _difference(f),
        )
    out = console()
    out.print(table)
    for f in found:
        out.print(refit_sentence(f))
    out.print()


def _difference(found: RefitFinding) -> str:
    """In points; "" where one of the two has no score."""
    d = found.difference
    change = found.score - found.chosen_score if d is None else d.difference
    return "" if math.isnan(change) else points(change)
