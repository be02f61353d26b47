"""The study of the paper on miniature corpora: killed again and again, it ends as if it never was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurestore import open_store
from probes.results.results_folder import read_predictions, read_results
from tests.studies.conftest import fs
from tests.studies.study_run.test_interrupted import TIMES
from tests.study_stand_ins import STUDIES, set_options, stand_ins

FILE = STUDIES / "icassp2025.yaml"
N_KILLS = 3  # each costs the start of a run; ten have the same code
OF_PAPER = ("hubert", "wav2vec2", "wavlm", "aves", "wav2vec2-960h")
PUBLISHED = ", ".join(f"published-{name}" for name in OF_PAPER)
CORRECTED = ("corrected calls", "corrected callers", "corrected dogs")
#: Every model is embedded; fewer are probed, in fewer folds, for one epoch.
SMALLER = [
    "extract.selfcheck=0",
    "extract.unit_rows=32",
    "confounds.split=stratified-group-kfold:3",
    "confounds.models=[hubert, logmel]",
    "probings.as published.grid={mlp: {batch_size: [16], keep: [last], max_epochs: [1]}}",
    f"probings.as published.models=[{PUBLISHED}]",
    "probings.as published.labels={imv: [calltype], watkins: [species], dogs: [calltype, sex]}",
    *(f"probings.{name}.seeds=1" for name in CORRECTED),
    *(f"probings.{name}.grid={{mlp: {{max_epochs: [1]}}}}" for name in CORRECTED),
    f"probings.corrected calls.models=[{', '.join(OF_PAPER)}, untrained-hubert, logmel]",
    "probings.corrected calls.labels={imv: [calltype], watkins: [species], dogs: [calltype, sex]}",
    "probings.corrected calls.split=stratified-group-kfold:3",
    "probings.corrected callers.models=[hubert, catch22]",
    "probings.corrected callers.split=stratified-group-kfold:3",
    "probings.corrected dogs.models=[hubert, mfcc]",
    "probings.corrected dogs.split=stratified-kfold:3",
]


def n_files(folder: Path) -> int:
    """How many files a run has written so far; what vanishes while it is counted does not count."""
    return sum(len(names) for _, _, names in os.walk(folder))


def kill_after(words: list[str | Path], folder: Path, n: int) -> bool:
    """Run `fs` and kill it as soon as there are `n` files in a folder; False where it ended before."""
    said = folder.with_suffix(".txt")  # a pipe that nobody reads would hold it up
    with said.open("w") as out:
        call = [sys.executable, "-m", "cli", *map(str, words)]
        run = subprocess.Popen(call, cwd=STUDIES.parent, stdout=out, stderr=subprocess.STDOUT)
        while run.poll() is None and n_files(folder) < n:
            time.sleep(0.02)
        if run.poll() is None:
            os.kill(run.pid, signal.SIGKILL)
        run.wait()
    assert run.returncode in (0, -signal.SIGKILL), said.read_text()
    return run.returncode != 0


def sorted_results(out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The results table and all predictions, in an order of their own."""
    table = read_results(out / "results").drop(columns=TIMES)
    by = ["fingerprint", "utterance_id"]
    said = read_predictions(out / "results", table).sort_values(by, ignore_index=True)
    return table.sort_values("fingerprint", ignore_index=True), said


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_study_of_the_paper_survives_being_killed(tmp_path: Path) -> None:
    pytest.importorskip("pycatch22", reason="catch22 needs an extra that is not installed")
    # Both runs read the same audio and models: only where they write differs.
    words = ["study", "run", FILE, "--quiet", *set_options(SMALLER)]
    quiet, killed = (
        [*words, *stand_ins(FILE, tmp_path / "data", tmp_path / name, n_blocks=1)]
        for name in ("quiet", "killed")
    )
    result = fs(*quiet)
    assert result.exit_code == 0, result.output
    # Moments at random over all of the run, told by what is written: how fast the machine is does not matter.
    moments = np.sort(np.random.default_rng(1).integers(1, n_files(tmp_path / "quiet"), N_KILLS))
    n_killed = sum(kill_after(killed, tmp_path / "killed", int(n)) for n in moments)
    assert n_killed >= N_KILLS - 1
    result = fs(*killed)
    assert result.exit_code == 0, result.output
    for one, other in zip(*map(sorted_results, (tmp_path / "quiet", tmp_path / "killed")), strict=True):
        pd.testing.assert_frame_equal(one, other)
    stores = [open_store(tmp_path / name / "store.zarr") for name in ("quiet", "killed")]
    keys = stores[0].keys()
    assert stores[1].keys() == keys
    for model, corpus in keys:
        one, other = (store.features(model, corpus) for store in stores)
        assert list(one.index["utterance_id"]) == list(other.index["utterance_id"])
        for layer in one.layers:
            np.testing.assert_array_equal(one.layer(layer).numpy(), other.layer(layer).numpy())
    for name in ("index.html", "published.html", "published.csv", "published.md"):
        assert (tmp_path / "killed/report" / name).is_file()
    tables = [pd.read_csv(tmp_path / name / "report/published.csv") for name in ("quiet", "killed")]
    pd.testing.assert_frame_equal(*tables)
    # Four models of which scores are published, three corpora, both halves; and nothing is left to do.
    of_paper = tables[0][tables[0]["published_uar"].notna()]
    assert len(of_paper) == 4 * 3 * 2
    assert fs(*killed).output.startswith("nothing to do")
