"""Replacing the labels stored with embeddings: rows stay what they are, what is said of them changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from featurestore.audio.librosa_times import as_librosa_cuts
from featurestore.backends.storage import Storage
from featurestore.calls import Call, Slot, describe_table
from featurestore.errors import CorruptData, ManifestError
from featurestore.manifest.channels import with_channels
from featurestore.manifest.table import PLACE_COLUMNS, Manifest
from featurestore.printable import counted
from featurestore.store.history import record_call
from featurestore.store.key import KeyInfo
from featurestore.store.reader import Features
from featurestore.store.sound_identity import Sounds, compare
from featurestore.store.stored_manifest import changes, store_manifest

WAYS_OUT = "give each sound an id of its own, or embed these again with `fs extract --refresh`"
UNHEARD = (
    "; --without-audio takes files that are not at hand for the same where name, times and channel are, and "
    "leaves the place that is stored"
)


@dataclass(frozen=True, kw_only=True)
class Attached:
    """What became of one key.

    Attributes:
        key: ``model/dataset``.
        n_rows: utterances that got a row.
        changes: what differs from before, one clause for each column; None where it was damaged before.
        notes: on rows whose audio was compared.
    """

    key: str
    n_rows: int
    changes: list[str] | None
    notes: list[str]


def attach_manifest(
    storage: Storage,
    infos: Sequence[KeyInfo],
    manifest: Manifest,
    *,
    sounds: Sounds | None = None,
    without_audio: bool = False,
) -> list[Attached]:
    """Replace what is stored of the utterances of keys; embeddings are not touched.

    All keys are compared before the first is written, and each manifest is one object: an error leaves
    everything as it was.

    Args:
        storage: the root.
        infos: keys.
        manifest: has a row for every utterance of each.
        sounds: hashes audio that is listed elsewhere than before; none is needed where places are equal.
        without_audio: where audio is not at hand, take the same file name, times and channel for the same
            sound; its place stays as it is stored.

    Raises:
        ManifestError: the manifest lacks an utterance of a key.
        OtherAudio: an id would stand for other audio than was embedded, or for audio that is not at hand.
    """
    sounds = sounds or Sounds()
    prepared = [_prepare(Features(storage, info), manifest, sounds, without_audio) for info in infos]
    table = describe_table(manifest.source, len(manifest))
    more = ["--without-audio"] if without_audio else []
    for info, (new, _) in zip(infos, prepared, strict=True):
        store_manifest(storage, info, new)
        options = ["--model", info.model, "--dataset", info.dataset, *more]
        call = Call(words=("manifest", "attach", Slot.STORE, Slot.TABLE, *options), table=table)
        record_call(storage, info, call)
    return [attached for _, attached in prepared]


def _prepare(
    features: Features, manifest: Manifest, sounds: Sounds, without_audio: bool
) -> tuple[Manifest, Attached]:
    info = features.info
    ids = {i for i in features.planned_ids if i}
    try:
        before = features.manifest
    except CorruptData:
        before = None
    manifest = _as_embedded(info, manifest, ids, before)
    lacking = sorted(ids - set(manifest.table["utterance_id"]))
    if lacking:
        raise ManifestError(
            f"{manifest.source}: lacks {counted(len(lacking), 'utterance')} of {info.path} (first "
            f"{lacking[0]!r}); every stored utterance needs a row. Without a column utterance_id an id is "
            "made of path and times: where these changed, so did the id"
        )
    rows = manifest.table[manifest.table["utterance_id"].isin(ids)].reset_index(drop=True)
    compared = compare(
        features, replace(manifest, table=rows), sounds, without_audio=without_audio and before is not None
    )
    compared.require_same(info.path, WAYS_OUT + (UNHEARD if compared.other.is_lost.all() else ""))
    new = compared.manifest
    if before is not None and compared.absent:
        new = _with_places_of(new, before, compared.absent)
    changed = None if before is None else changes(before, new)
    return new, Attached(key=info.path, n_rows=len(ids), changes=changed, notes=compared.notes)


def _as_embedded(
    info: KeyInfo, manifest: Manifest, ids: Collection[str], before: Manifest | None
) -> Manifest:
    """The rows that `fs extract` made of such a manifest for this key: its channels, and times in samples."""
    choice = info.model_card.get("given", {}).get("channel", "mix")
    counts: dict[str, int] = dict.fromkeys(manifest.table["path"], 0)
    if choice == "each":
        # The audio may not be at hand: the ids of the key say how many channels a file had.
        for path, name in zip(manifest.table["path"], manifest.table["utterance_id"], strict=True):
            while f"{name}#{counts[path]}" in ids:
                counts[path] += 1
    rows = with_channels(manifest, choice, counts)
    return _cut_as_embedded(rows, before) if info.cut_by_librosa else rows


def _cut_as_embedded(manifest: Manifest, before: Manifest | None) -> Manifest:
    """The times as librosa cuts them; those that come from the key stay: cut again they would shrink."""
    cut = as_librosa_cuts(manifest, 1)
    if before is None:
        return cut
    given, names = manifest.table, ["start_s", "end_s"]
    stored = before.table.set_index("utterance_id").reindex(given["utterance_id"])
    same = np.ones(len(given), dtype=bool)
    for name in names:
        mine, theirs = given[name].to_numpy(np.float64), stored[name].to_numpy(np.float64)
        same &= (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
    return replace(
        cut, table=cut.table.assign(**{name: cut.table[name].mask(same, given[name]) for name in names})
    )


def _with_places_of(manifest: Manifest, stored: Manifest, ids: Sequence[str]) -> Manifest:
    """The manifest with the places of these utterances as they are stored, and what vouches for them."""
    table = manifest.table.set_index("utterance_id", drop=False)
    places = stored.table.set_index("utterance_id").loc[list(ids), list(PLACE_COLUMNS)]
    for name in PLACE_COLUMNS:
        table.loc[list(ids), name] = places[name]
    found = {i: proof for i, proof in stored.found_audio.items() if i in set(ids)}
    return replace(
        manifest, table=table.reset_index(drop=True), found_audio={**manifest.found_audio, **found}
    )
