"""`fs study script`: two SLURM jobs of a study, which do what `fs study run` does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from featurestore.compute.batch_system import read_cluster_file
from tests.slurm.controller import slurm as slurm
from tests.studies.conftest import STUDY, fs
from tests.studies.study_run.test_interrupted import untimed

CLUSTER = """\
cluster:
  partition: debug
  time: 00:10:00
  memory: 900M
  options: [--nice=0]
  setup:
    - export PATH="{folder}:$PATH"
    - "export OMP_NUM_THREADS=1"
  extract: {{memory: 1G, gres: "gpu:1"}}
  probe: {{time: 30, cpus: 1}}
  most_at_once: 1
"""


@pytest.fixture
def folder_with_fs(tmp_path: Path) -> Path:
    """A folder with an `fs` of this checkout, for jobs."""
    folder = tmp_path / "bin of mine"
    folder.mkdir()
    (folder / "fs").write_text(
        f'#!/bin/bash\ncd "{Path(__file__).parents[3]}"\nexec "{sys.executable}" -m cli "$@"\n'
    )
    (folder / "fs").chmod(0o755)
    return folder


@pytest.fixture
def script(study: Callable[..., Path], folder_with_fs: Path) -> Callable[..., Path]:
    """Writes the jobs of a study with this cluster section."""

    def make(cluster: str = CLUSTER, *more: str) -> Path:
        file = study(STUDY + cluster.format(folder=folder_with_fs))
        out = file.parent / "jobs of mine"
        result = fs("study", "script", file, "--out", out, *more)
        assert result.exit_code == 0, result.output
        assert "2 array tasks" in result.output
        return out

    return make


def assert_done_as_by_run(folder: Path, logs: str) -> None:
    """The jobs left a report and, score by score, the results that `fs study run` has in one process."""
    by_jobs = untimed(folder / "results")
    assert len(by_jobs) == 12, logs
    assert (folder / "report/index.html").is_file(), logs
    places = {"store": "again.zarr", "results": "again", "report.out": "again report"}
    places = {name: str(folder / place) for name, place in places.items()}
    again = [word for name, place in places.items() for word in ("--set", f"{name}={place}")]
    result = fs("study", "run", folder / "study.yaml", "--quiet", *again)
    assert result.exit_code == 0, result.output
    pd.testing.assert_frame_equal(by_jobs, untimed(folder / "again"))


def test_jobs_ask_for_what_the_file_says(script: Callable[..., Path]) -> None:
    out = script(CLUSTER, "--set", "probings.main.seeds=2")
    extract = (out / "extract.sbatch").read_text().splitlines()
    assert [line.removeprefix("#SBATCH ") for line in extract if line.startswith("#SBATCH")] == [
        "--array=0-1%1",
        "--job-name=study-extract",
        f'--output="{out}/extract-%A_%a.log"',
        "--partition=debug",
        "--time=00:10:00",
        "--mem=1G",
        "--gres=gpu:1",
        "--nice=0",
    ]
    probe = (out / "probe.sbatch").read_text()
    assert "--time=30\n#SBATCH --mem=900M\n#SBATCH --cpus-per-task=1\n" in probe
    assert probe.count("--set probings.main.seeds=2") == 2
    for name in ("extract.sbatch", "probe.sbatch", "submit.sh"):
        subprocess.run(["bash", "-n", out / name], check=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_bodies_of_the_jobs_do_the_study(script: Callable[..., Path], tmp_path: Path) -> None:
    out = script()
    for task in range(2):
        environment = {**os.environ, "SLURM_ARRAY_TASK_ID": str(task)}
        subprocess.run(["bash", out / "extract.sbatch"], env=environment, check=True)
    subprocess.run(["bash", out / "probe.sbatch"], check=True)
    assert_done_as_by_run(tmp_path, "")
    assert fs("study", "probe", tmp_path / "study.yaml", "--quiet").output.startswith("nothing to do")


def test_workers_of_dask_are_a_file_of_their_own(script: Callable[..., Path]) -> None:
    out = script(CLUSTER + "  dask: {{cluster: slurm, jobs: 4, cores: 2, memory: 4GB, queue: cpu}}\n")
    assert read_cluster_file(out / "dask.yaml") == {
        "cluster": "slurm",
        "jobs": 4,
        "cores": 2,
        "memory": "4GB",
        "queue": "cpu",
    }
    assert f"--cluster '{out}/dask.yaml'" in (out / "probe.sbatch").read_text()


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ("cluster: {partition: 'a b'}\n", "cluster.partition: expected one word"),
        ('cluster: {memory: "1G\\n#SBATCH --x"}\n', "cluster.memory: expected one word"),
        ('cluster: {setup: ["a\\nb"]}\n', "cluster.setup[0]: expected one word or line"),
        ("cluster: {partiton: x}\n", "unknown key 'partiton'; did you mean 'partition'?"),
        ("cluster: {dask: {cluster: slrum}}\n", "slrum"),
    ],
)
def test_what_no_job_can_ask_for_is_refused(study: Callable[..., Path], cluster: str, said: str) -> None:
    file = study(STUDY + cluster, n_clips=6)
    result = fs("study", "script", file, "--out", file.parent / "jobs")
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (file.parent / "jobs/submit.sh").exists()


def test_a_script_of_somebody_else_is_not_lost(study: Callable[..., Path]) -> None:
    file = study(n_clips=6)
    (file.parent / "submit.sh").write_text("echo mine\n")
    result = fs("study", "script", file, "--out", file.parent)
    assert result.exit_code == 2
    assert "would be lost" in result.stderr
    assert (file.parent / "submit.sh").read_text() == "echo mine\n"


@pytest.mark.slurm
@pytest.mark.timeout(900)
def test_the_jobs_of_a_study_on_slurm(
    slurm: dict[str, str], script: Callable[..., Path], tmp_path: Path
) -> None:
    out = script(CLUSTER.replace(', gres: "gpu:1"', ""))
    said = subprocess.run([out / "submit.sh"], env=slurm, capture_output=True, text=True, check=True).stdout
    assert said.startswith("extract: job ")
    until = time.monotonic() + 600
    while subprocess.run(["squeue", "-h"], env=slurm, capture_output=True, text=True, check=True).stdout:
        assert time.monotonic() < until, [p.read_text() for p in out.glob("*.log")]
        time.sleep(1)
    logs = {p.name: p.read_text() for p in out.glob("*.log")}
    assert len(logs) == 3, logs
    assert_done_as_by_run(tmp_path, str(logs))
