"""Dask workers as jobs of a batch system, through dask-jobqueue, from a cluster file.

What listens here asks for the run's certificate (`cluster_security`); dashboards listen on loopback only.
"""

from __future__ import annotations

import inspect
import ipaddress
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featurestore.compute.cluster_security import LOOPBACK, PROTOCOL, security_of_jobs
from featurestore.compute.dask_runner import DaskRunner, import_part
from featurestore.compute.memory import USABLE_SHARE, parse_bytes
from featurestore.compute.safe_path import SAFE_PATH_VARIABLE, safe_path
from featurestore.errors import ConfigError, did_you_mean, one_line
from featurestore.printable import printable
from featurestore.untrusted.document_shape import (
    ShapeError,
    by_name,
    either,
    fields,
    many,
    nothing_or,
    number,
    one_of,
    text,
    whole,
    yes_or_no,
)
from featurestore.untrusted.documents import DocumentError, read_yaml_document

# How long a batch system may take to take or refuse the jobs before the run goes on and waits for workers.
SUBMIT_TIMEOUT_S = 60.0
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
_WORD = either("a text or a number", yes_or_no, text, number())
_WORDS = either(
    "a text or a number, a list of texts, or names with values", _WORD, many(text), by_name(_WORD)
)
_LINES = nothing_or(many(text))
# What `_fill_in` and dask-jobqueue reckon with; of further options only that they are plain.
_SHAPE = fields(
    {"jobs": whole(1, 100_000)},
    {
        "cores": whole(1, 100_000),
        "memory": either("a size such as 4GB", text, whole(1)),
        "processes": nothing_or(whole(1, 10_000)),
        **dict.fromkeys(("job_script_prologue", "worker_extra_args", "env_extra", "extra"), _LINES),
        **dict.fromkeys(("job_extra_directives", "job_extra", "job_directives_skip", "header_skip"), _LINES),
    },
)
# Options by which a cluster would listen to everybody.
_OURS = ("security", "protocol")


@contextmanager
def started_jobs(path: Path, thread_variables: Sequence[str]) -> Iterator[DaskRunner]:
    """Submit the jobs of a cluster file, as a runner; leaving the context ends them.

    Args:
        path: the file: ``cluster``, ``jobs``, and options of that class of dask-jobqueue.
        thread_variables: environment variables that each worker gets its share of cores in.

    Raises:
        ConfigError: the file is wrong, or the batch system refuses all jobs.
        DependencyMissing: dask-jobqueue is not installed.
    """
    options = read_cluster_file(path)
    name, jobs = options.pop("cluster"), options.pop("jobs")
    import_part("distributed")
    module, _, class_name = _JOBQUEUE[name].partition(":")
    make = getattr(import_part(module), class_name)
    submit = getattr(make.job_cls, "submit_command", None)
    if submit and shutil.which(submit.split()[0]) is None:
        raise ConfigError(
            f"{path}: cluster {name} submits jobs with {submit.split()[0]!r}, which is not installed "
            "here; run this on a machine of the cluster that submits jobs"
        )
    _check_options(path, options, make)
    processes = options["processes"] = options.get("processes") or 1
    memory = parse_bytes(options["memory"], f"{path}: memory") // processes
    _fill_in(options, name, processes, thread_variables)
    options["scheduler_options"] = _scheduler_options(path, options, make)
    folder = _shared_folder(options, name, make)
    refused: list[Exception] = []
    with (
        safe_path(),
        security_of_jobs(folder, in_shell=name != "local") as security,
        _made(path, _noting_refusals(make, refused), **options, security=security) as cluster,
        import_part("distributed").Client(cluster, set_as_default=False) as client,
    ):
        cluster.scale(jobs=jobs)
        until = time.monotonic() + SUBMIT_TIMEOUT_S
        while len(cluster.workers) < jobs and len(refused) < jobs and time.monotonic() < until:
            time.sleep(0.02)
        if refused:
            _say_refused(f"{path}: {name}", refused, jobs, (submit or name).split()[0])
        waiting = f"{name} may hold the jobs back (Ctrl-C is safe)"
        usable = int(USABLE_SHARE * memory)
        yield DaskRunner(client, jobs * processes, usable, waiting, dashboard_url=_dashboard(cluster))


def _check_options(path: Path, options: Mapping[str, Any], make: Any) -> None:
    """Checked before the cluster is made: an object that fails while it is made is never closed."""
    known = _options_of(make)
    for key in options:
        if key in _OURS:
            raise ConfigError(
                f"{path}: {key}: expected no such key, as connections are always encrypted with certificates "
                "made for the run; leave it out"
            )
        if key not in known:
            hint = did_you_mean(key, known)
            raise ConfigError(f"{path}: {make.__name__} takes no option {key!r}{hint}")
    for key in ("cores", "memory"):
        if key not in options:
            raise ConfigError(f"{path}: expected a key {key!r}, what one job asks for (memory: 4GB)")


