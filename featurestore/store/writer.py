"""Creating keys and writing units. Many processes may write one key: units never share an object."""

from __future__ import annotations

import datetime
import platform
import socket
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from featurestore.backends.storage import Storage
from featurestore.errors import ConfigError, KeyNotFound, OtherAudio
from featurestore.format import layer_arrays
from featurestore.format.row_arrays import FAILED, ID_ARRAY
from featurestore.layer_list import format_layers
from featurestore.manifest.audio_places import Places
from featurestore.manifest.table import Manifest
from featurestore.names import check_name, object_parts
from featurestore.store import fast_shards
from featurestore.store.claims import ClaimLost, clear_done_claims, holding_ledger
from featurestore.store.key import KeyInfo, read_key
from featurestore.store.key_request import KeyChanges, KeyRequest, check_request, planned_changes
from featurestore.store.ledger import (
    Record,
    StoredObject,
    commit,
    is_complete,
    read_ledger,
    read_record,
    withdraw,
    withdraw_held,
)
from featurestore.store.plan import Unit
from featurestore.store.reader import Features
from featurestore.store.row_columns import publish, put_ids, read_ids
from featurestore.store.sound_identity import Comparison, Sounds, compare
from featurestore.store.stored_manifest import (
    digest_of,
    manifest_object,
    replace_manifest,
    store_manifest,
)
from featurestore.store.zarr_documents import key_document, put_documents, put_root_documents

