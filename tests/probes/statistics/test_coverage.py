"""Intervals cover a known truth and equal models are seldom told apart; the benchmark that shows it runs."""

from __future__ import annotations

import subprocess
import sys
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from probes.statistics import compare_uar, uar_interval

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "coverage.py"
N_CLASSES, N_GROUPS, CLIPS, RUNS = 4, 8, 20, 250
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


def truth(intercept: np.ndarray, effect: float) -> float:
    chance = expit(intercept[:, None] + effect * NODES) @ (WEIGHTS / WEIGHTS.sum())
    return float(chance.mean())


def test_intervals_cover_and_those_of_clips_do_not() -> None:
    rng = np.random.default_rng(11)
    intercept, effect = np.array([0.2, 0.6, 1.0, 1.4]), 0.8
    group = np.repeat(np.arange(N_GROUPS), CLIPS)
    true = truth(intercept, effect)
    by_group, by_clip = 0, 0
    for _ in range(RUNS):
        target = rng.integers(0, N_CLASSES, len(group))
        shift = effect * rng.standard_normal(N_GROUPS)
        right = rng.random(len(group)) < expit(intercept[target] + shift[group])
        guess = np.where(right, target, -1)
        i, alone = uar_interval(target, guess, group), uar_interval(target, guess)
        by_group += i.low <= true <= i.high
        by_clip += alone.low <= true <= alone.high
    # 95 % of 250 with a chance of one in a thousand to be outside on either side.
    low, high = stats.binom(RUNS, 0.95).ppf([0.001, 0.999])
    assert low <= by_group <= high
    assert by_clip < low


def test_equal_models_are_seldom_told_apart() -> None:
    rng = np.random.default_rng(12)
    group = np.repeat(np.arange(N_GROUPS), CLIPS)
    rejected, found = 0, 0
    for _ in range(RUNS):
        target = rng.integers(0, N_CLASSES, len(group))
        shared, own = rng.standard_normal(N_GROUPS), rng.standard_normal((3, N_GROUPS))
        logits = 0.8 + 0.6 * (shared + 0.7 * own)[:, group] + np.array([[0], [0], [1.5]])
        right = rng.random(logits.shape) < expit(logits)
        a, b, better = np.where(right, target, -1)
        rejected += compare_uar(target, a, b, group).p <= 0.05
        found += compare_uar(target, better, a, group).p <= 0.05
    low, high = stats.binom(RUNS, 0.05).ppf([0.001, 0.999])
    assert low <= rejected <= high
    assert found > 0.7 * RUNS


@pytest.mark.slow
def test_the_benchmark_runs() -> None:
    done = subprocess.run([sys.executable, str(BENCHMARK), "--quick"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| crossed | 5 | 1:1 | 0.8 | 1, 1 | 0.7 | 20 | 100 |" in done.stdout
    assert "| 1:1 | 0.7 | 3 and 3 | 10 | 100 |" in done.stdout
    assert "| 1:1 | peak | 10 | 100 |" in done.stdout
    assert "FAILS" not in done.stdout


def test_the_clip_bootstrap_of_the_benchmark_is_scipys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARK.parent))
    import coverage as benchmark
    from sklearn.metrics import balanced_accuracy_score

    world = benchmark.World(benchmark.Setting(groups=10, uar=0.7, classes=3), seed=0)
    rng = np.random.default_rng(0)
    drawn = world.draw(rng)
    ours = benchmark.clip_bootstrap(drawn, rng, n=2000)
    guess = drawn.predictions(rng)[0]
    theirs = stats.bootstrap(
        (drawn.target, guess),
        balanced_accuracy_score,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=600,
        **{
            "rng" if "rng" in signature(stats.bootstrap).parameters else "random_state": 1
        },  # before SciPy 1.15
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.012)


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARK.parent))


