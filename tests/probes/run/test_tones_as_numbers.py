"""The frequency of a tone is a number that log-mel energies tell, from sound to score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from click.testing import CliRunner

from cli import main
from probes import read_results
from probes.results.results_folder import read_controls
from probes.results.selection import answers

RATE_HZ, N_CLIPS, N_SESSIONS = 16000, 240, 12


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones from 300 to 5,000 Hz in noise; every session has a level and a noise of its own."""
    folder, rng = tmp_path_factory.mktemp("tones"), np.random.default_rng(0)
    rows, time_s = [], np.arange(RATE_HZ // 4) / RATE_HZ
    for i in range(N_CLIPS):
        session = i % N_SESSIONS
        tone_hz = round(float(300 * (5000 / 300) ** rng.random()), 1)
        level, noise = 0.1 + 0.05 * session, 0.002 + 0.001 * (session % 4)
        sound = level * np.sin(2 * np.pi * tone_hz * time_s) + noise * rng.standard_normal(len(time_s))
        soundfile.write(folder / f"{i:03d}.wav", sound, RATE_HZ, subtype="PCM_16")
        rows.append({"path": f"{i:03d}.wav", "tone_hz": tone_hz, "group": f"session-{session:02d}"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    call(
        "extract", "--manifest", folder / "manifest.csv", "--dataset", "tones", "--model", "logmel",
        "--store", folder / "s.zarr", "--quiet",
    )  # fmt: skip
    return folder / "s.zarr"


def call(*arguments: str | Path) -> str:
    done = CliRunner().invoke(main, [str(a) for a in arguments], env={"COLUMNS": "140"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_a_tone_is_heard_and_a_shuffled_one_is_not(store: Path, tmp_path: Path) -> None:
    shown = call(
        "probe", "--store", store, "--label", "tone_hz", "--task", "regression", "--classifier", "ridge",
        "--classifier", "mlp", "--split", "group-kfold:4", "--control", "shuffled-labels", "--quiet",
        "--out", tmp_path,
    )  # fmt: skip
    found = answers(read_results(tmp_path)).set_index("classifier")
    assert found.loc["ridge", "score_test_mean"] > 0.9
    assert found.loc["mlp", "score_test_mean"] > 0.5  # a few dozen steps
    controls = read_controls(tmp_path)
    chosen = controls.merge(read_results(tmp_path)[["classifier", "hparams"]].drop_duplicates())
    assert chosen.groupby(["classifier", "hparams"])["r2_test"].mean().max() < 0.1
    assert "not defined" not in shown
