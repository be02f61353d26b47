"""Mescalina bark ID database (dogs), as used by Abzaliev et al. and Sarkar & Magimai-Doss.

Call types, individuals, typos, sex and breed are those of the code released with Sarkar &
Magimai-Doss (2025). Its file order was the file system's; here files are sorted by name.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from featurestore.corpora.audio_files import clip_rows, named_files
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.tables import look_up
from featurestore.manifest.table import nfc
from featurestore.printable import counted

# Position = class index of the released code, also of INDIVIDUALS and BREEDS.
_CALLTYPES = "L-S1 L-S2 L-S3 L-A L-PA L-P L-O S CH-P CH-N GR-P GR-N L-TA L-H"
CALLTYPES = tuple(_CALLTYPES.split())
DROPPED_CALLTYPE = "S"
_INDIVIDUALS = (
    "lazy,luna,koster,megara,chufina,guera,jerry,bady,maly,kizzy,perry,capy,kiara,daysi,homero,"
    "klein,sofia,moringa,benito,mika,bella,phibi,turugus,neñe,fisgon,mama fisgon,chiki,tinki,chica,"
    "paloma,kien,guera2,goofy,princesa,tainy,kiko,pantera,estrella,paloma2,kika,campana,sanzón,"
    "robina,misha,lily,page,becky,jade,chocolate,coffe,taizon,greñas,mora,pelusa,nana,everest,"
    "mickey,beily,niña,cosi,peludina,peludin,chabela,centavo,kyley,cachito,muñe,gala,zebri,zara,"
    "maiki,niño,rutila,cloe,pirruña,lucas,tito,peque,rayo,chiquita"
)
INDIVIDUALS = tuple(_INDIVIDUALS.split(","))
_MALES = (
    "koster,jerry,bady,kizzy,perry,capy,homero,klein,benito,turugus,fisgon,kien,goofy,kiko,sanzón,chocolate,"
    "coffe,taizon,greñas,mickey,peludin,centavo,kyley,cachito,zebri,maiki,niño,lucas,tito,peque,rayo"
)
MALES = frozenset(_MALES.split(","))
_NOT_CHIHUAHUA = {
    "schnauzer": "koster,megara,maly,sofia,mika,page,becky,jade,chabela",
    "french poodle": ("bady,daysi,bella,phibi,neñe,chiki,tinki,tainy,taizon,mora,pelusa,muñe,gala,zara,niño"),
    "yorkshire": "kiara",
    "salchicha": "pantera",
    "schnauzer/chihuahua": "moringa",
    "french poodle/maltese": "mickey,beily",
    "french poodle/schnauzer": "kiko,niña",
    "french poodle/chihuahua": "guera2",
}
BREEDS = ("chihuahua", *_NOT_CHIHUAHUA)
BREED_OF = dict.fromkeys(INDIVIDUALS, "chihuahua") | {
    dog: breed for breed, dogs in _NOT_CHIHUAHUA.items() for dog in dogs.split(",")
}
TYPOS = {
    "tinky150717": "tinki",
    "chica180717": "chica",
    "centavito": "centavo",
    "zanzon": "sanzón",
    "maiky": "maiki",
    "ñeñe": "neñe",
    "mamafisgon": "mama fisgon",
    "mama fisgonn": "mama fisgon",
    "zebry": "zebri",
    "lasy": "lazy",
}


# Exactly two folders deep; of the first, what stands before its first "_".
_PLACE = r"^(?P<individual>[^/_]*)[^/]*/(?P<calltype>[^/]+)/[^/]+$"


def read(source: Path) -> Draft:
    """Read the folder tree ``data/<individual>_…/<calltype>/*.wav``, sorted by name."""
    root = source / "data" if (source / "data").is_dir() else source
    # Folder names came from macOS: "ñ" may be n + combining tilde.
    files, parts, others = named_files(root, _PLACE, (".wav",), name_of=nfc, why="at another depth")
    kept = parts["calltype"] != DROPPED_CALLTYPE
    files, parts = files[kept].reset_index(drop=True), parts[kept].reset_index(drop=True)
    written, calltype = parts["individual"].str.lower(), parts["calltype"]
    individual = written.replace(TYPOS)
    known = individual.isin(INDIVIDUALS)
    sex = individual.isin(MALES).map({True: "M", False: "F"}).where(known, "")
    breed = look_up(individual, BREED_OF)
    rows = clip_rows(root, files, calltype=calltype, individual=individual, sex=sex, breed=breed)
    rows["file"] = "data/" + rows["file"]
    notes = (*_notes(rows, written, int((~kept).sum())), *others)
    return Draft(rows=rows, groups={"individual": individual}, notes=notes)


def _notes(rows: pd.DataFrame, written: pd.Series, n_dropped: int) -> list[str]:
    said = []
    if n_dropped:
        said.append(f"dropped {counted(n_dropped, 'row')} of call type {DROPPED_CALLTYPE}")
    typos = sorted(set(written) & set(TYPOS))
    if typos:
        said.append("merged " + ", ".join(f"{t} -> {TYPOS[t]}" for t in typos))
    strangers = sorted(set(rows["individual"]) - set(INDIVIDUALS))
    if strangers:
        said.append(f"sex and breed unknown, left empty: {', '.join(strangers)}")
    extra = sorted(set(rows["calltype"]) - set(CALLTYPES))
    if extra:
        said.append(f"kept call types that the published set does not have: {', '.join(extra)}")
    return said


ABZALIEV = Corpus(
    name="abzaliev",
    title="Mescalina Bark ID Data Base",
    licence="not published; on request from its authors",
    citation=(
        "H. Pérez-Espinosa et al. Automatic individual dog recognition based on the acoustic properties "
        "of its barks. Journal of Intelligent & Fuzzy Systems 34(5), 2018. "
        "doi:10.3233/JIFS-169509; A. Abzaliev, H. Pérez-Espinosa, R. Mihalcea. "
        "Towards Dog Bark Decoding: Leveraging Human Speech Processing for Automated Bark "
        "Classification. LREC-COLING 2024"
    ),
    where="on request from the authors of doi:10.3233/JIFS-169509",
    groups={"individual": "one dog, after merging misspelt names"},
    reader=read,
    published_rows=8_034,
)
