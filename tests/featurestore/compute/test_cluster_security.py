"""What we start takes no stranger's connection, and shows its dashboard to this machine only."""

from __future__ import annotations

import asyncio
import json
import math
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from featurestore.compute.dask_runner import DaskRunner
from featurestore.compute.task_runners import open_runner
from featurestore.errors import ConfigError, DependencyMissing

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def local() -> Iterator[DaskRunner]:
    with open_runner("local:1") as runner:
        assert isinstance(runner, DaskRunner)
        yield runner


def answer(address: str, context: ssl.SSLContext | None) -> str:
    """Open a connection as Dask does and ask the other side what it is."""
    from distributed.comm import connect

    async def ask() -> str:
        comm = await connect(address, timeout=1, ssl_context=context, require_encryption=context is not None)
        try:
            await comm.write({"op": "identity", "reply": True})
            return str((await comm.read())["type"])
        finally:
            await comm.close()

    return asyncio.run(ask())


def credulous(security: Any) -> ssl.SSLContext:
    """Of one who takes any certificate of the other side, and shows his own if he has one."""
    context = ssl.create_default_context()
    if security is not None:
        context = security.get_connection_args("client")["ssl_context"]
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.mark.slow
def test_nothing_that_local_starts_takes_a_strangers_connection(local: DaskRunner) -> None:
    """Every user of this machine reaches its loopback."""
    from distributed import Security

    ours = local.client.security.get_connection_args("client")["ssl_context"]
    workers = local.client.scheduler_info(n_workers=-1)["workers"]
    addresses = [local.client.scheduler.address, *workers, *(w["nanny"] for w in workers.values())]
    assert len(addresses) == 3
    for address, kind in zip(addresses, ("Scheduler", "Worker", "Nanny"), strict=True):
        place = address.partition("://")[2]
        assert answer(f"tls://{place}", ours) == kind
        with pytest.raises(OSError, match=r"closed|reset|Timed out"):
            answer(f"tcp://{place}", None)
        for certificate in (None, Security.temporary()):
            with pytest.raises(OSError, match=r"alert|closed|reset|Timed out"):
                answer(f"tls://{place}", credulous(certificate))


@pytest.mark.slow
def test_a_client_without_the_certificate_submits_nothing(local: DaskRunner) -> None:
    from distributed import Client

    place = local.client.scheduler.address.partition("://")[2]
    with pytest.raises(OSError, match=r"closed|reset|Timed out"):
        Client(f"tcp://{place}", timeout=1)
    with (
        pytest.raises(ConfigError, match="no Dask scheduler answered"),
        open_runner(f"tcp://{place}", timeout_s=1),
    ):
        pass
    assert list(local.map_unordered(math.factorial, [4])) == [(4, 24)]  # and it goes on


