"""Has the audio changed since it was embedded?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from extractors.decode import END_TOLERANCE_S, AudioError, hash_clip
from featurestore.store import Features

if TYPE_CHECKING:
    from featurestore.writer import KeyWriter

_PLACE = ["path", "start_s", "end_s", "channel"]
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


def refresh(writer: KeyWriter, table: pd.DataFrame, workers: int) -> list[str]:
    """Withdraw the units that hold an utterance whose audio differs from what was embedded.

    Decodes everything that is committed and compares hashes; clips that failed are tried again too.

    Returns:
        Notes on what was found.
    """
    features = Features(writer.storage, writer.info)
    where = locations(table)
    facts = features.facts

    def now(utterance: str) -> str:
        try:
            return hash_clip(*where[utterance])
        except AudioError:
            return ""

    with ThreadPoolExecutor(workers) as pool:
        hashes = np.array(list(pool.map(now, facts["utterance_id"])), dtype=object)
    changed = hashes != facts["audio_hash"].to_numpy(dtype=object)
    units = sorted(set((facts["row"].to_numpy()[changed] // writer.info.shape.unit_rows).tolist()))
    writer.withdraw(units)
    if not changed.any():
        return ["refresh: all audio is what it was"]
    first = facts["utterance_id"][int(np.flatnonzero(changed)[0])]
    return [
        f"refresh: {int(changed.sum())} utterances have other audio now (first {first!r}); "
        f"{len(units)} units are embedded again"
    ]
