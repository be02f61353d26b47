"""What a format is: one function that writes keys to files and, for some, one that reads them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featurestore.format.number_types import DTypeName
from featurestore.manifest.table import Manifest
from featurestore.store.layer import Layer
from featurestore.store.reader import Features

# Bytes read from a file at a time.
BLOCK_BYTES = 8 * 2**20
# Most bytes read from a store at a time. A whole shard, 6 MiB by default and 10 MiB for a model of width
# 1280, is read faster than its parts, and checked against its record.
SHARD_BYTES = 32 * 2**20

DTYPES: Mapping[str, DTypeName] = {"f4": "float32", "f2": "float16"}  # of floats of either byte order

Advance = Callable[[int], None]  # told how many rows more are done


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is exported of one key: its committed rows, in the order of ``features.index``."""

    features: Features
    layers: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        """Committed rows."""
        return len(self.features.index)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of one layer, as float32."""
        shape = self.features.info.shape
        return 4 * shape.n_functionals * shape.n_features

    @property
    def positions(self) -> np.ndarray:
        """Places of the rows in the manifest that the key holds `[n]`."""
        held = pd.Index(self.features.manifest.table["utterance_id"])
        return np.asarray(held.get_indexer(pd.Index(self.features.index["utterance_id"])), dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What the user says about a file to import; see `import_`."""

    manifest: Manifest | None
    id_map: Path | None
    key: str | None
    layers: tuple[int, ...] | None
    functionals: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class Source:
    """One key found in a file. Its values are read on demand, and only then.

    Attributes:
        where: file and place in it, for messages.
        model, dataset: names the file suggests, "" where it has none.
        ids: `[n]` utterance ids in the order of the file.
        status: `[n]` "ok" or "failed: why"; None where the file does not say.
        n_frames, duration_s, audio_hash: `[n]`; -1, NaN and "" where unknown.
        manifest: all utterances with their labels.
        layers, functionals, n_features, dtype: as in `KeyInfo`.
        unit_rows, codec: as in the key it was made from; None where unknown.
        fingerprint, versions, model_card: as in `KeyInfo`.
        is_export: the fingerprint is that of the extraction, not that of an import.
        notes: what the user should know, one sentence each.
        block_rows: rows that `read` may be asked for at a time without filling the memory.
        read: rows of the file → pairs of layer and values `[rows, functionals, features]`.
    """

    where: str
    model: str = ""
    dataset: str = ""
    ids: np.ndarray
    status: np.ndarray | None
    n_frames: np.ndarray
    duration_s: np.ndarray
    audio_hash: np.ndarray
    manifest: Manifest
    layers: tuple[int, ...]
    functionals: tuple[str, ...]
    n_features: int
    dtype: DTypeName
    unit_rows: int | None = None
    codec: str | None = None
    fingerprint: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=dict)
    model_card: Mapping[str, Any] = field(default_factory=dict)
    is_export: bool = False
    notes: tuple[str, ...] = ()
    block_rows: int
    read: Callable[[np.ndarray], Iterator[tuple[int, np.ndarray]]]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format.

    Attributes:
        name: what the user types.
        title: one sentence for people.
        is_folder: whether an export is a folder (else one file).
        write: writes keys to a path that does not exist yet, returns one-line notes.
        open: opens a file and yields its keys; None where the format is not read.
        holds_export: of a format that is a file: whether there is one that `write` wrote.
    """

    name: str
    title: str
    is_folder: bool
    write: Callable[[Sequence[Selection], Path, Advance], list[str]]
    open: Callable[[Path, ReadOptions], AbstractContextManager[list[Source]]] | None = None
    holds_export: Callable[[Path], bool] | None = None


def counter(total: int, tell: Callable[[int, int], None] | None) -> Advance:
    """What adds up rows and tells how many of the total are done, if anybody wants to know."""
    done = 0

    def advance(n_rows: int) -> None:
        nonlocal done
        done += n_rows
        if tell is not None:
            tell(done, total)

    return advance


def row_blocks(
    layer: Layer, row_bytes: int, *, multiple: int = 1, most_bytes: int = SHARD_BYTES
) -> Iterator[slice]:
    """Slices that cover a layer in order: whole shards, or parts of those above `most_bytes`."""
    for shard in layer.shards:
        step = block_rows(row_bytes, multiple=multiple, most_bytes=most_bytes)
        for rows in slices(shard.stop - shard.start, step):
            yield slice(shard.start + rows.start, shard.start + rows.stop)


def block_rows(row_bytes: int, *, multiple: int = 1, most_bytes: int = BLOCK_BYTES) -> int:
    """Rows of this size that fit into `most_bytes`, a multiple of `multiple` and at least that."""
    return max(multiple, most_bytes // max(1, row_bytes) // multiple * multiple)


def slices(n_rows: int, step: int) -> Iterator[slice]:
    """Slices of `step` rows that cover `n_rows` in order; the last may be shorter."""
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))
