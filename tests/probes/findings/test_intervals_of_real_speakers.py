"""Spoken digits of six speakers: how much wider intervals over speakers are than those over clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from extractors.config import ExtractConfig
from extractors.run.extraction import extract
from probes.questions.tasks import ProbeConfig
from probes.report import load_report_data
from probes.report.tables import csv_table
from probes.results.results_folder import read_predictions, read_results
from probes.run.probing import run_probe
from probes.statistics import uar_interval

N_SPEAKERS, N_TAKES = 6, 12
# A width that six speakers tell is uncertain by a third. That is not in what is compared here, since
# correlation and width are of the same speakers; what is left: clips differ by digit too, and the simulation.
TOLERANCE = 0.2

pytestmark = [pytest.mark.shared, pytest.mark.slow]


@pytest.fixture(scope="module")
def store(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, data = tmp_path_factory.mktemp("fsdd"), shared / "data" / "fsdd"
    table = pd.read_csv(data / "manifest.csv", dtype=str)
    table = table[table["take"].astype(int) < N_TAKES]
    table.assign(path=[str(data / p) for p in table["path"]]).to_csv(folder / "m.csv", index=False)
    extract(
        ExtractConfig(
            manifest=folder / "m.csv", dataset="fsdd", model="logmel", store=str(folder / "s"), selfcheck=0
        )
    )
    return str(folder / "s")


def probed(store: str, out: Path, **asked: Any) -> tuple[Any, pd.DataFrame]:
    """The row of ``layers.csv`` and the test predictions of a probe of the digit."""
    run_probe(ProbeConfig(store=store, labels=("digit",), classifiers=("lda",), out=out, **asked))
    table = read_results(out)
    (row,) = csv_table(load_report_data(out)).itertuples()
    return row, read_predictions(out, table)


def clip_width(target: Any, right: Any, rng: np.random.Generator, n: int = 2000) -> float:
    """Width of the percentile interval of UAR over resamples of clips."""
    classes = np.unique(target)
    at = np.searchsorted(classes, target) * 2 + right
    times = rng.multinomial(len(at), np.bincount(at, minlength=2 * len(classes)) / len(at), size=n)
    wrong, hits = times[:, ::2], times[:, 1::2]
    low, high = np.quantile((hits / (hits + wrong)).mean(axis=1), [0.025, 0.975])
    return float(high - low)


def correlation_within(right: Any, group: Any) -> float:
    """Correlation of right or wrong in groups of one size: the estimator of the analysis of variance."""
    by_group = pd.DataFrame({"right": right.astype(float), "group": group}).groupby("group")["right"]
    size = by_group.size().to_numpy()
    assert len(set(size)) == 1
    between = size[0] * by_group.mean().var()
    within = by_group.var().mean()
    return float((between - within) / (between + (size[0] - 1) * within))


def predicted_ratio(share: float, correlation: float, target: Any, group: Any) -> Any:
    """Width over speakers by width over clips, where this share is right and so correlated `[runs]`."""
    rng = np.random.default_rng(0)
    ratios = []
    a, b = share * (1 / correlation - 1), (1 - share) * (1 / correlation - 1)
    names, code = np.unique(group, return_inverse=True)
    for _ in range(150):
        right = rng.random(len(code)) < rng.beta(a, b, len(names))[code]
        found = uar_interval(target, np.where(right, target, "none"), group)
        ratios.append((found.high - found.low) / clip_width(target, right, rng, 300))
    return np.array(ratios)


def test_intervals_over_six_speakers_are_as_much_wider_as_their_correlation_says(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row, said = probed(store, tmp_path, split="logo", groups=("speaker",))
    assert row.n_groups == N_SPEAKERS
    assert len(said) == N_SPEAKERS * N_TAKES * 10
    target, group = said["target"].to_numpy(), said["group"].to_numpy()
    right = target == said["prediction"].to_numpy()
    width = clip_width(target, right, np.random.default_rng(1))
    ratio = (row.ci_high - row.ci_low) / width
    correlation = correlation_within(right, group)
    expected = predicted_ratio(right.mean(), correlation, target, group)
    # The width is in proportion to the spread between speakers, whose square the correlation estimates.
    mean = float(np.sqrt(np.mean(expected**2)))
    with capsys.disabled():
        print(f"\nratio {ratio:.2f}, predicted {mean:.2f}, correlation {correlation:.3f}")
    assert ratio == pytest.approx(mean, rel=TOLERANCE)
    assert ratio > 1.5


def test_without_groups_it_is_the_interval_of_clips(store: str, tmp_path: Path) -> None:
    row, said = probed(store, tmp_path, split="kfold:5")
    assert row.n_groups == len(said) == N_SPEAKERS * N_TAKES * 10
    target = said["target"].to_numpy()
    right = target == said["prediction"].to_numpy()
    width = clip_width(target, right, np.random.default_rng(1))
    assert (row.ci_high - row.ci_low) / width == pytest.approx(1, rel=0.1)
