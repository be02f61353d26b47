"""Embeddings of a key: constant, coinciding, nearly coinciding and outlying ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurestore.arrays import FloatArray, IntArray, TextArray
from featurestore.audit.clips import robust_z
from featurestore.audit.findings import Example, Finding, listed
from featurestore.duplicates.near_embeddings import Similar, similar_pairs
from featurestore.format.row_arrays import STATUS_OK
from featurestore.printable import counted

if TYPE_CHECKING:
    from featurestore.store.layer import Layer
    from featurestore.store.reader import Features

# More than this share of rows that coincide is an alarm: a wrong sample rate once made 97 % of the
# embeddings of a bat corpus identical, unnoticed.
ALARM_SHARE = 0.01
# Coordinates of a row, in standard deviations, that count as the same value in float32.
SAME = 1e-4
PROBES = 64
NEIGHBOURS = 4
OUTLIER = 10.0


def embedding_findings(
    features: Features, layers: list[int], told: Iterable[tuple[str, str]] = ()
) -> list[Finding]:
    """Findings about the given layers of a key, rows with status ok only.

    Args:
        features: The key.
        layers: Which to look at. A pair that nearly coincides in several is told of once.
        told: Pairs of ids that were found to be copies by their sound, which need no second word.
    """
    index = features.index
    ok = np.flatnonzero((index["status"] == STATUS_OK).to_numpy())
    failed = index[index["status"] != STATUS_OK]
    found = listed(
        "failed-embedding",
        "fault",
        f"{len(failed):,} of {len(index):,} rows in the store have no embedding.",
        (Example(name=str(r.utterance_id), detail=str(r.status)) for r in failed.itertuples()),
    )
    if len(ok) < 3:
        return found
    ids, hashes = (index[c].to_numpy(dtype=object)[ok] for c in ("utterance_id", "audio_hash"))
    known = {frozenset(pair) for pair in told}
    for k in layers:
        layer, where = features.layer(k), f"{features.model} layer {k}"
        x, norms, n_constant, n_features = _projected(layer, ok)
        if n_constant:
            text = f"{where}: {n_constant:,} of {n_features:,} features are the same in all rows."
            found.append(Finding(kind="constant-feature", severity="note", text=text, count=n_constant))
        same = _coinciding(x)
        findings, is_alarm = _coincidence(same, where, ids, hashes)
        found += findings
        if not is_alarm:
            known |= {frozenset((ids[i], ids[j])) for i, j in same}
            found += _near(similar_pairs(layer, ok), where, ids, hashes, known)
        found += _outlying(norms, where, ids)
    return found


def _coincidence(
    same: list[tuple[int, int]], where: str, ids: TextArray, hashes: TextArray
) -> tuple[list[Finding], bool]:
    """Finding about pairs of rows with one embedding, and whether they are so many that nothing fits."""
    # Copies of one clip coincide by right: the audio finding tells of them.
    strange = [(i, j) for i, j in same if hashes[i] != hashes[j]]
    n = len({i for pair in strange for i in pair})
    share = n / len(ids)
    is_alarm = share > ALARM_SHARE
    doubt = "; suspect the sample rate, the channel or the normalisation" if is_alarm else ""
    rows = f"{n:,} of {len(ids):,} rows ({100 * share:.1f} %)"
    text = f"{where}: {rows} have the embedding of another clip{doubt}."
    found = Finding(
        kind="coinciding-embeddings",
        severity="fault" if is_alarm else "warning",
        text=text,
        count=n,
        examples=tuple(Example(name=ids[i], detail=f"= {ids[j]}", other_name=ids[j]) for i, j in strange),
    )
    return [found] if n else [], is_alarm


def _near(
    near: Similar, where: str, ids: TextArray, hashes: TextArray, known: set[frozenset[str]]
) -> list[Finding]:
    """Finding about pairs that nearly coincide, but those known, to which it adds them."""
    pairs = [
        (ids[i], ids[j], float(c))
        for (i, j), c in zip(near.pairs.tolist(), near.cosine, strict=True)
        if hashes[i] != hashes[j] and frozenset((ids[i], ids[j])) not in known
    ]
    known |= {frozenset((a, b)) for a, b, _ in pairs}
    text = (
        f"{where}: {counted(len(pairs), 'pair')} of clips with nearly the same embedding (cosine of "
        f"{near.threshold:.5f} or more, where nearest neighbours usually reach {near.typical:.5f})."
    )
    examples = (Example(name=a, detail=f"= {b}, cosine {c:.5f}", other_name=b) for a, b, c in pairs)
    return listed("near-identical", "warning", text, examples)


def _outlying(norms: npt.NDArray[np.float64], where: str, ids: TextArray) -> list[Finding]:
    z = robust_z(norms, np.ones(len(norms), dtype=bool))
    far = np.flatnonzero(z > OUTLIER)
    far = far[np.argsort(-z[far], kind="stable")]
    text = f"{where}: {counted(len(far), 'row')} far from all others."
    examples = (Example(name=ids[i], detail=f"{z[i]:.0f} robust standard deviations out") for i in far)
    return listed("outlying-embedding", "note", text, examples)


def _projected(layer: Layer, rows: IntArray) -> tuple[FloatArray, npt.NDArray[np.float64], int, int]:
    """Rows in `PROBES` random directions, in standard deviations, and their distance from the mean.

    Also how many features are constant, and of how many. Two passes, one shard in memory at a time.
    """
    n, total, squares = 0, np.zeros(1), np.zeros(1)
    blocks = [rows[slice(*np.searchsorted(rows, [s.start, s.stop]))] for s in layer.shards]
    first = None
    for block in blocks:
        x = layer.sound(block).reshape(len(block), -1).astype(np.float64)
        if first is None and len(x):
            first = x[0].copy()  # shifted sums lose no digits where values are far from 0
        if first is not None:
            x -= first
        total, squares, n = total + x.sum(axis=0), squares + (x * x).sum(axis=0), n + len(x)
    assert first is not None
    mean = total / n
    std = np.sqrt(np.maximum(squares / n - mean * mean, 0.0))
    constant = std <= 1e-7 * np.maximum(np.abs(first), 1e-20)
    scale = np.where(constant, 0.0, 1 / np.where(constant, 1.0, std))
    d = len(mean)
    onto = np.random.Generator(np.random.PCG64(0)).standard_normal((d, PROBES)) / np.sqrt(d)
    parts, norms = [], []
    for block in blocks:
        z = (layer.sound(block).reshape(len(block), -1) - first - mean) * scale
        parts.append((z @ onto).astype(np.float32))
        norms.append(np.sqrt((z * z).mean(axis=1)))
    return np.concatenate(parts), np.concatenate(norms), int(constant.sum()), d


def _coinciding(x: FloatArray) -> list[tuple[int, int]]:
    """Pairs of rows with the same coordinates; of many that coincide neighbours are paired."""
    order = np.argsort(x[:, 0], kind="stable")
    pairs: list[tuple[int, int]] = []
    for step in range(1, min(NEIGHBOURS + 1, len(x))):
        a, b = order[:-step], order[step:]
        same = np.zeros(len(a), dtype=bool)
        for start in range(0, len(a), 65_536):
            part = slice(start, start + 65_536)
            same[part] = np.abs(x[a[part]] - x[b[part]]).max(axis=1) <= SAME
        pairs += list(zip(a[same].tolist(), b[same].tolist(), strict=True))
    return pairs
