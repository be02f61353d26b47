"""One key of a store, *model/dataset*: its attributes, its plan, and its committed units."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from featurestore import columns, layout
from featurestore.errors import CorruptData, KeyNotFound, StoreError
from featurestore.plan import Segment, Unit, units_of
from featurestore.storage import Storage

# Requests under way at once when a store is listed: a remote one answers each in milliseconds.
LISTERS = 64


@dataclass(frozen=True, kw_only=True)
class KeyInfo:
    """The attributes of a key, as stored in its group's ``zarr.json``.

    Attributes:
        model, dataset: its name.
        fingerprint: everything that decides the stored values, readable and nested.
        functionals: names of the statistics, in stored order.
        layers: layers the key is meant to hold.
        shape: shape of the layer arrays.
        frames: shape of the frame arrays, None where frames are not kept.
        segments: runs of rows planned together.
        versions: packages that created the key.
        model_card: what is known of the model, for people.
    """

    model: str
    dataset: str
    fingerprint: Mapping[str, Any]
    functionals: tuple[str, ...]
    layers: tuple[int, ...]
    shape: layout.LayerShape
    segments: tuple[Segment, ...]
    versions: Mapping[str, str]
    model_card: Mapping[str, Any]
    frames: layout.FrameShape | None = None

    @property
    def path(self) -> str:
        """``model/dataset``, the key's prefix below the root."""
        return f"{self.model}/{self.dataset}"

    @property
    def n_rows(self) -> int:
        """Length of the key's arrays (unused rows between segments included)."""
        return max((s.first_row + s.n_rows for s in self.segments), default=0)

    @property
    def units(self) -> list[Unit]:
        """All units, in shard order."""
        return units_of(self.segments, self.shape.unit_rows)

    @property
    def row_arrays(self) -> list[str]:
        """Names of the arrays with one entry per row."""
        return [*columns.ROW_ARRAYS, *([columns.FRAME_START] if self.frames else [])]

    def shard_chunks(self, name: str) -> int:
        """Inner chunks that the index of a shard of this name has room for; 0 where it has no index."""
        if name.startswith("frames_"):
            return 0 if self.frames is None else self.frames.unit_frames // self.frames.chunk_frames
        return self.shape.n_chunks

    def to_attributes(self) -> dict[str, Any]:
        """As stored."""
        return {
            "feature_store": {"format": layout.FORMAT_NAME, "format_version": layout.FORMAT_VERSION},
            "fingerprint": dict(self.fingerprint),
            "functionals": list(self.functionals),
            "layers": list(self.layers),
            "n_features": self.shape.n_features,
            "dtype": self.shape.dtype,
            "codec": self.shape.codec,
            "plan": {
                "unit_rows": self.shape.unit_rows,
                "chunk_rows": self.shape.chunk_rows,
                "segments": [[s.first_row, s.n_rows] for s in self.segments],
            },
            "frames": None
            if self.frames is None
            else {
                "unit_frames": self.frames.unit_frames,
                "chunk_frames": self.frames.chunk_frames,
                "dtype": self.frames.dtype,
            },
            "versions": dict(self.versions),
            "model_card": dict(self.model_card),
        }

    @classmethod
    def from_attributes(cls, model: str, dataset: str, attributes: Mapping[str, Any]) -> KeyInfo:
        """Inverse of `to_attributes`.

        Raises:
            StoreError: made by a later format version.
            CorruptData: an attribute is missing.
        """
        try:
            version = attributes["feature_store"]["format_version"]
            if version > layout.FORMAT_VERSION:
                raise StoreError(
                    f"{model}/{dataset}: store format {version}, this program reads up to "
                    f"{layout.FORMAT_VERSION}; upgrade it"
                )
            frames = attributes["frames"]
            return cls(
                model=model,
                dataset=dataset,
                fingerprint=attributes["fingerprint"],
                functionals=tuple(attributes["functionals"]),
                layers=tuple(attributes["layers"]),
                shape=layout.LayerShape(
                    n_functionals=len(attributes["functionals"]),
                    n_features=attributes["n_features"],
                    unit_rows=attributes["plan"]["unit_rows"],
                    dtype=attributes["dtype"],
                    codec=attributes["codec"],
                    chunk_rows=attributes["plan"]["chunk_rows"],
                ),
                segments=tuple(Segment(first_row=a, n_rows=n) for a, n in attributes["plan"]["segments"]),
                versions=attributes["versions"],
                model_card=attributes["model_card"],
                frames=None
                if frames is None
                else layout.FrameShape(
                    n_features=attributes["n_features"],
                    unit_frames=frames["unit_frames"],
                    chunk_frames=frames["chunk_frames"],
                    dtype=frames["dtype"],
                ),
            )
        except (KeyError, TypeError) as error:
            raise CorruptData(f"{model}/{dataset}: attribute {error} is missing or damaged") from error


def unit_objects(info: KeyInfo, layers: Iterable[int], unit: int) -> set[str]:
    """The objects of one unit of these layers, by name below the key: what its record names, and no other."""
    names = [layout.layer_chunk, *([layout.frames_chunk] if info.frames is not None else [])]
    return {name(layer, unit) for layer in layers for name in names}


def read_key(storage: Storage, model: str, dataset: str) -> KeyInfo:
    """Read a key's attributes.

    Raises:
        KeyNotFound: there is no such key.
        CorruptData: there is one and its document is damaged.
    """
    name = f"{model}/{dataset}/zarr.json"
    data = storage.get(name)
    if data is None:
        raise KeyNotFound(
            f"{storage.url}: no key {model}/{dataset}; `fs ls {storage.url}` lists what there is"
        )
    try:
        attributes = json.loads(data)["attributes"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptData(f"{storage.url}: {name} is not a Zarr group document") from error
    return KeyInfo.from_attributes(model, dataset, attributes)


def list_keys(storage: Storage) -> list[tuple[str, str]]:
    """All *(model, dataset)* pairs, sorted. A key exists once its group document does."""
    return [(k.model, k.dataset) for k in read_keys(storage)]


def read_keys(storage: Storage) -> list[KeyInfo]:
    """Attributes of all keys, sorted by name: one listing per model, then all documents side by side."""
    with ThreadPoolExecutor(LISTERS) as pool:
        models = [m for m in storage.children("") if m != "zarr.json"]
        datasets = pool.map(storage.children, models)
        names = [(m, d) for m, ds in zip(models, datasets, strict=True) for d in ds if d != "zarr.json"]
        found = pool.map(lambda name: _read_if_key(storage, *name), names)
        return sorted((k for k in found if k is not None), key=lambda k: (k.model, k.dataset))


def _read_if_key(storage: Storage, model: str, dataset: str) -> KeyInfo | None:
    try:
        return read_key(storage, model, dataset)
    except KeyNotFound:
        return None
