"""Whole runs on local worker processes: a worker killed, interrupted, asked again, asked for more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from probes import ProbeConfig, ProbeProgress, read_predictions, read_results, run_probe
from probes.results.results_folder import TASKS_FOLDER
from tests.conftest import heed_ctrl_c

pytest.importorskip("distributed")
DROP = ["fit_s", "finished_at"]


def config(store: str, out: Path, **changes: Any) -> ProbeConfig:
    """5 layers x 2 labels x (2 seeds x 2 settings of the linear probe)."""
    grid = {"linear": {"learning_rate": [0.01, 0.001], "max_epochs": 5, "batch_size": 32}}
    given = {"classifiers": ("linear",), "labels": ("call", "caller"), "n_seeds": 2, **changes}
    return ProbeConfig(**{"store": store, "out": out, "split": "random", "grid": grid, **given})


def same(a: Path, b: Path) -> None:
    one, two = read_results(a), read_results(b)
    pd.testing.assert_frame_equal(one.drop(columns=DROP), two.drop(columns=DROP))
    by = ["fingerprint", "utterance_id"]
    first, second = (
        read_predictions(p, t).sort_values(by, ignore_index=True) for p, t in ((a, one), (b, two))
    )
    pd.testing.assert_frame_equal(first, second)


def workers() -> list[psutil.Process]:
    """Processes that run tasks: children of the nannies' process, which is this one."""
    return [
        p
        for p in psutil.Process().children(recursive=True)
        if "spawn_main" in " ".join(p.cmdline()) and not p.children()
    ]


@pytest.mark.slow
def test_a_worker_killed_in_mid_run_changes_nothing_and_nothing_is_fitted_twice(
    store: str, tmp_path: Path
) -> None:
    run_probe(config(store, tmp_path / "here"))
    killed: list[int] = []

    def kill_one(progress: ProbeProgress) -> None:
        if progress.n_done == 3 and not killed:
            victim = workers()[0]
            killed.append(victim.pid)
            victim.kill()

    first = run_probe(config(store, tmp_path / "killed", cluster="local:2"), kill_one)
    assert killed
    assert first.n_fitted == 5 * 2 * 4
    same(tmp_path / "here", tmp_path / "killed")

    again = run_probe(config(store, tmp_path / "killed", cluster="local:2"))
    assert (again.n_fitted, again.n_cached) == (0, 40)
    more = run_probe(config(store, tmp_path / "killed", classifiers=("linear", "centroid")))
    assert (more.n_fitted, more.n_cached) == (5 * 2, 40)


@pytest.mark.slow
def test_ctrl_c_leaves_a_state_that_the_named_command_goes_on_from(store: str, tmp_path: Path) -> None:
    out, grid = tmp_path / "out", tmp_path / "grid.yaml"
    grid.write_text("linear: {max_epochs: 300, patience: 300, batch_size: 16}\n")
    asked = ["probe", "--store", store, "--label", "call", "--label", "caller", "--split", "random"]
    asked += ["--classifier", "linear", "--grid", str(grid), "--cluster", "local:2", "-q", "--out", str(out)]
    command = [sys.executable, "-m", "cli", *asked]
    run = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )
    deadline = time.monotonic() + 120
    while not list((out / TASKS_FOLDER).glob("*.parquet")) and time.monotonic() < deadline:
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, stderr = run.communicate(timeout=60)
    assert run.returncode == 130, stderr
    lines = [line for line in stderr.splitlines() if not line.startswith(("leakage:", "note:"))]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("interrupted: what was finished is kept; to go on: ")
    assert lines[0].endswith(" ".join(asked))
    kept = read_results(out)
    assert 0 < len(kept) < 10
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    table = read_results(out)
    assert len(table) == 10
    times = table.set_index("fingerprint")["finished_at"]
    assert (times[kept["fingerprint"]].to_numpy() == kept["finished_at"].to_numpy()).all()
