"""What of every probing is fitted, and what is left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from featurestore.errors import UserError, one_line
from studies.study_run.requests import ProbeCall
from studies.study_run.scope import Pair

if TYPE_CHECKING:
    from pathlib import Path

    from probes.questions.tasks import ProbeConfig, ProbeTask


@dataclass(frozen=True, kw_only=True)
class ProbingState:
    """One probing: what there is, and what is left.

    Attributes:
        name: of the probing.
        n_done, n_to_do: fits, on the keys that are complete.
        waiting: models and corpora whose keys are not.
        n_waiting: fits on those, at most; None where they cannot be counted yet.
        estimate_s: seconds of the fits to do, by what earlier fits of this probing took in all, else, one
            after the other, by the mean of finished ones of the same classifier; None: unknown.
        problem: why it cannot be fitted, or "".
    """

    name: str
    n_done: int = 0
    n_to_do: int = 0
    waiting: tuple[Pair, ...] = ()
    n_waiting: int | None = 0
    estimate_s: float | None = None
    problem: str = ""


def probing_states(
    calls: Sequence[ProbeCall],
    ready: Collection[Pair],
    rehearsed: Mapping[tuple[str, Pair], int],
    seconds_of_a_fit: Callable[[str], float | None],
) -> list[ProbingState]:
    """Count the fits of every probing; nothing is written.

    Args:
        calls: of `run_probe`.
        ready: keys that are complete.
        rehearsed: fits of probings on keys that are not, where they could be counted.
        seconds_of_a_fit: what a fit of a probing took, by its name; None: none was fitted.
    """
    seconds = _seconds_of_fits(calls[0].config.out) if calls else {}
    found: dict[str, ProbingState] = {}
    for call in calls:
        state = _of_call(call, ready, seconds, seconds_of_a_fit(call.name))
        before = found.get(call.name)
        found[call.name] = state if before is None else _together(before, state)
    return [replace(s, n_waiting=_n_waiting(s, rehearsed)) for s in found.values()]


def _n_waiting(state: ProbingState, rehearsed: Mapping[tuple[str, Pair], int]) -> int | None:
    pairs = dict.fromkeys(state.waiting)
    if any((state.name, pair) not in rehearsed for pair in pairs):
        return None
    return sum(rehearsed[state.name, pair] for pair in pairs)


def on_keys(config: ProbeConfig, ready: Collection[Pair]) -> list[ProbeConfig]:
    """A call, on those of its keys that are ready: one for all of a data set's models."""
    return [
        replace(config, models=models, datasets=(dataset,))
        for dataset in config.datasets
        if (models := tuple(m for m in config.models if (m, dataset) in ready))
    ]


def pairs_of_call(config: ProbeConfig) -> list[Pair]:
    """Models and corpora of a call."""
    return [(m, d) for d in config.datasets for m in config.models]


def _of_call(
    call: ProbeCall, ready: Collection[Pair], seconds: dict[str, float], known: float | None
) -> ProbingState:
    from probes.results.results_folder import TASKS_FOLDER, finished
    from probes.run.probe_plan import make_plan

    config = call.config
    waiting = tuple(p for p in pairs_of_call(config) if p not in ready)
    n_done = n_to_do = 0
    estimate: float | None = 0.0
    for part in [config] if not waiting else on_keys(config, ready):
        try:
            plan = make_plan(part)
            asked = {t.question(f): t.clips for t in plan.tasks for f in t.fits}
            done = finished(config.out, asked) if (config.out / TASKS_FOLDER).is_dir() else set()
        except UserError as error:
            return ProbingState(name=call.name, waiting=waiting, problem=one_line(error, None))
        for task in plan.tasks:
            left = sum(task.question(f) not in done for f in task.fits)
            n_to_do += left
            n_done += len(task.fits) - left
            if left:
                one = seconds.get(task.classifier) if known is None else known
                estimate = None if one is None or estimate is None else estimate + one * left
        if part.refit:
            n_again, left = _refits(part, part.refit, plan.tasks, done)
            n_to_do += left
            n_done += n_again - left
            if left:
                means = [seconds.get(name) if known is None else known for name in part.classifiers]
                # Which classifier's are left is not worth knowing: they are few.
                one = None if None in means else max(m for m in means if m is not None)
                estimate = None if one is None or estimate is None else estimate + one * left
    unknown = bool(waiting) and not n_to_do
    return ProbingState(
        name=call.name,
        n_done=n_done,
        n_to_do=n_to_do,
        waiting=waiting,
        estimate_s=None if unknown else estimate,
    )


def _refits(
    config: ProbeConfig, rows: str, tasks: Sequence[ProbeTask], done: Collection[str]
) -> tuple[int, int]:
    """Fits that are made again: how many there will be, and how many of these are left.

    While one is left that validation chooses among, it is not known which will be made again: then all are.
    """
    from probes.results.results_folder import finished, read_results
    from probes.run.refits import n_refits, refit_tasks

    n = n_refits(tasks)
    asked = {t.question(f) for t in tasks for f in t.fits}
    if asked - set(done):
        return n, n
    table = read_results(config.out)
    again = refit_tasks(tasks, table[table["fingerprint"].isin(asked)], rows)
    there = finished(config.out, {t.question(f): t.clips for t in again for f in t.fits})
    return n, n - len(there)


def _together(a: ProbingState, b: ProbingState) -> ProbingState:
    known = None if a.estimate_s is None or b.estimate_s is None else a.estimate_s + b.estimate_s
    return ProbingState(
        name=a.name,
        n_done=a.n_done + b.n_done,
        n_to_do=a.n_to_do + b.n_to_do,
        waiting=(*a.waiting, *b.waiting),
        estimate_s=known,
        problem=a.problem or b.problem,
    )


def _seconds_of_fits(results: Path) -> dict[str, float]:
    """Mean seconds of a finished fit, by classifier."""
    from probes.results.results_folder import RESULTS_NAME, read_results

    if not (results / RESULTS_NAME).is_file():
        return {}
    table = read_results(results)
    if "fit_s" not in table:
        return {}
    means = table.groupby("classifier")["fit_s"].mean().dropna()
    return {str(name): float(value) for name, value in means.items()}
