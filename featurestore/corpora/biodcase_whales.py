"""BioDCASE task 2: calls of Antarctic blue and fin whales (2025 and 2026), with their boxes.

Annotations have dates and times; files are called by the moment that they begin, in UTC:
``2015-02-04T03-00-00_000.wav``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

import pandas as pd

from featurestore.corpora.audio_files import bare_name, clip_rows, list_files, name_some
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.split_parts import part_of
from featurestore.corpora.tables import read_text_table, refuse_row
from featurestore.errors import ManifestError
from featurestore.manifest.column_names import BOX_COLUMNS
from featurestore.printable import counted

SITE, FILE, CALL, ANNOTATOR = "dataset", "filename", "annotation", "annotator"
BOX, TIMES = ("low_frequency", "high_frequency"), ("start_datetime", "end_datetime")
_REQUIRED = (SITE, FILE, CALL, ANNOTATOR, *BOX, *TIMES)
_BEGINS = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d)_(\d{3})(?!\d)")


def read(source: Path) -> Draft:
    """Read all lists ``<part>/annotations/<site and year>.csv`` below `source`."""
    lists = [f for f in list_files(source, [".csv"]) if PurePosixPath(f).parent.name == "annotations"]
    if not lists:
        raise ManifestError(
            f"{source}: expected lists such as train/annotations/casey2014.csv, found none; give the folder "
            "of the development set"
        )
    rows = pd.concat([_rows(source, file) for file in lists], ignore_index=True)
    before = rows["start_s"] < 0
    notes = []
    if before.any():
        places = (rows["file"] + " " + rows["start_s"].astype("str") + " s")[before]
        notes.append(
            f"left out {counted(int(before.sum()), 'call')} from before the beginning of the file named: "
            f"{name_some(list(places))}"
        )
        rows = rows[~before].reset_index(drop=True)
    groups = {"site": rows["site"], "recording": rows["file"].map(bare_name)}
    return Draft(rows=rows, groups=groups, notes=tuple(notes))


def _rows(source: Path, file: str) -> pd.DataFrame:
    path = source / file
    table = read_text_table(path, _REQUIRED, filled=(SITE, FILE, CALL))
    begins = table[FILE].map(_begin)
    refuse_row(
        begins.isna(),
        path,
        lambda i: f"expected a file called like 2015-02-04T03-00-00_000.wav, got {table[FILE][i]!r}",
    )
    times = {name: table[name].map(_moment) for name in TIMES}
    for name, found in times.items():
        _refuse_no_moment(table[name], found.isna(), path)
    start_s, end_s = (
        pd.Series([_seconds(t, b) for t, b in zip(found, begins, strict=True)], index=table.index)
        for found in times.values()
    )
    part = PurePosixPath(file).parent.parent
    names = [
        _file(source, part, file, site.strip(), name.strip())
        for site, name in zip(table[SITE], table[FILE], strict=True)
    ]
    return clip_rows(source, pd.Series(names, index=table.index, dtype="str")).assign(
        start_s=start_s,
        end_s=end_s,
        split=part_of(part.name),
        call=table[CALL].str.strip(),
        site=table[SITE].str.strip(),
        annotator=table[ANNOTATOR].str.strip(),
        **{ours: table[theirs].str.strip() for ours, theirs in zip(BOX_COLUMNS, BOX, strict=True)},
    )


def _refuse_no_moment(cells: pd.Series, bad: pd.Series, path: Path) -> None:
    said = f"expected a date and time in {cells.name!r} such as 2015-02-04T03:27:32.053+00:00"
    refuse_row(bad, path, lambda i: f"{said}, got {cells[i]!r}")


def _file(source: Path, part: PurePosixPath, file: str, site: str, name: str) -> str:
    """A recording, relative: in the folder of its site, or of the list where sites are spelt otherwise."""
    folders = [part / "audio" / site, part / "audio" / PurePosixPath(file).stem]
    folder = next((f for f in folders if (source / f).is_dir()), folders[0])
    return str(folder / name)


def _begin(name: str) -> datetime | None:
    found = _BEGINS.search(name)
    if found is None:
        return None
    day, hour, minute, second, millisecond = found.groups()
    return _moment(f"{day}T{hour}:{minute}:{second}.{millisecond}+00:00")


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _seconds(moment: datetime, begin: datetime) -> float:
    return (moment - begin) / timedelta(microseconds=1) / 1e6


BIODCASE_WHALES = Corpus(
    name="biodcase-whales",
    title="BioDCASE whale calls",
    licence="see the source",
    citation="BioDCASE challenge, task 2 (2025, 2026); B. S. Miller et al. Scientific Reports 11 (2021), 806",
    where="https://zenodo.org/records/15092732",
    groups={"site": "one site in one year", "recording": "one audio file"},
    reader=read,
)
