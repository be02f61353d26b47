"""One self-contained page: answers, figure, tables, predictions, warnings, how to make it again.

The template escapes every value (jinja2 autoescape); only our own drawings are inserted as markup.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.layers import format_layers, parse_layers
from probes.combine import EACH
from probes.report.details import details_of
from probes.report.figures import SERIES_COLOURS, markup, panel_svg, series_styles
from probes.report.run_info import run_info
from probes.report.tables import percent, place_of, spread_of
from probes.report.warn import warnings_of
from probes.report.weights import learned_weights

if TYPE_CHECKING:
    import pandas as pd

    from probes.report.load import Question, ReportData


def write_page(data: ReportData, path: Path) -> None:
    """Write the page to `path`; it needs no other file and makes no request."""
    path.write_text(render_page(data), encoding="utf-8")


def render_page(data: ReportData) -> str:
    """The page as text.

    Raises:
        DependencyMissing: matplotlib is not installed.
    """
    from jinja2 import Environment, StrictUndefined

    source = files("probes.report").joinpath("template.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source).render(
        title=_title(data),
        lede=_lede(data),
        questions=[_question(data, q, i) for i, q in enumerate(data.questions)],
        legend=_legend(data),
        warnings=warnings_of(data),
        run=run_info(data),
        combined=bool(sum(len(q.combined()) for q in data.questions)),
        n_colours=len(SERIES_COLOURS),
    )


def _title(data: ReportData) -> str:
    labels = list(dict.fromkeys(q.label for q in data.questions))
    datasets = list(dict.fromkeys(q.dataset for q in data.questions))
    return f"{_and(labels)} in {_and(datasets)}, layer by layer"


def _lede(data: ReportData) -> str:
    n_probes = sum(len(q.fits) for q in data.questions)
    models = len(data.models)
    splits = _and(list(dict.fromkeys(q.split for q in data.questions)))
    return (
        f"{n_probes} probes on frozen features of {models} model{'s' * (models != 1)}, "
        f"split by {splits}. Scores are unweighted average recall (UAR) on test clips; "
        "layers and models were chosen on validation clips only."
    )


def _legend(data: ReportData) -> list[dict[str, Any]]:
    curves = {m for q in data.questions for m in q.models if len(q.layers_of(m)) > 1}
    alone = {m for q in data.questions for m in q.models if len(q.layers_of(m)) == 1}
    return [
        {"name": model, "series": style.index, "dashed": model in alone - curves}
        for model, style in series_styles(data.models).items()
    ]


def _question(data: ReportData, question: Question, index: int) -> dict[str, Any]:
    answer = question.answer
    styles = series_styles(data.models)
    rows = [
        _row(row, styles[row["model"]].index, len(question.layers_of(row["model"])))
        for row in question.rows()
    ]
    best = [row for row in rows if row["best_layer"] or row["best_combined"]]
    return {
        "id": f"q{index + 1}",
        "label": question.label,
        "dataset": question.dataset,
        "classifier": question.classifier,
        "split": question.split,
        "title": question.title,
        "uar": f"{100 * answer['uar_test_mean']:.1f}",
        "std": _std(answer["uar_test_std"]),
        "spread": spread_of(question),
        "folds": _folds(data, question),
        "model": answer["model"],
        "place": _place(answer),
        "combined": answer["combine"] != EACH,
        "n_layers": len(question.layers_of(answer["model"])),
        "layers": format_layers(question.layers_of(answer["model"])).replace("-", "–"),
        "weights": learned_weights(data, question, f"q{index + 1}-weights"),
        "uar_val": f"{100 * answer['uar_val_mean']:.1f}",
        "chance": f"{100 * question.chance:.1f}",
        "chance_share": f"{100 * question.chance:.2f}",
        "hparams": _settings(answer["hparams"]),
        "best": sorted(best, key=lambda row: -float(row["val"]["sort"])),
        "rows": rows,
        "svg": markup(panel_svg(data, question, f"q{index + 1}")),
        "details": details_of(data, question),
    }


def _folds(data: ReportData, question: Question) -> str:
    """What else there is to say of the answer where the split has folds."""
    if question.n_splits < 2:
        return ""
    from probes.results import pooled_uar

    text = ""
    pooled = pooled_uar(data.predictions, question.answer_fits)
    if not math.isnan(pooled):
        text = f"All test clips pooled: {100 * pooled:.1f} %. "
    rows = question.answer_per_fold
    if len(rows) > 1:
        chosen_layers = sorted({k for text in rows["layers"] for k in parse_layers(text)})
        layers = format_layers(chosen_layers).replace("-", "–")
        chosen = percent(rows["uar_test"].mean(), rows["uar_test"].std())
        text += f"With layer and settings chosen anew in every fold: {chosen} % (layers {layers})."
    return text.strip()


def _place(row: pd.Series[Any]) -> str:
    """``layer 7``, or ``concat of layers 0–12``."""
    layers = str(row["layers"]).replace("-", "–")
    return f"layer {layers}" if row["combine"] == EACH else f"{row['combine']} of layers {layers}"


def _row(row: Mapping[str, Any], series: int, n_layers: int) -> dict[str, Any]:
    """Cells of the per-layer table: text to read, and full values to sort by."""

    def score(name: str) -> dict[str, str]:
        value = float(row[name])
        shown = "" if math.isnan(value) else f"{100 * value:.1f}"
        return {"text": shown, "sort": "" if math.isnan(value) else repr(value)}

    return {
        "model": row["model"],
        "series": series,
        "place": place_of(row).replace("-", "–"),
        "order": int(row["layer"]) if row["combine"] == EACH else "",
        "n_layers": 2 if row["combine"] != EACH else n_layers,
        "test": score("uar_test_mean"),
        "std": score("uar_test_std"),
        "val": score("uar_val_mean"),
        "train": score("uar_train_mean"),
        "accuracy": score("accuracy_test_mean"),
        "f1": score("f1_macro_test_mean"),
        "n_fits": int(row["n_fits"]),
        "hparams": _settings(row["hparams"]),
        "best_layer": bool(row["best"]) and row["combine"] == EACH,
        "best_combined": bool(row["best"]) and row["combine"] != EACH,
        "best_model": bool(row["best_model"]),
        "summary": percent(row["uar_test_mean"], row["uar_test_std"]),
    }


def _settings(hparams: str) -> str:
    """Canonical JSON as words that wrap: `hidden 128-64-32, learning_rate 0.001`."""
    try:
        settings = json.loads(hparams)
    except ValueError:
        return hparams
    if not isinstance(settings, dict):
        return hparams
    words = []
    for name, value in settings.items():
        shown = "-".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(f"{name} {shown}")
    return ", ".join(words) or "none"


def _std(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.1f}"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
