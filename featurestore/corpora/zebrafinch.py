"""Zebra finch vocal repertoires (Elie & Theunissen); everything is in the file names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from featurestore.corpora.audio_files import clip_rows, named_files
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.tables import look_up

# Aggressive, begging, distance, distress, long tonal, nest, song, tet, thuck, tuck, whine.
CALLTYPES = ("Ag", "Be", "DC", "Di", "LT", "Ne", "So", "Te", "Th", "Tu", "Wh")
_CANONICAL = {c.lower(): c for c in CALLTYPES}
# WhiBlu4818_110404-DC-02: bird, yymmdd, call type, rendition. Some names have - for _ or nothing before
# the call type; only its first two letters count.
_NAME = r"^(?P<bird>[A-Za-z]+\d+[A-Za-z]*)[_-](?P<date>\d{6})[_-]?(?P<calltype>[A-Za-z]{2})"
AGES = {"AdultVocalizations": "adult", "ChickVocalizations": "chick"}


def read(source: Path) -> Draft:
    """Read the names of all ``.wav`` files below `source`, sorted."""
    files, parts, others = named_files(source, _NAME, (".wav",))
    notes = list(others)
    bird = _one_spelling(parts["bird"], notes)
    calltype = parts["calltype"].map(lambda c: _CANONICAL.get(c.lower(), c))
    extra = calltype[~calltype.isin(CALLTYPES)]
    if len(extra):
        sizes = ", ".join(f"{c} ({n})" for c, n in extra.value_counts().sort_index().items())
        notes.append(f"kept call types that the paper does not have: {sizes}")
    folder = files.str.extract(f"({'|'.join(AGES)})/", expand=False)
    age = look_up(folder, AGES)
    rows = clip_rows(source, files, calltype=calltype, bird=bird, age=age, date=parts["date"])
    return Draft(
        rows=rows,
        groups={"bird": bird, "session": bird + "_" + parts["date"]},
        notes=tuple(notes),
    )


def _one_spelling(birds: pd.Series, notes: list[str]) -> pd.Series:
    """Names that differ in case only become the most frequent spelling (then the first by alphabet)."""
    sizes = birds.value_counts()
    names = sorted(sizes.index, key=lambda name: (-sizes[name], name))
    chosen = {name.lower(): name for name in reversed(names)}
    merged = sorted(n for n in names if chosen[n.lower()] != n)
    if merged:
        notes.append("merged " + ", ".join(f"{n} -> {chosen[n.lower()]}" for n in merged))
    return birds.map(lambda n: chosen[n.lower()])


ZEBRAFINCH = Corpus(
    name="zebrafinch",
    title="Vocal repertoires from adult and chick, male and female zebra finches",
    licence="see the source",
    citation=(
        "J. E. Elie, F. E. Theunissen. The vocal repertoire of the domesticated zebra finch. Animal "
        "Cognition 19 (2016), 285-315. doi:10.1007/s10071-015-0933-6"
    ),
    where="https://doi.org/10.6084/m9.figshare.11905533",
    groups={"bird": "one bird", "session": "one bird on one day"},
    reader=read,
)
