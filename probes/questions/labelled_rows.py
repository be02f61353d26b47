"""From a store to labelled rows and to the matrix of one layer: all access to the store is here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pandas as pd

from featurestore import open_store
from featurestore.arrays import FloatArray, IntArray, TextArray
from featurestore.errors import LabelError, StoreError, did_you_mean
from featurestore.fingerprint import digest, digest_columns
from featurestore.format.row_arrays import STATUS_OK
from featurestore.manifest.labels import is_multilabel
from featurestore.manifest.table import CONTRACT_COLUMNS, learnable_columns
from probes.classifiers.multilabel import class_names, indicator, rarest_label
from probes.classifiers.numbers import CLASSIFICATION, REGRESSION, number_cells, numbers_of
from probes.questions.groups import group_cells
from probes.questions.tasks import ProbeTask, data_digest
from probes.splits import GROUP, Rows, Split, make_split, parse_split

if TYPE_CHECKING:
    from featurestore.store.reader import Features

# Of a key with more rows (2 KB each) nothing is kept open: training would miss the memory.
ROWS_KEPT_OPEN = 50_000
QUESTIONS_KEPT = 4
_KEPT_AS = "_featurestore_open_keys"
# Of rows with numbers, which are in no class.
ONE_CLASS = "number"


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The usable rows of one key for one label.

    Attributes:
        position: Row of the key's index and layers `[n]`, ascending.
        rows: Ids, classes, groups and the manifest's split.
        audio_hash: Of each row.
        key_fingerprint: What the embeddings are.
        sets: Cells of label sets `[n]`, `rows` then has the rarest label of each; None for plain labels.

    Numbers stand in `rows.numbers`.
    """

    position: IntArray
    rows: Rows
    audio_hash: TextArray
    key_fingerprint: object
    sets: TextArray | None = None

    def digest(self, split: Split) -> str:
        """See `probes.questions.tasks.data_digest`."""
        rows = replace(self.rows, label=self.cells)
        return data_digest(self.key_fingerprint, list(self.audio_hash), rows, split)

    @property
    def cells(self) -> TextArray:
        """What the label column holds `[n]`: classes, whole sets of them, or numbers in one spelling."""
        if self.rows.numbers is not None:
            return self.rows.numbers
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


def labelled(
    features: Features, label: str, split: str | None = None, task: str = CLASSIFICATION
) -> Labelled:
    """Rows whose audio was read and whose label is given, with what `split` needs of them.

    Raises:
        LabelError: unknown label, or unknown column of folds; of regression a label that is no number.
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
    what = f"label {label!r} of {where}"
    numbers = number_cells(cells, ids, what) if task == REGRESSION else None
    sets = cells if numbers is None and is_multilabel(pd.Series(cells, dtype=object)) else None
    classes = cells if sets is None else rarest_label(sets)
    rows = Rows(
        utterance_id=ids,
        label=classes if numbers is None else np.full(len(ids), ONE_CLASS, dtype=object),
        group=group_cells(features, grouped_by)[position],
        part=index["split"].to_numpy(dtype=object)[position],
        fold=index[column].to_numpy(dtype=object)[position] if column else None,
        place=pd.Index(manifest).get_indexer(ids).astype(np.int64),
        n_manifest=len(manifest),
        what=what,
        grouped_by=grouped_by,
        numbers=numbers,
    )
    return Labelled(
        position=position,
        rows=rows,
        audio_hash=index["audio_hash"].to_numpy(dtype=object)[position],
        key_fingerprint=features.attrs["fingerprint"],
        sets=sets,
    )


def unknown_label(label: str, known: list[str], where: str) -> str:
    """One line for a label that `where` does not have; what annotations and recorders say is not offered."""
    known = learnable_columns(known)
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
        classes: Names; none for numbers.
        y: Class positions `[n]`, -1 where the class is in no part; 0/1 `[n, C]` for label sets; numbers as
            float64 `[n]`.
    """

    labelled: Labelled
    split: Split
    classes: tuple[str, ...]
    y: Any

    @property
    def is_classes(self) -> bool:
        """Whether every row has one class."""
        return self.labelled.sets is None and not self.is_numbers

    @property
    def is_numbers(self) -> bool:
        """Whether numbers are to be predicted."""
        return self.labelled.rows.numbers is not None


