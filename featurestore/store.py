"""Reading a store: keys, features, layers as Zarr, Dask or NumPy arrays, aligned with one index."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import zarr
from zarr import Array as ZarrArray

from featurestore import layout
from featurestore.errors import ConfigError, CorruptData, KeyNotFound, StoreError
from featurestore.key import KeyInfo, list_keys, read_key
from featurestore.layers import format_layers
from featurestore.ledger import Record, is_complete, read_ledger
from featurestore.manifest import CONTRACT_COLUMNS, Manifest, from_csv_text
from featurestore.plan import Unit
from featurestore.storage import Storage, open_storage
from featurestore.writer import MANIFEST_ARRAY

if TYPE_CHECKING:
    import dask.array

STATUS_OK = "ok"


def open_store(url: str | os.PathLike[str], mode: Literal["r", "r+"] = "r") -> Store:
    """Open a store by path or URL; read-only unless ``mode="r+"``.

    Raises:
        StoreError: there is no store at `url`.
    """
    if mode not in ("r", "r+"):
        raise ConfigError(f"expected mode 'r' or 'r+', got {mode!r}")
    storage = open_storage(url)
    if storage.get("zarr.json") is None:
        raise StoreError(f"{storage.url}: no feature store here; `fs extract --store` makes one")
    return Store(storage, mode)


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
        """All *(model, dataset)* pairs, sorted."""
        return list_keys(self.storage)

    def features(self, model: str, dataset: str) -> Features:
        """The embeddings of one model on one dataset.

        Raises:
            KeyNotFound: the store does not hold them.
        """
        return Features(self.storage, read_key(self.storage, model, dataset))


class Features:
    """One key, as it was when it was opened: units committed later are not seen.

    Rows of units that are not committed are left out of `index` and of every array read through
    `layer`; rows whose audio failed are kept, with NaN values and a status that says why.
    """

    def __init__(self, storage: Storage, info: KeyInfo) -> None:
        self.storage = storage
        self.info = info
        ledger = read_ledger(storage, info.path)
        self._ledger: dict[int, Record] = ledger
        self.units: list[Unit] = [u for u in info.units if is_complete(ledger.get(u.index), u, [])]

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

    @cached_property
    def rows(self) -> np.ndarray:
        """Row in the Zarr arrays of every row of `index`, int64 `[n]`, increasing."""
        runs = [np.arange(u.first_row, u.stop_row) for u in self.units]
        return np.concatenate(runs) if runs else np.zeros(0, dtype=np.int64)

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest stored beside the embeddings (all utterances, committed or not)."""
        name = f"{self.info.path}/{layout.row_chunk(MANIFEST_ARRAY, 0)}"
        data = self.storage.get(name)
        if data is None:
            raise CorruptData(f"{self.storage.url}: {name} is missing; `fs manifest attach` puts it back")
        try:
            text = layout.decode_text(data)
        except (ValueError, UnicodeDecodeError, RuntimeError) as error:
            raise CorruptData(f"{self.storage.url}: {name} is damaged ({error})") from error
        return from_csv_text(text, source=f"{self.storage.url}/{self.info.path}")

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row per committed utterance: row, id, status, facts, and the manifest's columns.

        Columns are ``row, utterance_id, status, n_frames, duration_s, audio_hash, path, start_s, end_s,
        channel, split, group`` and the labels. Row i describes row i of every layer array read here;
        ``row`` says which row of the raw Zarr arrays that is.
        """
        facts = {name: self._column(name) for name in layout.ROW_ARRAYS}
        text = [n for n, (dtype, _) in layout.ROW_ARRAYS.items() if dtype == "string"]
        table = pd.DataFrame({"row": self.rows, **facts}).astype(dict.fromkeys(text, "str"))
        merged = table.merge(self.manifest.table, on="utterance_id", how="left", sort=False, validate="1:1")
        if merged["path"].isna().any():
            lost = merged.loc[merged["path"].isna(), "utterance_id"].iloc[0]
            raise CorruptData(
                f"{self.storage.url}: the stored manifest of {self.info.path} lacks utterance {lost!r}; "
                "`fs manifest attach` puts it back"
            )
        return merged

    @property
    def label_columns(self) -> list[str]:
        """Names of the label columns."""
        return [c for c in self.manifest.table.columns if c not in CONTRACT_COLUMNS]

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
        return Layer(
            self.storage.url, self.info, layer, tuple(self.units), self._column("status") == STATUS_OK
        )

    def _column(self, name: str) -> np.ndarray:
        array = _open_array(self.storage, f"{self.info.path}/{name}")
        try:
            values = np.asarray(array[:])
        except Exception as error:
            raise _damaged(self.storage, f"{self.info.path}/{name}", error) from error
        selected: np.ndarray = values[self.rows]
        return selected


class Layer:
    """One layer of a key, read lazily. Picklable: workers open the store themselves.

    Args:
        url: the store.
        info: the key.
        layer: hidden state index.
        units: committed units.
        ok: bool `[n]`, which rows hold values.
    """

    def __init__(self, url: str, info: KeyInfo, layer: int, units: tuple[Unit, ...], ok: np.ndarray) -> None:
        self.url = url
        self.info = info
        self.layer = layer
        self.units = units
        self._ok = ok
        self._starts = np.cumsum([0, *(u.n_rows for u in units)])

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n, functionals, features)``."""
        return (int(self._starts[-1]), self.info.shape.n_functionals, self.info.shape.n_features)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored dtype."""
        return np.dtype(self.info.shape.dtype)

    @property
    def path(self) -> str:
        """The array below the root."""
        return f"{self.info.path}/{layout.layer_name(self.layer)}"

    @property
    def zarr(self) -> ZarrArray[Any]:
        """The raw Zarr array; ``index["row"]`` says which of its rows are committed."""
        return _open_array(open_storage(self.url), self.path)

    def numpy(self, rows: slice | None = None) -> np.ndarray:
        """The values as float32 `[n, functionals, features]`, or those of a slice of rows.

        Raises:
            CorruptData: bytes do not match their checksum, or a shard is missing.
        """
        start, stop, _ = (rows or slice(None)).indices(self.shape[0])
        out = np.empty((max(0, stop - start), *self.shape[1:]), dtype=np.float32)
        array = self.zarr
        for first, last, zarr_row in self._runs(start, stop):
            part = self._read(array, slice(zarr_row, zarr_row + last - first))
            out[first - start : last - start] = part
        # A shard that is not there reads as NaN: rows that are ok never hold one.
        if len(out) and np.isnan(out[self._ok[start:stop], 0, 0]).any():
            raise CorruptData(
                f"{self.url}: {self.path} has no values for rows recorded as complete; "
                "`fs verify` says which, `fs verify --repair` mends them"
            )
        return out

    def dask(self) -> dask.array.Array:
        """A lazy float32 array of the same shape; every chunk is one whole shard."""
        import dask.array as da

        chunks = (tuple(u.n_rows for u in self.units), *((n,) for n in self.shape[1:]))
        return da.from_array(_Lazy(self), chunks=chunks, name=False, asarray=False, inline_array=True)

    def _runs(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Pieces of ``start:stop`` that are contiguous in the Zarr array: (first, last, zarr row)."""
        runs: list[tuple[int, int, int]] = []
        for unit, first in zip(self.units, self._starts, strict=False):
            a, b = max(start, int(first)), min(stop, int(first) + unit.n_rows)
            if a >= b:
                continue
            row = unit.first_row + a - int(first)
            if runs and runs[-1][1] == a and runs[-1][2] + (a - runs[-1][0]) == row:
                runs[-1] = (runs[-1][0], b, runs[-1][2])
            else:
                runs.append((a, b, row))
        return runs

    def _read(self, array: ZarrArray[Any], rows: slice) -> np.ndarray:
        try:
            return np.asarray(array[rows])
        except Exception as error:
            raise _damaged(open_storage(self.url), self.path, error) from error


class _Lazy:
    """What Dask slices: a `Layer` with NumPy's protocol for whole-row slices."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self.shape = layer.shape
        self.dtype = np.dtype(np.float32)
        self.ndim = 3

    def __getitem__(self, item: tuple[slice, ...]) -> np.ndarray:
        rows, *rest = item if isinstance(item, tuple) else (item,)
        values = self._layer.numpy(rows)
        return values[(slice(None), *rest)] if rest else values


def _open_array(storage: Storage, path: str) -> ZarrArray[Any]:
    try:
        return zarr.open_array(storage.zarr_store(), path=path, mode="r")
    except Exception as error:
        raise _damaged(storage, path, error) from error


def _damaged(storage: Storage, path: str, error: Exception) -> CorruptData:
    reason = " ".join(str(error).split())[:200]
    return CorruptData(
        f"{storage.url}: {path} cannot be read ({type(error).__name__}: {reason}); "
        "`fs verify` says what is damaged, `fs verify --repair` mends it"
    )