# Shards of a unit put at once: each waits for a disk or a server most of the time.
WRITERS = 4
DELETERS = 16
# How an utterance whose id stands for other audio can be embedded all the same.
WAYS_OUT = "give each sound an id of its own, choose another --dataset, or embed these again with --refresh"


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
        places: what each row was embedded from; None where it was not embedded from audio.
    """

    status: Sequence[str]
    n_frames: np.ndarray
    duration_s: np.ndarray
    audio_hash: Sequence[str]
    frames: Mapping[int, np.ndarray] | None = None
    places: Places | None = None

    def facts(self, ids: Sequence[str] | np.ndarray) -> dict[str, list[Any]]:
        """The columns of a record, with these ids."""
        return {
            ID_ARRAY: [str(i) for i in ids],
            "status": [str(s) for s in self.status],
            "n_frames": [int(n) for n in self.n_frames],
            "duration_s": [None if np.isnan(d) else float(d) for d in self.duration_s],
            "audio_hash": [str(h) for h in self.audio_hash],
        }


@dataclass(eq=False)
class KeyWriter:
    """Writes units of one key.

    Attributes:
        storage: the root.
        info: the key's attributes.
        ids: `[n_rows]` utterance id of every row, "" for rows no segment uses and for pruned ones.
        manifest: describes every utterance in `ids`.
        stored_manifest: digest of the object that holds `manifest`; "" in a process that did not put it.
    """

    storage: Storage
    info: KeyInfo
    ids: np.ndarray
    manifest: Manifest
    stored_manifest: str = ""

    def pending_units(self, layers: Sequence[int]) -> list[Unit]:
        """Units that are not committed for all of these layers."""
        ledger = read_ledger(self.storage, self.info.path)
        wanted = list(layers)
        return [u for u in self.info.units if not is_complete(ledger.get(u.index), u, wanted)]

    def is_committed(self, unit: Unit, layers: Sequence[int]) -> bool:
        """Whether somebody has committed this unit by now."""
        return is_complete(read_record(self.storage, self.info.path, unit.index), unit, list(layers))

    def finish(self) -> None:
        """End a run: show plain Zarr readers what is committed, seal a complete key, clear dead claims."""
        # Owners of claims of units that are done died between committing and letting go.
        clear_done_claims(self.storage, self.info.path, self._is_done)
        publish(self.storage, self.info)

    def confirm(self, sounds: Sounds) -> list[str]:
        """See at the end of a run that every row is listed where its audio is.

        Another process may have embedded some of them from other places meanwhile, or may have stored
        another manifest.

        Args:
            sounds: hashes audio, where there is something to compare.

        Returns:
            Notes on what was found elsewhere.

        Raises:
            OtherAudio: the other process embedded other audio under the same ids.
        """
        info = read_key(self.storage, self.info.model, self.info.dataset)
        is_ours = digest_of(self.storage.get(manifest_object(info))) == self.stored_manifest
        features = Features(self.storage, info, manifest=self.manifest if is_ours else None)
        if not len(features.misplaced()):
            return []
        compared = compare(features, features.manifest, sounds)
        compared.require_same(
            self.info.path,
            "another process embeds other audio under the same ids: give them another --dataset",
        )
        self.stored_manifest = store_manifest(self.storage, info, compared.manifest)
        return compared.notes

    def _is_done(self, unit: int) -> bool:
        """Whether nothing is left to do of a unit, of the key as it is by now."""
        info = read_key(self.storage, self.info.model, self.info.dataset)
        record = read_record(self.storage, info.path, unit)
        planned = {u.index: u for u in info.units}.get(unit)
        return planned is not None and is_complete(record, planned, list(info.layers))

    def write_unit(
        self,
        unit: Unit,
        layers: Iterable[tuple[int, np.ndarray]],
        rows: UnitRows,
        *,
        audio_s: float,
        elapsed_s: float,
        versions: Mapping[str, str],
        is_held: Callable[[], bool] = lambda: True,
    ) -> Record:
        """Write every object of a unit, then its ledger record.

        Args:
            unit: the rows.
            layers: pairs of layer and values `[n_rows, functionals, features]`; failed rows are NaN.
            rows: per-row facts.
            audio_s: seconds of audio embedded.
            elapsed_s: seconds the unit took.
            versions: packages and device.
            is_held: whether the unit's claim is still the caller's; see `Claims.persist`.

        Raises:
            StoreError: an object could not be written; the unit stays uncommitted.
            OtherAudio: the unit is committed for other layers, and was made of other audio; it stays.
            ClaimLost: the unit was taken over meanwhile, and is not committed by this call.
        """
        if not is_held():
            raise ClaimLost
        started = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=elapsed_s)
        facts = rows.facts(self.ids[unit.first_row : unit.stop_row])
        previous, places, failed = self._extended(unit, facts, rows.places)
        # What is committed is not written again: extending a unit by layers leaves its other shards alone.
        present, kept = ([], {}) if previous is None else (previous.layers, previous.objects)
        put = self._put_layers(unit, layers, rows, failed, present)
        record = Record(
            unit=unit.index,
            first_row=unit.first_row,
            n_rows=unit.n_rows,
            layers=sorted({*present, *put}),
            objects={
                **kept,
                **{name: stored for objects in put.values() for name, stored in objects.items()},
            },
            rows=facts,
            audio_s=round(audio_s, 3),
            elapsed_s=round(elapsed_s, 3),
            started_at=started.isoformat(timespec="seconds"),
            host=socket.gethostname(),
            versions=dict(versions),
            places=None if places is None else places.to_json(),
        )
        if not is_held():
            # Who took the unit over may have cleared what was put here: nobody may be told that it is there.
            raise ClaimLost
        commit(self.storage, self.info.path, record)
        return record

    def _extended(
        self, unit: Unit, facts: dict[str, list[Any]], places: Places | None
    ) -> tuple[Record | None, Places | None, list[int]]:
        """The unit's record of other layers, the places of both, and rows that stay failed, as in `facts`."""
        found = read_record(self.storage, self.info.path, unit.index)
        if found is not None and not is_complete(found, unit, []):
            # What a record names is never written over: readers and `fs verify` would take it for damage.
            withdraw_held(self.storage, self.info.path, {unit.index})
            found = None
        if found is None:
            return None, places, []
        return found, _keep_pruned(found, facts, places), self._rows_that_stay_failed(found, facts)

    def _rows_that_stay_failed(self, previous: Record, facts: dict[str, list[Any]]) -> list[int]:
        """Rows that failed when the earlier layers were made and can be used now: `--refresh` is for them.

        Raises:
            OtherAudio: a row has other audio now, or none that can be used: its layers would not be of one
                sound, and those that are committed are not given up for that.
        """
        stay = []
        for i, name in enumerate(facts[ID_ARRAY]):
            before = {column: previous.rows[column][i] for column in facts}
            now = {column: values[i] for column, values in facts.items()}
            if not name or before == now:
                continue
            if before["status"].startswith(FAILED):
                for column, values in facts.items():
                    values[i] = before[column]
                stay.append(i)
            elif any(before[c] != now[c] for c in (ID_ARRAY, "status", "n_frames", "audio_hash")):
                what = now["status"] if now["status"].startswith(FAILED) else "it is other audio now"
                raise OtherAudio(
                    f"{self.storage.url}: utterance {name!r} of {self.info.path} is embedded for layers "
                    f"{format_layers(previous.layers)}, and cannot be for others: {what}; what is stored is "
                    "kept; put its audio back, embed it again with --refresh, or leave it out with --prune"
                )
        return stay

    def _put_layers(
        self,
        unit: Unit,
        layers: Iterable[tuple[int, np.ndarray]],
        rows: UnitRows,
        failed: Sequence[int],
        present: Collection[int],
    ) -> dict[int, dict[str, StoredObject]]:
        """Layer → its objects, which are written; none for those that are `present`."""
        puts: dict[int, Future[dict[str, StoredObject]] | None] = {}
        with ThreadPoolExecutor(WRITERS) as pool:
            for layer, values in layers:
                if len(values) != unit.n_rows:
                    raise ValueError(f"unit {unit.index}: expected {unit.n_rows} rows, got {len(values)}")
                is_new = layer not in present
                puts[layer] = (
                    pool.submit(self._put_layer, unit, layer, values, rows, failed) if is_new else None
                )
        return {layer: {} if put is None else put.result() for layer, put in puts.items()}

    def _put_layer(
        self, unit: Unit, layer: int, values: np.ndarray, rows: UnitRows, failed: Sequence[int]
    ) -> dict[str, StoredObject]:
        """Write one layer; the rows in `failed` hold nothing, whatever is given for them."""
        name = layer_arrays.layer_chunk(layer, unit.index)
        frames = None if rows.frames is None else rows.frames[layer]
        if failed:
            values = values.copy()
            values[failed] = np.nan
            if frames is not None:
                of_row = np.repeat(np.arange(unit.n_rows), rows.n_frames)
                frames = frames[~np.isin(of_row, failed)]
        try:
            objects = {name: self._put(name, fast_shards.encode(self.info.shape, values))}
            if self.info.frames is not None and frames is not None:
                name = layer_arrays.frames_chunk(layer, unit.index)
                objects[name] = self._put(name, layer_arrays.encode_frames(self.info.frames, frames))
        except ConfigError as error:
            raise ConfigError(f"{self.info.path}, layer {layer}: {error}") from error
        return objects

    def _put(self, name: str, data: bytes) -> StoredObject:
        self.storage.put(f"{self.info.path}/{name}", data)
        return fast_shards.describe_shard(data, self.info.shard_chunks(name))


