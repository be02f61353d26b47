"""Label tracks of Audacity, plain and extended (with frequencies).

https://manual.audacityteam.org/man/importing_and_exporting_labels.html
Read here and not through crowsetta, which rounds to milliseconds, guesses the type of labels and
takes either all lines extended or none.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from featurestore.corpora.annotations import AUDIO_OPTION, AudioIndex, annotation_files
from featurestore.corpora.base import Corpus, Draft
from featurestore.corpora.tables import passed_over
from featurestore.errors import ManifestError

_FREQUENCIES = "\\"  # an extended line: \<TAB>low<TAB>high, belongs to the line above


def read(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read one label track or all below a folder."""
    root, files = annotation_files(source, (".txt",))
    index = AudioIndex(source, audio)
    cells: list[tuple[str, float, float, str]] = []
    other_text = []
    for file in files:
        labels = _labels(root / file)
        if labels is None and source.is_dir():
            other_text.append(file)
            continue
        if labels is None:
            raise ManifestError(f"{source}: expected lines of start, end and label between tabs, found none")
        sound = index.of_annotation(file)
        cells += [(sound, *label) for label in labels]
    rows = pd.DataFrame(cells, columns=["file", "start_s", "end_s", "label"])
    rows.insert(1, "path", rows["file"].map(lambda f: str(index.root / f)))
    notes = passed_over(other_text, "without labels")
    return Draft(rows=rows, groups={"recording": rows["file"]}, notes=notes)


def _labels(path: Path) -> list[tuple[float, float, str]] | None:
    """Start, end and label of each line; None if the first line is none, so it is some other text."""
    labels: list[tuple[float, float, str]] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t", 2)
        if not line.strip() or fields[0] == _FREQUENCIES:
            continue
        try:
            # Audacity writes the decimal sign of the user's language.
            start_s, end_s = (float(f.replace(",", ".")) for f in fields[:2])
        except ValueError:
            if not labels:
                return None
            raise ManifestError(
                f"{path}: line {number}: expected start, end and label between tabs, "
                f"got {line[:60]!r}; correct it"
            ) from None
        labels.append((start_s, end_s, fields[2] if len(fields) > 2 else ""))
    return labels or None


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
