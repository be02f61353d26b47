"""InfantMarmosetsVox: calls of five pairs of infant marmoset twins, cut out of long recordings.

Rows, order, times and label indices are those of the data-set class released with Sarkar &
Magimai-Doss (2025), so that its random split can be repeated row for row.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from featurestore.corpora.audio_files import clip_rows
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.tables import read_text_table, seconds
from featurestore.errors import ManifestError
from featurestore.printable import counted

# Index in `labels.csv` -> name, as the corpus publishes them ("TrllTwitter" included).
CALLTYPES = (
    "Peep(Pre-Phee)",
    "Phee",
    "Twitter",
    "Trill",
    "Trillphee",
    "Tsik Tse",
    "Egg",
    "Pheecry(cry)",
    "TrllTwitter",
    "Pheetwitter",
    "Peep",
)
SILENCE, NOISE = 11, 12
_NAME = r"^(?P<date>[^_]+)_[Tt]win(?P<twin>[1-9]\d*)_[Mm]armoset(?P<marmoset>[12])(?!\d)"


def read(source: Path, *, keep_empty: bool = False) -> Draft:
    """Read ``labels.csv`` and keep the calls, in file order."""
    annotations = source / "labels.csv"
    table = read_text_table(annotations, ("filename", "start", "end", "calltype"), filled=("filename",))
    kind = pd.to_numeric(table["calltype"], errors="coerce")
    call = kind.between(0, len(CALLTYPES) - 1) & (kind % 1 == 0)
    notes = _notes(kind, call)
    table, kind = table[call], kind[call].astype(int)
    start = seconds(table["start"], annotations).reset_index(drop=True)
    end = seconds(table["end"], annotations).reset_index(drop=True)

    # Each name stands in thousands of rows; take it apart once.
    name, names = pd.factorize(table["filename"])
    parts = pd.Series(names).str.extract(_NAME)
    bad = parts["twin"].isna()
    if bad.any():
        raise ManifestError(
            f"{annotations}: expected file names like 20160907_Twin1_marmoset1, "
            f"got {names[bad.to_numpy()][0]!r}; correct that name"
        )
    twin, marmoset = parts["twin"].astype(int), parts["marmoset"].astype(int)
    parts["caller"] = ((twin - 1) * 2 + marmoset - 1).astype("str")
    parts["recording"] = parts["date"] + "_Twin" + parts["twin"] + "_marmoset" + parts["marmoset"]
    parts["file"] = "data/twin_" + parts["twin"] + "/" + parts["recording"] + ".wav"
    row = parts.iloc[name].reset_index(drop=True)
    rows = clip_rows(
        source,
        row["file"],
        start_s=start,
        end_s=end,
        calltype=kind.map(dict(enumerate(CALLTYPES))).reset_index(drop=True),
        caller=row["caller"],
        twin=row["twin"],
        date=row["date"],
    )
    groups = {"recording": row["recording"], "date": row["date"], "caller": row["caller"]}
    return Draft(rows=rows, groups=groups, notes=notes, keep_empty=keep_empty)


def _notes(kind: pd.Series, call: pd.Series) -> tuple[str, ...]:
    silence, noise = int((kind == SILENCE).sum()), int((kind == NOISE).sum())
    odd = int((~call).sum()) - silence - noise
    said = []
    if silence or noise:
        said.append(f"dropped {counted(silence, 'row')} of silence (11) and {noise:,} of noise (12)")
    if odd:
        said.append(f"dropped {counted(odd, 'row')} with a call type outside 0-12")
    return tuple(said)


IMV = Corpus(
    name="imv",
    title="InfantMarmosetsVox",
    licence="CC-BY-4.0",
    citation=(
        "E. Sarkar, M. Magimai-Doss. Can Self-Supervised Neural Representations Pre-Trained on Human "
        "Speech distinguish Animal Callers? INTERSPEECH 2023, 1189-1193. doi:10.21437/Interspeech.2023-1968"
    ),
    where="https://zenodo.org/records/10130104",
    groups={
        "recording": "one audio file: one marmoset on one day",
        "date": "one day, all marmosets recorded on it",
        "caller": "one marmoset",
    },
    options={"keep_empty": "keep calls whose end is not after their start: the study's split counts them"},
    reader=read,
    published_rows=72_920,
)
