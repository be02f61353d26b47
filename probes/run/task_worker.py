"""One task in a worker: read the layer, fit the bundle, score it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featurestore.arrays import FloatArray, IntArray, TextArray
from featurestore.layer_list import format_layers
from probes import metrics
from probes.classifiers.interface import FRAMES, Bundle, FittedProbe, inputs_of
from probes.classifiers.multilabel import THRESHOLD, cells_of, learnable
from probes.classifiers.numbers import TargetScale, coded_texts
from probes.classifiers.registry import classifier_for, get_classifier
from probes.questions.controls import MDL, OTHER_LABELS, code_columns, control_labels, online_code
from probes.questions.labelled_rows import OpenKeys, Question, layer_matrix
from probes.questions.refit import parts_of
from probes.questions.tasks import FitSpec, ProbeTask
from probes.results.fit_tables import OWN_MEASURES, PROBABILITY_COLUMNS

if TYPE_CHECKING:
    import numpy.typing as npt

    from featurestore.store.reader import Features
    from probes.training.mlp_config import Schedule
    from probes.training.standardise import Standardiser


@dataclass(frozen=True)
class PartPredictions:
    """What the fits of a task say of one part.

    Attributes:
        utterance_id: Of each row `[n]`.
        group: Of each row `[n]`.
        target: Position of its class `[n]`.
        predicted: Position of the predicted class, `[fits, n]`.
        probability: Of the predicted class and of the target, float32 `[fits, 2, n]`; None where the
            classifier gives none, or where they are not kept.
    """

    utterance_id: TextArray
    group: TextArray
    target: IntArray
    predicted: npt.NDArray[np.int32]
    probability: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class TaskResult:
    """What a worker sends back: rows of the results, and predictions of parts ("test", "val")."""

    rows: list[dict[str, Any]]
    classes: tuple[str, ...]
    parts: Mapping[str, PartPredictions]

    def predictions(self, part: str) -> pd.DataFrame | None:
        """One row per fit and utterance; None where nothing was predicted of the part."""
        if part not in self.parts:
            return None
        of = self.parts[part]
        n_fits, n = of.predicted.shape
        names = np.array(self.classes, dtype=object)
        p = of.probability
        known = {} if p is None else {c: p[:, i].ravel() for i, c in enumerate(PROBABILITY_COLUMNS)}
        return pd.DataFrame(
            {
                "fingerprint": np.repeat([r["fingerprint"] for r in self.rows], n),
                "utterance_id": np.tile(of.utterance_id, n_fits),
                "group": np.tile(of.group, n_fits),
                "target": np.tile(names[of.target], n_fits),
                "prediction": names[of.predicted.ravel()],
                **known,
            }
        )


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The rows of a task, ready to fit and to score.

    Attributes:
        question: Rows, classes and split.
        x: Standardised matrix `[n, d]` of each part, float32, or what streams it.
        y: Class positions `[n]` of each part; see `probes.questions.labelled_rows.Question.y`.
        trained: Positions of the classes that have training rows, ascending; none for numbers.
        standardise: What the rows were standardised by.
    """

    question: Question
    x: dict[str, Any]
    y: dict[str, Any]
    trained: IntArray
    standardise: Standardiser

    @property
    def target_scale(self) -> TargetScale:
        """What numbers are standardised by: those of the training rows."""
        return TargetScale.fit(self.y["train"])


def prepare(task: ProbeTask, memory_bytes: int | None = None, keys: OpenKeys | None = None) -> Prepared:
    """Read and standardise the rows of a task; where memory does not hold them, they stay in the store.

    Args:
        task: What is asked.
        memory_bytes: What this process may hold in all; None for a share of what is free.
        keys: What this process has opened before.

    Raises:
        ConfigError: too little memory for the classifier.
    """
    from probes.training.parts import standardised_parts

    question, x, y = read_parts(task, memory_bytes, keys)
    if question.is_numbers:
        trained = np.empty(0, dtype=np.int64)
    else:
        trained = np.unique(y["train"]) if question.is_classes else learnable(y["train"])
    x, standardise = standardised_parts(x)
    return Prepared(question=question, x=x, y=y, trained=trained, standardise=standardise)


