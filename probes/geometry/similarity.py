"""How alike two layers arrange the same utterances: debiased linear CKA.

Centred kernel alignment (Kornblith, Norouzi, Lee & Hinton 2019, "Similarity of Neural Network Representations
Revisited") is ``HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y))``. Its usual estimate grows with the number of
features: two layers of independent noise come out alike where rows are few. Here HSIC is estimated without
bias (Song, Smola, Gretton, Bedo & Borgwardt 2012, "Feature Selection via Dependence Maximization", eq. 5), as
Nguyen, Raghu & Kornblith 2021, "Do Wide and Deep Networks Learn the Same Things?", do. With zeroed diagonals
K, L of the kernels of n rows::

    HSIC = [ tr(K L) + (1'K1) (1'L1) / ((n - 1)(n - 2)) - 2 / (n - 2) 1'K L 1 ] / (n (n - 3))

It stays the same when a constant is added to all rows (the kernel then changes by a_i + a_j, which the two
other terms take out: Szekely & Rizzo 2014, U-centring), so rows may be centred first. Of centred rows
``XX' 1 = 0``; with k_i = |x_i|^2 and l_i = |y_i|^2 the zeroed kernels have ``K 1 = -k``, ``L 1 = -l``, and::

    HSIC = [ |X'Y|_F^2 - n / (n - 2) k'l + sum(k) sum(l) / ((n - 1)(n - 2)) ] / (n (n - 3))

which needs no n x n matrix. What is left, ``|X'Y|_F^2 = <XX', YY'>``, is summed over features or over pairs
of rows, whichever is less work, in float64 and in tiles of bounded size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from featurestore.arrays import Float64Array, FloatArray

# The estimate divides by n - 3.
LEAST_ROWS = 4
MEMORY_BYTES = 1 << 30
# Rows that differ by less than this share of their length differ by what float32 rounds off.
SAME = 1e-6


class Representation(Protocol):
    """Vectors of the same n utterances in one layer, read a block at a time."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, d)``."""

    def block(self, start: int, stop: int) -> FloatArray:
        """Rows from `start` up to `stop`, float32 `[b, d]`."""


