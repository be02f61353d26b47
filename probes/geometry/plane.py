"""Utterances of one layer as points of a plane: by principal components, or by t-SNE.

Principal components keep the largest distances; t-SNE (van der Maaten & Hinton 2008) keeps who is near whom,
and nothing else: how far apart its groups lie, and how large they are, says nothing of the layer.
"""

from __future__ import annotations

import numpy as np

from featurestore.arrays import Float64Array, FloatArray

PRINCIPAL, NEIGHBOURS = "pca", "tsne"
MAPS = (PRINCIPAL, NEIGHBOURS)
# Principal components that t-SNE starts from (scikit-learn's advice), and how many neighbours count for a
# point (its default).
N_PARTS, PERPLEXITY = 50, 30.0


def principal_plane(z: FloatArray) -> tuple[Float64Array, tuple[float, float]]:
    """First two principal components `[n, 2]` of standardised rows `[n, d]`, and their shares of variance.

    They are scikit-learn's, whose signs they have.
    """
    from sklearn.decomposition import PCA

    n_parts = min(2, z.shape[1])
    fitted = PCA(n_parts, svd_solver="arpack" if min(z.shape) > 2 else "full", random_state=0)
    xy = np.zeros((len(z), 2))
    xy[:, :n_parts] = fitted.fit_transform(z)
    first, second = (float(v) for v in (*fitted.explained_variance_ratio_, 0.0)[:2])
    return xy, (first, second)


def neighbour_plane(z: FloatArray, seed: int) -> Float64Array:
    """t-SNE `[n, 2]` of standardised rows `[n, d]`, by scikit-learn; rows that are all alike are all at 0.

    One thread works: the order in which several add their parts would change the last digits, and with them
    the whole map.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if not np.ptp(z, axis=0).any():
        return np.zeros((len(z), 2))
    n_parts = min(N_PARTS, *z.shape)
    solver = "arpack" if n_parts < min(z.shape) else "full"
    perplexity = min(PERPLEXITY, max(1.0, (len(z) - 1) / 3))
    with threadpool_limits(1):
        parts = PCA(n_parts, svd_solver=solver, random_state=seed).fit_transform(z)
        start = "pca" if n_parts > 1 else "random"
        fitted = TSNE(init=start, perplexity=perplexity, random_state=seed, n_jobs=1)
        xy: Float64Array = fitted.fit_transform(parts).astype(np.float64)
    return xy
