"""Columns of a manifest from what recorders wrote into files; and files that are time-expanded, refused."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pandas as pd

from featurestore.audio.blocks import SoundError, read_header
from featurestore.audio.recorder_header import RecorderHeader, read_recorder_header
from featurestore.audio.time_expansion import EXPANSION_COLUMN, refuse_time_expanded
from featurestore.corpora.audio_files import name_some
from featurestore.manifest.column_names import RECORDER_COLUMNS
from featurestore.names import is_whole_number
from featurestore.printable import counted

# Of `RecorderHeader`, in the order of `RECORDER_COLUMNS`.
_FIELDS = ("recorder", "serial", "recorded_at", "latitude", "longitude", "time_expansion")
_WITH_HEADERS = (".wav", ".wave", ".rf64")


def with_recorder_columns(
    rows: pd.DataFrame, source: Path, *, time_expanded: bool = False
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Rows of a `Draft` with what their recorders wrote, without columns that say nothing; notes on it.

    Args:
        rows: with ``path`` and ``file``; a column of theirs is never replaced.
        source: the folder, for messages.
        time_expanded: take time-expanded files as they play, with a column of how much slower that is.

    Raises:
        ManifestError: a file is time-expanded, or may be, and that was not asked for.
    """
    files = dict(zip(rows["file"], rows["path"], strict=True))
    wav = {f: p for f, p in files.items() if PurePosixPath(f).suffix.lower() in _WITH_HEADERS}
    read = {file: read_recorder_header(path) for file, path in wav.items()}
    headers = {file: header for file, header in read.items() if header is not None}
    if not headers:
        return rows, ()
    slow = {file: header for file, header in headers.items() if header.expansion != 1}
    if slow and not time_expanded:
        refuse_time_expanded(slow, files, source)
    columns = zip(RECORDER_COLUMNS, _FIELDS, strict=True)
    found = {ours: {f: getattr(h, name) for f, h in headers.items()} for ours, name in columns}
    if slow:
        found[EXPANSION_COLUMN] = {file: header.time_expansion or "1" for file, header in headers.items()}
    else:
        del found[EXPANSION_COLUMN]
    kept = {c: cells for c, cells in found.items() if c not in rows and any(cells.values())}
    new = {c: rows["file"].map(cells).fillna("").astype("str") for c, cells in kept.items()}
    return rows.assign(**new), _notes(headers, list(kept), [c for c in found if c in rows], files)


def _notes(
    headers: dict[str, RecorderHeader], kept: list[str], taken: list[str], files: dict[str, str]
) -> tuple[str, ...]:
    notes = []
    if kept:
        notes.append(
            f"{', '.join(kept)} from the headers (GUANO, WAMD) of {counted(len(headers), 'file')}"
            + (f"; {len(files) - len(headers):,} have none" if len(files) > len(headers) else "")
        )
    if taken:
        notes.append(f"headers of recorders were not taken for columns that are there: {', '.join(taken)}")
    if unread := [f"{file} ({header.unread})" for file, header in headers.items() if header.unread]:
        notes.append(f"headers that cannot be read: {name_some(unread)}")
    if other := [file for file, header in headers.items() if _is_of_other_rate(header, files[file])]:
        notes.append(
            "recorded at another rate than the file has, and not time-expanded, so probably resampled since: "
            + name_some(other)
        )
    return tuple(notes)


def _is_of_other_rate(header: RecorderHeader, path: str) -> bool:
    if header.expansion != 1 or not is_whole_number(header.sample_rate_hz):
        return False
    try:
        return read_header(path).sample_rate_hz != int(header.sample_rate_hz)
    except SoundError:
        return False
