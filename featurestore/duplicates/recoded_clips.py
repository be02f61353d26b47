"""Clips that are one sound under other codings, sample rates or levels: OGG, MP3, Opus of a WAV file.

Lossy coding changes every sample, so that hashes of samples (`featurestore.duplicates.waveform_sketch`) find
nothing. Here each clip has a *portrait*: its energy by band in `PARTS` stretches that hold equal energy,
which coding, gain and silence before or after leave nearly as it was. Portraits only say which few clips to
compare; what decides is the samples: two clips are one sound when their waveforms, shifted against each
other, correlate as only a copy does. Coding at usual rates leaves 0.94 to 1. Takes of one word by one speaker
seldom reach 0.9: of 9,845 pairs of spoken digits that look most alike three do. No threshold is taken from
the corpus, so that the share of copies in it does not matter.

A tone of one pitch correlates with every other, and a click with every click. Hence three more demands: the
waveforms must be too rich for chance, agree throughout and not in one loud instant, and overlap mostly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

from featurestore.arrays import FloatArray, IntArray
from featurestore.audio.blocks import SoundError, mono_blocks, read_header
from featurestore.duplicates.near_embeddings import cosine_blocks, spaced, unit_rows
from featurestore.manifest.audio_places import Places

Wave = npt.NDArray[np.floating]

HOP_S = 0.010  # frames of a portrait; windows are twice as long
LOWEST_HZ, HIGHEST_HZ, N_BANDS = 100.0, 96_000.0, 36
# Low rates cut what is high: 8 kHz MP3 ends near 3 kHz, 32 kbit/s near 6 kHz. So clips are also compared
# by what lies below. In bands: 2.9 kHz, 6.3 kHz and all.
VIEWS = (18, 22, N_BANDS)
PARTS = 12
MAX_FRAMES = 1 << 14  # beyond, neighbouring frames are joined: memory is bounded whatever the length
PROJECTED = 96
NEAREST = 2  # in each view, for each clip; copies of copies are joined afterwards
# Cosine of portraits, of which copies have 0.99 and more in one view at least. Below, nobody listens.
PORTRAIT = 0.97
MAX_PRODUCTS = 2_000_000_000  # pairs of portraits: all pairs of 44,000 clips; beyond, queries are spaced

STRETCH_S = 10.0  # of longer clips, so much about the middle of their energy is compared
# Audio of all pairs together, the most alike first: so much, or as much as the corpus has.
LISTENED_S = 12 * 3600.0
HIGHPASS_HZ = 50.0  # codecs drop what is lower
ROLLOFF = 0.999  # share of the energy below the frequency up to which waveforms are compared
SEGMENTS = 16
AUDIBLE = 1e-4  # energy of a segment that counts, relative to the loudest
CORRELATION, IN_SEGMENTS, OVERLAP = 0.92, 0.8, 0.7
# Nats by which a correlation beats chance: -N/2 ln(1 - r^2) for N independent values. Copies of short, voiced
# digits have 12 and more; a tone has 5 at 40 dB above its noise.
EVIDENCE = 12.0
MANY, FOLLOWING = 64, 8  # of a sound that more clips have, each is paired with so many that follow
KEPT_CLIPS = 64  # decoded waveforms at hand


@dataclass(frozen=True, kw_only=True, slots=True)
class Portrait:
    """What a clip looks like from afar.

    Attributes:
        bands: For each of `VIEWS` the fourth root of the share of energy in part and band, in a row `[d]`.
        middle_s: Where half of the energy has passed, from the clip's start.
        duration_s: Of the clip.
    """

    bands: npt.NDArray[np.float16]
    middle_s: float
    duration_s: float


class Painter:
    """Makes the portrait of a clip from consecutive blocks of samples at `rate_hz`."""

    def __init__(self, rate_hz: int) -> None:
        self._rate = rate_hz
        self._hop = max(1, round(HOP_S * rate_hz))
        self._window = np.hanning(2 * self._hop + 2)[1:-1].astype(np.float32)
        self._weights = _band_weights(self._hop, rate_hz)
        self._tail = np.zeros(self._hop, dtype=np.float32)
        self._frames: list[FloatArray] = []  # energy by band
        self._lengths: list[FloatArray] = []  # of each frame, in hops
        self._n_frames = self._n = 0
        self._joined = 1  # frames taken together

    def add(self, block: FloatArray) -> None:
        """Take in samples `[n]`."""
        self._n += len(block)
        self._take(np.concatenate([self._tail, block]))

    def pass_on(self, blocks: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """Take in blocks on their way to somebody else."""
        for block in blocks:
            self.add(block)
            yield block

    def _take(self, x: FloatArray) -> None:
        hop = self._hop
        n = len(x) // hop - 1
        if n < 1:
            self._tail = x
            return
        frames = np.lib.stride_tricks.sliding_window_view(x[: (n + 1) * hop], 2 * hop)[::hop]
        for start in range(0, n, 1024):  # bounded memory
            spectra = np.fft.rfft(frames[start : start + 1024] * self._window, axis=1)
            power = spectra.real**2 + spectra.imag**2
            self._append(power @ self._weights, np.ones(len(power)), self._joined)
        self._tail = x[n * hop :]
        if self._n_frames > 2 * MAX_FRAMES:
            energy, lengths = np.concatenate(self._frames), np.concatenate(self._lengths)
            self._frames, self._lengths, self._n_frames = [], [], 0
            self._joined *= 2
            self._append(energy, lengths, 2)

    def _append(self, energy: Wave, lengths: Wave, together: int) -> None:
        starts = np.arange(0, len(energy), together)
        self._frames.append(np.add.reduceat(energy, starts).astype(np.float32))
        self._lengths.append(np.add.reduceat(lengths, starts).astype(np.float32))
        self._n_frames += len(starts)

    def portrait(self) -> Portrait | None:
        """The portrait, once all blocks are in; None of silence."""
        self._take(np.concatenate([self._tail, np.zeros(2 * self._hop, dtype=np.float32)]))
        energy = np.concatenate(self._frames).astype(np.float64)
        lengths = np.concatenate(self._lengths)
        duration_s = self._n / self._rate
        views = []
        for n_bands in VIEWS:
            view = energy[:, :n_bands]
            if not view.sum() > 0 or not np.isfinite(view).all():
                return None
            cells, middle = _in_parts(view)
            views.append((cells / cells.sum()) ** 0.25)
        hops = np.interp(middle, np.arange(len(energy) + 1), np.append(0, np.cumsum(lengths)))
        return Portrait(
            bands=np.concatenate([v.ravel() for v in views]).astype(np.float16),
            middle_s=min(float(hops) * self._hop / self._rate, duration_s),
            duration_s=duration_s,
        )


@lru_cache(maxsize=16)
def _band_weights(hop: int, rate_hz: int) -> FloatArray:
    """Share of each bin of a spectrum in each band `[hop + 1, N_BANDS]`; bands above Nyquist stay empty."""
    width = rate_hz / (2 * hop)
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, N_BANDS + 1)
    low = (np.arange(hop + 1) - 0.5) * width
    overlap = np.minimum(low[:, None] + width, edges[1:]) - np.maximum(low[:, None], edges[:-1])
    out: FloatArray = (np.maximum(overlap, 0) / width).astype(np.float32)
    return out


def _in_parts(energy: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
    """Energy `[T, B]` in parts of equal energy `[PARTS, B]`, and the frame where half has passed."""
    passed = np.concatenate([np.zeros((1, energy.shape[1])), np.cumsum(energy, axis=0)])
    total = passed.sum(axis=1)
    at = np.interp(np.linspace(0, total[-1], PARTS + 1), total, np.arange(len(total)))
    below = np.minimum(at.astype(np.int64), len(energy) - 1)
    share = (at - below)[:, None]
    cells = np.diff(passed[below] * (1 - share) + passed[below + 1] * share, axis=0)
    return np.maximum(cells, 0), float(at[PARTS // 2])


@dataclass(frozen=True, kw_only=True)
class Recoded:
    """What was found.

    Attributes:
        pairs: Positions of clips that are one sound, first < second `[m, 2]`; all pairs of each set.
        n_left: Pairs of clips that look alike and were not listened to, since there were too many.
    """

    pairs: IntArray
    n_left: int = 0


def recoded(
    portraits: Sequence[Portrait | None],
    places: Places,
    hashes: Sequence[str],
    workers: int = 4,
) -> Recoded:
    """Pairs of clips that are one sound under other codings.

    Clips of one file are not compared; of those with the same hash one stands for all.

    Args:
        portraits: Of each clip.
        places: Where each is, to listen to those that look alike.
        hashes: Of the decoded samples of each, "" where not known.
        workers: Threads that listen.
    """
    chosen = _distinct(portraits, hashes)
    candidates = [
        (int(chosen[i]), int(chosen[j]))
        for i, j in _candidates([portraits[k] for k in chosen])
        if places.path[chosen[i]] != places.path[chosen[j]]
    ]
    affordable = _affordable(candidates, portraits)
    compare = _Compare(portraits, places)
    # Neighbours in this order share decoded clips.
    candidates, left = sorted(candidates[:affordable]), len(candidates) - affordable
    with ThreadPoolExecutor(workers) as pool:
        same = list(pool.map(compare, candidates, chunksize=1))
    found = [pair for pair, is_one in zip(candidates, same, strict=True) if is_one]
    return Recoded(pairs=_joined(found, hashes, places), n_left=left)


def _distinct(portraits: Sequence[Portrait | None], hashes: Sequence[str]) -> IntArray:
    """Clips with a portrait, the first of each hash."""
    seen: set[str] = set()
    out = []
    for i, portrait in enumerate(portraits):
        if portrait is not None and not (hashes[i] and hashes[i] in seen):
            seen.add(hashes[i])
            out.append(i)
    return np.array(out, dtype=np.int64)


def _candidates(portraits: Sequence[Portrait | None]) -> IntArray:
    """Pairs that look alike in a view, the most alike first `[m, 2]`."""
    n = len(portraits)
    if n < 2:
        return np.zeros((0, 2), dtype=np.int64)
    cells = np.stack([p.bands for p in portraits if p is not None])
    pairs, cosines = [], []
    first = 0
    for n_bands in VIEWS:
        view = cells[:, first : first + PARTS * n_bands].astype(np.float32)
        first += PARTS * n_bands
        rng = np.random.Generator(np.random.PCG64(0))
        z = unit_rows(view @ rng.standard_normal((view.shape[1], PROJECTED)).astype(np.float32))
        for block, cosine in cosine_blocks(z, spaced(n, MAX_PRODUCTS // n)):
            near = np.argpartition(-cosine, min(NEAREST, n - 1) - 1, axis=1)[:, :NEAREST]
            pairs.append(np.stack([np.repeat(block, near.shape[1]), near.ravel()], axis=1))
            cosines.append(np.take_along_axis(cosine, near, axis=1).ravel())
    pair, cosine = np.sort(np.concatenate(pairs), axis=1), np.concatenate(cosines)
    order = np.argsort(-cosine, kind="stable")
    order = order[cosine[order] >= PORTRAIT]
    _, where = np.unique(pair[order], axis=0, return_index=True)
    out: IntArray = pair[order][np.sort(where)]
    return out


def _affordable(pairs: Sequence[tuple[int, int]], portraits: Sequence[Portrait | None]) -> int:
    """How many of the first pairs are to be listened to."""
    if not pairs:
        return 0
    seconds = np.array([0.0 if p is None else min(p.duration_s, STRETCH_S) for p in portraits])
    passed = np.cumsum(seconds[np.array(pairs)].sum(axis=1))
    return int((passed <= max(LISTENED_S, float(seconds.sum()))).sum())


def _joined(pairs: Iterable[tuple[int, int]], hashes: Sequence[str], places: Places) -> IntArray:
    """All pairs of every set that the pairs, and equal hashes, join, but those of one hash or file."""
    links = list(pairs)
    if not links:
        return np.zeros((0, 2), dtype=np.int64)
    first: dict[str, int] = {}
    links += [(first.setdefault(h, i), i) for i, h in enumerate(hashes) if h]
    sets: dict[int, list[int]] = {}
    for i, root in enumerate(firsts_of_sets(len(hashes), links)):
        sets.setdefault(root, []).append(i)
    out = sorted(
        (i, j)
        for rows in sets.values()
        for i, j in _pairs_of(rows)
        if places.path[i] != places.path[j] and not (hashes[i] and hashes[i] == hashes[j])
    )
    return np.array(out, dtype=np.int64).reshape(-1, 2)


def _pairs_of(rows: Sequence[int]) -> Iterable[tuple[int, int]]:
    """All pairs; of many rows each with some that follow."""
    if len(rows) <= MANY:
        return combinations(rows, 2)
    return ((i, j) for k, i in enumerate(rows) for j in rows[k + 1 : k + 1 + FOLLOWING])


def firsts_of_sets(n: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """Of n things that links join to sets, the first of the set of each `[n]`."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = np.array(list(links), dtype=np.int64).reshape(-1, 2).T
    graph = coo_matrix((np.ones(ends.shape[1], dtype=bool), (ends[0], ends[1])), shape=(n, n))
    _, set_of = connected_components(graph, directed=False)
    _, first = np.unique(set_of, return_index=True)
    return list(map(int, first[set_of]))