@pytest.mark.slow
def test_all_that_local_starts_listens_on_loopback(local: DaskRunner) -> None:
    here = psutil.Process()
    opened = [c for p in (here, *here.children(recursive=True)) for c in p.net_connections("inet")]
    listening = {c.laddr.ip for c in opened if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    assert local.dashboard_url is not None
    assert local.dashboard_url.startswith("http://127.0.0.1:")


SCRIPT = """
import json, math, os, sys, urllib.request
from pathlib import Path
from featurestore.compute.task_runners import open_runner

def server(node):
    return node.http_server.address

def modes(place):
    folder = Path(place).parent
    return [oct(p.stat().st_mode & 0o777) for p in (folder, *sorted(folder.iterdir()))]

if __name__ == "__main__":
    with open_runner(sys.argv[1]) as runner:
        said = {"results": list(runner.map_unordered(math.factorial, [3])), "workers": runner.n_workers}
        client = runner.client
        said["web"] = [
            client.run_on_scheduler(lambda dask_scheduler: server(dask_scheduler)),
            *client.run(lambda dask_worker: server(dask_worker)).values(),
        ]
        said["dashboard"] = urllib.request.urlopen(runner.dashboard_url).status
        said["protocols"] = [a.partition("://")[0] for a in (client.scheduler.address, *client.run(str))]
        (key,) = client.run(lambda dask_worker: dask_worker.security.tls_worker_key).values()
        said["key"], said["modes"] = key, modes(key)
        said["holds"] = Path(key).read_text().splitlines()[0]
    said["left"] = Path(key).parent.exists()
    print(json.dumps(said))
"""
# A batch system of one machine: the job script runs in a session of its own, which `scancel` ends.
SBATCH = """#!/bin/sh
cp "$1" {folder}/job.sh  # Dask's is gone when this returns
setsid bash {folder}/job.sh > {folder}/job.log 2>&1 < /dev/null &
echo $! > {folder}/pid
echo "Submitted batch job 7"
"""
SCANCEL = """#!/bin/sh
kill -- -$(cat {folder}/pid)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["local", "slurm"])
def test_a_cluster_file_starts_what_only_the_run_may_reach(tmp_path: Path, name: str) -> None:
    pytest.importorskip("dask_jobqueue")
    tools, shared = tmp_path / "bin", tmp_path / ("shared" if name == "local" else "it's $HOME; shared")
    tools.mkdir()
    shared.mkdir()
    for command, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tools / command).write_text(text.format(folder=tools))
        (tools / command).chmod(0o755)
    file, script = tmp_path / "cluster.yaml", tmp_path / "script.py"
    file.write_text(f"cluster: {name}\njobs: 1\ncores: 1\nmemory: 1GB\nlocal_directory: {tmp_path}\n")
    script.write_text(SCRIPT)
    # In a process of its own: dask-jobqueue's local jobs leave their pipes open.
    options = {} if name == "slurm" else {"DASK_JOBQUEUE__LOCAL__SHARED_TEMP_DIRECTORY": str(shared)}
    done = subprocess.run(
        [sys.executable, str(script), str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=shared,
        env={**os.environ, **options, "PATH": f"{tools}:{os.environ['PATH']}"},
    )
    log = (tools / "job.log").read_text() if (tools / "job.log").exists() else ""
    assert done.returncode == 0, done.stderr + log
    said = json.loads(done.stdout)
    assert (said["results"], said["workers"]) == ([[3, 6]], 1)
    assert said["protocols"] == ["tls", "tls"]
    assert said["web"] == ["127.0.0.1", "127.0.0.1"]
    assert said["dashboard"] == 200
    assert Path(said["key"]).parents[1] == shared
    assert said["modes"] == ["0o700", "0o600", "0o600"]
    assert said["holds"] == "-----BEGIN PRIVATE KEY-----"
    assert not said["left"]
    assert list(shared.iterdir()) == []
    assert "Warning" not in done.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("security: false", "security: expected no such key, as connections are always encrypted"),
        ("protocol: tcp", "protocol: expected no such key"),
        ("scheduler_options: {security: null}", "scheduler_options: expected no 'security'"),
        ("scheduler_options: {protocol: tcp}", "scheduler_options: expected no 'protocol'"),
        ("scheduler_options: 8787", "scheduler_options: expected a mapping, got 8787"),
        ("shared_temp_directory: /nowhere/at/all", "/nowhere/at/all: cannot keep the workers' certificate"),
    ],
)
def test_a_cluster_file_cannot_leave_the_certificates_out(tmp_path: Path, line: str, message: str) -> None:
    pytest.importorskip("dask_jobqueue")
    file = tmp_path / "cluster.yaml"
    file.write_text(f"cluster: local\ncores: 1\nmemory: 1GB\n{line}\n")
    with pytest.raises(ConfigError, match=message) as caught, open_runner(str(file)):
        pass
    assert "\n" not in str(caught.value)


def test_a_tls_address_needs_certificates_that_are_there(tmp_path: Path) -> None:
    import dask.config

    with (
        pytest.raises(ConfigError, match=r"expected certificate files .* set DASK_DISTRIBUTED__COMM__TLS"),
        open_runner("tls://127.0.0.1:9"),
    ):
        pass
    named = {f"distributed.comm.tls.{k}": str(tmp_path / "none.pem") for k in ("ca-file", "client.cert")}
    with (
        dask.config.set(named),
        pytest.raises(ConfigError, match=r"cannot use the certificate files .*No such file"),
        open_runner("tls://127.0.0.1:9"),
    ):
        pass


def test_without_the_certificates_library_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with (
        pytest.raises(DependencyMissing, match=r"needs cryptography: pip install .*\[cluster\]"),
        open_runner("local:1"),
    ):
        pass
