"""Creating keys and writing units. Many processes may write one key: units never share an object."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import socket
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import zarr

from featurestore import layout
from featurestore.claims import CLAIMS_ARRAY
from featurestore.errors import ConfigError, CorruptData, FingerprintMismatch, KeyNotFound, ManifestError
from featurestore.fingerprint import diff
from featurestore.key import KeyInfo, read_key
from featurestore.ledger import (
    LEDGER_ARRAY,
    Record,
    StoredObject,
    commit,
    describe_object,
    is_complete,
    read_ledger,
    read_record,
)
from featurestore.manifest import Manifest, from_csv_text, to_csv_text
from featurestore.names import check_name
from featurestore.plan import DEFAULT_UNIT_ROWS, Unit, next_segment
from featurestore.storage import Storage

MANIFEST_ARRAY = "manifest"
# Shards of a unit put at once: each waits for a disk or a server most of the time.
WRITERS = 4


@dataclass(frozen=True, kw_only=True)
class KeyRequest:
    """What an extraction wants a key to be; see `KeyInfo` for the fields they share."""

    model: str
    dataset: str
    fingerprint: Mapping[str, Any]
    functionals: tuple[str, ...]
    layers: tuple[int, ...]
    n_features: int
    dtype: layout.DTypeName = "float32"
    codec: layout.CodecName = "fast"
    unit_rows: int = DEFAULT_UNIT_ROWS
    frames: layout.FrameShape | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    model_card: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.model, "model")
        check_name(self.dataset, "dataset")


@dataclass(frozen=True, kw_only=True)
class UnitRows:
    """Per-row facts of one unit, each `[n_rows]`.

    Attributes:
        status: "ok" or "failed: why".
        n_frames: valid frames the functionals were taken over; 0 where failed.
        duration_s: seconds of audio as decoded; NaN where unknown.
        audio_hash: hash of the decoded samples; "" where failed.
        frames: layer → frames `[sum of n_frames, features]` of all rows one after the other, in keys
            that keep frames.
    """

    status: Sequence[str]
    n_frames: np.ndarray
    duration_s: np.ndarray
    audio_hash: Sequence[str]
    frames: Mapping[int, np.ndarray] | None = None


class KeyWriter:
    """Writes units of one key.

    Args:
        storage: the root.
        info: the key's attributes.
        ids: `[n_rows]` utterance id of every row, "" for rows no segment uses and for pruned ones.
        manifest: describes every utterance in `ids`.
    """

    def __init__(self, storage: Storage, info: KeyInfo, ids: np.ndarray, manifest: Manifest) -> None:
        self.storage = storage
        self.info = info
        self.ids = ids
        self.manifest = manifest

    def pending_units(self, layers: Sequence[int]) -> list[Unit]:
        """Units that are not committed for all of these layers."""
        ledger = read_ledger(self.storage, self.info.path)
        wanted = list(layers)
        return [u for u in self.info.units if not is_complete(ledger.get(u.index), u, wanted)]

    def is_committed(self, unit: Unit, layers: Sequence[int]) -> bool:
        """Whether somebody has committed this unit by now."""
        return is_complete(read_record(self.storage, self.info.path, unit.index), unit, list(layers))

    def sweep_claims(self) -> None:
        """Remove claims of committed units: their owners died between committing and letting go."""
        ledger = read_ledger(self.storage, self.info.path)
        for name in self.storage.children(f"{self.info.path}/{CLAIMS_ARRAY}/c"):
            if name.isdigit() and int(name) in ledger:
                self.storage.delete(f"{self.info.path}/{layout.row_chunk(CLAIMS_ARRAY, int(name))}")

    def withdraw(self, unit: int) -> None:
        """Take a unit's record away, so that it is done again."""
        self.storage.delete(f"{self.info.path}/{layout.row_chunk(LEDGER_ARRAY, unit)}")

    def write_unit(
        self,
        unit: Unit,
        layers: Iterable[tuple[int, np.ndarray]],
        rows: UnitRows,
        *,
        audio_s: float,
        elapsed_s: float,
        versions: Mapping[str, str],
    ) -> Record:
        """Write every object of a unit, then its ledger record.

        Args:
            unit: the rows.
            layers: pairs of layer and values `[n_rows, functionals, features]`; failed rows are NaN.
            rows: per-row facts.
            audio_s: seconds of audio embedded.
            elapsed_s: seconds the unit took.
            versions: packages and device.

        Raises:
            StoreError: an object could not be written; the unit stays uncommitted.
        """
        started = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=elapsed_s)
        unit_ids = self.ids[unit.first_row : unit.stop_row]
        previous = read_record(self.storage, self.info.path, unit.index)
        if previous is not None and not is_complete(previous, unit, []):
            previous = None
        # What is committed is not written again: extending a unit by layers leaves its other shards alone.
        present = set(previous.layers) if previous is not None else set()
        written = []
        with ThreadPoolExecutor(WRITERS) as pool:
            puts = []
            for layer, values in layers:
                if len(values) != unit.n_rows:
                    raise ValueError(f"unit {unit.index}: expected {unit.n_rows} rows, got {len(values)}")
                written.append(layer)
                if layer not in present:
                    puts.append(pool.submit(self._put_layer, unit, layer, values, rows))
            objects = {name: stored for put in puts for name, stored in put.result().items()}
        columns: dict[str, Any] = {
            "status": np.array(rows.status, dtype=object),
            "n_frames": rows.n_frames.astype(np.int32),
            "duration_s": rows.duration_s.astype(np.float64),
            "audio_hash": np.array(rows.audio_hash, dtype=object),
        }
        if self.info.frames is not None:
            starts = np.cumsum(rows.n_frames, dtype=np.int64) - rows.n_frames
            columns[layout.FRAME_START] = starts + unit.index * self.info.frames.unit_frames
        for array, column in columns.items():
            name = layout.row_chunk(array, unit.index)
            objects[name] = self._put(name, layout.encode_rows(array, self.info.shape.unit_rows, column))
        if previous is not None:
            objects = {**previous.objects, **objects}
            written = sorted({*previous.layers, *written})
        record = Record(
            unit=unit.index,
            first_row=unit.first_row,
            n_rows=unit.n_rows,
            layers=written,
            objects=objects,
            failed={
                str(i): s.removeprefix("failed: ")
                for i, s in zip(unit_ids, rows.status, strict=True)
                if s.startswith("failed: ")
            },
            audio_s=round(audio_s, 3),
            elapsed_s=round(elapsed_s, 3),
            started_at=started.isoformat(timespec="seconds"),
            host=socket.gethostname(),
            versions=dict(versions),
        )
        commit(self.storage, self.info.path, record)
        return record

    def _put_layer(
        self, unit: Unit, layer: int, values: np.ndarray, rows: UnitRows
    ) -> dict[str, StoredObject]:
        name = layout.layer_chunk(layer, unit.index)
        try:
            objects = {name: self._put(name, layout.encode_layer(self.info.shape, values))}
            if self.info.frames is not None and rows.frames is not None:
                name = layout.frames_chunk(layer, unit.index)
                objects[name] = self._put(name, layout.encode_frames(self.info.frames, rows.frames[layer]))
        except ConfigError as error:
            raise ConfigError(f"{self.info.path}, layer {layer}: {error}") from error
        return objects

    def _put(self, name: str, data: bytes) -> StoredObject:
        self.storage.put(f"{self.info.path}/{name}", data)
        return describe_object(data)


