"""Run a list of tasks in this process, on local processes, or on a Dask cluster.

Work is data: a task is a small picklable value, a function of the package turns it into a result.
What runs it is said by one word, the *cluster spec*:

==================  ============================================================================
None                in this process, one after another
``local[:N]``       N worker processes of this machine (default: one per core)
``tcp://host:port`` a running Dask scheduler
``FILE.yaml``       a batch system through dask-jobqueue: ``cluster: slurm``, ``jobs: N``, and
                    whatever that cluster class takes (``cores``, ``memory``, ``queue``, …)
==================  ============================================================================
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from featurestore.errors import ConfigError, DependencyMissing, UserError, did_you_mean
from featurestore.memory import USABLE_SHARE, parse_bytes, worker_bytes
from featurestore.safe_path import SAFE_PATH_VARIABLE, safe_path

_LOGGER = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")

CONNECT_TIMEOUT_S = 20.0
# How long a batch system may take to take or refuse the jobs before the run goes on and waits for workers.
SUBMIT_TIMEOUT_S = 60.0
# A scheduler may start its workers as tasks come, and a batch system may hold jobs back: that is no error.
SAY_WAITING_AFTER_S = 10.0
# Libraries that start a thread per core unless told otherwise.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Name in a cluster file -> class of dask-jobqueue. `local` starts the jobs on this machine: a trial
# of a cluster file without a batch system.
_JOBQUEUE = {
    "htcondor": "dask_jobqueue:HTCondorCluster",
    "local": "dask_jobqueue.local:LocalCluster",
    "lsf": "dask_jobqueue:LSFCluster",
    "moab": "dask_jobqueue:MoabCluster",
    "oar": "dask_jobqueue:OARCluster",
    "pbs": "dask_jobqueue:PBSCluster",
    "sge": "dask_jobqueue:SGECluster",
    "slurm": "dask_jobqueue:SLURMCluster",
}
_SCHEMES = ("tcp://", "tls://")
_LOCAL = re.compile(r"local(?::(\d+))?")


class TaskFailed(RuntimeError):
    """A task raised something that is no `UserError`, or lost its worker too often."""


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
                raise _named(error, task) from error
            yield task, result


class DaskRunner:
    """A connected `distributed.Client`; lost workers' tasks are run again by the scheduler."""

    def __init__(
        self, client: Any, n_workers: int, memory_bytes: int | None = None, waiting: str = ""
    ) -> None:
        self.client = client
        self.n_workers = n_workers
        self.memory_bytes = memory_bytes
        self.dashboard_url: str | None = _dashboard(client)
        self._waiting = waiting  # what to say while no worker is there

    def map_unordered(self, fn: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[T, R]]:
        """See `Runner.map_unordered`."""
        from distributed import as_completed

        # pure=False: two equal tasks are two tasks, and nothing is remembered between calls.
        pending = {self.client.submit(fn, task, pure=False): task for task in tasks}
        look = threading.Timer(SAY_WAITING_AFTER_S, self._say_if_alone)
        look.daemon = True
        look.start()
        try:
            for future in as_completed(list(pending)):
                task = pending[future]
                try:
                    result = future.result()
                except Exception as error:
                    raise _named(error, task) from error
                del pending[future]  # frees the result's memory on the cluster
                yield task, result
        finally:
            look.cancel()
            if pending:
                self.client.cancel(list(pending), force=True)

    def _say_if_alone(self) -> None:
        if not self.client.scheduler_info(n_workers=1)["workers"]:
            _LOGGER.warning("waiting: no worker has joined yet; %s", self._waiting)


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
        return _serial()
    local = _LOCAL.fullmatch(spec)
    if local is not None:
        return _local(int(local[1]) if local[1] else available_cores())
    if spec.startswith(_SCHEMES):
        return _scheduler(spec, timeout_s)
    return _batch_system(Path(spec))


def check_cluster(spec: str | None) -> None:
    """Raise a `ConfigError` unless `spec` has one of the forms that `open_runner` takes."""
    if spec is None or spec.startswith(_SCHEMES) or spec.endswith((".yaml", ".yml")):
        return
    local = _LOCAL.fullmatch(spec)
    if local is None:
        raise ConfigError(
            f"cluster {spec!r}: expected local, local:N, tcp://host:port or a dask-jobqueue FILE.yaml"
        )
    if local[1] and int(local[1]) < 1:
        raise ConfigError(f"cluster {spec!r}: expected at least one process, such as local:2")