class Centred:
    """A representation less the mean of its rows, in float64, block by block.

    Attributes:
        squares: Squared length of every centred row `[n]`.
        is_constant: Whether rows differ by rounding only.
    """

    def __init__(self, of: Representation, memory_bytes: int = MEMORY_BYTES) -> None:
        self._of = of
        self.n, self.d = of.shape
        total, raw = np.zeros(self.d), 0.0
        step = max(1, memory_bytes // (16 * self.d))
        spans = [(start, min(self.n, start + step)) for start in range(0, self.n, step)]
        for span in spans:
            x = of.block(*span).astype(np.float64)
            total += x.sum(axis=0)
            raw += float(np.einsum("ij,ij->", x, x))
        self._mean = total / self.n
        self.squares = np.concatenate([_squares(self.block(*span)) for span in spans])
        self.is_constant = bool(self.squares.sum() <= SAME * SAME * raw)

    def block(self, start: int, stop: int) -> Float64Array:
        """Centred rows from `start` up to `stop` `[b, d]`."""
        x = self._of.block(start, stop).astype(np.float64)
        x -= self._mean
        return x


def debiased_cka(
    representations: Sequence[Representation],
    *,
    memory_bytes: int = MEMORY_BYTES,
    on_tile: Callable[[int, int], object] | None = None,
) -> Float64Array:
    """CKA between all representations of the same utterances, row i of each being utterance i.

    1 on the diagonal; around 0 for unrelated ones, also a little below.

    Args:
        representations: T of them, each `[n, d]` with a width of its own.
        memory_bytes: What tiles and blocks may take, roughly.
        on_tile: Called with the tiles done, and how many there are.

    Returns:
        float64 `[T, T]`; NaN where all rows of a representation are the same.

    Raises:
        ValueError: fewer than `LEAST_ROWS` rows, or other numbers of rows.
    """
    lengths = {r.shape[0] for r in representations}
    if len(lengths) != 1 or min(lengths) < LEAST_ROWS:
        raise ValueError(f"expected {LEAST_ROWS} rows or more, the same for all, got {sorted(lengths)}")
    centred = [Centred(r, memory_bytes) for r in representations]
    n, widths = centred[0].n, [c.d for c in centred]
    by_features = sum(2 * n * a * b for a, b in itertools.combinations_with_replacement(widths, 2))
    by_rows = n * n * (sum(widths) + len(widths) ** 2)
    sums = sums_over_features if by_features <= by_rows else sums_over_rows
    products = sums(centred, memory_bytes, on_tile or (lambda done, total: None))
    return _alignment(products, np.stack([c.squares for c in centred]), [c.is_constant for c in centred])


def unbiased_hsic(products: Float64Array, squares: Float64Array) -> Float64Array:
    """HSIC of centred representations with linear kernels `[T, T]`; see the head of this module.

    Args:
        products: ``|X'Y|_F^2`` of all pairs `[T, T]`.
        squares: Squared lengths of centred rows `[T, n]`.
    """
    n = squares.shape[1]
    total = squares.sum(axis=1)
    rows = squares @ squares.T
    out = products - n / (n - 2) * rows + np.outer(total, total) / ((n - 1) * (n - 2))
    return np.asarray(out / (n * (n - 3)), dtype=np.float64)


def _alignment(products: Float64Array, squares: Float64Array, is_constant: Sequence[bool]) -> Float64Array:
    hsic = unbiased_hsic(products, squares)
    own = np.diagonal(hsic).copy()
    own[np.asarray(is_constant) | (own <= 0)] = np.nan
    out: Float64Array = hsic / np.sqrt(np.outer(own, own))
    return out


def sums_over_features(
    centred: Sequence[Centred], memory_bytes: int, on_tile: Callable[[int, int], object]
) -> Float64Array:
    """``|X'Y|_F^2`` of all pairs `[T, T]`, by way of the d x d products: ``2 n d^2`` operations a pair.

    Some representations at a time are read against some, block by block; half of the memory is for their
    products.
    """
    n_all, widest = len(centred), max(c.d for c in centred)
    side = max(1, int((memory_bytes / (16 * widest * widest)) ** 0.5))
    groups = [range(i, min(n_all, i + side)) for i in range(0, n_all, side)]
    tiles = list(itertools.combinations_with_replacement(groups, 2))
    out = np.zeros((n_all, n_all))
    for done, (first, second) in enumerate(tiles):
        pairs = [(a, b) for a in first for b in second if a <= b]
        sums = {(a, b): np.zeros((centred[a].d, centred[b].d)) for a, b in pairs}
        members = sorted({*first, *second})
        step = max(1, memory_bytes // (16 * sum(centred[i].d for i in members)))
        for start, stop in _spans(centred[0].n, step):
            x = {i: centred[i].block(start, stop) for i in members}
            for a, b in pairs:
                sums[a, b] += x[a].T @ x[b]
        for a, b in pairs:
            out[a, b] = out[b, a] = float(np.einsum("ij,ij->", sums[a, b], sums[a, b]))
        on_tile(done + 1, len(tiles))
    return out


def sums_over_rows(
    centred: Sequence[Centred], memory_bytes: int, on_tile: Callable[[int, int], object]
) -> Float64Array:
    """``<XX', YY'>`` of all pairs `[T, T]`, by way of kernels: ``n^2 d`` operations a representation.

    A tile of the kernels of all representations is in memory at a time.
    """
    n_all, widest = len(centred), max(c.d for c in centred)
    # Tiles take half of the memory, the two blocks of rows that one is made of the other half.
    side = int(min((memory_bytes / (16 * n_all)) ** 0.5, memory_bytes / (48 * widest)))
    spans = list(_spans(centred[0].n, max(1, side)))
    tiles = list(itertools.combinations_with_replacement(range(len(spans)), 2))
    out = np.zeros((n_all, n_all))
    for done, (i, j) in enumerate(tiles):
        kernels = np.stack([_kernel(c, spans[i], spans[j]) for c in centred])
        out += (1 if i == j else 2) * (kernels @ kernels.T)
        on_tile(done + 1, len(tiles))
    return out


def _kernel(centred: Centred, rows: tuple[int, int], columns: tuple[int, int]) -> Float64Array:
    """Dot products of rows with rows, flat `[r * c]`."""
    x = centred.block(*rows)
    y = x if rows == columns else centred.block(*columns)
    return (x @ y.T).reshape(-1)


def _squares(x: Float64Array) -> Float64Array:
    out: Float64Array = np.einsum("ij,ij->i", x, x)
    return out


def _spans(n: int, step: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n, step):
        yield start, min(n, start + step)
