"""Which clips sound alike, kept in the results folder: looked for once per data set, not once per call.

``_alike/<name>.parquet`` holds the pairs, ``first`` and ``second`` by utterance id; the name is a digest of
everything they depend on, so that a file is either right or not asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featurestore.arrays import TextArray
from featurestore.errors import CorruptData
from featurestore.fingerprint import canonical_json, digest_columns
from featurestore.untrusted.document_shape import many, text
from featurestore.untrusted.documents import DocumentError
from probes.leakage.alike_clips import likeness
from probes.questions.labelled_rows import STATUS_OK
from probes.results.fit_tables import ALIKE
from probes.results.results_folder import read_parquet, write_parquet

if TYPE_CHECKING:
    from featurestore.store.reader import Features

ALIKE_FOLDER = "_alike"
# Raise it when pairs are looked for in another way, so that what was found before is not taken over.
LOOKED_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Alike:
    """Pairs of clips of a key that sound alike; see `probes.leakage.alike_clips.Likeness`.

    Attributes:
        ids: Utterance ids `[m, 2]`.
        notes: How they were looked for, and where not.
        complete: False where the audio was not at hand.
    """

    ids: TextArray
    notes: tuple[str, ...]
    complete: bool = True


def find_alike(features: Features, layer: int | None, out: Path | None = None) -> Alike:
    """Pairs among the rows of a key whose audio was read.

    Args:
        features: The key.
        layer: Layer to compare embeddings in.
        out: Results folder, where an answer is taken from and kept; incomplete ones are not, for the audio
            may be at hand next time.
    """
    path = None if out is None else out / ALIKE_FOLDER / f"{_digest(features, layer)}.parquet"
    if path is not None and path.is_file():
        try:
            table = read_parquet(path, ALIKE)
            notes: Any = table.attrs.get("notes")
            many(text)(notes, "notes")
            return Alike(ids=table[["first", "second"]].to_numpy(dtype=object), notes=tuple(notes))
        except (CorruptData, DocumentError):
            pass  # looked for again, and then written over
    ok = np.flatnonzero((features.index["status"] == STATUS_OK).to_numpy())
    found = likeness(features, layer, ok)
    names = features.index["utterance_id"].to_numpy(dtype=object)
    alike = Alike(ids=names[found.pairs], notes=found.notes, complete=found.complete)
    if path is not None and alike.complete:
        path.parent.mkdir(exist_ok=True)
        table = pd.DataFrame(alike.ids, columns=["first", "second"], dtype=object)
        table.attrs = {"notes": list(alike.notes)}
        write_parquet(table, path)
    return alike


def _digest(features: Features, layer: int | None) -> str:
    asked = [LOOKED_VERSION, features.model, features.dataset, features.attrs["fingerprint"], layer]
    rows = (features.index[column] for column in ("utterance_id", "audio_hash", "status"))
    return digest_columns(canonical_json(asked), rows)
