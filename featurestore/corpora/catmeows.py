"""CatMeows: meows of 21 cats in three contexts; everything is in the file names."""

from __future__ import annotations

from pathlib import Path

from featurestore.corpora.audio_files import clip_rows, named_files
from featurestore.corpora.interface import Corpus, Draft

CONTEXTS = {"B": "brushing", "F": "waiting for food", "I": "isolation"}
# Context _ cat _ breed _ sex _ owner _ session (one digit) and counter (two).
_NAME = (
    r"^(?P<context>[BFI])_(?P<cat>[^_]+)_(?P<breed>[^_]+)_(?P<sex>[^_]+)_(?P<owner>[^_]+)_"
    r"(?P<session>\d)(?P<counter>\d{2})$"
)


def read(source: Path) -> Draft:
    """Read the names of all ``.wav`` files below `source`, sorted."""
    files, parts, notes = named_files(source, _NAME, (".wav",))
    labels = {name: parts[name] for name in ("cat", "breed", "sex", "owner", "session")}
    rows = clip_rows(source, files, context=parts["context"].map(CONTEXTS), **labels)
    groups = {
        "cat": parts["cat"],
        "owner": parts["owner"],
        "session": parts["cat"] + "_" + parts["session"],
    }
    return Draft(rows=rows, groups=groups, notes=notes)


CATMEOWS = Corpus(
    name="catmeows",
    title="CatMeows",
    licence="CC-BY-4.0",
    citation=(
        "L. A. Ludovico, S. Ntalampiras, G. Presti, S. Cannas, M. Battini, S. Mattiello. CatMeows: A "
        "Publicly-Available Dataset of Cat Vocalizations. MultiMedia Modeling 2021. "
        "doi:10.5281/zenodo.4008297"
    ),
    where="https://zenodo.org/records/4008297",
    groups={
        "cat": "one cat",
        "owner": "one owner: cats of one household share a room",
        "session": "one cat in one recording session",
    },
    reader=read,
    published_rows=440,
)
