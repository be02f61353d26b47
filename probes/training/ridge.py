"""Ridge regression in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from featurestore.arrays import Float64Array, FloatArray


def ridge_path(
    x: FloatArray, y: Float64Array, alphas: Sequence[float], weight: Float64Array | None = None
) -> Iterator[tuple[Float64Array, Float64Array]]:
    """Ridge regressions of all strengths from one matrix of products.

    Coefficients `[d, q]` and intercepts `[q]` of each, the same as of `sklearn.linear_model.Ridge`, which
    multiplies 1,536 features of all rows anew for each strength, for every layer and confound.

    Args:
        x: Rows `[n, d]`.
        y: Targets `[n, q]`.
        alphas: Strengths, above 0.
        weight: Of each row `[n]`; None: 1.
    """
    from scipy.linalg import cho_factor, cho_solve

    w = np.ones(len(x)) if weight is None else weight
    x = x.astype(np.float64)
    x_mean, y_mean = np.average(x, axis=0, weights=w), np.average(y, axis=0, weights=w)
    root = np.sqrt(w)[:, None]
    x -= x_mean
    x *= root
    y = (y - y_mean) * root
    tall = len(x) >= x.shape[1]
    products = x.T @ x if tall else x @ x.T
    targets = x.T @ y if tall else y
    diagonal = products.diagonal().copy()
    for alpha in alphas:
        np.fill_diagonal(products, diagonal + alpha)
        coefficients = cho_solve(cho_factor(products, check_finite=False), targets, check_finite=False)
        if not tall:
            coefficients = x.T @ coefficients
        yield coefficients, y_mean - x_mean @ coefficients
