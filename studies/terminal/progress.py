"""Progress on standard error: a live bar in a terminal, a line a minute in a log file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from featurestore.printable import counted, printable
from studies.terminal.screen import Screen

if TYPE_CHECKING:
    from extractors.results import ExtractProgress
    from probes.run.probing import ProbeProgress
    from studies.detection.detection import DetectProgress

LOG_EVERY_S = 60.0
F = TypeVar("F", bound=Callable[..., None])


class _Bar(Progress):
    """A bar; where standard error is no terminal, a plain line now and then, none for short work."""

    def __init__(self) -> None:
        console = Screen(stderr=True)
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description}", style="progress.description", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._logged_at = time.monotonic()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """See `Progress.update`."""
        super().update(task_id, **changes)
        self._log(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """See `Progress.advance`."""
        super().advance(task_id, advance)
        self._log(task_id)

    def _log(self, task_id: TaskID) -> None:
        if not self.disable or time.monotonic() - self._logged_at < LOG_EVERY_S:
            return
        self._logged_at = time.monotonic()
        task = next(t for t in self.tasks if t.id == task_id)
        total = "?" if task.total is None else f"{task.total:.0f}"
        parts = [f"{task.description}: {task.completed:.0f} of {total}", task.fields.get("rate", "")]
        self.console.print(", ".join(p for p in parts if p), soft_wrap=True)


Following = contextlib.AbstractContextManager[F | None]


def extract_progress(*, quiet: bool) -> Following[Callable[[ExtractProgress], None]]:
    """A progress bar with rate and time left, on standard error."""

    def follow(bar: _Bar, task: TaskID) -> Callable[[ExtractProgress], None]:
        def update(progress: ExtractProgress) -> None:
            started = bar.tasks[0].start_time
            elapsed = max(1e-9, bar.get_time() - started) if started is not None else 1e-9
            rate = f"{progress.clips_done / elapsed:.1f} clips/s, {progress.audio_s / elapsed:.1f}× real time"
            if progress.failed:
                rate += f", {progress.failed} failed"
            bar.update(task, total=progress.clips_total, completed=progress.clips_done, rate=rate)

        return update

    return _following("embedding", follow, quiet=quiet)


def detect_progress(*, quiet: bool) -> Following[Callable[[DetectProgress], None]]:
    """A progress bar of seconds of audio, with recordings done and rate, on standard error."""

    def follow(bar: _Bar, task: TaskID) -> Callable[[DetectProgress], None]:
        def update(progress: DetectProgress) -> None:
            started = bar.tasks[0].start_time
            elapsed = max(1e-9, bar.get_time() - started) if started is not None else 1e-9
            rate = f"{progress.recordings_done} of {counted(progress.recordings_total, 'recording')}, "
            rate += f"{progress.audio_s / elapsed:.1f}× real time"
            if progress.failed:
                rate += f", {progress.failed} failed"
            bar.update(task, total=round(progress.total_s), completed=round(progress.audio_s), rate=rate)

        return update

    return _following("detecting (s)", follow, quiet=quiet)


def probe_progress(*, quiet: bool) -> Following[Callable[[ProbeProgress], None]]:
    """A progress bar with fits done, the best score so far of each model, and time left."""

    def follow(bar: _Bar, task: TaskID) -> Callable[[ProbeProgress], None]:
        announced = False

        def update(progress: ProbeProgress) -> None:
            nonlocal announced
            if progress.dashboard_url and not announced:
                bar.console.print(f"Dask dashboard: {progress.dashboard_url}")
                announced = True
            best = ", ".join(f"{m} {100 * u:.1f}" for m, u in sorted(progress.best_uar.items()))
            rate = f"best validation {progress.metric} %: {printable(best)}" if best else ""
            bar.update(task, total=progress.n_fits, completed=progress.n_fits_done, rate=rate)

        return update

    return _following("probing", follow, quiet=quiet)


@contextlib.contextmanager
def counting(what: str, total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Progress of work that tells each step."""
    with _following(what, lambda bar, task: lambda: bar.advance(task), quiet=quiet, total=total) as step:
        yield step or (lambda: None)


def shares_done(what: str, *, quiet: bool) -> Following[Callable[[int, int], None]]:
    """Progress of work that tells how much is done, and of how much."""
    return _following(
        what,
        lambda bar, task: lambda done, total: bar.update(task, completed=done, total=total),
        quiet=quiet,
    )


def stages_done(*, quiet: bool) -> Following[Callable[[str, int, int], None]]:
    """Progress of work in several stages: which one it is in, how much of that is done, and of how much."""

    def follow(bar: _Bar, task: TaskID) -> Callable[[str, int, int], None]:
        stage = ""

        def update(what: str, done: int, total: int) -> None:
            nonlocal stage
            if what != stage:
                bar.reset(task)  # the time left is that of a stage
                stage = what
            bar.update(task, description=printable(what), completed=done, total=total)

        return update

    return _following("", follow, quiet=quiet)


@contextlib.contextmanager
def _following(
    what: str, follow: Callable[[_Bar, TaskID], F], *, quiet: bool, total: int | None = None
) -> Iterator[F | None]:
    """What work calls to move a bar; None where nothing is shown."""
    if quiet:
        yield None
        return
    with _Bar() as bar:
        yield follow(bar, bar.add_task(printable(what), total=total, rate=""))
