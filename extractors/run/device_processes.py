"""One process for each device of this machine; they share units through claims, and may be lost."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from extractors.results import Progress
from extractors.run.engine import OnProgress
from extractors.run.remote_task import Report, UnitsTask, do_units
from featurestore.compute.dask_runner import TaskFailed
from featurestore.compute.safe_path import safe_path
from featurestore.compute.task_runners import threads_per_worker
from featurestore.errors import ProcessLost, UserError

# Seconds between two reports of one process.
REPORT_S = 0.3
# How long a process that is done may take to leave.
SHUTDOWN_S = 20.0


@dataclass
class _Child:
    name: str
    process: Any
    messages: Connection
    progress: Progress | None = None
    is_done: bool = False


def run_on_devices(
    tasks: Sequence[UnitsTask], on_progress: OnProgress | None = None
) -> tuple[list[Report], list[str]]:
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
    reports: list[Report] = []
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


def _receive(child: _Child, reports: list[Report], notes: list[str]) -> None:
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


def _sum(children: Sequence[_Child]) -> Progress | None:
    known = [c.progress for c in children if c.progress is not None]
    if not known:
        return None
    done = sum(p.clips_done for p in known)
    # Each counts down what the others have done, sooner or later.
    total = max(p.clips_total for p in known)
    return Progress(
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
        report = do_units(task, _every(REPORT_S, lambda progress: messages.send(("progress", progress))))
    except UserError as error:
        messages.send(("error", _picklable(error)))
    except Exception as error:
        messages.send(("error", TaskFailed(f"{task.parts[0].device}: {type(error).__name__}: {error}")))
    else:
        messages.send(("done", report))
    messages.close()


def _every(seconds: float, tell: OnProgress) -> Callable[[Progress], None]:
    last = float("-inf")

    def report(progress: Progress) -> None:
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
