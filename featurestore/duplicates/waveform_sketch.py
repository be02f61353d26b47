"""Sketches of waveforms: the same samples are recognised wherever they stand in a clip, and at any level.

Around every sample that is the loudest of its neighbourhood a window is divided by that sample, coded
in three levels and hashed; a clip's sketch is a sample of these hashes that depends on the sound alone
(Broder 1997, "On the resemblance and containment of documents"). So a copy that starts earlier or
later, has silence before or after it, was cut out of a longer clip, was made softer or louder or turned
upside down shares much of the sketch. That by itself would take two steady tones for copies; therefore
windows match only if they lie equally far apart in both clips, differ by the same gain, and agree in
a few samples to a hundredth. (An electronic tone or sweep, 45 dB or more above its noise, is the same
sound wherever it is played.) What was resampled or filtered is not recognised: that is for embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from featurestore.arrays import FloatArray, IntArray

REACH = 32  # samples to either side: a window has 65 samples, an anchor is the loudest of its neighbours
# Every sample, every fourth or every sixteenth: the narrowest window that has enough to tell.
STRIDES = (1, 4, 16)
MARGIN = REACH * STRIDES[-1]
# Of three-level codes of spoken digits 91 % survive half the level in 16 bits, and 76 % a tenth of it;
# with thresholds at 0 or at a half it is less.
LEVELS = (-0.25, 0.25)
# Fewer changes of level in a window than this tell nothing apart. Where even the widest window has
# fewer (under 100 Hz at 48 kHz) it is hashed bit by bit, and recognised at its own level only.
CHANGES = 8
# Fewer distinct values in a window than these are silence, clipping or a click on digital silence.
DISTINCT, DISTINCT_BITWISE = 12, 24
# Kept of a clip: the smallest hashes, and all below a threshold, so that what was cut out of a long
# recording finds its like in it (one window in 32: five or so in a second).
KEPT, ONE_IN = 32, 32
# Clips are alike when this many windows agree, and this share of the smaller sketch.
AT_LEAST, SHARE = 4, 0.15
TOLERANCE, WIDEST_TOLERANCE = 0.01, 0.03  # of the loudest sample; wider where 16 bits are coarse
SAME_GAIN = 0.03
NEIGHBOURS = 8  # of many clips that share a window, each is compared with so many that follow
_OFFSETS = np.arange(-REACH, REACH + 1)
_CHECKED = REACH + np.array([-29, -19, -11, -5, 5, 11, 19, 29])

#: One window: its hash, its place in samples, its loudest sample, and some others in units of that.
WINDOW = np.dtype([("hash", "u8"), ("place", "i8"), ("height", "f4"), ("others", "f2", (len(_CHECKED),))])
Sketch = npt.NDArray[np.void]
HashArray = npt.NDArray[np.uint64]
_COEFFICIENTS = np.random.Generator(np.random.PCG64(65)).integers(
    0, 2**64, 2 * REACH + 1, dtype=np.uint64
) | np.uint64(1)


def no_sketch() -> Sketch:
    """The sketch of nothing."""
    return np.zeros(0, dtype=WINDOW)


def sketch(blocks: Iterable[FloatArray]) -> Sketch:
    """Sketch of a clip given as consecutive blocks of samples: windows by ascending hash."""
    kept = no_sketch()
    silence = np.zeros(MARGIN, dtype=np.float32)
    tail, place = silence, -MARGIN
    for block in chain(blocks, [silence]):
        x = np.concatenate([tail, block])
        found = _windows(x)
        found["place"] += place
        _, first = np.unique(both := np.concatenate([kept["hash"], found["hash"]]), return_index=True)
        chosen = first[(np.arange(len(first)) < KEPT) | (both[first] < np.uint64(2**64 // ONE_IN))]
        kept = np.concatenate([kept, found])[chosen]
        tail = x[-2 * MARGIN :]
        place += len(x) - len(tail)
    return kept


def _windows(x: FloatArray) -> Sketch:
    """Windows whose anchor has `MARGIN` samples to either side."""
    anchors = _anchors(x)
    out = np.zeros(len(anchors), dtype=WINDOW)
    told = np.zeros(len(anchors), dtype=bool)
    for stride in STRIDES:
        left = np.flatnonzero(~told)
        windows = x[anchors[left][:, None] + stride * _OFFSETS]
        shape = windows / windows[:, REACH, None]
        code = (shape > LEVELS[0]).astype(np.int8) + (shape > LEVELS[1])
        enough = (np.diff(code, axis=1) != 0).sum(axis=1) >= CHANGES
        enough &= _distinct(windows) >= DISTINCT
        _put(out, left[enough], code[enough].astype(np.uint64) + np.uint64(stride), shape[enough])
        told[left[enough]] = True
    left = np.flatnonzero(~told)
    windows = x[anchors[left][:, None] + _OFFSETS]
    enough = _distinct(windows) >= DISTINCT_BITWISE
    bits = windows[enough].view(np.uint32).astype(np.uint64)
    _put(out, left[enough], bits, windows[enough] / windows[enough][:, REACH, None])
    told[left[enough]] = True
    out["place"], out["height"] = anchors, x[anchors]
    return out[told]


def _anchors(x: FloatArray) -> IntArray:
    """The loudest of `REACH` samples to either side; of several in a row the first."""
    width = 2 * REACH + 1
    if len(x) <= 2 * MARGIN:
        return np.zeros(0, dtype=np.int64)
    loud = np.abs(x[MARGIN - REACH : len(x) - MARGIN + REACH])
    loudest = loud
    reach = 1
    while reach < width:  # maximum of `width` samples by doubling
        step = min(reach, width - reach)
        loudest = np.maximum(loudest[:-step], loudest[step:])
        reach += step
    own = loud[REACH:-REACH]
    return MARGIN + np.flatnonzero((own == loudest) & (own > loud[REACH - 1 : -REACH - 1]))


def _distinct(windows: FloatArray) -> IntArray:
    return np.asarray(1 + (np.diff(np.sort(windows, axis=1), axis=1) != 0).sum(axis=1))


def _put(out: Sketch, at: IntArray, cells: HashArray, shape: FloatArray) -> None:
    out["hash"][at] = _hash(cells)
    out["others"][at] = shape[:, _CHECKED]


def _hash(cells: HashArray) -> HashArray:
    mixed = (cells * _COEFFICIENTS).sum(axis=1, dtype=np.uint64)
    mixed ^= mixed >> np.uint64(31)
    mixed *= np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: high bits depend on all
    return np.asarray(mixed ^ (mixed >> np.uint64(29)))


def alike(sketches: Sequence[Sketch]) -> IntArray:
    """Pairs of clips that hold the same samples, first < second `[m, 2]`.

    Of many clips with one sound in common neighbours in order are paired, not all with all.
    """
    sizes = np.array([len(s) for s in sketches], dtype=np.int64)
    if not sizes.sum():
        return np.zeros((0, 2), dtype=np.int64)
    windows = np.concatenate(list(sketches))
    owner = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((owner, windows["hash"]))
    windows, owner = windows[order], owner[order]
    # Each agreement of two windows: first and second clip, shift in samples, gain.
    rows = [_agreements(windows, owner, step) for step in range(1, min(NEIGHBOURS + 1, len(windows)))]
    first, second, shift, gain = (np.concatenate(column) for column in zip(*rows, strict=True))
    order = np.lexsort((gain, shift, second, first))
    first, second, shift, gain = first[order], second[order], shift[order], gain[order]
    new = np.ones(len(first), dtype=bool)
    new[1:] = (np.diff(first) != 0) | (np.diff(second) != 0) | (np.diff(shift) != 0)
    start = np.flatnonzero(new)
    size = np.diff(np.append(start, len(first)))
    # Gains are sorted within a run, so its middle row is its median.
    median = np.repeat(gain[start + size // 2], size)
    agree = np.abs(gain - median) <= SAME_GAIN * np.abs(median)
    n = np.add.reduceat(agree.astype(np.int64), start) if len(start) else size
    a, b = first[start], second[start]
    found = (n >= AT_LEAST) & (n >= SHARE * np.minimum(sizes[a], sizes[b]))
    return np.unique(np.stack([a[found], b[found]], axis=1), axis=0)


def _agreements(
    windows: Sketch, owner: IntArray, step: int
) -> tuple[IntArray, IntArray, IntArray, npt.NDArray[np.float64]]:
    i = np.flatnonzero(windows["hash"][step:] == windows["hash"][:-step])
    a, b = windows[i], windows[i + step]
    off = (a["others"].astype(np.float64) - b["others"]) ** 2
    quietest = np.minimum(np.abs(a["height"]), np.abs(b["height"])).astype(np.float64)
    allowed = np.minimum(TOLERANCE + 2.0**-15 / quietest, WIDEST_TOLERANCE)
    near = np.sqrt(off.mean(axis=1)) <= allowed
    gain = b["height"].astype(np.float64) / a["height"]
    return owner[i][near], owner[i + step][near], (b["place"] - a["place"])[near], gain[near]
