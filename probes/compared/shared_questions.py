"""What two results folders were both asked, and whose score is higher on the same test clips."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from featurestore.errors import ConfigError
from featurestore.printable import counted, enumerated, printable
from probes.classifiers.layer_combination import EACH
from probes.codes import ALONE
from probes.findings.question_findings import Compared
from probes.findings.sentences import comparison_sentence
from probes.report.progress import Progress
from probes.results.results_folder import calls_of
from probes.statistics import holm

if TYPE_CHECKING:
    import pandas as pd

    from featurestore.arrays import TextArray
    from probes.findings.predicted_rows import PredictedRows
    from probes.findings.question_findings import Judged
    from probes.report.data import ReportData, ReportedQuestion

A, B = "A", "B"
# Lines of answers, each at the layer that validation chose, are one family; those of single layers another.
CHOSEN = "chosen"
SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class SharedLine:
    """One question that both folders answer.

    Attributes:
        dataset, label, split, classifier, model: What was asked.
        layers: `CHOSEN`, or the layer (or combination of layers) that both looked at.
        chosen: Layers that validation chose, in A and in B; the same twice where `layers` says which.
        scores: Reported test scores of A and of B, as fractions: means over folds and draws.
        metric: What they are.
        pair: The difference A - B, paired by test clip; None where that cannot be.
        n_clips: Test clips that both were tested on; 0 without `pair`.
        reason: Why there is no pair, or "".
        differs: What else differs between the two, in words.
    """

    dataset: str
    label: str
    split: str
    classifier: str
    model: str
    layers: str
    chosen: tuple[str, str]
    scores: tuple[float, float]
    metric: str
    pair: Compared | None
    n_clips: int
    reason: str
    differs: tuple[str, ...]

    @property
    def title(self) -> str:
        """What was asked, in one line."""
        asked = f"{self.label} · {self.dataset} · {self.model} · {self.classifier} · split: {self.split}"
        return printable(asked)

    @property
    def sentence(self) -> str:
        """What the comparison says, or why there is none."""
        changed = f" Not the same: {enumerated(self.differs)}." if self.differs else ""
        if self.pair is None:
            a, b = (f"{100 * s:.1f}" for s in self.scores)
            return f"A {a} and B {b} % {self.metric} are not compared: {printable(self.reason)}.{changed}"
        return f"{comparison_sentence(self.pair)}{changed}"


@dataclass(frozen=True, kw_only=True)
class FolderComparison:
    """Two results folders.

    Attributes:
        a, b: The folders.
        lines: What both answer: answers first, then single layers.
        alone: What one of them alone answers, as titles, by `A` and `B`.
    """

    a: ReportData
    b: ReportData
    lines: tuple[SharedLine, ...]
    alone: Mapping[str, tuple[str, ...]]

    @cached_property
    def answers(self) -> list[SharedLine]:
        """Lines of answers."""
        return [line for line in self.lines if line.layers == CHOSEN]

    def sentences(self) -> list[str]:
        """What there is to read first."""
        shown = [f"{line.title}: {line.sentence}" for line in self.answers[:SHOWN]]
        left = len(self.answers) - len(shown)
        more = [f"{counted(left, 'question')} more in compare.csv."] if left else []
        for name, titles in self.alone.items():
            if titles:
                some = f", such as {titles[0]}" if len(titles) > 1 else f": {titles[0]}"
                more.append(f"Only in {name}: {counted(len(titles), 'question')}{some}.")
        return [*shown, *more]


def compare_folders(a: ReportData, b: ReportData, progress: Progress | None = None) -> FolderComparison:
    """Compare the answers to every question that both folders hold.

    Args:
        a: One folder.
        b: The other; differences are A - B.
        progress: Told of each model of each question that both hold.

    Raises:
        ConfigError: It is one folder twice, or nothing was asked of both.
    """
    if a.path.resolve() == b.path.resolve():
        raise ConfigError(f"--compare: expected two results folders, got {a.path} twice")
    questions = [{q.name: q for q in data.questions} for data in (a, b)]
    asked = [[(*n, m) for n, q in known.items() for m in q.models] for known in questions]
    shared = [name for name in asked[0] if name in asked[1]]
    if not shared:
        raise ConfigError(
            f"--compare: {a.path} and {b.path} share no data set, label, classifier, split and model: the "
            f"first holds {_name(asked[0][0])}, the second {_name(asked[1][0])}; ask both the same"
        )
    step = (progress or Progress()).stage("comparing", len(shared))
    lines: list[SharedLine] = []
    for name in shared:
        lines += _of_model(a, b, name)
        step()
    lines.sort(key=lambda line: line.layers != CHOSEN)
    alone = {
        A: tuple(_name(n) for n in asked[0] if n not in asked[1]),
        B: tuple(_name(n) for n in asked[1] if n not in asked[0]),
    }
    return FolderComparison(a=a, b=b, lines=tuple(_corrected(lines)), alone=alone)


def _name(name: tuple[str, ...]) -> str:
    dataset, label, classifier, split, model = map(printable, name)
    return f"{label} · {dataset} · {model} · {classifier} · split: {split}"


def _of_model(a: ReportData, b: ReportData, name: tuple[str, ...]) -> Iterator[SharedLine]:
    """The answer of one model to one question, and each place that both looked at."""
    *question, model = name
    key = (question[0], question[1], question[2], question[3])
    asked = [next(q for q in data.questions if q.name == key) for data in (a, b)]
    found = [data.findings[key] for data in (a, b)]
    differs = tuple(_differs(a, b, asked, model))
    common = {
        "dataset": key[0],
        "label": key[1],
        "classifier": key[2],
        "split": key[3],
        "model": model,
        "metric": asked[0].metric,
        "differs": differs,
    }
    # Of a model whose layers were only combined there is no answer where single layers of others were probed.
    is_known = all(model in f.judged_answers for f in found)
    of_model = [_answer(q, model) for q in asked] if is_known else []
    if of_model and all(_is_answer(q, row) for q, row in zip(asked, of_model, strict=True)):
        yield _line(
            [f.judged_answers[model] for f in found],
            layers=CHOSEN,
            chosen=(str(of_model[0]["layers"]), str(of_model[1]["layers"])),
            scores=(float(of_model[0]["score_test_mean"]), float(of_model[1]["score_test_mean"])),
            **common,
        )
    for place in found[0].judged_places:
        if place[0] != model or place not in found[1].judged_places:
            continue
        _, combine, layers = place
        at = layers if combine == EACH else f"{combine} {layers}"
        scores = [_score_at(q.summary, place) for q in asked]
        yield _line(
            [f.judged_places[place] for f in found],
            layers=at,
            chosen=(at, at),
            scores=(scores[0], scores[1]),
            **common,
        )


def _is_answer(question: ReportedQuestion, row: pd.Series) -> bool:
    """Whether this is a single layer, or nobody's single layers were probed."""
    return bool(row["combine"] == EACH or not (question.answers["combine"] == EACH).any())


