"""Numbers as labels: what is read as one, and ridge regression against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge

from featurestore.errors import ConfigError, LabelError
from probes.classifiers.interface import Bundle
from probes.classifiers.numbers import (
    CLASSIFICATION,
    REGRESSION,
    TargetScale,
    check_task,
    coded_texts,
    number_cells,
    numbers_of,
)
from probes.classifiers.registry import expand_grid, get_classifier
from probes.classifiers.ridge import DEFAULT_ALPHAS


def cells(*texts: str) -> np.ndarray:
    return np.array(texts, dtype=object)


def read(*texts: str) -> list[str]:
    ids = cells(*(f"u{i}" for i in range(len(texts))))
    return number_cells(cells(*texts), ids, "label 'age' of m/d").tolist()


def test_a_number_has_one_spelling() -> None:
    assert read("3", "3.0", "+3.", " 3 ", "0.3e1") == ["3.0"] * 5
    assert read("-0", ".5", "1e-3", "-12.25") == ["0.0", "0.5", "0.001", "-12.25"]
    assert numbers_of(cells(*read("0.1", "1e100"))).tolist() == [0.1, 1e100]


@pytest.mark.parametrize(
    "text",
    ["adult", "nan", "NaN", "inf", "-Infinity", "1e101", "1e999", "1,5", "1_000", "0x10", "3 years", "٣"],
)
def test_what_is_no_number_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(LabelError) as error:
        read("1", text, "2", text)
    (line,) = str(error.value).splitlines()
    assert "label 'age' of m/d" in line
    assert repr(text) in line
    assert "'u1' and 1 more" in line


def test_texts_of_numbers_give_them_back() -> None:
    rng = np.random.default_rng(0)
    y, guesses = rng.standard_normal(20), rng.standard_normal((2, 20)) * 1e-9
    guesses[1, 3] = y[0]
    texts, codes = coded_texts({"test": [y, *guesses], "val": [y[:5], *guesses[:, :5]]})
    assert len(set(texts)) == len(texts)
    names = cells(*texts)
    np.testing.assert_array_equal(numbers_of(names[codes["test"].ravel()]).reshape(3, 20), [y, *guesses])
    np.testing.assert_array_equal(numbers_of(names[codes["val"][0]]), y[:5])


@pytest.mark.parametrize("shape", [(60, 12), (30, 80)], ids=["tall", "wide"])
def test_ridge_equals_scikit_learns_on_standardised_rows(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    n, d = shape
    x, other = (rng.standard_normal((m, d)).astype(np.float32) for m in (n, 25))
    y = 40 + 12 * (x[:, :3].sum(axis=1) + rng.standard_normal(n))
    scale = TargetScale.fit(y)
    alphas = [0.5, *DEFAULT_ALPHAS]
    bundle = Bundle(
        x_train=x,
        y_train=scale(y),
        x_val=None,
        y_val=None,
        n_classes=1,
        fits=tuple(({"alpha": a}, 0) for a in alphas),
    )
    for alpha, fit in zip(alphas, get_classifier("ridge").fit(bundle), strict=True):
        expected = SklearnRidge(alpha=alpha).fit(x.astype(np.float64), y).predict(other.astype(np.float64))
        np.testing.assert_allclose(scale.back(fit.scores(other))[:, 0], expected, rtol=1e-6, atol=1e-6)


def test_ridge_tries_strengths_unless_the_grid_names_them() -> None:
    assert [s["alpha"] for s in expand_grid("ridge", {})] == list(DEFAULT_ALPHAS)
    assert expand_grid("ridge", {"alpha": 2}) == [{"alpha": 2.0}]
    assert expand_grid("ridge", {"alpha": [1, 1.0, 5]}) == [{"alpha": 1.0}, {"alpha": 5.0}]
    for wrong in (0, -1, "1", True, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="alpha: expected a number above 0"):
            expand_grid("ridge", {"alpha": wrong})
    with pytest.raises(ConfigError, match=r"unknown setting 'alhpa'.*alpha"):
        expand_grid("ridge", {"alhpa": 1})


def test_a_task_and_its_classifiers_have_to_fit() -> None:
    check_task(REGRESSION, ("ridge", "mlp", "linear"))
    check_task(CLASSIFICATION, ("mlp", "logreg"))
    with pytest.raises(ConfigError, match=r"regresion.*did you mean 'regression'"):
        check_task("regresion", ("mlp",))
    with pytest.raises(ConfigError, match="logreg predicts no numbers"):
        check_task(REGRESSION, ("mlp", "logreg"))
    with pytest.raises(ConfigError, match="add --task regression"):
        check_task(CLASSIFICATION, ("ridge",))
