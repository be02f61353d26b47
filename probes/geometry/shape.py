"""The shape of a cloud of rows: how many dimensions it fills, and whether it points one way.

Linear measures come from the spectrum of the covariance: the participation ratio ``(sum v)^2 / sum v^2`` of
its eigenvalues, and the effective rank (Roy & Vetterli 2007, "The effective rank: a measure of effective
dimensionality"), the exponential of the entropy of the singular values of the centred rows. Both are below
the number of rows whatever the truth is; the debiased participation ratio is not: it takes
``sum v^2 = |S|_F^2`` from the unbiased estimate that CKA uses (`probes.geometry.similarity`: HSIC of a linear
kernel with itself).

TwoNN (Facco, d'Errico, Rodriguez & Laio 2017, "Estimating the intrinsic dimension of datasets by a minimal
neighborhood information") counts the dimensions of a curved surface, from nothing but the distances of each
row to its first and second neighbour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featurestore.arrays import Float64Array, FloatArray
from probes.geometry.similarity import Centred, unbiased_hsic

# The tail of the largest ratios is left out of the fit (Facco et al., "we discard the 10 % of points").
KEPT_SHARE = 0.9
# Below so many distinct rows the line of TwoNN is drawn through nothing.
LEAST_DISTINCT = 10
BLOCK_FLOATS = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Measures of one layer; NaN where it has none, such as where all rows are the same.

    Attributes:
        two_nn: Intrinsic dimension.
        participation_ratio: Of the sample covariance, at most n - 1.
        participation_ratio_debiased: The same without that bound; NaN where rows are too few to tell.
        effective_rank: At most n - 1.
        mean_cosine: Mean cosine between two different rows as they are, not centred: anisotropy (Ethayarajh
            2019, "How Contextual are Contextualized Word Representations?").
    """

    two_nn: float
    participation_ratio: float
    participation_ratio_debiased: float
    effective_rank: float
    mean_cosine: float


class Held:
    """Rows in memory as a `Representation`."""

    def __init__(self, values: FloatArray) -> None:
        self._values = values
        self.shape: tuple[int, int] = (values.shape[0], values.shape[1])

    def block(self, start: int, stop: int) -> FloatArray:
        """See `Representation`."""
        return self._values[start:stop]


def shape_of(x: FloatArray) -> Shape:
    """Measures of the rows of x, float32 `[n, d]`; n must be 4 or more."""
    centred = Centred(Held(x))
    if centred.is_constant:
        nan = float("nan")
        return Shape(
            two_nn=nan,
            participation_ratio=nan,
            participation_ratio_debiased=nan,
            effective_rank=nan,
            mean_cosine=mean_cosine(x),
        )
    values = spectrum(centred)
    squared = float(unbiased_hsic(np.array([[(values * values).sum()]]), centred.squares[None])[0, 0])
    variance = centred.squares.sum() / (centred.n - 1)
    return Shape(
        two_nn=two_nn(x),
        participation_ratio=participation_ratio(values),
        participation_ratio_debiased=float(variance * variance / squared) if squared > 0 else float("nan"),
        effective_rank=effective_rank(np.sqrt(values)),
        mean_cosine=mean_cosine(x),
    )


def spectrum(centred: Centred) -> Float64Array:
    """Eigenvalues of ``X'X`` of centred rows, those that can differ from zero `[min(n, d)]`, float64."""
    from scipy.linalg import eigvalsh

    step = max(1, BLOCK_FLOATS // centred.d)
    spans = [(start, min(centred.n, start + step)) for start in range(0, centred.n, step)]
    if centred.d <= centred.n:
        product = np.zeros((centred.d, centred.d))
        for span in spans:
            x = centred.block(*span)
            product += x.T @ x
    else:
        x = centred.block(0, centred.n)
        product = x @ x.T
    values: Float64Array = np.maximum(eigvalsh(product), 0.0)
    return values


def participation_ratio(eigenvalues: Float64Array) -> float:
    """``(sum v)^2 / sum v^2``: d for d equal eigenvalues, 1 where one is all."""
    return float(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


def effective_rank(singular_values: Float64Array) -> float:
    """Exponential of the entropy of the singular values, scaled to sum 1 (Roy & Vetterli 2007, eq. 4)."""
    share = singular_values[singular_values > 0] / singular_values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def mean_cosine(x: FloatArray) -> float:
    """Mean cosine over all pairs of different rows `[n, d]`.

    Of unit rows u it is ``(|sum u|^2 - n) / (n (n - 1))``. Rows of zeros have no direction and are left out.
    """
    n, total = 0, np.zeros(x.shape[1])
    step = max(1, BLOCK_FLOATS // x.shape[1])
    for start in range(0, len(x), step):
        block = x[start : start + step].astype(np.float64)
        length = np.linalg.norm(block, axis=1)
        block = block[length > 0] / length[length > 0, None]
        n, total = n + len(block), total + block.sum(axis=0)
    return float((total @ total - n) / (n * (n - 1))) if n > 1 else float("nan")


def two_nn(x: FloatArray) -> float:
    """Intrinsic dimension of the rows of x `[n, d]`; NaN for fewer than `LEAST_DISTINCT` distinct ones.

    The share of rows whose ratio of second to first distance is at most m is ``1 - m^-dimension``: a line
    through the origin is fitted to ``-log(1 - share)`` over ``log m``. Rows that are the same count once.
    """
    from sklearn.neighbors import NearestNeighbors

    distinct = np.unique(x, axis=0)
    if len(distinct) < LEAST_DISTINCT:
        return float("nan")
    # Far from the origin distances would lose their digits.
    distinct -= distinct.mean(axis=0, dtype=np.float64).astype(np.float32)
    distance, _ = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(distinct).kneighbors()
    distance = distance[distance[:, 0] > 0].astype(np.float64)
    n = len(distance)
    if n < LEAST_DISTINCT:
        return float("nan")
    ratio = np.sort(np.log(distance[:, 1] / distance[:, 0]))
    kept = int(KEPT_SHARE * n)
    ratio, share = ratio[:kept], np.arange(1, kept + 1) / n
    squared = float(ratio @ ratio)
    return float(-(ratio @ np.log1p(-share)) / squared) if squared > 0 else float("nan")
