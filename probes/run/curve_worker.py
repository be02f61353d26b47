"""One task of a learning curve in a worker: the layer is read once, and fitted on one share after another."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from featurestore.arrays import IntArray
from featurestore.errors import ConfigError
from featurestore.fingerprint import digest
from featurestore.printable import counted
from probes.classifiers.interface import FittedProbe
from probes.questions.curve import drawn_rows, percent
from probes.questions.labelled_rows import OpenKeys, Question
from probes.questions.tasks import FitSpec, ProbeTask
from probes.run import task_worker
from probes.run.refits import run_refit
from probes.run.task_worker import (
    PartPredictions,
    Prepared,
    TaskResult,
    asked_of,
    class_measures,
    fit_bundle,
    number_measures,
    over_all,
    read_parts,
)


def run_task(task: ProbeTask, memory_bytes: int | None = None, keys: OpenKeys | None = None) -> TaskResult:
    """`probes.run.task_worker.run_task`, of learning curves and of fits that are made again too."""
    run = run_curve if task.curve else run_refit if task.refit else task_worker.run_task
    return run(task, memory_bytes, keys)


def run_curve(task: ProbeTask, memory_bytes: int | None = None, keys: OpenKeys | None = None) -> TaskResult:
    """Fit one bundle of a curve; fits on the same rows are one bundle of the classifier.

    Every share is standardised by its own rows, so that each fit is what a probe of a data set with these
    training rows alone would be. No predictions are kept: there would be 26 times as many.
    """
    question, x, y = read_parts(task, memory_bytes, None if keys is None else keys.of_this_process())
    out: dict[FitSpec, dict[str, Any]] = {}
    by_rows = sorted(task.fits, key=_rows_of)  # stable: fits on the same rows keep their order
    for _, fits in itertools.groupby(by_rows, key=_rows_of):
        part = replace(task, fits=tuple(fits))
        out.update(zip(part.fits, _on_rows(part, question, x, y), strict=True))
    nobody, none = np.empty(0, dtype=object), np.empty(0, dtype=np.int64)
    nothing = PartPredictions(nobody, nobody, none, np.empty((len(out), 0), dtype=np.int32))
    return TaskResult(rows=[out[fit] for fit in task.fits], classes=question.classes, parts={"test": nothing})


def _rows_of(fit: FitSpec) -> tuple[float, int]:
    return fit.share, fit.draw


def _on_rows(
    task: ProbeTask, question: Question, x: Mapping[str, Any], y: Mapping[str, IntArray]
) -> list[dict[str, Any]]:
    """Rows of the table of fits that all have one share of one draw."""
    from probes.training.parts import on_rows, standardised_parts

    share, draw = _rows_of(task.fits[0])
    rows, split = question.labelled.rows, question.split
    drawn = drawn_rows(task.curve, rows, split, share, draw)
    own_x, standardise = standardised_parts(on_rows(x, drawn))
    own_y = {**y, "train": y["train"][drawn]}
    classes = np.empty(0, dtype=np.int64) if question.is_numbers else np.unique(own_y["train"])
    data = Prepared(question=question, x=own_x, y=own_y, trained=classes, standardise=standardise)
    of_train = split.train[drawn]
    told = {
        "curve": task.curve,
        "share": share,
        "draw": draw,
        **{f"n_{name}": len(of_part) for name, of_part in own_y.items()},
        "n_train_groups": len(set(rows.group[of_train]) - {""}),
        "n_classes": len(question.classes),
        "n_classes_trained": len(data.trained),
        "trained": digest(sorted(str(name) for name in rows.utterance_id[of_train])),
    }
    try:
        fitted = _fitted(task, data)
        measured = [_scores(data, fit) for fit in fitted]
    except ConfigError as error:
        held = "" if question.is_numbers else f" of {counted(len(data.trained), 'class', 'classes')}"
        raise ConfigError(
            f"curve {task.curve}, {percent(share)} % ({counted(len(drawn), 'clip')}{held}): "
            f"{error}; or leave small shares out, such as --curve-shares 50,70,100"
        ) from error
    return [
        {
            **asked_of(task, asked),
            **told,
            "layer_weights": _json(fit),
            **scores,
            "n_epochs": fit.n_epochs,
            "best_epoch": fit.best_epoch,
            "fit_s": fit.fit_s,
            "device": fit.device,
        }
        for asked, fit, scores in zip(task.fits, fitted, measured, strict=True)
    ]


def _fitted(task: ProbeTask, data: Prepared) -> list[FittedProbe]:
    """All fits; where the rows are of one class, or number, there is nothing to fit: it is always said."""
    of_train = data.y["train"]
    if len(np.unique(of_train)) > 1:
        return fit_bundle(task, data)
    if data.question.is_numbers:
        said = FittedProbe(scores=lambda x: np.full((len(x), 1), of_train[0]), probabilistic=False)
        return [said] * len(task.fits)
    return [FittedProbe(scores=lambda x: np.ones((len(x), 1), np.float32), probabilistic=True)] * len(
        task.fits
    )


def _scores(data: Prepared, fit: FittedProbe) -> dict[str, float]:
    n_classes = len(data.question.classes)
    scores = {name: over_all(fit.scores(part), data.trained, n_classes) for name, part in data.x.items()}
    measures = number_measures if data.question.is_numbers else class_measures
    return measures(data, fit, scores)[0]


def _json(fit: FittedProbe) -> str:
    import json

    return json.dumps(list(fit.layer_weights)) if fit.layer_weights else ""
