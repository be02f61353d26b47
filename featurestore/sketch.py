"""Sketches of waveforms: the same samples are recognised wherever they stand in a clip.

Around every sample that is the loudest of its neighbourhood a window is hashed; a clip's sketch is the
smallest of these hashes (bottom-k sampling; Broder 1997, "On the resemblance and containment of
documents"). Which windows those are depends on the sound alone, so a copy that starts earlier or
later, has silence before or after it, or was cut out of a longer clip shares most of the sketch. What
was resampled, filtered or scaled is not recognised: that is for embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

HashArray = npt.NDArray[np.uint64]

REACH = 32  # samples to either side: a window is 65 samples, an anchor the loudest of them
KEPT = 16
# Clips are alike when they share this much of the smaller sketch, and this many hashes at least.
SHARE, AT_LEAST = 0.25, 3
# Fewer distinct values in a window than this is silence, clipping or a click on digital silence.
DISTINCT = 24
_COEFFICIENTS = np.random.Generator(np.random.PCG64(65)).integers(
    0, 2**64, 2 * REACH + 1, dtype=np.uint64
) | np.uint64(1)


def sketch(blocks: Iterable[npt.NDArray[np.float32]]) -> HashArray:
    """Sketch of a clip given as consecutive blocks of samples: at most `KEPT` hashes, ascending."""
    kept = np.zeros(0, dtype=np.uint64)
    tail = np.zeros(0, dtype=np.float32)
    for block in blocks:
        x = np.concatenate([tail, block])
        kept = np.unique(np.concatenate([kept, _hashes(x)]))[:KEPT]
        tail = x[-2 * REACH :]
    return kept


def _hashes(x: npt.NDArray[np.float32]) -> HashArray:
    width = 2 * REACH + 1
    if len(x) < width:
        return np.zeros(0, dtype=np.uint64)
    loud = np.abs(x)
    loudest = loud
    reach = 1
    while reach < width:  # maximum of `width` samples by doubling
        step = min(reach, width - reach)
        loudest = np.maximum(loudest[:-step], loudest[step:])
        reach += step
    anchors = np.flatnonzero((loud[REACH : len(x) - REACH] == loudest) & (loudest > 0))
    if not len(anchors):
        return np.zeros(0, dtype=np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(x, width)[anchors]
    distinct = 1 + (np.diff(np.sort(windows, axis=1), axis=1) != 0).sum(axis=1)
    bits = np.ascontiguousarray(windows[distinct >= DISTINCT]).view(np.uint32).astype(np.uint64)
    mixed = (bits * _COEFFICIENTS).sum(axis=1, dtype=np.uint64)
    mixed ^= mixed >> np.uint64(31)
    mixed *= np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: high bits depend on all
    out: HashArray = mixed ^ (mixed >> np.uint64(29))
    return out


def alike(sketches: Sequence[HashArray]) -> npt.NDArray[np.int64]:
    """Pairs of clips that hold the same samples, first < second `[m, 2]`.

    Of many clips with one sound in common neighbours in order are paired, not all with all.
    """
    sizes = np.array([len(s) for s in sketches], dtype=np.int64)
    if not sizes.sum():
        return np.zeros((0, 2), dtype=np.int64)
    hashes = np.concatenate(list(sketches))
    owner = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((owner, hashes))
    hashes, owner = hashes[order], owner[order]
    edges = [0, *(np.flatnonzero(hashes[1:] != hashes[:-1]) + 1).tolist(), len(hashes)]
    shared: dict[tuple[int, int], int] = {}
    for first, last in pairwise(edges):
        for pair in pairwise(owner[first:last].tolist()):
            shared[pair] = shared.get(pair, 0) + 1
    found = [
        pair
        for pair, n in shared.items()
        if n >= AT_LEAST and n >= SHARE * min(sizes[pair[0]], sizes[pair[1]])
    ]
    return np.array(sorted(found), dtype=np.int64).reshape(-1, 2)
