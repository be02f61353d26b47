"""One task in a worker: read the layer, fit the bundle, score it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from probes import metrics
from probes.data import layer_matrix, question_of
from probes.tasks import ProbeTask

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class TaskResult:
    """What a worker sends back; predictions as class positions, one row per fit."""

    rows: list[dict[str, Any]]
    utterance_id: npt.NDArray[np.object_]
    group: npt.NDArray[np.object_]
    classes: tuple[str, ...]
    target: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int32]

    def predictions(self) -> pd.DataFrame:
        """One row per fit and test utterance."""
        n_fits, n = self.predicted.shape
        names = np.array(self.classes, dtype=object)
        return pd.DataFrame(
            {
                "fingerprint": np.repeat([r["fingerprint"] for r in self.rows], n),
                "utterance_id": np.tile(self.utterance_id, n_fits),
                "group": np.tile(self.group, n_fits),
                "target": np.tile(names[self.target], n_fits),
                "prediction": names[self.predicted.ravel()],
            }
        )


def run_task(task: ProbeTask) -> TaskResult:
    """Fit one bundle; runs in a worker and opens the store itself."""
    from probes.classifiers import Bundle, get_classifier
    from probes.mlp import Standardiser

    question = question_of(task)
    split, y = question.split, question.y
    rows = question.labelled.rows
    matrix = layer_matrix(task, question.labelled.position)
    x = {name: matrix[where] for name, where in split.parts()}
    del matrix
    standardise = Standardiser.fit(x["train"])
    for part in x.values():
        standardise.inplace(part)
    y_of = {name: y[where] for name, where in split.parts()}
    fits = tuple((json.loads(f.hparams), f.seed) for f in task.fits)
    # In a fold a class may have no training row: it is not fitted, and scored as never recognised.
    trained, y_train = np.unique(y_of["train"], return_inverse=True)
    n_classes = len(question.classes)
    can_be_right = np.isin(y_of["val"], trained)
    if not can_be_right.any():
        can_be_right[:] = True
    fitted = get_classifier(task.classifier).fit(
        Bundle(
            x_train=x["train"],
            y_train=y_train.astype(np.int64),
            x_val=x["val"][can_be_right],
            y_val=np.searchsorted(trained, y_of["val"][can_be_right]).clip(max=len(trained) - 1),
            n_classes=len(trained),
            fits=fits,
        )
    )
    out_rows, predicted = [], []
    for asked, fit in zip(task.fits, fitted, strict=True):
        scores = {name: _over_all(fit.scores(part), trained, n_classes) for name, part in x.items()}
        guess = {name: s.argmax(axis=1) for name, s in scores.items()}
        predicted.append(guess["test"].astype(np.int32))
        out_rows.append(
            {
                "model": task.model,
                "dataset": task.dataset,
                "label": task.label,
                "layer": task.layer,
                "classifier": task.classifier,
                "split": task.split,
                "seed": asked.seed,
                "hparams": asked.hparams,
                **{f"uar_{name}": metrics.uar(y_of[name], guess[name]) for name in x},
                **_test_metrics(y_of["test"], guess["test"], scores["test"], fit.probabilistic),
                **{f"n_{name}": len(part) for name, part in x.items()},
                "n_classes": len(question.classes),
                "n_epochs": fit.n_epochs,
                "best_epoch": fit.best_epoch,
                "fit_s": fit.fit_s,
                "split_seed": task.split_seed,
                "fold": task.fold,
                "finished_at": datetime.now(UTC).isoformat(timespec="microseconds"),
                "fingerprint": task.question(asked),
            }
        )
    return TaskResult(
        rows=out_rows,
        utterance_id=rows.utterance_id[split.test],
        group=rows.group[split.test],
        classes=question.classes,
        target=y_of["test"],
        predicted=np.stack(predicted),
    )


def _over_all(
    scores: npt.NDArray[np.float32], trained: npt.NDArray[np.int64], n_classes: int
) -> npt.NDArray[np.float32]:
    """Scores `[n, C]` of all classes from those of the classes that were trained, the others last."""
    if len(trained) == n_classes:
        return scores
    lowest = min(0.0, float(scores.min()) - 1.0) if scores.size and scores.min() < 0 else 0.0
    out = np.full((len(scores), n_classes), lowest, dtype=np.float32)
    out[:, trained] = scores
    return out


def _test_metrics(
    y: npt.NDArray[np.int64],
    guess: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    probabilistic: bool,
) -> dict[str, float]:
    nan = float("nan")
    return {
        "accuracy_test": metrics.accuracy(y, guess),
        "f1_macro_test": metrics.f1_macro(y, guess),
        "auroc_macro_test": metrics.auroc_macro(y, scores) if np.isfinite(scores).all() else nan,
        "ece_test": metrics.expected_calibration_error(y, scores) if probabilistic else nan,
        "chance": metrics.chance_level(y),
    }
