"""The two CSV formats of crowsetta: onset, offset and label of segments, one file each or one for all.

Read here and not through crowsetta, which guesses the type of labels (``01`` becomes 1).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from featurestore.corpora.annotations import Annotations, annotation_format
from featurestore.corpora.interface import Draft
from featurestore.corpora.tables import read_text_table, seconds

SEGMENT = ("onset_s", "offset_s", "label")
AUDIO_NAME = "notated_path"


def read_simple(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read simple-seq: one CSV of segments for each audio file of the same name."""
    return _read(Annotations(source, audio, (".csv", ".txt")), ())


def read_generic(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read generic-seq: CSV of segments with the audio file of each in ``notated_path``."""
    return _read(Annotations(source, audio, (".csv",)), (AUDIO_NAME,))


def _read(annotations: Annotations, named: tuple[str, ...]) -> Draft:
    tables = []
    for file in annotations.files:
        path = annotations.folder / file
        table = read_text_table(path, (*SEGMENT, *named), filled=named)
        sound = annotations.of_rows(file, table, table[AUDIO_NAME] if named else None)
        start, end = seconds(table["onset_s"], path), seconds(table["offset_s"], path)
        tables.append(pd.DataFrame({"file": sound, "start_s": start, "end_s": end, "label": table["label"]}))
    return annotations.draft(pd.concat(tables, ignore_index=True))


SIMPLE_SEQ = annotation_format("simple-seq", "segments in CSV, one file per recording", read_simple)
GENERIC_SEQ = annotation_format("generic-seq", "segments in CSV with the recording's name", read_generic)
