"""Tables of Kaleidoscope (Wildlife Acoustics): ``cluster.csv`` of clusters and ``id.csv`` of bats.

Columns are those of its user guide; a star behind a name (``TOP1MATCH*``) marks one that may be edited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from featurestore.corpora.annotations import AUDIO_OPTION, Annotations, annotation_format, stacked
from featurestore.corpora.audio_files import name_some, passed_over
from featurestore.corpora.interface import Draft
from featurestore.corpora.tables import channels, exact_sum, read_text_table, refuse_row, seconds
from featurestore.errors import ManifestError
from featurestore.manifest.column_names import BOX_COLUMNS
from featurestore.untrusted.text_table import first_row

ROOT, FOLDER, FILE, OFFSET, DURATION, CHANNEL = "INDIR", "FOLDER", "IN FILE", "OFFSET", "DURATION", "CHANNEL"
_REQUIRED = (FILE, OFFSET, DURATION)
_CLUSTER = "TOP1MATCH"
_BOX = ("Fmin", "Fmax")
# No call of a bat is higher; clusters are of what is lower, in hertz.
_MOST_KHZ = 250
_NOT_LABELS = frozenset(
    (
        f"{ROOT},OUTDIR,{FILE},{OFFSET},{DURATION},{CHANNEL},OUT FILE,OUT FILE FS,OUT FILE ZC,HOUR,DATE-12,"
        "TIME-12,HOUR-12,FILES,VOCALIZATIONS,USERID,REVIEW ORGID,REVIEW ORIGID,REVIEW USERID,INFILEMD5,"
        "OUTFILEMD5FS,OUTFILEMD5ZC,TOP1DIST,TOP2DIST,TOP3DIST,PULSES,MATCHING,MATCH RATIO,MARGIN,N,Fc,Sc,Dur,"
        "Fmax,Fmin,Fmean,TBC,Fk,Tk,S1,Tc,Qual"
    ).split(",")
)


@dataclass
class _Tally:
    """Tables whose frequencies may be in hertz or kilohertz."""

    without_unit: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        if not self.without_unit:
            return []
        names = name_some(self.without_unit)
        return [f"frequencies of at most {_MOST_KHZ}, which may be Hz or kHz, so there is no box: {names}"]


def read(
    source: Path, *, label_column: str | Sequence[str] | None = None, audio: str | Path | None = None
) -> Draft:
    """Read one table or all below a folder.

    Args:
        source: the table or the folder.
        label_column: columns to keep as labels; default the results, the folder, and what a user added.
        audio: folder of the audio.
    """
    annotations = Annotations(source, audio, (".csv",))
    wanted = [label_column] if isinstance(label_column, str) else list(label_column or [])
    tables, other, tally = [], [], _Tally()
    for file in annotations.files:
        names = map(_name, first_row(annotations.folder / file))
        if set(_REQUIRED) <= set(names) or not source.is_dir():
            tables.append(_rows(file, annotations, wanted, tally))
        else:
            other.append(file)
    if not tables:
        raise ManifestError(
            f"{source}: found no table of Kaleidoscope, a CSV with columns "
            f"{', '.join(map(repr, _REQUIRED))}; other tables: {name_some(other)}"
        )
    rows = stacked(tables)
    notes = [*passed_over(other, "that are no such tables"), *tally.notes()]
    return annotations.draft(rows, [*notes, *annotations.renamed_note()])


def _name(written: str) -> str:
    return written.strip().removesuffix("*")


def _rows(file: str, annotations: Annotations, wanted: list[str], tally: _Tally) -> pd.DataFrame:
    path = annotations.folder / file
    # Some versions write the input folder at both ends of a row.
    table = read_text_table(path, (*_REQUIRED, *wanted), filled=(FILE,), copies=True, name_of=_name)
    start, length_s = seconds(table[OFFSET], path), seconds(table[DURATION], path)
    refuse_row(length_s < 0, path, lambda i: f"{DURATION!r} is {table[DURATION][i]}; correct it")
    written = table[CHANNEL] if CHANNEL in table else pd.Series("", index=table.index, dtype="str")
    labels = wanted or [c for c in table.columns if c and c not in _NOT_LABELS]
    return pd.DataFrame(
        {
            "file": annotations.of_rows(file, table, named_audio(table)),
            "start_s": start,
            "end_s": exact_sum([table[OFFSET], table[DURATION]]),
            "channel": channels(written, path, first=0),
            **annotations.label_columns(table, labels),
            **_box(table, path, tally),
        }
    )


def named_audio(table: pd.DataFrame) -> pd.Series:
    """The path of each row's audio, of the columns that Kaleidoscope has for its parts."""
    named = table[FILE].str.strip()
    for column in (FOLDER, ROOT):
        if column in table:
            folder = table[column].str.strip().str.rstrip("/\\")
            if column == FOLDER:  # within the root
                folder = folder.str.lstrip("/\\")
            named = named.where(folder == "", folder + "/" + named)
    return named


def _box(table: pd.DataFrame, path: Path, tally: _Tally) -> dict[str, pd.Series]:
    """Lowest and highest frequency in hertz; of bats a table has averages over calls, and no box."""
    if _CLUSTER not in table or not set(_BOX) <= set(table):
        return {}
    numbers = pd.to_numeric(table[_BOX[1]].str.strip().replace("", "nan"), errors="coerce")
    if not (numbers > _MOST_KHZ).any():
        tally.without_unit.append(path.name)
        return {}
    return {ours: table[theirs].str.strip() for ours, theirs in zip(BOX_COLUMNS, _BOX, strict=True)}


KALEIDOSCOPE = annotation_format(
    "kaleidoscope",
    "tables of Kaleidoscope",
    read,
    options={
        "label_column": "column to keep as a label, may be repeated (default: results, folder and your own)",
        "audio": AUDIO_OPTION,
    },
)