def read_parts(
    task: ProbeTask, memory_bytes: int | None = None, keys: OpenKeys | None = None
) -> tuple[Question, dict[str, Any], dict[str, IntArray]]:
    """The question of a task, and the rows of each part as they are stored, with their classes.

    Args:
        task: What is asked.
        memory_bytes: What this process may hold in all; None for a share of what is free.
        keys: What this process has opened before.

    Returns:
        The question, X (see `probes.training.parts`) and y of each part.

    Raises:
        ConfigError: too little memory for the classifier.
    """
    from probes.run.memory_plan import streamed_parts

    keys = keys or OpenKeys()
    question = keys.question(task)
    features = keys.features(task)
    where = parts_of(question.split, task.refit)
    label = control_labels(task.control, question) if task.control in OTHER_LABELS else question.y
    y = {name: label[rows] for name, rows in where.items()}
    if inputs_of(get_classifier(task.classifier)) == FRAMES:
        return question, _frames(task, features, question, where, memory_bytes), y
    position = {name: question.labelled.position[rows] for name, rows in where.items()}
    sets = question.labelled.sets is not None
    streams = streamed_parts(task, features, position, memory_bytes, may_stream=not sets)
    if streams is not None:
        return question, dict(streams), y
    matrix = layer_matrix(features, task.layers, np.concatenate(list(position.values())))
    ends = np.cumsum([len(rows) for rows in position.values()])[:-1]
    return question, dict(zip(position, np.split(matrix, ends), strict=True)), y


def _frames(
    task: ProbeTask,
    features: Features,
    question: Question,
    where: Mapping[str, IntArray],
    memory_bytes: int | None,
) -> dict[str, Any]:
    """Frames of each part; where memory does not hold them, they stay in the store."""
    from featurestore.compute.memory import worker_bytes
    from probes.run.memory_plan import ACTIVATION_BYTES, block_rows
    from probes.training.frames import read_frames, streamed_frames

    position, layers = question.labelled.position, task.layers
    n_frames = int(features.layer(layers[0]).n_frames[position].sum()) * (2 if task.curve else 1)
    what = f"classifier {task.classifier} on the frames of {task.model}/{task.dataset} {task.place}"
    width = len(layers) * features.info.shape.n_features
    memory = memory_bytes or worker_bytes()
    block = block_rows(n_frames, width, memory, min(ACTIVATION_BYTES, 4 * n_frames * width), what)
    if block is None:
        rows = read_frames(features, layers, position)
        return {name: rows[of_part] for name, of_part in where.items()}
    streamed = streamed_frames(features, layers, position, block)
    return {name: streamed[of_part] for name, of_part in where.items()}


def fit_bundle(
    task: ProbeTask,
    data: Prepared,
    rows: IntArray | None = None,
    *,
    schedules: tuple[Schedule, ...] = (),
) -> list[FittedProbe]:
    """All fits of a task, in its order, unscored.

    Args:
        task: What is asked.
        data: Its rows.
        rows: Some of the training rows only.
        schedules: Where there are no validation rows, how long each fit is trained; see `Bundle`.
    """
    # In a fold a class may have no training row: it is not fitted, and scored as never recognised.
    trained, x_val, y_val = data.trained, data.x.get("val"), data.y.get("val")
    x_train, y_train = data.x["train"], data.y["train"]
    if rows is not None:
        x_train, y_train = x_train[rows], y_train[rows]
    if data.question.is_numbers:
        return fit_numbers(task, data, schedules)
    if data.question.labelled.sets is not None:
        y_train = y_train[:, trained]
        y_val = None if y_val is None else y_val[:, trained]
    else:
        if x_val is not None and y_val is not None:
            can_be_right = np.isin(y_val, trained)
            if can_be_right.any() and not can_be_right.all():
                x_val, y_val = x_val[can_be_right], y_val[can_be_right]
            y_val = np.searchsorted(trained, y_val).clip(max=len(trained) - 1)
        y_train = np.searchsorted(trained, y_train)
    return classifier_for(task.classifier, task.combine).fit(
        Bundle(
            x_train=x_train,
            y_train=y_train,
            x_val=x_val,
            y_val=y_val,
            n_classes=len(trained),
            fits=tuple((json.loads(f.hparams), f.seed) for f in task.fits),
            n_layers=len(task.layers),
            device=task.device,
            schedules=schedules,
        )
    )


def run_task(task: ProbeTask, memory_bytes: int | None = None, keys: OpenKeys | None = None) -> TaskResult:
    """Fit one bundle; runs in a worker, which may hold `memory_bytes`, with the keys that it has opened."""
    data = prepare(task, memory_bytes, None if keys is None else keys.of_this_process())
    if task.control == MDL:
        return _online_code(task, data)
    return scored(task, data, fit_bundle(task, data))