def open_key(
    storage: Storage,
    request: KeyRequest,
    manifest: Manifest,
    ordered_ids: np.ndarray,
    *,
    prune: bool = False,
) -> tuple[KeyWriter, list[str]]:
    """Create a key, or open it for resuming, extending by layers, or growing by utterances.

    Args:
        storage: the root.
        request: what the extraction wants.
        manifest: all utterances, with labels; it is stored beside the embeddings.
        ordered_ids: `[n]` ids in the order of the plan.
        prune: drop utterances that the manifest no longer has; otherwise they are kept and reported.

    Returns:
        The writer, and one-line notes on what was done to an existing key.

    Raises:
        FingerprintMismatch: the key exists and was made with other settings.
        StoreError: the store cannot be written.
    """
    try:
        info = read_key(storage, request.model, request.dataset)
    except KeyNotFound:
        return _create(storage, request, manifest, ordered_ids), []
    check_same(storage, info, request.fingerprint)
    if request.frames is not None:
        _check_frames(info, request.frames)
    notes: list[str] = []
    stored_ids = read_ids(storage, info)
    stored_set = set(stored_ids.tolist()) - {""}
    gone = sorted(stored_set - set(ordered_ids.tolist()))
    new = [i for i in ordered_ids if i not in stored_set]
    if gone and prune:
        stored_ids = _prune(storage, info, stored_ids, set(gone))
        notes.append(f"{len(gone)} utterances pruned from {info.path} (first {gone[0]!r})")
    elif gone:
        manifest = _with_rows_of(manifest, read_stored_manifest(storage, info), gone)
        notes.append(
            f"{len(gone)} utterances of {info.path} are not in the manifest (first {gone[0]!r}); "
            "they are kept, --prune drops them"
        )
    if new:
        info, stored_ids = _grow(storage, info, stored_ids, np.array(new, dtype=object))
        notes.append(f"{len(new)} new utterances appended to {info.path}")
    extra = sorted(set(request.layers) - set(info.layers))
    if extra:
        info = _add_layers(storage, info, extra)
        notes.append(f"layers {', '.join(map(str, extra))} added to {info.path}")
    if request.codec != info.shape.codec:
        notes.append(f"{info.path} keeps its codec {info.shape.codec!r}")
    if store_manifest(storage, info, manifest):
        notes.append(f"labels stored with {info.path} replaced by those of {manifest.source}")
    return KeyWriter(storage, info, stored_ids, manifest), notes


