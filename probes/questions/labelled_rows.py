"""From a store to labelled rows and to the matrix of one layer: all access to the store is here."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featurestore import open_store
from featurestore.arrays import FloatArray, IntArray, TextArray
from featurestore.errors import LabelError, StoreError, did_you_mean
from featurestore.fingerprint import digest, digest_columns
from featurestore.manifest.labels import is_multilabel
from featurestore.manifest.table import CONTRACT_COLUMNS
from probes.classifiers.multilabel import class_names, indicator, rarest_label
from probes.questions.groups import group_cells
from probes.questions.tasks import ProbeTask, data_digest
from probes.splits import (
    GROUP,
    Rows,
    Split,
    make_split,
    parse_split,
)

if TYPE_CHECKING:
    from featurestore.store.reader import Features

STATUS_OK = "ok"


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The usable rows of one key for one label.

    Attributes:
        position: Row of the key's index and layers `[n]`, ascending.
        rows: Ids, classes, groups and the manifest's split.
        audio_hash: Of each row.
        key_fingerprint: What the embeddings are.
        sets: Cells of label sets `[n]`, `rows` then has the rarest label of each; None for plain labels.
    """

    position: IntArray
    rows: Rows
    audio_hash: TextArray
    key_fingerprint: object
    sets: TextArray | None = None

    def digest(self, split: Split) -> str:
        """See `probes.questions.tasks.data_digest`."""
        rows = self.rows if self.sets is None else replace(self.rows, label=self.sets)
        return data_digest(self.key_fingerprint, list(self.audio_hash), rows, split)

    @property
    def cells(self) -> TextArray:
        """What the label column holds `[n]`: classes, or whole sets of them."""
        return self.rows.label if self.sets is None else self.sets

    def clips(self, split: str) -> str:
        """Digest of what a split is drawn from, of whatever model and in whatever order: ids, labels, groups.

        Fits with the same are about the same clips; rows that the split places nowhere take no part.
        """
        rows, kind = self.rows, parse_split(split).kind
        columns = [rows.utterance_id, self.cells, rows.group]
        placed = np.ones(len(rows), dtype=bool)
        if kind == "sarkar2025" and rows.place is not None:
            columns.append(rows.place.astype(object))
        given = {"column": rows.part, "fold": rows.fold}.get(kind)
        if given is not None:
            columns.append(given)
            placed = given != ""
        order = rows.by_id[placed[rows.by_id]]
        return digest_columns(
            f"{len(order)} {rows.n_manifest * (kind == 'sarkar2025')}", (c[order] for c in columns)
        )

    def group_digest(self) -> str:
        """Digest of id and group of every row, whatever their order (sha256)."""
        pairs = zip(self.rows.utterance_id, self.rows.group, strict=True)
        return digest(sorted([str(i), str(g)] for i, g in pairs))


def labelled(features: Features, label: str, split: str | None = None) -> Labelled:
    """Rows whose audio was read and whose label is given, with what `split` needs of them.

    Raises:
        LabelError: unknown label, or unknown column of folds.
    """
    known = features.label_columns
    where = f"{features.model}/{features.dataset}"
    if label not in known:
        raise LabelError(unknown_label(label, known, where))
    index = features.index
    values = index[label].to_numpy(dtype=object)
    position = np.flatnonzero((index["status"] == STATUS_OK).to_numpy() & (values != ""))
    ids = index["utterance_id"].to_numpy(dtype=object)[position]
    spec = parse_split(split) if split else None
    column, grouped_by = (spec.column, spec.group or GROUP) if spec else ("", GROUP)
    if column and column not in (*known, "group"):
        raise LabelError(unknown_label(column, known, where).replace("label", "split: column", 1))
    # The index is in the order of the plan; the manifest keeps its own.
    manifest = features.manifest.table["utterance_id"]
    cells = values[position]
    sets = cells if is_multilabel(pd.Series(cells, dtype=object)) else None
    rows = Rows(
        utterance_id=ids,
        label=cells if sets is None else rarest_label(sets),
        group=group_cells(features, grouped_by)[position],
        part=index["split"].to_numpy(dtype=object)[position],
        fold=index[column].to_numpy(dtype=object)[position] if column else None,
        place=pd.Index(manifest).get_indexer(ids).astype(np.int64),
        n_manifest=len(manifest),
        what=f"label {label!r} of {where}",
        grouped_by=grouped_by,
    )
    return Labelled(
        position=position,
        rows=rows,
        audio_hash=index["audio_hash"].to_numpy(dtype=object)[position],
        key_fingerprint=features.attrs["fingerprint"],
        sets=sets,
    )


