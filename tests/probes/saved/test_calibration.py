"""Temperature and thresholds, against scikit-learn and against trying every threshold."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from featurestore import open_store
from featurestore.errors import CorruptData
from featurestore.fingerprint import digest
from probes import ProbeConfig, run_probe
from probes.questions.labelled_rows import labelled
from probes.saved.calibration import (
    ValidationRows,
    calibrated,
    fit_temperature,
    negative_log_likelihood,
    threshold_for,
)
from probes.saved.chosen_probe import save_probe
from probes.saved.probe_files import CONTENT_HASH, JSON_NAME, WEIGHTS_HASH, WEIGHTS_NAME, read_probe
from probes.splits import make_split


def overconfident(n: int = 400, n_classes: int = 3, sharpness: float = 3.0) -> ValidationRows:
    """Probabilities that are `sharpness` times too sure: their labels are drawn from the softer ones."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((n, n_classes)) * 1.5
    target = np.array([rng.choice(n_classes, p=p) for p in softmax(logits, axis=1)])
    scores = softmax(sharpness * logits, axis=1).astype(np.float32)
    return ValidationRows(scores=scores, target=target.astype(np.int32))


def test_the_temperature_is_the_one_that_scikit_learn_finds() -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    scaling = getattr(calibration, "_TemperatureScaling", None)
    if scaling is None:
        pytest.skip("scikit-learn before 1.8 has no temperature scaling")
    rows = overconfident()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = scaling().fit(np.log(rows.scores), rows.target)
    temperature, before, after = fit_temperature(rows)
    assert temperature == pytest.approx(1 / fitted.beta_, rel=1e-3)
    assert temperature == pytest.approx(3.0, rel=0.15)
    assert after < before


def test_calibration_changes_no_order_and_sums_to_one() -> None:
    rows = overconfident()
    for temperature in (0.5, 1.0, 4.0):
        p = calibrated(rows.scores, temperature, multilabel=False)
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
        assert (p.argmax(axis=1) == rows.scores.argmax(axis=1)).all()
    empty = np.full((1, 3), np.nan, dtype=np.float32)
    assert np.isnan(calibrated(empty, 2.0, multilabel=False)).all()


def test_a_flawless_probe_is_left_as_it_is() -> None:
    scores = np.array([[0.7, 0.3], [0.2, 0.8]], dtype=np.float32)
    rows = ValidationRows(scores=scores, target=np.array([0, 1], dtype=np.int32))
    temperature, before, after = fit_temperature(rows)
    assert temperature == 1
    assert before == after == pytest.approx(-np.log([0.7, 0.8]).mean(), rel=1e-6)


def test_label_sets_have_a_probability_each() -> None:
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((500, 2))
    target = (rng.uniform(size=(500, 2)) < 1 / (1 + np.exp(-logits))).astype(np.int32)
    sure = (1 / (1 + np.exp(-2 * logits))).astype(np.float32)
    rows = ValidationRows(scores=sure, target=target)
    temperature, _, after = fit_temperature(rows)
    assert temperature == pytest.approx(2.0, rel=0.25)
    assert after == pytest.approx(negative_log_likelihood(rows, temperature))


P = arrays.arrays(np.float32, 12, elements=st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]))
OF = arrays.arrays(np.bool_, 12)


@given(p=P, of=OF, counts=OF, precision=st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_a_threshold_finds_most_with_the_precision(
    p: np.ndarray, of: np.ndarray, counts: np.ndarray, precision: float
) -> None:
    found = threshold_for(p, of, precision, counts)
    tried = []
    for t in np.unique(p[counts]):
        at = counts & (p >= t)
        if of[at].any() and of[at].mean() >= precision:
            tried.append((int(of[at].sum()), float(t)))
    if not tried:
        assert np.isnan(found.value)
        return
    most, value = max(tried)  # of those that find as many the highest
    assert found.recall == pytest.approx(most / of.sum())
    same = counts & (p >= found.value)
    assert (same == (counts & (p >= value))).all()
    assert found.precision == pytest.approx(of[same].mean())
    assert found.n_rows == same.sum()


def test_more_rows_than_are_kept_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.saved.calibration.MOST_KEPT", 30)
    rows = overconfident()
    kept = rows.drawn()
    assert kept.scores.shape == (10, 3)
    assert all((rows.scores == row).all(axis=1).any() for row in kept.scores)


class TestWithAProbe:
    """What a saved probe keeps of its validation rows, and what a changed file does."""

    def saved(self, store: str, root: Path) -> Path:
        config = ProbeConfig(
            store=store,
            out=root / "r",
            labels=("call",),
            models=("model-a",),
            split="group",
            classifiers=("logreg",),
        )
        run_probe(config)
        save_probe(root / "r", root / "p")
        return root / "p"

    def test_its_validation_rows_are_those_of_the_split(self, store: str, tmp_path: Path) -> None:
        probe = read_probe(self.saved(store, tmp_path))
        assert probe.validation is not None
        features = open_store(store).features("model-a", "calls")
        rows = labelled(features, "call", "group")
        val = make_split("group", rows.rows, 0, probe.card.split[2]).val
        x = features.layer(probe.card.layers[0]).numpy()[rows.position[val]].reshape(len(val), -1)
        np.testing.assert_allclose(probe.validation.scores, probe.scores(x), atol=1e-5)
        classes = np.array(probe.card.classes, dtype=object)
        assert classes[probe.validation.target].tolist() == rows.rows.label[val].tolist()
        assert probe.card.calibration["n_rows"] == len(val)
        temperature = probe.card.calibration["temperature"]
        assert probe.card.calibration["nll_after"] == pytest.approx(
            negative_log_likelihood(probe.validation, temperature)
        )
        own = calibrated(probe.scores(x), temperature, multilabel=False)
        np.testing.assert_array_equal(probe.probabilities(x), own)
        seconds = features.index["duration_s"].to_numpy()[rows.position]
        train = make_split("group", rows.rows, 0, probe.card.split[2]).train
        assert probe.card.clip_s == pytest.approx(np.median(seconds[train]))

    @pytest.mark.parametrize("change", ["none", "shape", "beyond", "target"])
    def test_rows_that_cannot_be_its_own_are_refused(self, store: str, tmp_path: Path, change: str) -> None:
        folder = self.saved(store, tmp_path)
        arrays = load_file(folder / WEIGHTS_NAME)
        if change == "none":
            del arrays["validation.target"]
        elif change == "shape":
            arrays["validation.scores"] = arrays["validation.scores"][:, 1:].copy()
        elif change == "beyond":
            arrays["validation.scores"][0, 0] = 1.5
        else:
            arrays["validation.target"][0] = 99
        save_file(arrays, folder / WEIGHTS_NAME)
        card = json.loads((folder / JSON_NAME).read_text())
        card[WEIGHTS_HASH] = hashlib.sha256((folder / WEIGHTS_NAME).read_bytes()).hexdigest()
        card.pop(CONTENT_HASH)
        (folder / JSON_NAME).write_text(json.dumps({**card, CONTENT_HASH: digest(card)}))
        with pytest.raises(CorruptData, match="validation"):
            read_probe(folder)
