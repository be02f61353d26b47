"""Contrasts that a study file declares: which models they mean, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from probes.results.declared_contrasts import read_contrasts
from probes.results.results_folder import read_predictions, read_results
from tests.studies.conftest import STUDY, fs, words_of

# The study is run once, by one process.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("contrasts")]

CONTRASTS = """\
contrasts:
  heard: {a: {domain: animals}, b: {domain: speech, size: [small, 3]}}
  one: {a: [mfcc], b: [logmel], family: other}
  two: {a: [slow, mfcc], b: [logmel]}
"""
TEXT = (
    (
        STUDY.replace("{model: logmel}", "{model: logmel, domain: speech, facts: {size: 3}}").replace(
            "{model: mfcc}",
            "{model: mfcc, domain: animal}\n  slow: {model: 'mfcc:8000', domain: animal, layers: 0}",
        )
        + CONTRASTS
    )
    .replace("[kind]", "[kind, caller]")
    .replace("[centroid, lda]", "[lda]")
)


@pytest.fixture
def done(study: Callable[..., Path], tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    file = study(TEXT)
    for half in ("extract", "probe"):
        result = fs("study", half, file, "--quiet")
        assert result.exit_code == 0, result.output
    result = fs("study", "report", file)
    assert result.exit_code == 0, result.output
    assert "animal: mfcc, slow" in words_of(result.output)
    table = pd.read_csv(tmp_path / "report/comparisons.csv")
    return file, table[table["contrast"].str.match("study: |other: ")]


def test_contrasts_are_the_mean_scores_of_their_models_and_holm_spans_the_family(
    done: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    _, table = done
    assert sorted(table["contrast"].unique()) == ["other: one", "study: heard", "study: two"]
    assert len(table) == 6
    # The same sets would be compared anyway, as pre-training: they are told once.
    assert "pre-training" not in set(pd.read_csv(tmp_path / "report/comparisons.csv")["contrast"])
    results = read_results(tmp_path / "results")
    uar = {}
    for (model, label), fits in results.groupby(["model", "label"]):
        said = read_predictions(tmp_path / "results", fits)
        assert not said["utterance_id"].duplicated().any()
        uar[model, label] = balanced_accuracy_score(said["target"], said["prediction"])
    for row in table[table["contrast"] != "other: one"].to_dict("records"):
        a, b = row["a"].split(": ")[-1].split(", "), row["b"].split(": ")[-1].split(", ")
        assert sorted(a) == ["mfcc", "slow"]
        assert b == ["logmel"]
        expected = sum(uar[m, row["label"]] for m in a) / 2 - uar["logmel", row["label"]]
        assert row["difference"] == pytest.approx(expected, abs=1e-9)
    # Holm by hand: four questions of the one family, two of the other.
    for family, n in (("study", 4), ("other", 2)):
        of = table[table["contrast"].str.startswith(family)].sort_values("p")
        assert len(of) == n
        expected = [min(1.0, p * (n - i)) for i, p in enumerate(of["p"])]
        assert list(of["p_holm"]) == pytest.approx(list(pd.Series(expected).cummax()))


@pytest.mark.slow
def test_what_was_declared_is_kept_with_the_results_and_follows_the_file(
    done: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    file, _ = done
    heard, one, _ = read_contrasts(tmp_path / "results")
    assert (heard.a.name, heard.a.models) == ("animal", ("mfcc", "slow"))
    assert (heard.b.name, heard.b.models) == ("speech, small/3", ("logmel",))
    assert (one.family, one.a.name) == ("other", "")
    assert "up to date" in fs("study", "report", file).output
    assert fs("study", "probe", file, "--quiet").output.startswith("nothing to do")
    fs("study", "report", file, "--set", "contrasts={}")
    assert "study: " not in (tmp_path / "report/comparisons.csv").read_text()
    (tmp_path / "results/_contrasts.json").write_text(json.dumps([{"name": 1}]))
    result = fs("report", tmp_path / "results", "--out", tmp_path / "again")
    assert result.exit_code == 2
    assert "_contrasts.json: cannot be read" in result.stderr