def check_same(storage: Storage, info: KeyInfo, fingerprint: Mapping[str, Any]) -> None:
    """Refuse to mix embeddings made with different settings.

    Raises:
        FingerprintMismatch: with every value that differs, stored and requested.
    """
    differences = diff(info.fingerprint, fingerprint)
    if differences:
        shown = "; ".join(differences[:6])
        more = f"; and {len(differences) - 6} more" if len(differences) > 6 else ""
        raise FingerprintMismatch(
            f"{storage.url}: key {info.path} was made with other settings: {shown}{more}; "
            "give another --name or --dataset, or replace it with --overwrite"
        )


def _check_frames(info: KeyInfo, wanted: layout.FrameShape) -> None:
    advice = "give another --name or --dataset, or replace it with --overwrite"
    if info.frames is None:
        raise ConfigError(f"key {info.path} was made without --frames; {advice}")
    if info.frames.dtype != wanted.dtype:
        raise ConfigError(
            f"key {info.path} holds frames in {info.frames.dtype}, not {wanted.dtype}; {advice}"
        )
    if wanted.unit_frames > info.frames.unit_frames:
        raise ConfigError(
            f"key {info.path} has room for {info.frames.unit_frames} frames a unit, and the clips need "
            f"{wanted.unit_frames}: new clips are longer than those it was planned for; {advice}"
        )


def store_manifest(storage: Storage, info: KeyInfo, manifest: Manifest) -> bool:
    """Put the manifest into a key; False where it holds the same already."""
    name = f"{info.path}/{layout.row_chunk(MANIFEST_ARRAY, 0)}"
    data = layout.encode_text(to_csv_text(manifest))
    if storage.get(name) == data:
        return False
    storage.put(name, data)
    return True


