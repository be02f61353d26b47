"""Label tracks of Audacity, plain and extended (with frequencies).

https://manual.audacityteam.org/man/importing_and_exporting_labels.html
Read here and not through crowsetta, which rounds to milliseconds, guesses the type of labels and
takes either all lines extended or none.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd

from featurestore.corpora.annotations import AUDIO_OPTION, AudioIndex, annotation_files, bare_name
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.tables import count, name_some, passed_over
from featurestore.errors import ManifestError
from featurestore.untrusted.text_table import TextTableError, read_text

_FREQUENCIES = "\\"  # an extended line: \<TAB>low<TAB>high, belongs to the line above
_FIRST_FURTHER = 4  # fields behind the label, which Audacity itself does not write, are called by their place

# Start, end, label and further fields of a line.
Label = tuple[float, float, str, tuple[str, ...]]


def read(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read one label track or all below a folder."""
    root, files = annotation_files(source, (".txt",))
    index = AudioIndex(source, audio)
    cells: list[tuple[str, Label]] = []
    other_text = []
    for file in files:
        labels = _labels(root / file)
        if labels is None and source.is_dir():
            other_text.append(file)
            continue
        if labels is None:
            raise ManifestError(f"{source}: expected lines of start, end and label between tabs, found none")
        sound = index.of_annotation(file)
        cells += [(sound, label) for label in labels]
    rows = pd.DataFrame(
        [(file, start_s, end_s, label) for file, (start_s, end_s, label, _) in cells],
        columns=["file", "start_s", "end_s", "label"],
    )
    further = [label[3] for _, label in cells]
    names = [f"field_{_FIRST_FURTHER + i}" for i in range(max(map(len, further), default=0))]
    for i, name in enumerate(names):
        rows[name] = [fields[i] if i < len(fields) else "" for fields in further]
    notes = list(index.notes())
    if names:
        n = sum(map(bool, further))
        notes.append(f"{count(n, 'line')} with fields behind the label, kept as {name_some(names)}")
    notes += passed_over(other_text, "without labels")
    return Draft(
        rows=index.rows(rows),
        groups={"recording": rows["file"].map(bare_name)},
        notes=tuple(notes),
        hint=index.hint,
    )


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
    return float(text) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) else math.nan


AUDACITY = Corpus(
    name="audacity",
    title="Audacity label tracks",
    licence="yours",
    citation="",
    where="your own annotations",
    groups={"recording": "one audio file"},
    options={"audio": AUDIO_OPTION},
    reader=read,
    takes_file=True,
)