def scored(task: ProbeTask, data: Prepared, fitted: Sequence[FittedProbe]) -> TaskResult:
    """Scores and predictions of the fits of a task, on the parts that there are; among them "test"."""
    question, sets = data.question, data.question.labelled.sets is not None
    measures = _set_measures if sets else number_measures if question.is_numbers else class_measures
    out, predicted, probable = [], [], []
    for asked, fit in zip(task.fits, fitted, strict=True):
        scores = {
            name: over_all(fit.scores(part), data.trained, len(question.classes))
            for name, part in data.x.items()
        }
        measured, guess = measures(data, fit, scores)
        predicted.append(guess)
        if fit.probabilistic and question.is_classes:
            probable.append(probability_of(data.y["test"], scores["test"]))
        out.append(
            {
                **asked_of(task, asked),
                "layer_weights": json.dumps(list(fit.layer_weights)) if fit.layer_weights else "",
                **measured,
                **{f"n_{name}": len(y) for name, y in data.y.items()},
                "n_classes": len(question.classes),
                "n_epochs": fit.n_epochs,
                "best_epoch": fit.best_epoch,
                "fit_s": fit.fit_s,
                "device": fit.device,
            }
        )
    classes, target = question.classes, dict(data.y)
    guesses = {part: np.stack([p[part] for p in predicted]) for part in predicted[0]}
    if sets:  # what was predicted is written as sets, which are what the columns then tell apart
        cells = [cells_of(part, classes) for part in (target["test"], *guesses["test"])]
        names, codes = np.unique(np.concatenate(cells).astype(str), return_inverse=True)
        codes = codes.reshape(len(cells), len(cells[0]))
        classes, target["test"], guesses["test"] = tuple(names.tolist()), codes[0], codes[1:]
    elif question.is_numbers:
        classes, coded = coded_texts({part: [target[part], *said] for part, said in guesses.items()})
        target.update({part: codes[0] for part, codes in coded.items()})
        guesses = {part: codes[1:] for part, codes in coded.items()}
    return TaskResult(
        rows=out,
        classes=classes,
        parts={
            part: _of_part(question, part, target[part], said, probable if part == "test" else [])
            for part, said in guesses.items()
        },
    )


def probability_of(y: IntArray, probabilities: FloatArray) -> FloatArray:
    """Probability of the likeliest class and of the target, float32 `[2, n]`, of those of all classes."""
    likeliest, own = probabilities.argmax(axis=1), np.arange(len(y))
    return np.stack([probabilities[own, likeliest], probabilities[own, y]]).astype(np.float32)


def _of_part(
    question: Question, part: str, target: IntArray, guesses: IntArray, probable: Sequence[FloatArray]
) -> PartPredictions:
    rows, where = question.labelled.rows, dict(question.split.parts())[part]
    return PartPredictions(
        utterance_id=rows.utterance_id[where],
        group=rows.group[where],
        target=target,
        predicted=guesses.astype(np.int32),
        probability=np.stack(probable) if len(probable) == len(guesses) else None,
    )


def class_measures(
    data: Prepared, fit: FittedProbe, scores: Mapping[str, FloatArray]
) -> tuple[dict[str, float], dict[str, IntArray]]:
    """Scores of one fit by column of the results, and its predictions for test and validation rows `[n]`."""
    guess = {name: s.argmax(axis=1) for name, s in scores.items()}
    y, y_train, of_test = data.y["test"], data.y["train"], scores["test"]
    finite = bool(np.isfinite(of_test).all())  # not where a fit diverged
    own = dict.fromkeys(OWN_MEASURES, float("nan"))
    if fit.measure is not None:
        among_trained = np.where(np.isin(y, data.trained), np.searchsorted(data.trained, y), -1)
        own.update(fit.measure(data.x["test"], among_trained))
    calibration = metrics.expected_calibration_error
    return {
        **{f"uar_{name}": metrics.uar(y, guess[name]) for name, y in data.y.items()},
        "accuracy_test": metrics.accuracy(y, guess["test"]),
        "f1_macro_test": metrics.f1_macro(y, guess["test"]),
        "auroc_macro_test": metrics.auroc_macro(y, of_test) if finite else float("nan"),
        "ece_test": calibration(y, of_test) if fit.probabilistic and finite else float("nan"),
        "chance": metrics.chance_level(y, y_train),
        "majority_accuracy": metrics.majority_accuracy(y_train, y),
        "majority_uar": metrics.majority_uar(y_train, y),
        **own,
    }, {part: guess[part] for part in ("test", "val") if part in guess}


def _set_measures(
    data: Prepared, fit: FittedProbe, scores: Mapping[str, FloatArray]
) -> tuple[dict[str, float], dict[str, IntArray]]:
    """`class_measures` where labels are sets, predictions of test rows 0 or 1 `[n, C]`: mAP, no UAR."""
    test, guess = data.y["test"], (scores["test"] >= THRESHOLD).astype(np.int64)
    return {
        **{f"map_{part}": metrics.mean_average_precision(y, scores[part]) for part, y in data.y.items()},
        "accuracy_test": metrics.accuracy(test, guess),
        "f1_macro_test": metrics.f1_macro_sets(test, guess),
        "auroc_macro_test": metrics.auroc_macro(test, scores["test"]),
        "chance": metrics.chance_precision(test),
    }, {"test": guess}