class _Compare:
    """Whether two clips are one sound, by their samples."""

    def __init__(self, portraits: Sequence[Portrait | None], places: Places) -> None:
        self._portraits, self._places = portraits, places
        self._decoded = lru_cache(maxsize=KEPT_CLIPS)(self._decode)

    def __call__(self, pair: tuple[int, int]) -> bool:
        try:
            (a, rate_a), (b, rate_b) = map(self._decoded, pair)
        except (SoundError, OSError):
            return False
        if rate_a != rate_b:
            import soxr

            rate = min(rate_a, rate_b)
            a, b = (x if r == rate else soxr.resample(x, r, rate) for x, r in ((a, rate_a), (b, rate_b)))
        return same_sound(a, b, min(rate_a, rate_b))

    def _decode(self, i: int) -> tuple[FloatArray, int]:
        (path, start, end, channel), portrait = self._places.location(i), self._portraits[i]
        assert portrait is not None
        if portrait.duration_s > STRETCH_S:
            start += max(0.0, portrait.middle_s - STRETCH_S / 2)
            end = start + STRETCH_S
        blocks = mono_blocks(path, start, end, channel)
        empty = np.zeros(0, dtype=np.float32)
        return np.concatenate([empty, *blocks]), read_header(path).sample_rate_hz


