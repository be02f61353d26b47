"""Work handed out: to a process for each device of this machine, or to the workers of a cluster.

Processes share units through claims. Any may be lost: what it had committed stays, its open unit is done
again by another; what was done is read from the ledger.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from extractors.results import ExtractProgress, OnProgress, Outcome, SelfCheck
from extractors.run.clip_tally import Heard
from extractors.run.key_job import KeyJob, draw
from extractors.run.selfcheck import DEFAULT_CLIPS
from extractors.run.worker import (
    CheckTask,
    LoadedModels,
    UnitsReport,
    UnitsTask,
    check_clips,
    check_clips_on_cluster,
    do_units,
    do_units_on_cluster,
)
from featurestore.compute.dask_runner import TaskFailed
from featurestore.compute.safe_path import safe_path
from featurestore.compute.task_runners import Runner, open_runner, threads_per_worker
from featurestore.errors import ProcessLost, UserError
from featurestore.store.ledger import Record, read_ledger
from featurestore.store.plan import Unit

# Units that one task of a cluster holds at most: within a task, writing overlaps with the next unit.
MOST_UNITS = 8
# Tasks for each worker, at least, so that none waits long for the last one.
TASKS_PER_WORKER = 4
# Seconds between two reports of one process.
REPORT_S = 0.3
# How long a process that is done may take to leave.
SHUTDOWN_S = 20.0


def run_distributed(
    jobs: Sequence[KeyJob], *, devices: Sequence[str], cluster: str | None, on_progress: OnProgress | None
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
    todo = [job for job in jobs if job.units]
    before = [read_ledger(job.writer.storage, job.path) for job in todo]
    reports: list[UnitsReport] = []
    notes: list[str] = []
    outcomes: dict[str, Outcome] = {}
    checked: dict[str, SelfCheck] = {}
    run_s = 0.0

    def checks(device: str) -> Iterator[CheckTask]:
        """What is to be checked, once everything is done."""
        for job, old in zip(todo, before, strict=True):
            outcomes[job.path] = _outcome(job, old)
            yield from _check(job, outcomes[job.path], device, run_s)

    if todo and cluster is None:
        tasks = [UnitsTask(parts=tuple(job.part(job.units, device) for job in todo)) for device in devices]
        reports, notes = run_on_devices(tasks, on_progress)
        run_s = time.perf_counter() - began
        models: LoadedModels = {}
        for check in checks(devices[0]):
            checked[check.part.info.path] = check_clips(check, models)
    elif todo:
        with open_runner(cluster) as runner:
            reports = _run_on_cluster(runner, todo, on_progress)
            run_s = time.perf_counter() - began
            planned = list(checks(todo[0].config.device))
            for check, found in runner.map_unordered(check_clips_on_cluster, planned):
                checked[check.part.info.path] = found
    for job in todo:
        heard = Heard()
        for report in reports:
            heard.merge(report.heard.get(job.path, Heard()))
        outcomes[job.path] = replace(
            outcomes[job.path],
            notes=heard.notes(job.policy),
            forward_s=sum(r.forward_s.get(job.path, 0.0) for r in reports),
            run_s=run_s,
            selfcheck=checked.get(job.path),
        )
    said = dict.fromkeys(note for report in reports for note in report.notes)
    return [outcomes.get(job.path, Outcome()) for job in jobs], [*notes, *said]


def _run_on_cluster(
    runner: Runner, jobs: Sequence[KeyJob], on_progress: OnProgress | None
) -> list[UnitsReport]:
    total = sum(u.n_rows for job in jobs for u in job.units)
    done = 0
    reports = []
    for task, report in runner.map_unordered(do_units_on_cluster, _tasks(jobs, runner.n_workers)):
        reports.append(report)
        done += sum(u.n_rows for part in task.parts for u in part.units)
        if on_progress:
            on_progress(ExtractProgress(clips_done=done, clips_total=total, failed=0, audio_s=0.0))
    return reports


def _tasks(jobs: Sequence[KeyJob], n_workers: int) -> list[UnitsTask]:
    """Units in tasks; those of several keys with the same rows stay together."""
    indexes = sorted({unit.index for job in jobs for unit in job.units})
    size = max(1, min(MOST_UNITS, len(indexes) // (TASKS_PER_WORKER * max(1, n_workers))))
    task_of = {index: i // size for i, index in enumerate(indexes)}
    units: dict[int, dict[KeyJob, list[Unit]]] = defaultdict(lambda: defaultdict(list))
    for job in jobs:
        for unit in job.units:
            units[task_of[unit.index]][job].append(unit)
    return [
        UnitsTask(parts=tuple(job.part(us, job.config.device) for job, us in units[task].items()))
        for task in sorted(units)
    ]


def _outcome(job: KeyJob, before: dict[int, Record]) -> Outcome:
    """What was done of a job, by the ledger."""
    ledger = read_ledger(job.writer.storage, job.path)
    done = [(unit, ledger[unit.index]) for unit in job.units if unit.index in ledger]
    known = {index: record.objects for index, record in before.items()}
    return Outcome(
        n_embedded=sum(unit.n_rows for unit, _ in done),
        failed={i: reason for _, record in done for i, reason in record.failed.items()},
        audio_s=sum(record.audio_s for _, record in done),
        n_bytes=sum(
            o.n_bytes
            for unit, record in done
            for name, o in record.objects.items()
            if known.get(unit.index, {}).get(name) != o
        ),
    )


def _check(job: KeyJob, outcome: Outcome, device: str, run_s: float) -> Iterator[CheckTask]:
    """What to check of a job, if anything: clips drawn as a run in one process would draw them."""
    n = DEFAULT_CLIPS if job.config.selfcheck is None else job.config.selfcheck
    ids = [i for u in job.units for i in job.ids(u) if i and i not in outcome.failed]
    drawn = draw(job.writer.info.fingerprint, ids)[:n]
    if drawn:
        units = [u for u in job.units if set(drawn) & set(job.ids(u))]
        yield CheckTask(part=job.part(units, device), utterances=tuple(drawn), run_s=run_s)


@dataclass
class _Child:
    name: str
    process: Any
    messages: Connection
    progress: ExtractProgress | None = None
    is_done: bool = False


def run_on_devices(
    tasks: Sequence[UnitsTask], on_progress: OnProgress | None = None
) -> tuple[list[UnitsReport], list[str]]:
    """Run each task in a process of its own.

    The tasks hold the same units: whichever process comes first takes a unit, and those of a process that
    is lost are taken by the others.

    Returns:
        What the processes reported, and notes on those that were lost.

    Raises:
        UserError: as a process raised it.
        ProcessLost: all were lost.
        TaskFailed: a process failed in another way.
    """
    context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
    children = []
    for task in tasks:
        here, there = context.Pipe(duplex=False)
        process = context.Process(
            target=_child, args=(there, task, threads_per_worker(len(tasks))), daemon=True
        )
        with safe_path():
            process.start()
        there.close()
        children.append(_Child(task.parts[0].device, process, here))
    notes: list[str] = []
    reports: list[UnitsReport] = []
    try:
        while running := [c for c in children if not c.messages.closed]:
            for connection in wait([c.messages for c in running]):
                child = next(c for c in running if c.messages is connection)
                _receive(child, reports, notes)
                if on_progress and (progress := _sum(children)):
                    on_progress(progress)
    finally:
        for child in children:
            if child.is_done:
                child.process.join(SHUTDOWN_S)
            child.process.terminate()
            child.process.join()
    if not any(c.is_done for c in children):
        # What each says of the others holds of none.
        how = ", ".join(f"{c.name}: {_end_of(c.process)}" for c in children)
        raise ProcessLost(
            f"all processes were lost ({how}), most often for want of memory; what they committed is "
            "kept, and the same command goes on"
        )
    return reports, notes


def _receive(child: _Child, reports: list[UnitsReport], notes: list[str]) -> None:
    try:
        kind, content = child.messages.recv()
    except (EOFError, OSError):
        child.messages.close()
        if not child.is_done:
            child.process.join()
            how = _end_of(child.process)
            notes.append(f"the process on {child.name} was lost ({how}); the others did its units")
        return
    if kind == "progress":
        child.progress = content
    elif kind == "done":
        child.is_done = True
        reports.append(content)
    else:
        raise content


def _end_of(process: Any) -> str:
    code = process.exitcode
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _sum(children: Sequence[_Child]) -> ExtractProgress | None:
    known = [c.progress for c in children if c.progress is not None]
    if not known:
        return None
    done = sum(p.clips_done for p in known)
    # Each counts down what the others have done, sooner or later.
    total = max(p.clips_total for p in known)
    return ExtractProgress(
        clips_done=done,
        clips_total=max(done, total),
        failed=sum(p.failed for p in known),
        audio_s=sum(p.audio_s for p in known),
    )


def _child(messages: Connection, task: UnitsTask, n_threads: int) -> None:
    import torch

    # Ctrl-C is the parent's to answer, which ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(n_threads)
    try:
        on_progress = _every(REPORT_S, lambda progress: messages.send(("progress", progress)))
        report = do_units(task, {}, on_progress)
    except UserError as error:
        messages.send(("error", _picklable(error)))
    except Exception as error:
        messages.send(("error", TaskFailed(f"{task.parts[0].device}: {type(error).__name__}: {error}")))
    else:
        messages.send(("done", report))
    messages.close()


def _every(seconds: float, tell: OnProgress) -> OnProgress:
    last = float("-inf")

    def report(progress: ExtractProgress) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds or progress.clips_done == progress.clips_total:
            last = time.monotonic()
            tell(progress)

    return report


def _picklable(error: UserError) -> UserError:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return UserError(str(error))
    return error