def _fill_in(options: dict[str, Any], name: str, processes: int, thread_variables: Sequence[str]) -> None:
    """Add what workers of ours need to the options of the cluster class."""
    threads = max(1, int(options["cores"]) // processes)
    if name != "local":  # whose jobs are one bare command
        prologue = [f"export {v}={threads}" for v in thread_variables]
        prologue.append(f"export {SAFE_PATH_VARIABLE}=1")  # a job starts in the folder it was sent from
        options["job_script_prologue"] = [*prologue, *(options.get("job_script_prologue") or ())]
    # One task at a time in each worker process: the task itself uses the threads. Workers have web servers.
    ours = ["--nthreads", "1", "--no-dashboard", "--dashboard-address", f"{LOOPBACK}:0"]
    options["worker_extra_args"] = [*ours, *(options.get("worker_extra_args") or ())]


def _scheduler_options(path: Path, options: Mapping[str, Any], make: Any) -> dict[str, Any]:
    """Those of the file, else of Dask's configuration; the dashboard on loopback unless they name a place."""
    found = options.get("scheduler_options", _configured(options, make, "scheduler-options"))
    if not isinstance(found, Mapping | None):
        raise ConfigError(f"{path}: scheduler_options: expected a mapping, got {found!r}")
    given = dict(found or {})
    for key in _OURS:
        if key in given:
            raise ConfigError(
                f"{path}: scheduler_options: expected no {key!r} (here or in Dask's jobqueue.yaml), as "
                "connections are always encrypted with certificates made for the run; leave it out"
            )
    return {"dashboard_address": f"{LOOPBACK}:0", **given}


def _shared_folder(options: dict[str, Any], name: str, make: Any) -> Path:
    """Where the workers' certificate lies; takes the option out of `options`."""
    asked = options.pop("shared_temp_directory", None) or _configured(options, make, "shared-temp-directory")
    if asked:
        return Path(os.path.expanduser(os.path.expandvars(str(asked)))).absolute()
    # Jobs on other machines see the current folder, as they see the store.
    return Path(tempfile.gettempdir() if name == "local" else "").absolute()


def _configured(options: Mapping[str, Any], make: Any, setting: str) -> Any:
    """A setting of the user's ``jobqueue.yaml``, which dask-jobqueue would take by itself."""
    section = options.get("config_name") or make.job_cls.default_config_name()
    return import_part("dask.config").get(f"jobqueue.{section}.{setting}", None)


def _say_refused(where: str, refused: Sequence[Exception], jobs: int, command: str) -> None:
    reason = [line for line in str(refused[0]).splitlines() if line.strip()][-1]
    said = f"{where} refused {len(refused)} of {jobs} jobs: {reason}"
    if len(refused) == jobs:
        raise ConfigError(f"{said}; mend the file, or try the same with {command}")
    warnings.warn(printable(said), stacklevel=2)


def _dashboard(cluster: Any) -> str | None:
    """Where the dashboard is: on this machine; Dask would say the address of the scheduler."""
    server = cluster.scheduler.http_server
    if ipaddress.ip_address(server.address).is_unspecified:
        return str(cluster.dashboard_link)
    link: str = import_part("distributed.utils").format_dashboard_link(server.address, server.port)
    return link


def _made(path: Path, make: Any, **options: Any) -> Any:
    """The cluster, or one line where its class cannot do with the options."""
    try:
        return make(**options, protocol=PROTOCOL)
    except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        reason = one_line(error, None)
        raise ConfigError(f"{path}: {make.__name__} cannot be made with these options ({reason})") from error


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
    names: set[str] = set()
    for cls in (*cluster.__mro__, *cluster.job_cls.__mro__):
        if cls.__module__.startswith("dask_jobqueue"):
            names.update(inspect.signature(cls.__init__).parameters)
    # Objects of Python, which no file can hold.
    objects = "job_kwargs scheduler job_cls asynchronous loop scheduler_cls base_class_kwargs"
    return sorted(names - {"self", "args", "kwargs", "kwds", *objects.split()})


def read_cluster_file(path: Path) -> dict[str, Any]:
    """The options of a cluster file, each of the right kind; that the class takes them is checked later.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        options = read_yaml_document(path)
    except DocumentError as error:
        raise ConfigError(f"{path}: cannot read this cluster file: {error}") from error
    if not isinstance(options, Mapping) or "cluster" not in options:
        raise ConfigError(f"{path}: expected a key 'cluster', one of {', '.join(_JOBQUEUE)}")
    out = {str(key): value for key, value in options.items()}
    try:
        one_of(*_JOBQUEUE)(out["cluster"], "cluster")
        out.setdefault("jobs", 1)
        by_name(nothing_or(_WORDS))({k: v for k, v in out.items() if k != "scheduler_options"}, "")
        _SHAPE(out, "")
    except ShapeError as error:
        raise ConfigError(f"{path}: {error}") from error
    return out