def same_sound(a: FloatArray, b: FloatArray, rate_hz: int) -> bool:
    """Whether two waveforms `[n]`, `[m]` are one, coded anew, at any shift, level and polarity."""
    n = 1 << (len(a) + len(b) - 1).bit_length()
    spectra = [np.fft.rfft(x, n) for x in (a, b)]
    cut = _common_band(spectra, rate_hz, n)
    for s in spectra:
        s[: int(HIGHPASS_HZ * n / rate_hz) + 1] = 0
        s[cut:] = 0
    cross = np.fft.irfft(spectra[0] * spectra[1].conj(), n)
    lag = int(np.abs(cross).argmax())
    lag -= n * (lag >= n // 2)
    whole = [np.fft.irfft(s, n)[: len(x)] for s, x in zip(spectra, (a, b), strict=True)]
    u = whole[0][max(0, lag) : len(b) + lag]
    v = whole[1][max(0, -lag) : len(a) - lag]
    energy = [float(x @ x) for x in (*whole, u, v)]
    if min(energy) <= 0 or min(energy[2] / energy[0], energy[3] / energy[1]) < OVERLAP:
        return False
    r = float(u @ v) / np.sqrt(energy[2] * energy[3])
    if abs(r) < CORRELATION:
        return False
    richness = min(_participation(np.abs(spectra[0] * spectra[1])) * len(u) / n, _cells(u, v, rate_hz))
    if -0.5 * richness * np.log(max(1 - r * r, 1e-12)) < EVIDENCE:
        return False
    return _throughout(u, v * np.sign(r)) >= IN_SEGMENTS


def _common_band(spectra: Sequence[npt.NDArray[np.complexfloating]], rate_hz: int, n: int) -> int:
    """The bin up to which both have nearly all of their energy."""
    first = int(HIGHPASS_HZ * n / rate_hz) + 1
    ends = []
    for s in spectra:
        passed = np.cumsum(np.abs(s[first:]) ** 2)
        ends.append(first + int(np.searchsorted(passed, ROLLOFF * passed[-1])) + 1)
    return min(ends)


def _participation(x: npt.NDArray[np.floating]) -> float:
    """How many of the values share the sum."""
    return float(x.sum() ** 2 / max(float((x * x).sum()), 1e-300))


def _cells(u: Wave, v: Wave, rate_hz: int) -> float:
    """How many cells of time and frequency share the energy: few in a click, whose spectrum is smooth."""
    width = min(max(2, round(0.02 * rate_hz)), len(u))
    frames = [np.abs(np.fft.rfft(x[: len(x) // width * width].reshape(-1, width), axis=1)) for x in (u, v)]
    return _participation(frames[0] * frames[1])


def _throughout(u: Wave, v: Wave) -> float:
    """Median correlation of segments of equal length that are not all but silent."""
    length = len(u) // SEGMENTS
    if not length:
        return 0.0
    a, b = (x[: SEGMENTS * length].reshape(SEGMENTS, length) for x in (u, v))
    energy = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    heard = energy > AUDIBLE * energy.max()
    return float(np.median((a * b).sum(axis=1)[heard] / energy[heard]))
