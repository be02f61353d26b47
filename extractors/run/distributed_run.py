"""A run spread over the devices of this machine, or over a cluster; what was done is read from the ledger.

Any process may be lost: what it had committed stays, its open unit is done again by another.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from extractors.results import Outcome, Progress, SelfCheck
from extractors.run.clip_tally import Heard
from extractors.run.device_processes import run_on_devices
from extractors.run.engine import OnProgress
from extractors.run.key_job import Job, draw
from extractors.run.remote_task import CheckTask, Report, UnitsTask, check_clips, do_units, part_of
from extractors.run.selfcheck import DEFAULT_CLIPS
from featurestore.compute.task_runners import open_runner
from featurestore.store.ledger import Record, read_ledger
from featurestore.store.plan import Unit

# Units that one task of a cluster holds at most: within a task, writing overlaps with the next unit.
MOST_UNITS = 8
# Tasks for each worker, at least, so that none waits long for the last one.
TASKS_PER_WORKER = 4


def run_distributed(
    jobs: Sequence[Job], *, devices: Sequence[str], cluster: str | None, on_progress: OnProgress | None
) -> tuple[list[Outcome], list[str]]:
    """Have the units of these jobs done elsewhere.

    Args:
        jobs: models need not be loaded.
        devices: one process for each, where there is no cluster.
        cluster: cluster spec, see `featurestore.compute.task_runners`.
        on_progress: told as work comes in.

    Returns:
        What was done for each job, and notes on how it went.
    """
    began = time.perf_counter()
    before = [read_ledger(job.writer.storage, job.writer.info.path) for job in jobs]
    todo = [job for job in jobs if job.units]
    notes: list[str] = []
    reports: list[Report] = []
    run_s = 0.0
    checks: dict[Job, SelfCheck] = {}
    if todo and cluster is None:
        reports, notes = run_on_devices(
            [UnitsTask(parts=tuple(part_of(job, job.units, device) for job in todo)) for device in devices],
            on_progress,
        )
        outcomes = _outcomes(jobs, before)
        run_s = time.perf_counter() - began
        for check, job in _checks(todo, jobs, outcomes, devices[0], run_s):
            checks[job] = check_clips(check)
    elif todo:
        with open_runner(cluster) as runner:
            tasks = _tasks(todo, runner.n_workers)
            total = sum(u.n_rows for job in todo for u in job.units)
            done = 0
            for task, report in runner.map_unordered(do_units, tasks):
                reports.append(report)
                done += sum(u.n_rows for part in task.parts for u in part.units)
                if on_progress:
                    on_progress(Progress(clips_done=done, clips_total=total, failed=0, audio_s=0.0))
            outcomes = _outcomes(jobs, before)
            run_s = time.perf_counter() - began
            planned = list(_checks(todo, jobs, outcomes, todo[0].config.device, run_s))
            of = {id(check): job for check, job in planned}
            for check, result in runner.map_unordered(check_clips, [check for check, _ in planned]):
                checks[of[id(check)]] = result
    else:
        outcomes = [Outcome() for _ in jobs]
    for job, outcome in zip(jobs, outcomes, strict=True):
        heard = Heard()
        for report in reports:
            heard.merge(report.heard.get(job.writer.info.path, Heard()))
        outcome.notes = heard.notes(job.policy)
        outcome.selfcheck = checks.get(job)
        outcome.run_s = run_s
        outcome.forward_s = sum(r.forward_s.get(job.writer.info.path, 0.0) for r in reports)
    said = dict.fromkeys(note for report in reports for note in report.notes)
    return outcomes, [*notes, *said]


def _tasks(jobs: Sequence[Job], n_workers: int) -> list[UnitsTask]:
    """Units in tasks; those of several keys with the same rows stay together."""
    by_index: dict[int, list[tuple[Job, Unit]]] = {}
    for job in jobs:
        for unit in job.units:
            by_index.setdefault(unit.index, []).append((job, unit))
    size = max(1, min(MOST_UNITS, len(by_index) // (TASKS_PER_WORKER * max(1, n_workers))))
    indexes = sorted(by_index)
    tasks = []
    for start in range(0, len(indexes), size):
        units: dict[Job, list[Unit]] = {}
        for index in indexes[start : start + size]:
            for job, unit in by_index[index]:
                units.setdefault(job, []).append(unit)
        tasks.append(UnitsTask(parts=tuple(part_of(j, us, j.config.device) for j, us in units.items())))
    return tasks


def _outcomes(jobs: Sequence[Job], before: Sequence[dict[int, Record]]) -> list[Outcome]:
    outcomes = []
    for job, old in zip(jobs, before, strict=True):
        outcome = Outcome()
        ledger = read_ledger(job.writer.storage, job.writer.info.path)
        for unit in job.units:
            record = ledger.get(unit.index)
            if record is None:
                continue
            known = old[unit.index].objects if unit.index in old else {}
            outcome.n_embedded += unit.n_rows
            outcome.failed |= record.failed
            outcome.audio_s += record.audio_s
            outcome.n_bytes += sum(o.n_bytes for name, o in record.objects.items() if known.get(name) != o)
        outcomes.append(outcome)
    return outcomes


def _checks(
    todo: Sequence[Job], jobs: Sequence[Job], outcomes: Sequence[Outcome], device: str, run_s: float
) -> Iterator[tuple[CheckTask, Job]]:
    """What to check of each job: clips drawn as a run in one process would draw them."""
    failed = {id(job): outcome.failed for job, outcome in zip(jobs, outcomes, strict=True)}
    for job in todo:
        n = DEFAULT_CLIPS if job.config.selfcheck is None else job.config.selfcheck
        ids = [i for u in job.units for i in job.ids(u) if i and i not in failed[id(job)]]
        drawn = draw(job.writer.info.fingerprint, ids)[:n]
        if drawn:
            units = [u for u in job.units if set(drawn) & set(job.ids(u))]
            part = part_of(job, units, device)
            yield CheckTask(part=part, utterances=tuple(drawn), run_s=run_s), job
