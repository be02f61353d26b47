"""Plan, run and record probes: `run_probe`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featurestore import open_store
from featurestore.errors import KeyNotFound, LabelError
from featurestore.layers import format_layers, parse_layers
from featurestore.runners import open_runner
from probes import metrics, results
from probes.data import labelled, layer_matrix, question_of, unknown_label
from probes.leak_check import check_splits
from probes.leakage import LeakageReport
from probes.splits import Rows, Split, default_split, iter_splits
from probes.tasks import Fit, ProbeConfig, ProbeTask

if TYPE_CHECKING:
    import numpy.typing as npt

    from featurestore.store import Features, Store

VERSIONS_OF = ("featurestore-audio", "numpy", "pandas", "scikit-learn", "torch", "zarr", "dask")
# results.parquet is rewritten at most this often while tasks finish.
CONSOLIDATE_EVERY_S = 10.0


@dataclass(frozen=True, kw_only=True)
class ProbeProgress:
    """What a progress callback is told: once before the first task, then after each.

    Attributes:
        n_tasks: Tasks to run (cached ones are not counted).
        n_done: Finished ones.
        n_fits: Fits to train.
        n_fits_done: Finished ones.
        n_cached: Fits that were already there.
        best_uar: Best validation UAR so far, by model.
        elapsed_s: Seconds since the first task started.
        task: The task that finished, if any.
        dashboard_url: Dask's dashboard, if there is one.
    """

    n_tasks: int
    n_done: int
    n_fits: int
    n_fits_done: int
    n_cached: int
    best_uar: dict[str, float]
    elapsed_s: float
    task: ProbeTask | None = None
    dashboard_url: str | None = None

    @property
    def left_s(self) -> float | None:
        """Estimated seconds left; None before the first task is done."""
        if self.n_fits_done == 0:
            return None
        return self.elapsed_s / self.n_fits_done * (self.n_fits - self.n_fits_done)


@dataclass(frozen=True, kw_only=True)
class ProbeSummary:
    """What a run did.

    Attributes:
        out: Results folder.
        n_fitted: Fits trained now.
        n_cached: Fits that were already there.
        seconds: Wall time.
        table: Rows of ``results.parquet`` that this configuration asked for.
        best: `probes.results.summarise` of them.
        leakage: What the parts of the splits share, as it was before training.
    """

    out: Path
    n_fitted: int
    n_cached: int
    seconds: float
    table: pd.DataFrame
    best: pd.DataFrame
    leakage: tuple[LeakageReport, ...] = ()


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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All tasks a configuration stands for, and the splits they use."""

    tasks: list[ProbeTask]
    splits: list[dict[str, Any]] = field(default_factory=list)


def run_probe(
    config: ProbeConfig,
    progress: Callable[[ProbeProgress], None] | None = None,
    on_leakage: Callable[[Sequence[LeakageReport]], None] | None = None,
) -> ProbeSummary:
    """Fit every probe that the configuration asks for and that the results do not hold yet.

    Everything is checked before the first fit. Each task's results are on disk as soon as it is
    done; an interrupted run goes on where it stopped.

    Args:
        config: What to fit.
        progress: Told before the first task and after each.
        on_leakage: Told once, before the first fit, what the parts of the splits share.

    Raises:
        UserError: a setting, label, layer, model, data set or split that cannot be.
    """
    started = time.perf_counter()
    plan = make_plan(config)
    results.prepare(config.out)
    asked = {t.question(f) for t in plan.tasks for f in t.fits}
    done = results.finished(config.out) & asked
    tasks = [t for t in (_without(t, done) for t in plan.tasks) if t.fits]
    n_fits = sum(len(t.fits) for t in tasks)
    first_layer: dict[tuple[str, str], int] = {}
    for task in plan.tasks:
        # The layer nearest to the sound: later ones are trained to overlook differences.
        key = (task.model, task.dataset)
        first_layer[key] = min(task.layer, first_layer.get(key, task.layer))
    leakage = check_splits(config.store, plan.splits, first_layer, results.read_splits(config.out))
    results.write_run(config.out, _run_record(config, plan))
    if on_leakage is not None:
        on_leakage(leakage)
    try:
        if tasks:
            _run(config, tasks, n_fits, len(done), progress)
    finally:
        table = results.consolidate(config.out)
    table = table[table["fingerprint"].isin(asked)].reset_index(drop=True)
    return ProbeSummary(
        out=config.out,
        n_fitted=n_fits,
        n_cached=len(done),
        seconds=time.perf_counter() - started,
        table=table,
        best=results.summarise(table),
        leakage=tuple(leakage),
    )


