"""Reading a store: keys, features, layers as Zarr, Dask or NumPy arrays, aligned with one index."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from featurestore.backends.storage import Storage, open_storage
from featurestore.errors import (
    ConfigError,
    CorruptData,
    DependencyMissing,
    KeyNotFound,
    LabelError,
    StoreError,
)
from featurestore.format import layer_arrays, row_arrays
from featurestore.format.decoding import parsed_json
from featurestore.format.row_arrays import ID_ARRAY, STATUS_OK
from featurestore.layer_list import format_layers
from featurestore.manifest.audio_places import Found, Places
from featurestore.manifest.table import Manifest
from featurestore.printable import counted
from featurestore.store.key import KeyInfo, find_keys, read_key, unit_objects
from featurestore.store.layer import Layer
from featurestore.store.ledger import Record, contradiction, is_complete, read_ledger
from featurestore.store.plan import Unit
from featurestore.store.row_columns import columns_of, read_ids
from featurestore.store.stored_manifest import read_stored_manifest

if TYPE_CHECKING:
    import xarray


def open_store(url: str | os.PathLike[str], mode: Literal["r", "r+"] = "r") -> Store:
    """Open a store by path or URL; read-only unless ``mode="r+"``.

    Raises:
        StoreError: there is no store at `url`, or only a part of one, or other Zarr data.
    """
    if mode not in ("r", "r+"):
        raise ConfigError(f"expected mode 'r' or 'r+', got {mode!r}")
    storage = open_storage(url)
    document = storage.get("zarr.json")
    if document is None:
        raise StoreError(f"{storage.url}: no feature store here; `fs extract --store` makes one")
    if _is_other_node(document) and not find_keys(storage)[0]:
        raise StoreError(
            f"{storage.url}: this Zarr node is not the root of a feature store; give the folder that holds "
            "MODEL/DATASET"
        )
    return Store(storage, mode)


def _is_other_node(document: bytes) -> bool:
    """Whether a Zarr document is another than a store's root; a damaged one may be (`fs verify` tells)."""
    try:
        attributes = parsed_json(document).get("attributes", {})
    except (ValueError, AttributeError):
        return False
    return (
        not isinstance(attributes, dict) or "feature_store" not in attributes or "fingerprint" in attributes
    )


class Store:
    """A store of embeddings keyed *model / dataset / layer*."""

    def __init__(self, storage: Storage, mode: Literal["r", "r+"] = "r") -> None:
        self.storage = storage
        self.mode = mode

    def __repr__(self) -> str:
        return f"Store({self.url!r}, mode={self.mode!r})"

    @property
    def url(self) -> str:
        """Where the store is."""
        return self.storage.url

    def keys(self) -> list[tuple[str, str]]:
        """All *(model, dataset)* pairs that can be read, sorted; see `unreadable_keys`."""
        return [(k.model, k.dataset) for k in find_keys(self.storage)[0]]

    def unreadable_keys(self) -> dict[tuple[str, str], str]:
        """*(model, dataset)* → why its document cannot be read, of the keys that `keys` leaves out."""
        return find_keys(self.storage)[1]

    def features(self, model: str, dataset: str) -> Features:
        """The embeddings of one model on one dataset.

        Raises:
            KeyNotFound: the store does not hold them.
        """
        return Features(self.storage, read_key(self.storage, model, dataset))


def _with_its_ledger(storage: Storage, info: KeyInfo) -> tuple[KeyInfo, dict[int, Record]]:
    """A key and its records, which belong together.

    Raises:
        CorruptData: the records were made under another plan: rows would be left out, or be others'.
    """
    ledger = read_ledger(storage, info.path)
    said = contradiction(info, ledger)
    if said is not None:
        # Another process may have appended utterances since the key's document was read.
        info = read_key(storage, info.model, info.dataset)
        said = contradiction(info, ledger)
    if said is not None:
        raise CorruptData(
            f"{storage.url}: {info.path} contradicts itself: {said}; `fs verify --repair` mends it"
        )
    return info, ledger


