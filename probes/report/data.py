"""Read a results directory into the questions that a report answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import StoreError
from featurestore.printable import printable
from probes.classifiers.layer_combination import EACH
from probes.report.beside import MOST_POINTS
from probes.report.progress import OnProgress, Progress
from probes.report.scope import Scope, scope_of, with_baselines
from probes.results.fit_tables import NUMBER_COLUMNS, OWN_MEASURES
from probes.splits import parse_split

if TYPE_CHECKING:
    import pandas as pd

    from probes.findings.across_datasets import AcrossDatasets
    from probes.findings.question_findings import Compared, QuestionFindings
    from probes.findings.refits import RefitFinding
    from probes.report.beside import Beside
    from probes.report.charts.figure import Charts
    from probes.results.declared_contrasts import DeclaredContrast

QUESTION_KEYS = ["dataset", "label", "classifier", "split"]
OTHER_SCORES = ("score_train", "accuracy_test", "f1_macro_test", *OWN_MEASURES)


@dataclass(frozen=True, kw_only=True)
class ReportedQuestion:
    """One label of one data set, asked by one classifier on one kind of split.

    Attributes:
        chance: Score of guessing.
        summary: One row per model and layer, or combination of layers: the columns of
            `probes.results.selection.summarise`, means of `OTHER_SCORES`, and `best_model`, which marks the
            layer with the highest mean validation score of the model of the answer.
        fits: The rows of the results table that the summary averages.
        answers: One row per model and way to combine layers: `probes.results.selection.answers`, and
            `best_model`, which marks the highest mean validation score. A combination is the answer
            only where no single layer was probed.
        answers_fits: The rows of the results table behind `answers`.
        oracle: `probes.results.selection.oracle`; shown only when asked for.
        controls: `probes.results.selection.control_summary`; empty where no control was fitted.
        scope: What is held out, and of how many clips the scores are.
    """

    dataset: str
    label: str
    classifier: str
    split: str
    chance: float
    summary: pd.DataFrame
    fits: pd.DataFrame
    answers: pd.DataFrame
    answers_fits: pd.DataFrame
    oracle: pd.DataFrame
    controls: pd.DataFrame
    scope: Scope

    @property
    def metric(self) -> str:
        """What the scores are: UAR, mAP where labels are sets, or R² of numbers."""
        return str(self.answer["metric"])

    @property
    def majority(self) -> tuple[float, float]:
        """UAR and accuracy of always saying the most frequent class of training; NaN where not recorded."""
        return float(self.answer["majority_uar"]), float(self.answer["majority_accuracy"])

    @property
    def n_splits(self) -> int:
        """Folds, or draws of the split, behind the answer."""
        return int(self.answer["n_splits"])

    @property
    def n_test_folds(self) -> int:
        """Test folds behind the answer; 1 where the split has none."""
        outer = parse_split(self.split).outer
        return len({outer(int(fold)) for fold in self.answer_fits["fold"]})

    @property
    def n_passes(self) -> float:
        """How often each test clip was predicted by the fits behind the answer."""
        return len(self.answer_fits) / self.n_test_folds

    @property
    def models(self) -> list[str]:
        """Names of the models, in alphabetical order."""
        return sorted(self.summary["model"].unique())

    @property
    def name(self) -> tuple[str, str, str, str]:
        """Data set, label, classifier and split: what tells it from others, as `QUESTION_KEYS`."""
        return self.dataset, self.label, self.classifier, self.split

    @property
    def heading(self) -> str:
        """Label and data set."""
        return printable(f"{self.label} · {self.dataset}")

    @property
    def setting(self) -> str:
        """How it was asked."""
        return printable(f"{self.classifier} · split: {self.split}")

    @property
    def title(self) -> str:
        """Everything that tells this question from others, in one line."""
        return f"{self.heading} · {self.setting}"

    def curve(self, model: str) -> pd.DataFrame:
        """Rows of the summary of `model` by ascending layer; combined layers are no point of it."""
        rows = self.summary[(self.summary["model"] == model) & (self.summary["combine"] == EACH)]
        return rows.assign(layer=rows["layer"].astype("int64")).sort_values("layer")

    def combined(self) -> pd.DataFrame:
        """Rows of the summary that look at several layers at once."""
        rows = self.summary[self.summary["combine"] != EACH]
        return rows.sort_values(["model", "combine", "layers"])

    def rows(self) -> list[dict[str, Any]]:
        """Rows of the summary by model and ascending layer, combined layers after the single ones."""
        ordered = self.summary.sort_values(["model", "layer", "combine", "layers"])
        return [{str(k): v for k, v in row.items()} for row in ordered.to_dict("records")]

    def layers_of(self, model: str) -> list[int]:
        """Layers of `model` that were probed one by one, ascending."""
        return [int(k) for k in self.curve(model)["layer"]]

    def fits_of(self, model: str) -> list[pd.DataFrame]:
        """Rows of `fits` of `model` by ascending layer, one table per seed, split seed and fold."""
        rows = self.fits[(self.fits["model"] == model) & (self.fits["combine"] == EACH)]
        rows = rows.astype({"layer": "int64"}).sort_values("layer")
        return [curve for _, curve in rows.groupby(["seed", "split_seed", "fold"])]

    @property
    def fits_by_place(self) -> dict[tuple[str, str, str], pd.DataFrame]:
        """Rows of `fits` of each layer, or combination of layers: (model, combine, layers) → rows."""
        at = self.fits.groupby(["model", "combine", "layers"])
        return {(str(model), str(combine), str(layers)): rows for (model, combine, layers), rows in at}

    @property
    def answer(self) -> pd.Series[Any]:
        """The row of `answers` of the model that validation chose."""
        return self.answers[self.answers["best_model"]].iloc[0]

    @property
    def answer_fits(self) -> pd.DataFrame:
        """The rows of the results table behind the answer."""
        return self.answer_fits_by_model[str(self.answer["model"])]

    @property
    def answer_fits_by_model(self) -> dict[str, pd.DataFrame]:
        """Of each model the rows behind its answer: of single layers, else of the combination that leads."""
        from probes.results.selection import ranked

        fits, first = self.answers_fits, ranked(self.answers).drop_duplicates("model").sort_values("model")
        chosen = zip(first["model"], first["combine"], strict=True)
        return {str(m): fits[(fits["model"] == m) & (fits["combine"] == c)] for m, c in chosen}


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that a report shows.

    Attributes:
        path: The results directory.
        questions: In the order dataset, label, classifier, split.
        run: Content of `_run.json`; empty if there is none.
        contrasts: Sets of models that a study declared to be compared.
        progress: Told of predictions as they are read, and of what follows.
        most_points: Of a map that are drawn; None: all.
    """

    path: Path
    questions: list[ReportedQuestion]
    run: Mapping[str, Any]
    contrasts: tuple[DeclaredContrast, ...] = ()
    progress: Progress = field(default_factory=Progress)
    most_points: int | None = MOST_POINTS

    @property
    def models(self) -> list[str]:
        """All models, in alphabetical order: the order of colours and columns."""
        return sorted({model for question in self.questions for model in question.models})

    @property
    def untrained(self) -> dict[str, list[str]]:
        """Models with random weights, each with its trained twins, among those of the results."""
        known, here = self.run.get("untrained", {}), set(self.models)
        return {name: [m for m in twins if m in here] for name, twins in known.items() if name in here}

    @cached_property
    def findings(self) -> dict[tuple[str, str, str, str], QuestionFindings]:
        """What the predictions say of each question, by its name."""
        from probes.findings.question_findings import QuestionFindings
        from probes.results.results_folder import VALIDATION_FOLDER, StoredPredictions

        stored = StoredPredictions(self.path)
        step = self.progress.stage("reading predictions", self._n_reads)
        found = {}
        for q in self.questions:
            found[q.name] = QuestionFindings(
                answers=q.answer_fits_by_model,
                places=q.fits_by_place,
                read=_stepping(partial(stored.of, as_codes=True), step),
                read_validation=_stepping(partial(stored.of, folder=VALIDATION_FOLDER, as_codes=True), step),
                is_sets=q.metric == "mAP",
                is_numbers=q.metric == "R²",
                twins=self.untrained,
                facts=self.run.get("models", {}),
                declared=partial(self._declared_of, q.name),
                dataset=q.dataset,
            )
        return found

    @property
    def _n_reads(self) -> int:
        """How often predictions are read until all that they say is found."""
        questions = [q for q in self.questions if q.metric != "mAP"]
        places = sum(len(q.answer_fits_by_model) + len(q.fits_by_place) for q in questions)
        return places + sum(n for q in questions for m in q.models if (n := len(q.layers_of(m))) > 1)

    def _declared_of(self, question: tuple[str, str, str, str]) -> list[Compared]:
        return self.declared.get(question, [])

    @cached_property
    def declared(self) -> dict[tuple[str, str, str, str], list[Compared]]:
        """Declared contrasts, by question; corrected over all questions, so that all are looked at."""
        from probes.findings.declared_sets import declared_comparisons

        return declared_comparisons(self.findings, self.contrasts) if self.contrasts else {}

    @cached_property
    def comparisons(self) -> list[tuple[ReportedQuestion, Compared]]:
        """Every comparison, question by question; those of classifiers last."""
        from probes.findings.question_findings import classifier_comparisons

        found: list[tuple[ReportedQuestion, Compared]] = []
        same: dict[tuple[str, str, str], dict[str, ReportedQuestion]] = {}
        for q in self.questions:
            of = self.findings[q.name]
            found += [(q, c) for c in (*of.model_comparisons, *of.layer_comparisons)]
            same.setdefault((q.dataset, q.label, q.split), {})[q.classifier] = q
        for by_classifier in same.values():
            of_all = {c: self.findings[q.name] for c, q in by_classifier.items()}
            for classifier, compared in classifier_comparisons(of_all).items():
                found += [(by_classifier[classifier], c) for c in compared]
        return found

    @cached_property
    def across_datasets(self) -> list[AcrossDatasets]:
        """Models ranked over data sets, where there are enough; of each model the layer that was chosen."""
        import pandas as pd

        from probes.findings.across_datasets import families, rank_models

        rows = [
            (q.classifier, q.metric, q.dataset, q.split, q.label, row["model"], row["score_test_mean"])
            for q in self.questions
            for _, row in q.answers[~q.answers["model"].isin(q.scope.other_clips)].iterrows()
            if q.metric != "R²"  # on a scale of its own, without an upper end of what is bad
            # A combination of layers is an answer only where no single layer was probed.
            and (row["combine"] == EACH or not (q.answers["combine"] == EACH).any())
        ]
        names = ["classifier", "metric", "dataset", "split", "label", "model", "score"]
        answers = pd.DataFrame(rows, columns=names).drop_duplicates(names[:-1])
        return [rank_models(what, scores) for what, scores in families(answers).items()]

    @cached_property
    def refits(self) -> list[RefitFinding]:
        """What fits made again on more rows score; they are part of no answer."""
        from probes.findings.refits import refit_findings

        return refit_findings(self.path)

    @cached_property
    def beside(self) -> Beside:
        """What other commands left in the results folder."""
        from probes.report.beside import read_beside

        return read_beside(self.path)

    @cached_property
    def charts(self) -> Charts:
        """All charts of the page, which are its figures as files too."""
        from probes.report.charts.report_charts import report_charts

        return report_charts(self)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Saved test predictions of the probes behind every answer, see `read_predictions`, as categories."""
        import pandas as pd

        from probes.results.results_folder import StoredPredictions

        # One pass over the files for all questions.
        fits = pd.concat([q.answer_fits for q in self.questions])
        return StoredPredictions(self.path).of(fits, as_codes=True)


def load_report_data(
    results_dir: str | Path,
    *,
    on_progress: OnProgress | None = None,
    most_points: int | None = MOST_POINTS,
) -> ReportData:
    """Read `results.parquet` and `_run.json` of a results directory.

    Args:
        results_dir: The folder.
        on_progress: Told how far the report is, as far as that takes seconds.
        most_points: See `ReportData`.

    Raises:
        StoreError: no results there, or a table without rows.
        CorruptData: a file that cannot be read.
    """
    from probes.results.declared_contrasts import read_contrasts
    from probes.results.results_folder import RESULTS_NAME, read_controls, read_results, read_run

    path = Path(results_dir)
    table = read_results(path)
    if table.empty:
        raise StoreError(
            f"{path / RESULTS_NAME}: expected at least one fitted probe, found no rows; "
            "run fs probe into this directory first"
        )
    run = read_run(path)
    splits = run.get("splits", [])
    table = with_baselines(table, splits)
    return ReportData(
        path=path,
        questions=_questions(table, read_controls(path), splits),
        run=run,
        contrasts=read_contrasts(path),
        progress=Progress(on_progress),
        most_points=most_points,
    )


def _stepping(
    read: Callable[[pd.DataFrame], pd.DataFrame], step: Callable[[], None]
) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The same reading, which tells of each."""

    def read_and_step(fits: pd.DataFrame) -> pd.DataFrame:
        found = read(fits)
        step()
        return found

    return read_and_step


