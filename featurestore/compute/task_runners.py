"""Runners of a list of tasks: this process, local processes, or a Dask cluster.

Work is data: a task is a small picklable value, a function of the package turns it into a result.
What runs it is said by one word, the *cluster spec*:

==================  ============================================================================
None                in this process, one after another
``local[:N]``       N worker processes of this machine (default: one per core)
``tcp://host:port`` a running Dask scheduler; ``tls://`` with the certificates of Dask's configuration
``FILE.yaml``       a batch system through dask-jobqueue: ``cluster: slurm``, ``jobs: N``, and
                    whatever that cluster class takes (``cores``, ``memory``, ``queue``, …)
==================  ============================================================================

What is started here, on this machine or in jobs, takes connections with a certificate of the run only.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeVar

from featurestore.compute.batch_system import read_cluster_file, started_jobs
from featurestore.compute.cluster_security import LOOPBACK, PROTOCOL, configured_security, temporary_security
from featurestore.compute.dask_runner import DaskRunner, import_part, task_error
from featurestore.compute.memory import USABLE_SHARE, worker_bytes
from featurestore.compute.safe_path import safe_path
from featurestore.errors import ConfigError

T = TypeVar("T")
R = TypeVar("R")

CONNECT_TIMEOUT_S = 20.0
# Libraries that start a thread per core unless told otherwise.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Microseconds of CPU time in a period of so many, or "max".
_CGROUP_CPU = "/sys/fs/cgroup/cpu.max"
_SCHEMES = ("tcp://", PROTOCOL)
_FILES = (".yaml", ".yml")
_LOCAL = re.compile(r"local(?::(\d+))?")


class Runner(Protocol):
    """What runs tasks."""

    n_workers: int
    dashboard_url: str | None
    #: What each worker may hold in all; None where it is for the worker to find out.
    memory_bytes: int | None

    def map_unordered(self, fn: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[T, R]]:
        """Yield ``(task, fn(task))`` as they finish.

        Leaving the iteration early, by an error or Ctrl-C too, cancels what has not finished.

        Raises:
            UserError: as a task raised it, with a note that names the task.
            ProcessLost: a task lost its worker too often.
            TaskFailed: a task failed in any other way; the message names it.
        """
        ...


class SerialRunner:
    """This process, in the given order."""

    n_workers = 1
    dashboard_url: str | None = None
    memory_bytes: int | None = None

    def map_unordered(self, fn: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[T, R]]:
        """See `Runner.map_unordered`."""
        for task in tasks:
            try:
                result = fn(task)
            except Exception as error:
                raise task_error(error, task) from error
            yield task, result


def open_runner(spec: str | None, *, timeout_s: float = CONNECT_TIMEOUT_S) -> AbstractContextManager[Runner]:
    """Open what a cluster spec names (see the module); leaving the context closes it.

    Workers of ``local`` and of batch systems share the cores out: each may start
    ``cores // workers`` threads, set in the environment before it imports anything.

    Args:
        spec: The cluster spec.
        timeout_s: How long a scheduler may take to answer.

    Raises:
        ConfigError: the spec names nothing known, or the scheduler does not answer.
        DependencyMissing: Dask's distributed part or dask-jobqueue is not installed.
    """
    check_cluster(spec)
    if spec is None:
        return nullcontext(SerialRunner())
    local = _LOCAL.fullmatch(spec)
    if local is not None:
        return _local(int(local[1]) if local[1] else available_cores())
    if spec.startswith(_SCHEMES):
        return _scheduler(spec, timeout_s)
    return started_jobs(Path(spec), THREAD_VARIABLES)


def check_cluster(spec: str | None) -> None:
    """Raise a `ConfigError` unless `spec` has one of the forms that `open_runner` takes."""
    if spec is None or spec.startswith(_SCHEMES) or spec.endswith(_FILES):
        return
    local = _LOCAL.fullmatch(spec)
    if local is None:
        raise ConfigError(
            f"cluster {spec!r}: expected local, local:N, tcp://host:port or a dask-jobqueue FILE.yaml"
        )
    if local[1] and int(local[1]) < 1:
        raise ConfigError(f"cluster {spec!r}: expected at least one process, such as local:2")


def check_cluster_file(spec: str | None) -> None:
    """Raise a `ConfigError` where `spec` is a cluster file that cannot be one, before anything is written."""
    if spec is not None and spec.endswith(_FILES):
        read_cluster_file(Path(spec))


def available_cores() -> int:
    """Cores this process may use: a batch system or a container may have limited them."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path(_CGROUP_CPU).read_text(encoding="ascii").split()
        return max(1, min(cores, -(-int(quota) // int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no control groups of version 2, or "max"
        return cores


def decoding_threads() -> int:
    """Threads that decode audio unless somebody says otherwise: one per core; eight feed any model."""
    return min(8, available_cores())


def threads_per_worker(n_workers: int) -> int:
    """Threads each of `n_workers` processes of this machine may start."""
    return max(1, available_cores() // n_workers)


@contextmanager
def _local(n_workers: int) -> Iterator[Runner]:
    distributed = import_part("distributed")
    threads = dict.fromkeys(THREAD_VARIABLES, str(threads_per_worker(n_workers)))
    with (
        safe_path(),  # to the end: a lost worker is started again
        _started_without_sigint(
            distributed.LocalCluster,
            n_workers=n_workers,
            threads_per_worker=1,  # one task at a time; its libraries use the threads
            processes=True,
            dashboard_address=f"{LOOPBACK}:0",
            host=LOOPBACK,
            # Other users of this machine reach loopback too.
            security=temporary_security(),
            protocol=PROTOCOL,
            memory_limit=0,  # a task larger than its share must not be killed and tried again
            env=threads,
            # A worker that is stopped or killed in the middle of a task says so at length; what matters of it
            # comes back as the error of its task.
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield DaskRunner(client, n_workers, worker_bytes(n_workers))


def _started_without_sigint(make: Callable[..., Any], **options: Any) -> Any:
    """Start processes that leave Ctrl-C to this one, which stops them in order.

    A terminal sends it to all processes; workers would each print a traceback. What is ignored stays ignored
    in processes started meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        return make(**options)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return make(**options)
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


@contextmanager
def _scheduler(address: str, timeout_s: float) -> Iterator[Runner]:
    distributed = import_part("distributed")
    security = configured_security(address) if address.startswith(PROTOCOL) else None
    found: list[Any] = []

    def connect() -> None:
        try:
            options = {"timeout": timeout_s, "security": security, "set_as_default": False}
            found.append(distributed.Client(address, **options))
        except Exception as error:  # whatever comes of taking a foreign answer for Dask's
            found.append(error)

    # In a thread that may be left behind: what takes the connection and says nothing (a dashboard, a web
    # server) holds the client beyond its own timeout.
    waiting = threading.Thread(target=connect, daemon=True)
    waiting.start()
    waiting.join(timeout_s + 1)
    if not found or isinstance(found[0], Exception):
        raise ConfigError(
            f"cluster {address!r}: no Dask scheduler answered within {timeout_s:g} s; "
            "check the address and port (not the dashboard's), or start one with `dask scheduler`"
        ) from (found[0] if found else None)
    client = found[0]
    with client:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        limits = [w["memory_limit"] for w in workers if w["memory_limit"]]
        memory = int(USABLE_SHARE * min(limits)) if limits else None
        yield DaskRunner(client, len(workers), memory, f"start one with `dask worker {address}`")
