"""Which clips of a key sound alike, by their embeddings and by their samples: looked for once per data set.

The results folder keeps them: ``_alike/<name>.parquet`` holds the pairs, ``first`` and ``second`` by
utterance id; the name is a digest of everything they depend on, so that a file is either right or not asked
for.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featurestore.archives.names import file_of
from featurestore.archives.object_file import is_object
from featurestore.arrays import IntArray, TextArray
from featurestore.errors import CorruptData
from featurestore.fingerprint import canonical_json, digest_columns
from featurestore.format.row_arrays import STATUS_OK
from featurestore.untrusted.document_shape import many, text
from featurestore.untrusted.documents import DocumentError
from probes.results.fit_tables import ALIKE
from probes.results.results_folder import read_parquet, write_parquet

if TYPE_CHECKING:
    from featurestore.store.reader import Features

ALIKE_FOLDER = "_alike"
# Raise it when pairs are looked for in another way, so that what was found before is not taken over.
LOOKED_VERSION = 2
# Audio that is listened to again before training. Of more, the clips are listened to whose embeddings
# are nearest to another's; `fs audit` hears all. Two hours of 16 kHz take about fifteen seconds on two cores.
LISTEN_AT_MOST_S = 7200.0
LISTENERS = 4
NOT_AT_HAND = "shifted and recoded copies were looked for in embeddings only (the audio is not at hand)"


@dataclass(frozen=True, kw_only=True)
class Alike:
    """Pairs of clips of a key that sound alike.

    Attributes:
        ids: Utterance ids, in the order of the key's index `[m, 2]`.
        notes: How they were looked for, and where not.
        complete: False where the audio was not at hand.
    """

    ids: TextArray
    notes: tuple[str, ...]
    complete: bool = True


def find_alike(features: Features, layer: int | None, out: Path) -> Alike:
    """Pairs among the rows of a key whose audio was read.

    Args:
        features: The key.
        layer: Layer to compare embeddings in.
        out: Results folder, where an answer is taken from and kept; incomplete ones are not, for the audio
            may be at hand next time.
    """
    path = out / ALIKE_FOLDER / f"{_digest(features, layer)}.parquet"
    if path.is_file():
        try:
            table = read_parquet(path, ALIKE)
            notes: Any = table.attrs.get("notes")
            many(text)(notes, "notes")
            return Alike(ids=table[["first", "second"]].to_numpy(dtype=object), notes=tuple(notes))
        except (CorruptData, DocumentError):
            pass  # looked for again, and then written over
    alike = likeness(features, layer)
    if alike.complete:
        path.parent.mkdir(exist_ok=True)
        table = pd.DataFrame(alike.ids, columns=["first", "second"], dtype=object)
        table.attrs = {"notes": list(alike.notes)}
        write_parquet(table, path)
    return alike


def _digest(features: Features, layer: int | None) -> str:
    asked = [LOOKED_VERSION, features.model, features.dataset, features.attrs["fingerprint"], layer]
    rows = (features.index[column] for column in ("utterance_id", "audio_hash", "status"))
    return digest_columns(canonical_json(asked), rows)


def likeness(features: Features, layer: int | None) -> Alike:
    """Pairs among the rows with audio that nearly coincide in `layer` or as samples.

    Reading audio is left out where files are not at hand; of too much of it, those clips are read that
    the embedding finds nearest to another.
    """
    from featurestore.duplicates.near_embeddings import neighbours, similar_pairs

    position = np.flatnonzero((features.index["status"] == STATUS_OK).to_numpy())
    found, notes = [np.zeros((0, 2), dtype=np.int64)], []
    if layer is not None:
        near = similar_pairs(features.layer(layer), position)
        found.append(position[near.pairs])
        where = f"{features.model} layer {layer}"
        notes.append(
            f"near-identical audio: cosine of at least {near.threshold:.5f} in {where} "
            f"(nearest neighbours usually reach {near.typical:.5f})"
        )
        if near.n_queried < near.n_rows:
            notes.append(f"embeddings: {near.n_queried:,} of {near.n_rows:,} rows were compared with all")
        if near.truncated:
            notes.append(f"embeddings: too many pairs nearly coincide in {where}; run `fs audit`")
    table = features.index.iloc[position]
    # A store may be anybody's: what lies in a bucket is not fetched because a store names it.
    at_hand = os.path.exists(file_of(next(iter(table["path"]), ""))) and not any(
        map(is_object, table["path"])
    )
    if not at_hand:
        notes.append(NOT_AT_HAND)
    else:
        seconds = table["duration_s"].to_numpy(dtype=float)
        heard = np.arange(len(table))
        if seconds.sum() > LISTEN_AT_MOST_S:
            nearest = neighbours(features.layer(layer), position) if layer is not None else found[0]
            heard = _affordable(nearest, seconds)
            hours = f"{seconds[heard].sum() / 3600:.1f} of {seconds.sum() / 3600:.1f} hours"
            notes.append(
                f"shifted and recoded copies were listened for in {len(heard):,} of {len(table):,} clips, "
                f"those nearest to another in embeddings ({hours}); `fs audit` listens to all"
            )
        pairs, lost, left = _heard(table.iloc[heard])
        found.append(position[heard[pairs]])
        if lost:
            notes.append(f"{lost:,} clips could not be read again to look for shifted and recoded copies")
        if left:
            notes.append(f"{left:,} pairs of clips look alike and were not listened to: they are too many")
    ids = features.index["utterance_id"].to_numpy(dtype=object)
    pairs = np.unique(np.concatenate(found), axis=0)
    return Alike(ids=ids[pairs], notes=tuple(notes), complete=at_hand)


def _affordable(pairs: IntArray, seconds: np.ndarray) -> IntArray:
    """Rows of the first pairs whose audio together is not too much, ascending."""
    rows = pairs.ravel()
    _, first = np.unique(rows, return_index=True)
    rows = rows[np.sort(first)]  # each once, in the order of the pairs
    within = np.cumsum(seconds[rows]) <= LISTEN_AT_MOST_S
    out: IntArray = np.sort(rows[within])
    return out


def _heard(table: pd.DataFrame) -> tuple[IntArray, int, int]:
    """Pairs of rows that are one sound by their samples; how many rows were not read, and pairs left out."""
    from featurestore.audio.blocks import SoundError, mono_blocks, read_header
    from featurestore.duplicates.recoded_clips import Painter, Portrait, recoded
    from featurestore.duplicates.waveform_sketch import Sketch, alike, no_sketch, sketch
    from featurestore.manifest.audio_places import Places
    from featurestore.manifest.location import Location

    def listen(place: Location) -> tuple[Sketch, Portrait | None] | None:
        try:
            painter = Painter(read_header(place[0]).sample_rate_hz)
            blocks = mono_blocks(*place)
            return sketch(painter.pass_on(blocks)), painter.portrait()
        except (SoundError, OSError):
            return None

    places = Places.of_table(table)
    with ThreadPoolExecutor(LISTENERS) as pool:
        heard = list(pool.map(listen, map(places.location, range(len(places)))))
    lost = sum(h is None for h in heard)
    sketches, portraits = zip(*((no_sketch(), None) if h is None else h for h in heard), strict=True)
    coded = recoded(portraits, places, list(table["audio_hash"]), LISTENERS)
    return np.concatenate([alike(sketches), coded.pairs]), lost, coded.n_left
