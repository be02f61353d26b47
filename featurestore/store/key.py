"""One key of a store, *model/dataset*: its attributes, its plan, and its committed units.

The attributes stand in the key's ``zarr.json`` with a checksum of their own, and once more in the document of
its array ``ledger``: of what nothing else in a key can tell, such as its fingerprint, one copy is not enough.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from featurestore.backends.storage import Storage
from featurestore.errors import CorruptData, KeyNotFound, NotPlain, UnknownFormat
from featurestore.format import layer_arrays, row_arrays
from featurestore.format.codecs import check_codec
from featurestore.format.row_arrays import LEDGER_ARRAY
from featurestore.store.plan import Segment, Unit, units_of

# Requests under way at once when a store is listed: a remote one answers each in milliseconds.
LISTERS = 64
# Of a folder that cannot be listed, in place of a dataset's name.
UNLISTED = "…"
# Where the copy of the attributes stands among those of the ledger's document.
COPY_NAME = "key"
CHECKSUM = "sha256"
FORMAT = {"format": layer_arrays.FORMAT_NAME, "format_version": layer_arrays.FORMAT_VERSION}
# Far beyond any model or corpus; what a document says beyond them would be allocated, or looped over.
MOST_ROWS = 2**26
MOST_UNITS = 2**20
MOST_UNIT_ROWS = 2**20  # a unit is held in memory, all layers of it
MOST_FEATURES = 2**20
MOST_FUNCTIONALS = 4096
MOST_LAYERS = 1000
MOST_UNIT_FRAMES = 2**32
MOST_SHARD_BYTES = 2**36


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
        has_checksum: whether the document that this was read from carries one; those of earlier versions
            do not.
    """

    model: str
    dataset: str
    fingerprint: Mapping[str, Any]
    functionals: tuple[str, ...]
    layers: tuple[int, ...]
    shape: layer_arrays.LayerShape
    segments: tuple[Segment, ...]
    versions: Mapping[str, str]
    model_card: Mapping[str, Any]
    frames: layer_arrays.FrameShape | None = None
    has_checksum: bool = field(default=True, compare=False)

    @property
    def path(self) -> str:
        """``model/dataset``, the key's prefix below the root."""
        return f"{self.model}/{self.dataset}"

    @property
    def n_rows(self) -> int:
        """Length of the key's arrays (unused rows between segments included)."""
        return max((s.first_row + s.n_rows for s in self.segments), default=0)

    @property
    def n_units(self) -> int:
        """Units that the key's arrays have room for, unused ones between segments included."""
        return -(-self.n_rows // self.shape.unit_rows)

    @property
    def units(self) -> list[Unit]:
        """All units, in shard order."""
        return units_of(self.segments, self.shape.unit_rows)

    @property
    def row_arrays(self) -> list[str]:
        """Names of the arrays with one entry per row."""
        return [*row_arrays.ROW_ARRAYS, *([row_arrays.FRAME_START] if self.frames else [])]

    def is_growth_of(self, other: KeyInfo) -> bool:
        """Whether this is the other key with layers or segments more, and nothing else changed."""
        return (
            self != other
            and set(self.layers) >= set(other.layers)
            and self.segments[: len(other.segments)] == other.segments
            and dataclasses.replace(self, layers=other.layers, segments=other.segments) == other
        )

    def shard_chunks(self, name: str) -> int:
        """Inner chunks that the index of a shard of this name has room for; 0 where it has no index."""
        if name.startswith("frames_"):
            return 0 if self.frames is None else self.frames.unit_frames // self.frames.chunk_frames
        return self.shape.n_chunks

    def to_attributes(self) -> dict[str, Any]:
        """As stored, with their checksum."""
        plain = self._plain_attributes()
        head = {**plain["feature_store"], CHECKSUM: _checksum(plain)}
        return {**plain, "feature_store": head}

    def _plain_attributes(self) -> dict[str, Any]:
        return {
            "feature_store": FORMAT,
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
            UnknownFormat: made by a later format version.
            CorruptData: an attribute is missing or cannot be, or they do not match their checksum.
        """
        try:
            version = attributes["feature_store"]["format_version"]
            if _whole("format_version", version, 1, 2**31) > layer_arrays.FORMAT_VERSION:
                raise UnknownFormat(
                    f"{model}/{dataset}: store format {version}, this program reads up to "
                    f"{layer_arrays.FORMAT_VERSION}; upgrade it"
                )
            if (name := attributes["feature_store"]["format"]) != layer_arrays.FORMAT_NAME:
                raise ValueError(f"attribute format: expected {layer_arrays.FORMAT_NAME!r}, got {name!r:.40}")
            checksum = attributes["feature_store"].get(CHECKSUM)
            info = cls._checked(model, dataset, attributes, has_checksum=checksum is not None)
            if checksum is not None and checksum != _checksum(info._plain_attributes()):
                raise CorruptData("its attributes do not match their checksum")
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            reason = f"attribute {error} is missing" if isinstance(error, KeyError) else str(error)
            raise CorruptData(reason) from error
        return info

    @classmethod
    def _checked(
        cls, model: str, dataset: str, attributes: Mapping[str, Any], *, has_checksum: bool
    ) -> KeyInfo:
        plan, frames = attributes["plan"], attributes["frames"]
        functionals = _names("functionals", attributes["functionals"], MOST_FUNCTIONALS)
        n_features = _whole("n_features", attributes["n_features"], 1, MOST_FEATURES)
        unit_rows = _whole("unit_rows", plan["unit_rows"], 1, MOST_UNIT_ROWS)
        chunk_rows = _whole("chunk_rows", plan["chunk_rows"], 1, unit_rows)
        if unit_rows % chunk_rows:
            raise ValueError(f"chunk_rows {chunk_rows} is no divisor of unit_rows {unit_rows}")
        shape = layer_arrays.LayerShape(
            n_functionals=len(functionals),
            n_features=n_features,
            unit_rows=unit_rows,
            dtype=_one_of("dtype", attributes["dtype"], ("float32", "float16")),
            codec=check_codec(attributes["codec"], attributes["dtype"], "codec"),
            chunk_rows=chunk_rows,
        )
        _whole("bytes of a shard", shape.unit_rows * shape.row_bytes, 1, MOST_SHARD_BYTES)
        return cls(
            model=model,
            dataset=dataset,
            fingerprint=_mapping("fingerprint", attributes["fingerprint"]),
            functionals=functionals,
            layers=_layers(attributes["layers"]),
            shape=shape,
            segments=_segments(plan["segments"], unit_rows),
            versions=_mapping("versions", attributes["versions"]),
            model_card=_mapping("model_card", attributes["model_card"]),
            frames=None if frames is None else _frame_shape(frames, n_features),
            has_checksum=has_checksum,
        )


def _checksum(attributes: Mapping[str, Any]) -> str:
    """SHA-256 of attributes as they are once they have been stored and read, in hexadecimal."""
    stored = json.loads(json.dumps(attributes))
    return hashlib.sha256(json.dumps(stored, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(
            f"attribute {name}: expected a whole number from {least} to {most}, got {value!r:.40}"
        )
    return value


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise ValueError(f"attribute {name}: expected one of {', '.join(known)}, got {value!r:.40}")
    return value


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"attribute {name}: expected names and values, got {type(value).__name__}")
    return value


def _names(name: str, value: Any, most: int) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
        raise TypeError(f"attribute {name}: expected a list of names")
    if not 1 <= len(value) <= most or len(set(value)) < len(value):
        raise ValueError(f"attribute {name}: expected from 1 to {most} names, each once")
    return tuple(value)


def _layers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_LAYERS:
        raise TypeError(f"attribute layers: expected a list of 1 to {MOST_LAYERS} numbers")
    found = tuple(_whole("layers", k, 0, MOST_LAYERS - 1) for k in value)
    if sorted(set(found)) != list(found):
        raise ValueError("attribute layers: expected rising numbers, each once")
    return found


def _segments(value: Any, unit_rows: int) -> tuple[Segment, ...]:
    """Runs of rows in their order, each from a shard boundary on and none over another.

    An empty run is one of a key without utterances.
    """
    if not isinstance(value, list) or len(value) > MOST_UNITS:
        raise TypeError("attribute segments: expected a list of runs of rows")
    found, end = [], 0
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise TypeError("attribute segments: expected pairs of a first row and a number of rows")
        first = _whole("segments", pair[0], 0, MOST_ROWS)
        n_rows = _whole("segments", pair[1], 0, MOST_ROWS)
        if first % unit_rows or first < end:
            raise ValueError(f"attribute segments: a run begins at row {first}, inside a unit or another run")
        end = first + n_rows
        found.append(Segment(first_row=first, n_rows=n_rows))
    _whole("rows", end, 0, MOST_ROWS)
    _whole("units", -(-end // unit_rows), 0, MOST_UNITS)
    return tuple(found)


def _frame_shape(value: Any, n_features: int) -> layer_arrays.FrameShape:
    unit_frames = _whole("unit_frames", value["unit_frames"], 1, MOST_UNIT_FRAMES)
    chunk_frames = _whole("chunk_frames", value["chunk_frames"], 1, unit_frames)
    if unit_frames % chunk_frames:
        raise ValueError(f"chunk_frames {chunk_frames} is no divisor of unit_frames {unit_frames}")
    return layer_arrays.FrameShape(
        n_features=n_features,
        unit_frames=unit_frames,
        chunk_frames=chunk_frames,
        dtype=_one_of("frames.dtype", value["dtype"], ("float32", "float16")),
    )


def unit_objects(info: KeyInfo, layers: Iterable[int], unit: int) -> set[str]:
    """The objects of one unit of these layers, by name below the key: what its record names, and no other."""
    names = [layer_arrays.layer_chunk, *([layer_arrays.frames_chunk] if info.frames is not None else [])]
    return {name(layer, unit) for layer in layers for name in names}


def read_key(storage: Storage, model: str, dataset: str) -> KeyInfo:
    """Read a key's attributes.

    Raises:
        KeyNotFound: there is no such key.
        CorruptData: there is one and its document is damaged.
        UnknownFormat: it was made by a later version.
    """
    name = f"{model}/{dataset}/zarr.json"
    data = storage.get(name)
    if data is None:
        raise KeyNotFound(
            f"{storage.url}: no key {model}/{dataset}; `fs ls {storage.url}` lists what there is"
        )
    try:
        try:
            info = KeyInfo.from_attributes(model, dataset, attributes_of(data))
        except UnknownFormat as error:
            if read_key_copy(storage, model, dataset) is None:
                raise
            raise CorruptData(f"{error}, which its copy does not say") from error
        if not info.has_checksum and read_key_copy(storage, model, dataset) is not None:
            raise CorruptData("the checksum of its attributes is gone")
    except CorruptData as error:
        raise CorruptData(
            f"{storage.url}: {name} is damaged ({error}); `fs verify --repair` restores it"
        ) from error
    return info


def read_key_copy(storage: Storage, model: str, dataset: str) -> KeyInfo | None:
    """The attributes as they stand in the second place; None where they do not, or are damaged there."""
    data = storage.get(f"{model}/{dataset}/{LEDGER_ARRAY}/zarr.json")
    try:
        info = KeyInfo.from_attributes(model, dataset, attributes_of(data or b"")[COPY_NAME])
    except (CorruptData, UnknownFormat, KeyError, TypeError):
        return None
    return info if info.has_checksum else None


def attributes_of(document: bytes) -> Mapping[str, Any]:
    """The attributes in a Zarr document.

    Raises:
        CorruptData: it is none.
    """
    try:
        attributes = json.loads(document)["attributes"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptData("not a Zarr document with attributes") from error
    if not isinstance(attributes, dict):
        raise CorruptData("not a Zarr document with attributes")
    return attributes


def key_names(storage: Storage) -> tuple[list[tuple[str, str]], dict[tuple[str, str], str]]:
    """All *(model, dataset)* pairs that there is a document of, sorted, whatever that says.

    Returns:
        The pairs, and (model, "…") → why the folder of a model is not looked into.
    """
    keys, unreadable = find_keys(storage)
    unlisted = {name: why for name, why in unreadable.items() if name[1] == UNLISTED}
    return sorted([*((k.model, k.dataset) for k in keys), *(unreadable.keys() - unlisted)]), unlisted


def find_keys(storage: Storage) -> tuple[list[KeyInfo], dict[tuple[str, str], str]]:
    """Attributes of all keys, sorted by name: one listing per model, then all documents side by side.

    Returns:
        The keys, and *(model, dataset)* → why it cannot be read, of those that cannot: one of them must not
        keep anybody from the others. (model, "…") stands for a folder that cannot be looked into.
    """

    def listed(model: str) -> list[str] | str:
        try:
            return storage.children(model)
        except NotPlain as error:
            return str(error)

    models = [m for m in storage.children("") if m != "zarr.json"]
    with ThreadPoolExecutor(LISTERS) as pool:
        datasets = list(zip(models, pool.map(listed, models), strict=True))
        names = [(m, d) for m, ds in datasets if not isinstance(ds, str) for d in ds if d != "zarr.json"]
        found = list(pool.map(lambda name: _read_if_key(storage, *name), names))
    unreadable = {(m, UNLISTED): why for m, why in datasets if isinstance(why, str)}
    unreadable |= {n: k for n, k in zip(names, found, strict=True) if isinstance(k, str)}
    sound = [k for k in found if isinstance(k, KeyInfo)]
    return sorted(sound, key=lambda k: (k.model, k.dataset)), dict(sorted(unreadable.items()))


def _read_if_key(storage: Storage, model: str, dataset: str) -> KeyInfo | str | None:
    try:
        return read_key(storage, model, dataset)
    except KeyNotFound:
        return None
    except (CorruptData, NotPlain, UnknownFormat) as error:
        return str(error)
