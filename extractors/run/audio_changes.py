"""Is what a manifest names still what was embedded? Asked of a key before anything is written to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from extractors.audio.policy import AudioPolicy
from extractors.audio.waveform import load_clip
from extractors.run.plan import KeyPlan, RunPlan
from featurestore.audio.segment import AudioError
from featurestore.errors import KeyNotFound
from featurestore.manifest.location import Location
from featurestore.store.key import read_key
from featurestore.store.key_request import check_request
from featurestore.store.ledger import Record
from featurestore.store.reader import Features
from featurestore.store.sound_identity import Comparison, Other, Sounds, compare
from featurestore.store.stored_manifest import read_stored_manifest, with_rows_of
from featurestore.store.writer import WAYS_OUT

CANNOT_REFRESH = "put the audio where the manifest names it, or leave these rows out of it and add --prune"


@dataclass(frozen=True, kw_only=True)
class CheckedKey:
    """What a run may do to a key.

    Attributes:
        compared: the manifest against the key; None where there is no key yet.
        again: units that `--refresh` embeds again, with the records that speak against them.
        notes: what it found.
    """

    compared: Comparison | None = None
    again: dict[int, Record] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def check_key(plan: KeyPlan, run: RunPlan, sounds: Sounds) -> CheckedKey:
    """Refuse a key that cannot be gone on with, changing nothing.

    Args:
        plan: of the key.
        run: what the keys of a run share.
        sounds: hashes audio; the same for all keys, so that each clip is decoded once.

    Raises:
        FingerprintMismatch, ConfigError: see `check_request`.
        OtherAudio: an id comes with other audio than is embedded under it, and nobody asked for `--refresh`;
            or with audio that cannot be embedded in its place.
    """
    config, request = plan.recipe.config, plan.request
    if config.overwrite:
        return CheckedKey()
    try:
        info = read_key(run.storage, request.model, request.dataset)
    except KeyNotFound:
        return CheckedKey()
    check_request(run.storage, info, request, plan.ids)
    features = Features(run.storage, info)
    manifest = run.manifest
    if config.refresh and not config.prune:
        # Rows that the manifest no longer has share units with those that are embedded again.
        gone = set(features.facts["utterance_id"]) - set(manifest.table["utterance_id"])
        if gone:
            manifest = with_rows_of(manifest, read_stored_manifest(run.storage, info), sorted(gone))
    compared = compare(
        features,
        manifest,
        sounds,
        look_at_all=config.refresh,
        planned=(plan.order, plan.ids) if manifest is run.manifest else None,
        fails_alike=lambda place, status: not _usable_now(place, status, plan.recipe.policy),
    )
    if not config.refresh:
        compared.require_same(info.path, WAYS_OUT)
        return CheckedKey(compared=compared)
    return _refreshed(compared, features)


def _refreshed(compared: Comparison, features: Features) -> CheckedKey:
    """Which units hold an utterance whose audio differs from what was embedded.

    What is stored of audio that cannot be read now cannot be made again: its unit stays as it is.
    """
    other = compared.other
    unit_of = other.rows // features.info.shape.unit_rows
    held = set(unit_of[other.is_lost].tolist())
    changed = ~other.is_lost
    units = sorted(set(unit_of[changed].tolist()))
    again = {u: features.ledger[u] for u in units if u not in held}
    # A row that stays as it is cannot be listed at another place, where other audio is.
    stuck = other.is_elsewhere & ~np.isin(unit_of, list(again))
    replace(compared, other=other.only(stuck)).require_same(features.info.path, CANNOT_REFRESH)
    notes = []
    if held:
        notes.append(
            f"refresh: {int(other.is_lost.sum())} embedded utterances cannot be read now (first "
            f"{_first(other, other.is_lost)}); what is stored of them is kept"
        )
    if len(again) < len(units):
        notes.append(
            f"refresh: {len(units) - len(again)} units with changed audio also hold audio that cannot be "
            "read now; they are kept as they are until it can be"
        )
    done = changed & np.isin(unit_of, list(again))
    if done.any():
        notes.append(
            f"refresh: {int(done.sum())} utterances have other audio now, or failed and can be used now "
            f"(first {_first(other, done)}); {len(again)} units are embedded again"
        )
    return CheckedKey(compared=compared, again=again, notes=notes or ["refresh: all audio is what it was"])


def _first(other: Other, mask: np.ndarray) -> str:
    return repr(other.ids[int(np.flatnonzero(mask)[0])])


def _usable_now(place: Location, status: str, policy: AudioPolicy) -> bool:
    """Whether a clip that failed may come out otherwise now."""
    try:
        clip = load_clip(*place, policy)
    except AudioError:
        return False
    # The model would refuse it again; for all other reasons that audio itself gives, loading fails.
    return not status.startswith(f"failed: too short: {len(clip.samples)} samples ")
