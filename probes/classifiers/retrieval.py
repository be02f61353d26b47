"""Retrieval: is what lies nearest of the same class? Nothing is trained.

Queries are the test rows, references the training rows, compared by cosine of standardised rows. With a
split by group no reference comes from the query's own recording, which a search among the test rows
themselves would allow.

R-precision of a query whose class has R references: the share of its R nearest references that are of
its class (Manning, Raghavan & Schütze 2008, "Introduction to Information Retrieval", 8.4; used for
embeddings by Musgrave, Belongie & Lim 2020, "A Metric Learning Reality Check"). Predictions, and so the
UAR, are those of the single nearest reference.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.arrays import FloatArray, IntArray
from featurestore.errors import ConfigError
from probes.classifiers.interface import Bundle, FittedProbe, Settings

# Similarities held at a time: 64 MB.
BLOCK_VALUES = 1 << 24
TINY_NORM = 1e-12


class Retrieval:
    """Nearest reference by cosine, and R-precision."""

    seeded = False
    by_epochs = False

    def complete(self, settings: Settings) -> dict[str, Any]:
        """See `probes.classifiers.interface.Classifier`."""
        if settings:
            raise ConfigError(f"classifier retrieval: it has no settings, got {next(iter(settings))!r}")
        return {}

    def fit(self, bundle: Bundle) -> list[FittedProbe]:
        """See `probes.classifiers.interface.Classifier`."""
        started = time.perf_counter()
        references = unit_rows(bundle.x_train)
        fit = FittedProbe(
            scores=partial(class_similarity, references, bundle.y_train, bundle.n_classes),
            probabilistic=False,
            measure=partial(_measures, references, bundle.y_train),
            fit_s=time.perf_counter() - started,
        )
        return [fit] * len(bundle.fits)


def unit_rows(x: FloatArray) -> FloatArray:
    """Rows `[n, d]` scaled to length 1; a row of zeros stays one."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    out: FloatArray = x / np.maximum(norm, TINY_NORM)
    return out


def class_similarity(references: FloatArray, y: IntArray, n_classes: int, x: FloatArray) -> FloatArray:
    """Cosine with the nearest reference of each class `[n, C]`."""
    order = np.argsort(y, kind="stable")
    first = np.searchsorted(y[order], np.arange(n_classes))
    out = np.empty((len(x), n_classes), dtype=np.float32)
    for rows, similar in _similarities(references[order], x):
        out[rows] = np.maximum.reduceat(similar, first, axis=1)
    return out


def r_precision(
    references: FloatArray, y: IntArray, x: FloatArray, y_query: IntArray
) -> npt.NDArray[np.float64]:
    """R-precision of every query `[n]`; NaN where no reference is of its class.

    Among references equally near as the R-th, it is the mean over every choice of them.

    Args:
        references: Rows of length 1 `[m, d]`.
        y: Their classes.
        x: Queries `[n, d]`.
        y_query: Their classes.
    """
    out = np.full(len(x), np.nan)
    for label in np.unique(y_query):
        queries = np.flatnonzero(y_query == label)
        relevant = y == label
        n_relevant = int(relevant.sum())
        if n_relevant == 0:
            continue
        for rows, similar in _similarities(references, x[queries]):
            last = np.partition(similar, len(y) - n_relevant, axis=1)[:, len(y) - n_relevant, None]
            above, at = similar > last, similar == last
            share = (n_relevant - above.sum(axis=1)) / at.sum(axis=1)
            found = (above & relevant).sum(axis=1) + share * (at & relevant).sum(axis=1)
            out[queries[rows]] = found / n_relevant
    return out


def _measures(references: FloatArray, y: IntArray, x: FloatArray, y_query: IntArray) -> dict[str, float]:
    values = r_precision(references, y, x, y_query)
    known = ~np.isnan(values)
    by_class = [float(values[known & (y_query == c)].mean()) for c in np.unique(y_query[known])]
    if not by_class:
        return {"r_precision_test": float("nan"), "r_precision_macro_test": float("nan")}
    return {
        "r_precision_test": float(values[known].mean()),
        "r_precision_macro_test": float(np.mean(by_class)),
    }


def _similarities(references: FloatArray, x: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
    """Cosines `[b, m]` of blocks of queries."""
    n = max(1, BLOCK_VALUES // max(1, len(references)))
    for start in range(0, len(x), n):
        rows = slice(start, start + n)
        yield rows, unit_rows(x[rows]) @ references.T