def _keep_pruned(previous: Record, now: dict[str, list[Any]], places: Places | None) -> Places | None:
    """Rows that are nobody's now keep what was known of them: their values stay in the earlier layers."""
    gone = np.array([not name for name in now[ID_ARRAY]])
    for i in np.flatnonzero(gone).tolist():
        for column, values in now.items():
            values[i] = previous.rows[column][i]
    return places if places is None else places.where(~gone, previous.places_of_rows)


def open_key(
    storage: Storage,
    request: KeyRequest,
    manifest: Manifest,
    ordered_ids: np.ndarray,
    *,
    prune: bool = False,
    compared: Comparison | None = None,
    again: Mapping[int, Record] | None = None,
    sounds: Sounds | None = None,
) -> tuple[KeyWriter, list[str]]:
    """Create a key, or open it for resuming, extending by layers, or growing by utterances.

    Args:
        storage: the root.
        request: what the extraction wants.
        manifest: all utterances, with labels; it is stored beside the embeddings.
        ordered_ids: `[n]` ids in the order of the plan.
        prune: drop utterances that the manifest no longer has; otherwise they are kept and reported.
        compared: the manifest against the key, where that was done already.
        again: units that are withdrawn, and so done again, since their audio is another now than in these
            records.
        sounds: hashes audio, for the comparison where it is to be done yet.

    Returns:
        The writer, and one-line notes on what was done to an existing key.

    Raises:
        FingerprintMismatch: the key exists and was made with other settings.
        OtherAudio: an id comes with other audio than is embedded under it; nothing was changed.
        StoreError: the store cannot be written.
    """
    try:
        info = read_key(storage, request.model, request.dataset)
    except KeyNotFound:
        return _create(storage, request, manifest, ordered_ids), []
    check_request(storage, info, request, ordered_ids)
    if compared is None:
        compared = compare(Features(storage, info), manifest, sounds or Sounds())
        compared.require_same(info.path, WAYS_OUT)
    changes = planned_changes(storage, info, request, compared.manifest, ordered_ids, prune=prune)
    if again:
        # Before the manifest says where they are now: in between they are pending, and never mislabelled.
        # A unit that holds other audio by now, or none, has been done again by somebody and stays.
        withdraw(storage, info.path, again, lambda u, r: r is not None and r.rows == again[u].rows)
    info, ids = _carry_out(storage, info, changes)
    notes = [*compared.notes, *changes.notes(info.path)]
    if request.codec != info.shape.codec:
        notes.append(f"{info.path} keeps its codec {info.shape.codec!r}")
    stored, said = replace_manifest(storage, info, changes.manifest)
    if n_new := len(changes.new):
        others, how = len(ordered_ids) - n_new, "were there" if said or again else "unchanged"
        notes.append(f"{n_new:,} new utterances appended to {info.path}; the other {others:,} {how}")
    if said:
        notes.append(f"{manifest.source} replaces what was stored with {info.path}: {'; '.join(said)}")
    return KeyWriter(storage, info, ids, changes.manifest, stored), notes