class Features:
    """One key, as it was when it was opened: units committed later are not seen.

    Rows of units that are not committed are left out of `index` and of every array read through
    `layer`; rows whose audio failed are kept, with NaN values and a status that says why.

    Args:
        storage: the root.
        info: the key's attributes.
        manifest: that is stored with the key; None reads it.
    """

    def __init__(
        self,
        storage: Storage,
        info: KeyInfo,
        manifest: Manifest | None = None,
    ) -> None:
        self.storage = storage
        self.info, self._ledger = _with_its_ledger(storage, info)
        # Positions of the rows of `index` among those of `facts`; None for all. See `select`.
        self._selected: np.ndarray | None = None
        self._manifest = manifest
        self.units: list[Unit] = [u for u in self.info.units if is_complete(self._ledger.get(u.index), u, [])]

    def __repr__(self) -> str:
        return f"Features({self.info.path!r}, layers={self.layers}, rows={len(self.index)})"

    @property
    def model(self) -> str:
        """Model name."""
        return self.info.model

    @property
    def dataset(self) -> str:
        """Dataset name."""
        return self.info.dataset

    @property
    def layers(self) -> list[int]:
        """Layers the key holds."""
        return list(self.info.layers)

    @property
    def functionals(self) -> list[str]:
        """Names of the statistics, in stored order."""
        return list(self.info.functionals)

    @property
    def attrs(self) -> dict[str, Any]:
        """The key's attributes: fingerprint, functionals, layers, plan, versions, model card."""
        return self.info.to_attributes()

    @property
    def ledger(self) -> Mapping[int, Record]:
        """Records of the committed units."""
        return self._ledger

    @property
    def n_pending_units(self) -> int:
        """Units of the plan that are not committed, or not for all layers."""
        layers = self.layers
        return sum(not is_complete(self._ledger.get(u.index), u, layers) for u in self.info.units)

    @property
    def rows(self) -> np.ndarray:
        """Row in the Zarr arrays of every row of `index`, int64 `[n]`, increasing."""
        rows: np.ndarray = self.facts["row"].to_numpy()
        return rows if self._selected is None else rows[self._selected]

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest stored beside the embeddings (all utterances, committed or not)."""
        return self._manifest or read_stored_manifest(self.storage, self.info)

    @cached_property
    def found_audio(self) -> dict[str, Found]:
        """Utterance id → what vouches for a row that is listed elsewhere than it was embedded from.

        Raises:
            CorruptData: what is stored of it is none.
        """
        try:
            return {i: Found.parse(text) for i, text in self.manifest.found_audio.items()}
        except ValueError as error:
            raise CorruptData(
                f"{self.storage.url}: the stored manifest of {self.info.path} is damaged ({error}); "
                "`fs manifest attach` puts it back"
            ) from error

    @cached_property
    def bound_places(self) -> Places:
        """What every row of `facts` was embedded from `[n]`; unknown where the ledger does not say."""
        places = Places.joined([self._ledger[u.index].places_of_rows for u in self.units])
        rows = self.fact_columns["row"]
        if len(rows) == len(places):
            return places
        return places[np.searchsorted(self._committed_rows, rows)]

    @cached_property
    def facts(self) -> pd.DataFrame:
        """Row, id, status and facts of every committed utterance; pruned rows (without an id) left out."""
        text = [n for n, (dtype, _) in row_arrays.ROW_ARRAYS.items() if dtype == "string"]
        return pd.DataFrame(self.fact_columns).astype(dict.fromkeys(text, "str"))

    @cached_property
    def fact_columns(self) -> dict[str, np.ndarray]:
        """The columns of `facts`, each `[n]`, text as objects: what a million rows are compared by."""
        rows = self._committed_rows
        ids, embedded = self.planned_ids[rows], self._embedded_ids
        wrong = np.flatnonzero((ids != "") & (ids != embedded))
        if len(wrong):
            at = int(wrong[0])
            raise CorruptData(
                f"{self.storage.url}: row {rows[at]} of {self.info.path} was embedded as utterance "
                f"{embedded[at]!r} and is listed as {ids[at]!r}; `fs verify --repair` mends it"
            )
        facts = {name: values[rows] for name, values in columns_of(self.info, self._ledger).items()}
        found = {"row": rows, ID_ARRAY: ids, **facts}
        kept = ids != ""  # the others were pruned since
        return found if kept.all() else {name: values[kept] for name, values in found.items()}

    @cached_property
    def planned_ids(self) -> np.ndarray:
        """`[n_rows]` utterance ids of all rows, committed or not; "" for rows that are nobody's."""
        return read_ids(self.storage, self.info)

    @property
    def _committed_rows(self) -> np.ndarray:
        """Row of every committed utterance, and of those that were pruned since."""
        runs = [np.arange(u.first_row, u.stop_row) for u in self.units]
        return np.concatenate([np.zeros(0, dtype=np.int64), *runs])

    @property
    def _embedded_ids(self) -> np.ndarray:
        """The utterance that each of `_committed_rows` was embedded as."""
        parts = [self._ledger[u.index].column(ID_ARRAY) for u in self.units]
        return np.concatenate([np.zeros(0, dtype=object), *parts])

    def misplaced(self) -> np.ndarray:
        """Positions in `facts` of rows that are listed at a place where their audio is not known to be.

        A row belongs where its record says that it was embedded from, or where the same audio was found
        since. Rows that failed, and those of which nothing is recorded, cannot be judged.
        """
        bound, facts = self.bound_places, self.fact_columns
        is_ok = np.asarray(facts["status"] == STATUS_OK, dtype=bool)
        at = np.flatnonzero(is_ok & ~bound.same_stretch(Places.of_table(self._described)))
        ids, hashes = facts[ID_ARRAY], facts["audio_hash"]
        found = self.found_audio
        wrong = bound.is_known[at]
        if found:
            vouched = [found.get(i) for i in ids[at]]
            wrong = np.array(
                [
                    w if f is None else f.audio_hash != h
                    for w, f, h in zip(wrong, vouched, hashes[at], strict=True)
                ],
                dtype=bool,
            )
        return np.asarray(at[wrong], dtype=np.int64)

    @cached_property
    def _described(self) -> pd.DataFrame:
        """`facts` with the columns of the stored manifest.

        Raises:
            CorruptData: the manifest lacks a row, or lists one that is nobody's.
        """
        self._require_ids()
        facts = self.facts.drop(columns=row_arrays.FRAME_START, errors="ignore")
        merged = facts.merge(self.manifest.table, on="utterance_id", how="left", sort=False, validate="1:1")
        if merged["path"].isna().any():
            lost = merged.loc[merged["path"].isna(), "utterance_id"].iloc[0]
            raise CorruptData(
                f"{self.storage.url}: the stored manifest of {self.info.path} lacks utterance {lost!r}; "
                "`fs manifest attach` puts it back"
            )
        return merged

    def _require_ids(self) -> None:
        """Refuse rows that lost their ids: a row of somebody who was pruned is in no manifest."""
        pruned = self.planned_ids[self._committed_rows] == ""
        if not pruned.any():
            return
        embedded = self._embedded_ids[pruned]
        lost = (set(embedded) & set(self.manifest.table["utterance_id"])) - set(self.planned_ids)
        if lost:
            raise CorruptData(
                f"{self.storage.url}: {counted(len(lost), 'utterance')} of {self.info.path} lost the row's "
                f"id (first {min(lost)!r}); `fs verify --repair` puts it back, `fs extract --prune` leaves "
                "them out"
            )

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row per committed utterance: row, id, status, facts, and the manifest's columns.

        Columns are ``row, utterance_id, status, n_frames, duration_s, audio_hash, path, start_s, end_s,
        channel, split, group`` and the labels. Row i describes row i of every layer array read here;
        ``row`` says which row of the raw Zarr arrays that is.

        Raises:
            CorruptData: a row is listed at a place whose audio is not known to be what was embedded.
        """
        misplaced = self.misplaced()
        if len(misplaced):
            raise CorruptData(f"{self.storage.url}: {self.misplacement(int(misplaced[0]))}")
        table = self._described
        return table if self._selected is None else table.iloc[self._selected].reset_index(drop=True)

    def misplacement(self, row: int) -> str:
        """What is wrong with one of `misplaced`, and what to do."""
        listed = Places.of_table(self._described.iloc[[row]])
        return (
            f"utterance {self.facts['utterance_id'].iloc[row]!r} of {self.info.path} was embedded from "
            f"{self.bound_places.text(row)} and is listed at {listed.text(0)}, whose audio was not compared; "
            "`fs extract` again with its manifest compares it, --refresh embeds it again"
        )

    @property
    def label_columns(self) -> list[str]:
        """Names of the label columns."""
        return self.manifest.label_columns

    def select(
        self,
        *,
        labels: Mapping[str, str | Sequence[str]] | None = None,
        ids: str | Sequence[str] | None = None,
        ok_only: bool = False,
    ) -> Features:
        """The rows with these labels or ids, in the order of the index, as `Features` again.

        Args:
            labels: column of the index → the value, or the values, to keep.
            ids: utterance ids to keep, or one.
            ok_only: leave out rows whose audio failed.

        Raises:
            LabelError: there is no such column, or an id the key does not hold.
        """
        index = self.index
        keep = np.ones(len(index), dtype=bool)
        for column, wanted in (labels or {}).items():
            if column not in index.columns:
                raise LabelError(
                    f"{self.info.path}: no column {column!r}; there are {', '.join(self.label_columns)}"
                )
            keep &= index[column].isin([wanted] if isinstance(wanted, str) else list(wanted)).to_numpy()
        if ids is not None:
            ids = [ids] if isinstance(ids, str) else list(ids)  # a text is one id, not its letters
            unknown = sorted(set(ids) - set(index["utterance_id"]))
            if unknown:
                raise LabelError(f"{self.info.path}: no utterance {unknown[0]!r} ({len(unknown)} in all)")
            keep &= index["utterance_id"].isin(ids).to_numpy()
        if ok_only:
            keep &= (index["status"] == STATUS_OK).to_numpy()
        before = np.arange(len(index)) if self._selected is None else self._selected
        selection = copy.copy(self)
        selection._selected = before[keep]
        del selection.__dict__["index"]  # all else that was computed is of the whole key
        return selection

    def layer(self, layer: int) -> Layer:
        """One layer, aligned with `index`.

        Raises:
            KeyNotFound: the key does not hold this layer.
            StoreError: the layer was added later and is not complete for all committed units.
        """
        if layer not in self.info.layers:
            raise KeyNotFound(
                f"{self.storage.url}: {self.info.path} has layers {format_layers(self.layers)}, not {layer}"
            )
        lacking = [u.index for u in self.units if layer not in self._ledger[u.index].layers]
        if lacking:
            raise StoreError(
                f"{self.storage.url}: layer {layer} of {self.info.path} is not complete "
                f"({len(lacking)} of {len(self.units)} units lack it); run the same `fs extract` again"
            )
        at = slice(None) if self._selected is None else self._selected
        facts = {name: values[at] for name, values in self.fact_columns.items()}
        ok = np.asarray(facts["status"] == STATUS_OK, dtype=bool)
        objects = {
            name: stored
            for u in self.units
            for name in unit_objects(self.info, [layer], u.index)
            if (stored := self._ledger[u.index].objects.get(name)) is not None
        }
        return Layer(
            self.storage,
            self.info,
            layer,
            rows=facts["row"],
            ok=ok,
            n_frames=np.where(ok, facts["n_frames"], 0),
            frame_start=facts.get(row_arrays.FRAME_START),
            objects=objects,
        )

    def to_xarray(self) -> xarray.Dataset:
        """All layers as one lazy xarray Dataset, with ids, facts and labels as coordinates.

        Raises:
            DependencyMissing: xarray is not installed.
        """
        try:
            import xarray
        except ImportError as error:
            raise DependencyMissing(
                "to_xarray needs xarray: pip install 'featurestore-audio[xarray]'"
            ) from error
        dims = ("utterance", "functional", "feature")
        arrays = {layer_arrays.layer_name(k): (dims, self.layer(k).dask()) for k in self.layers}
        coordinates = {
            name: ("utterance", self.index[name].to_numpy(dtype=object if kind == "str" else None))
            for name, kind in self.index.dtypes.items()
            if name != "channel"
        }
        coordinates["functional"] = ("functional", np.array(self.functionals, dtype=object))
        return xarray.Dataset(arrays, coordinates, {"model": self.model, "dataset": self.dataset})
