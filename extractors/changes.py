"""Has the audio changed since it was embedded?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from extractors.audio import AudioPolicy, load_clip
from extractors.decode import END_TOLERANCE_S, AudioError, hash_clip
from extractors.results import STATUS_OK
from featurestore.store import Features

if TYPE_CHECKING:
    from featurestore.writer import KeyWriter

_PLACE = ["path", "start_s", "end_s", "channel"]
# What `refresh` finds of an utterance.
_SAME, _CHANGED, _LOST = "same", "changed", "lost"
Location = tuple[str, float, float, int | None]


def locations(table: pd.DataFrame) -> dict[str, Location]:
    """Utterance id → path, start and end in seconds (NaN: open), channel (None: mean of all)."""
    return {
        str(i): (str(path), float(start), float(end), None if pd.isna(channel) else int(channel))
        for i, path, start, end, channel in table[["path", "start_s", "end_s", "channel"]].itertuples(
            name=None
        )
    }


def report_changes(writer: KeyWriter, table: pd.DataFrame, workers: int) -> list[str]:
    """Notes on utterances whose length differs from when they were embedded.

    Reads nothing but the headers that planning has read anyway; changes that keep the length are found
    by `refresh` only.
    """
    facts = Features(writer.storage, writer.info).facts
    if not len(facts):
        return []
    planned = table["planned_s"].reindex(facts["utterance_id"]).to_numpy()
    # Ends given in the manifest are rounded to samples and may be cut at the file's end.
    rounded = table["end_s"].reindex(facts["utterance_id"]).notna().to_numpy()
    allowed = np.where(rounded, END_TOLERANCE_S + 1e-3, 1e-6)
    changed = np.abs(planned - facts["duration_s"].to_numpy()) > allowed  # NaN compares as unchanged
    if not changed.any():
        return []
    first = facts["utterance_id"][int(np.flatnonzero(changed)[0])]
    return [
        f"{int(changed.sum())} utterances have another length than when they were embedded "
        f"(first {first!r}); --refresh embeds them again"
    ]


def refresh(writer: KeyWriter, table: pd.DataFrame, workers: int, policy: AudioPolicy) -> list[str]:
    """Withdraw the units that hold an utterance whose audio differs from what was embedded.

    Decodes everything that is committed and compares hashes; clips that failed are tried again where
    their audio can be used now. What is stored of audio that cannot be read now cannot be made again: its
    unit stays as it is.

    Args:
        writer: of the key.
        table: by utterance id, where the audio is.
        workers: decoding threads.
        policy: how audio is prepared, which decides whether a clip that failed can be used now.

    Returns:
        Notes on what was found.
    """
    features = Features(writer.storage, writer.info)
    where = locations(table)
    facts = features.facts

    def look(utterance: str, status: str, audio_hash: str) -> str:
        place = where[utterance]
        if status != STATUS_OK:
            return _CHANGED if _usable_now(place, status, policy) else _SAME
        try:
            return _SAME if hash_clip(*place) == audio_hash else _CHANGED
        except AudioError:
            return _LOST

    with ThreadPoolExecutor(workers) as pool:
        rows = (facts["utterance_id"], facts["status"], facts["audio_hash"])
        found = np.array(list(pool.map(look, *rows)), dtype=object)
    unit_of = facts["row"].to_numpy() // writer.info.shape.unit_rows
    held = set(unit_of[found == _LOST].tolist())
    changed = found == _CHANGED
    units = sorted(set(unit_of[changed].tolist()))
    free = [u for u in units if u not in held]
    writer.withdraw(free, seen=features.ledger)

    def first(which: np.ndarray) -> str:
        return repr(facts["utterance_id"][int(np.flatnonzero(which)[0])])

    notes = []
    if held:
        lost = found == _LOST
        notes.append(
            f"refresh: {int(lost.sum())} embedded utterances cannot be read now (first {first(lost)}); "
            "what is stored of them is kept"
        )
    if len(free) < len(units):
        notes.append(
            f"refresh: {len(units) - len(free)} units with changed audio also hold audio that cannot be "
            "read now; they are kept as they are until it can be"
        )
    again = changed & np.isin(unit_of, free)
    if again.any():
        notes.append(
            f"refresh: {int(again.sum())} utterances have other audio now, or failed and can be used now "
            f"(first {first(again)}); {len(free)} units are embedded again"
        )
    return notes or ["refresh: all audio is what it was"]


def _usable_now(place: Location, status: str, policy: AudioPolicy) -> bool:
    """Whether a clip that failed may come out otherwise now."""
    try:
        clip = load_clip(*place, policy)
    except AudioError:
        return False
    # The model would refuse it again; for all other reasons that audio itself gives, loading fails.
    return not status.startswith(f"failed: too short: {len(clip.samples)} samples ")
