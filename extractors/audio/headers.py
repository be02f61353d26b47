"""What file headers say of every clip of a manifest: how long it is, at which rate, of which channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from extractors.audio.policy import AudioPolicy
from featurestore.archives.names import reading_order
from featurestore.audio.segment import END_TOLERANCE_S, AudioError, channels, header
from featurestore.errors import ConfigError
from featurestore.manifest.channels import with_channels
from featurestore.manifest.table import MOST_CHANNELS, Manifest


def _of_files(paths: Iterable[str], workers: int, read: Callable[[str], float]) -> dict[str, float]:
    """Path → what `read` says of the file, NaN where it cannot be read."""

    def known(path: str) -> float:
        try:
            return read(path)
        except AudioError:
            return float("nan")

    unique = sorted(set(paths), key=reading_order)
    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(unique, pool.map(known, unique), strict=True))


def _seconds(path: str, *, entire: bool = False) -> float:
    frames, rate = header(path, entire=entire)
    return frames / rate


def clip_durations(manifest: Manifest, workers: int) -> np.ndarray:
    """Seconds of every utterance `[n]`, from the manifest and file headers; NaN if unreadable."""
    table = manifest.table
    start = table["start_s"].to_numpy()
    end = table["end_s"].to_numpy()
    open_ended = np.isnan(end)
    paths = table["path"].to_numpy()
    lengths = _of_files(paths[open_ended], workers, _seconds)
    file_end = np.array([lengths[p] if o else np.nan for p, o in zip(paths, open_ended, strict=True)])
    durations = np.where(open_ended, file_end, end) - np.where(np.isnan(start), 0.0, start)
    return np.where(durations > 0, durations, np.nan)


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

    def length_before_end(path: str) -> float:
        # All of a file is looked through where its header has it end before the rows do.
        frames, rate = header(path)
        return _seconds(path, entire=True) if last[path] * rate > frames else frames / rate

    lengths = _of_files((path for path, end in last.items() if end == end), workers, length_before_end)
    length = np.array([lengths.get(path, np.nan) for path in paths])
    start = np.nan_to_num(table["start_s"].to_numpy(dtype=float))
    passes = (ends > length + END_TOLERANCE_S) & (start < length)
    if not passes.any():
        return manifest, 0
    clipped = dataclasses.replace(manifest, table=table.assign(end_s=np.where(passes, length, ends)))
    return clipped, int(passes.sum())


def model_seconds(manifest: Manifest, durations: np.ndarray, policy: AudioPolicy, workers: int) -> np.ndarray:
    """How long every utterance `[n]` lasts for the model: its duration, unless its samples are expanded."""
    if policy.rate_policy == "resample":
        return durations
    paths = manifest.table["path"].to_numpy()
    rates = _of_files(paths, workers, lambda path: float(header(path)[1]))
    rate_hz = np.array([rates[p] for p in paths])
    return np.asarray(durations * rate_hz / policy.sample_rate_hz)


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


def check_channel(choice: str) -> None:
    """Refuse what is no channel policy.

    Raises:
        ConfigError: neither ``mix`` nor ``each`` nor a whole number from 0.
    """
    is_number = choice.isascii() and choice.isdigit() and len(choice) < 5 and int(choice) < MOST_CHANNELS
    if choice not in ("mix", "each") and not is_number:
        raise ConfigError(
            f"--channel: expected mix, each or a number from 0 to {MOST_CHANNELS - 1}, got {choice!r}"
        )


def choose_channels(manifest: Manifest, choice: str, workers: int) -> Manifest:
    """The manifest with a channel for every row that has none, see `with_channels`.

    Args:
        manifest: as read.
        choice: ``mix`` (nothing changes), ``each``, or a channel counted from 0.
        workers: threads that read headers.

    Raises:
        ManifestError: an id that this makes is another row's already.
    """
    counts: dict[str, int] = {}
    if choice == "each":
        paths = manifest.table["path"][manifest.table["channel"].isna()]
        counts = {p: 0 if n != n else int(n) for p, n in _of_files(paths, workers, channels).items()}
    return with_channels(manifest, choice, counts)
