"""The scikit-learn classifiers that can be saved: a list, and the shape of everything they compute from.

A saved probe may be anybody's. What it names is looked up here and never imported by its word, its arrays are
taken one by one, by name and shape, and what follows from them is not read at all: scikit-learn's compiled
code trusts its own attributes, and an `SVC` whose counts are not those of its vectors reads beyond them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]
# Sizes by name: classes, features, rows (kept ones, of any number), and what follows from those.
Sizes = dict[str, int]
# Features of a row: a hundred layers of two functionals of 5,000 features.
MOST_WIDTH = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Savable:
    """How one class is saved.

    Attributes:
        module: where it is imported from.
        arrays: attributes it predicts from, with their shapes: names of `Sizes`.
        counts: of them, those that are whole numbers; all others are finite real ones.
        optional: of them, those that not every version or setting has.
        derived: further attributes, from the arrays and sizes.
        check: what shapes do not say; raises `ValueError`.
        refit: by arrays of features and classes, instead of attributes of its own.
    """

    module: str
    arrays: Mapping[str, tuple[str, ...]]
    counts: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    derived: Callable[[Arrays, Sizes], dict[str, Any]] = field(default=lambda arrays, sizes: {})
    check: Callable[[Any, Arrays, Sizes], None] = field(default=lambda estimator, arrays, sizes: None)
    refit: tuple[str, str] | None = None


def _support_vectors(arrays: Arrays, sizes: Sizes) -> dict[str, Any]:
    """What `SVC` keeps besides; its shape of training data counts for precomputed kernels alone."""
    return {
        "_sparse": False,
        "shape_fit_": (sizes["rows"], sizes["features"]),
        "fit_status_": 0,
        "_effective_probability": bool(arrays["_probA"].size),
    }


def _check_support_vectors(estimator: Any, arrays: Arrays, sizes: Sizes) -> None:
    counts = arrays["_n_support"]
    if (counts < 0).any() or int(counts.sum()) != sizes["rows"]:
        raise ValueError(f"_n_support counts {counts.tolist()}, there are {sizes['rows']} support vectors")
    if estimator.kernel == "precomputed":
        raise ValueError("kernel: expected one that is computed here, got 'precomputed'")


def _check_neighbours(estimator: Any, arrays: Arrays, sizes: Sizes) -> None:
    if estimator.n_neighbors > sizes["rows"]:
        raise ValueError(f"n_neighbors is {estimator.n_neighbors}, there are {sizes['rows']} rows")
    if set(np.unique(arrays["_y"])) != set(range(sizes["classes"])):
        raise ValueError(f"_y: expected each of the {sizes['classes']} classes and no other")
    if estimator.metric == "precomputed":
        raise ValueError("metric: expected one that is computed here, got 'precomputed'")


_LINEAR = {"coef_": ("margins", "features"), "intercept_": ("margins",)}
_SVC = Savable(
    module="sklearn.svm",
    arrays={
        "support_": ("rows",),
        "support_vectors_": ("rows", "features"),
        "_n_support": ("classes",),
        "dual_coef_": ("others", "rows"),
        "_dual_coef_": ("others", "rows"),
        "intercept_": ("pairs",),
        "_intercept_": ("pairs",),
        "_probA": ("pairs or none",),
        "_probB": ("pairs or none",),
        "class_weight_": ("classes",),
        "_gamma": (),
    },
    counts=frozenset({"support_", "_n_support"}),
    derived=_support_vectors,
    check=_check_support_vectors,
)

#: By the name of the class.
SAVABLE: Mapping[str, Savable] = {
    "LogisticRegression": Savable(module="sklearn.linear_model", arrays=_LINEAR),
    "LinearSVC": Savable(module="sklearn.svm", arrays=_LINEAR),
    "LinearDiscriminantAnalysis": Savable(module="sklearn.discriminant_analysis", arrays=_LINEAR),
    "NearestCentroid": Savable(
        module="sklearn.neighbors",
        arrays={
            "centroids_": ("classes", "features"),
            "class_prior_": ("classes",),
            "deviations_": ("classes", "features"),
            "within_class_std_dev_": ("features",),
        },
        optional=frozenset({"deviations_", "within_class_std_dev_"}),
    ),
    "KNeighborsClassifier": Savable(
        module="sklearn.neighbors",
        arrays={"_fit_X": ("rows", "features"), "_y": ("rows",)},
        counts=frozenset({"_y"}),
        check=_check_neighbours,
        refit=("_fit_X", "_y"),
    ),
    "GaussianNB": Savable(
        module="sklearn.naive_bayes",
        arrays={
            "theta_": ("classes", "features"),
            "var_": ("classes", "features"),
            "class_prior_": ("classes",),
        },
    ),
    "BernoulliNB": Savable(
        module="sklearn.naive_bayes",
        arrays={"feature_log_prob_": ("classes", "features"), "class_log_prior_": ("classes",)},
    ),
    "SVC": _SVC,
    "NuSVC": _SVC,
}


def is_savable(estimator: Any) -> bool:
    """Whether it is of a class of the list: the very class, none derived from it."""
    name = type(estimator).__name__
    return name in SAVABLE and type(estimator) is _class(name)


def put_together(name: str, parameters: Mapping[str, Any], state: Mapping[str, Any], sizes: Sizes) -> Any:
    """A fitted classifier.

    Args:
        name: of its class, as ``module:Class`` or alone; the class is the one of the list.
        parameters: of its constructor.
        state: attributes by name; those it does not need are left aside.
        sizes: ``classes`` and ``features``.

    Raises:
        ValueError: no class of the list, or parameters or attributes that cannot be those of one.
        KeyError: an attribute is missing.
        TypeError: a parameter is not one of the class.
    """
    module, _, name = name.rpartition(":")
    known = SAVABLE.get(name)
    if known is None or not f"{module}.".startswith(f"{known.module}."):
        raise ValueError(f"expected a class of scikit-learn that can be saved, got {module}:{name}")
    estimator = _class(name)(**parameters)
    estimator._validate_params()
    if "n_jobs" in parameters:
        estimator.set_params(n_jobs=None)  # how many processes it was made with is nothing to us
    classes = sizes["classes"]
    sizes = {**sizes, "margins": 1 if classes == 2 else classes, "others": classes - 1}
    sizes["pairs"] = classes * (classes - 1) // 2
    arrays = _checked(known, state, sizes)
    known.check(estimator, arrays, sizes)
    if known.refit:
        return estimator.fit(*(arrays[part] for part in known.refit))
    own = {"classes_": np.arange(classes), "n_features_in_": sizes["features"]}
    for key, value in {**own, **arrays, **known.derived(arrays, sizes)}.items():
        # 0-d arrays were numbers
        setattr(estimator, key, value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value)
    return estimator


def _checked(known: Savable, state: Mapping[str, Any], sizes: Sizes) -> dict[str, npt.NDArray[Any]]:
    """The arrays a class needs, each of the shape and kind it must have; `sizes` gets ``rows``."""
    found: dict[str, npt.NDArray[Any]] = {}
    for key, names in known.arrays.items():
        if key in known.optional and key not in state:
            continue
        value = np.asarray(state[key])
        if not names and value.size == 1:
            value = value.reshape(())  # earlier versions wrote a number as an array of one
        if "rows" in names and "rows" not in sizes and value.ndim == len(names):
            sizes["rows"] = value.shape[names.index("rows")]
        shapes = [tuple(sizes.get(n, 0) for n in names)]
        if names == ("pairs or none",):
            shapes = [(0,), (sizes["pairs"],)]
        if value.shape not in shapes:
            raise ValueError(f"{key}: expected the shape {shapes[-1]}, got {value.shape}")
        kinds, said = ("iu", "whole") if key in known.counts else ("iuf", "finite real")
        if value.dtype.kind not in kinds or not np.isfinite(value).all():
            raise ValueError(f"{key}: expected {said} numbers")
        found[key] = value
    return found


def _class(name: str) -> Any:
    return getattr(importlib.import_module(SAVABLE[name].module), name)
