"""The study of the paper on miniature corpora: killed again and again, it ends as if it never was."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurestore import open_store
from featurestore.backends.storage import open_storage
from probes.results.results_folder import read_predictions
from tests.featurestore.conftest import s3_server as s3_server
from tests.featurestore.conftest import s3_url as s3_url
from tests.studies.conftest import fs
from tests.studies.study_run.test_interrupted import untimed
from tests.study_stand_ins import STUDIES, set_options, stand_ins

FILE = STUDIES / "icassp2025.yaml"
# How often each run is killed, and what its moments are drawn by: STUDY_KILLS=10 STUDY_KILLS_SEED=7 pytest …
# Each costs the start of a run. Without, as in CI, there are few. Models are few and the corpus one, but with
# STUDY_WHOLE=1, which takes an hour of two cores.
N_KILLS = int(os.environ.get("STUDY_KILLS", "2"))
PART = ("--only", "model=published-hubert,hubert,logmel", "--only", "corpus=imv")
ONLY = () if "STUDY_WHOLE" in os.environ else PART
SEED = int(os.environ.get("STUDY_KILLS_SEED", "1"))
POLL_S = 0.05
OF_PAPER = ("hubert", "wav2vec2")
PUBLISHED = ", ".join(f"published-{name}" for name in OF_PAPER)
CORRECTED = ("corrected calls", "corrected callers", "corrected dogs")
LABELS = "{imv: [calltype], watkins: [species], dogs: [calltype]}"
#: Every model is embedded; few are probed, in fewer folds, for one epoch.
SMALLER = [
    "extract.selfcheck=0",
    "extract.unit_rows=32",
    "confounds.split=stratified-group-kfold:3",
    "confounds.models=[logmel]",
    "confounds.labels={imv: [calltype]}",
    "probings.as published.grid={mlp: {batch_size: [16], keep: [last], max_epochs: [1]}}",
    f"probings.as published.models=[{PUBLISHED}]",
    f"probings.as published.labels={LABELS}",
    *(f"probings.{name}.seeds=1" for name in CORRECTED),
    *(f"probings.{name}.grid={{mlp: {{max_epochs: [1]}}}}" for name in CORRECTED),
    f"probings.corrected calls.models=[{', '.join(OF_PAPER)}, untrained-hubert, logmel]",
    f"probings.corrected calls.labels={LABELS}",
    "probings.corrected calls.split=stratified-group-kfold:3",
    "probings.corrected callers.models=[catch22]",
    "probings.corrected callers.split=stratified-group-kfold:3",
    "probings.corrected dogs.models=[mfcc]",
    "probings.corrected dogs.split=stratified-kfold:3",
]


Count = Callable[[], int]


def n_files(folder: Path) -> int:
    """How many files a run has written so far; what vanishes while it is counted does not count."""
    return sum(len(names) for _, _, names in os.walk(folder))


class Running:
    """A call of `fs` in a process of its own, which can be killed and begun again.

    Args:
        words: what follows ``fs``.
        log: a file that takes what it says; a pipe that nobody reads would hold it up.
    """

    def __init__(self, words: Sequence[str | Path], log: Path) -> None:
        self._call = [sys.executable, "-m", "cli", *map(str, words)]
        self._log = log
        self.begin()

    def begin(self) -> None:
        with self._log.open("w") as out:
            self._process = subprocess.Popen(
                self._call, cwd=STUDIES.parent, stdout=out, stderr=subprocess.STDOUT
            )

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def finish(self) -> None:
        assert self._process.wait(timeout=1800) == 0, self._log.read_text()


def run_and_kill(runs: Sequence[Running], count: Count, moments: Iterable[int], seed: int) -> int:
    """Kill one of the runs, drawn by `seed`, and begin it again, whenever so many things are written.

    Returns:
        How often one was killed: all of them may have ended before the last moments.
    """
    rng, n_killed = np.random.default_rng(seed), 0
    for moment in moments:
        while count() < moment and not all(run.has_ended for run in runs):
            time.sleep(POLL_S)
        if not (left := [run for run in runs if not run.has_ended]):
            break
        drawn = left[int(rng.integers(len(left)))]
        drawn.kill()
        n_killed += 1
        drawn.begin()
    for run in runs:
        run.finish()
    return n_killed


def sorted_results(out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The results table and all predictions, in an order of their own."""
    table = untimed(out / "results")
    by = ["fingerprint", "utterance_id"]
    said = read_predictions(out / "results", table).sort_values(by, ignore_index=True)
    return table, said


