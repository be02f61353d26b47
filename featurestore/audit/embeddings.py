"""Embeddings of a key: constant, coinciding, nearly coinciding and outlying ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from featurestore.audit.clips import robust_z
from featurestore.audit.findings import Example, Finding
from featurestore.duplicates.near_embeddings import similar_pairs
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
    ok = np.flatnonzero((index["status"] == "ok").to_numpy())
    ids = index["utterance_id"].to_numpy(dtype=object)
    hashes = index["audio_hash"].to_numpy(dtype=object)
    found = _failed(index)
    if len(ok) < 3:
        return found
    known = {frozenset(pair) for pair in told}
    for k in layers:
        found += _of_layer(features.layer(k), f"{features.model} layer {k}", ok, ids, hashes, known)
    return found


def _failed(index: pd.DataFrame) -> list[Finding]:
    failed = index[index["status"] != "ok"]
    if not len(failed):
        return []
    examples = tuple(Example(name=str(r.utterance_id), detail=str(r.status)) for r in failed.itertuples())
    return [
        Finding(
            kind="failed-embedding",
            severity="fault",
            text=f"{len(failed):,} of {len(index):,} rows in the store have no embedding.",
            count=len(failed),
            examples=examples,
        )
    ]


def _of_layer(
    layer: Layer,
    where: str,
    ok: npt.NDArray[np.int64],
    ids: npt.NDArray[np.object_],
    hashes: npt.NDArray[np.object_],
    known: set[frozenset[str]],
) -> list[Finding]:
    found = []
    x, norms, n_constant, n_features = _projected(layer, ok)
    if n_constant:
        found.append(
            Finding(
                kind="constant-feature",
                severity="note",
                text=f"{where}: {n_constant:,} of {n_features:,} features are the same in all rows.",
                count=n_constant,
            )
        )
    same = _coinciding(x)
    # Copies of one clip coincide by right: the audio finding tells of them.
    strange = [(i, j) for i, j in same if hashes[ok[i]] != hashes[ok[j]]]
    rows = sorted({i for pair in strange for i in pair})
    share = len(rows) / len(ok)
    if rows:
        alarm = share > ALARM_SHARE
        found.append(
            Finding(
                kind="coinciding-embeddings",
                severity="fault" if alarm else "warning",
                text=f"{where}: {len(rows):,} of {len(ok):,} rows ({100 * share:.1f} %) have the embedding "
                "of another clip"
                + ("; suspect the sample rate, the channel or the normalisation" if alarm else "")
                + ".",
                count=len(rows),
                examples=tuple(
                    Example(name=str(ids[ok[i]]), detail=f"= {ids[ok[j]]}", other_name=str(ids[ok[j]]))
                    for i, j in strange
                ),
            )
        )
    if share <= ALARM_SHARE:
        known |= {frozenset((ids[ok[i]], ids[ok[j]])) for i, j in same}
        found += _near(layer, where, ok, ids, hashes, known)
    z = robust_z(norms, np.ones(len(norms), dtype=bool))
    far = np.flatnonzero(z > OUTLIER)
    far = far[np.argsort(-z[far], kind="stable")]
    if len(far):
        found.append(
            Finding(
                kind="outlying-embedding",
                severity="note",
                text=f"{where}: {counted(len(far), 'row')} far from all others.",
                count=len(far),
                examples=tuple(
                    Example(name=str(ids[ok[i]]), detail=f"{z[i]:.0f} robust standard deviations out")
                    for i in far
                ),
            )
        )
    return found


def _near(
    layer: Layer,
    where: str,
    ok: npt.NDArray[np.int64],
    ids: npt.NDArray[np.object_],
    hashes: npt.NDArray[np.object_],
    known: set[frozenset[str]],
) -> list[Finding]:
    near = similar_pairs(layer, ok)
    pairs = [
        (i, j, float(c))
        for (i, j), c in zip(ok[near.pairs].tolist(), near.cosine, strict=True)
        if hashes[i] != hashes[j] and frozenset((ids[i], ids[j])) not in known
    ]
    if not pairs:
        return []
    known |= {frozenset((ids[i], ids[j])) for i, j, _ in pairs}
    return [
        Finding(
            kind="near-identical",
            severity="warning",
            text=f"{where}: {counted(len(pairs), 'pair')} of clips with nearly the same embedding (cosine of "
            f"{near.threshold:.5f} or more, where nearest neighbours usually reach {near.typical:.5f}).",
            count=len(pairs),
            examples=tuple(
                Example(name=str(ids[i]), detail=f"= {ids[j]}, cosine {c:.5f}", other_name=str(ids[j]))
                for i, j, c in pairs
            ),
        )
    ]


def _projected(
    layer: Layer, rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64], int, int]:
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


def _coinciding(x: npt.NDArray[np.float32]) -> list[tuple[int, int]]:
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