def read_stored_manifest(storage: Storage, info: KeyInfo) -> Manifest:
    """The manifest inside a key.

    Raises:
        CorruptData: it is missing or damaged.
    """
    name = f"{info.path}/{layout.row_chunk(MANIFEST_ARRAY, 0)}"
    data = storage.get(name)
    if data is None:
        raise CorruptData(f"{storage.url}: {name} is missing; `fs manifest attach` puts it back")
    try:
        return from_csv_text(layout.decode_text(data), source=f"{storage.url}/{info.path}")
    except (ValueError, RuntimeError) as error:
        raise CorruptData(
            f"{storage.url}: {name} is damaged ({error}); `fs manifest attach` puts it back"
        ) from error


def _with_rows_of(manifest: Manifest, stored: Manifest, ids: Sequence[str]) -> Manifest:
    """The manifest with the stored rows of these ids appended; labels it has not become ""."""
    kept = stored.table[stored.table["utterance_id"].isin(set(ids))]
    joined = pd.concat([manifest.table, kept], ignore_index=True).fillna(
        dict.fromkeys({*manifest.table.columns, *kept.columns} - {"start_s", "end_s", "channel"}, "")
    )
    text = [c for c in joined.columns if c not in ("start_s", "end_s", "channel")]
    return Manifest(table=joined.astype(dict.fromkeys(text, "str")), source=manifest.source)


def _prune(storage: Storage, info: KeyInfo, ids: np.ndarray, gone: set[str]) -> np.ndarray:
    """Take the ids of rows away: without an id a row is nobody's, and no reader shows it."""
    kept = np.array(["" if i in gone else i for i in ids], dtype=object)
    unit_rows = info.shape.unit_rows
    for unit in info.units:
        part = slice(unit.first_row, unit.stop_row)
        if (kept[part] != ids[part]).any():
            name = layout.row_chunk("utterance_id", unit.index)
            data = layout.encode_rows("utterance_id", unit_rows, kept[part])
            storage.put(f"{info.path}/{name}", data)
    return kept


def delete_key(storage: Storage, model: str, dataset: str) -> None:
    """Remove a key and all its objects; its group document first, so that a torn removal shows as none."""
    key = f"{check_name(model, 'model')}/{check_name(dataset, 'dataset')}"
    storage.delete(f"{key}/zarr.json")
    for name, _ in list(storage.objects(key)):
        storage.delete(name)
    if storage.children(model) == ["zarr.json"]:
        storage.delete(f"{model}/zarr.json")


def read_ids(storage: Storage, info: KeyInfo) -> np.ndarray:
    """`[n_rows]` utterance ids in row order, "" for rows no segment uses."""
    array = zarr.open_array(storage.zarr_store(), path=f"{info.path}/utterance_id", mode="r")
    return np.asarray(array[:], dtype=object)


def _create(storage: Storage, request: KeyRequest, manifest: Manifest, ordered_ids: np.ndarray) -> KeyWriter:
    info = KeyInfo(
        model=request.model,
        dataset=request.dataset,
        fingerprint=request.fingerprint,
        functionals=request.functionals,
        layers=tuple(sorted(request.layers)),
        shape=layout.LayerShape(
            n_functionals=len(request.functionals),
            n_features=request.n_features,
            unit_rows=request.unit_rows,
            dtype=request.dtype,
            codec=request.codec,
        ),
        segments=(next_segment((), len(ordered_ids), request.unit_rows),),
        frames=request.frames,
        versions=request.versions,
        model_card=request.model_card,
    )
    put_root_documents(storage, info)
    _put_documents(storage, info)
    _put_ids(storage, info, ordered_ids)
    store_manifest(storage, info, manifest)
    # Last: the key exists from here on. Processes that start together write the same bytes; of two that
    # disagree the first wins and the other finds out when it compares.
    if not storage.put(f"{info.path}/zarr.json", layout.group_document(info.to_attributes()), if_absent=True):
        return open_key(storage, request, manifest, ordered_ids)[0]
    return KeyWriter(storage, info, np.asarray(ordered_ids, dtype=object), manifest)


