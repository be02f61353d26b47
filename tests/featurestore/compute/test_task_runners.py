"""One suite over all runners, and what each cluster spec does."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from featurestore.compute.dask_runner import DaskRunner, TaskFailed
from featurestore.compute.task_runners import (
    THREAD_VARIABLES,
    Runner,
    SerialRunner,
    available_cores,
    open_runner,
    threads_per_worker,
)
from featurestore.errors import ConfigError, ProcessLost, UserError


@pytest.fixture(scope="module")
def local() -> Iterator[DaskRunner]:
    pytest.importorskip("distributed")
    with open_runner("local:2") as runner:
        assert isinstance(runner, DaskRunner)
        yield runner


@pytest.fixture(params=["serial", "local", "scheduler"])
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    if request.param == "serial":
        with open_runner(None) as serial:
            yield serial
        return
    started: DaskRunner = request.getfixturevalue("local")
    if request.param == "local":
        yield started
        return
    # A scheduler of the user's, with certificates of the user's.
    with certificates(started, tmp_path_factory.mktemp("tls")), open_runner(address_of(started)) as connected:
        yield connected


def address_of(runner: DaskRunner) -> str:
    return str(runner.client.scheduler.address)


def certificates(runner: DaskRunner, folder: Path) -> Any:
    """Dask's configuration, naming files with the certificate that `runner` asks for."""
    import dask.config

    security, prefix = runner.client.security, "distributed.comm.tls"
    files = {"ca-file": security.tls_ca_file, "client.cert": security.tls_client_cert}
    files["client.key"] = security.tls_client_key
    for name, text in files.items():
        (folder / name).write_text(text)
    return dask.config.set({f"{prefix}.{name}": str(folder / name) for name in files})


def test_every_task_comes_back_once_with_its_result(runner: Runner) -> None:
    tasks = [5, 3, 8, 3]  # equal tasks are two tasks
    found = sorted(runner.map_unordered(math.factorial, tasks))
    assert found == [(3, 6), (3, 6), (5, 120), (8, 40320)]
    assert list(runner.map_unordered(math.factorial, [])) == []
    assert runner.n_workers == (1 if isinstance(runner, SerialRunner) else 2)


def test_a_failing_task_is_named(runner: Runner) -> None:
    with pytest.raises(TaskFailed, match=r"^-4 failed: ValueError: factorial"):
        list(runner.map_unordered(math.factorial, [1, -4, 2]))
    # and the runner goes on working
    assert list(runner.map_unordered(math.factorial, [4])) == [(4, 24)]


def test_a_users_mistake_stays_one(runner: Runner) -> None:
    def wrong(task: str) -> None:
        raise ConfigError(f"expected better than {task}")

    with pytest.raises(UserError, match=r"^expected better than this") as caught:
        list(runner.map_unordered(wrong, ["this"]))
    assert caught.value.__notes__ == ["in this"]


def test_leaving_early_cancels_the_rest(runner: Runner, tmp_path: Path) -> None:
    n_tasks = 200

    def touch(task: int) -> int:
        (tmp_path / str(task)).touch()
        time.sleep(0.1)
        return task

    def stop_after_one() -> None:
        for _ in runner.map_unordered(touch, range(n_tasks)):
            raise KeyboardInterrupt

    def n_begun() -> int:
        return len(list(tmp_path.iterdir()))

    with pytest.raises(KeyboardInterrupt):
        stop_after_one()
    # A busy scheduler takes its time to hear of it: until none began for a while.
    seen, until = -1, time.monotonic() + 30
    while seen != n_begun() and time.monotonic() < until:
        seen = n_begun()
        time.sleep(0.5)
    assert 1 <= seen < n_tasks / 2
    assert n_begun() == seen


def test_a_lost_workers_task_is_run_again(local: DaskRunner, tmp_path: Path) -> None:
    marker = tmp_path / "died"

    def die_once(task: int) -> int:
        if task == 3 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task * 10

    found = dict(local.map_unordered(die_once, list(range(6))))
    assert marker.exists()
    assert found == {i: i * 10 for i in range(6)}