def fit_numbers(task: ProbeTask, data: Prepared, schedules: tuple[Schedule, ...] = ()) -> list[FittedProbe]:
    """All fits of a task on numbers, in its order; what they predict is in the unit of the label."""
    scale = data.target_scale
    y_val = data.y.get("val")
    fitted = classifier_for(task.classifier, task.combine).fit(
        Bundle(
            x_train=data.x["train"],
            y_train=scale(data.y["train"]),
            x_val=data.x.get("val"),
            y_val=None if y_val is None else scale(y_val),
            n_classes=1,
            fits=tuple((json.loads(f.hparams), f.seed) for f in task.fits),
            n_layers=len(task.layers),
            device=task.device,
            schedules=schedules,
        )
    )
    return [replace(fit, scores=partial(_in_unit, fit.scores, scale)) for fit in fitted]


def _in_unit(scores: Callable[[Any], FloatArray], scale: TargetScale, x: Any) -> Any:
    return scale.back(scores(x))


def number_measures(
    data: Prepared, fit: FittedProbe, scores: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, Any]]:
    """`class_measures` of numbers: scores of one fit, and what it predicts of test and validation rows."""
    guess = {name: s[:, 0] for name, s in scores.items()}
    y, mean = data.y["test"], float(data.y["train"].mean())
    always_mean = np.full(len(y), mean)
    return {
        **{f"r2_{name}": metrics.r2(of_part, guess[name]) for name, of_part in data.y.items()},
        "pearson_test": metrics.pearson(y, guess["test"]),
        "ccc_test": metrics.concordance(y, guess["test"]),
        "mae_test": metrics.mean_absolute_error(y, guess["test"]),
        "chance": metrics.r2(y, always_mean),
        "chance_mae": metrics.mean_absolute_error(y, always_mean),
    }, {part: guess[part] for part in ("test", "val") if part in guess}


def asked_of(task: ProbeTask, fit: FitSpec) -> dict[str, Any]:
    """What a row of the results says of the question."""
    return {
        "model": task.model,
        "dataset": task.dataset,
        "label": task.label,
        "layer": task.layer,
        "combine": task.combine,
        "layers": format_layers(task.layers),
        "classifier": task.classifier,
        "split": task.split,
        "seed": fit.seed,
        "hparams": fit.hparams,
        "split_seed": task.split_seed,
        "fold": task.fold,
        "control": task.control,
        "finished_at": datetime.now(UTC).isoformat(timespec="microseconds"),
        "fingerprint": task.question(fit),
        "data": task.data,
        "clips": task.clips,
    }


def _online_code(task: ProbeTask, data: Prepared) -> TaskResult:
    """The bits of the training labels, for every fit of a task; see `probes.questions.controls`."""
    started = time.perf_counter()
    n_classes = len(data.trained)
    y = np.searchsorted(data.trained, data.y["train"])

    devices: list[str] = []

    def fit(rows: IntArray) -> list[Callable[[IntArray], Any]]:
        fitted = fit_bundle(task, data, rows)
        devices[:] = [probe.device for probe in fitted]
        return [partial(_log_probabilities, probe, data.x["train"]) for probe in fitted]

    bits = online_code(data.question, y, n_classes, fit)
    seconds = (time.perf_counter() - started) / len(task.fits)
    rows = [
        {
            **asked_of(task, asked),
            **code_columns(b, len(y), n_classes),
            **{f"n_{name}": len(of_part) for name, of_part in data.y.items()},
            "n_classes": len(data.question.classes),
            "fit_s": seconds,
            "device": device,
        }
        for asked, b, device in zip(task.fits, bits, devices, strict=True)
    ]
    nobody, none = np.empty(0, dtype=object), np.empty(0, dtype=np.int64)
    nothing = PartPredictions(nobody, nobody, none, np.empty((len(rows), 0), dtype=np.int32))
    return TaskResult(rows=rows, classes=data.question.classes, parts={"test": nothing})


def _log_probabilities(fit: FittedProbe, x: Any, rows: IntArray) -> FloatArray:
    # What underflows costs 126 bits, not infinitely many.
    out: FloatArray = np.log(np.maximum(fit.scores(x[rows]), np.finfo(np.float32).tiny))
    return out


def over_all(scores: FloatArray, trained: IntArray, n_classes: int) -> FloatArray:
    """Scores `[n, C]` of all classes from those of the classes that were trained, the others last."""
    if len(trained) == n_classes:
        return scores
    lowest = min(0.0, float(scores.min()) - 1.0) if scores.size and scores.min() < 0 else 0.0
    out = np.full((len(scores), n_classes), lowest, dtype=np.float32)
    out[:, trained] = scores
    return out
