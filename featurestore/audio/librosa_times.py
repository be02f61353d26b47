"""Times of a manifest as `librosa.load` takes them: truncated to samples, not rounded.

`librosa.load(path, offset=start_s, duration=end_s - start_s)` seeks to ``int(offset * rate)`` and reads
``int(duration * rate)`` samples (librosa 0.11, `librosa.core.audio`). Where the end is open, the duration
is the file's as `librosa.get_duration` tells it, frames / rate: that truncates to one sample less for some.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from featurestore.archives.names import reading_order
from featurestore.audio.containers import missing_part
from featurestore.audio.segment import END_TOLERANCE_S, AudioError, header
from featurestore.manifest.table import Manifest


def as_librosa_cuts(manifest: Manifest, workers: int) -> Manifest:
    """The manifest with the times of the samples that librosa would read.

    They are whole samples, so that whoever rounds them gets the same. A row that holds no sample ends where
    it starts. Rows of files that cannot be read, and whole files that are cut short, stay, to fail.

    Args:
        manifest: as given.
        workers: threads that read headers.
    """
    table = manifest.table
    paths = table["path"].to_numpy(dtype=object)
    unique = sorted(set(paths), key=reading_order)
    with ThreadPoolExecutor(workers) as pool:
        found = dict(zip(unique, pool.map(_header, unique), strict=True))
    headers = np.array([found[p] for p in paths], dtype=np.float64).reshape(-1, 2)
    n_frames, rate = headers[:, 0], headers[:, 1]
    given_start, given_end = (table[c].to_numpy(dtype=np.float64) for c in ("start_s", "end_s"))
    start = np.where(np.isnan(given_start), 0.0, given_start)
    end = np.where(np.isnan(given_end), n_frames / rate, given_end)
    # The order of operations is librosa's: another one truncates other rows.
    first = np.trunc(start * rate)
    n_samples = np.maximum(np.trunc((end - start) * rate), 0)
    # An open end stays open where it loses nothing or the file is cut short: a given one takes what is there.
    is_open = np.isnan(given_end)
    keep_end = np.isnan(rate) | (is_open & (first + n_samples == n_frames))
    for row in np.flatnonzero(is_open & ~keep_end):
        keep_end[row] = bool(missing_part(paths[row], int(n_frames[row]), END_TOLERANCE_S, int(rate[row])))
    keep_start = np.isnan(rate) | np.isnan(given_start)
    times = {
        "start_s": np.where(keep_start, given_start, first / rate),
        "end_s": np.where(keep_end, given_end, (first + n_samples) / rate),
    }
    return replace(manifest, table=table.assign(**times))


def _header(path: str) -> tuple[float, float]:
    """Frames and rate of a file; NaN where it cannot be read."""
    try:
        n_frames, rate = header(path)
    except AudioError:
        return float("nan"), float("nan")
    return float(n_frames), float(rate)