@pytest.mark.parametrize(("n_lost", "is_found"), [(2, True), (9, False)])
def test_a_result_lost_on_its_way_is_fetched_again(
    local: DaskRunner, monkeypatch: pytest.MonkeyPatch, n_lost: int, is_found: bool
) -> None:
    """A worker may be lost after a task has ended and before its result is here: no task has failed then."""
    from distributed import Future
    from distributed.comm import CommClosedError

    fetch, asked = Future.result, Counter[str]()

    def result(future: Future) -> object:
        asked[future.key] += 1
        if asked[future.key] <= n_lost:
            raise CommClosedError("Broken pipe")
        return fetch(future)

    monkeypatch.setattr(Future, "result", result)
    if is_found:
        assert dict(local.map_unordered(lambda t: t * 10, list(range(3)))) == {0: 0, 1: 10, 2: 20}
        assert set(asked.values()) == {n_lost + 1}
    else:
        with pytest.raises(TaskFailed, match="CommClosedError: Broken pipe"):
            list(local.map_unordered(lambda t: t * 10, list(range(3))))


@pytest.mark.slow
def test_a_worker_ended_for_its_memory_is_an_error_that_names_the_limit() -> None:
    distributed = pytest.importorskip("distributed")
    import dask.config

    def fill_memory(n_bytes: int) -> int:
        held = bytearray(b"x") * n_bytes
        time.sleep(30)
        return len(held)

    options = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.memory.monitor-interval": "20ms",
    }
    with (
        dask.config.set(options),
        distributed.LocalCluster(
            n_workers=1,
            memory_limit="400 MB",
            dashboard_address="127.0.0.1:0",  # None would be port 8787, which another may have
            silence_logs=logging.CRITICAL,
        ) as cluster,
        open_runner(cluster.scheduler_address) as runner,
        pytest.raises(
            ProcessLost,
            match=r"lost in the middle of one task, for going over the memory limit .*, 400 MB; give",
        ),
    ):
        list(runner.map_unordered(fill_memory, [500_000_000]))


def test_workers_lost_otherwise_are_told_as_most_often_for_want_of_memory() -> None:
    worker = SimpleNamespace(address="tcp://127.0.0.1:1", memory_limit=0)
    runner = DaskRunner(SimpleNamespace(dashboard_link=""), 1)
    lost = str(runner._lost(SimpleNamespace(last_worker=worker, allowed_failures=3)))
    assert lost.startswith(
        "4 worker processes were lost, one after the other, in the middle of one task, which is"
    )
    assert "most often for want of memory; give each worker more" in lost


def test_workers_share_the_cores_and_can_import_the_packages(local: DaskRunner) -> None:
    def look(_: int) -> tuple[int, list[str | None], str]:
        import probes

        return os.getpid(), [os.environ.get(v) for v in THREAD_VARIABLES], probes.__name__

    for _, (pid, threads, name) in local.map_unordered(look, [0, 1, 2]):
        assert pid != os.getpid()
        assert threads == [str(threads_per_worker(2))] * len(THREAD_VARIABLES)
        assert name == "probes"
    assert threads_per_worker(10 * available_cores()) == 1


REFUSING = """#!/bin/sh
if [ {takes} = no ] || ! mkdir {folder}/taken 2> /dev/null; then  # of two at once, one makes the folder
    echo "sbatch: error: Batch job submission failed: Invalid account" >&2
    exit 1
fi
echo "Submitted batch job 7"
"""


