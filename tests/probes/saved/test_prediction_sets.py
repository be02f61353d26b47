"""Prediction sets: the bound by trying every one, MAPIE's sets, and how often they hold where it is known."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from featurestore import open_store
from featurestore.errors import ConfigError
from probes import ProbeConfig, run_probe
from probes.questions.labelled_rows import labelled
from probes.saved.calibration import ValidationRows
from probes.saved.chosen_probe import save_probe
from probes.saved.prediction_sets import least_probability, set_cells, set_rule
from probes.saved.probe_files import SavedProbe, read_probe
from probes.splits import make_split

LEVEL = 0.9


def drawn(seed: int, n: int, n_classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities `[n, C]`, float32, and classes that are drawn from them `[n]`."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(n_classes, 0.5), n)
    target = np.array([rng.choice(n_classes, p=row) for row in p], dtype=np.int32)
    return p.astype(np.float32), target


ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]), st.integers(0, 5)),
    min_size=1,
    max_size=30,
)


@given(rows=ROWS, tenths=st.integers(1, 9))
def test_the_bound_is_the_largest_that_enough_of_the_groups_reach(
    rows: list[tuple[float, int]], tenths: int
) -> None:
    """Every bound tried, shares as fractions: nothing is rounded."""
    p = np.array([p for p, _ in rows], dtype=np.float32)
    group = np.array([g for _, g in rows], dtype=np.int32)
    names = sorted(set(group.tolist()))
    if Fraction(len(names), len(names) + 1) < Fraction(tenths, 10):
        return  # refused before
    holds = []
    for bound in p.tolist():
        of_groups = [Fraction(int((p[group == g] >= bound).sum()), int((group == g).sum())) for g in names]
        if sum(of_groups) / (len(names) + 1) >= Fraction(tenths, 10):
            holds.append(bound)
    assert least_probability(p, group, tenths / 10) == max(holds)


@pytest.mark.parametrize("n", [9, 10, 19, 20, 99, 1000])
def test_rows_that_are_groups_of_their_own_give_the_usual_quantile(n: int) -> None:
    p, target = drawn(n, n)
    of_class = p[np.arange(n), target]
    usual = np.sort(1 - of_class.astype(np.float64))[math.ceil((n + 1) * Fraction(9, 10)) - 1]
    found = least_probability(of_class, np.arange(n, dtype=np.int32), LEVEL)
    assert 1 - found == pytest.approx(usual, abs=1e-9)


class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose input is what it says."""

    def __init__(self, n_classes: int = 4) -> None:
        self.n_classes = n_classes
        self.classes_ = np.arange(n_classes)
        self.n_features_in_ = n_classes

    def fit(self, x: Any, y: Any) -> Given:
        return self

    def predict_proba(self, x: Any) -> Any:
        return np.asarray(x)

    def predict(self, x: Any) -> Any:
        return np.asarray(x).argmax(axis=1)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_sets_are_those_of_mapie(level: float) -> None:
    classification = pytest.importorskip("mapie.classification", exc_type=ImportError)
    p, target = drawn(0, 157)
    new, _ = drawn(1, 400)
    mapie = classification.SplitConformalClassifier(
        Given(), confidence_level=level, conformity_score="lac", prefit=True
    )
    # In float64, as sums of probabilities are asked to be exactly one.
    as_one = [x.astype(np.float64) / x.sum(axis=1, keepdims=True, dtype=np.float64) for x in (p, new)]
    mapie.conformalize(as_one[0], target)
    _, theirs = mapie.predict_set(as_one[1])
    of_class = as_one[0][np.arange(len(target)), target]
    ours = as_one[1] >= least_probability(of_class, np.arange(len(target), dtype=np.int32), level)
    np.testing.assert_array_equal(ours, theirs[:, :, 0])


def recordings(rng: np.random.Generator, n_groups: int, n_layers: int = 1) -> tuple[np.ndarray, ...]:
    """Clips of recordings: x `[n, layers, 3]`, classes and recordings `[n]`.

    One recording in three is long and clear, the others are short and noisy; each has a bias of its own.
    """
    long = rng.uniform(size=n_groups) < 1 / 3
    group = np.repeat(np.arange(n_groups), np.where(long, 60, 6))
    y = rng.integers(0, 3, len(group))
    bias = rng.standard_normal((n_groups, n_layers, 3)) * np.where(long, 0.2, 0.8)[:, None, None]
    noise = np.where(long, 0.3, 1.0)[group][:, None, None] * rng.standard_normal((len(group), n_layers, 3))
    return np.eye(3)[y][:, None, :] + bias[group] + noise, y, group.astype(np.int32)


def held(seed: int, n_groups: int, n_layers: int = 1) -> tuple[float, float]:
    """How often sets hold the class in new recordings: by recordings, and by clips as if each were one.

    Of several layers, as of the same clips in other noise, the one is taken that validation rows like best.
    """
    rng = np.random.default_rng(seed)
    (x, y, _), (x_val, y_val, group), (x_new, y_new, of) = (
        recordings(rng, n, n_layers) for n in (20, n_groups, 200)
    )
    fits = [LogisticRegression().fit(x[:, k], y) for k in range(n_layers)]
    k = int(np.argmax([fit.score(x_val[:, k], y_val) for k, fit in enumerate(fits)]))
    p, of_class = (
        fits[k].predict_proba(x_val[:, k]),
        fits[k].predict_proba(x_new[:, k])[range(len(y_new)), y_new],
    )
    true = p[np.arange(len(y_val)), y_val]
    found = []
    for by in (group, np.arange(len(group), dtype=np.int32)):
        right = of_class >= least_probability(true, by, LEVEL)
        found.append(float(np.mean(np.bincount(of, right) / np.bincount(of))))
    return found[0], found[1]


