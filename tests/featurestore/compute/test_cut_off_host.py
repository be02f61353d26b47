"""A Dask cluster of several hosts, one of which is cut off in the middle of a run: nothing is lost.

The hosts are network namespaces of this machine. They share its disk, so a host that is cut off can still
write: that is worse than a host that is gone, since it may go on with units that others have by then.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from featurestore.backends.storage import LocalStorage, open_storage
from featurestore.store.key import read_key
from featurestore.store.reader import Features
from tests.command_line import good
from tests.featurestore.compute import hosts

pytestmark = pytest.mark.minutes
ROOT = Path(__file__).parents[3]
N_CLIPS = 120
# Seconds until a scheduler believes that a silent worker is gone: minutes by default.
PATIENCE = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "30s"}
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def network() -> Iterator[hosts.Network]:
    pytest.importorskip("distributed")
    if said := hosts.why_not():
        pytest.skip(said)
    with hosts.network(2) as made:
        yield made


def wait_for(what: Callable[[], bool], run: subprocess.Popen[str], most_s: float = 240) -> None:
    until = time.monotonic() + most_s
    while not what():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)


def lost_workers(log: Path) -> set[str]:
    """Addresses of workers that the scheduler gave up while the run was going on.

    Because they showed no life, or because their connection broke: the system decides what is seen first.
    """
    while_it_ran, closed, _ = log.read_text().partition("Remove client ")
    assert closed
    return set(re.findall(r"Remove worker addr: tcp://([\d.]+):", while_it_ran))


def values(storage: LocalStorage) -> dict[str, bytes]:
    """Every shard."""
    names = [n for n, _ in storage.objects("logmel/calls") if "/layer_" in n and "/c/" in n]
    return {n: storage.get(n) or b"" for n in names}


@pytest.mark.timeout(900)
def test_a_host_is_cut_off_in_mid_run(
    clips: Callable[..., Path], tmp_path: Path, network: hosts.Network
) -> None:
    manifest = clips([6000 + 3 * i for i in range(N_CLIPS)])
    common = ["--manifest", manifest, "--dataset", "calls", "--model", "logmel", "--unit-rows", 1]
    common += ["--workers", 1, "--selfcheck", 0, "--quiet"]
    good("extract", *common, "--store", tmp_path / "quiet")
    scheduler = f"tcp://{hosts.HERE}:28786"
    environment = hosts.environment({**PATIENCE, **ONE_THREAD})
    dask = [sys.executable, "-m", "dask"]
    with ExitStack() as started, (tmp_path / "log.txt").open("w") as log:

        def start(command: list[str], host: str | None = None) -> subprocess.Popen[str]:
            options = {"cwd": ROOT, "env": environment, "stdout": log, "stderr": log}
            run = (
                subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload]
                if host is None
                else network.start(host, command, **options)
            )
            started.callback(run.wait)
            started.callback(run.kill)
            return run

        address = ["--host", hosts.HERE, "--port", "28786", "--no-dashboard"]
        start([*dask, "scheduler", *address])
        for host, ip in network.hosts.items():
            worker = ["worker", scheduler, "--host", ip, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
            start([*dask, *worker, "--local-directory", str(tmp_path / host)], host)
        store = open_storage(tmp_path / "store")
        options = [*map(str, common), "--store", str(tmp_path / "store"), "--cluster", scheduler]
        until = time.monotonic() + 240
        while (tmp_path / "log.txt").read_text().count("Registered to:") < len(network.hosts):
            assert time.monotonic() < until, (tmp_path / "log.txt").read_text()
            time.sleep(0.2)
        run = start([sys.executable, "-m", "cli", "extract", *options])
        cut, *_ = network.hosts

        def n_committed() -> int:
            return len(store.children("logmel/calls/ledger/c"))

        wait_for(lambda: n_committed() >= 4, run)
        network.cut_off(cut)
        assert n_committed() < N_CLIPS
        run.wait(timeout=600)
        assert run.returncode == 0, (tmp_path / "log.txt").read_text()
    assert network.hosts[cut] in lost_workers(tmp_path / "log.txt")
    features = Features(store, read_key(store, "logmel", "calls"))
    assert features.n_pending_units == 0
    assert len(features.index) == N_CLIPS
    assert {record.host for record in features.ledger.values()} == {*network.hosts}
    assert values(LocalStorage(tmp_path / "store")) == values(LocalStorage(tmp_path / "quiet"))
    good("verify", tmp_path / "store", "--quiet")
