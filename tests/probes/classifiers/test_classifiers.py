"""Every classifier of the registry through the one interface."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest

from featurestore.errors import ConfigError
from probes.classifiers.interface import VECTORS, Bundle, inputs_of
from probes.classifiers.numbers import RIDGE
from probes.classifiers.registry import CLASSIFIERS, expand_grid, get_classifier

SMALL = {
    "mlp": {"hidden": (16,), "batch_size": 16, "max_epochs": 10, "learning_rate": 0.01},
    "linear": {"batch_size": 16, "max_epochs": 10, "learning_rate": 0.01},
    "rf": {"n_estimators": 20},
    "gb": {"max_iter": 10},
}
# The others have tests of their own, on frames.
ON_VECTORS = [
    name
    for name, c in CLASSIFIERS.items()
    if inputs_of(c) == VECTORS and name != RIDGE  # of numbers alone
]


def rows(n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(150) % n_classes
    centres = rng.standard_normal((n_classes, 8)) * 2
    return (rng.standard_normal((150, 8)) + centres[y]).astype(np.float32), y.astype(np.int64)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("name", [*ON_VECTORS, "sklearn.naive_bayes:GaussianNB", "sklearn.svm:SVC"])
def test_learns_and_scores_every_class(name: str, n_classes: int) -> None:
    x, y = rows(n_classes)
    (settings,) = expand_grid(name, SMALL.get(name, {}))
    bundle = Bundle(
        x_train=x[:100],
        y_train=y[:100],
        x_val=x[100:],
        y_val=y[100:],
        n_classes=n_classes,
        fits=((settings, 0), (settings, 1)),
    )
    classifier = get_classifier(name)
    first, second = classifier.fit(bundle)
    scores = first.scores(x[100:])
    assert scores.shape == (50, n_classes)
    assert (scores.argmax(1) == y[100:]).mean() > 0.85
    if first.probabilistic:
        np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)
    if not classifier.seeded:
        np.testing.assert_array_equal(scores, second.scores(x[100:]))
    (again, _) = classifier.fit(bundle)
    np.testing.assert_array_equal(scores, again.scores(x[100:]))


@pytest.mark.parametrize("name", ["logreg", "svm", "knn", "lda", "centroid", "rf", "gb"])
def test_the_largest_score_is_what_the_estimator_predicts(name: str) -> None:
    x, y = rows(4)
    x = x * np.array([1, 5, 1, 1, 0.2, 1, 1, 1], dtype=np.float32)  # features of unlike spread
    (settings,) = expand_grid(name, SMALL.get(name, {}))
    bundle = Bundle(x_train=x[:100], y_train=y[:100], x_val=x, y_val=y, n_classes=4, fits=((settings, 0),))
    classifier = get_classifier(name)
    (fit,) = classifier.fit(bundle)
    module, _, kind = classifier.path.partition(":")  # type: ignore[attr-defined]
    seed = {"random_state": 0} if classifier.seeded else {}
    estimator = getattr(importlib.import_module(module), kind)(**settings, **seed)
    estimator.fit(x[:100], y[:100])
    np.testing.assert_array_equal(fit.scores(x[100:]).argmax(1), estimator.predict(x[100:]))


def test_a_grid_is_every_combination_once_with_defaults_filled_in() -> None:
    grid = expand_grid("mlp", {"learning_rate": [1e-3, 1e-2], "hidden": [[64], []], "dropout": 0.1})
    assert [(s["learning_rate"], s["hidden"]) for s in grid] == [
        (1e-3, [64]),
        (1e-3, []),
        (1e-2, [64]),
        (1e-2, []),
    ]
    assert {s["dropout"] for s in grid} == {0.1}
    assert all(s["batch_size"] == 128 for s in grid)
    # one list of widths is one network
    assert [s["hidden"] for s in expand_grid("mlp", {"hidden": [64, 32]})] == [[64, 32]]
    # a value given twice is fitted once; the default written out is the default
    assert len(expand_grid("mlp", {"learning_rate": [1e-3, 1e-3]})) == 1
    assert expand_grid("mlp", {"learning_rate": 1e-3}) == expand_grid("mlp", {})
    # and so is another spelling of a number, whose text is part of the question
    spelt = json.dumps(expand_grid("mlp", {"weight_decay": 0, "dropout": 0}))
    assert spelt == json.dumps(expand_grid("mlp", {}))
    assert json.dumps(expand_grid("logreg", {"C": 10})) == json.dumps(expand_grid("logreg", {"C": 10.0}))


@pytest.mark.parametrize(
    ("name", "grid", "message"),
    [
        ("linear", {"hidden": [8]}, "classifier linear: unknown setting 'hidden'"),
        ("mlp", {"hidden": "wide"}, "hidden: expected positive whole numbers"),
        ("mlp", {"seed": 1}, "unknown setting 'seed'"),
        ("attention", {"precision": "bf16"}, "precision: classifier attention is trained in fp32 only"),
        ("mha", {"precision": "bf16"}, "precision: classifier mha is trained in fp32 only"),
        ("knn", {"neighbours": 3}, "classifier knn: unknown setting .*did you mean 'n_neighbors'"),
        ("rf", {"random_state": 3}, "classifier rf: unknown setting 'random_state'"),
        ("svm", {"C": "big"}, "classifier svm: The 'C' parameter"),
        ("json:JSONDecoder", {}, "'json:JSONDecoder': expected a scikit-learn classifier"),
        (
            "sklearn.linear_model:LinearRegression",
            {},
            "classifier, this is a regressor",
        ),
        ("sklearn.svm:NoSuch", {}, "'sklearn.svm:NoSuch': cannot import it"),
    ],
)
def test_a_wrong_setting_is_one_line(name: str, grid: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        expand_grid(name, grid)
    assert "\n" not in str(caught.value)
