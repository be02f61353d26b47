"""How long every clip is, from the manifest and from file headers."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from extractors.audio.waveform import AudioPolicy
from featurestore.audio.segment import END_TOLERANCE_S, AudioError, header
from featurestore.manifest.table import Manifest


def clip_durations(manifest: Manifest, workers: int) -> np.ndarray:
    """Seconds of every utterance `[n]`, from the manifest and file headers; NaN if unreadable."""
    table = manifest.table
    start = table["start_s"].to_numpy()
    end = table["end_s"].to_numpy()
    open_ended = np.isnan(end)
    paths = table["path"].to_numpy()
    unique = sorted(set(paths[open_ended]))
    with ThreadPoolExecutor(workers) as pool:
        lengths = dict(zip(unique, pool.map(_file_seconds, unique), strict=True))
    file_end = np.array([lengths[p] if o else np.nan for p, o in zip(paths, open_ended, strict=True)])
    durations = np.where(open_ended, file_end, end) - np.where(np.isnan(start), 0.0, start)
    return np.where(durations > 0, durations, np.nan)


def _file_seconds(path: str) -> float:
    try:
        frames, rate = header(path)
    except AudioError:
        return float("nan")
    return frames / rate


def end_with_files(manifest: Manifest, workers: int) -> tuple[Manifest, int]:
    """The manifest with rows that pass their file's end ending there, and how many these are.

    Rows that begin after the end stay as they are, to fail by themselves.
    """
    table = manifest.table
    ends = table["end_s"].to_numpy(dtype=float)
    paths = table["path"].to_numpy(dtype=object)
    last = dict(zip(paths, ends, strict=True))  # the latest end of each file
    for path, end in zip(paths, ends, strict=True):
        last[path] = max(end, last[path]) if last[path] == last[path] else end
    wanted = [path for path, end in last.items() if end == end]
    with ThreadPoolExecutor(workers) as pool:
        lengths = dict(zip(wanted, pool.map(lambda p: _length_before(p, last[p]), wanted), strict=True))
    length = np.array([lengths.get(path, np.nan) for path in paths])
    start = np.nan_to_num(table["start_s"].to_numpy(dtype=float))
    passes = (ends > length + END_TOLERANCE_S) & (start < length)
    if not passes.any():
        return manifest, 0
    clipped = dataclasses.replace(manifest, table=table.assign(end_s=np.where(passes, length, ends)))
    return clipped, int(passes.sum())


def _length_before(path: str, end_s: float) -> float:
    """Seconds of a file; all of it is looked through where its header has it end before `end_s`."""
    try:
        frames, rate = header(path)
        if end_s * rate > frames:
            frames, rate = header(path, entire=True)
    except AudioError:
        return float("nan")
    return frames / rate


def model_seconds(manifest: Manifest, durations: np.ndarray, policy: AudioPolicy, workers: int) -> np.ndarray:
    """How long every utterance `[n]` lasts for the model: its duration, unless its samples are expanded."""
    if policy.rate_policy == "resample":
        return durations
    paths = manifest.table["path"].to_numpy()
    unique = sorted(set(paths))
    with ThreadPoolExecutor(workers) as pool:
        rates = dict(zip(unique, pool.map(_file_rate, unique), strict=True))
    return policy.model_seconds(durations, np.array([rates[p] for p in paths]))


def _file_rate(path: str) -> float:
    try:
        return float(header(path)[1])
    except AudioError:
        return float("nan")


def clip_table(
    stored: Manifest, manifest: Manifest, durations: np.ndarray, policy: AudioPolicy, workers: int
) -> pd.DataFrame:
    """The manifest of the key by id; ``planned_s`` is every clip's duration, ``model_s`` the model's."""
    known = dict(zip(manifest.table["utterance_id"], durations, strict=True))
    table = stored.table.set_index("utterance_id")
    extra = stored.table[~stored.table["utterance_id"].isin(known)]
    if len(extra):
        others = clip_durations(Manifest(table=extra, source=stored.source), workers)
        known |= dict(zip(extra["utterance_id"], others, strict=True))
    planned = np.array([known[i] for i in table.index], dtype=np.float64)
    return table.assign(planned_s=planned, model_s=model_seconds(stored, planned, policy, workers))
