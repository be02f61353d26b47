"""The summary as terminal tables and as CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featurestore.printable import plain, printable
from probes.classifiers.layer_combination import EACH
from probes.findings.question_findings import TRAINING
from probes.findings.sentences import interval_text
from probes.metrics import is_shown_as_zero, points
from probes.questions.controls import MDL, OTHER_LABELS
from probes.results.fit_tables import OWN_MEASURES
from probes.results.selection import R2
from probes.statistics import NOT_CONTAINED
from probes.statistics.refusal import FEWEST_GROUPS

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table
    from rich.text import Text

    from probes.findings.question_findings import QuestionFindings
    from probes.report.data import ReportData, ReportedQuestion
    from probes.statistics import Interval

# Of numbers, what else is said of the answer: the row's name, and the metric (`probes.statistics.METRICS`).
NUMBER_ROWS = {"Pearson's r": "pearson", "Lin's concordance": "ccc", "mean absolute error": "mae"}
BEST_LAYER, BEST_MODEL, UNLIKE = "●", "◆", "≠"
CSV_COLUMNS = [
    "dataset",
    "label",
    "classifier",
    "split",
    "model",
    "layer",
    "n_fits",
    "n_splits",
    "uar_test_mean",
    "uar_test_std",
    "uar_val_mean",
    "uar_val_std",
    "score_train_mean",
    "accuracy_test_mean",
    "f1_macro_test_mean",
    "chance",
    "majority_uar",
    "n_test",
    "held_out",
    "n_groups_all",
    "n_groups_tested",
    "same_clips",
    "best",
    "best_model",
    "hparams",
    "combine",
    "layers",
    "metric",
    "n_settings",
    "score_test_mean",
    "score_test_std",
    "score_val_mean",
    "score_val_std",
    *(f"{name}_mean" for name in OWN_MEASURES),
    # of the mean over seeds, folds pooled by utterance; empty where no interval can be given
    "ci_low",
    "ci_high",
    "n_groups",
    "uar_pooled",
    # in how many resamples of the validation groups this layer is chosen
    "chosen_share",
    # of numbers: means over fits, the error in the unit of the label; and the score that the interval is of
    *(f"{name}_mean" for name in ("pearson_test", "ccc_test", "mae_test", "chance_mae")),
    "r2_pooled",
]
COMPARISON_COLUMNS = [
    "dataset",
    "label",
    "split",
    "classifier",
    "contrast",
    "a",
    "b",
    "difference",
    "ci_low",
    "ci_high",
    "p",
    "p_holm",
    "n_groups",
    "detectable",
    "reason",
]


def percent(mean: float, std: float = math.nan) -> str:
    """`85.3 ± 2.1` for fractions; without the second part where `std` is NaN (one fit).

    A score that is not defined is no number.
    """
    if math.isnan(mean):
        return "not defined"
    text = f"{100 * mean:.1f}"
    return text if math.isnan(std) else f"{text} ± {100 * std:.1f}"


def terminal_tables(data: ReportData, *, oracle: bool = False) -> list[Table]:
    """One rich table per question: layers down, models across, mean test score ± std in %.

    With `oracle` also what the layer would score that the test rows themselves prefer.
    """
    from rich.text import Text

    tables = []
    for question in data.questions:
        tables.append(_terminal_table(question, data.findings[question.name], oracle=oracle))
        if gain := training_gain(data, question):
            tables[-1].caption = Text.assemble(tables[-1].caption or "", f" {printable(gain)}", style="dim")
        if len(question.controls):
            table = _titled(f"controls · {question.title}; {question.scope}")
            heads, lines = controls_table(question.controls)
            for i, head in enumerate(heads):
                table.add_column(plain(head), justify="right" if i else "left")
            for line in lines:
                table.add_row(*map(plain, line))
            tables.append(table)
    return tables


def _titled(title: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Text, never markup: names come from data and may hold brackets.
    return Table(
        title=Text(title, style="bold"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )


def controls_table(rows: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """`ReportedQuestion.controls` as a table to read: heads, and rows of text.

    Columns of a control are left out where it was not fitted.
    """
    shown = [c for c in OTHER_LABELS if (rows["control"] == c).any()]
    heads = ["model", "layer"]
    for name in shown:
        heads += [f"{name}: train", f"{name}: test", "selectivity"]
    has_code = bool((rows["control"] == MDL).any())
    if has_code:
        heads += ["code, bits", "compression"]
    lines = []
    for (model, _, layers), found in rows.groupby(["model", "combine", "layers"], sort=False):
        by_control = {str(r["control"]): r for r in found.to_dict("records")}
        line = [str(model), str(layers)]
        for name in shown:
            row = by_control.get(name)
            names = ("control_train", "control_test", "selectivity")
            line += [points(row[n]) for n in names] if row else [""] * 3
        if has_code:
            code = by_control.get(MDL)
            line += [f"{code['codelength_bits']:,.0f}", f"{code['compression']:.2f}"] if code else ["", ""]
        lines.append(line)
    return heads, lines


def csv_table(data: ReportData) -> pd.DataFrame:
    """One row per question, model and layer; scores as fractions, columns `CSV_COLUMNS`."""
    import pandas as pd

    found = []
    for question in data.questions:
        scope, rows = question.scope, question.summary
        known = {"n_groups_all": scope.n_groups, "n_groups_tested": scope.n_groups_tested}
        rows = rows.assign(
            held_out=scope.held_out,
            same_clips=[model not in scope.other_clips for model in rows["model"]],
            n_test=rows["n_test"].round().astype("Int64"),
            **{name: pd.array([n or None] * len(rows), dtype="Int64") for name, n in known.items()},
            **_sureness(rows, data.findings[question.name]),
        )
        found.append(rows)
    return pd.concat(found, ignore_index=True)[CSV_COLUMNS]


def _sureness(rows: pd.DataFrame, findings: QuestionFindings) -> dict[str, Any]:
    """Columns that say how sure the score of each row is, and its layer."""
    import pandas as pd

    judged = [
        findings.judged_places[str(m), str(c), str(k)]
        for m, c, k in rows[["model", "combine", "layers"]].itertuples(index=False)
    ]
    intervals = [j.interval for j in judged]
    shares = {
        (model, layer): share
        for model, choice in findings.choices.items()
        for layer, share in zip(choice.layers, choice.chosen_share, strict=True)
    }
    of_layer = zip(rows["model"], rows["combine"], rows["layers"], strict=True)
    return {
        "ci_low": [math.nan if i is None else i.low for i in intervals],
        "ci_high": [math.nan if i is None else i.high for i in intervals],
        "n_groups": pd.array([None if i is None else i.n_groups for i in intervals], dtype="Int64"),
        **{
            name: [math.nan if i is None or findings.is_numbers != numbers else i.estimate for i in intervals]
            for name, numbers in (("uar_pooled", False), ("r2_pooled", True))
        },
        "chosen_share": [
            shares.get((m, int(k)), math.nan) if c == EACH else math.nan for m, c, k in of_layer
        ],
    }


def comparisons_table(data: ReportData) -> pd.DataFrame:
    """One row per comparison, differences as fractions, columns `COMPARISON_COLUMNS`."""
    import pandas as pd

    rows = [
        {
            **{name: getattr(question, name) for name in ("dataset", "label", "split", "classifier")},
            **{name: getattr(found, name) for name in ("contrast", "a", "b", "p_holm")},
            **{name: getattr(found.result, name) for name in ("difference", "p", "n_groups")},
            **{name: getattr(found.result, name) for name in ("detectable", "reason")},
            "ci_low": found.result.low,
            "ci_high": found.result.high,
        }
        for question, found in data.comparisons
    ]
    return pd.DataFrame(rows, columns=COMPARISON_COLUMNS)


def _terminal_table(question: ReportedQuestion, findings: QuestionFindings, *, oracle: bool) -> Table:
    from rich.text import Text

    table = _titled(question.title)
    scores = f"Test {question.metric} in %, {spread_of(question)}"
    table.caption = Text(f"{scores}; {extent(question)}; {baselines(question)}.", style="dim")
    table.add_column("layer", justify="right", style="dim")
    cells: dict[tuple[str, str], Text] = {}
    for row in question.rows():
        text = Text(percent(row["score_test_mean"], row["score_test_std"]))
        if row["best_model"] and question.n_splits == 1:
            text = Text.assemble((f"{BEST_MODEL} {text.plain}", "bold green"))
        elif row["best"] and row["combine"] == EACH:
            text = Text.assemble((f"{BEST_LAYER} {text.plain}", "bold"))
        cells[row["model"], place_of(row)] = text
    other = question.scope.other_clips
    for model in question.models:
        mark = (f" {UNLIKE}", "bold yellow") if model in other else ("", "")
        table.add_column(Text.assemble(plain(model), mark), justify="right")
    single = sorted({layer for model in question.models for layer in question.layers_of(model)})
    combined = [place_of(row) for _, row in question.combined().iterrows()]
    for place in [*map(str, single), *sorted(set(combined))]:
        row_cells = (cells.get((model, place), Text("")) for model in question.models)
        table.add_row(place, *row_cells)
    if question.n_splits > 1:
        table.add_section()
        table.add_row("chosen", *(_chosen(question, model) for model in question.models))
    intervals = {m: interval_text(j.interval) for m, j in findings.judged_answers.items()}
    if question.metric == R2 and question.n_splits > 1:
        table.add_section()
        judged = findings.judged_answers
        pooled = {m: j.interval.estimate for m, j in judged.items() if j.interval is not None}
        table.add_row("pooled", *(Text(percent(pooled[m]) if m in pooled else "") for m in question.models))
    if any(intervals.values()):
        table.add_section()
        table.add_row("95 % interval", *(Text(intervals.get(m, "")) for m in question.models))
    if question.metric == R2:
        table.add_section()
        for name, metric in NUMBER_ROWS.items():
            of = [findings.number_scores.get(m, {}).get(metric) for m in question.models]
            table.add_row(name, *(Text(number_score_text(score)) for score in of))
    if missing := no_interval(question, findings):
        table.caption = Text.assemble(table.caption, (f" {printable(missing)}", "yellow"))
    if oracle:
        table.add_section()
        table.add_row("oracle", *(_oracle(question, model) for model in question.models))
    if other:
        table.add_section()
        table.add_row("test clips", *(Text(tested(question, model)) for model in question.models))
        table.caption = Text.assemble(table.caption or "", (f" {unlike(question)}", "yellow"))
    return table


def number_score_text(score: Interval | None) -> str:
    """A score of numbers with its interval, as it is and not in %: ``0.831 (0.744 to 0.890)``."""
    if score is None:
        return ""
    between = f" ({number_text(score.low)} to {number_text(score.high)})" if not math.isnan(score.low) else ""
    return f"{number_text(score.estimate)}{between}"


def number_text(value: float) -> str:
    """Three digits, or all before the point: ``0.831``, ``15.3``, ``1,136``."""
    if math.isnan(value):
        return "not defined"
    size = abs(value)
    if size and not 1e-3 <= size < 1e7:
        return f"{value:.3g}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(size))) if size else 0}f}"


def no_interval(question: ReportedQuestion, findings: QuestionFindings) -> str:
    """A sentence that says which models have no interval, why, and what helps; "" where each has one."""
    without = {m: j.reason for m, j in findings.judged_answers.items() if not interval_text(j.interval)}
    if not without:
        return ""
    whose = "" if len(without) == len(findings.judged_answers) else f" of {', '.join(without)}"
    why = "; ".join(dict.fromkeys(filter(None, without.values())))
    scope, helps = question.scope, ""
    if scope.n_groups_tested < FEWEST_GROUPS <= scope.n_groups:
        n_folds = min(5, scope.n_groups)
        helps = f" Folds test all {scope.n_groups}, each once: --split group-kfold:{n_folds}."
    return f"No 95 % interval{whose}: {why}.{helps}"


def tested(question: ReportedQuestion, model: str) -> str:
    """How many clips the scores of a model are of, such as ``221``."""
    n = question.answers.loc[question.answers["model"] == model, "n_test"]
    counts = sorted({round(float(count)) for count in n})
    return " or ".join(f"{count:,}" for count in counts)


def unlike(question: ReportedQuestion) -> str:
    """A sentence where the scores of a question are not all of the same clips; "" where they are."""
    models = sorted(question.scope.other_clips)
    if not models:
        return ""
    reference = str(question.answer["model"])
    others = ", ".join(f"{model} ({tested(question, model)} test clips)" for model in models)
    than = "" if models == [reference] else f" as {reference} ({tested(question, reference)})"
    return (
        f"{UNLIKE} Not over the same clips, labels or groups{than}: {others}. These scores do not compare: "
        "bring all models to one manifest, and probe all of them and all split seeds again."
    )


def _chosen(question: ReportedQuestion, model: str) -> Text:
    """The answer of a model where the layer was chosen anew in every fold."""
    from rich.text import Text

    for row in _of_model(question.answers, model):
        text = f"{percent(row['score_test_mean'], row['score_test_std'])} ({row['layers']})"
        return Text(f"{BEST_MODEL} {text}", style="bold green") if row["best_model"] else Text(text)
    return Text("")


def _oracle(question: ReportedQuestion, model: str) -> Text:
    from rich.text import Text

    for row in _of_model(question.oracle, model):
        return Text(f"{percent(row['oracle_test'])} ({row['oracle_layers']})", style="dim")
    return Text("")


def _of_model(table: pd.DataFrame, model: str) -> list[dict[Any, Any]]:
    """Rows of a table of answers that are about a single layer of a model: one, or none."""
    return table[(table["model"] == model) & (table["combine"] == EACH)].to_dict("records")


def place_of(row: Mapping[Any, Any] | pd.Series[Any]) -> str:
    """Where a row of a summary looked: ``7``, or ``concat 0-12``."""
    layers = str(row["layers"])
    return layers if row["combine"] == EACH else f"{row['combine']} {layers}"


def extent(question: ReportedQuestion) -> str:
    """What is held out, and how many clips the answer is of: ``bird held out: 4 groups; 221 test clips``."""
    n = tested(question, str(question.answer["model"]))
    clips = f"{n} test clip{'s' * (n != '1')}"
    draws = question.answer_fits["split_seed"].nunique()
    return f"{question.scope}; {clips}{f' in each of {draws} draws' if draws > 1 else ''}"


def legend(data: ReportData, *, oracle: bool = False) -> str:
    """What the marks and rows of `terminal_tables` mean: once for all of them."""
    text = f"Chosen on validation: {BEST_LAYER} layer of a model, {BEST_MODEL} layer and model."
    if any(question.n_splits > 1 for question in data.questions):
        text += (
            " Row 'chosen', the result: layer and settings chosen anew in every fold (in brackets: layers)."
        )
    if any(interval_text(j.interval) for f in data.findings.values() for j in f.judged_answers.values()):
        text += f" Intervals: of the chosen layer, over groups of test clips. {NOT_CONTAINED}"
    if oracle:
        text += " Oracle: the layer that test itself prefers; an upper bound, not a result."
    return text


def training_gain(data: ReportData, question: ReportedQuestion) -> str:
    """What trained models score above their untrained twins, each at its own chosen layer.

    "" without, and where comparisons say it, with an interval.
    """
    if any(c.contrast == TRAINING for c in data.findings[question.name].model_comparisons):
        return ""
    rows = question.answers[question.answers["combine"] == EACH].set_index("model")["score_test_mean"]
    found = []
    for untrained, twins in sorted(data.untrained.items()):
        for trained in twins:
            if untrained in rows and trained in rows:
                gain = rows[trained] - rows[untrained]
                sign = "+" if gain > 0 and not is_shown_as_zero(gain) else ""
                found.append(
                    f"{trained} {100 * rows[trained]:.1f}, untrained ({untrained}) "
                    f"{100 * rows[untrained]:.1f}: {sign}{points(gain)} points."
                )
    return "Trained against untrained: " + " ".join(found) if found else ""


def baselines(question: ReportedQuestion) -> str:
    """What takes no probe: chance, and always the most frequent class."""
    text = chance_text(question).removesuffix(" %")
    if question.metric == R2:
        return text
    known = zip((question.metric, "accuracy"), question.majority, strict=True)
    shown = [f"{name} {100 * value:.1f}" for name, value in known if not math.isnan(value)]
    return f"{text} (always the most frequent class: {', '.join(shown)})" if shown else text


def chance_text(question: ReportedQuestion) -> str:
    """What guessing scores: ``chance 25.0 %``; of numbers what always saying the mean of training does."""
    if question.metric != R2:
        return f"chance {100 * question.chance:.1f} %"
    error = number_text(float(question.answer_fits["chance_mae"].mean()))
    score = percent(question.chance) + " %" * (not math.isnan(question.chance))
    return f"always the mean of training: {R2} {score}, mean absolute error {error}"


def spread_of(question: ReportedQuestion) -> str:
    """What the mean and the spread of a question's scores are taken over."""
    n_fits = sorted({int(n) for n in question.summary["n_fits"]})
    shown = str(n_fits[0]) if len(n_fits) == 1 else f"{n_fits[0]} to {n_fits[-1]}"
    if question.n_splits > 1:
        what = "folds" if question.n_test_folds > 1 else "draws of the split"
        return f"mean ± std over {question.n_splits} {what} (each the mean of its seeds; {shown} fits)"
    return "one fit" if n_fits == [1] else f"mean ± std over {shown} fits"
