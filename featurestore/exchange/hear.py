"""Raw arrays as HEAR's evaluation kit keeps them in memory-mapped files, without its pickles.

``heareval`` 2021.1.3 (task_embeddings.py, ``memmap_embeddings``) shuffles the rows once when it writes and
never again; so do we, since a training loop of the kit would else meet the rows sorted by duration.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from featurestore.exchange.interface import Advance, Format, Selection, row_blocks
from featurestore.format.layer_arrays import layer_name
from featurestore.format.row_arrays import STATUS_OK
from featurestore.manifest.labels import is_multilabel, split_labels
from featurestore.printable import json_text

# The kit's names for the parts; rows without a part, beside rows that have one, are "unsplit".
PARTS = {"train": "train", "val": "valid", "test": "test"}
ALL, UNSPLIT = "all", "unsplit"
SHUFFLE_SEED = 0  # the kit's


def write_hear(selections: Sequence[Selection], target: Path, advance: Advance) -> list[str]:
    """See `Format.write`."""
    notes = []
    for selection in selections:
        features = selection.features
        index = features.index
        ok = (index["status"] == STATUS_OK).to_numpy()
        if not ok.all():
            notes.append(
                f"{features.model}/{features.dataset}: {int((~ok).sum())} rows whose audio failed are left "
                "out, since HEAR's kit refuses values that are not numbers"
            )
        parts = _parts(index["split"])
        order = np.random.default_rng(SHUFFLE_SEED).permutation(len(index))
        rows_of = {p: order[(parts == p)[order] & ok[order]] for p in sorted(set(parts.tolist()))}
        for layer in selection.layers:
            folder = target / features.model / features.dataset / layer_name(layer)
            folder.mkdir(parents=True)
            for part, rows in rows_of.items():
                _write_companions(selection, part, rows, folder)
            _write_vocabulary(selection, folder)
            _write_values(selection, layer, rows_of, folder, advance)
    return notes


def _parts(split: pd.Series[Any]) -> np.ndarray:
    """`[n]` name of the file every row belongs to."""
    none = UNSPLIT if (split != "").any() else ALL
    parts: np.ndarray = split.map(PARTS).fillna(none).to_numpy(object)
    return parts


def _write_values(
    selection: Selection, layer: int, rows_of: dict[str, np.ndarray], folder: Path, advance: Advance
) -> None:
    source = selection.features.layer(layer)
    file_of, place = np.full((2, selection.n_rows), -1)
    with ExitStack() as opened:
        files: list[BinaryIO] = []
        for part, rows in rows_of.items():
            file_of[rows], place[rows] = len(files), np.arange(len(rows))
            files.append(opened.enter_context((folder / f"{part}.embeddings.npy").open("wb")))
        for block in row_blocks(source, selection.row_bytes):
            values = source.sound(block).astype("<f4", copy=False)
            for row, value in zip(range(block.start, block.stop), values, strict=True):
                if place[row] >= 0:
                    files[file_of[row]].seek(place[row] * selection.row_bytes)
                    files[file_of[row]].write(value.tobytes())
            advance(block.stop - block.start)


def _write_companions(selection: Selection, part: str, rows: np.ndarray, folder: Path) -> None:
    features = selection.features
    shape = features.info.shape
    index = features.index
    _write_json(
        folder / f"{part}.embedding-dimensions.json", [len(rows), shape.n_functionals * shape.n_features]
    )
    _write_json(folder / f"{part}.utterance-ids.json", index["utterance_id"].iloc[rows].tolist())
    _write_json(
        folder / f"{part}.target-labels.json",
        {c: [_labels(cell, many) for cell in index[c].iloc[rows]] for c, many in _columns(selection)},
    )


def _write_vocabulary(selection: Selection, folder: Path) -> None:
    index = selection.features.index
    vocabulary = {
        c: sorted({label for cell in index[c].unique() for label in _labels(cell, many)})
        for c, many in _columns(selection)
    }
    _write_json(folder / "labelvocabulary.json", vocabulary)


def _columns(selection: Selection) -> list[tuple[str, bool]]:
    index = selection.features.index
    return [(c, is_multilabel(index[c])) for c in selection.features.label_columns]


def _labels(cell: str, many: bool) -> list[str]:
    if many:
        return sorted(split_labels(cell) or ())
    return [cell] if cell else []


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json_text(value), encoding="utf-8")


HEAR = Format(
    name="hear",
    title="raw float32 arrays per split, as HEAR's evaluation kit maps them, with labels as JSON",
    is_folder=True,
    write=write_hear,
)
