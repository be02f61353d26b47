"""The same utterances in the layers of several models: found by id, read a block at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featurestore import open_store
from featurestore.arrays import FloatArray, IntArray, TextArray
from featurestore.errors import ConfigError, CorruptData, KeyNotFound, LabelError, did_you_mean
from featurestore.format.row_arrays import STATUS_OK
from featurestore.layer_list import format_layers, parse_layers
from featurestore.manifest.labels import is_multilabel
from featurestore.printable import counted
from featurestore.store.chosen_keys import chosen_keys
from probes.geometry.request import LEAST_ROWS, InspectConfig
from probes.questions.groups import group_cells
from probes.questions.labelled_rows import unknown_label
from probes.splits import GROUP, PATH

if TYPE_CHECKING:
    from featurestore.store.layer import Layer
    from featurestore.store.reader import Features


@dataclass(frozen=True, kw_only=True)
class LayerRows:
    """One layer of one model at the chosen utterances: a `Representation`.

    Attributes:
        model: Its name.
        layer: Hidden state index.
        source: The layer in the store.
        position: Its row of each utterance `[n]`.
        columns: Which functionals stand side by side.
    """

    model: str
    layer: int
    source: Layer
    position: IntArray
    columns: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, d)``, d is functionals times features."""
        return len(self.position), len(self.columns) * self.source.shape[2]

    def block(self, start: int, stop: int) -> FloatArray:
        """Rows from `start` up to `stop`, functionals side by side, float32 `[b, d]`.

        Raises:
            CorruptData: bytes or values are not what was committed.
        """
        values = self.source.sound(self.position[start:stop])[:, list(self.columns)]
        out: FloatArray = values.reshape(len(values), -1)
        return out


@dataclass(frozen=True, kw_only=True)
class AlignedRows:
    """Utterances that all chosen models hold.

    Attributes:
        dataset: Name.
        utterance_id: Of each `[n]`.
        label: Class of each `[n]`; None where no label was asked for.
        group: What each belongs to `[n]`, "" where nothing is given.
        grouped_by: Column of the groups.
        audio_hash: Of each `[n]`.
        path: Audio file of each `[n]`, as the manifest has it.
        layers: Of all models, by model in the order of the store, then by layer.
        functionals: Names of those side by side, by model.
        notes: What a reader has to know of the rows.
    """

    dataset: str
    utterance_id: TextArray
    label: TextArray | None
    group: TextArray
    grouped_by: str
    audio_hash: TextArray
    path: TextArray
    layers: tuple[LayerRows, ...]
    functionals: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.utterance_id)

    def drawn(self, n: int | None, seed: int) -> AlignedRows:
        """So many of the rows, drawn by id and seed alone; all where they are not more."""
        return self if n is None or n >= len(self) else self.taken(self.drawn_positions(n, seed))

    def drawn_positions(self, n: int | None, seed: int) -> IntArray:
        """Positions of the rows that `drawn` takes, ascending."""
        if n is None or n >= len(self):
            return np.arange(len(self))
        by_id = np.argsort(self.utterance_id, kind="stable")
        chosen = np.random.Generator(np.random.PCG64(seed)).choice(len(self), n, replace=False)
        return np.sort(by_id[chosen])

    def taken(self, rows: IntArray) -> AlignedRows:
        """These rows."""
        layers = tuple(replace(layer, position=layer.position[rows]) for layer in self.layers)
        texts = {name: getattr(self, name)[rows] for name in ("utterance_id", "group", "audio_hash", "path")}
        label = None if self.label is None else self.label[rows]
        return replace(self, **texts, label=label, layers=layers)


def aligned_rows(config: InspectConfig) -> AlignedRows:
    """Find the utterances that every model asked for holds, and their layers.

    Raises:
        KeyNotFound: the store has no such model, data set or layer.
        ConfigError: several data sets, or unknown functionals.
        LabelError: unknown label or group, or one that says nothing.
        CorruptData: one id stands for other audio in another model.
    """
    keys, notes = _keys(config)
    n_ok, shared = _shared_ids(keys)
    if n_ok > len(shared):
        notes.append(f"left out: {counted(n_ok - len(shared), 'utterance')} that not every model embedded")
    first = keys[0]
    place = pd.Index(first.index["utterance_id"]).get_indexer(pd.Index(shared))
    place = np.sort(place).astype(np.int64)  # as they lie in the store: read in runs
    ids = first.index["utterance_id"].to_numpy(dtype=object)[place]
    positions = [pd.Index(f.index["utterance_id"]).get_indexer(pd.Index(ids)).astype(np.int64) for f in keys]
    hashes = _same_audio(keys, positions, ids)
    label = None if config.label is None else _label(keys, positions, config.label, ids)
    grouped_by = config.group or (GROUP if (first.index[GROUP] != "").any() else PATH)
    functionals = {f.model: _functionals(f, config.functionals) for f in keys}
    layers = _layers(keys, config.layers)
    rows = AlignedRows(
        dataset=first.dataset,
        utterance_id=ids,
        label=label,
        group=group_cells(first, grouped_by)[place],
        grouped_by=grouped_by,
        audio_hash=hashes,
        path=first.index[PATH].to_numpy(dtype=object)[place],
        layers=tuple(
            LayerRows(
                model=f.model,
                layer=k,
                source=f.layer(k),
                position=position,
                columns=tuple(f.functionals.index(name) for name in functionals[f.model]),
            )
            for f, position in zip(keys, positions, strict=True)
            for k in layers[f.model]
        ),
        functionals=functionals,
        notes=tuple(notes),
    )
    if label is not None:
        rows = rows.taken(np.flatnonzero(label != ""))
        _require_classes(rows, str(config.label))
    if len(rows) < LEAST_ROWS:
        said = f" with a label {config.label!r}" if label is not None else ""
        raise LabelError(
            f"{config.store}: {counted(len(rows), 'utterance')} of {first.dataset}{said} in every model "
            f"asked for; expected {LEAST_ROWS} or more"
        )
    return rows