@pytest.mark.parametrize("takes", ["no", "one"])
def test_jobs_that_the_batch_system_refuses_are_an_error_and_no_wait(
    tmp_path: Path, takes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dask-jobqueue itself would log a traceback and wait for ever."""
    pytest.importorskip("dask_jobqueue")
    file, sbatch = tmp_path / "cluster.yaml", tmp_path / "sbatch"
    file.write_text("cluster: slurm\njobs: 2\ncores: 1\nmemory: 1GB\n")
    sbatch.write_text(REFUSING.format(folder=tmp_path, takes=takes))
    (tmp_path / "scancel").write_text("#!/bin/sh\n")
    for command in (sbatch, tmp_path / "scancel"):
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    reason = "sbatch: error: Batch job submission failed: Invalid account"
    if takes == "no":
        with pytest.raises(ConfigError, match=f"slurm refused 2 of 2 jobs: {reason}"), open_runner(str(file)):
            pass
    else:
        with pytest.warns(UserWarning, match=f"slurm refused 1 of 2 jobs: {reason}"), open_runner(str(file)):
            pass


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_silent_scheduler_times_out_with_its_address() -> None:
    pytest.importorskip("distributed")
    address = f"tcp://127.0.0.1:{closed_port()}"
    with (
        pytest.raises(ConfigError, match=f"'{address}': no Dask scheduler answered within 0.5 s"),
        open_runner(address, timeout_s=0.5),
    ):
        pass


@pytest.mark.slow
def test_waiting_for_workers_is_said_once_and_work_begins_when_one_comes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("featurestore.compute.dask_runner.SAY_WAITING_AFTER_S", 0.3)
    with (
        distributed.LocalCluster(
            n_workers=0, processes=True, dashboard_address="127.0.0.1:0", host="127.0.0.1"
        ) as empty,
        open_runner(empty.scheduler_address) as runner,
    ):
        late = threading.Timer(1.2, lambda: empty.scale(1))
        late.start()
        assert list(runner.map_unordered(math.factorial, [4])) == [(4, 24)]
        late.join()
        said = [r.getMessage() for r in caplog.records if r.name == "featurestore.compute.dask_runner"]
        assert said == [
            f"waiting: no worker has joined yet; start one with `dask worker {empty.scheduler_address}`"
        ]
        caplog.clear()
        monkeypatch.setattr("featurestore.compute.dask_runner.SAY_WAITING_AFTER_S", 0.1)
        assert list(runner.map_unordered(time.sleep, [0.5])) == [(0.5, None)]
        assert not [r for r in caplog.records if r.name == "featurestore.compute.dask_runner"]


@pytest.mark.slow
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_listens_but_is_no_scheduler_times_out_too(answer: bytes) -> None:
    """A dashboard's port, a web server."""
    pytest.importorskip("distributed")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        held: list[socket.socket] = []

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(listener.accept()[0])
                    held[-1].sendall(answer)

        threading.Thread(target=take, daemon=True).start()
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ConfigError, match=f"'{address}': no Dask"), open_runner(address, timeout_s=1):
            pass
        assert time.monotonic() - started < 10
        listener.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


@pytest.mark.parametrize("spec", ["", "locally", "local:", "local:x", "ssh://host", "http://h:1"])
def test_an_unknown_spec_is_named(spec: str) -> None:
    with pytest.raises(ConfigError, match="expected local, local:N, tcp://host:port or"):
        open_runner(spec)


def test_no_process_is_no_cluster() -> None:
    with pytest.raises(ConfigError, match="'local:0': expected at least one process"):
        open_runner("local:0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read this cluster file: no such file"),
        ("jobs: 2", "expected a key 'cluster', one of htcondor, local, lsf"),
        ("- a", "expected a key 'cluster'"),
        ("cluster: [", "cannot read this cluster file: no YAML: line 1"),
        ("cluster: slrm", 'cluster: expected one of .*, got "slrm"'),
        ("cluster: local\njobs: many", 'jobs: expected a whole number from 1 to 100,000, got "many"'),
        ("cluster: local\ncores: four\nmemory: 1GB", 'cores: expected a whole number from 1 .*, got "four"'),
        ("cluster: local\ncores: 1\nmemory: 1GB\nprocesses: 0", "processes: expected a whole number from 1"),
        ("cluster: local\ncores: 1\nmemory: 1GB\nprocesses: x", "processes: expected a whole number from 1"),
        ("cluster: local\ncores: 1\nmemory: lots", "memory: expected a size such as 1.5GB"),
        ("cluster: local\ncores: 1\nmemory: 1GB\njob_script_prologue: module load x", "expected a list"),
        (
            "cluster: local\ncores: 1\nmemory: 1GB\nwalltime: [[1]]",
            "walltime: expected a text or a number",
        ),
        ("cluster: local\ncores: 1\nmemory: 1GB\nasynchronous: true", "takes no option 'asynchronous'"),
        ("a: &a [1]\nb: *a", r"line 2, column 4: expected no alias \(\*name\): write the values out"),
        ("cluster: local\ncores: 1\nmemory: 1GB\ncolour: red", "LocalCluster takes no option 'colour'"),
        ("cluster: local\ncores: 1\nmemry: 1GB", "no option 'memry'; did you mean 'memory'"),
        ("cluster: local\nmemory: 1GB", "expected a key 'cores'"),
        ("cluster: pbs\ncores: 1\nmemory: 1GB", "submits jobs with 'qsub', which is not installed"),
    ],
)
def test_a_wrong_cluster_file_is_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    pytest.importorskip("dask_jobqueue")
    file: Any = tmp_path / "cluster.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught, open_runner(str(file)):
        pass
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
