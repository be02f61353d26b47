"""Files that play slower than they sounded, as bat detectors write them: told by the header of the recorder.

All frequencies and times of such a file are wrong by its factor, unless it is meant as it plays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from featurestore.archives.names import kind_of, reading_order, split_member
from featurestore.archives.object_file import is_object
from featurestore.audio.blocks import SoundError, read_header
from featurestore.audio.recorder_header import RecorderHeader, read_recorder_header
from featurestore.errors import ManifestError
from featurestore.printable import counted

#: Of manifests: how many times slower a file plays, as its recorder wrote it.
EXPANSION_COLUMN = "time_expansion"
# A recorder's files are mostly all of one kind; a row group of Parquet has up to gigabytes.
MOST_UNPACKED = 16
# Of a factor that is none: a recorder's field has any length.
_SHOWN = 40


def check_time_expansion(
    paths: Iterable[str],
    where: object,
    *,
    is_asked: bool,
    workers: int,
    said: Mapping[str, str] = {},
) -> list[str]:
    """A note on files that are taken as they play, though they are time-expanded; none where there are none.

    Args:
        paths: of the files. They are looked at no further than to the chunks around their samples.
        where: the manifest or the like that names them, for a message.
        is_asked: take all of them as they play.
        workers: threads that read headers.
        said: what the manifest has in its column ``time_expansion``, by path. Who wrote there what the header
            says, as `fs manifest folder --time-expanded` does, has asked for it.

    Raises:
        ManifestError: a file is time-expanded, or may be, and that was not asked for.
    """
    slow = time_expanded(set(paths), workers)
    unasked = {path: header for path, header in slow.items() if said.get(path) != header.time_expansion}
    if unasked and not is_asked:
        refuse_time_expanded(unasked, {path: path for path in unasked}, where)
    if not slow:
        return []
    path, header = next(iter(slow.items()))
    return [
        f"{counted(len(slow), 'file')} taken as {'it plays' if len(slow) == 1 else 'they play'}, though "
        f"time-expanded by the header of the recorder: {path} is {header.time_expansion} times slower than "
        f"it sounded{'' if len(slow) == 1 else ', and so on'}"
    ]


def expansions_of(table: pd.DataFrame) -> dict[str, str]:
    """What the column ``time_expansion`` of a manifest has, by path; nothing where there is none."""
    if EXPANSION_COLUMN not in table:
        return {}
    return dict(zip(table["path"], table[EXPANSION_COLUMN], strict=True))


def time_expanded(paths: Iterable[str], workers: int) -> dict[str, RecorderHeader]:
    """Those of these files that their recorder says to be time-expanded, sorted, with what it wrote.

    Members of zip and Parquet would have to be unpacked for it, those of archives in a bucket fetched: of
    each such archive the first is looked at, of `MOST_UNPACKED` archives.
    """
    looked_at = _cheaply(sorted(paths, key=reading_order))
    with ThreadPoolExecutor(workers) as pool:
        headers = zip(looked_at, pool.map(read_recorder_header, looked_at), strict=True)
        return {path: header for path, header in headers if header is not None and header.expansion != 1}


def _cheaply(paths: Iterable[str]) -> list[str]:
    """Those whose header can be read by itself, and one of each archive where it cannot."""
    found: list[str] = []
    unpacked: set[str] = set()
    for path in paths:
        archive, _ = split_member(path) or ("", "")
        if not archive or (kind_of(archive) == "tar" and not is_object(archive)):
            found.append(path)
        elif archive not in unpacked and len(unpacked) < MOST_UNPACKED:
            unpacked.add(archive)
            found.append(path)
    return found


def refuse_time_expanded(slow: Mapping[str, RecorderHeader], paths: Mapping[str, str], where: object) -> None:
    """Refuse files that are time-expanded: one line on the first, and how many there are.

    Args:
        slow: by the names that the message has for them; at least one.
        paths: of the files, by these names.
        where: the manifest or the folder.

    Raises:
        ManifestError: always.
    """
    file, header = next(iter(slow.items()))
    others = "" if len(slow) == 1 else f"; so {'is' if len(slow) == 2 else 'are'} {len(slow) - 1:,} more"
    advice = "or take such files as they play with --time-expanded"
    if header.expansion != header.expansion:
        raise ManifestError(
            f"{where}: {file} says that it is time-expanded by {header.time_expansion[:_SHOWN]!r}, "
            f"which is no factor{others}; correct its header, {advice}"
        )
    said = f"{where}: {file} is time-expanded: it plays {header.expansion:g} times slower than it sounded"
    try:
        true_hz = round(read_header(paths[file]).sample_rate_hz * header.expansion)
        mend = f"write it at its true rate, {true_hz:,} Hz (sox -r {true_hz} IN.wav OUT.wav), "
    except SoundError:  # told when it is read
        mend = "write it at its true rate, "
    raise ManifestError(f"{said}{others}; {mend}{advice}")
