"""The two CSV formats of crowsetta: onset, offset and label of segments, one file each or one for all.

Read here and not through crowsetta, which guesses the type of labels (``01`` becomes 1).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from featurestore.corpora.annotations import AUDIO_OPTION, AudioIndex, annotation_files, bare_name
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.tables import read_text_table, seconds

SEGMENT = ("onset_s", "offset_s", "label")


def read_simple(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read simple-seq: one CSV of segments for each audio file of the same name."""
    root, files = annotation_files(source, (".csv", ".txt"))
    index = AudioIndex(source, audio)
    tables = []
    for file in files:
        table = read_text_table(root / file, SEGMENT)
        sound = index.of_annotation(file)
        tables.append(_rows(table, root / file, pd.Series(sound, table.index, dtype="str")))
    return _draft(tables, index)


def read_generic(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read generic-seq: CSV of segments with the audio file of each in ``notated_path``."""
    root, files = annotation_files(source, (".csv",))
    index = AudioIndex(source, audio)
    tables = []
    for file in files:
        table = read_text_table(root / file, (*SEGMENT, "notated_path"), filled=("notated_path",))
        names = {f: index.of_name(f, file) for f in table["notated_path"].unique()}
        tables.append(_rows(table, root / file, table["notated_path"].map(names)))
    return _draft(tables, index)


def _rows(table: pd.DataFrame, path: Path, file: pd.Series) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "file": file,
            "start_s": seconds(table["onset_s"], path),
            "end_s": seconds(table["offset_s"], path),
            "label": table["label"],
        }
    )


def _draft(tables: list[pd.DataFrame], index: AudioIndex) -> Draft:
    rows = pd.concat(tables, ignore_index=True)
    return Draft(
        rows=index.rows(rows),
        groups={"recording": rows["file"].map(bare_name)},
        notes=index.notes(),
        hint=index.hint,
    )


SIMPLE_SEQ = Corpus(
    name="simple-seq",
    title="segments in CSV, one file per recording",
    licence="yours",
    citation="",
    where="your own annotations",
    groups={"recording": "one audio file"},
    options={"audio": AUDIO_OPTION},
    reader=read_simple,
    takes_file=True,
)
GENERIC_SEQ = Corpus(
    name="generic-seq",
    title="segments in CSV with the recording's name",
    licence="yours",
    citation="",
    where="your own annotations",
    groups={"recording": "one audio file"},
    options={"audio": AUDIO_OPTION},
    reader=read_generic,
    takes_file=True,
)