@pytest.mark.minutes
def test_sets_hold_the_class_in_new_recordings_and_counting_clips_would_not() -> None:
    worlds = np.array([held(seed, 19) for seed in range(300)])
    mean, error = worlds.mean(axis=0), worlds.std(axis=0, ddof=1) / math.sqrt(len(worlds))
    assert LEVEL - 3 * error[0] <= mean[0] <= LEVEL + 1 / 20 + 3 * error[0]
    assert mean[1] < LEVEL - 3 * error[1] - 0.02


@pytest.mark.minutes
def test_choosing_a_layer_by_the_same_rows_costs_little() -> None:
    worlds = np.array([held(seed, 19, n_layers=13)[0] for seed in range(100)])
    assert worlds.mean() >= LEVEL - 0.02


@pytest.fixture(scope="module")
def folder(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    given = {"labels": ("call",), "models": ("model-a",), "split": "group", "classifiers": ("logreg",)}
    run_probe(ProbeConfig(store=store, out=root / "r", **given))  # type: ignore[arg-type]
    save_probe(root / "r", root / "p")
    save_probe(root / "r", root / "all", refit="all")
    return root


@pytest.fixture(scope="module")
def probe(folder: Path) -> SavedProbe:
    return read_probe(folder / "p")


class TestOfAProbe:
    """What a saved probe keeps, and what it refuses."""

    def test_groups_are_those_of_its_validation_rows(self, store: str, probe: SavedProbe) -> None:
        rows = labelled(open_store(store).features("model-a", "calls"), "call", "group").rows
        val = make_split("group", rows, 0, probe.card.split[2]).val
        assert probe.validation is not None
        assert probe.validation.group is not None
        np.testing.assert_array_equal(
            probe.validation.group[:, None] == probe.validation.group,
            rows.group[val][:, None] == rows.group[val],
        )
        assert probe.card.calibration["n_groups_trained"] == 0

    def test_a_level_that_its_groups_cannot_tell_is_refused(self, folder: Path, probe: SavedProbe) -> None:
        assert probe.validation is not None
        assert probe.validation.group is not None
        n = len(set(probe.validation.group.tolist()))
        assert set_rule(probe, n / (n + 1), folder).n_groups == n
        with pytest.raises(
            ConfigError, match=rf"expected validation clips of at least {n + 1} groups .*{n}; ask"
        ):
            set_rule(probe, (n + 0.5) / (n + 1.5), folder)
        for level in (0.0, 1.0, -1.0, float("nan")):
            with pytest.raises(ConfigError, match="above 0 and below 1"):
                set_rule(probe, level, folder)

    def test_what_says_nothing_of_new_clips_is_refused(self, folder: Path, probe: SavedProbe) -> None:
        assert probe.validation is not None
        with pytest.raises(ConfigError, match="fitted again on its validation clips"):
            set_rule(read_probe(folder / "all"), 0.5, folder)
        earlier = replace(probe, validation=replace(probe.validation, group=None))
        with pytest.raises(ConfigError, match="save it again"):
            set_rule(earlier, 0.5, folder)
        with pytest.raises(ConfigError, match="sets of labels"):
            set_rule(replace(probe, card=replace(probe.card, multilabel=True)), 0.5, folder)
        with pytest.raises(ConfigError, match="no probabilities"):
            set_rule(replace(probe, card=replace(probe.card, probabilistic=False)), 0.5, folder)
        barred = replace(probe.card, classes=("a|b", *probe.card.classes[1:]))
        with pytest.raises(ConfigError, match=r"'a\|b' cannot stand in a set"):
            set_rule(replace(probe, card=barred), 0.5, folder)

    def test_the_class_that_is_missed_most_is_named(self, folder: Path, probe: SavedProbe) -> None:
        rule = set_rule(probe, 0.5, folder)
        rows = probe.validation
        assert rows is not None
        shares = {}
        for k, name in enumerate(probe.card.classes):
            of = rows.scores[rows.target == k, k]
            if len(of):
                shares[name] = (float(np.mean(of >= rule.least)), len(of))
        assert (rule.hardest_share, rule.hardest_rows) == shares[rule.hardest]
        assert rule.hardest_share == min(share for share, _ in shares.values())


def test_a_part_of_the_rows_keeps_their_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.saved.calibration.MOST_KEPT", 40)
    p, target = drawn(0, 100)
    kept = ValidationRows(scores=p, target=target, group=np.arange(100, dtype=np.int32)).drawn()
    assert kept.group is not None
    np.testing.assert_array_equal(kept.scores, p[kept.group])


def test_sets_are_written_as_label_sets_are() -> None:
    members = np.array([[True, False, True], [False, False, False], [False, True, False]])
    assert set_cells(members, ["phee", "peep", "trill"]).tolist() == ["phee|trill", "|", "peep"]
