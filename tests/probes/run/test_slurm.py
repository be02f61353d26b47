"""`fs probe --cluster slurm.yaml` on a real SLURM of one node, which ``tests/slurm/setup.sh`` starts."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from probes import read_results
from probes.results.results_folder import TASKS_FOLDER
from tests.slurm.controller import slurm as slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
CLUSTER = """
cluster: slurm
jobs: 2
cores: 1
memory: 900MB
queue: debug
walltime: "00:10:00"
python: {python}
local_directory: {folder}
log_directory: {folder}
"""


def command(store: str, out: Path, *more: object) -> list[str]:
    asked = [sys.executable, "-m", "cli", "probe", "--store", store, "--label", "call", "--split", "random"]
    return [*asked, "--classifier", "linear", "--seeds", "3", "-q", "--out", str(out), *map(str, more)]


def jobs(env: dict[str, str]) -> list[str]:
    """Ids of the jobs that run."""
    listed = subprocess.run(
        ["squeue", "-h", "-t", "running", "-o", "%i"], env=env, capture_output=True, text=True, check=True
    )
    return listed.stdout.split()


def same(a: Path, b: Path) -> None:
    drop = ["fit_s", "finished_at"]
    pd.testing.assert_frame_equal(read_results(a).drop(columns=drop), read_results(b).drop(columns=drop))


def test_a_run_on_slurm_survives_a_cancelled_job_and_equals_one_here(
    slurm: dict[str, str], store: str, tmp_path: Path
) -> None:
    cluster = tmp_path / "slurm.yaml"
    cluster.write_text(CLUSTER.format(python=sys.executable, folder=tmp_path))
    started = subprocess.Popen(
        command(store, tmp_path / "slurm", "--cluster", cluster),
        env=slurm,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    cancelled, deadline = "", time.monotonic() + 300
    while started.poll() is None and not cancelled and time.monotonic() < deadline:
        finished = list((tmp_path / "slurm" / TASKS_FOLDER).glob("*.parquet"))
        if finished and (running := jobs(slurm)):
            cancelled = running[0]
            subprocess.run(["scancel", "--signal=KILL", "--full", cancelled], env=slurm, check=True)
        time.sleep(0.1)
    _, stderr = started.communicate(timeout=300)
    assert started.returncode == 0, stderr
    assert cancelled, "no job was running when the first result arrived"
    subprocess.run(command(store, tmp_path / "here"), env=slurm, check=True, stdout=subprocess.PIPE)
    same(tmp_path / "slurm", tmp_path / "here")
    assert not jobs(slurm), "jobs are gone with the run"
