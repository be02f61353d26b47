"""How well a stored layer knows a confound: ridge regression, its strength chosen on validation rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from featurestore.arrays import Float64Array, FloatArray
from probes import metrics
from probes.confounds.catalogue import CONFOUNDS, Confound, as_targets, known
from probes.training.ridge import ridge_path

Mask = npt.NDArray[np.bool_]

# Strongest first: on a tie the simpler model is taken.
ALPHAS = tuple(10.0**k for k in range(6, -3, -1))
R2, BALANCED_ACCURACY = "r2", "balanced_accuracy"
FEWEST_ROWS = 10  # of training; with fewer nothing is asked
FEWEST_HELD_OUT = 2
# A matrix of rows x categories is held.
MOST_CATEGORIES = 1000


@dataclass(frozen=True, kw_only=True)
class Known:
    """How well one layer knows one confound.

    Attributes:
        confound: Its name.
        measure: `R2`, of log2 for frequencies and lengths, or `BALANCED_ACCURACY`.
        val: On validation rows.
        test: On test rows.
        chance: Of balanced accuracy; 0 for R², which the mean of the test rows has.
        alpha: Strength of the ridge.
        n_train: Rows with a value.
        n_test: Rows with a value.
    """

    confound: str
    measure: str
    val: float
    test: float
    chance: float
    alpha: float
    n_train: int
    n_test: int


def known_by_layer(x: dict[str, FloatArray], tables: dict[str, pd.DataFrame]) -> list[Known]:
    """How well a layer knows each confound; those that vary too little to ask for are left out.

    Args:
        x: Standardised rows `[n, d]` of train, val and test.
        tables: Values of the confounds for the same rows.
    """
    asked = [c for c in CONFOUNDS if _can_be_asked(c, {part: t[c.name] for part, t in tables.items()})]
    # Numbers that the same rows have share the products of the layer's features.
    together: dict[tuple[bytes, ...], list[Confound]] = {}
    out: dict[str, Known] = {}
    for confound in asked:
        has = {part: known(confound, table[confound.name]) for part, table in tables.items()}
        if confound.kind != "category":
            together.setdefault(tuple(mask.tobytes() for mask in has.values()), []).append(confound)
            continue
        values = {part: table[confound.name][has[part]] for part, table in tables.items()}
        found = _category(confound, {part: _rows(x[part], mask) for part, mask in has.items()}, values)
        if found is not None:
            out[confound.name] = found
    for confounds in together.values():
        has = {part: known(confounds[0], table[confounds[0].name]) for part, table in tables.items()}
        rows = {part: _rows(x[part], mask) for part, mask in has.items()}
        targets = {
            c.name: {part: as_targets(c, table[c.name][has[part]]) for part, table in tables.items()}
            for c in confounds
        }
        out.update((found.confound, found) for found in _numbers(targets, rows))
    return [out[c.name] for c in asked if c.name in out]


def _rows(x: FloatArray, mask: Mask) -> FloatArray:
    return x if mask.all() else x[mask]


def _can_be_asked(confound: Confound, values: dict[str, pd.Series]) -> bool:
    """Whether enough rows of each part have a value, and not all the same."""
    has = {part: v[known(confound, v)] for part, v in values.items()}
    if len(has["train"]) < FEWEST_ROWS or min(len(has["val"]), len(has["test"])) < FEWEST_HELD_OUT:
        return False
    differ = ("train",) if confound.kind == "category" else ("train", "val", "test")
    return all(has[part].nunique() > 1 for part in differ)


def _numbers(targets: dict[str, dict[str, Float64Array]], x: dict[str, FloatArray]) -> Iterator[Known]:
    """R² of numbers that the same rows have, by name; each chooses its own strength."""
    from sklearn.metrics import r2_score

    def r2(y: Float64Array, guess: Float64Array) -> float:
        # Both coordinates of an hour together: their squares are summed.
        return float(r2_score(y, guess, multioutput="variance_weighted"))

    of_all = np.concatenate([y["train"] for y in targets.values()], axis=1)
    ends = np.cumsum([y["train"].shape[1] for y in targets.values()])
    best: dict[str, tuple[float, float, Float64Array]] = {}
    for alpha, (coefficients, intercept) in zip(ALPHAS, ridge_path(x["train"], of_all, ALPHAS), strict=True):
        guess = {part: x[part] @ coefficients + intercept for part in ("val", "test")}
        for (name, y), end in zip(targets.items(), ends, strict=True):
            own = slice(end - y["train"].shape[1], end)
            score = r2(y["val"], guess["val"][:, own])
            if name not in best or score > best[name][0]:
                best[name] = score, alpha, guess["test"][:, own]
    for name, y in targets.items():
        yield Known(
            confound=name,
            measure=R2,
            val=best[name][0],
            test=r2(y["test"], best[name][2]),
            chance=0.0,
            alpha=best[name][1],
            n_train=len(y["train"]),
            n_test=len(y["test"]),
        )


def _category(confound: Confound, x: dict[str, FloatArray], values: dict[str, pd.Series]) -> Known | None:
    """As `sklearn.linear_model.RidgeClassifier` with balanced weights of classes."""
    from sklearn.utils.class_weight import compute_sample_weight

    names, codes = np.unique(values["train"].to_numpy(dtype=str), return_inverse=True)
    val, test = (values[part].to_numpy(dtype=str) for part in ("val", "test"))
    if len(names) > MOST_CATEGORIES or not (np.isin(val, names).any() and np.isin(test, names).any()):
        return None  # of groups that are held out there is nothing to know again
    weight = compute_sample_weight("balanced", codes)
    y = np.where(codes[:, None] == np.arange(len(names)), 1.0, -1.0)
    best: tuple[float, float, npt.NDArray[np.str_]] | None = None
    for alpha, (coefficients, intercept) in zip(
        ALPHAS, ridge_path(x["train"], y, ALPHAS, weight), strict=True
    ):
        guess = [names[(x[part] @ coefficients + intercept).argmax(axis=1)] for part in ("val", "test")]
        score = metrics.uar(val, guess[0])
        if best is None or score > best[0]:
            best = score, alpha, guess[1]
    assert best is not None
    return Known(
        confound=confound.name,
        measure=BALANCED_ACCURACY,
        val=best[0],
        test=metrics.uar(test, best[2]),
        chance=metrics.chance_level(test, values["train"].to_numpy(dtype=str)),
        alpha=best[1],
        n_train=len(codes),
        n_test=len(test),
    )
