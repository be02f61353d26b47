"""Run and record probes: `run_probe`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.apart.subprocess_call import call_apart
from featurestore.backends.storage import MemoryStorage, open_storage
from featurestore.compute.memory import parse_bytes
from featurestore.compute.task_runners import open_runner
from featurestore.store.chosen_keys import ChosenKeys
from featurestore.store.history import read_histories
from featurestore.store.key import KeyInfo
from featurestore.store.writer import package_versions
from probes.leakage.check import check_splits
from probes.leakage.kinds import LeakageReport
from probes.questions.labelled_rows import OpenKeys
from probes.questions.number_questions import require_one_task
from probes.questions.tasks import FitSpec, ProbeConfig, ProbeTask
from probes.results import results_folder
from probes.results.selection import UAR, summarise, validated_by
from probes.results.split_files import SplitFiles, replaced_sentences
from probes.run.curve_worker import run_task
from probes.run.probe_plan import Plan, keys_of, make_plan, open_keys
from probes.run.refits import refit_tasks
from probes.run.task_shares import bundles

if TYPE_CHECKING:
    import pandas as pd

VERSIONS_OF = ("featurestore-audio", "numpy", "pandas", "scikit-learn", "torch", "zarr", "dask")
# results.parquet is rewritten at most this often while tasks finish.
CONSOLIDATE_EVERY_S = 10.0
# From here on planning and the leak check are done in a process of their own: 2 KB a row, most of which a
# process keeps.
ROWS_PLANNED_APART = 200_000


@dataclass(frozen=True, kw_only=True)
class ProbeProgress:
    """What a progress callback is told: once before the first task, then after each.

    Attributes:
        n_tasks: Tasks to run (cached ones are not counted).
        n_done: Finished ones.
        n_fits: Fits to train.
        n_fits_done: Finished ones.
        n_cached: Fits that were already there.
        best_uar: Best validation UAR so far, by model, or what `metric` says.
        elapsed_s: Seconds since the first task started.
        task: The task that finished, if any.
        dashboard_url: Dask's dashboard, if there is one.
        metric: UAR, of label sets mAP, of numbers R².
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
    metric: str = UAR

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
        table: Rows of ``results_folder.parquet`` that this configuration asked for.
        best: `probes.results.selection.summarise` of them.
        leakage: What the parts of the splits share, as it was before training.
    """

    out: Path
    n_fitted: int
    n_cached: int
    seconds: float
    table: pd.DataFrame
    best: pd.DataFrame
    leakage: tuple[LeakageReport, ...] = ()


def run_probe(
    config: ProbeConfig,
    progress: Callable[[ProbeProgress], None] | None = None,
    on_leakage: Callable[[Sequence[LeakageReport]], None] | None = None,
    on_notes: Callable[[Sequence[str]], None] | None = None,
) -> ProbeSummary:
    """Fit every probe that the configuration asks for and that the results do not hold yet.

    Everything is checked before the first fit. Each task's results are on disk as soon as it is
    done; an interrupted run goes on where it stopped.

    Args:
        config: What to fit.
        progress: Told before the first task and after each.
        on_leakage: Told once, before the first fit, what the parts of the splits share.
        on_notes: Told then what else of labels and splits a reader of the scores has to know.

    Raises:
        UserError: a setting, label, layer, model, data set or split that cannot be.
    """
    started = time.perf_counter()
    if config.cluster is None and config.device != "cpu":
        from probes.training.devices import resolve_device

        resolve_device(config.device)  # a GPU that is not there is told before anything is read
    keys = keys_of(config)
    large = _is_large(config.store, keys.infos)
    plan, leakage = call_apart(plan_and_check, config, keys) if large else plan_and_check(config, keys)
    asked = {t.question(f): t.clips for t in plan.tasks for f in t.fits}
    tasks, n_cached = _to_do(config, plan.tasks)
    n_fitted = _n_fits(tasks)
    record = _run_record(config, plan)
    results_folder.write_run(config.out, record)
    if on_leakage is not None:
        on_leakage(leakage)
    if on_notes is not None:
        on_notes(plan.notes)
    try:
        if tasks:
            _run(config, tasks, n_fitted, n_cached, progress)
        if config.refit:
            table = _asked_rows(results_folder.consolidate(config.out), asked)
            tasks, n_there = _to_do(config, refit_tasks(plan.tasks, table, config.refit))
            if tasks:
                _run(config, tasks, _n_fits(tasks), n_there, progress)
            n_fitted, n_cached = n_fitted + _n_fits(tasks), n_cached + n_there
    finally:
        table = results_folder.consolidate(config.out)
    results_folder.mark_finished(config.out, record["config"])
    table = _asked_rows(table, asked)
    return ProbeSummary(
        out=config.out,
        n_fitted=n_fitted,
        n_cached=n_cached,
        seconds=time.perf_counter() - started,
        table=table,
        best=summarise(table),
        leakage=tuple(leakage),
    )


def _to_do(config: ProbeConfig, tasks: Sequence[ProbeTask]) -> tuple[list[ProbeTask], int]:
    """What of tasks is not finished, and how many fits are."""
    asked = {t.question(f): t.clips for t in tasks for f in t.fits}
    done = results_folder.finished(config.out, asked)
    return [t for t in (_without(t, done) for t in tasks) if t.fits], len(done)


def _n_fits(tasks: Sequence[ProbeTask]) -> int:
    return sum(len(t.fits) for t in tasks)


def _asked_rows(table: pd.DataFrame, asked: Collection[str]) -> pd.DataFrame:
    return table[table["fingerprint"].isin(asked)].reset_index(drop=True)


def plan_and_check(config: ProbeConfig, keys: ChosenKeys) -> tuple[Plan, list[LeakageReport]]:
    """Everything before the first fit: tasks, splits, what their parts share.

    Raises:
        UserError: a setting, label, layer, model, data set or split that cannot be.
    """
    opened = open_keys(config.store, keys)
    plan = make_plan(config, opened)
    results_folder.prepare(config.out)
    first_layer: dict[tuple[str, str], int] = {}
    for task in plan.tasks:
        # The layer nearest to the sound: later ones are trained to overlook differences.
        key = (task.model, task.dataset)
        first_layer[key] = min(*task.layers, first_layer.get(key, task.layers[0]))
    earlier = results_folder.read_splits(config.out)
    require_one_task(plan.splits, earlier)
    kept = SplitFiles(config.out, earlier)
    features = {(f.model, f.dataset): f for f in opened[0]}
    reports = check_splits(features, plan.splits, first_layer, earlier, kept, config.out)
    replaced = replaced_sentences(config.out, plan.splits, kept.changes, plan.tasks)
    return replace(plan, notes=[*plan.notes, *replaced], replaced=replaced), reports


def _is_large(store: str, keys: Sequence[KeyInfo]) -> bool:
    """Whether planning takes so much memory that training would miss it."""
    rows = max(sum(segment.n_rows for segment in key.segments) for key in keys)
    # What is in the memory of this process no other sees.
    return rows >= ROWS_PLANNED_APART and not isinstance(open_storage(store), MemoryStorage)


def _run(
    config: ProbeConfig,
    tasks: Sequence[ProbeTask],
    n_fits: int,
    n_cached: int,
    progress: Callable[[ProbeProgress], None] | None,
) -> None:
    best: dict[str, float] = {}
    metric = UAR
    n_done = n_fits_done = 0
    with open_runner(config.cluster) as runner:
        tasks = bundles(tasks, runner.n_workers)
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
                        metric=metric,
                    )
                )

        tell(None)
        memory = parse_bytes(config.memory) if config.memory else runner.memory_bytes
        run = partial(run_task, memory_bytes=memory, keys=OpenKeys())
        for task, result in runner.map_unordered(run, tasks):
            results_folder.write_task(
                config.out,
                task.fingerprint,
                result.rows,
                result.predictions("test"),
                result.predictions("val"),
            )
            n_done += 1
            n_fits_done += len(task.fits)
            if not task.control and not task.curve and not task.refit:
                metric, column = validated_by(result.rows[0])
                top = max(float(row[column]) for row in result.rows)
                best[task.model] = max(top, best.get(task.model, -float("inf")))
            tell(task)
            if time.perf_counter() - consolidated > CONSOLIDATE_EVERY_S:
                results_folder.consolidate(config.out)
                consolidated = time.perf_counter()


def _without(task: ProbeTask, done: set[str]) -> ProbeTask:
    fits: tuple[FitSpec, ...] = tuple(f for f in task.fits if task.question(f) not in done)
    return replace(task, fits=fits)


def _chance(plan: Plan) -> dict[str, float]:
    """Mean over folds of the score of guessing, by data set, label and, where there are several, split."""
    several = len({s["split"] for s in plan.splits}) > 1
    found: dict[str, list[float]] = {}
    for s in plan.splits:
        name = "/".join([s["dataset"], s["label"], *([s["split"]] if several else [])])
        found.setdefault(name, []).append(s["chance"])
    return {name: sum(values) / len(values) for name, values in found.items()}


def _run_record(config: ProbeConfig, plan: Plan) -> dict[str, Any]:
    found = package_versions(VERSIONS_OF)
    versions = {name: found.get(name, "not installed as a package") for name in VERSIONS_OF}
    histories = read_histories(open_storage(config.store), (f"{t.model}/{t.dataset}" for t in plan.tasks))
    return {
        "config": config.to_json(),
        "layers": sorted({layer for t in plan.tasks for layer in t.layers}),
        "versions": versions,
        "chance": _chance(plan),
        "replaced": plan.replaced,
        "splits": plan.splits,
        "untrained": plan.untrained,
        "models": plan.models,
        "extractions": plan.extractions,
        "keys": {path: [c.to_json() for c in calls] for path, calls in histories.items()},
    }