def make_plan(config: ProbeConfig) -> Plan:
    """Check a configuration against its store and list its tasks."""
    store = open_store(config.store)
    keys = _select_keys(store, config)
    features = [store.features(model, dataset) for model, dataset in keys]
    layers = _select_layers(features, config.layers)
    for label in config.labels:
        known = sorted({name for f in features for name in f.label_columns})
        if label not in known:
            raise LabelError(unknown_label(label, known, config.store))
    fits = config.fits()
    plan = Plan(tasks=[])
    for f in features:
        for label in config.labels:
            if label not in f.label_columns:
                continue  # a label of another data set of this call
            found = labelled(f, label, config.split)
            spec = config.split or default_split(found.rows)
            for fold, split in enumerate(iter_splits(spec, found.rows, config.split_seed)):
                digest = found.digest(split)
                plan.splits.append(_describe(f, label, found.rows, split, fold, digest))
                plan.tasks.extend(
                    ProbeTask(
                        store=config.store,
                        model=f.model,
                        dataset=f.dataset,
                        label=label,
                        layer=layer,
                        classifier=classifier,
                        split=spec,
                        split_seed=config.split_seed,
                        fold=fold,
                        data=digest,
                        fits=tuple(fits[classifier]),
                    )
                    for layer in f.layers
                    if layer in layers
                    for classifier in config.classifiers
                )
    return plan


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


def _run(
    config: ProbeConfig,
    tasks: Sequence[ProbeTask],
    n_fits: int,
    n_cached: int,
    progress: Callable[[ProbeProgress], None] | None,
) -> None:
    best: dict[str, float] = {}
    n_done = n_fits_done = 0
    with open_runner(config.cluster) as runner:
        started = consolidated = time.perf_counter()

        def tell(task: ProbeTask | None) -> None:
            if progress is not None:
                progress(
                    ProbeProgress(
                        n_tasks=len(tasks),
                        n_done=n_done,
                        n_fits=n_fits,
                        n_fits_done=n_fits_done,
                        n_cached=n_cached,
                        best_uar=dict(best),
                        elapsed_s=time.perf_counter() - started,
                        task=task,
                        dashboard_url=runner.dashboard_url,
                    )
                )

        tell(None)
        for task, result in runner.map_unordered(run_task, tasks):
            results.write_task(config.out, task.fingerprint, result.rows, result.predictions())
            n_done += 1
            n_fits_done += len(task.fits)
            top = max(row["uar_val"] for row in result.rows)
            best[task.model] = max(top, best.get(task.model, 0.0))
            tell(task)
            if time.perf_counter() - consolidated > CONSOLIDATE_EVERY_S:
                results.consolidate(config.out)
                consolidated = time.perf_counter()


def _without(task: ProbeTask, done: set[str]) -> ProbeTask:
    fits: tuple[Fit, ...] = tuple(f for f in task.fits if task.question(f) not in done)
    return replace(task, fits=fits)


def _select_keys(store: Store, config: ProbeConfig) -> list[tuple[str, str]]:
    keys = store.keys()
    if not keys:
        raise KeyNotFound(f"{config.store}: the store is empty; fill it with `fs extract`")
    for what, asked, known in (
        ("model", config.models, sorted({m for m, _ in keys})),
        ("dataset", config.datasets, sorted({d for _, d in keys})),
    ):
        for name in asked:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise KeyNotFound(
                    f"{what} {name!r}: {config.store} does not hold it, it holds {', '.join(known)}{hint}"
                )
    chosen = [
        (model, dataset)
        for model, dataset in keys
        if (not config.models or model in config.models)
        and (not config.datasets or dataset in config.datasets)
    ]
    if not chosen:
        have = ", ".join(f"{m}/{d}" for m, d in keys)
        raise KeyNotFound(
            f"{config.store}: none of the models asked for has one of the datasets, it holds {have}"
        )
    return chosen


def _select_layers(features: Sequence[Features], spec: str | None) -> set[int]:
    held = {layer for f in features for layer in f.layers}
    if spec is None:
        return held
    asked = set(parse_layers(spec))
    for f in features:
        if not asked & set(f.layers):
            raise KeyNotFound(
                f"layers {spec}: {f.model}/{f.dataset} has none of them, it has {format_layers(f.layers)}"
            )
    lacking = asked - held
    if lacking:
        raise KeyNotFound(
            f"layers {spec}: nothing in this call has layer {format_layers(lacking)}, "
            f"the store has {format_layers(held)}"
        )
    return asked


def _describe(f: Features, label: str, rows: Rows, split: Split, fold: int, digest: str) -> dict[str, Any]:
    """A split as ``_run.json`` shows it."""
    parts = {}
    for name, where in split.parts():
        classes, counts = np.unique(rows.label[where].astype(str), return_counts=True)
        groups = sorted(set(rows.group[where]) - {""})
        parts[name] = {
            "rows": len(where),
            "per_class": dict(zip(classes.tolist(), counts.tolist(), strict=True)),
            "groups": groups,
            "classes_missing": list(split.missing[name]),
        }
    return {
        "model": f.model,
        "dataset": f.dataset,
        "label": label,
        "split": split.name,
        "split_seed": split.seed,
        "fold": fold,
        "rows_left_out": len(rows) - sum(len(where) for _, where in split.parts()),
        "chance": metrics.chance_level(rows.label[split.test].astype(str)),
        "digest": digest,
        "parts": parts,
    }


def _run_record(config: ProbeConfig, plan: Plan) -> dict[str, Any]:
    versions = {}
    for name in VERSIONS_OF:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed as a package"
    return {
        "config": config.to_json(),
        "layers": sorted({t.layer for t in plan.tasks}),
        "versions": versions,
        "chance": {f"{s['dataset']}/{s['label']}": s["chance"] for s in plan.splits},
        "splits": plan.splits,
    }
