"""The answers of a study, half by half: as published, and corrected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

from extractors.models.weights import split_seed
from probes.classifiers.layer_combination import EACH
from studies.study_file.reading import StudyFile
from studies.study_run.requests import extraction_options

if TYPE_CHECKING:
    from probes.report.data import ReportData
    from probes.statistics import Interval
    from studies.paper_table.published import Paper

Half = Literal["as published", "corrected"]
HALVES: tuple[Half, Half] = ("as published", "corrected")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model scores on one question, at the layer and settings that validation chose.

    Attributes:
        corpus, label, split, classifier: the question.
        half: which half of the study asked it.
        model: name in the study.
        published_name: what its paper calls the same weights, such as ``hubert-base-ls960``.
        layers: that were chosen, such as ``7``, or ``3-4,7`` where every fold chose its own.
        uar: on test rows, the mean over folds and seeds, as a fraction.
        uar_val: on validation rows; what models are chosen by.
        interval: of the test UAR, over groups of rows; None where there is none.
        published: what the paper says, as fractions; two values where sources disagree.
    """

    corpus: str
    label: str
    split: str
    classifier: str
    half: Half
    model: str
    published_name: str
    layers: str
    uar: float
    uar_val: float
    interval: Interval | None
    published: tuple[float, ...]


def published_name(spec: str) -> str:
    """What weights are called, wherever they lie: the last part of a hub id, folder or file."""
    if spec.startswith("untrained:"):
        return f"untrained {published_name(split_seed(spec.removeprefix('untrained:'))[1])}"
    return PurePath(spec).name.removesuffix(".torchaudio.pt")


def half_of(file: StudyFile, pair: tuple[str, str], paper: Paper) -> Half:
    """The half that a model belongs to: its input convention says so."""
    return HALVES[0] if extraction_options(file, pair).get("preset") == paper.preset else HALVES[1]


def answers_of(data: ReportData, file: StudyFile, paper: Paper) -> list[Answer]:
    """The answers of all models and questions that the study file still names, question by question."""
    return list(_answers(data, file, paper))


def _answers(data: ReportData, file: StudyFile, paper: Paper) -> Iterator[Answer]:
    for question in data.questions:
        corpus = file.study.corpora.get(question.dataset)
        if corpus is None or question.metric != "UAR":
            continue
        judged = data.findings[question.name].judged_answers
        single = question.answers[question.answers["combine"] == EACH]
        rows: Sequence[dict[Any, Any]] = single.to_dict("records")
        for row in rows:
            name = str(row["model"])
            if name not in file.study.models:
                continue
            of_paper = published_name(file.study.models[name].model)
            asked = (of_paper, corpus.adapter or question.dataset, question.label)
            yield Answer(
                corpus=question.dataset,
                label=question.label,
                split=question.split,
                classifier=question.classifier,
                half=half_of(file, (name, question.dataset), paper),
                model=name,
                published_name=of_paper,
                layers=str(row["layers"]),
                uar=float(row["score_test_mean"]),
                uar_val=float(row["score_val_mean"]),
                interval=judged[name].interval,
                published=paper.scores.get(asked, ()),
            )
