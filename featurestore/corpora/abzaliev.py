"""Mescalina bark ID database (dogs), as used by Abzaliev et al. and Sarkar & Magimai-Doss.

Call types, individuals, typos, sex and breed are those of the code released with Sarkar &
Magimai-Doss (2025). Its file order was the file system's; here files are sorted by name.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from featurestore.corpora.audio_files import (
    ALL_SUFFIXES,
    clip_rows,
    left_out,
    list_files,
    nfc,
    passed_over,
)
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.tables import look_up
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


def read(source: Path) -> Draft:
    """Read the folder tree ``data/<individual>_…/<calltype>/*.wav``, sorted by name."""
    root = source / "data" if (source / "data").is_dir() else source
    below = list_files(root, (".wav",))
    files = [f for f in below if f.count("/") == 2]
    if not files:
        return Draft(rows=pd.DataFrame(columns=["file", "path"]))
    table = pd.DataFrame({"inner": files}, dtype="str")
    # Folder names came from macOS: "ñ" may be n + combining tilde.
    parts = table["inner"].map(nfc).str.split("/", expand=True).reindex(columns=range(3))
    written = parts[0].str.split("_").str[0].str.lower()
    table["individual"] = written.replace(TYPOS)
    table["calltype"] = parts[1]
    dropped = table["calltype"] == DROPPED_CALLTYPE
    notes = _notes(table[~dropped], written[~dropped], int(dropped.sum()))
    notes += passed_over(sorted(set(below) - set(files)), "at another depth")
    notes += left_out(root, (".wav",), ALL_SUFFIXES)
    table = table[~dropped].reset_index(drop=True)
    known = table["individual"].isin(INDIVIDUALS)
    sex = table["individual"].isin(MALES).map({True: "M", False: "F"}).where(known, "")
    labels = {name: table[name] for name in ("calltype", "individual")}
    rows = clip_rows(root, table["inner"], **labels, sex=sex, breed=look_up(table["individual"], BREED_OF))
    rows["file"] = "data/" + rows["file"]
    return Draft(rows=rows, groups={"individual": rows["individual"]}, notes=notes)


def _notes(table: pd.DataFrame, written: pd.Series, n_dropped: int) -> tuple[str, ...]:
    said = []
    if n_dropped:
        said.append(f"dropped {counted(n_dropped, 'row')} of call type {DROPPED_CALLTYPE}")
    typos = sorted(set(written) & set(TYPOS))
    if typos:
        said.append("merged " + ", ".join(f"{t} -> {TYPOS[t]}" for t in typos))
    strangers = sorted(set(table["individual"]) - set(INDIVIDUALS))
    if strangers:
        said.append(f"sex and breed unknown, left empty: {', '.join(strangers)}")
    extra = sorted(set(table["calltype"]) - set(CALLTYPES))
    if extra:
        said.append(f"kept call types that the published set does not have: {', '.join(extra)}")
    return tuple(said)


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