@pytest.mark.usefixtures("benchmarks")
def test_the_truth_of_models_is_what_many_groups_show() -> None:
    import coverage_worlds as worlds

    setting = worlds.Setting(groups=3000, uar=0.7, classes=3)
    uars = (0.5, 0.7, 0.9)
    intercept, truth = worlds.intercepts_of(setting, uars)
    assert truth.mean(axis=1) == pytest.approx(uars)
    target, guess, _ = worlds.several(setting, intercept, np.random.default_rng(0))
    seen = [[(g == target)[target == c].mean() for c in range(3)] for g in guess]
    np.testing.assert_allclose(seen, truth, atol=0.02)


@pytest.mark.usefixtures("benchmarks")
def test_contrasts_cover_and_tell_a_difference_of_sets() -> None:
    import coverage_choices as of

    setting = of.Setting(groups=20, uar=0.7, clips=10, classes=3)
    row = of.contrasts(((setting, "1 and 4"), 120, 0))
    low, high = stats.binom(120, [0.05, 0.95]).ppf([[0.001], [0.999]])
    assert row.given == 1
    assert low[0] <= 120 * row.rejected <= high[0]
    assert low[1] <= 120 * row.covered <= high[1]
    assert [of.rejection_verdict(r, 1000) for r in (0.01, 0.045, 0.09)] == ["cautious", "holds", "FAILS"]
    assert [of.rejection_verdict(0.0, n) for n in (0, 20)] == ["none given", "too rare to tell"]


@pytest.mark.usefixtures("benchmarks")
def test_the_best_layer_is_told_from_no_chosen_one_and_shares_overstate() -> None:
    import coverage_choices as of

    flat = of.choices(((of.Setting(groups=8, uar=0.7, clips=10, classes=3), "flat"), 60, 0))
    assert flat.contained > 0.9
    assert flat.size > 11
    # All layers are alike: a fresh set chooses each in one of thirteen. Resamples of one set are firmer.
    assert flat.again == pytest.approx(1 / 13, abs=0.05)
    assert flat.share > 2 * flat.again
    few = of.choices(((of.Setting(groups=3, uar=0.7, clips=10, classes=3), "peak"), 5, 0))
    assert (few.given, few.verdict) == (0, "none given")


@pytest.mark.usefixtures("benchmarks")
def test_the_record_is_made_anew_by_sections_and_the_docs_have_its_numbers() -> None:
    import coverage_record as of

    def section(name: str, *lines: str) -> str:
        return "\n".join([f"## {of.TITLES[name]}", "", "9 runs a setting.", "", *lines, ""])

    tests = ["| imbalance | UAR | groups | given % | rejects equal models % | difference covers % |", "|--:|"]
    rows = ["| 1:30 | 0.7 | 6 | 80 | 1.0 | 99.0 |", "| 1:30 | 0.9 | 6 | 90 | 2.0 |  |"]
    page = of.with_section("# Coverage\n", section("tests", *tests, *rows))
    heads = "| imbalance | groups | given % | rejects equal sets % | difference covers % |"
    page = of.with_section(page, section("contrasts", heads, "|--:|", "| 1:30 | 6 | 59 | 3.0 | 96.0 |"))
    kept = page
    heads = "| layout | classes | imbalance | effect | seeds | UAR | groups | given % | covers % | width |"
    row = "| crossed | 5 | 1:1 | 0.2 | 1, 1 | 0.3 | 4 | 98 | 93.5 | 0.3 |"
    page = of.with_section(page, section("crossed", heads, "|---|", row))
    assert page.index("Intervals of UAR") < page.index("Comparisons of equal")  # in the order of the page
    assert of.with_section(page, section("tests", *tests, *rows)) == page
    assert kept.partition("\n## ")[2] in page
    lines = of.digest(page)
    assert "| 1:1 | 0.2 | 0.3 | 93.5 (98) |  |  |  |  |" in lines
    # Means over settings; the rarest of five classes has 2 of 6 x 20 clips.
    assert lines[-1] == "| 1:30 | 6 | 2 | 85.0 | 1.5 | 3.0 | 96.0 |"
