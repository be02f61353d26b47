"""Variance of a score between groups, and the degrees of freedom of that variance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featurestore.arrays import Float64Array

# Correlation of rows of one group that the degrees of freedom are worked out for. The variance does not
# depend on it; between 0 and 0.5 the degrees of freedom hardly do (docs/statistics.md).
WORKING_CORRELATION = 0.2
# Rows of the score's own mean that a class without a single error, or hit, is thought to have had besides.
PRIOR_ROWS = 2.0
# The same for a class in which two models never differ. There the difference that is seen is 0 too, so that
# less is needed; with 2, equal models are told apart in 1.5 % of samples with classes of 3 rows, not in 5 %.
PRIOR_ROWS_PAIRED = 0.5


@dataclass(frozen=True)
class Variance:
    """Variance of a mean over classes.

    Attributes:
        variance: Its value.
        df: Its degrees of freedom.
        assumed: Share of it that no group shows: that of classes without an error.
    """

    variance: float
    df: float
    assumed: float = 0.0


def score_variance(values: Float64Array, by_group: Float64Array, counts: Float64Array) -> Variance:
    """Variance of the mean of `values [K]`, scores between 0 and 1.

    The influences of a group are summed over classes, so that what its classes share is counted. A class
    without any error (or hit) shows no spread though it has one, and gets that of independent rows, two more
    than there are, with the mean score.

    Args:
        values: Score of each class `[K]`.
        by_group: Influences `[G, K]`.
        counts: Rows of each class in each group `[G, K]`.
    """
    k = len(values)
    if k == 0:
        return Variance(float("nan"), float("nan"))
    n = counts.sum(axis=0)
    mean = (values * n + 1) / (n + 2)  # Laplace; the weight of a class, never 0
    bound = (values <= 0) | (values >= 1)
    guess = (values * n + PRIOR_ROWS * mean.mean()) / (n + PRIOR_ROWS)
    seen = float((by_group.sum(axis=1) ** 2).sum())
    assumed = float((guess * (1 - guess) / (n + PRIOR_ROWS))[bound].sum())
    df = degrees_of_freedom(counts, mean * (1 - mean))
    return Variance((seen + assumed) / k**2, df, _share(assumed, seen))


def difference_variance(by_group: Float64Array, counts: Float64Array) -> Variance:
    """Variance of the mean over classes of paired differences, from differences of influences `[G, K]`.

    A class in which the two never differ gets the variance that half a row more would give which differs as
    those of the other classes do.
    """
    k = counts.shape[1]
    n = counts.sum(axis=0)
    own = (by_group**2).sum(axis=0)  # [K]
    known = own > 0
    seen = float((by_group.sum(axis=1) ** 2).sum())
    if not known.any():
        return Variance(0.0, float("nan"))
    of_row = float((own * n)[known].mean())
    assumed = float((of_row * PRIOR_ROWS_PAIRED / (n + PRIOR_ROWS_PAIRED) ** 2)[~known].sum())
    weight = np.where(known, own * n, of_row * PRIOR_ROWS_PAIRED / (n + PRIOR_ROWS_PAIRED))
    # A class that differs in few rows shows a spread that is mostly chance: half its own, half of all.
    weight = (weight + of_row) / 2
    return Variance((seen + assumed) / k**2, degrees_of_freedom(counts, weight), _share(assumed, seen))


def degrees_of_freedom(
    counts: Float64Array, weight: Float64Array, correlation: float = WORKING_CORRELATION
) -> float:
    """Satterthwaite's degrees of freedom of the summed squares of influences.

    Bell & McCaffrey 2002 (Survey Methodology 28:169) and Imbens & Kolesár 2016 (Review of Economics and
    Statistics 98:701): the influences z are linear in what the groups score, so with the working covariance
    of those they have covariance M, and df = tr(M)² / tr(M²). For recall z is exact; for other macro scores
    it is that of a recall with the same rows.

    Args:
        counts: Rows of each class in each group `[G, K]`.
        weight: Variance of a row of each class, in any unit `[K]`; classes of weight 0 are left out.
        correlation: Working correlation of two rows of a group.

    Returns:
        NaN where nothing is left.
    """
    used = (weight > 0) & ((counts > 0).sum(axis=0) > 1)
    n = counts[:, used]
    if n.shape[1] == 0:
        return float("nan")
    sd = np.sqrt(weight[used])
    total = n.sum(axis=0)
    share = n / total
    # z_g = Σ_k load_gk (h_gk - share_gk H_k), all [G, K]
    load = 1 / (total * np.sqrt(np.clip(1 - share, 1e-12, None)))
    scaled = n * sd
    common = (load * scaled).sum(axis=1)  # [G]
    own = 1 - correlation
    diagonal = own * (load**2 * n * sd**2).sum(axis=1) + correlation * common**2
    cross = own * load * n * sd**2 + correlation * common[:, None] * scaled  # [G, K] Cov(d_g, H_k)
    between = own * np.diag(total * sd**2) + correlation * scaled.T @ scaled  # [K, K] Cov(H)
    # M = diag + B J B' with B = [load·share, cross], of rank 2K: traces without a G x G matrix.
    b = np.hstack([load * share, cross])
    k = n.shape[1]
    j = np.block([[between, -np.eye(k)], [-np.eye(k), np.zeros((k, k))]])
    low_rank = ((b @ j) * b).sum(axis=1)
    trace = float((diagonal + low_rank).sum())
    inner = j @ (b.T @ b)
    square = float((diagonal**2).sum() + 2 * (diagonal * low_rank).sum() + np.trace(inner @ inner))
    return trace**2 / square if square > 0 and trace > 0 else float("nan")


def _share(assumed: float, seen: float) -> float:
    return assumed / (assumed + seen) if assumed > 0 else 0.0