def available_cores() -> int:
    """Cores this process may use (which a batch system may have limited)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_per_worker(n_workers: int) -> int:
    """Threads each of `n_workers` processes of this machine may start."""
    return max(1, available_cores() // n_workers)


@contextmanager
def _serial() -> Iterator[Runner]:
    yield SerialRunner()


@contextmanager
def _local(n_workers: int) -> Iterator[Runner]:
    distributed = _import("distributed")
    threads = dict.fromkeys(THREAD_VARIABLES, str(threads_per_worker(n_workers)))
    with (
        safe_path(),  # to the end: a lost worker is started again
        _started_without_sigint(
            distributed.LocalCluster,
            n_workers=n_workers,
            threads_per_worker=1,  # one task at a time; its libraries use the threads
            processes=True,
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            memory_limit=0,  # a task larger than its share must not be killed and tried again
            env=threads,
            # A worker that is stopped or killed in the middle of a task says so at length; what matters of it
            # comes back as the error of its task.
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
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
    distributed = _import("distributed")
    found: list[Any] = []

    def connect() -> None:
        try:
            found.append(distributed.Client(address, timeout=timeout_s))
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


@contextmanager
def _batch_system(path: Path) -> Iterator[Runner]:
    options = _read_cluster_file(path)
    name, jobs = options.pop("cluster"), options.pop("jobs")
    distributed = _import("distributed")
    module, _, class_name = _JOBQUEUE[name].partition(":")
    make = getattr(_import(module), class_name)
    submit = getattr(make.job_cls, "submit_command", None)
    if submit and shutil.which(submit.split()[0]) is None:
        raise ConfigError(
            f"{path}: cluster {name} submits jobs with {submit.split()[0]!r}, which is not installed "
            "here; run this on a machine of the cluster that submits jobs"
        )
    # Checked here: a cluster object that fails while it is made is never closed.
    known = _options_of(make)
    for key in options:
        if key not in known:
            hint = did_you_mean(key, known)
            raise ConfigError(f"{path}: {class_name} takes no option {key!r}{hint}")
    for key in ("cores", "memory"):
        if key not in options:
            raise ConfigError(f"{path}: expected a key {key!r}, what one job asks for (memory: 4GB)")
    processes = options.setdefault("processes", 1)
    threads = max(1, int(options["cores"]) // int(processes))
    if name != "local":  # whose jobs are one bare command
        prologue = [f"export {v}={threads}" for v in THREAD_VARIABLES]
        prologue.append(f"export {SAFE_PATH_VARIABLE}=1")  # a job starts in the folder it was sent from
        options["job_script_prologue"] = [*prologue, *options.get("job_script_prologue", ())]
    # One task at a time in each worker process: the task itself uses the threads.
    options["worker_extra_args"] = ["--nthreads", "1", *options.get("worker_extra_args", ())]
    refused: list[Exception] = []
    cluster = _noting_refusals(make, refused)(**options)
    with safe_path(), cluster, distributed.Client(cluster) as client:
        cluster.scale(jobs=jobs)
        until = time.monotonic() + SUBMIT_TIMEOUT_S
        while len(cluster.workers) < jobs and len(refused) < jobs and time.monotonic() < until:
            time.sleep(0.02)
        if refused:
            reason = [line for line in str(refused[0]).splitlines() if line.strip()][-1]
            said = f"{path}: {name} refused {len(refused)} of {jobs} jobs: {reason}"
            if len(refused) == jobs:
                raise ConfigError(
                    f"{said}; mend the file, or try the same with {(submit or name).split()[0]}"
                )
            warnings.warn(said, stacklevel=2)
        memory = parse_bytes(options["memory"], f"{path}: memory") // int(processes)
        waiting = f"{name} may hold the jobs back (Ctrl-C is safe)"
        yield DaskRunner(client, jobs * int(processes), int(USABLE_SHARE * memory), waiting)


def _noting_refusals(make: Any, refused: list[Exception]) -> Any:
    """The cluster class, with jobs that note why they were not taken.

    dask-jobqueue logs it, with a traceback, and then waits for workers that never come.
    """
    from distributed.deploy.spec import ProcessInterface

    class Job(make.job_cls):  # type: ignore[misc]
        async def start(self) -> None:
            try:
                await super().start()
            except (RuntimeError, ValueError, OSError) as error:
                refused.append(error)
                await ProcessInterface.start(self)  # counts as started: there is nothing to wait for

        async def close(self) -> None:
            await super().close()
            await ProcessInterface.close(self)

    return type(make.__name__, (make,), {"job_cls": Job})


def _options_of(cluster: Any) -> list[str]:
    """Names of the options that a dask-jobqueue cluster class and its jobs take."""
    import inspect

    names: set[str] = set()
    for cls in (*cluster.__mro__, *cluster.job_cls.__mro__):
        if cls.__module__.startswith("dask_jobqueue"):
            names.update(inspect.signature(cls.__init__).parameters)
    return sorted(names - {"self", "args", "kwargs", "kwds", "job_kwargs", "scheduler", "job_cls"})


def _read_cluster_file(path: Path) -> dict[str, Any]:
    yaml = _import("yaml")
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read this cluster file: {error.strerror}") from error
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise ConfigError(f"{path}: expected YAML, got something else: {where}") from error
    if not isinstance(options, Mapping) or "cluster" not in options:
        raise ConfigError(f"{path}: expected a key 'cluster', one of {', '.join(_JOBQUEUE)}")
    out = {str(key): value for key, value in options.items()}
    if out["cluster"] not in _JOBQUEUE:
        got = out["cluster"]
        raise ConfigError(f"{path}: cluster: expected one of {', '.join(_JOBQUEUE)}, got {got!r}")
    jobs = out.setdefault("jobs", 1)
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise ConfigError(f"{path}: jobs: expected a whole number of at least 1, got {jobs!r}")
    return out


def _import(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DependencyMissing(
            f"running on a cluster needs {module}: pip install 'featurestore-audio[cluster]'"
        ) from error


def _dashboard(client: Any) -> str | None:
    try:
        link = client.dashboard_link
    except (KeyError, ValueError):
        return None
    return str(link) if link else None


def _named(error: Exception, task: object) -> Exception:
    if isinstance(error, UserError):
        error.add_note(f"in {task}")
        return error
    return TaskFailed(f"{task} failed: {type(error).__name__}: {error}")