def put_root_documents(storage: Storage, info: KeyInfo) -> None:
    """The groups above a key, where they are not there yet."""
    root = {"feature_store": {"format": layout.FORMAT_NAME, "format_version": layout.FORMAT_VERSION}}
    storage.put("zarr.json", layout.group_document(root), if_absent=True)
    storage.put(f"{info.model}/zarr.json", layout.group_document({}), if_absent=True)


def attach_manifest(storage: Storage, info: KeyInfo, manifest: Manifest) -> int:
    """Replace the labels stored with a key; embeddings are not touched.

    Returns:
        Utterances of the key that got a row.

    Raises:
        ManifestError: the manifest lacks an utterance of the key.
    """
    ids = {i for i in read_ids(storage, info).tolist() if i}
    lacking = sorted(ids - set(manifest.table["utterance_id"]))
    if lacking:
        raise ManifestError(
            f"{manifest.source}: lacks {len(lacking)} utterances of {info.path} (first {lacking[0]!r}); "
            "every stored utterance needs a row"
        )
    rows = manifest.table[manifest.table["utterance_id"].isin(ids)].reset_index(drop=True)
    store_manifest(storage, info, Manifest(table=rows, source=manifest.source))
    return len(ids)


def key_documents(info: KeyInfo) -> dict[str, bytes]:
    """``zarr.json`` of every array that the key's attributes call for, by key-relative name."""
    rows, unit_rows = info.n_rows, info.shape.unit_rows
    n_units = -(-rows // unit_rows)
    documents = {
        LEDGER_ARRAY: layout.text_document(n_units, 1, compress=False),
        CLAIMS_ARRAY: layout.text_document(n_units, 1, compress=False),
        MANIFEST_ARRAY: layout.text_document(1, 1),
        **{name: layout.row_document(name, rows, unit_rows) for name in info.row_arrays},
        **{layout.layer_name(k): layout.layer_document(info.shape, rows) for k in info.layers},
    }
    if info.frames is not None:
        document = layout.frames_document(info.frames, n_units)
        documents |= {layout.frames_name(k): document for k in info.layers}
    return {f"{name}/zarr.json": document for name, document in documents.items()}


def _put_documents(storage: Storage, info: KeyInfo) -> None:
    for name, document in key_documents(info).items():
        storage.put(f"{info.path}/{name}", document)


def _put_ids(storage: Storage, info: KeyInfo, ids: np.ndarray, first_row: int = 0) -> None:
    unit_rows = info.shape.unit_rows
    for start in range(0, len(ids), unit_rows):
        chunk = np.asarray(ids[start : start + unit_rows], dtype=object)
        name = layout.row_chunk("utterance_id", (first_row + start) // unit_rows)
        storage.put(f"{info.path}/{name}", layout.encode_rows("utterance_id", unit_rows, chunk))


def _grow(
    storage: Storage, info: KeyInfo, stored_ids: np.ndarray, new_ids: np.ndarray
) -> tuple[KeyInfo, np.ndarray]:
    segment = next_segment(info.segments, len(new_ids), info.shape.unit_rows)
    grown = dataclasses.replace(info, segments=(*info.segments, segment))
    # Ids first, then the longer arrays, then the attributes that make the new units part of the plan.
    _put_ids(storage, grown, new_ids, segment.first_row)
    _put_documents(storage, grown)
    storage.put(f"{grown.path}/zarr.json", layout.group_document(grown.to_attributes()))
    gap = np.full(segment.first_row - len(stored_ids), "", dtype=object)
    return grown, np.concatenate([stored_ids, gap, new_ids])


def _add_layers(storage: Storage, info: KeyInfo, extra: list[int]) -> KeyInfo:
    wider = dataclasses.replace(info, layers=tuple(sorted({*info.layers, *extra})))
    _put_documents(storage, wider)
    storage.put(f"{info.path}/zarr.json", layout.group_document(wider.to_attributes()))
    return wider


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Installed versions of these packages, with Python's and the platform's."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
