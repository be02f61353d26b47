"""The pipeline of a process: decode → batches → hidden states → functionals → committed units.

Decoding runs ahead of the models, in threads or in processes that threads wait for; writing runs in a thread
behind them. What is held at any time is bounded by a few batches and two units of each model, whatever the
size of the corpus. Models whose keys hold the same rows in the same units go through each unit side by side
and share its decoded clips; what each computes is what it would compute alone.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np

from extractors.audio.decoders import Decoders
from extractors.audio.policy import AudioPolicy
from extractors.audio.waveform import ClipByPolicy, PreparedClip
from extractors.forward.batching import first_batch
from extractors.forward.embedder import ClipBatch
from extractors.forward.unit_result import UnitResult
from extractors.results import ExtractProgress, OnProgress
from extractors.run.key_job import KeyJob
from featurestore.audio.segment import AudioError
from featurestore.manifest.location import Location
from featurestore.store.claims import WAITING, renewing, work_through
from featurestore.store.plan import Unit

# Batches of every model whose clips are decoded ahead; of a unit, more, until all decoders have work.
BATCHES_AHEAD = 2
TASKS_PER_DECODER = 2
# What one task decodes, at most: clips, and samples at the model's rate (8 s at 16 kHz) where it is several.
TASK_CLIPS = 32
TASK_SAMPLES = 1 << 17


@dataclass(eq=False)
class _Step:
    """Neighbouring rows of one unit that go through one model together."""

    job: KeyJob
    unit: Unit
    rows: range  # positions within the unit
    n_tasks: float  # that its clips are decoded in
    clips: list[Decoding | None]  # none once they were taken
    _stacking: Future[ClipBatch] | None = None

    @property
    def is_last(self) -> bool:
        return self.rows.stop == self.unit.n_rows

    def stack(self, stacking: Executor) -> None:
        """Have its clips put together for a GPU as soon as they are decoded, if it has one."""
        if self._stacking is None and self.job.loaded.stacks:
            self._stacking = stacking.submit(self._take)

    def batch(self) -> ClipBatch:
        """Its clips, once they are there; to be asked for once."""
        stacking, self._stacking = self._stacking, None
        return self._take() if stacking is None else stacking.result()

    def _take(self) -> ClipBatch:
        clips = [None if c is None else c.clip(self.job.policy) for c in self.clips]
        self.clips = []  # they are held no longer than somebody needs them
        return self.job.loaded.stack(clips)


def run_jobs(jobs: Sequence[KeyJob], on_progress: OnProgress | None = None) -> None:
    """Embed and commit the units of these jobs, together with whoever else works on them.

    Args:
        jobs: with their models loaded.
        on_progress: told after every batch.
    """
    for together in _same_rows(jobs):
        _Pipeline(together, jobs, on_progress).run()


def _same_rows(jobs: Sequence[KeyJob]) -> list[list[KeyJob]]:
    """Jobs in groups whose keys hold the same rows, of the same audio, in the same units."""
    groups: list[list[KeyJob]] = []
    for job in jobs:
        group = next((g for g in groups if _alike(job, g[0])), None)
        if group is None:
            groups.append([job])
        else:
            group.append(job)
    return groups


def _alike(a: KeyJob, b: KeyJob) -> bool:
    one, other = a.writer.info, b.writer.info
    return (
        one.shape.unit_rows == other.shape.unit_rows
        and one.segments == other.segments
        and np.array_equal(a.writer.ids, b.writer.ids)
        # Keys may remember other places for utterances that the manifest no longer has.
        and all(_same_place(where, b.where[i]) for i, where in a.where.items() if i in b.where)
    )


def _same_place(a: Location, b: Location) -> bool:
    # NaN stands for an open end; plain Python, as there may be millions.
    return all(x == y or (x != x and y != y) for x, y in zip(a, b, strict=True))


class _Pipeline:
    """Jobs that go through their units side by side, see `run_jobs`."""

    def __init__(self, jobs: Sequence[KeyJob], of: Sequence[KeyJob], on_progress: OnProgress | None) -> None:
        self._jobs = jobs
        self._all = of
        self._on_progress = on_progress
        self._writes: deque[Future[None]] = deque()
        self._choice = jobs[0].decoders
        # Units whose last batch may still be on its way from the device.
        self._complete: dict[KeyJob, UnitResult] = {}

    def run(self) -> None:
        with ExitStack() as stack:
            decoders = stack.enter_context(self._choice.open())
            decoding = stack.enter_context(ThreadPoolExecutor(self._choice.n))
            stacking = stack.enter_context(ThreadPoolExecutor(1))
            writing = stack.enter_context(ThreadPoolExecutor(1))
            for job in self._jobs:
                stack.enter_context(renewing(job.claims))
            try:
                self._embed(self._ahead(self._steps(decoding, decoders), stacking), writing)
            finally:
                decoders.stop()
                decoding.shutdown(wait=False, cancel_futures=True)
        for job in self._jobs:
            job.remarks += decoders.notes()

    def _embed(self, steps: Iterator[_Step | None], writing: ThreadPoolExecutor) -> None:
        results: dict[KeyJob, UnitResult] = {}
        for step in steps:
            if step is WAITING:
                self._finish_units(writing)
                continue
            job = step.job
            if job not in results:
                results[job] = job.begin(step.unit)
            job.embed(step.rows, step.batch(), results[job])
            self._write(job, writing)  # the unit before, which has its last batch now
            if self._on_progress:
                self._on_progress(self._progress())
            if step.is_last:
                # At most one unit of each model is held while the next is computed.
                while len(self._writes) >= len(self._jobs):
                    self._writes.popleft().result()
                self._complete[job] = results.pop(job)
        self._finish_units(writing)

    def _write(self, job: KeyJob, writing: ThreadPoolExecutor) -> None:
        if job in self._complete:
            self._writes.append(writing.submit(job.write, self._complete.pop(job)))

    def _finish_units(self, writing: ThreadPoolExecutor) -> None:
        """Have everything committed that was begun."""
        for job in list(self._complete):
            job.settle()
            self._write(job, writing)
        while self._writes:
            self._writes.popleft().result()

    def _ahead(self, steps: Iterator[_Step | None], stacking: Executor) -> Iterator[_Step | None]:
        """Steps whose clips are being decoded; everything started is handed out before a pause."""
        waiting: deque[_Step] = deque()
        for step in steps:
            if step is WAITING:
                while waiting:
                    yield _first_of(waiting, stacking)
                yield WAITING
                continue
            waiting.append(step)
            while len(waiting) > BATCHES_AHEAD * len(self._jobs) and (
                step.unit is not waiting[0].unit or self._suffice(waiting)
            ):
                yield _first_of(waiting, stacking)
        while waiting:
            yield _first_of(waiting, stacking)

    def _suffice(self, waiting: Sequence[_Step]) -> bool:
        """Whether all decoders have work while the first of these steps is computed."""
        n_tasks = sum(step.n_tasks for step in waiting) / len(self._jobs)
        return n_tasks > TASKS_PER_DECODER * self._choice.n

    def _steps(self, decoding: Executor, decoders: Decoders) -> Iterator[_Step | None]:
        for claimed in work_through([job.work for job in self._jobs]):
            if claimed is WAITING:
                yield WAITING
                continue
            unit, positions = claimed
            jobs = [self._jobs[p] for p in positions]
            load = partial(decoders.load, policies=[job.policy for job in jobs])
            lengths = [job.lengths(unit) for job in jobs]
            tasks = decoding_tasks(lengths[0])
            clips = SharedClips(decoding, jobs[0].audio_of(unit), tasks, load, len(jobs))
            share = [1 / len(task) for task in tasks for _ in task]
            # By first row, so that no model runs ahead of the others by more than a batch.
            batches = [job.batches(own) for job, own in zip(jobs, lengths, strict=True)]
            streams = [[(r.start, i, r) for r in of_job] for i, of_job in enumerate(batches)]
            for _, i, rows in heapq.merge(*streams):
                n_tasks = sum(share[rows.start : rows.stop])
                yield _Step(jobs[i], unit, rows, n_tasks, clips.request(rows))

    def _progress(self) -> ExtractProgress:
        jobs = self._all
        return ExtractProgress(
            clips_done=sum(job.n_clips for job in jobs),
            clips_total=sum(u.n_rows for job in jobs for u in job.units)
            - sum(job.n_rows_by_others for job in jobs),
            failed=sum(len(job.failed) for job in jobs),
            audio_s=sum(job.audio_s for job in jobs),
        )


def _first_of(waiting: deque[_Step], stacking: Executor) -> _Step:
    """The first of these, taken out; the clips of the next are put together while it is computed."""
    first = waiting.popleft()
    for step in (first, *itertools.islice(waiting, 1)):
        step.stack(stacking)
    return first


@dataclass(frozen=True)
class Decoding:
    """A clip that is being decoded, with others: their future, and its place among them."""

    together: Future[list[ClipByPolicy]]
    place: int

    def clip(self, policy: AudioPolicy) -> PreparedClip | AudioError:
        """The clip, once it is there."""
        return self.together.result()[self.place][policy]


def decoding_tasks(lengths: Sequence[int]) -> list[range]:
    """Consecutive rows of a unit that are decoded together.

    Neighbours have nearly one length, and go through the resampler together, whichever batches they are of.

    Args:
        lengths: samples per clip at the model's rate, in row order.
    """
    tasks: list[range] = []
    first = 0
    while first < len(lengths):
        some = lengths[first : first + TASK_CLIPS]
        stop = first + first_batch(some, budget_samples=TASK_SAMPLES, max_clips=TASK_CLIPS)
        tasks.append(range(first, stop))
        first = stop
    return tasks


class SharedClips:
    """Clips of one unit, each decoded once however many models want it.

    A task begins when the first of its clips is asked for. A clip is let go when every model has asked for
    it; models that go through a unit side by side hold a few batches and a task, not the unit.

    Args:
        pool: whose threads call `load`.
        where: audio of every row of the unit, None for a row without an utterance.
        tasks: rows that are decoded together, each in the order in which clips lie in their files.
        load: decodes clips.
        n_models: that will ask.
    """

    def __init__(
        self,
        pool: Executor,
        where: Sequence[Location | None],
        tasks: Sequence[range],
        load: Callable[[Sequence[Location]], list[ClipByPolicy]],
        n_models: int,
    ) -> None:
        self._pool = pool
        self._where = where
        self._load = load
        self._n_models = n_models
        self._tasks = deque(tasks)  # not begun yet
        self._ahead: dict[int, tuple[Decoding, int]] = {}  # row → clip, models still to ask

    def request(self, rows: range) -> list[Decoding | None]:
        """Start decoding for one of the models, or join what another has started."""
        while self._tasks and self._tasks[0].start < rows.stop:
            self._start(self._tasks.popleft())
        return [self._one(row) for row in rows]

    def _start(self, rows: range) -> None:
        places = {row: place for row in rows if (place := self._where[row]) is not None}
        if places:
            together = self._pool.submit(self._load, list(places.values()))
            for i, row in enumerate(places):
                self._ahead[row] = (Decoding(together, i), self._n_models)

    def _one(self, row: int) -> Decoding | None:
        decoding, left = self._ahead.pop(row, (None, 0))
        if decoding is not None and left > 1:
            self._ahead[row] = (decoding, left - 1)
        return decoding
