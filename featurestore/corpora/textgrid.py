"""TextGrids of Praat, in the long and the short text format.

https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html: a file is a run of free-standing numbers,
texts in double quotes (a quote in them is doubled, lines may break in them) and flags in angle brackets;
whatever else stands there is for people. Read here and not through crowsetta, whose parser goes by lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from featurestore.corpora.annotations import AUDIO_OPTION, Annotations, annotation_format
from featurestore.corpora.interface import Draft
from featurestore.errors import ManifestError
from featurestore.printable import counted
from featurestore.spreadsheet import NUMBER
from featurestore.untrusted.text_table import TextTableError, read_text

# A text, a flag, a comment to the end of the line, or a word; of words only free-standing numbers count.
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|<(\w+)>|![^\n]*|([^\s"<!]+)', re.ASCII)


# Start and end in seconds, and the text.
Interval = tuple[float, float, str]


def read(source: Path, *, audio: str | Path | None = None, tier: str | None = None) -> Draft:
    """Read one interval tier; intervals without text are left out."""
    annotations = Annotations(source, audio, (".TextGrid",))
    cells: list[tuple[str, float, float, str]] = []
    n_blank = 0
    for file in annotations.files:
        texts = [i for i in _one_tier(annotations.folder / file, tier) if i[2]]
        sound = annotations.of_annotation(file)
        cells += [(sound, *interval) for interval in texts if interval[2].strip()]
        n_blank += sum(not text.strip() for _, _, text in texts)
    rows = pd.DataFrame(cells, columns=["file", "start_s", "end_s", "label"])
    label = pd.DataFrame({tier or "label": rows.pop("label")})
    rows = rows.assign(**annotations.label_columns(label, label.columns))
    blank = (f"left out {counted(n_blank, 'interval')} with nothing but blanks in it",) if n_blank else ()
    return annotations.draft(rows, (*blank, *annotations.renamed_note()))


def _one_tier(path: Path, name: str | None) -> list[Interval]:
    try:
        tiers = _tiers(read_text(path))
    except (TextTableError, ValueError) as error:
        reason = error if isinstance(error, TextTableError) else f"cannot be read as a TextGrid ({error})"
        raise ManifestError(f"{path}: {reason}") from None
    fitting = [intervals for called, intervals in tiers if name is None or called == name]
    if len(fitting) != 1:
        asked = f"{name!r}" if name is not None else "one interval tier"
        found = ", ".join(repr(called) for called, _ in tiers) or "none"
        raise ManifestError(f"{path}: expected {asked}, found {found}; name one with --tier")
    return fitting[0]


def _tiers(text: str) -> list[tuple[str, list[Interval]]]:
    """The interval tiers of a file, by name.

    Raises:
        ValueError: it is no TextGrid, or ends before its time.
    """
    items = _items(text)

    def next_of(kind: type, what: str) -> Any:
        item = next(items, None)
        if item is None:
            raise ValueError(f"ends where {what} should follow")
        if not isinstance(item, kind):
            raise ValueError(f"expected {what}, found {str(item)[:40]!r}")
        return item

    number, word = partial(next_of, float), partial(next_of, _Text)
    if next(items, None) != "ooTextFile" or next(items, None) != "TextGrid":
        raise ValueError('it does not begin with File type "ooTextFile" and Object class "TextGrid"')
    number("the start"), number("the end")
    if next(items, None) != _Flag("exists"):
        return []
    tiers = []
    for _ in range(int(number("the number of tiers"))):
        kind, name = word("the class of a tier"), word("the name of a tier")
        number("the start of the tier"), number("the end of the tier")
        intervals = []
        for i in range(1, int(number("the number of intervals")) + 1):
            where = f"interval {i} of {name!r}"
            start_s = number(f"the time of {where}")
            end_s = number(f"the end of {where}") if kind == "IntervalTier" else start_s
            intervals.append((start_s, end_s, str(word(f"the text of {where}"))))
        if kind == "IntervalTier":
            tiers.append((name, intervals))
    if (rest := next(items, None)) is not None:
        raise ValueError(f"{str(rest)[:40]!r} follows the last tier")
    return tiers


class _Text(str):
    """What stands between quotes."""


class _Flag(str):
    """What stands in angle brackets."""


def _items(text: str) -> Iterator[_Text | _Flag | float]:
    end = 0
    for match in _TOKEN.finditer(text):
        if text[end : match.start()].strip():
            break
        end = match.end()
        quoted, flag, bare = match.groups()
        if quoted is not None:
            yield _Text(quoted.replace('""', '"').replace("\r\n", "\n"))
        elif flag is not None:
            yield _Flag(flag)
        elif bare is not None and NUMBER.fullmatch(bare.removesuffix("%")):
            yield float(bare.removesuffix("%"))
    if rest := text[end:].strip():
        raise ValueError(f"a quote or a bracket is opened and not closed: {rest[:40]!r}")


TEXTGRID = annotation_format(
    "textgrid",
    "Praat TextGrid",
    read,
    options={"audio": AUDIO_OPTION, "tier": "which interval tier (default: the only one)"},
)