def _keys(config: InspectConfig) -> tuple[list[Features], list[str]]:
    """Keys that are asked for, of one data set, and what is to be said of them."""
    store = open_store(config.store)
    datasets = None if config.dataset is None else (config.dataset,)
    found = chosen_keys(store.storage, config.models or None, datasets)
    names = found.names
    known_models = sorted({m for m, _ in found.known})
    for model in config.models:
        if model not in known_models:
            hint = did_you_mean(model, known_models)
            raise KeyNotFound(f"{store.url}: no model {model!r}; it has {', '.join(known_models)}{hint}")
        if model not in {m for m, _ in names} and model not in {m for m, _ in found.unreadable}:
            raise KeyNotFound(f"{store.url}: no key with model {model} and dataset {config.dataset or '*'}")
    if not names:
        for why in found.unreadable.values():
            raise CorruptData(why)
        raise KeyNotFound(f"{store.url}: no key with model * and dataset {config.dataset or '*'}")
    several = sorted({d for _, d in names})
    if len(several) > 1:
        raise ConfigError(
            f"{store.url}: expected one data set, whose utterances are compared, there are "
            f"{', '.join(several)}; choose one with --dataset"
        )
    return [store.features(*name) for name in names], found.left_out


def _shared_ids(keys: Sequence[Features]) -> tuple[int, list[str]]:
    """How many utterances some key embedded, and the ids that all did."""
    ok = [set(f.index.loc[f.index["status"] == STATUS_OK, "utterance_id"]) for f in keys]
    return len(set().union(*ok)), sorted(set.intersection(*ok))


def _same_audio(keys: Sequence[Features], positions: Sequence[IntArray], ids: TextArray) -> TextArray:
    """Hash of the audio of each utterance `[n]`, the same in every key."""
    columns = [f.index["audio_hash"].to_numpy(dtype=object)[p] for f, p in zip(keys, positions, strict=True)]
    for f, column in zip(keys[1:], columns[1:], strict=True):
        differs = (column != columns[0]) & (column != "") & (columns[0] != "")
        if differs.any():
            raise CorruptData(
                f"{f.storage.url}: {f.dataset}: {counted(int(differs.sum()), 'utterance')} (first "
                f"{ids[differs.argmax()]!r}) is other audio in {f.model} than in {keys[0].model}; embed "
                "one of them again, or leave it out with --model"
            )
    return columns[0]


def _label(keys: Sequence[Features], positions: Sequence[IntArray], label: str, ids: TextArray) -> TextArray:
    """Class of each utterance `[n]`, "" where it has none; the same in every key."""
    columns = []
    for f, position in zip(keys, positions, strict=True):
        if label not in f.label_columns:
            raise LabelError(unknown_label(label, f.label_columns, f"{f.model}/{f.dataset}"))
        columns.append(f.index[label].to_numpy(dtype=object)[position])
        differs = columns[-1] != columns[0]
        if differs.any():
            i = int(differs.argmax())
            raise LabelError(
                f"label {label!r}: utterance {ids[i]!r} is {columns[0][i]!r} in {keys[0].model} and "
                f"{columns[-1][i]!r} in {f.model}; `fs manifest attach` puts the same labels to both"
            )
    if is_multilabel(pd.Series(columns[0], dtype=object)):
        raise LabelError(
            f"label {label!r}: its cells are sets of labels (a|b), and classes that overlap cannot be told "
            "apart; `fs manifest … --explode` makes a column of each"
        )
    return columns[0]


def _require_classes(rows: AlignedRows, label: str) -> None:
    assert rows.label is not None
    n_classes, n = len(set(rows.label)), len(rows)
    if n and (n_classes < 2 or n_classes > n // 2):
        raise LabelError(
            f"label {label!r}: expected from 2 classes up to one for every two utterances, got "
            f"{counted(n_classes, 'class', 'classes')} of {counted(n, 'utterance')}; choose another label"
        )


def _layers(keys: Sequence[Features], asked: str | None) -> dict[str, list[int]]:
    """Layers that are asked for, by model: of each those that it has."""
    wanted = None if asked is None else set(parse_layers(asked))
    found = {f.model: [k for k in f.layers if wanted is None or k in wanted] for f in keys}
    lacking = sorted(wanted - {k for f in keys for k in f.layers}) if wanted else []
    bare = next((f for f in keys if not found[f.model]), None)
    if lacking or bare is not None:
        has = "; ".join(f"{f.model} has {format_layers(f.layers)}" for f in keys)
        what = (
            f"no model has layer {lacking[0]}"
            if lacking or bare is None
            else f"{bare.model} has none of them"
        )
        raise KeyNotFound(f"layers {asked}: {what} ({has})")
    return found


def _functionals(features: Features, asked: Sequence[str]) -> tuple[str, ...]:
    """Names of the functionals that stand side by side."""
    lacking = [name for name in asked if name not in features.functionals]
    if lacking:
        raise ConfigError(
            f"functionals: {features.model}/{features.dataset} has no {lacking[0]!r}, it has "
            f"{', '.join(features.functionals)}"
        )
    return tuple(asked or features.functionals)
