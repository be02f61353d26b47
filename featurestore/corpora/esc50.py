"""ESC-50 and its subset ESC-10: environmental sounds in five official folds."""

from __future__ import annotations

from pathlib import Path

from featurestore.corpora.base import Corpus, Draft
from featurestore.corpora.tables import clip_rows, read_text_table


def read(source: Path, *, esc10: bool = False) -> Draft:
    """Read ``meta/esc50.csv``, in file order; `esc10` keeps the ten classes of the subset."""
    columns = ("filename", "fold", "category", "esc10", "src_file")
    table = read_text_table(source / "meta/esc50.csv", columns, filled=("filename",))
    if esc10:
        table = table[table["esc10"].str.lower() == "true"].reset_index(drop=True)
    files = "audio/" + table["filename"]
    rows = clip_rows(source, files, category=table["category"], fold=table["fold"])
    groups = {"source_file": table["src_file"], "fold": table["fold"]}
    return Draft(rows=rows, groups=groups)


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
