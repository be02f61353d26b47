"""Watkins Marine Mammal Sound Database, "best of" cuts, in the form that BEANS distributes."""

from __future__ import annotations

from pathlib import Path

from featurestore.corpora.audio_files import clip_rows, first_file, stem
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.tables import read_text_table
from featurestore.printable import counted

# In the order of the class indices of Sarkar & Magimai-Doss (2025).
SPECIES = (
    "Clymene_Dolphin",
    "Bottlenose_Dolphin",
    "Spinner_Dolphin",
    "Beluga,_White_Whale",
    "Bearded_Seal",
    "Minke_Whale",
    "Humpback_Whale",
    "Southern_Right_Whale",
    "White-sided_Dolphin",
    "Narwhal",
    "White-beaked_Dolphin",
    "Northern_Right_Whale",
    "Frasers_Dolphin",
    "Weddell_Seal",
    "Grampus,_Rissos_Dolphin",
    "Harp_Seal",
    "Atlantic_Spotted_Dolphin",
    "Fin,_Finback_Whale",
    "Ross_Seal",
    "Rough-Toothed_Dolphin",
    "Killer_Whale",
    "Pantropical_Spotted_Dolphin",
    "Short-Finned_Pacific_Pilot_Whale",
    "Bowhead_Whale",
    "False_Killer_Whale",
    "Melon_Headed_Whale",
    "Long-Finned_Pilot_Whale",
    "Striped_Dolphin",
    "Leopard_Seal",
    "Walrus",
    "Sperm_Whale",
    "Common_Dolphin",
)
# 83006002 is cut 002 of tape 83006; inferred from the names, not documented.
TAPE_CHARACTERS = 5


def read(source: Path) -> Draft:
    """Read ``annotations.csv``, in file order; each clip is a whole file."""
    annotations = first_file(source, ("data/annotations.csv", "annotations.csv"))
    table = read_text_table(annotations, ("path", "species"), filled=("path",))
    rows = clip_rows(annotations.parent, table["path"], species=table["species"])
    tape = table["path"].map(lambda p: stem(p)[:TAPE_CHARACTERS])
    unknown = ~table["species"].isin(SPECIES)
    notes: tuple[str, ...] = ()
    if unknown.any():
        names = ", ".join(sorted(table.loc[unknown, "species"].unique()))
        n = counted(int(unknown.sum()), "row")
        notes = (f"kept {n} of species that the published set does not have: {names}",)
    return Draft(rows=rows, groups={"tape": tape}, notes=notes)


WATKINS = Corpus(
    name="watkins",
    title="Watkins Marine Mammal Sound Database (BEANS form)",
    licence="see the terms at https://whoicf2.whoi.edu/science/B/whalesounds",
    citation=(
        "L. Sayigh et al. The Watkins Marine Mammal Sound Database: An online, freely accessible resource. "
        "Proceedings of Meetings on Acoustics 27 (2016). doi:10.1121/2.0000358"
    ),
    where="https://archive.org/download/watkins_202104/watkins.zip",
    groups={"tape": "the tape a clip was cut from: first five characters of its name (inferred)"},
    reader=read,
    published_rows=1_697,
)
