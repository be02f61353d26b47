"""Models over data sets: a published table, autorank, SciPy, and how often equal models are told apart."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from probes.findings import across_datasets as module
from probes.findings.across_datasets import across_table, families, rank_models

autorank = pytest.importorskip("autorank").autorank
# Demšar 2006, table 6: AUC of C4.5 with pruning and without (m: fewest examples tuned; cf: confidence tuned)
# on 14 data sets. Two values of "voting", rounded alike, are ranked 2 and 3 there.
PUBLISHED = pd.DataFrame(
    {
        "adult": (0.763, 0.768, 0.771, 0.798),
        "breast cancer": (0.599, 0.591, 0.590, 0.569),
        "breast cancer wisconsin": (0.954, 0.971, 0.968, 0.967),
        "cmc": (0.628, 0.661, 0.654, 0.657),
        "ionosphere": (0.882, 0.888, 0.886, 0.898),
        "iris": (0.936, 0.931, 0.916, 0.931),
        "liver disorders": (0.661, 0.668, 0.609, 0.685),
        "lung cancer": (0.583, 0.583, 0.563, 0.625),
        "lymphography": (0.775, 0.838, 0.866, 0.875),
        "mushroom": (1.000, 1.000, 1.000, 1.000),
        "primary tumor": (0.940, 0.962, 0.965, 0.962),
        "rheum": (0.619, 0.666, 0.614, 0.669),
        "voting": (0.972, 0.981, 0.9751, 0.9750),
        "wine": (0.957, 0.978, 0.946, 0.970),
    },
    index=["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"],
).T


def quietly(*arguments: Any, **options: Any) -> Any:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return autorank(*arguments, **options)


def test_the_published_table_gives_the_published_numbers() -> None:
    found = rank_models("AUC", PUBLISHED)
    ranks = {m: r for p in found.pairs for m, r in zip((p.a, p.b), p.ranks, strict=True)}
    assert {m: round(r, 3) for m, r in ranks.items()} == {
        "C4.5": 3.143,
        "C4.5+m": 2.000,
        "C4.5+cf": 2.893,
        "C4.5+m+cf": 1.964,
    }
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    k, n = 4, 14
    chi2 = 12 * n / (k * (k + 1)) * (sum(r**2 for r in ranks.values()) - k * (k + 1) ** 2 / 4)
    assert chi2 == pytest.approx(9.28, abs=0.005)
    # His statistic leaves ties uncorrected: ours is larger, and p smaller.
    assert found.p < stats.chi2.sf(chi2, k - 1) < 0.05
    # Nemenyi tells no two of the four apart: no ranks differ by 1.25.
    assert [pair.told_apart for pair in found.pairs] == [False] * 6
    assert found.models == ("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")
    assert found.sentences[1] == (
        "Ranks are told apart beyond 1.25 (Nemenyi, 0.05). No two models can be told apart."
    )


@pytest.mark.slow
def test_equal_to_autorank() -> None:
    found = rank_models("AUC", PUBLISHED)
    theirs = quietly(PUBLISHED, alpha=0.05, force_mode="nonparametric")
    assert (theirs.omnibus, theirs.posthoc) == ("friedman", "nemenyi")
    assert (
        found.p
        == pytest.approx(theirs.pvalue)
        == pytest.approx(stats.friedmanchisquare(*PUBLISHED.T.values)[1])
    )
    assert found.critical_difference == pytest.approx(theirs.cd)
    for pair in found.pairs:
        assert pair.ranks == pytest.approx(tuple(theirs.rankdf["meanrank"][[pair.a, pair.b]]))
        assert sum((pair.p_better, pair.p_equal, pair.p_worse)) == pytest.approx(1)
    bayes = quietly(
        PUBLISHED, alpha=0.05, approach="bayesian", rope=0.01, rope_mode="absolute", nsamples=5_000,
        random_state=3, force_mode="nonparametric",
    ).posterior_matrix  # fmt: skip
    # (first, second) as autorank orders them: (second worse, equal, second better)
    chances = {(p.a, p.b): (p.p_better, p.p_equal, p.p_worse) for p in found.pairs}
    for a in bayes.index:
        for b in bayes.columns:
            if isinstance(bayes.loc[a, b], tuple):
                ours = chances[a, b] if (a, b) in chances else chances[b, a][::-1]
                assert ours == pytest.approx(bayes.loc[a, b], abs=0.03)


def drawn(rng: np.random.Generator, n: int, better: tuple[float, ...]) -> pd.DataFrame:
    hard = rng.uniform(0.3, 0.9, (n, 1))
    values = hard + 0.03 * rng.standard_normal((n, len(better))) + np.array(better)
    return pd.DataFrame(values, columns=[f"m{i}" for i in range(len(better))])


def test_a_better_model_is_found_and_an_equal_one_is_equal_in_practice() -> None:
    rng = np.random.default_rng(0)
    scores = drawn(rng, 12, (0.2, 0.0, 0.0)).assign(m3=lambda t: t["m0"] + 0.001 * rng.standard_normal(12))
    found = rank_models("UAR", scores)
    apart = {frozenset((p.a, p.b)): p for p in found.pairs}
    assert apart[frozenset(("m0", "m1"))].told_apart
    assert not apart[frozenset(("m0", "m3"))].told_apart
    assert apart[frozenset(("m0", "m3"))].p_equal > 0.95
    first = apart[frozenset(("m0", "m1"))]
    assert (first.a, first.p_better > 0.95) == ("m0", True)
    assert any(
        s.startswith("On data sets like these mostly within 1 point (probability 0.95 or more): m")
        for s in found.sentences
    )


def test_two_models_are_tested_on_both_sides() -> None:
    scores = drawn(np.random.default_rng(1), 8, (0.02, 0.0))
    found = rank_models("UAR", scores)
    both = stats.wilcoxon(scores["m0"], scores["m1"]).pvalue
    assert (found.test, found.p) == ("Wilcoxon", pytest.approx(both))
    assert math.isnan(found.critical_difference)
    # autorank's is one-sided towards what was seen: half of it.
    assert quietly(scores, alpha=0.05, force_mode="nonparametric").pvalue == pytest.approx(both / 2)
    alike = scores.assign(m1=scores["m0"])
    assert (rank_models("UAR", alike).p, rank_models("UAR", alike.assign(m2=scores["m0"])).p) == (1, 1)


@pytest.mark.parametrize("k", [3, 5, 7])
@pytest.mark.parametrize("n", [6, 10, 20])
def test_equal_models_are_seldom_told_apart(k: int, n: int) -> None:
    # The rule for how many data sets are enough: what is done from six on rejects no more than it says.
    ranks = np.random.default_rng([k, n]).random((4000, n, k)).argsort(-1).argsort(-1) + 1.0
    limit = stats.studentized_range.ppf(0.95, k, np.inf) * np.sqrt(k * (k + 1) / (12 * n))
    mean = ranks.mean(axis=1)
    chi2 = 12 * n / (k * (k + 1)) * ((mean - (k + 1) / 2) ** 2).sum(axis=1)
    rejected = (np.ptp(mean, axis=1) > limit) & (stats.chi2.sf(chi2, k - 1) <= 0.05)
    assert 0.005 < rejected.mean() < 0.05


def test_five_data_sets_are_too_few_for_any_difference() -> None:
    scores = drawn(np.random.default_rng(2), 5, (0.5, 0.0))
    assert stats.wilcoxon(scores["m0"], scores["m1"]).pvalue == pytest.approx(2 / 2**5)
    found = rank_models("UAR · mlp", scores)
    assert (found.test, found.pairs[0].told_apart) == ("", None)
    assert found.sentences == [
        "Over 5 data sets (UAR · mlp): too few to rank models by; 6 are needed, since of five no difference "
        "can be told from chance (p = 0.06 where one model is always better)."
    ]
    assert rank_models("UAR", scores.iloc[:1]).sentences == []


def test_without_autorank_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_has_autorank", lambda: False)
    (sentence,) = rank_models("UAR", drawn(np.random.default_rng(2), 8, (0.5, 0.0))).sentences
    assert "pip install 'featurestore-audio[rank]'" in sentence


def test_models_without_a_score_everywhere_are_left_out_by_name() -> None:
    scores = drawn(np.random.default_rng(3), 7, (0.1, 0.0, 0.0))
    scores.loc[4, "m1"] = np.nan
    found = rank_models("UAR", scores)
    assert (found.models, found.left_out) == (("m0", "m2"), ("m1",))
    assert found.sentences[-1] == "Left out, not scored on every data set: m1."


def answers(*rows: tuple[str, str, str, str, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["dataset", "split", "label", "model", "score"])
    return table.assign(classifier="mlp", metric="UAR")


def test_each_data_set_counts_once_in_a_family() -> None:
    same = answers(
        ("d1", "group", "call", "m", 0.5), ("d1", "group", "caller", "m", 0.7),
        ("d1", "group", "call", "n", 0.4),
        ("d2", "group", "call", "m", 0.9), ("d2", "group", "call", "n", 0.8),
    )  # fmt: skip
    (what,) = found = families(same)
    assert what == "UAR · mlp · split: group"
    assert found[what].loc["d1", "m"] == pytest.approx(0.6)
    assert np.isnan(found[what].loc["d1", "n"])  # lacks a question
    assert found[what].loc["d2"].tolist() == [0.9, 0.8]
    both = pd.concat([same, same.assign(split="random", score=0.1)])
    assert list(families(both)) == ["UAR · mlp · split: group", "UAR · mlp · split: random"]
    own = pd.concat([same, answers(("d3", "column", "call", "m", 0.2), ("d3", "column", "call", "n", 0.3))])
    (what,) = families(own)
    assert what == "UAR · mlp · each data set on its own splits"


def test_a_report_has_the_table(tmp_path: Path) -> None:
    found = [rank_models("UAR", PUBLISHED), rank_models("UAR", PUBLISHED.iloc[:3])]
    table = across_table(found)
    assert len(table) == 12
    assert table["reason"].map(bool).tolist() == [False] * 6 + [True] * 6
    assert table["n_datasets"].tolist() == [14] * 6 + [3] * 6
    assert table["told_apart"].isna().tolist() == [False] * 6 + [True] * 6
    assert np.allclose(table["p_better"][:6] + table["p_equal"][:6] + table["p_worse"][:6], 1)