def _answer(question: ReportedQuestion, model: str) -> pd.Series[str]:
    rows = question.answers[question.answers["model"] == model]
    single = rows[rows["combine"] == EACH]
    return (single if len(single) else rows).iloc[0]


def _score_at(summary: pd.DataFrame, place: tuple[str, str, str]) -> float:
    same = (summary[["model", "combine", "layers"]] == list(place)).all(axis=1)
    return float(summary.loc[same, "score_test_mean"].iloc[0])


def _line(judged: list[Judged], **known: object) -> SharedLine:
    kinds = [None if j.influence is None else j.influence.metric for j in judged]
    reason = why_unpaired(judged[0].rows, judged[1].rows)
    if not reason and None not in kinds and kinds[0] != kinds[1]:
        reason = "one holds the label as numbers, the other as classes"
    result = None if reason else judged[0].compared(judged[1])
    pair = None if result is None else Compared(contrast="folders", a=A, b=B, result=result)
    n_clips = 0 if pair is None else len(judged[0].rows.key)
    return SharedLine(pair=pair, n_clips=n_clips, reason=reason, **known)  # type: ignore[arg-type]


def why_unpaired(a: PredictedRows, b: PredictedRows) -> str:
    """Why predictions of two folders cannot be paired clip by clip, with numbers; "" where they can."""
    for name, rows in ((A, a), (B, b)):
        if rows.reason:
            return f"{name}: {rows.reason}"
    if not np.array_equal(a.key, b.key):
        first, second = set(a.key), set(b.key)
        return (
            f"they were not tested on the same clips: {len(first & second):,} in both, "
            f"{len(first - second):,} only in A, {len(second - first):,} only in B"
        )
    for what, x, y in (("labels", a.target, b.target), ("groups", a.group, b.group)):
        if changed := _changed(what, a.key, x, y):
            return changed
    return ""


def _changed(what: str, key: TextArray, x: TextArray, y: TextArray) -> str:
    other = np.flatnonzero(x != y)
    if not len(other):
        return ""
    at = other[0]
    # Of several draws a key names the draw too, behind a tab; a row without a group has its utterance's
    # name, behind a mark.
    clip, was, now = (repr(str(v).partition("\t")[0].lstrip(ALONE)) for v in (key[at], x[at], y[at]))
    return (
        f"the {what} of {len(other):,} of {counted(len(key), 'test clip')} differ, such as that of {clip}: "
        f"{was} in A, {now} in B"
    )


def _differs(a: ReportData, b: ReportData, asked: list[ReportedQuestion], model: str) -> Iterator[str]:
    """What is not the same about the probes of a model in two folders, in words."""
    fits = [q.fits[q.fits["model"] == model] for q in asked]
    values = {
        "seeds": [set(f["seed"]) for f in fits],
        "seeds of the split": [set(f["split_seed"]) for f in fits],
        "layers probed": [set(f["layers"]) for f in fits],
    }
    clips = [set(f["clips"]) - {""} for f in fits]
    if all(clips):  # tables of earlier versions do not say
        values["clips, labels or groups that were split"] = clips
    digests = [
        {
            s["extraction"]
            for s in data.run.get("splits", [])
            if (s["model"], s["dataset"]) == (model, asked[0].dataset) and s.get("extraction")
        }
        for data in (a, b)
    ]
    if all(digests):
        values["how the embeddings were made"] = digests
    values["settings tried"] = [_settings(data, asked[0].classifier) for data in (a, b)]
    yield from (name for name, (first, second) in values.items() if first != second)


def _settings(data: ReportData, classifier: str) -> set[str]:
    """Settings that were asked for in the calls of a folder, as JSON; none is the default."""
    grids = (call["config"].get("grid") or {} for call in calls_of(data.run))
    return {json.dumps(grid.get(classifier, {}), sort_keys=True) for grid in grids}


def _corrected(lines: list[SharedLine]) -> Iterable[SharedLine]:
    """Lines with p-values corrected: answers for each other, single layers for each other."""
    for family in (
        [line for line in lines if line.layers == CHOSEN],
        [line for line in lines if line.layers != CHOSEN],
    ):
        adjusted = holm([math.nan if line.pair is None else line.pair.result.p for line in family])
        for line, p in zip(family, adjusted, strict=True):
            pair = None if line.pair is None else replace(line.pair, p_holm=float(p))
            yield replace(line, pair=pair)
