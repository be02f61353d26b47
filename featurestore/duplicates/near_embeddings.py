"""Embeddings that nearly coincide: pairs of rows of one layer that are too alike to be two recordings.

Rows are standardised per feature and compared by cosine. How alike two different recordings are
differs between models and corpora by orders of magnitude, so the threshold follows the corpus: a pair
must be twenty times nearer than rows usually are to their nearest neighbour. Where most rows have a copy
the nearest neighbour is that copy; so its distance is inferred from neighbours farther out.

Cost is bounded: rows are projected to `PROJECTED` dimensions (Johnson & Lindenstrauss: distances keep
within about 2 / sqrt(dimensions), here a fifth), at most `MAX_PRODUCTS` pairs are looked at, and only
pairs that pass there are computed in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featurestore.arrays import FloatArray, IntArray

if TYPE_CHECKING:
    from featurestore.store.layer import Layer

PROJECTED, MIN_PROJECTED = 128, 32
# Projections of all rows together, 256 MB: beyond half a million rows, dimensions are fewer.
PROJECTED_FLOATS = 1 << 26
# 4e9 products of 128 numbers are 1 TFLOP: ten seconds on two cores. All pairs of 89,000 rows.
MAX_PRODUCTS = 4_000_000_000
MAX_PAIRS = 200_000
BLOCK_FLOATS = 1 << 24  # of one block of cosines (64 MB)
MOMENT_ROWS = 20_000  # rows that mean and spread are taken from
SCALE_ROWS = 1_000  # rows whose neighbours give the scale
SCALE_RANK = 16  # the scale comes from this neighbour and the one of half the rank: beyond seven copies
NEARER = 0.05
# Cosine distances: below the first, rows count as the same whatever the scale (float32 and resampling
# leave 1e-7 to 1e-4); above the second they never do, however far apart the rest is.
SURELY, AT_MOST = 1e-4, 0.05


@dataclass(frozen=True)
class Similar:
    """Pairs of rows that nearly coincide.

    Attributes:
        pairs: Positions in the rows given, first < second, nearest first `[m, 2]`.
        cosine: Of each pair `[m]`.
        threshold: Cosine that a pair had to reach.
        typical: Cosine of a row and its nearest neighbour that is no copy, as inferred.
        n_rows: Rows compared (those with values).
        n_queried: Of these, the rows compared with all others; fewer where there are too many.
        truncated: More than `MAX_PAIRS` were found; the rest is not listed.
    """

    pairs: IntArray
    cosine: FloatArray
    threshold: float
    typical: float
    n_rows: int
    n_queried: int
    truncated: bool


def similar_pairs(layer: Layer, rows: IntArray, *, max_products: int = MAX_PRODUCTS) -> Similar:
    """Find pairs among the given rows of a layer (positions in its index, ascending)."""
    z, keep, whole = _projected(layer, rows)
    n = len(keep)
    if n < 3:
        none = np.zeros((0, 2), dtype=np.int64), np.zeros(0, dtype=np.float32)
        return Similar(*none, threshold=1.0, typical=0.0, n_rows=n, n_queried=n, truncated=False)
    typical = _typical_distance(z)
    limit = float(np.clip(NEARER * typical, SURELY, AT_MOST))
    queries = np.arange(n) if n * n // 2 <= max_products else spaced(n, max_products // n)
    # The projection may make a pair look farther than it is: look a little wider.
    found = _candidates(z, queries, 1.5 * limit)
    truncated = len(found) > MAX_PAIRS
    found = found[:MAX_PAIRS]
    cosine = _exact(layer, rows[keep], found, whole)
    near = cosine >= 1 - limit
    found, cosine = found[near], cosine[near]
    order = np.lexsort((found[:, 1], found[:, 0], -cosine.round(6)))
    return Similar(
        keep[found[order]],
        cosine[order],
        threshold=1 - limit,
        typical=1 - typical,
        n_rows=n,
        n_queried=len(queries),
        truncated=truncated,
    )


def neighbours(layer: Layer, rows: IntArray, *, max_products: int = MAX_PRODUCTS) -> IntArray:
    """Rows with the row nearest to each, nearest first `[m, 2]` (positions in `rows`).

    Of more rows than `max_products` allows, evenly spaced ones are asked for their neighbour.
    """
    z, keep, _ = _projected(layer, rows)
    n = len(keep)
    if n < 2:
        return np.zeros((0, 2), dtype=np.int64)
    queries = spaced(n, max_products // n)
    found = [(cosine.argmax(axis=1), cosine.max(axis=1)) for _, cosine in cosine_blocks(z, queries)]
    nearest, highest = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(-highest, kind="stable")
    out: IntArray = keep[np.stack([queries, nearest], axis=1)[order]]
    return out


def _projected(
    layer: Layer, rows: IntArray
) -> tuple[FloatArray, IntArray, Callable[[FloatArray], FloatArray]]:
    """Unit vectors `[m, p]` of the rows with values, which rows these are, and how to standardise."""
    sample = rows[spaced(len(rows), MOMENT_ROWS)]
    values = np.concatenate([x for _, x in _blocks(layer, sample)] or [np.zeros((0, 1), np.float32)])
    values = values[np.isfinite(values).all(axis=1)]
    d = values.shape[1]
    if len(values) < 3:
        return np.zeros((0, 1), np.float32), np.zeros(0, dtype=np.int64), lambda x: x
    mean, std = values.mean(axis=0), values.std(axis=0)
    del values
    scale = np.where(std > 1e-6 * max(float(std.max()), 1e-30), 1 / np.maximum(std, 1e-30), 0.0)

    def whole(x: FloatArray) -> FloatArray:
        return unit_rows(((x - mean) * scale).astype(np.float32))

    rng = np.random.Generator(np.random.PCG64(0))
    width = min(d, PROJECTED, max(MIN_PROJECTED, PROJECTED_FLOATS // len(rows)))
    onto = rng.standard_normal((d, width)).astype(np.float32) if d > width else None
    joined, keep, n = np.empty((len(rows), width), dtype=np.float32), [], 0
    for where, x in _blocks(layer, rows):
        finite = np.isfinite(x).all(axis=1)
        z = whole(x[finite])
        if onto is not None:
            z = unit_rows(z @ onto)
        joined[n : n + len(z)] = z
        n += len(z)
        keep.append(where[finite])
    return joined[:n], np.concatenate(keep), whole


def _blocks(layer: Layer, rows: IntArray) -> Iterator[tuple[IntArray, FloatArray]]:
    """``(positions in rows, values [b, F * D])``, shard by shard."""
    for shard in layer.shards:
        first, last = np.searchsorted(rows, [shard.start, shard.stop])
        if first < last:
            x = layer.sound(rows[first:last])
            yield np.arange(first, last), x.reshape(last - first, -1)


def spaced(n: int, at_most: int) -> IntArray:
    """So many of `n` positions, one at least, evenly spaced and each once; all where they are not more."""
    return np.unique(np.linspace(0, max(0, n - 1), min(n, max(1, at_most))).astype(np.int64))


def unit_rows(x: FloatArray) -> FloatArray:
    """Rows of length 1; those of nothing but zeros stay."""
    unit: FloatArray = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return unit


def cosine_blocks(z: FloatArray, queries: IntArray) -> Iterator[tuple[IntArray, FloatArray]]:
    """``(block of queries [b], their cosine with all rows of z [b, n])``, -2 with itself."""
    step = max(1, BLOCK_FLOATS // len(z))
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        cosine = z[block] @ z.T
        cosine[np.arange(len(block)), block] = -2.0
        yield block, cosine


def _typical_distance(z: FloatArray) -> float:
    """Distance of a row to its nearest neighbour, were there no copies; from evenly spaced rows.

    In a space of any dimension the median distance to the k-th neighbour is a power of k. It is known at two
    ranks that seven copies of every row do not reach, and followed down to the first.
    """
    far = min(SCALE_RANK, len(z) - 1)
    near = max(1, far // 2)
    ranks = [near - 1, far - 1]
    distances = [
        np.partition(1 - cosine, ranks, axis=1)[:, ranks]
        for _, cosine in cosine_blocks(z, spaced(len(z), SCALE_ROWS))
    ]
    at_near, at_far = np.maximum(np.median(np.concatenate(distances), axis=0), 1e-12)
    power = np.log(at_far / at_near) / np.log(far / near)
    return float(at_near * near**-power)


def _candidates(z: FloatArray, queries: IntArray, limit: float) -> IntArray:
    """Pairs ``first < second`` within `limit` of which one is a query, `MAX_PAIRS` + 1 at most."""
    step = max(1, BLOCK_FLOATS // len(z))
    every = len(queries) == len(z)
    found, n = [np.zeros((0, 2), dtype=np.int64)], 0
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        # With all rows as queries each pair would come twice: only look ahead.
        first = int(block[0]) if every else 0
        a, b = np.nonzero(z[block] @ z[first:].T >= 1 - limit)
        pairs = np.stack([block[a], b + first], axis=1)
        pairs = pairs[pairs[:, 0] < pairs[:, 1]] if every else np.sort(pairs[pairs[:, 0] != pairs[:, 1]])
        found.append(pairs)
        n += len(pairs)
        if n > MAX_PAIRS:
            break
    return np.unique(np.concatenate(found), axis=0)[: MAX_PAIRS + 1]


def _exact(
    layer: Layer, rows: IntArray, pairs: IntArray, whole: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    """Cosine of each pair in all dimensions, a bounded number of rows at a time."""
    out = np.empty(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), 4096):
        part = pairs[start : start + 4096]
        needed, where = np.unique(part, return_inverse=True)
        z = whole(np.concatenate([x for _, x in _blocks(layer, rows[needed])]))
        where = where.reshape(part.shape)
        out[start : start + len(part)] = (z[where[:, 0]] * z[where[:, 1]]).sum(axis=1)
    return out
