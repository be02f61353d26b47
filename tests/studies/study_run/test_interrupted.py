"""A study that is killed again and again, and its two halves at once: results are those of one quiet run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurestore import open_store
from probes.results.results_folder import read_predictions, read_results
from tests.studies.conftest import STUDY, fs

TEXT = STUDY.replace("unit_rows: 16", "unit_rows: 4").replace("[centroid, lda]", "[centroid, lda, knn]")
BY_FIT = ["model", "classifier", "fold"]
TIMES = ["finished_at", "fit_s"]


def process(*words: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *map(str, words)],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def untimed(results: Path) -> pd.DataFrame:
    """All results but what a probe took, in an order of their own."""
    return read_results(results).drop(columns=TIMES).sort_values("fingerprint", ignore_index=True)


def assert_equal_studies(one: Path, other: Path) -> None:
    tables = [read_results(folder / "results").drop(columns=TIMES) for folder in (one, other)]
    pd.testing.assert_frame_equal(*(t.sort_values(BY_FIT, ignore_index=True) for t in tables))
    said = [
        read_predictions(folder / "results", t).sort_values(
            ["fingerprint", "utterance_id"], ignore_index=True
        )
        for folder, t in zip((one, other), tables, strict=True)
    ]
    pd.testing.assert_frame_equal(*said)
    for model in ("logmel", "mfcc"):
        features = [open_store(folder / "features.zarr").features(model, "tones") for folder in (one, other)]
        assert list(features[0].index["utterance_id"]) == list(features[1].index["utterance_id"])
        np.testing.assert_array_equal(*(f.layer(0).numpy() for f in features))
    for folder in (one, other):
        assert fs("verify", folder / "features.zarr", "--quiet").exit_code == 0


def copied(file: Path, to: Path) -> Path:
    """The same study in another folder, on the same audio."""
    to.mkdir()
    (to / "audio").symlink_to(file.parent / "audio")
    (to / "study.yaml").write_text(file.read_text("utf-8"), "utf-8")
    return to / "study.yaml"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_study_killed_again_and_again_ends_as_if_it_never_was(
    study: Callable[..., Path], tmp_path: Path
) -> None:
    file = study(TEXT)
    quiet = copied(file, tmp_path / "quiet")
    assert fs("study", "run", quiet, "--quiet").exit_code == 0
    rng = np.random.default_rng(0)
    n_killed, patience_s = 0, 4.0
    for _ in range(40):
        run = process("study", "run", file, "--quiet")
        try:
            output = run.communicate(timeout=patience_s * rng.uniform(0.5, 1.5))[0]
        except subprocess.TimeoutExpired:
            os.kill(run.pid, signal.SIGKILL)
            run.communicate()
            n_killed += 1
            patience_s *= 1.15  # it takes its time to load, and has to come on at last
            continue
        assert run.returncode == 0, output
        break
    assert run.returncode == 0
    assert n_killed >= 3
    assert_equal_studies(tmp_path, quiet.parent)
    assert (tmp_path / "report/index.html").is_file()
    assert fs("study", "run", file, "--quiet").output.startswith("nothing to do")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_two_halves_at_once_give_what_one_run_gives(study: Callable[..., Path], tmp_path: Path) -> None:
    file = study(TEXT)
    quiet = copied(file, tmp_path / "quiet")
    assert fs("study", "run", quiet, "--quiet").exit_code == 0
    probe = process("study", "probe", file, "--quiet")
    time.sleep(1)
    extract = process("study", "extract", file, "--quiet")
    said = extract.communicate(timeout=400)[0]
    assert extract.returncode == 0, said
    said = probe.communicate(timeout=400)[0]
    assert probe.returncode == 0, said
    assert "waiting for " in said
    assert_equal_studies(tmp_path, quiet.parent)


@pytest.mark.slow
def test_the_half_that_probes_takes_keys_as_they_complete(
    study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = study()
    assert fs("study", "extract", file, "--quiet", "--only", "model=mfcc").exit_code == 0
    # Without waiting: what is complete, and a line on what is not.
    result = fs("study", "probe", file, "--quiet", "--no-wait")
    assert result.exit_code == 0, result.output
    assert "left out: logmel/tones: not begun" in result.output
    assert set(read_results(tmp_path / "results")["model"]) == {"mfcc"}
    # Waiting: it says for what, and goes on when the other half has made it.
    waited = []

    def other_half(seconds: float) -> None:
        waited.append(seconds)
        fs("study", "extract", file, "--quiet")

    monkeypatch.setattr("studies.terminal.study.time.sleep", other_half)
    result = fs("study", "probe", file, "--quiet")
    assert result.exit_code == 0, result.output
    assert len(waited) == 1
    assert "waiting for logmel/tones (not begun)" in result.output
    assert set(read_results(tmp_path / "results")["model"]) == {"logmel", "mfcc"}


def test_the_half_that_probes_waits_for_labels_too(study: Callable[..., Path], tmp_path: Path) -> None:
    file = study()
    assert fs("study", "extract", file, "--quiet").exit_code == 0
    manifest = tmp_path / "audio/manifest.csv"
    manifest.write_text(manifest.read_text().replace("clip000.wav,a", "clip000.wav,b"))
    result = fs("study", "probe", file, "--quiet", "--no-wait")
    assert result.exit_code == 2
    assert "other labels in the manifest than in the key (kind: 'a' → 'b' in 1 row" in result.output
    assert not (tmp_path / "results").exists()