def preview_key(
    storage: Storage,
    request: KeyRequest,
    manifest: Manifest,
    ordered_ids: np.ndarray,
    *,
    overwrite: bool,
    prune: bool,
    again: Collection[int] = (),
) -> tuple[KeyWriter, list[Unit]]:
    """What `open_key` would open, with nothing written; `overwrite` is as if the key were not there.

    Returns:
        The writer, and the units that are not committed for all layers asked for.

    Raises:
        UserError: the key exists and cannot take what is wanted; see `check_request`.
    """
    try:
        info = None if overwrite else read_key(storage, request.model, request.dataset)
    except KeyNotFound:
        info = None
    if info is None:
        info = request.to_info(len(ordered_ids))
        return KeyWriter(storage, info, np.asarray(ordered_ids, dtype=object), manifest), info.units
    check_request(storage, info, request, ordered_ids)
    changes = planned_changes(storage, info, request, manifest, ordered_ids, prune=prune)
    info, ids = changes.applied(info, read_ids(storage, info))
    writer = KeyWriter(storage, info, ids, changes.manifest)
    pending = set(writer.pending_units(request.layers))
    return writer, [u for u in info.units if u.index in again or u in pending]


def _carry_out(storage: Storage, info: KeyInfo, changes: KeyChanges) -> tuple[KeyInfo, np.ndarray]:
    """Make changes, but those that others have made meanwhile; the key and its ids `[n_rows]` after that."""
    if changes.pruned or changes.new or changes.layers:
        # The ids of all rows are written whole: of two that change them at once, one would lose the other's.
        with holding_ledger(storage, info.path):
            info = read_key(storage, info.model, info.dataset)
            stored_ids = read_ids(storage, info)
            changed, ids = changes.applied(info, stored_ids)
            # Ids first (a row without one is nobody's, and no reader shows it), then the arrays, then the
            # attributes that make new units and layers part of the plan.
            if not np.array_equal(ids, stored_ids):
                put_ids(storage, changed, ids)
            if changed != info:
                put_documents(storage, changed)
                storage.put(f"{changed.path}/zarr.json", key_document(changed))
    info = read_key(storage, info.model, info.dataset)
    return info, read_ids(storage, info)


def delete_key(storage: Storage, model: str, dataset: str) -> None:
    """Remove a key and all its objects; its group document first, so that a torn removal shows as none.

    A symbolic link inside the key is removed itself, and never what it points to.

    Raises:
        StoreError: the key's folder, or its model's, is a link; or the key holds a file whose name is none of
            an object. Nothing is removed then.
    """
    key = f"{check_name(model, 'model')}/{check_name(dataset, 'dataset')}"
    names = [name for name, _ in storage.objects(key)]
    for name in names:
        object_parts(name, storage.url)
    storage.delete(f"{key}/zarr.json")
    with ThreadPoolExecutor(DELETERS) as pool:
        list(pool.map(storage.delete, names))
    if storage.children(model) == ["zarr.json"]:
        storage.delete(f"{model}/zarr.json")


def _create(storage: Storage, request: KeyRequest, manifest: Manifest, ordered_ids: np.ndarray) -> KeyWriter:
    info = request.to_info(len(ordered_ids))
    # Of two processes that create a key at once, the second's documents and ids must not stand under the
    # attributes of the first.
    with holding_ledger(storage, info.path):
        if storage.get(f"{info.path}/zarr.json") is None:
            put_root_documents(storage, info)
            put_documents(storage, info)
            put_ids(storage, info, ordered_ids)
            stored = store_manifest(storage, info, manifest)
            # Last: the key exists from here on.
            storage.put(f"{info.path}/zarr.json", key_document(info), if_absent=True)
            return KeyWriter(storage, info, np.asarray(ordered_ids, dtype=object), manifest, stored)
    return open_key(storage, request, manifest, ordered_ids)[0]


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Installed versions of these packages, with Python's and the platform's."""
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    return found | {name: version for name in names if (version := _installed(name, tuple(sys.path)))}


@lru_cache(maxsize=256)
def _installed(name: str, _path: tuple[str, ...]) -> str:
    """Version of a package, "" where it is not installed; reading it takes milliseconds."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return ""
