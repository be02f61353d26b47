"""Tasks on the workers of a Dask cluster, whose packages are imported where they are used."""

from __future__ import annotations

import importlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from featurestore.errors import DependencyMissing, ProcessLost, UserError
from featurestore.printable import printable

_LOGGER = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")

# A scheduler may start its workers as tasks come, and a batch system may hold jobs back: that is no error.
SAY_WAITING_AFTER_S = 10.0
# How often a result may be lost on its way, each time with the worker that held it.
MOST_FETCHES_AGAIN = 3


class TaskFailed(RuntimeError):
    """A task raised something that is no `UserError`."""


def import_part(module: str) -> Any:
    """Import a module of the ``cluster`` extra.

    Raises:
        DependencyMissing: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DependencyMissing(
            f"running on a cluster needs {module}: pip install 'featurestore-audio[cluster]'"
        ) from error


def task_error(error: Exception, task: object) -> Exception:
    """What to raise of the error of a task: the user's own with a note, any other as `TaskFailed`."""
    if isinstance(error, UserError):
        error.add_note(f"in {task}")
        return error
    return TaskFailed(f"{task} failed: {type(error).__name__}: {error}")


class DaskRunner:
    """A connected `distributed.Client`; lost workers' tasks are run again by the scheduler."""

    def __init__(
        self,
        client: Any,
        n_workers: int,
        memory_bytes: int | None = None,
        waiting: str = "",
        *,
        dashboard_url: str | None = None,
    ) -> None:
        self.client = client
        self.n_workers = n_workers
        self.memory_bytes = memory_bytes
        self.dashboard_url: str | None = dashboard_url or _dashboard(client)
        self._waiting = waiting  # what to say while no worker is there

    def map_unordered(self, fn: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[T, R]]:
        """See `Runner.map_unordered`."""
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        # pure=False: two equal tasks are two tasks, and nothing is remembered between calls.
        pending = {self.client.submit(fn, task, pure=False): task for task in tasks}
        look = threading.Timer(SAY_WAITING_AFTER_S, self._say_if_alone)
        look.daemon = True
        look.start()
        fetched_again: Counter[Any] = Counter()
        try:
            # The client is nobody's default (`set_as_default`): Dask arrays computed beside a run stay here.
            completed = as_completed(list(pending), loop=self.client.loop)
            for future in completed:
                task = pending[future]
                try:
                    result = future.result()
                except KilledWorker as error:
                    raise task_error(self._lost(error), task) from error
                except Exception as error:
                    # The task itself is well: its worker was lost while the result was on its way, and the
                    # scheduler has the task done again.
                    if isinstance(error, OSError) and future.status in ("finished", "pending"):
                        fetched_again[future] += 1
                        if fetched_again[future] <= MOST_FETCHES_AGAIN:
                            completed.add(future)
                            continue
                    raise task_error(error, task) from error
                del pending[future]  # frees the result's memory on the cluster
                yield task, result
        finally:
            look.cancel()
            if pending:
                self.client.cancel(list(pending), force=True)

    def _lost(self, error: Any) -> ProcessLost:
        """What to say of a `KilledWorker`."""
        worker, n = error.last_worker, error.allowed_failures + 1
        lost = (
            "a worker process was lost" if n == 1 else f"{n} worker processes were lost, one after the other,"
        )
        why = "which is most often for want of memory"
        if worker.memory_limit:
            limit = f"the memory limit of a worker, {worker.memory_limit / 1e6:,.0f} MB"
            ended = self.client.get_events("worker-restart-memory")  # by the nanny that watches over a worker
            reached = any(event["worker"] == worker.address for _, event in ended)
            why = f"for going over {limit}" if reached else f"{why} ({limit})"
        return ProcessLost(
            f"{lost} in the middle of one task, {why}; give each worker more (`memory` in a cluster file, "
            "`dask worker --memory-limit`), or start fewer of them"
        )

    def _say_if_alone(self) -> None:
        if not self.client.scheduler_info(n_workers=1)["workers"]:
            _LOGGER.warning("waiting: no worker has joined yet; %s", printable(self._waiting))


def _dashboard(client: Any) -> str | None:
    try:
        link = client.dashboard_link
    except (KeyError, ValueError):
        return None
    return str(link) if link else None
