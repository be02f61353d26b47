"""Read a results directory into the questions that a report answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import CorruptData, StoreError
from probes.combine import EACH
from probes.splits import parse_split

if TYPE_CHECKING:
    import pandas as pd

QUESTION_KEYS = ["dataset", "label", "classifier", "split"]
# What tells the row of the answer from others of its question.
ANSWERED = ("model", "combine", "layers")
OTHER_SCORES = ("uar_train", "accuracy_test", "f1_macro_test")


@dataclass(frozen=True, kw_only=True)
class Question:
    """One label of one data set, asked by one classifier on one kind of split.

    Attributes:
        chance: UAR of guessing.
        summary: One row per model and layer, or combination of layers: the columns of
            `probes.results.summarise`, means of `OTHER_SCORES`, and `best_model`, which marks the layer
            whose mean validation UAR is the highest of all models. A combination is the answer only
            where no single layer was probed.
        fits: The rows of the results table that the summary averages.
        per_fold: `probes.results.chosen_per_fold` of all settings; empty where the split has no folds.
    """

    dataset: str
    label: str
    classifier: str
    split: str
    chance: float
    summary: pd.DataFrame
    fits: pd.DataFrame
    per_fold: pd.DataFrame

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
    def answer_per_fold(self) -> pd.DataFrame:
        """The rows of `per_fold` of the model of the answer, by fold."""
        answer, rows = self.answer, self.per_fold
        of_answer = (rows["model"] == str(answer["model"])) & (rows["combine"] == str(answer["combine"]))
        rows = rows[of_answer]
        return rows.sort_values(["split_seed", "fold"])

    @property
    def models(self) -> list[str]:
        """Names of the models, in alphabetical order."""
        return sorted(self.summary["model"].unique())

    @property
    def heading(self) -> str:
        """Label and data set."""
        return f"{self.label} · {self.dataset}"

    @property
    def setting(self) -> str:
        """How it was asked."""
        return f"{self.classifier} · split: {self.split}"

    @property
    def title(self) -> str:
        """Everything that tells this question from others, in one line."""
        return f"{self.heading} · {self.setting}"

    def curve(self, model: str) -> pd.DataFrame:
        """Rows of the summary of `model` by ascending layer; combined layers are no point of it."""
        rows = self.summary[(self.summary["model"] == model) & (self.summary["combine"] == EACH)]
        return rows.assign(layer=rows["layer"].astype("int64")).sort_values("layer")

    def combined(self, model: str | None = None) -> pd.DataFrame:
        """Rows of the summary that look at several layers at once, of one model or of all."""
        rows = self.summary[self.summary["combine"] != EACH]
        rows = rows if model is None else rows[rows["model"] == model]
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
    def answer(self) -> pd.Series[Any]:
        """The summary row of the model and layer chosen on validation."""
        return self.summary[self.summary["best_model"]].iloc[0]

    @property
    def answer_fits(self) -> pd.DataFrame:
        """The rows of `fits` behind the answer."""
        answer, fits = self.answer, self.fits
        same = (fits[list(ANSWERED)] == [answer[name] for name in ANSWERED]).all(axis=1)
        return fits[same]


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that a report shows.

    Attributes:
        path: The results directory.
        questions: In the order dataset, label, classifier, split.
        run: Content of `run.json`; empty if there is none.
    """

    path: Path
    questions: list[Question]
    run: Mapping[str, Any]

    @property
    def models(self) -> list[str]:
        """All models, in alphabetical order: the order of colours and columns."""
        return sorted({model for question in self.questions for model in question.models})

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Saved test predictions of the probes behind every answer; see `read_predictions`."""
        import pandas as pd

        from probes.results import read_predictions

        # One pass over the files for all questions.
        return read_predictions(self.path, pd.concat([q.answer_fits for q in self.questions]))


def load_report_data(results_dir: str | Path) -> ReportData:
    """Read `results.parquet` and `run.json` of a results directory.

    Raises:
        StoreError: no results there, or a table without rows.
        CorruptData: a file that cannot be read.
    """
    from probes.results import RESULTS_NAME, RUN_NAME, read_results

    path = Path(results_dir)
    table = read_results(path)
    if table.empty:
        raise StoreError(
            f"{path / RESULTS_NAME}: expected at least one fitted probe, found no rows; "
            "run fs probe into this directory first"
        )
    run_path = path / RUN_NAME
    try:
        run = json.loads(run_path.read_text(encoding="utf-8")) if run_path.is_file() else {}
    except ValueError as error:
        raise CorruptData(
            f"{run_path}: expected JSON, got an error ({error}); run fs probe again to rewrite it"
        ) from error
    return ReportData(path=path, questions=_questions(table), run=run)


def _questions(table: pd.DataFrame) -> list[Question]:
    from probes.results import CURVE, chosen_per_fold, summarise

    at = [*CURVE, "layers"]
    summary = summarise(table)
    fits = table.merge(summary[[*at, "hparams"]], on=[*at, "hparams"])
    others = fits.groupby(at)[list(OTHER_SCORES)].mean().add_suffix("_mean").reset_index()
    summary = summary.merge(others, on=at)
    per_fold = chosen_per_fold(table)
    questions = []
    for key, rows in summary.groupby(QUESTION_KEYS):
        names = dict(zip(QUESTION_KEYS, map(str, key), strict=True))
        of_question = (fits[QUESTION_KEYS] == list(names.values())).all(axis=1)
        single = rows["combine"] == EACH
        best = rows[rows["best"] & (single if single.any() else ~single)].sort_values(
            ["uar_val_mean", "model"], ascending=[False, True]
        )
        rows = rows.assign(best_model=rows.index == best.index[0])
        questions.append(
            Question(
                **names,
                chance=float(rows["chance"].mean()),
                summary=rows.reset_index(drop=True),
                fits=fits[of_question].reset_index(drop=True),
                per_fold=per_fold[(per_fold[QUESTION_KEYS] == list(names.values())).all(axis=1)],
            )
        )
    return questions
