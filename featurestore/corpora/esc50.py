"""ESC-50 and its subset ESC-10: environmental sounds in five official folds."""

from __future__ import annotations

from pathlib import Path

from featurestore.corpora.audio_files import clip_rows, named_files
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.tables import read_text_table

TABLE = "meta/esc50.csv"
# ESC-10 as it was published by itself: 001 - Dog bark/1-30226-A.ogg, of fold, Freesound id and take.
_CLIP = r"(?i)^\d{3} - (?P<name>[^/]+)/(?P<fold>[1-5])-(?P<source>\d+)-[A-Z]\.[a-z0-9]+$"
# Its folders by the names that ESC-50 has for the same classes.
CATEGORIES = {
    "Dog bark": "dog",
    "Rain": "rain",
    "Sea waves": "sea_waves",
    "Baby cry": "crying_baby",
    "Clock tick": "clock_tick",
    "Person sneeze": "sneezing",
    "Helicopter": "helicopter",
    "Chainsaw": "chainsaw",
    "Rooster": "rooster",
    "Fire crackling": "crackling_fire",
}


def read(source: Path, *, esc10: bool = False) -> Draft:
    """Read ``meta/esc50.csv``, in file order, or ESC-10's own class folders, sorted by name.

    `esc10` keeps the ten classes of the subset.
    """
    if not (source / TABLE).exists():
        own = _esc10(source)
        if own is not None:
            return own
    columns = ("filename", "fold", "category", "esc10", "src_file")
    table = read_text_table(source / TABLE, columns, filled=("filename",))
    if esc10:
        table = table[table["esc10"].str.lower() == "true"].reset_index(drop=True)
    files = "audio/" + table["filename"]
    rows = clip_rows(source, files, category=table["category"], fold=table["fold"])
    groups = {"source_file": table["src_file"], "fold": table["fold"]}
    return Draft(rows=rows, groups=groups)


def _esc10(source: Path) -> Draft | None:
    """The clips in class folders; None where there is none."""
    files, parts, notes = named_files(source, _CLIP, name_of=str)
    if files.empty:
        return None
    category = parts["name"].map(lambda name: CATEGORIES.get(name, name))
    rows = clip_rows(source, files, category=category, fold=parts["fold"])
    return Draft(rows=rows, groups={"source_file": parts["source"], "fold": parts["fold"]}, notes=notes)


ESC50 = Corpus(
    name="esc50",
    title="ESC-50 (and ESC-10)",
    licence="CC BY-NC 3.0, the ESC-10 clips CC BY; attributions in LICENSE of the copy",
    citation=(
        "K. J. Piczak. ESC: Dataset for Environmental Sound Classification. ACM Multimedia 2015, "
        "1015-1018. doi:10.1145/2733373.2806390"
    ),
    where="https://github.com/karolpiczak/ESC-50",
    groups={
        "source_file": "the Freesound recording a clip was cut from",
        "fold": "one of the five official folds, which keep a source recording together",
    },
    options={"esc10": "keep only the ten classes of ESC-10"},
    reader=read,
)
