"""Matches that Arbimon exports of a pattern matching, with what people said of them.

Columns are those that its server writes (rfcx/arbimon-legacy, routes of pattern matchings): ``x1`` and ``x2``
in seconds, ``y1`` and ``y2`` in hertz, in any order. A recording is called by its name alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from featurestore.corpora.annotations import AUDIO_OPTION, Annotations, annotation_format, stacked
from featurestore.corpora.audio_files import name_some, passed_over
from featurestore.corpora.interface import Draft
from featurestore.corpora.tables import read_text_table, refuse_row, seconds
from featurestore.errors import ManifestError
from featurestore.manifest.column_names import BOX_COLUMNS
from featurestore.printable import counted
from featurestore.untrusted.text_table import first_row

FILE, SITE, ID, VALIDATED = "recording", "site", "id", "validated"
TIMES, FREQUENCIES, WHAT, WHEN = (
    ("x1", "x2"),
    ("y1", "y2"),
    ("species", "songtype"),
    ("year", "month", "day", "hour", "minute"),
)
_REQUIRED = (FILE, SITE, *TIMES, *FREQUENCIES)
_ABSENT, _UNSEEN = "not present", "(not validated)"
_NOT_LABELS = (FILE, ID, *TIMES, *FREQUENCIES, *WHEN, *WHAT, VALIDATED, "frequency", "url")


@dataclass
class _Tally:
    """What is told of all tables together, and the site of each recording."""

    n_absent: int = 0
    n_unseen: int = 0
    sites: dict[str, str] = field(default_factory=dict)

    def notes(self) -> list[str]:
        said = []
        if self.n_absent:
            said.append(
                f"{counted(self.n_absent, 'match')} validated as not present: species and songtype are empty "
                "there, 'searched' has them"
            )
        if self.n_unseen:
            said.append(f"{counted(self.n_unseen, 'match')} not validated, which are guesses of the template")
        return said


def read(source: Path, *, audio: str | Path | None = None) -> Draft:
    """Read one table of matches or all below a folder.

    Audio is ``<site>/<recording>``, else ``<recording>``, which must then be of one site alone.
    """
    annotations = Annotations(source, audio, (".csv",))
    tables, other, tally = [], [], _Tally()
    for file in annotations.files:
        if set(_REQUIRED) <= set(first_row(annotations.folder / file)) or not source.is_dir():
            tables.append(_rows(file, annotations, tally))
        else:
            other.append(file)
    if not tables:
        raise ManifestError(
            f"{source}: found no matches of Arbimon, a CSV with columns {', '.join(map(repr, _REQUIRED))}; "
            f"other tables: {name_some(other)}"
        )
    notes = [*passed_over(other, "that are no such tables"), *tally.notes()]
    return annotations.draft(stacked(tables), [*notes, *annotations.renamed_note()])


def _rows(file: str, annotations: Annotations, tally: _Tally) -> pd.DataFrame:
    path = annotations.folder / file
    table = read_text_table(path, _REQUIRED, filled=(FILE,))
    low_s, high_s = (seconds(table[name], path) for name in TIMES)
    absent = table[VALIDATED].str.strip() == _ABSENT if VALIDATED in table else pd.Series(False, table.index)
    tally.n_absent += int(absent.sum())
    tally.n_unseen += int((table[VALIDATED].str.strip() == _UNSEEN).sum()) if VALIDATED in table else 0
    what = {c: table[c].str.strip() for c in WHAT if c in table}
    cells = {c: cells.where(~absent, "") for c, cells in what.items()}
    if what and absent.any():
        cells["searched"] = pd.DataFrame(what).agg(" ".join, axis=1).str.strip()
    if VALIDATED in table:
        cells[VALIDATED] = table[VALIDATED].str.strip()
    cells |= {c: table[c].str.strip() for c in table.columns if c not in _NOT_LABELS and c.strip()}
    return pd.DataFrame(
        {
            "file": _audio(file, annotations, table, tally),
            "start_s": pd.concat([low_s, high_s], axis=1).min(axis=1),
            "end_s": pd.concat([low_s, high_s], axis=1).max(axis=1),
            **annotations.label_columns(pd.DataFrame(cells, index=table.index), cells),
            **_recorded_at(table),
            **({"selection": table[ID].str.strip()} if ID in table else {}),
            **_box(table, path),
        }
    )


def _audio(file: str, annotations: Annotations, table: pd.DataFrame, tally: _Tally) -> pd.Series:
    """The audio of each row.

    Raises:
        ManifestError: recordings of two sites have one name, and lie in no folders of their sites.
    """
    found: dict[tuple[str, str], str] = {}
    for site, name in dict.fromkeys(zip(table[SITE].str.strip(), table[FILE].str.strip(), strict=True)):
        sound = annotations.of_first([f"{site}/{name}", name] if site else [name], file)
        if (other := tally.sites.setdefault(sound, site)) != site:
            raise ManifestError(
                f"{annotations.folder / file}: {name} is a recording of {other!r} and of {site!r}, and only "
                f"{sound} is there; keep the audio of each site in a folder of its name"
            )
        found[site, name] = sound
    keys = zip(table[SITE].str.strip(), table[FILE].str.strip(), strict=True)
    return pd.Series([found[key] for key in keys], index=table.index, dtype="str")


def _recorded_at(table: pd.DataFrame) -> dict[str, pd.Series]:
    """The minute at which a recording began, as one text."""
    if not set(WHEN) <= set(table):
        return {}
    year, month, day, hour, minute = (table[c].str.strip().str.zfill(2) for c in WHEN)
    return {"recorded_at": year + "-" + month + "-" + day + "T" + hour + ":" + minute}


def _box(table: pd.DataFrame, path: Path) -> dict[str, pd.Series]:
    """Lowest and highest frequency as text, whichever column has which."""
    numbers = [pd.to_numeric(table[c], errors="coerce") for c in FREQUENCIES]
    for name, found in zip(FREQUENCIES, numbers, strict=True):
        _refuse_no_hertz(table[name], found.isna(), path)
    first, second = (table[c].str.strip() for c in FREQUENCIES)
    is_risen = numbers[0] <= numbers[1]
    return dict(zip(BOX_COLUMNS, (first.where(is_risen, second), second.where(is_risen, first)), strict=True))


def _refuse_no_hertz(cells: pd.Series, bad: pd.Series, path: Path) -> None:
    refuse_row(bad, path, lambda i: f"expected hertz in {cells.name!r}, got {cells[i]!r}")


ARBIMON = annotation_format("arbimon", "matches of Arbimon", read, options={"audio": AUDIO_OPTION})
