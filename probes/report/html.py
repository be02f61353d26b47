"""One self-contained page: answers, figure, tables, predictions, warnings, how to make it again.

The templates, one for each section, escape every value (jinja2 autoescape). Inserted as they are: the
libraries that draw, and JSON in which nothing can end its script.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featurestore.layer_list import format_layers
from featurestore.printable import counted, enumerated, on_page
from probes.classifiers.layer_combination import EACH
from probes.findings.sentences import choice_sentences, choice_summary, headline, interval_text, p_text
from probes.metrics import points
from probes.report.caveats import audit_of, explained_by_confounds, leakage_of, warnings_of
from probes.report.charts.figure import SERIES_COLOURS, SeriesStyle, series_styles
from probes.report.charts.learning import learning_sentences
from probes.report.charts.page_data import charts_json, libraries, names_json
from probes.report.details import details_of
from probes.report.filters import filters_of
from probes.report.refits import refits_of
from probes.report.run_info import run_info
from probes.report.tables import (
    NUMBER_ROWS,
    UNLIKE,
    chance_text,
    controls_table,
    extent,
    number_score_text,
    number_text,
    percent,
    place_of,
    spread_of,
    training_gain,
    unlike,
)
from probes.report.weights import learned_weights
from probes.results.selection import R2

# Of more models than these, how firmly each layer is chosen is folded under one line.
MOST_CHOICES = 3

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Template

    from probes.findings.question_findings import Compared, QuestionFindings
    from probes.report.data import ReportData, ReportedQuestion
    from probes.statistics import Interval


# A page runs and shows what is in it, and asks nobody; one that is served asks who served it.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; media-src data:"
)
SERVED_POLICY = f"{POLICY}; connect-src 'self'"


def render_page(
    data: ReportData,
    *,
    oracle: bool = False,
    more: Mapping[str, Any] | None = None,
    is_served: bool = False,
) -> str:
    """The page as text; with `oracle` also what test scores would choose.

    It needs no other file and makes no request, but for one that is served, which asks for clips (see
    `probes.report.served`). `more`: values of sections that are made elsewhere.
    """
    return _template("page.html", is_served=is_served).render(
        **_head(data, is_served=is_served),
        questions=[
            {**_question(data, q, i), "oracle": _oracle(q) if oracle else ""}
            for i, q in enumerate(data.questions)
        ],
        explained=explained_by_confounds(data),
        leakage=leakage_of(data),
        audit=audit_of(data),
        warnings=warnings_of(data),
        charts=data.charts,
        charts_json=charts_json(data, data.charts),
        libraries=libraries(),
        learning=_learning(data),
        run=run_info(data),
        **{"mistakes": [], "methods": [], **(more or {})},
    )


def render_shell(data: ReportData) -> str:
    """What is served while the page is made: its head, its filters, and the clips."""
    return _template("shell.html", is_served=True).render(**_head(data, is_served=True))


def _template(name: str, *, is_served: bool) -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("probes.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=on_page,
    )
    environment.globals["is_served"] = is_served
    return environment.get_template(name)


def _head(data: ReportData, *, is_served: bool) -> dict[str, Any]:
    """What needs no predictions."""
    return {
        "title": _title(data),
        "lede": _lede(data),
        "policy": SERVED_POLICY if is_served else POLICY,
        "filters": filters_of(data),
        "names_json": names_json(data),
        "n_colours": len(SERIES_COLOURS),
    }


def _title(data: ReportData) -> str:
    labels = list(dict.fromkeys(q.label for q in data.questions))
    datasets = list(dict.fromkeys(q.dataset for q in data.questions))
    return f"{enumerated(labels)} in {enumerated(datasets)}, layer by layer"


def _lede(data: ReportData) -> str:
    n_probes = sum(len(q.fits) for q in data.questions)
    models = len(data.models)
    splits = enumerated(list(dict.fromkeys(f"{q.split} ({q.scope.held_out})" for q in data.questions)))
    return (
        f"{n_probes} probes on frozen features of {models} model{'s' * (models != 1)}, "
        f"split by {splits}. Scores are {_metrics(data)} on test clips; "
        "layers and models were chosen on validation clips only."
    )


def _metrics(data: ReportData) -> str:
    named = {
        "UAR": "unweighted average recall (UAR)",
        "mAP": "mean average precision (mAP)",
        "R²": "explained variance (R²)",
    }
    return enumerated(list(dict.fromkeys(named[q.metric] for q in data.questions)))


def _question(data: ReportData, question: ReportedQuestion, index: int) -> dict[str, Any]:
    answer, findings = question.answer, data.findings[question.name]
    styles, number_of = series_styles(data), {model: i for i, model in enumerate(data.models)}
    rows = [
        {**_row(row, styles[row["model"]], question, findings), "number": number_of[row["model"]]}
        for row in question.rows()
    ]
    return {
        "id": f"q{index + 1}",
        "number": index,
        "label": question.label,
        "dataset": question.dataset,
        "classifier": question.classifier,
        "split": question.split,
        "title": question.title,
        "metric": question.metric,
        "score": percent(answer["score_test_mean"]),
        "is_defined": not math.isnan(answer["score_test_mean"]),
        "numbers": _numbers(findings.number_scores.get(str(answer["model"]), {})),
        "chance_text": chance_text(question),
        "std": _percent(answer["score_test_std"]),
        "spread": spread_of(question),
        "folds": _folds(data, question),
        "model": answer["model"],
        "place": _place(answer),
        "combined": answer["combine"] != EACH,
        "n_layers": len(question.layers_of(answer["model"])),
        "layers": format_layers(question.layers_of(answer["model"])).replace("-", "–"),
        "weights": learned_weights(data, index),
        "refits": refits_of(data, question),
        "val": f"{100 * answer['score_val_mean']:.1f}",
        "chance": f"{100 * question.chance:.1f}",
        "chance_share": f"{100 * question.chance:.2f}",
        "hparams": _settings(answer["hparams"]) + _of_several(answer),
        "best": [
            {**_ranked(row, styles[row["model"]], question, findings), "number": number_of[row["model"]]}
            for _, row in question.answers.iterrows()
        ],
        **_findings(data, question, findings),
        "rows": rows,
        "retrieval": any(row["r_precision"]["text"] for row in rows),
        "details": details_of(data, question),
        "controls": dict(zip(("heads", "lines"), controls_table(question.controls), strict=True))
        if len(question.controls)
        else None,
        "gain": training_gain(data, question),
        "majority": _percent(question.majority[1]),
        "majority_score": _percent(question.majority[0]),
        "scope": str(question.scope),
        "extent": extent(question),
        "unlike": unlike(question),
    }


def _numbers(scores: Mapping[str, Interval]) -> str:
    """What else is said of predicted numbers, each with its interval; "" of classes."""
    if not scores:
        return ""
    said = [f"{name} {number_score_text(scores[metric])}" for name, metric in NUMBER_ROWS.items()]
    return (
        f"Over all test clips together: {R2} {percent(scores['r2'].estimate)} %, {enumerated(said)}, the "
        "error in the unit of the label; in brackets intervals of 95 %."
    )


def _learning(data: ReportData) -> dict[str, Any]:
    """Learning curves as a table, and what they say."""
    table = data.charts.tables.get("learning")
    if table is None:
        return {"rows": [], "sentences": []}
    names = [str(m) for m in data.models]
    rows = [
        {
            **{str(k): v for k, v in row.items()},
            "number": names.index(row["model"]) if row["model"] in names else None,
        }
        for row in table.to_dict("records")
    ]
    return {"rows": rows, "sentences": learning_sentences(data, table)}


def _folds(data: ReportData, question: ReportedQuestion) -> str:
    """What else there is to say of the answer where the split has folds."""
    if question.n_splits < 2:
        return ""
    from probes.results.selection import pooled_score

    text = "Layer and settings were chosen anew in every fold, by its own validation clips."
    if question.metric == R2:
        return text  # what all folds together score stands with the other scores of numbers
    pooled = pooled_score(data.predictions, question.answer_fits)
    if not math.isnan(pooled):
        text += f" All test clips pooled: {100 * pooled:.1f} %."
    return text


def _oracle(question: ReportedQuestion) -> str:
    """What test itself prefers of the model of the answer."""
    answer, rows = question.answer, question.oracle
    same = (rows["model"] == answer["model"]) & (rows["combine"] == answer["combine"])
    best = rows[same].iloc[0]
    return (
        f"Oracle: {percent(best['oracle_test'])} % at layer {best['oracle_layers']}, the layer that test "
        "clips themselves prefer; an upper bound, not a result."
    )


def _findings(data: ReportData, question: ReportedQuestion, findings: QuestionFindings) -> dict[str, Any]:
    """What the predictions say of a question: the interval of its answer, sentences, every comparison."""
    model = str(question.answer["model"])
    judged = findings.judged_answers.get(model)
    interval = None if judged is None else judged.interval
    reasons = dict.fromkeys(j.reason for j in findings.judged_answers.values() if j.reason)
    text = interval_text(interval)
    groups = f", over {counted(interval.n_groups, 'group')} of test clips" if interval and text else ""
    choices = choice_sentences(findings.choices)
    folded = len(choices) > MOST_CHOICES
    return {
        "interval": f"{text} %{groups}" if text else "",
        "no_interval": "; ".join(reasons),
        "findings": [
            *headline(findings.model_comparisons, findings.shown(model)),
            *([] if folded else choices),
        ],
        "choice_summary": choice_summary(findings.choices) if folded else "",
        "choices": choices if folded else [],
        "compared": [
            _compared(c, {findings.shown(m): i for i, m in enumerate(data.models) if m in findings.answers})
            for q, c in data.comparisons
            if q.name == question.name
        ],
    }


def _compared(found: Compared, numbers: Mapping[str, int]) -> dict[str, Any]:
    """A line of the table of comparisons; `numbers`: of models by how comparisons call them."""
    result = found.result
    known = not math.isnan(result.low)
    between = f"{points(result.low)} to {points(result.high)}" if known else ""
    p = "" if math.isnan(found.p_holm) else p_text(found.p_holm).removeprefix("p ").removeprefix("= ")
    shows = "" if math.isnan(result.detectable) else points(result.detectable)
    cells = (
        (points(result.difference), result.difference),
        (between, result.low),
        (p, found.p_holm),
        (shows, result.detectable),
        (str(result.n_groups), result.n_groups),
    )
    return {
        **{name: getattr(found, name) for name in ("contrast", "a", "b")},
        "reason": result.reason,
        # Filters hide what compares a model that is not shown.
        "numbers": " ".join(str(numbers[name]) for name in (found.a, found.b) if name in numbers),
        "cells": [{"text": t, "sort": "" if math.isnan(v) else repr(float(v))} for t, v in cells],
    }


def _ranked(
    row: pd.Series[Any], style: SeriesStyle, question: ReportedQuestion, findings: QuestionFindings
) -> dict[str, Any]:
    """A line of the table of models."""
    judged = findings.judged_answers[str(row["model"])]
    if row["combine"] != findings.answers[str(row["model"])]["combine"].iloc[0]:
        judged = findings.judged_places[str(row["model"]), str(row["combine"]), str(row["layers"])]
    several = row["combine"] != EACH or len(question.layers_of(row["model"])) > 1
    return {
        "model": row["model"],
        "series": style.index,
        "place": place_of(row).replace("-", "–") if several else "only",
        "summary": percent(row["score_test_mean"], row["score_test_std"]),
        "interval": interval_text(judged.interval),
        "n_test": f"{round(row['n_test']):,}",
        "unlike": UNLIKE if row["model"] in question.scope.other_clips else "",
    }


def _place(row: pd.Series[Any]) -> str:
    """``layer 7``, or ``concat of layers 0–12``."""
    layers = str(row["layers"]).replace("-", "–")
    if row["combine"] == EACH:
        return f"layer {layers}" if layers.isdecimal() else f"layers {layers}"
    return f"{row['combine']} of layers {layers}"


def _row(
    row: Mapping[str, Any], style: SeriesStyle, question: ReportedQuestion, findings: QuestionFindings
) -> dict[str, Any]:
    """Cells of the per-layer table: text to read, and full values to sort by."""
    judged = findings.judged_places[row["model"], row["combine"], str(row["layers"])]
    choice = findings.choices.get(row["model"]) if row["combine"] == EACH else None
    share = math.nan if choice is None else choice.chosen_share[choice.layers.index(int(row["layers"]))]

    def score(name: str) -> dict[str, str]:
        value = float(row[name])
        return {"text": _percent(value), "sort": "" if math.isnan(value) else repr(value)}

    return {
        "model": row["model"],
        "series": style.index,
        "place": place_of(row).replace("-", "–"),
        "order": int(row["layer"]) if row["combine"] == EACH else "",
        "test": score("score_test_mean"),
        "std": score("score_test_std"),
        "interval": {
            "text": interval_text(judged.interval),
            "sort": "" if judged.interval is None or judged.reason else repr(judged.interval.low),
        },
        "share": {
            "text": "" if math.isnan(share) else f"{100 * share:.0f} %",
            "sort": "" if math.isnan(share) else repr(float(share)),
        },
        "val": score("score_val_mean"),
        "train": score("score_train_mean"),
        "accuracy": score("accuracy_test_mean"),
        "f1": score("f1_macro_test_mean"),
        **{
            name: number_text(value) if not math.isnan(value := float(row[f"{column}_mean"])) else ""
            for name, column in (("r", "pearson_test"), ("ccc", "ccc_test"), ("mae", "mae_test"))
        },
        "r_precision": score("r_precision_test_mean"),
        "r_precision_macro": score("r_precision_macro_test_mean"),
        "n_fits": int(row["n_fits"]),
        "n_test": round(row["n_test"]),
        "unlike": UNLIKE if row["model"] in question.scope.other_clips else "",
        "hparams": _settings(row["hparams"]) + _of_several(row),
        "best_layer": bool(row["best"]) and row["combine"] == EACH,
        "best_model": bool(row["best_model"]),
    }


def _of_several(row: Mapping[str, Any] | pd.Series[Any]) -> str:
    n = int(row["n_settings"])
    return f" (chosen most often; {n} settings over the folds)" if n > 1 else ""


def _settings(hparams: str) -> str:
    """Canonical JSON as words that wrap: `hidden 128-64-32, learning_rate 0.001`."""
    settings = json.loads(hparams)
    words = [f"{k} {'-'.join(map(str, v)) if isinstance(v, list) else v}" for k, v in settings.items()]
    return ", ".join(words) or "none"


def _percent(value: float) -> str:
    return "" if math.isnan(value) else percent(value)
