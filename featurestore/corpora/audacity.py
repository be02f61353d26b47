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
from featurestore.manifest.column_names import BOX_COLUMNS
from featurestore.printable import counted
from featurestore.spreadsheet import NUMBER
from featurestore.untrusted.text_table import TextTableError, read_text

_FREQUENCIES = "\\"  # an extended line: \<TAB>low<TAB>high, belongs to the line above
_FIRST_FURTHER = 4  # fields behind the label, which Audacity itself does not write, are called by their place


def read(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read one label track or all below a folder."""
    annotations = Annotations(source, audio, (".txt",))
    cells: list[dict[str, str | float]] = []
    other_text = []
    for file in annotations.files:
        labels = _labels(annotations.folder / file)
        if labels:
            sound = annotations.of_annotation(file)
            cells += [{"file": sound, **label} for label in labels]
        elif source.is_dir():
            other_text.append(file)
        else:
            raise ManifestError(f"{source}: expected lines of start, end and label between tabs, found none")
    rows = pd.DataFrame(cells, columns=None if cells else ["file", "start_s", "end_s", "label"])
    boxes = [c for c in BOX_COLUMNS if c in rows]
    rows[boxes] = rows[boxes].fillna("")
    notes = []
    if further := [str(c) for c in rows.columns if str(c).startswith("field_")]:
        n = int(rows[further[0]].notna().sum())
        notes.append(f"{counted(n, 'line')} with fields behind the label, kept as {name_some(further)}")
        rows[further] = rows[further].fillna("")
    return annotations.draft(rows, [*notes, *passed_over(other_text, "without labels")])


def _labels(path: Path) -> list[dict[str, str | float]]:
    """The lines that are labels; none if the first line is none, so it is some other text."""
    labels: list[dict[str, str | float]] = []
    try:
        # Only line feeds end a line: a label may hold any other character that Python would break at.
        lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except TextTableError as error:
        if path.stat().st_size == 0:
            return []
        raise ManifestError(f"{path}: {error}") from None
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if labels and fields[0] == _FREQUENCIES:
            labels[-1] |= _box(fields)
        if not line.strip() or fields[0] == _FREQUENCIES:
            continue
        start_s, end_s = _seconds(fields[0]), _seconds(fields[1]) if len(fields) > 1 else math.nan
        if math.isnan(start_s) or math.isnan(end_s):
            if not labels:
                return []
            raise ManifestError(
                f"{path}: line {number}: expected start, end and label between tabs, "
                f"got {line[:60]!r}; correct it"
            )
        while len(fields) > 3 and not fields[-1].strip():  # a separator at the end of the line
            fields.pop()
        further = {f"field_{i}": field for i, field in enumerate(fields[3:], start=_FIRST_FURTHER)}
        label = fields[2] if len(fields) > 2 else ""
        labels.append({"start_s": start_s, "end_s": end_s, "label": label, **further})
    return labels


def _box(fields: list[str]) -> dict[str, str | float]:
    """Lowest and highest frequency of an extended line, as text; none where it has no numbers."""
    low, high = (f.strip().replace(",", ".") for f in [*fields[1:3], "", ""][:2])
    if not (NUMBER.fullmatch(low) and NUMBER.fullmatch(high)):
        return {}
    return dict(zip(BOX_COLUMNS, (low, high), strict=True))


def _seconds(field: str) -> float:
    """Audacity writes the decimal sign of the user's language; NaN for what is no time."""
    text = field.strip().replace(",", ".")
    return float(text) if NUMBER.fullmatch(text) else math.nan


AUDACITY = annotation_format("audacity", "Audacity label tracks", read)
