"""Label tracks of Audacity, plain and extended (with frequencies).

https://manual.audacityteam.org/man/importing_and_exporting_labels.html
Read here and not through crowsetta, which rounds to milliseconds, guesses the type of labels and
takes either all lines extended or none.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from featurestore.corpora.annotations import Annotations, annotation_format
from featurestore.corpora.audio_files import name_some, passed_over
from featurestore.corpora.interface import Draft
from featurestore.errors import ManifestError
from featurestore.printable import counted
from featurestore.spreadsheet import NUMBER
from featurestore.untrusted.text_table import TextTableError, read_text

_FREQUENCIES = "\\"  # an extended line: \<TAB>low<TAB>high, belongs to the line above
_FIRST_FURTHER = 4  # fields behind the label, which Audacity itself does not write, are called by their place

# Start, end, label and further fields of a line.
Label = tuple[float, float, str, tuple[str, ...]]


def read(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read one label track or all below a folder."""
    annotations = Annotations(source, audio, (".txt",))
    cells: list[tuple[str, Label]] = []
    other_text = []
    for file in annotations.files:
        labels = _labels(annotations.folder / file)
        if labels is not None:
            sound = annotations.of_annotation(file)
            cells += [(sound, label) for label in labels]
        elif source.is_dir():
            other_text.append(file)
        else:
            raise ManifestError(f"{source}: expected lines of start, end and label between tabs, found none")
    rows = pd.DataFrame(
        [(file, start_s, end_s, label) for file, (start_s, end_s, label, _) in cells],
        columns=["file", "start_s", "end_s", "label"],
    )
    further = [label[3] for _, label in cells]
    names = [f"field_{_FIRST_FURTHER + i}" for i in range(max(map(len, further), default=0))]
    for i, name in enumerate(names):
        rows[name] = [fields[i] if i < len(fields) else "" for fields in further]
    notes = []
    if names:
        n = sum(map(bool, further))
        notes.append(f"{counted(n, 'line')} with fields behind the label, kept as {name_some(names)}")
    return annotations.draft(rows, [*notes, *passed_over(other_text, "without labels")])


def _labels(path: Path) -> list[Label] | None:
    """The lines that are labels; None if the first line is none, so it is some other text."""
    labels: list[Label] = []
    try:
        # Only line feeds end a line: a label may hold any other character that Python would break at.
        lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except TextTableError as error:
        if path.stat().st_size == 0:
            return None
        raise ManifestError(f"{path}: {error}") from None
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if not line.strip() or fields[0] == _FREQUENCIES:
            continue
        start_s, end_s = _seconds(fields[0]), _seconds(fields[1]) if len(fields) > 1 else math.nan
        if math.isnan(start_s) or math.isnan(end_s):
            if not labels:
                return None
            raise ManifestError(
                f"{path}: line {number}: expected start, end and label between tabs, "
                f"got {line[:60]!r}; correct it"
            )
        further = fields[3:]
        while further and not further[-1].strip():  # a separator at the end of the line
            further.pop()
        labels.append((start_s, end_s, fields[2] if len(fields) > 2 else "", tuple(further)))
    return labels or None


def _seconds(field: str) -> float:
    """Audacity writes the decimal sign of the user's language; NaN for what is no time."""
    text = field.strip().replace(",", ".")
    return float(text) if NUMBER.fullmatch(text) else math.nan


AUDACITY = annotation_format("audacity", "Audacity label tracks", read)
