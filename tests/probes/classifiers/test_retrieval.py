"""Retrieval against brute force and scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from featurestore.errors import ConfigError
from probes import ProbeConfig, read_results, run_probe
from probes.classifiers import retrieval
from probes.classifiers.interface import Bundle
from probes.classifiers.registry import expand_grid, get_classifier
from probes.classifiers.retrieval import class_similarity, r_precision, unit_rows
from probes.report import load_report_data
from probes.report.html import render_page


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.choice(4, n, p=[0.6, 0.2, 0.15, 0.05])
    y[:4] = range(4)
    return (rng.standard_normal((n, 5)) + 0.8 * np.eye(4, 5)[y]).astype(np.float32), y.astype(np.int64)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_r_precision_is_that_of_a_sorted_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "BLOCK_VALUES", 500)  # queries come in blocks
    (x, y), (queries, labels) = rows(80, 0), rows(40, 1)
    expected = []
    for query, label in zip(queries, labels, strict=True):
        ranked = sorted(range(len(x)), key=lambda i: -cosine(query, x[i]))
        n_relevant = list(y).count(label)
        expected.append(sum(y[i] == label for i in ranked[:n_relevant]) / n_relevant)
    np.testing.assert_allclose(r_precision(unit_rows(x), y, queries, labels), expected)


def test_ties_count_in_part_and_a_class_without_references_not_at_all() -> None:
    east, north = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    references = np.stack([east, east, east, north])
    y = np.array([0, 1, 1, 0])
    # two of class 0 are sought among three equally near, of which one is of class 0
    values = r_precision(references, y, np.stack([east, east, north]), np.array([0, 1, 2]))
    np.testing.assert_allclose(values[:2], [2 / 3 / 2, 4 / 3 / 2])
    assert np.isnan(values[2])


def test_predictions_are_those_of_the_nearest_neighbour() -> None:
    (x, y), (queries, _) = rows(80, 0), rows(40, 1)
    scores = class_similarity(unit_rows(x), y, 4, queries)
    nearest = KNeighborsClassifier(1, metric="cosine").fit(x, y)
    np.testing.assert_array_equal(scores.argmax(1), nearest.predict(queries))
    best = [[max(cosine(q, r) for r in x[y == c]) for c in range(4)] for q in queries]
    np.testing.assert_allclose(scores, best, atol=1e-5)


def test_a_query_of_a_class_that_was_not_trained_is_left_out() -> None:
    (x, y), (queries, labels) = rows(80, 0), rows(40, 1)
    (settings,) = expand_grid("retrieval", {})
    bundle = Bundle(x_train=x, y_train=y, x_val=x, y_val=y, n_classes=4, fits=((settings, 0),))
    (fit,) = get_classifier("retrieval").fit(bundle)
    assert fit.measure is not None
    without = np.where(labels == 3, -1, labels)
    values = r_precision(unit_rows(x), y, queries, labels)
    measured = fit.measure(queries, without)
    assert measured["r_precision_test"] == pytest.approx(values[labels != 3].mean())
    by_class = [values[labels == c].mean() for c in range(3)]
    assert measured["r_precision_macro_test"] == pytest.approx(np.mean(by_class))


@pytest.mark.slow
def test_a_run_writes_r_precision_beside_the_uar(store: str, tmp_path: Path) -> None:
    config = ProbeConfig(
        store=store,
        labels=("call",),
        out=tmp_path,
        classifiers=("retrieval", "centroid"),
        models=("model-a",),
        n_seeds=3,
    )
    run_probe(config)
    table = read_results(tmp_path)
    assert len(table) == 6  # a seed changes nothing
    found = table[table["classifier"] == "retrieval"].sort_values("layer")
    assert found["r_precision_test"].is_monotonic_increasing  # as the layers were made
    assert found["uar_test"].between(0, 1).all()
    assert found["r_precision_macro_test"].between(0, 1).all()
    others = table[table["classifier"] == "centroid"]
    page = render_page(load_report_data(tmp_path))
    assert f"{100 * found['r_precision_test'].iloc[0]:.1f}</td>" in page
    assert others[["r_precision_test", "r_precision_macro_test"]].isna().all(axis=None)


def test_it_has_no_settings() -> None:
    with pytest.raises(ConfigError, match="classifier retrieval: it has no settings, got 'k'"):
        expand_grid("retrieval", {"k": 3})
