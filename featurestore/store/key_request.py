"""What an extraction wants a key to be: whether a key that exists can become that, and what changes in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featurestore.backends.storage import Storage
from featurestore.errors import ConfigError, FingerprintMismatch
from featurestore.fingerprint import diff
from featurestore.format import layer_arrays
from featurestore.format.codecs import check_codec, require_codec
from featurestore.format.number_types import DTypeName
from featurestore.manifest.table import Manifest
from featurestore.names import check_name
from featurestore.store.key import MOST_FEATURES, MOST_LAYERS, MOST_UNIT_ROWS, KeyInfo
from featurestore.store.plan import DEFAULT_UNIT_ROWS, next_segment
from featurestore.store.row_columns import read_ids
from featurestore.store.stored_manifest import read_stored_manifest, with_rows_of


@dataclass(frozen=True, kw_only=True)
class KeyRequest:
    """What an extraction wants a key to be; see `KeyInfo` for the fields they share.

    Attributes:
        frame_bounds: in keys that keep frames, the most frames that each row can have, int64 `[n]` in the
            order of the plan; None where that is not known before.
    """

    model: str
    dataset: str
    fingerprint: Mapping[str, Any]
    functionals: tuple[str, ...]
    layers: tuple[int, ...]
    n_features: int
    dtype: DTypeName = "float32"
    codec: str = "fast"
    unit_rows: int = DEFAULT_UNIT_ROWS
    frames: layer_arrays.FrameShape | None = None
    frame_bounds: np.ndarray | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    model_card: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.model, "model")
        check_name(self.dataset, "dataset")
        require_codec(check_codec(self.codec, self.dtype))
        # What a reader would refuse is not written.
        if not 1 <= self.unit_rows <= MOST_UNIT_ROWS:
            raise ConfigError(f"expected from 1 to {MOST_UNIT_ROWS:,} rows a unit, got {self.unit_rows}")
        if self.n_features > MOST_FEATURES or max(self.layers, default=0) >= MOST_LAYERS:
            raise ConfigError(
                f"expected at most {MOST_FEATURES:,} features and layers below {MOST_LAYERS}, got "
                f"{self.n_features} and layer {max(self.layers, default=0)}"
            )

    def to_info(self, n_rows: int) -> KeyInfo:
        """The key as it is made for so many utterances."""
        return KeyInfo(
            model=self.model,
            dataset=self.dataset,
            fingerprint=self.fingerprint,
            functionals=self.functionals,
            layers=tuple(sorted(self.layers)),
            shape=layer_arrays.LayerShape(
                n_functionals=len(self.functionals),
                n_features=self.n_features,
                unit_rows=self.unit_rows,
                dtype=self.dtype,
                codec=self.codec,
            ),
            segments=(next_segment((), n_rows, self.unit_rows),),
            frames=self.frames,
            versions=self.versions,
            model_card=self.model_card,
        )


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


def check_request(
    storage: Storage, info: KeyInfo, request: KeyRequest, ordered_ids: Sequence[str] | np.ndarray
) -> None:
    """Refuse what a key that exists cannot take, before it is touched; `ordered_ids` `[n]` as planned.

    Raises:
        FingerprintMismatch: it was made with other settings.
        ConfigError: it keeps no frames, or in another dtype, or has no room for those of new utterances.
    """
    check_same(storage, info, request.fingerprint)
    if request.frames is None:
        return
    advice = "give another --name or --dataset, or replace it with --overwrite"
    if info.frames is None:
        raise ConfigError(f"key {info.path} was made without --frames; {advice}")
    if info.frames.dtype != request.frames.dtype:
        raise ConfigError(
            f"key {info.path} holds frames in {info.frames.dtype}, not {request.frames.dtype}; {advice}"
        )
    if request.frame_bounds is None:
        return
    stored = set(read_ids(storage, info).tolist())
    is_new = np.array([i not in stored for i in ordered_ids], dtype=bool)
    # New rows begin a unit of their own, in the order of the plan.
    bounds, unit_rows = request.frame_bounds[is_new], info.shape.unit_rows
    starts = range(0, len(bounds), unit_rows)
    needed = max((int(bounds[i : i + unit_rows].sum()) for i in starts), default=0)
    if needed > info.frames.unit_frames:
        raise ConfigError(
            f"key {info.path} has room for {info.frames.unit_frames} frames a unit, and new clips need up to "
            f"{needed}: they are longer than those it was planned for; {advice}"
        )


@dataclass(frozen=True, kw_only=True)
class KeyChanges:
    """What an extraction changes in a key that exists.

    Attributes:
        manifest: to be stored: the incoming one, with the rows of utterances that it lacks and that are kept.
        kept: utterances that it lacks, sorted.
        pruned: those of them that are dropped, sorted.
        new: utterances to append, in the order of the plan.
        layers: to add, sorted.
    """

    manifest: Manifest
    kept: list[str]
    pruned: list[str]
    new: list[str]
    layers: list[int]

    def applied(self, info: KeyInfo, ids: np.ndarray) -> tuple[KeyInfo, np.ndarray]:
        """A key and its ids `[n_rows]` after these changes, less those that somebody has made already."""
        gone = set(self.pruned)
        ids = np.array(["" if i in gone else i for i in ids], dtype=object)
        known = set(ids.tolist())
        new = [i for i in self.new if i not in known]
        if new:
            segment = next_segment(info.segments, len(new), info.shape.unit_rows)
            gap = np.full(segment.first_row - len(ids), "", dtype=object)
            ids = np.concatenate([ids, gap, np.array(new, dtype=object)])
            info = dataclasses.replace(info, segments=(*info.segments, segment))
        return dataclasses.replace(info, layers=tuple(sorted({*info.layers, *self.layers}))), ids

    def notes(self, key: str) -> Iterator[str]:
        """A line on each change that somebody may not expect."""
        if self.pruned:
            yield f"{len(self.pruned)} utterances pruned from {key} (first {self.pruned[0]!r})"
        if self.kept:
            yield (
                f"{len(self.kept)} utterances of {key} are not in the manifest (first {self.kept[0]!r}); "
                "they are kept, --prune drops them"
            )
        if self.layers:
            yield f"layers {', '.join(map(str, self.layers))} added to {key}"


def planned_changes(
    storage: Storage,
    info: KeyInfo,
    request: KeyRequest,
    manifest: Manifest,
    ordered_ids: np.ndarray,
    *,
    prune: bool,
) -> KeyChanges:
    """What there is to change in a key as it is now; `ordered_ids` is `[n]` in the order of the plan."""
    stored = set(read_ids(storage, info).tolist()) - {""}
    gone = sorted(stored - set(ordered_ids.tolist()))
    if gone and not prune:
        manifest = with_rows_of(manifest, read_stored_manifest(storage, info), gone)
    return KeyChanges(
        manifest=manifest,
        kept=[] if prune else gone,
        pruned=gone if prune else [],
        new=[i for i in ordered_ids if i not in stored],
        layers=sorted(set(request.layers) - set(info.layers)),
    )