def unknown_label(label: str, known: list[str], where: str) -> str:
    """One line for a label that `where` does not have."""
    if label in CONTRACT_COLUMNS:
        hint = f"; {label!r} is no label column: copy it to one of another name and `fs manifest attach` that"
    else:
        hint = did_you_mean(label, known)
    have = ", ".join(known) or "none"
    return f"label {label!r}: {where} has no such label, its labels are {have}{hint}"


@dataclass(frozen=True, kw_only=True)
class Question:
    """What every layer of a task's key shares, ready in the worker.

    Attributes:
        labelled: All usable rows.
        split: Which of them is in which part.
        classes: Names.
        y: Class positions `[n]`, -1 where the class is in no part; 0/1 `[n, C]` for label sets.
    """

    labelled: Labelled
    split: Split
    classes: tuple[str, ...]
    y: IntArray


def question_of(task: ProbeTask) -> Question:
    """Rows, classes and split of a task, as they were when it was planned.

    Raises:
        StoreError: the store changed since.
    """
    return _question(
        task.store,
        task.model,
        task.dataset,
        task.label,
        task.split,
        task.split_seed,
        task.fold,
        task.data,
        task.clips,
    )


# Tasks of one label differ in layer and classifier only. `data` and `clips` name the content exactly, so a
# remembered answer cannot be stale.
@lru_cache(maxsize=4)
def _question(
    store: str, model: str, dataset: str, label: str, split: str, seed: int, fold: int, data: str, clips: str
) -> Question:
    found = labelled(open_store(store).features(model, dataset), label, split)
    drawn = make_split(split, found.rows, seed, fold)
    if found.digest(drawn) != data or (clips and found.clips(split) != clips):
        raise StoreError(
            f"{store}: {model}/{dataset} changed while it was probed; run the same command again"
        )
    used = np.concatenate([where for _, where in drawn.parts()])
    if found.sets is not None:
        names = class_names(found.sets[used])
        return Question(labelled=found, split=drawn, classes=tuple(names), y=indicator(found.sets, names))
    classes = sorted(set(found.rows.label[used]))
    code = {c: i for i, c in enumerate(classes)}
    y = np.array([code.get(c, -1) for c in found.rows.label], dtype=np.int64)
    return Question(labelled=found, split=drawn, classes=tuple(classes), y=y)


def layer_matrix(task: ProbeTask, position: IntArray) -> FloatArray:
    """The given rows of a task's layer, in any order, functionals side by side: float32 `[n, F * D]`.

    Layers of a task that combines several stand side by side, in ascending order: `[n, L * F * D]`.

    Raises:
        StoreError: a row that should hold values does not.
    """
    features = open_store(task.store).features(task.model, task.dataset)
    width = len(features.functionals) * features.info.shape.n_features
    out = np.empty((len(position), len(task.layers) * width), dtype=np.float32)
    for i, layer in enumerate(task.layers):
        read_layer(features, layer, position, out[:, i * width : (i + 1) * width])
    return out


def read_layer(features: Features, layer: int, position: IntArray, out: FloatArray) -> None:
    """Read the given rows of one layer, in any order, into `out` `[n, F * D]`.

    Read lazily: shards without a wanted row are not touched, and one shard at a time is held
    beside the result.

    Raises:
        StoreError: a row that should hold values does not.
    """
    lazy = features.layer(layer).dask()
    starts = np.cumsum([0, *lazy.chunks[0]])
    place = np.argsort(position, kind="stable")
    position = position[place]
    bounds = np.searchsorted(position, starts)
    for block, (first, last) in enumerate(itertools.pairwise(bounds)):
        if first < last:
            # In this thread: within a Dask worker the default would be the cluster itself.
            values = lazy.blocks[block].compute(scheduler="synchronous")
            local = position[first:last] - starts[block]
            block = values[local].reshape(last - first, -1)
            out[place[first:last]] = block
            bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
            if len(bad):
                row = int(position[first + bad[0]])
                name = features.index["utterance_id"].iloc[row]
                raise StoreError(
                    f"{features.storage.url}: {features.model}/{features.dataset} layer {layer} holds NaN or "
                    f"infinity in rows with status ok, first {name!r}; run `fs verify`"
                )
