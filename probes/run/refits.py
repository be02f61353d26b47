"""Chosen fits made again on all rows that may be used: which, and one task of them in a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from featurestore.errors import ConfigError
from probes.classifiers.interface import FittedProbe, trains_by_epochs
from probes.classifiers.registry import classifier_for
from probes.questions.labelled_rows import OpenKeys
from probes.questions.tasks import ProbeTask
from probes.results.selection import CURVE, chosen_fits
from probes.run.task_worker import Prepared, TaskResult, fit_bundle, prepare, scored


def refit_tasks(tasks: Sequence[ProbeTask], table: pd.DataFrame, refit: str) -> list[ProbeTask]:
    """What is fitted again: of every curve and test fold the fits that validation chose.

    Args:
        tasks: Ordinary ones.
        table: The results of their fits.
        refit: The rows, see `probes.questions.refit`.
    """
    if table.empty:
        return []
    chosen = set(chosen_fits(table)["fingerprint"])
    again = []
    for task in tasks:
        fits = tuple(f for f in task.fits if task.question(f) in chosen)
        if fits and not task.control and not task.curve:
            again.append(replace(task, fits=fits, refit=refit))
    return again


def n_refits(tasks: Sequence[ProbeTask]) -> int:
    """How many fits `refit_tasks` will have, before anything was chosen: a curve's seeds in every fold."""
    return len(
        {
            (*(getattr(task, name) for name in CURVE), task.split_seed, task.fold, fit.seed)
            for task in tasks
            if not task.control and not task.curve
            for fit in task.fits
        }
    )


def run_refit(task: ProbeTask, memory_bytes: int | None = None, keys: OpenKeys | None = None) -> TaskResult:
    """Make the fits of a task again, and score them on what they did not learn from."""
    keys = None if keys is None else keys.of_this_process()
    data, fitted = fit_again(task, memory_bytes, keys)
    result = scored(task, data, fitted)
    ordinary = replace(task, refit="")
    rows = [
        {**row, "n_val": 0, "refit": task.refit, "refit_of": ordinary.question(fit)}
        for row, fit in zip(result.rows, task.fits, strict=True)
    ]
    return replace(result, rows=rows)


def fit_again(
    task: ProbeTask, memory_bytes: int | None = None, keys: OpenKeys | None = None
) -> tuple[Prepared, list[FittedProbe]]:
    """The rows that the fits of a task are made again on, and the fits, in its order.

    What is trained by epochs is fitted as it was first, which says for how many and when its rate was cut.

    Raises:
        ConfigError: a fit says neither.
    """
    classifier = classifier_for(task.classifier, task.combine)
    schedules = []
    if trains_by_epochs(classifier):
        ordinary = replace(task, refit="")
        for fit in fit_bundle(ordinary, prepare(ordinary, memory_bytes, keys)):
            if fit.schedule is None:
                raise ConfigError(
                    f"--refit: classifier {task.classifier} says that it is trained by epochs, and its fits "
                    "do not say for how many"
                )
            schedules.append(fit.schedule)
    data = prepare(task, memory_bytes, keys)
    return data, fit_bundle(task, data, schedules=tuple(schedules))