class OpenKeys:
    """Keys as one process reads them in one run: opened once, and what is asked of them remembered.

    Tasks of one key follow one another, and those of one label differ in layer and classifier only: the last
    key and the last few questions are kept. A task's `data` and `clips` name the content exactly, so that
    what is remembered cannot be stale. Sent to a Dask worker, it stands for the one that this keeps.
    """

    def __init__(self, run: str = "", *, sent: bool = False) -> None:
        self._run, self._sent = run or uuid4().hex, sent
        self._lock = RLock()  # a worker may have several threads
        self._key: tuple[str, str, str] | None = None
        self._features: Features | None = None
        self._questions: dict[tuple[object, ...], Question] = {}

    def __reduce__(self) -> tuple[Callable[..., OpenKeys], tuple[str]]:
        return partial(OpenKeys, sent=True), (self._run,)

    def of_this_process(self) -> OpenKeys:
        """Itself, or in a Dask worker the one that it keeps, until it works for another run."""
        if not self._sent:
            return self
        from distributed import get_worker

        try:
            worker = get_worker()
        except ValueError:  # sent elsewhere
            return self
        kept = getattr(worker, _KEPT_AS, None)
        if kept is None or kept._run != self._run:
            kept = OpenKeys(self._run)
            setattr(worker, _KEPT_AS, kept)
        return kept

    def features(self, task: ProbeTask) -> Features:
        """The key of a task."""
        key = task.store, task.model, task.dataset
        with self._lock:
            if self._features is None or self._key != key:
                found = open_store(task.store).features(task.model, task.dataset)
                if sum(u.n_rows for u in found.units) > ROWS_KEPT_OPEN:
                    return found
                self._key, self._features = key, found
            return self._features

    def question(self, task: ProbeTask) -> Question:
        """Rows, classes and split of a task, as they were when it was planned.

        Raises:
            StoreError: the store changed since.
        """
        rows = task.store, task.model, task.dataset, task.label, task.split, task.clips, task.task
        asked = rows, task.split_seed, task.fold, task.data
        with self._lock:
            if asked not in self._questions:
                same = (q.labelled for of, q in self._questions.items() if of[0] == rows)
                found = next(same, None) or labelled(self.features(task), task.label, task.split, task.task)
                question = _question(task, found)
                while len(self._questions) >= QUESTIONS_KEPT:
                    del self._questions[next(iter(self._questions))]
                self._questions[asked] = question
            return self._questions[asked]


def _question(task: ProbeTask, found: Labelled) -> Question:
    drawn = make_split(task.split, found.rows, task.split_seed, task.fold)
    if found.digest(drawn) != task.data or (task.clips and found.clips(task.split) != task.clips):
        raise StoreError(
            f"{task.store}: {task.model}/{task.dataset} changed while it was probed; "
            "run the same command again"
        )
    if found.rows.numbers is not None:
        return Question(labelled=found, split=drawn, classes=(), y=numbers_of(found.rows.numbers))
    used = np.concatenate([where for _, where in drawn.parts()])
    if found.sets is not None:
        names = class_names(found.sets[used])
        return Question(labelled=found, split=drawn, classes=tuple(names), y=indicator(found.sets, names))
    classes = sorted(set(found.rows.label[used]))
    y = pd.Index(classes, dtype=object).get_indexer(found.rows.label).astype(np.int64)
    return Question(labelled=found, split=drawn, classes=tuple(classes), y=y)


def layer_matrix(features: Features, layers: Sequence[int], position: IntArray) -> FloatArray:
    """The given rows of a key, in any order, functionals side by side: float32 `[n, F * D]`.

    Several layers stand side by side, in the order given: `[n, L * F * D]`.

    Raises:
        StoreError: a row that should hold values does not.
    """
    width = len(features.functionals) * features.info.shape.n_features
    out = np.empty((len(position), len(layers) * width), dtype=np.float32)
    for i, layer in enumerate(layers):
        _read_layer(features, layer, position, out[:, i * width : (i + 1) * width])
    return out


def _read_layer(features: Features, layer: int, position: IntArray, out: FloatArray) -> None:
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