def _questions(
    table: pd.DataFrame, control_fits: pd.DataFrame, splits: Sequence[Mapping[str, Any]]
) -> list[ReportedQuestion]:
    from probes.results import selection

    at = [*selection.CURVE, "layers"]
    tables = {
        "fits": selection.chosen_settings(table),
        "answers_fits": selection.chosen_fits(table),
        "oracle": selection.oracle(table),
        "controls": selection.control_summary(table, control_fits),
    }
    names_of = [*at, *OTHER_SCORES, *NUMBER_COLUMNS]
    fits = tables["fits"].reindex(columns=names_of).astype(dict.fromkeys(NUMBER_COLUMNS, float))
    # Where a fit on numbers has no score, the mean of the others is none.
    others = fits.groupby(at)[names_of[len(at) :]].agg(_mean_of_all).add_suffix("_mean").reset_index()
    summary = selection.summarise(table).merge(others, on=at)
    answers = selection.answers(table)
    questions = []
    for key, rows in summary.groupby(QUESTION_KEYS):
        names: dict[str, Any] = dict(zip(QUESTION_KEYS, map(str, key), strict=True))
        own: dict[str, Any] = {name: _of_question(found, names) for name, found in tables.items()}
        found = _marked(_of_question(answers, names))
        answer = found[found["best_model"]].iloc[0]
        of_answer = (rows["model"] == answer["model"]) & (rows["combine"] == answer["combine"])
        questions.append(
            ReportedQuestion(
                **names,
                **own,
                chance=float(answer["chance"]),
                summary=rows.assign(best_model=rows["best"] & of_answer).reset_index(drop=True),
                answers=found,
                scope=scope_of(own["fits"], found, splits),
            )
        )
    return questions


def _mean_of_all(values: pd.Series[float]) -> float:
    """Mean; of numbers' scores NaN where one is lacking, of others as pandas takes it."""
    return float(values.mean(skipna=values.name not in NUMBER_COLUMNS))


def _of_question(table: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    same = (table[QUESTION_KEYS] == list(names.values())).all(axis=1)
    return table.loc[same].reset_index(drop=True)


def _marked(answers: pd.DataFrame) -> pd.DataFrame:
    """Answers of one question with `best_model`, the best on validation first."""
    from probes.results.selection import ranked

    best = ranked(answers).index[0]
    shown = answers.sort_values(["score_val_mean", "model"], ascending=[False, True])
    return shown.assign(best_model=shown.index == best).reset_index(drop=True)