def assert_equal_studies(quiet: Path, out: Path, store: str | Path) -> None:
    """Scores, predictions, stored values, and the table beside the paper's are those of the quiet run."""
    for one, other in zip(*map(sorted_results, (quiet, out)), strict=True):
        pd.testing.assert_frame_equal(one, other)
    stores = [open_store(quiet / "store.zarr"), open_store(store)]
    keys = stores[0].keys()
    assert stores[1].keys() == keys
    for model, corpus in keys:
        one, other = (opened.features(model, corpus) for opened in stores)
        assert list(one.index["utterance_id"]) == list(other.index["utterance_id"])
        for layer in one.layers:
            np.testing.assert_array_equal(one.layer(layer).numpy(), other.layer(layer).numpy())
    for name in ("index.html", "published.html", "published.csv", "published.md"):
        assert (out / "report" / name).is_file()
    tables = [pd.read_csv(folder / "report/published.csv") for folder in (quiet, out)]
    pd.testing.assert_frame_equal(*tables)
    # Models of which scores are published, corpora, both halves.
    of_paper = tables[0][tables[0]["published_uar"].notna()]
    assert len(of_paper) == (1 if ONLY else len(OF_PAPER) * 3) * 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Miniature corpora and models, the same for all runs: only where they write differs."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def quiet(data: Path) -> Path:
    """The study of the paper, run once in peace."""
    pytest.importorskip("pycatch22", reason="catch22 needs an extra that is not installed")
    result = fs("study", "run", "--quiet", *options(data, data / "quiet"))
    assert result.exit_code == 0, result.output
    return data / "quiet"


def options(data: Path, out: Path, store: str | None = None) -> list[str | Path]:
    """What follows a command of `fs study`."""
    more = ["--set", f"store={store}"] if store else []
    return [FILE, *ONLY, *set_options(SMALLER), *stand_ins(FILE, data, out, n_blocks=1), *more]


def moments_below(n: int) -> list[int]:
    """Moments at random over all of a run, told by what is written: the machine's speed does not matter."""
    return sorted(map(int, np.random.default_rng(SEED).integers(1, n, N_KILLS)))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_study_of_the_paper_survives_being_killed(quiet: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    words = ["study", "run", "--quiet", *options(data, out)]
    run = Running(words, tmp_path / "said.txt")
    n_killed = run_and_kill([run], lambda: n_files(out), moments_below(n_files(quiet)), SEED)
    assert n_killed >= N_KILLS - 1
    assert_equal_studies(quiet, out, out / "store.zarr")
    assert "nothing to do" in fs(*words).output


@pytest.mark.s3
@pytest.mark.timeout(3600)
def test_it_survives_on_a_bucket_too(quiet: Path, data: Path, tmp_path: Path, s3_url: str) -> None:
    out, storage = tmp_path / "killed", open_storage(s3_url)
    words = ["study", "run", "--quiet", *options(data, out, s3_url)]
    run = Running(words, tmp_path / "said.txt")
    n_killed = run_and_kill(
        [run],
        lambda: n_files(out) + sum(1 for _ in storage.objects("")),
        moments_below(n_files(quiet)),
        SEED,
    )
    assert n_killed >= N_KILLS - 1
    assert_equal_studies(quiet, out, s3_url)
    assert "nothing to do" in fs(*words).output


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_its_two_halves_at_once_survive_being_killed(quiet: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "halves"
    words = options(data, out)
    calls = {half: ["study", half, "--quiet", *words] for half in ("extract", "probe")}
    halves = [Running(call, tmp_path / f"{half}.txt") for half, call in calls.items()]
    # The report is written when both have ended.
    moments = moments_below(n_files(quiet) - n_files(quiet / "report"))
    n_killed = run_and_kill(halves, lambda: n_files(out), moments, SEED)
    assert n_killed >= N_KILLS - 1
    assert fs("study", "report", *words).exit_code == 0
    assert_equal_studies(quiet, out, out / "store.zarr")
